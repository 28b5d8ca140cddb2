"""An event of every payload and kind, and blocks of them as the recorder makes them."""

from __future__ import annotations

from collections.abc import Sequence

from raven.codec.encoder import TopicEncoder
from raven.model import events as model
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, OptionType, PriceStep, SizeUnit
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block, Image
from raven.store.elements import stamps

__all__ = ["EPOCH", "PAYLOADS", "START_NS", "TRADES", "block_of", "event", "image_of", "trades", "trades_block"]

START_NS = 1_700_000_000_000_000_000
EPOCH = 1_700_000_000_000
TRADES = Topic("sim", "BTC-USDT", Kind.TRADE)

PAYLOADS: Sequence[tuple[Kind, str, model.Payload]] = (
    (Kind.TRADE, "", model.Trade(64000.12, 0.001, model.Side.BUY, "12345")),
    (Kind.TRADE, "", model.Trade(1e-07, None, model.Side.SELL, 'a "quoted", id=\\ with\nlines', "first one")),
    (Kind.QUOTE, "", model.Quote(1.5, 2.0, 1.75, 3.0)),
    (Kind.QUOTE, "", model.Quote(None, None, 5e-324, 1.7976931348623157e308)),
    (Kind.BOOK, "", model.BookSnapshot((3.0, 2.0), (1.0, 4.0), (4.0,), (2.5,), 2**64 - 1, 50)),
    (Kind.BOOK, "", model.BookDelta((3.0,), (0.0,), (), (), 77)),
    (Kind.BOOK_TOP, "20", model.BookSnapshot((3.0, 2.0), (1.0, 4.0), (4.0, 5.0), (2.5, 0.5))),
    (Kind.BOOK_TOP, "20", model.BookSnapshot()),
    (Kind.CANDLE, "1m", model.Candle(START_NS, START_NS + 60, 1.0, 4.0, 0.5, 2.0, 10.0, 20.0, 7, 5.0, True, True)),
    (Kind.CANDLE, "1m", model.Candle(START_NS, START_NS + 60)),
    (Kind.TICKER, "", model.Ticker(1.0, 2.0, 3.0, 0.5, 100.0, 200.0)),
    (Kind.FUNDING, "", model.Funding(-0.0001, START_NS, 28800, True, 0.0002)),
    (Kind.MARK_PRICE, "", model.MarkPrice(1.0, 1.25)),
    (Kind.OPEN_INTEREST, "", model.OpenInterest(10.0, None)),
    (Kind.LIQUIDATION, "", model.Liquidation(1.0, 2.0, model.Side.SELL)),
    (
        Kind.INSTRUMENT,
        "",
        Instrument(
            *("sim", "BTC-USDT", "btc/usdt spot", InstrumentType.OPTION, InstrumentStatus.TRADING, "BTC", "USDT", "USDT"),
            *("0.01", "0.00001", "1", "BTC", SizeUnit.BASE, True, START_NS, START_NS, "100000", OptionType.CALL, "BTC"),
            *("0.1", "5", (PriceStep("0", "0.01"), PriceStep("100", "0.1"))),
        ),
    ),
    (Kind.GREEKS, "", model.Greeks(0.5, 0.4, 0.6, -0.25, 0.1, 0.2, -0.3, 0.01, 64000.0)),
    (Kind.BAR, "vpin", model.Bar(model.Candle(START_NS, START_NS + 5, 1.0, 2.0, 0.5, 1.5), {"vpin": 0.5, "a b,c=d": 1.0})),
    (
        Kind.TRADE,
        "",
        model.TopicStatus(model.State.STALE, model.StatusCause.VENUE_SILENT, "silent, for 5 s", START_NS, True, 100),
    ),
    (Kind.BOOK, "", model.Gap(model.GapCause.VENUE, EPOCH, 0, 0, 12)),
)
"""Kind, variant and payload."""


def event(
    topic: Topic, payload: model.Payload, received_ts_ns: int, venue_ts_ns: int | None = None, flags: int = 0
) -> model.Event:
    return model.Event(topic, payload, received_ts_ns, venue_ts_ns, flags)


def block_of(topic: Topic, events: Sequence[model.Event], first_sequence: int = 1, epoch: int = EPOCH) -> Block:
    """Consecutive events as one block."""
    encoder = TopicEncoder(topic, epoch)
    elements = [encoder.encode(each, first_sequence + number) for number, each in enumerate(events)]
    told = [stamps(element) for element in elements]
    received, venue = [each[1] for each in told], [each[2] for each in told]
    last = first_sequence + len(events) - 1
    return Block(topic, epoch, first_sequence, last, min(received), max(received), min(venue), max(venue), b"".join(elements))


def trades(count: int, start_ns: int = START_NS, step_ns: int = 1_000_000, topic: Topic = TRADES) -> list[model.Event]:
    """`count` trades of a topic; the venue's time is 5 ms before that of receipt."""
    return [
        event(topic, model.Trade(100.0 + number, 0.5, model.Side.BUY, str(number)), at, at - 5_000_000)
        for number in range(count)
        for at in (start_ns + number * step_ns,)
    ]


def trades_block(count: int, start_ns: int = START_NS, first: int = 1, step_ns: int = 1_000_000, epoch: int = EPOCH) -> Block:
    """The same as a block."""
    return block_of(TRADES, trades(count, start_ns, step_ns), first, epoch)


def image_of(topic: Topic, payload: model.Payload, sequence: int, ts_ns: int, epoch: int = EPOCH) -> Image:
    """An image after an event."""
    element = TopicEncoder(topic, epoch).encode_general(event(topic, payload, ts_ns), sequence, flags=model.Flag.IMAGE)
    return Image(topic, epoch, sequence, ts_ns, element)
