"""Recorded frames: one a line, `<receipt time, ns> <raw JSON text>`, gzip by the file's name.

A frame is what a combined-stream connection received. A line that holds the answer to a REST depth request is a snapshot:
bare (`{"lastUpdateId":...`), only where the file has one symbol, or as `{"stream":"btcusdt@snapshot","data":{...}}`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from raven.errors import StartupError, shown

__all__ = ["Record", "bare", "combined", "format_line", "load_frames", "parse_line", "write_frames"]

SNAPSHOT = "snapshot"
_STREAM, _DATA = '{"stream":"', '","data":'
_BARE_SNAPSHOT = '{"lastUpdateId"'


@attrs.frozen
class Record:
    """One line.

    Args:
        received_ns: when the recorder had it, Unix time.
        stream: its stream's name ("btcusdt@trade"); "btcusdt@snapshot" for a REST answer, "@snapshot" where the line does not
            say whose.
        payload: the venue's JSON without the wrapping.
    """

    received_ns: int
    stream: str
    payload: str

    @property
    def symbol(self) -> str:
        """The venue's symbol ("BTCUSDT")."""
        return self.stream.partition("@")[0].upper()

    @property
    def topic(self) -> str:
        """The stream's name after the symbol ("depth@100ms")."""
        return self.stream.partition("@")[2]

    @property
    def is_snapshot(self) -> bool:
        """Whether it was the answer to a depth request."""
        return self.topic == SNAPSHOT


def combined(record: Record) -> str:
    """The record as a combined-stream connection gets it."""
    return f"{_STREAM}{record.stream}{_DATA}{record.payload}}}"


def bare(record: Record) -> str:
    """The record as a raw-stream connection gets it."""
    return record.payload


def parse_line(line: str) -> Record:
    """The record of one line. Raises ValueError where it is none."""
    stamp, _, text = line.rstrip("\r\n").partition(" ")
    received_ns = int(stamp)
    if text.startswith(_BARE_SNAPSHOT):
        return Record(received_ns, f"@{SNAPSHOT}", text)
    stream, found, rest = text.removeprefix(_STREAM).partition(_DATA)
    if not (text.startswith(_STREAM) and found and "@" in stream and rest.endswith("}")):
        raise ValueError(f"{shown(text)} is neither a combined-stream frame nor a depth snapshot")
    return Record(received_ns, stream, rest[:-1])


def format_line(record: Record) -> str:
    """The line of a record, without its end."""
    return f"{record.received_ns} {combined(record)}"


def load_frames(path: Path) -> tuple[Record, ...]:
    """All records of a file, each snapshot with its symbol.

    Raises:
        StartupError: the file cannot be read; names the line.
    """
    records: list[Record] = []
    try:
        with _open(path) as lines:
            records += (parse_line(line.decode()) for line in lines)
    except OSError as error:
        raise StartupError(f"frames {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise StartupError(f"frames {path}, line {len(records) + 1}: {error}") from error
    if not records:
        raise StartupError(f"frames {path}: there are none in it")
    return _named(records, path)


def write_frames(path: Path, records: Iterable[Record]) -> None:
    """Write a file that `load_frames` reads; the same records give the same bytes."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, cast(BinaryIO, file), mtime=0) as packed:
        for record in records:
            packed.write(format_line(record).encode() + b"\n")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _named(records: Sequence[Record], path: Path) -> tuple[Record, ...]:
    symbols = {record.symbol for record in records} - {""}
    if any(not record.symbol for record in records) and len(symbols) != 1:
        known = ", ".join(sorted(symbols)) or "none"
        raise StartupError(f"frames {path}: a snapshot does not say whose it is, and the symbols are {known}: wrap it")
    name = next(iter(symbols)).lower()
    return tuple(record if record.symbol else attrs.evolve(record, stream=f"{name}@{SNAPSHOT}") for record in records)
