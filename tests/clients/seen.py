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
    """

    what: str
    topic: str
    sequence: int
    values: tuple[float, ...] = ()


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
    if "trade" in event:
        return Seen(what, name, sequence, (event["trade"]["price"], event["trade"]["size"]))
    if "quote" in event:
        return Seen(what, name, sequence, (event["quote"]["bidPrice"], event["quote"]["askPrice"]))
    return Seen(what, name, sequence)


def seen_in_message(message: dict[str, Any]) -> list[Seen]:
    """The events of a message; none where it carries a control."""
    return [seen_in_json(event) for event in message.get("events", [])]


def seen_in_line(line: str) -> Seen | None:
    """An event in a line of an example: `event sim/BTC-USDT/KIND_TRADE 14 63995.5 0.0043`. None: it is something else."""
    what, _, rest = line.partition(" ")
    if what not in ("event", "image", "status", "gap"):
        return None
    topic, sequence, *said = rest.split(" ")
    values = tuple(float(text) for text in said) if what in ("event", "image") else ()
    return Seen(what, topic, int(sequence), values)


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
            assert event.sequence == last[event.topic] + 1, f"behind {last[event.topic]} comes {event}"
            last[event.topic] = event.sequence
    assert last, "no image at all"
