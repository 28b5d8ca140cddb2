"""What the emulated venue is to do wrong, and when: a plan, and what becomes of frames under it; pure.

A fault strikes where its name pattern fits: an act on frames is held against the name of a frame's stream
("btcusdt@depth@100ms"), `Refuse` against the streams of a SUBSCRIBE, and an act on REST against the path with its query
("/api/v3/depth?symbol=BTCUSDT&limit=1000"). The emulator's own book goes on as if nothing had happened: what is struck is what
clients get to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

import attrs
from attrs.validators import ge, gt

from raven_binance.emulator.frames import Record

__all__ = [
    "Act",
    "Answer",
    "Close",
    "Delay",
    "Drop",
    "Duplicate",
    "Edit",
    "Fault",
    "Fin",
    "Fragment",
    "Insert",
    "OldAnswer",
    "Plan",
    "Refuse",
    "Replay",
    "Reset",
    "Slice",
    "Stall",
    "Struck",
]


@attrs.frozen
class Drop:
    """The frame is not sent."""


@attrs.frozen
class Duplicate:
    """The frame is sent `more` times more."""

    more: int = attrs.field(default=1, validator=ge(1))


@attrs.frozen
class Delay:
    """The frame is sent behind the next `by` frames of its stream."""

    by: int = attrs.field(default=1, validator=ge(1))


@attrs.frozen
class Edit:
    """The frame's JSON is sent as `edit` makes it, without the wrapping of combined streams."""

    edit: Callable[[str], str]


@attrs.frozen
class Fragment:
    """The frame's message is sent in so many WebSocket fragments."""

    pieces: int = attrs.field(default=3, validator=ge(2))


@attrs.frozen
class Slice:
    """The frame's bytes are written in so many parts, `pause_s` between them."""

    pieces: int = attrs.field(default=4, validator=ge(2))
    pause_s: float = attrs.field(default=0.002, validator=ge(0))


@attrs.frozen
class Insert:
    """These bytes go over the wire as they are, before the frame; see `framing.server_frame`."""

    data: bytes


@attrs.frozen
class Stall:
    """From this frame on the connection is sent nothing more, and stays open."""


@attrs.frozen
class Fin:
    """The connection ends without a word, in place of the frame."""


@attrs.frozen
class Reset:
    """A TCP reset after this part of the frame's bytes."""

    part: float = attrs.field(default=0.5, validator=ge(0))


@attrs.frozen
class Close:
    """A close frame with this code, or without any, in place of the frame; the client is to end the connection."""

    code: int | None = 1000
    reason: str = ""


@attrs.frozen
class Replay:
    """A connection that subscribes when the stream has begun is sent the stream's last frames again first. Not counted."""

    last: int = attrs.field(default=50, validator=ge(1))


@attrs.frozen
class Refuse:
    """A SUBSCRIBE with a stream of this name is answered with an error, and nothing of it is carried out."""

    code: int = 2
    text: str = "Invalid request: the stream is not to be had"


@attrs.frozen
class Answer:
    """A REST request is answered with this."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class OldAnswer:
    """A REST request is answered with the body of the first good answer to the same path and query."""


OnFrame = Drop | Duplicate | Delay | Edit | Fragment | Slice | Insert | Stall | Fin | Reset | Close
OnRest = Answer | OldAnswer
Act = OnFrame | OnRest | Replay | Refuse


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    Args:
        act: what.
        where: a pattern of names, as the shell has them ("btcusdt@*", "*/depth*BTCUSDT*").
        after: so many that match pass unharmed first.
        every: then each so-manieth is struck, from the first.
        times: how many are struck; 0 = no end.
    """

    act: Act
    where: str = "*"
    after: int = attrs.field(default=0, validator=ge(0))
    every: int = attrs.field(default=1, validator=gt(0))
    times: int = attrs.field(default=1, validator=ge(0))

    def strikes(self, seen: int) -> bool:
        """Whether the match number `seen`, counted from 0, is struck.

        >>> [n for n in range(9) if Fault(Drop(), after=2, every=3, times=2).strikes(n)]
        [2, 5]
        """
        turn, rest = divmod(seen - self.after, self.every)
        return seen >= self.after and rest == 0 and (not self.times or turn < self.times)


@attrs.frozen
class Struck:
    """A frame that is to be sent in another way than frames are."""

    act: Fragment | Slice | Insert | Stall | Fin | Reset | Close
    record: Record


@attrs.define
class _Held:
    record: Record
    left: int  # frames of its stream to go before it


class Plan:
    """Faults with their counts. The first that strikes is the one that counts, and every match is counted."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self._seen = dict.fromkeys(range(len(self.faults)), 0)
        self._held: list[_Held] = []

    def on_frame(self, record: Record) -> Fault | None:
        """The fault that strikes this frame."""
        return self._next(OnFrame, record.stream)

    def on_rest(self, target: str) -> Fault | None:
        """The fault that strikes a request for this path and query."""
        return self._next(OnRest, target)

    def on_subscribe(self, streams: Iterable[str]) -> Fault | None:
        """The fault that strikes a SUBSCRIBE for these."""
        struck = [self._next(Refuse, name) for name in streams]
        return next(filter(None, struck), None)

    def replays(self) -> list[tuple[str, int]]:
        """Patterns of streams, and how many frames of each are sent again."""
        return [(fault.where, fault.act.last) for fault in self.faults if isinstance(fault.act, Replay)]

    def steps(self, records: Iterable[Record], on_strike: Callable[[Fault, str], None]) -> Iterator[list[Record] | Struck]:
        """What is sent in place of `records`, in order: runs of frames as they are, and single ones that are not."""
        run: list[Record] = []
        for record in records:
            fault = self.on_frame(record)
            if fault is not None:
                on_strike(fault, record.stream)
            for sent in self._sent(record, fault):
                if isinstance(sent, Record):
                    run.append(sent)
                else:
                    yield run
                    run = []
                    yield sent
        yield run

    def _sent(self, record: Record, fault: Fault | None) -> Iterator[Record | Struck]:
        match fault.act if fault else None:
            case None:
                yield record
            case Drop():
                pass
            case Duplicate(more):
                yield from [record] * (more + 1)
            case Edit(edit):
                yield attrs.evolve(record, payload=edit(record.payload))
            case Delay(by):
                self._held.append(_Held(record, by))
                return
            case Fragment() | Slice() | Insert() | Stall() | Fin() | Reset() | Close() as act:
                yield Struck(act, record)
        yield from self._released(record.stream)

    def _released(self, stream: str) -> Iterator[Record]:
        for held in [held for held in self._held if held.record.stream == stream]:
            held.left -= 1
            if not held.left:
                self._held.remove(held)
                yield held.record

    def _next(self, acts: object, name: str) -> Fault | None:
        found = None
        for index, fault in enumerate(self.faults):
            if isinstance(fault.act, acts) and fnmatchcase(name, fault.where):  # type: ignore[arg-type]  # a union of types
                if found is None and fault.strikes(self._seen[index]):
                    found = fault
                self._seen[index] += 1
        return found
