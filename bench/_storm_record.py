"""What each client of the storm was sent, and whether that is whole: nothing lost, nothing twice, by (epoch, sequence)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from raven.client.decode import Decoder
from raven.client.events import GapEvent, StatusEvent
from raven.codec.generated.raven import v1
from raven.model.events import Flag

__all__ = ["Answer", "Element", "Findings", "Record", "Told", "TopicReader"]

SUBSCRIBED, HEARTBEAT, GOODBYE = 3, 7, 10
EVENT_TAG = 0x0A
SENT_TS_SIZE = 9
ELEMENTS_MAX = 500_000
_IMAGE, _LOCAL = int(Flag.IMAGE), int(Flag.LOCAL)


class Element(NamedTuple):
    """An event's place. `mark` is "" for news, else "image", "status" (LOCAL, which ends a catch-up) or "gap"."""

    symbol: str
    epoch: int
    sequence: int
    mark: str


class Answer(NamedTuple):
    """What became of the subscriptions of a stream: the number of their topics, whether all were taken and all continued."""

    topics: int
    accepted: bool
    recovered: bool


@dataclass
class Told:
    """One message."""

    elements: list[Element] = field(default_factory=list)
    bookmark: bytes = b""
    answer: Answer | None = None
    goodbye: str = ""


class TopicReader:
    """Reads messages. Many clients get the same elements, so each is read once."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._elements: dict[bytes, Element] = {}

    def read(self, message: bytes) -> Told:
        """One message of any client."""
        told, elements = Told(), self._elements
        at, end = 0, len(message)
        while at < end and message[at] == EVENT_TAG:
            size, start = message[at + 1], at + 2
            if size > 127:
                size, start = (size & 127) | message[at + 2] << 7, at + 3
                if size >> 14:
                    raise ValueError("an event of more than 16 KiB is none of this benchmark's")
            element = message[at : start + size]
            told.elements.append(elements.get(element) or self._remember(element))
            at = start + size
        if end - at > SENT_TS_SIZE:
            self._read_controls(message[at:], told)
        return told

    def _remember(self, raw: bytes) -> Element:
        if len(self._elements) >= ELEMENTS_MAX:
            self._elements.clear()
        event = self._decoder.decode(raw).events[0]
        mark = ""
        if isinstance(event, GapEvent):
            mark = "gap"
        elif event.flags & _IMAGE:
            mark = "image"
        elif isinstance(event, StatusEvent) and event.flags & _LOCAL:
            mark = "status"
        element = self._elements[raw] = Element(event.topic.symbol, event.epoch, event.sequence, mark)
        return element

    def _read_controls(self, data: bytes, told: Told) -> None:
        for number, body in self._decoder.decode(data).controls:
            if number == HEARTBEAT:
                told.bookmark = _bookmark(body)
            elif number == SUBSCRIBED:
                told.answer = _answer(body)
            elif number == GOODBYE:
                goodbye = v1.Goodbye.parse(body)
                told.goodbye = goodbye.text or str(goodbye.reason)


@lru_cache(maxsize=64)
def _bookmark(body: bytes) -> bytes:
    return v1.Heartbeat.parse(body).bookmark


@lru_cache(maxsize=1024)
def _answer(body: bytes) -> Answer:
    results = v1.SubscribeResponse.parse(body).results
    return Answer(
        sum(result.topics for result in results),
        all(result.accepted for result in results),
        all(result.recovered for result in results),
    )


@dataclass
class Findings:
    """Over all clients.

    Args:
        events: sequenced ones that were kept.
        lost: holes, ends that did not come, and gaps that were told.
        twice: that came a second time in one stream.
        again: that stand behind the bookmark and in front of the cut, which a client knows by their sequence and leaves out.
    """

    events: int = 0
    lost: int = 0
    twice: int = 0
    again: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """The first few, for people."""
        if len(self.faults) < 5:
            self.faults.append(text)


class Record:
    """All that one client was sent, stream by stream."""

    def __init__(self) -> None:
        self._streams: list[list[Element]] = []

    def begin(self) -> None:
        """A new stream."""
        self._streams.append([])

    def put(self, told: Told) -> None:
        """What a message of it held."""
        self._streams[-1] += told.elements

    def check(self, ends: Mapping[str, int], findings: Findings) -> None:
        """Hold it against the last sequences of its symbols."""
        last: dict[str, tuple[int, int]] = {}
        for stream in self._streams:
            self._check_stream(stream, last, findings)
        for symbol, end in ends.items():
            _, sequence = last.get(symbol, (0, end))  # it may be that nothing came while the client was there
            if sequence != end:
                findings.lost += end - sequence
                findings.fault(f"{symbol} ends with {sequence} instead of {end}")

    def _check_stream(self, stream: list[Element], last: dict[str, tuple[int, int]], findings: Findings) -> None:
        """One stream; `last` is epoch and sequence of each symbol before it, and then behind it."""
        here: dict[str, int] = {}
        for symbol, epoch, sequence, mark in stream:
            if mark == "gap":
                findings.lost += 1
                findings.fault(f"{symbol}: a gap was told behind {sequence}")
            if mark == "image":
                last.setdefault(symbol, (epoch, sequence))
            if mark:
                continue
            before = here.get(symbol)
            here[symbol] = sequence
            known = last.get(symbol)
            if before is not None and sequence <= before:
                findings.twice += 1
                findings.fault(f"{symbol}: {sequence} came behind {before} in one stream")
            elif known is not None and epoch == known[0] and sequence <= known[1]:
                findings.again += 1
            elif known is not None and (epoch, sequence) != (known[0], known[1] + 1):
                findings.lost += max(sequence - known[1] - 1, 1)
                findings.fault(f"{symbol}: {sequence} of epoch {epoch} came behind {known[1]} of {known[0]}")
                last[symbol] = epoch, sequence
            else:
                findings.events += 1
                last[symbol] = epoch, sequence
