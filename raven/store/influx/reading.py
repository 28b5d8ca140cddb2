"""Blocks and images out of one endpoint, by InfluxQL, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from raven.errors import InvalidName
from raven.model.topic import Kind, Topic, check_symbol, check_variant, check_venue, parse_kind
from raven.store.blocks import Block, Image, TimeRange
from raven.store.influx.block_lines import BLOCKS, IMAGES, SPAN_NS, block_of, image_of, without_head
from raven.store.influx.influxql import TIME_MAX, TIME_MIN, QueryClient, integer, name, select, string
from raven.store.influx.points import MILLISECOND_NS

__all__ = ["Reader", "bounds", "conditions"]

PAGE_BYTES = 2 * 1024 * 1024
"""What a page should hold; so many rows are asked for as the page before makes likely."""

PAGE_ROWS_FIRST, PAGE_ROWS_MAX = 16, 2_000

WINDOW_EVENTS = 1_024
"""Sequences of a page where the order of time is not that of sequences."""

IMAGES_LOOKED_AT = 8
"""The latest images of a topic; those of one millisecond are in no order of time."""

_TAGS = ("venue", "symbol", "kind", "variant")


def conditions(topic: Topic) -> str:
    """What the tags of a topic's points are. A tag that is not there equals the empty text."""
    values = (topic.venue, topic.symbol, topic.kind.label, topic.variant)
    return " AND ".join(f"{name(tag)} = {string(value)}" for tag, value in zip(_TAGS, values, strict=True))


def bounds(within: TimeRange) -> str:
    """Which points of `raven_blocks` may touch a range.

    By the time of receipt their own time narrows it: a block begins at most `SPAN_NS` before its last event. By the venue's
    time nothing does: a venue may give any time.
    """
    clock = "venue_ts_ns" if within.venue_clock else "ts_ns"
    touching = f"{name(f'first_{clock}')} < {integer(within.end_ns)} AND {name(f'last_{clock}')} >= {integer(within.start_ns)}"
    return touching if within.venue_clock else f"{touching} AND {_time_bounds(within)}"


def _time_bounds(within: TimeRange) -> str:
    first, last = within.start_ns - SPAN_NS - MILLISECOND_NS, within.end_ns + MILLISECOND_NS
    return f"time >= {integer(first)} AND time < {integer(last)}"


class Reader:
    """Reads from one endpoint."""

    def __init__(self, client: QueryClient) -> None:
        self._client = client

    def topics(self, within: TimeRange) -> list[Topic]:
        """The topics of which something may be kept in a range, sorted. Raises StoreError."""
        where = bounds(within) if within.venue_clock else _time_bounds(within)
        tags = ", ".join(name(tag) for tag in _TAGS)
        [found] = self._client.ask(select('last("epoch")', name(BLOCKS), f"{where} GROUP BY {tags}"))
        topics = (_topic_of(series.tags) for series in found)
        return sorted(topic for topic in topics if topic is not None)

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        """The blocks of a topic that touch a range, by epoch and sequence. Raises StoreError."""
        where = f"{conditions(topic)} AND {bounds(within)}"
        epochs, in_order = self._epochs(where)
        for epoch in epochs:
            of_epoch = f'{where} AND "epoch" = {epoch}'
            rows = self._by_time(of_epoch, within) if in_order else self._by_sequence(of_epoch)
            yield from _apart(block_of(topic, row) for row in rows)

    def _epochs(self, where: str) -> tuple[list[int], bool]:
        """The epochs, and whether sequences go up with time in each: not so where the clock was set back."""
        steps = select('difference("first_sequence") AS "step"', name(BLOCKS), where)
        distinct, back = self._client.ask(
            select('distinct("epoch")', name(BLOCKS), where), select('count("step")', f"({steps})", '"step" < 0')
        )
        epochs = sorted(int(row["distinct"]) for series in distinct for row in series.rows())
        steps_back = sum(int(row["count"]) for series in back for row in series.rows())
        return epochs, steps_back < max(1, len(epochs))  # each new epoch is a step back

    def _by_time(self, where: str, within: TimeRange) -> Iterator[Mapping[str, Any]]:
        first = TIME_MIN if within.venue_clock else within.start_ns - SPAN_NS - MILLISECOND_NS
        limit = PAGE_ROWS_FIRST
        while True:
            rows = self._rows(f"{where} AND time >= {integer(first)} ORDER BY time LIMIT {limit}")
            yield from _by_first_sequence(rows)
            if len(rows) < limit:
                return
            first = max(int(row["time"]) for row in rows) + 1
            size = sum(len(value) for row in rows for value in row.values() if isinstance(value, str)) // len(rows)
            limit = max(1, min(PAGE_ROWS_MAX, PAGE_BYTES // (size + 1)))

    def _by_sequence(self, where: str) -> Iterator[Mapping[str, Any]]:
        at = 0
        while True:
            further = f'{where} AND "first_sequence" >= {integer(at)}'
            [found] = self._client.ask(select('min("first_sequence")', name(BLOCKS), further))
            least = [int(row["min"]) for series in found for row in series.rows()]
            if not least:
                return
            at = least[0] + WINDOW_EVENTS
            window = f'"first_sequence" >= {integer(least[0])} AND "first_sequence" < {integer(at)}'
            yield from _by_first_sequence(self._rows(f"{where} AND {window}"))

    def _rows(self, where: str, source: str = BLOCKS) -> list[Mapping[str, Any]]:
        [found] = self._client.ask(select("*::field", name(source), where))
        return [row for series in found for row in series.rows()]

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic before a time. Raises StoreError."""
        time = f"time < {integer(min(TIME_MAX, before_ns + MILLISECOND_NS))}"
        where = f'{conditions(topic)} AND {time} AND "ts_ns" < {integer(before_ns)}'
        rows = self._rows(f"{where} ORDER BY time DESC LIMIT {IMAGES_LOOKED_AT}", IMAGES)
        images = [image_of(topic, row) for row in rows]
        return max(images, key=lambda image: (image.ts_ns, image.epoch, image.sequence), default=None)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _by_first_sequence(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sorted; where one is none of ours, as they are, for `block_of` to refuse."""
    firsts = [row.get("first_sequence") for row in rows]
    return sorted(rows, key=itemgetter("first_sequence")) if all(type(first) is int for first in firsts) else rows


def _apart(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks of an epoch, each event once: what was written again in other pieces is left out."""
    last = 0
    for block in blocks:
        if block.last_sequence <= last:
            continue
        yield without_head(block, last) if block.first_sequence <= last else block
        last = block.last_sequence


def _topic_of(tags: Mapping[str, str]) -> Topic | None:
    """None for points that somebody else has written there."""
    try:
        kind: Kind = parse_kind(tags.get("kind", ""))
        venue, symbol = check_venue(tags.get("venue", "")), check_symbol(tags.get("symbol", ""))
        return Topic(venue, symbol, kind, check_variant(tags.get("variant", "")))
    except InvalidName:
        return None
