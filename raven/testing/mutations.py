"""What can happen to frames on their way: pure functions from good ones to bad ones.

Chance comes from a seed, so that a finding is found again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

from raven.testing.recording import Frame

__all__ = ["DISORDERS", "FAULTS", "is_json", "telling_frames"]

NESTING = 100_000  # brackets; more than any decoder's stack
HUGE_BYTES = 1024 * 1024
TELLING_FRAMES_MAX = 48
PER_SHAPE_MAX = 2
NUMBERS_MAX = 12  # of one frame
SHAPE_BYTES = 80

_NUMBER = re.compile(rb'(?<=[\[:,])(\s*"?)(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)("?)(?=\s*[,\]}])')
_DIGITS = re.compile(rb"[0-9][0-9.]*")
_NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400")
_NO_NUMBERS = (b'""', b"null", b"9" * 30)
_GARBAGE = (
    b"garbage",
    b"null",
    b"true",
    b"17",
    b'"text"',
    b"[]",
    b"{}",
    b"[[]]",
    b"[null]",
    b'{"a":',
    b'{"data":{}}',
    b'{"stream":1,"data":null}',
    b'{"type":"unheard of","data":[1,2,3]}',
    b"<html><body>502 Bad Gateway</body></html>",
    bytes(range(256)),
)

Fault = Callable[[bytes, Random], Iterable[bytes]]


def truncated(frame: bytes, random: Random) -> Iterator[bytes]:
    """Beginnings of the frame."""
    size = len(frame)
    places = {1, size // 4, size // 2, size * 3 // 4, size - 1, *(random.randrange(size) for _ in range(3))} if size else set()
    return (frame[:place] for place in sorted(places) if 0 < place < size)


def split(frame: bytes, random: Random) -> Iterator[bytes]:
    """The frame as two, at three places: both halves of each."""
    for _ in range(3 if len(frame) > 1 else 0):
        place = random.randrange(1, len(frame))
        yield frame[:place]
        yield frame[place:]


def garbage(frame: bytes, random: Random) -> Iterator[bytes]:
    """What has nothing to do with the venue, or no longer."""
    yield from _GARBAGE
    yield random.randbytes(64)
    yield frame[::-1]


def bad_utf8(frame: bytes, random: Random) -> Iterator[bytes]:
    """The frame with bytes in it that no UTF-8 text has; and an empty one."""
    yield b""
    yield b"\xff\xfe"
    quotes = [place.end() for place in re.finditer(rb'"', frame)] or [len(frame)]
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80"):  # never a byte of UTF-8, half a letter, a lone surrogate
        place = random.choice(quotes)
        yield frame[:place] + bad + frame[place:]


def nested(frame: bytes, random: Random) -> Iterator[bytes]:  # noqa: ARG001
    """Deeper and longer than any decoder likes."""
    yield b"[" * NESTING
    yield b'{"a":' * NESTING
    yield b"[" * NESTING + b"]" * NESTING
    if frame.endswith(b"}"):
        yield frame[:-1] + b',"x":' + b"[" * NESTING
    yield b'"' + b"x" * HUGE_BYTES + b'"'
    yield b"9" * 10_000


def not_finite(frame: bytes, random: Random) -> Iterator[bytes]:
    """The frame with one of its numbers, in quotes or not, made NaN or infinite."""
    for match in _numbers(frame, random):
        for bad in _NOT_FINITE:
            yield frame[: match.start()] + match[1] + bad + match[3] + frame[match.end() :]


def no_numbers(frame: bytes, random: Random) -> Iterator[bytes]:
    """The frame with one of its numbers left empty, or longer than any number is."""
    for match in _numbers(frame, random):
        for bad in _NO_NUMBERS:
            yield frame[: match.end(1)].removesuffix(match[3]) + bad + frame[match.end() :]


def _numbers(frame: bytes, random: Random) -> list[re.Match[bytes]]:
    found = [match for match in _NUMBER.finditer(frame) if match[1].endswith(b'"') == bool(match[3])]
    if len(found) <= NUMBERS_MAX:
        return found
    return sorted(random.sample(found, NUMBERS_MAX), key=lambda match: match.start())


FAULTS: Mapping[str, Fault] = {
    "truncated": truncated,
    "split": split,
    "garbage": garbage,
    "empty and no UTF-8": bad_utf8,
    "nested and huge": nested,
    "NaN and infinite": not_finite,
    "empty and endless numbers": no_numbers,
}
"""Name to the bad frames that are made of a good one."""


# ---- order


def swapped(frames: Sequence[bytes], random: Random) -> list[bytes]:  # noqa: ARG001
    """Each pair the other way round."""
    return [frame for place in range(0, len(frames), 2) for frame in reversed(frames[place : place + 2])]


def shuffled(frames: Sequence[bytes], random: Random) -> list[bytes]:
    """Frames within reach of seven."""
    keys = [place + random.random() * 7 for place in range(len(frames))]
    return [frame for _, frame in sorted(zip(keys, frames, strict=True))]


def backwards(frames: Sequence[bytes], random: Random) -> list[bytes]:  # noqa: ARG001
    """The last one first."""
    return list(reversed(frames))


def doubled(frames: Sequence[bytes], random: Random) -> list[bytes]:  # noqa: ARG001
    """Each frame twice."""
    return [frame for frame in frames for _ in range(2)]


def echoed(frames: Sequence[bytes], random: Random) -> list[bytes]:
    """Some frames again, a few frames later."""
    later = [(place + 0.5 + random.randrange(1, 6), frame) for place, frame in enumerate(frames) if random.random() < 0.4]
    return [frame for _, frame in sorted([*enumerate(frames), *later], key=lambda entry: entry[0])]


def all_again(frames: Sequence[bytes], random: Random) -> list[bytes]:  # noqa: ARG001
    """Everything, and everything once more."""
    return [*frames, *frames]


def thinned(frames: Sequence[bytes], random: Random) -> list[bytes]:
    """About every fifth frame is missing."""
    return [frame for frame in frames if random.random() > 0.2]


Disorder = Callable[[Sequence[bytes], Random], list[bytes]]

DISORDERS: Mapping[str, Mapping[str, Disorder]] = {
    "reordered": {"swapped": swapped, "shuffled": shuffled, "backwards": backwards},
    "repeated": {"doubled": doubled, "echoed": echoed, "all again": all_again},
    "left out": {"thinned": thinned},
}
"""Name to the ways in which it happens."""


# ---- what the rules ask about frames


def telling_frames(frames: Sequence[Frame]) -> list[int]:
    """The places of frames that differ in more than their numbers: some of each shape, evenly thinned to a limit."""
    seen: Counter[bytes] = Counter()
    places = []
    for place, frame in enumerate(frames):
        shape = _DIGITS.sub(b"0", frame.data)[:SHAPE_BYTES]
        seen[shape] += 1
        if seen[shape] <= PER_SHAPE_MAX:
            places.append(place)
    return places[:: -(-len(places) // TELLING_FRAMES_MAX)] if places else []


def is_json(data: bytes) -> bool:
    """Whether it is a JSON text, by the rules of RFC 8259: UTF-8, no NaN."""
    try:
        json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)
