"""Record batches say what the events say."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.client.core import EventReader
from raven.client.events import GapEvent, StatusEvent, StreamEvent
from raven.client.testing import FakeServer
from raven.client.tracking import Tracker
from raven.codec.encoder import TopicEncoder, sent_ts
from raven.model.events import Event as Published
from raven.model.events import Quote, State, Trade
from raven.model.topic import Kind, Topic

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'raven-marketdata[arrow]'")
arrow = pytest.importorskip("raven.client.arrow", reason="numpy is not installed: pip install 'raven-marketdata[arrow]'")

TRADES = [Topic("sim", "A", Kind.TRADE), Topic("other", "B", Kind.TRADE)]
QUOTES = [Topic("sim", "A", Kind.QUOTE), Topic("other", "B", Kind.QUOTE)]

finite = st.floats(-1e9, 1e9)
stamps = st.integers(-(2**62), 2**62)
a_trade = st.builds(Trade, finite, finite, st.integers(0, 2), st.text("0123456789é", max_size=120))
a_quote = st.builds(Quote, finite, finite, st.none() | finite, finite)


def rows(items: list[Any]) -> list[tuple[Any, ...]]:
    """What record batches and events say, in the order of topics and sequences."""
    found: list[tuple[Any, ...]] = []
    for item in items:
        if isinstance(item, pa.RecordBatch):
            columns = {name: item.column(name) for name in item.schema.names}
            for name in ("venue_ts_ns", "received_ts_ns"):
                columns[name] = columns[name].cast(pa.int64())
            found += zip(*(column.to_pylist() for column in columns.values()), strict=True)
        else:
            found.append(row(item))
    return sorted(found, key=repr)


def row(event: StreamEvent) -> tuple[Any, ...]:
    stamp = (
        event.topic.venue,
        event.topic.symbol,
        event.epoch,
        event.sequence,
        event.venue_ts_ns,
        event.received_ts_ns,
        event.flags,
    )
    payload = event.payload
    if isinstance(payload, Trade):
        return (*stamp, payload.price, payload.size, int(payload.aggressor), payload.trade_id)
    if isinstance(payload, Quote):
        return (*stamp, payload.bid_price, payload.bid_size, payload.ask_price, payload.ask_size)
    return (*stamp, type(payload).__name__)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_are_the_events_whatever_their_layout(data: st.DataObject) -> None:
    encoders = {topic: TopicEncoder(topic, 2**63 + 1) for topic in (*TRADES, *QUOTES)}
    sequences = dict.fromkeys(encoders, 0)
    messages = []
    for _ in range(data.draw(st.integers(1, 4))):
        elements = b""
        for topic in data.draw(st.lists(st.sampled_from([*TRADES, *QUOTES]), max_size=8)):
            sequences[topic] += data.draw(st.sampled_from([1, 1, 1, 2]))
            payload = data.draw(a_trade if topic.kind is Kind.TRADE else a_quote)
            event = Published(
                topic, payload, data.draw(stamps), data.draw(st.none() | stamps), data.draw(st.sampled_from([0, 0, 8]))
            )
            elements += encoders[topic].encode(event, sequences[topic])
        messages.append(elements + sent_ts(1))
    plain, tracker = EventReader(), Tracker()
    expected = [event for message in messages for event in plain.read(message, tracker)[0]]
    reader, tracker = arrow.RecordReader(), Tracker()
    buffer = arrow.RecordBuffer(reader, 1_000)
    found: list[Any] = []
    for message in messages:
        buffer.put(reader.read(message, tracker)[0])
        if data.draw(st.booleans()):
            found += drained(buffer)
    found += drained(buffer)
    assert rows(found) == sorted(map(row, expected), key=repr)
    assert buffer.size == 0


def drained(buffer: Any) -> list[Any]:
    found = []
    while (item := buffer.take()) is not None:
        found.append(item)
    return found


async def test_batches_of_a_stream_with_gaps_and_statuses_between_them() -> None:
    server = FakeServer()
    name = "sim/A/trade"
    server.publish(name, Trade(1.0, 1.0, 1, "a"))
    with trio.fail_after(10):
        async with server.connect() as client, client.record_batches("sim/A", kinds="trade,quote") as stream:
            items: list[Any] = [await stream.__anext__()]  # the status
            server.publish(name, *[Trade(float(number), 1.0, 1, str(number)) for number in range(10)])
            server.publish("sim/A/quote", Quote(1.0, 2.0, 3.0, 4.0))
            server.lose(name, 2)
            server.set_status(name, State.STALE)
            server.publish(name, Trade(7.0, 1.0, 2, "z"), flags=8)
            server.heartbeat()
            while stream.bookmark != b"at:14":
                items.append(await stream.__anext__())
                if len(items) > 4:
                    break
    assert [type(item) for item in items] == [StatusEvent, pa.RecordBatch, pa.RecordBatch, GapEvent, StatusEvent]
    assert items[1].schema.equals(arrow.TRADES)
    assert items[1].num_rows == 10
    assert items[1].column("price").to_pylist() == [float(number) for number in range(10)]
    assert items[2].schema.equals(arrow.QUOTES)


async def test_batches_go_on_over_a_break() -> None:
    server = FakeServer()
    name = "sim/A/trade"
    server.publish(name, *[Trade(1.0, 1.0, 1, "a")] * 3)
    sequences: list[int] = []
    with trio.fail_after(10):
        async with server.connect() as client:
            stream = client.record_batches("sim/A", kinds="trade", images=True)
            while not sequences:
                sequences += taken(await stream.__anext__())
            for _ in range(3):
                server.cut()
                server.publish(name, *[Trade(2.0, 1.0, 1, "b")] * 3)
                wanted = sequences[-1] + 3
                while sequences[-1] < wanted:
                    sequences += taken(await stream.__anext__())
    assert sequences == list(range(3, 13))


def taken(item: Any) -> list[int]:
    return item.column("sequence").to_pylist() if isinstance(item, pa.RecordBatch) else []
