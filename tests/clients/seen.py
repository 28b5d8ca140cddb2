"""What a client saw of the events, whichever client it was: as JSON, or in the lines that the examples print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

FLAG_IMAGE, FLAG_LOCAL = 1, 2


@attrs.frozen
class Seen:
    """One event.

    Attributes:
        what: "event", "image", "status" or "gap".
        topic: venue/symbol/kind, and the variant where there is one.
        values: of a trade price and size, of a quote bid and ask price; of anything else none.
        first: of an event that stands for several the sequence of the first of them, else 0.
    """

    what: str
    topic: str
    sequence: int
    values: tuple[float, ...] = ()
    first: int = 0

    def follows(self, last: int) -> bool:
        """Whether nothing is missing between `last` and this."""
        return (self.first or self.sequence) == last + 1


def topic_name(topic: dict[str, str]) -> str:
    parts = [topic["venue"], topic["symbol"], topic["kind"], topic.get("variant", "")]
    return "/".join(filter(None, parts))


def seen_in_json(event: dict[str, Any]) -> Seen:
    """An event in the JSON of protobuf. A status that takes a sequence is not expected here, nor is a LOCAL gap."""
    flags, name, sequence = event.get("flags", 0), topic_name(event["topic"]), int(event["sequence"])
    assert ("status" in event) == bool(flags & FLAG_LOCAL)
    if "status" in event:
        return Seen("status", name, sequence)
    if "gap" in event:
        return Seen("gap", name, sequence)
    what = "image" if flags & FLAG_IMAGE else "event"
    first = int(event.get("firstSequence", 0))
    if "trade" in event:
        return Seen(what, name, sequence, (event["trade"]["price"], event["trade"]["size"]), first)
    if "quote" in event:
        return Seen(what, name, sequence, (event["quote"]["bidPrice"], event["quote"]["askPrice"]), first)
    return Seen(what, name, sequence, first=first)


def seen_in_message(message: dict[str, Any]) -> list[Seen]:
    """The events of a message; none where it carries a control."""
    return [seen_in_json(event) for event in message.get("events", [])]


def seen_in_line(line: str) -> Seen | None:
    """An event in a line of an example; None: it is something else.

    `event sim/BTC-USDT/KIND_TRADE 14 63995.5 0.0043`; with `13-14` it stands for both.
    """
    what, _, rest = line.partition(" ")
    if what not in ("event", "image", "status", "gap"):
        return None
    topic, numbers, *said = rest.split(" ")
    first, _, sequence = numbers.rpartition("-")
    values = tuple(float(text) for text in said) if what in ("event", "image") else ()
    return Seen(what, topic, int(sequence), values, int(first or 0))


def check_continuity(events: Iterable[Seen]) -> None:
    """Each topic begins with its status and its image, and then nothing is missing, twice or out of order."""
    last: dict[str, int] = {}
    announced: dict[str, int] = {}
    for event in events:
        if event.what == "status":
            announced[event.topic] = event.sequence
        elif event.what == "image":
            assert announced.get(event.topic) == event.sequence, f"an image without its status: {event}"
            last[event.topic] = event.sequence
        else:
            assert event.what == "event", f"nothing is lost here: {event}"
            assert event.topic in last, f"an event before its image: {event}"
            assert event.follows(last[event.topic]), f"behind {last[event.topic]} comes {event}"
            last[event.topic] = event.sequence
    assert last, "no image at all"


def check_record(lines: Iterable[str]) -> dict[str, list[int]]:
    """What an example printed over breaks and restarts: per topic no sequence is missing and none comes twice; all of them.

    A status that is not of the topic's sequence (LOCAL) has that of the event before it. A gap of the venue is of the sequence;
    any other would be something that was lost here.
    """
    numbers: dict[str, list[int]] = {}
    for line in lines:
        assert not line.startswith("hole"), f"something was left out: {line}"
        event = seen_in_line(line)
        if event is None:
            continue
        assert event.what != "gap" or line.endswith(" CAUSE_VENUE"), f"nothing is lost here: {line}"
        record = numbers.setdefault(event.topic, [])
        if not record:
            assert event.what == "status"
            record.append(event.sequence)
        elif event.sequence != record[-1] or event.what not in ("status", "image"):
            assert event.follows(record[-1]), f"behind {record[-1]} comes {line}"
            record.append(event.sequence)
    return numbers
