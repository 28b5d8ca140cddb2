"""What waits for an endpoint, on the disk: records in segment files, in the order in which they came, within a bound.

A record is its head (`_HEAD`: bytes, checksum, first and last time, points) and its body. It is written to the operating system
before `append` returns, so it survives kill -9 of this process; a segment is synced to the disk when it is full and when the
spool is closed, so a power failure may cost the end of the last one. A tail that was torn is cut off, and counted, when the
spool is opened.

A segment goes when all of it was taken. What was taken of a segment before a crash is sent again, which writes the same
points. Beyond `bytes_max` the oldest segment goes, and is counted; the times of what went stand in the file `lost`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from threading import Lock
from zlib import crc32

import attrs
import msgspec

__all__ = ["Record", "Spool", "SpoolStatistics"]

SEGMENT_BYTES = 4 * 1024 * 1024
LOST_MAX = 1_000
"""Times of lost points that are remembered; beyond it the oldest two become one."""

_HEAD = Struct(
    "<IIqqI"
)  # bytes of the body, crc32 of what follows it in the head and of the body, first_ts_ns, last_ts_ns, points
_CHECKED_AT = 8
RECORD_BYTES_MAX = 64 * 1024 * 1024

Times = tuple[int, int]


@attrs.frozen(slots=True)
class Record:
    """Points that are written by one request.

    Args:
        body: line protocol, as gzip.
        first_ts_ns, last_ts_ns: times of receipt that its points may have.
        points: how many.
    """

    body: bytes
    first_ts_ns: int
    last_ts_ns: int
    points: int

    @property
    def size(self) -> int:
        """Bytes in the spool."""
        return _HEAD.size + len(self.body)


@attrs.define(eq=False)
class _Segment:
    """One file. `offset` is where the first record stands that was not taken; the counts are of what was not taken."""

    path: Path
    size: int = 0
    offset: int = 0
    points: int = 0
    records: int = 0
    first_ts_ns: int = 0
    last_ts_ns: int = 0

    def add(self, record: Record) -> None:
        if not self.records:
            self.first_ts_ns, self.last_ts_ns = record.first_ts_ns, record.last_ts_ns
        self.first_ts_ns = min(self.first_ts_ns, record.first_ts_ns)
        self.last_ts_ns = max(self.last_ts_ns, record.last_ts_ns)
        self.size += record.size
        self.points += record.points
        self.records += 1


@attrs.frozen
class SpoolStatistics:
    """What waits, and what went.

    Args:
        bytes, points, records: what waits.
        dropped_points: that went because the spool was full, or could not be read any more.
        torn_bytes: that a crash left without their end.
    """

    bytes: int
    points: int
    records: int
    dropped_points: int
    torn_bytes: int


class Spool:
    """The spool of one endpoint. One thread appends, one takes; they may be two.

    Args:
        directory: made where it is missing.
        bytes_max: of all segments.

    Raises:
        OSError: the directory cannot be used.
    """

    def __init__(self, directory: Path, bytes_max: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes = min(segment_bytes, max(1, bytes_max // 8))
        self._lock = Lock()
        self._segments: deque[_Segment] = deque()
        self._file = -1  # of the last segment, while it is written
        self._dropped_points = self._torn_bytes = 0
        self._closed = False
        self._given: tuple[_Segment, int, Record] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._lost = _read_lost(directory / "lost")
        self._number = 0
        for path in sorted(directory.glob("*.seg")):
            self._number = max(self._number, int(path.stem) if path.stem.isdigit() else 0)
            self._adopt(path)

    # ---- putting in

    def append(self, record: Record) -> None:
        """Behind all others. Where there is no room the oldest go.

        Raises:
            OSError: it was not kept; the spool is as it was.
        """
        with self._lock:
            if self._closed:
                raise OSError("the spool is closed")
            while self._segments and self._bytes() + record.size > self._bytes_max:
                self._drop_oldest()
            segment = self._open_segment(record.size)
            self._write(segment, record)
            segment.add(record)

    def _open_segment(self, size: int) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if self._file >= 0 and last is not None and (not last.size or last.size + size <= self._segment_bytes):
            return last
        self._finish_file()
        self._number += 1
        path = self._directory / f"{self._number:012d}.seg"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path))
        return self._segments[-1]

    def _write(self, segment: _Segment, record: Record) -> None:
        times = _HEAD.pack(0, 0, record.first_ts_ns, record.last_ts_ns, record.points)[_CHECKED_AT:]
        head = _HEAD.pack(
            len(record.body), crc32(record.body, crc32(times)), record.first_ts_ns, record.last_ts_ns, record.points
        )
        data = memoryview(head + record.body)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            os.ftruncate(self._file, segment.size)
            os.lseek(self._file, segment.size, os.SEEK_SET)
            raise

    def _finish_file(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            finally:
                os.close(file)

    # ---- taking out

    def first(self) -> Record | None:
        """The oldest that waits; None when nothing does. It stays until `taken`."""
        with self._lock:
            while self._segments:
                segment = self._segments[0]
                record = self._read(segment) if segment.records else None
                if record is not None:
                    self._given = segment, segment.offset, record
                    return record
                if not segment.records and len(self._segments) == 1:
                    return None
                self._drop_oldest()  # it is done with, or damaged: nothing behind the place can be found
            return None

    def second(self) -> Record | None:
        """The one behind that which `first` gave; None when there is none, or it cannot be read."""
        with self._lock:
            segment = self._segments[0] if self._segments else None
            if segment is None or self._given is None or self._given[:2] != (segment, segment.offset):
                return None
            if segment.records > 1:
                return self._read(segment, self._given[2].size)
            return self._read(self._segments[1]) if len(self._segments) > 1 and self._segments[1].records else None

    def taken(self, record: Record) -> None:
        """The record that `first` gave is where it should be. Nothing happens if it has been dropped meanwhile."""
        with self._lock:
            segment = self._segments[0] if self._segments else None
            if self._closed or segment is None or self._given != (segment, segment.offset, record):
                return
            segment.offset += record.size
            segment.points -= record.points
            segment.records -= 1
            if not segment.records:
                self._reuse_oldest()

    def _reuse_oldest(self) -> None:
        """All of it was taken. The one that is being written goes on from its beginning."""
        if len(self._segments) > 1 or self._file < 0:
            self._remove_oldest()
            return
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._segments[0] = _Segment(self._segments[0].path)

    def _read(self, segment: _Segment, behind: int = 0) -> Record | None:
        try:
            with segment.path.open("rb") as file:
                file.seek(segment.offset + behind)
                return next(_records(file.read), None)
        except OSError:
            return None

    # ---- what goes

    def _drop_oldest(self) -> None:
        segment = self._segments[0]
        if segment.records:
            self._dropped_points += segment.points
            self._remember_lost((segment.first_ts_ns, segment.last_ts_ns))
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        if len(self._segments) == 1 and self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._segments.popleft().path.unlink(missing_ok=True)

    def lose(self, times: Times) -> None:
        """Remember that points of a time are in no spool and in no database."""
        with self._lock:
            self._remember_lost(times)

    def _remember_lost(self, times: Times) -> None:
        self._lost.append(times)
        if len(self._lost) > LOST_MAX:
            self._lost[:2] = [(min(self._lost[0][0], self._lost[1][0]), max(self._lost[0][1], self._lost[1][1]))]
        file = self._directory / "lost"
        being_written = file.with_suffix(".part")
        try:
            being_written.write_bytes(msgspec.json.encode(self._lost))
            being_written.replace(file)
        except OSError:
            return  # a full disk; it is remembered as long as the process lives

    # ---- what there is

    def times(self) -> list[Times]:
        """First and last time of receipt of what waits or was lost."""
        with self._lock:
            waiting = [(segment.first_ts_ns, segment.last_ts_ns) for segment in self._segments if segment.records]
            return [*self._lost, *waiting]

    def statistics(self) -> SpoolStatistics:
        """How it stands."""
        with self._lock:
            points = sum(segment.points for segment in self._segments)
            records = sum(segment.records for segment in self._segments)
            waiting = sum(segment.size - segment.offset for segment in self._segments)
            return SpoolStatistics(waiting, points, records, self._dropped_points, self._torn_bytes)

    def close(self) -> None:
        """Sync what is there. Nothing can be appended or taken from now on."""
        with self._lock:
            self._closed = True
            self._finish_file()

    def _bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    # ---- what an earlier process left

    def _adopt(self, path: Path) -> None:
        segment = _Segment(path)
        with path.open("rb") as file:
            for record in _records(file.read):
                segment.add(record)
        torn = path.stat().st_size - segment.size
        if torn:
            self._torn_bytes += torn
            os.truncate(path, segment.size)
        if segment.records:
            self._segments.append(segment)
        else:
            path.unlink()


def _records(read: Callable[[int], bytes]) -> Iterator[Record]:
    """Records one behind the other, until one is not whole."""
    while len(head := read(_HEAD.size)) == _HEAD.size:
        size, checksum, first_ts_ns, last_ts_ns, points = _HEAD.unpack(head)
        if size > RECORD_BYTES_MAX:
            return
        body = read(size)
        if len(body) != size or crc32(body, crc32(head[_CHECKED_AT:])) != checksum:
            return
        yield Record(body, first_ts_ns, last_ts_ns, points)


def _read_lost(file: Path) -> list[Times]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Times])
    except (OSError, msgspec.MsgspecError):
        return []
