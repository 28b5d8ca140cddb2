"""raven.store.elements against the encoder."""

from __future__ import annotations

import pytest

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Gap, GapCause, State, StatusCause, TopicStatus, Trade
from raven.model.topic import Kind, Topic
from raven.store.elements import split, stamps

TOPIC = Topic("sim", "BTC-USDT", Kind.TRADE)


def element(topic: Topic, sequence: int, received: int, venue: int | None, text: str = "") -> bytes:
    """A status, whose text makes it as long as one likes."""
    payload = TopicStatus(State.LIVE, StatusCause.STARTING, text, 5)
    return TopicEncoder(topic, 7).encode(Event(topic, payload, received, venue), sequence)


@pytest.mark.parametrize("text", ["", "x" * 60, "x" * 200, "x" * 20_000, "x" * 3_000_000])
def test_split_gives_back_what_was_joined(text: str) -> None:
    elements = [element(TOPIC, number, 1000 + number, None, text) for number in range(1, 4)]
    assert list(split(b"".join(elements))) == elements


@pytest.mark.parametrize("text", ["", "x" * 200, "x" * 20_000])
@pytest.mark.parametrize("venue", [None, 990])
def test_stamps_of_any_length(text: str, venue: int | None) -> None:
    assert stamps(element(TOPIC, 12, 1000, venue, text)) == (12, 1000, 1000 if venue is None else venue)


def test_stamps_of_a_trade() -> None:
    event = Event(TOPIC, Trade(1.0, 2.0, trade_id="77"), 1000, 990)
    assert stamps(TopicEncoder(TOPIC, 7).encode(event, 3)) == (3, 1000, 990)


def test_stamps_of_a_gap() -> None:
    event = Event(TOPIC, Gap(GapCause.VENUE, 7), 1000)
    assert stamps(TopicEncoder(TOPIC, 7).encode(event, 3)) == (3, 1000, 1000)


@pytest.mark.parametrize("damaged", [b"\x0b\x01x", b"\x0a\x05abc"])
def test_what_is_no_element_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="element"):
        list(split(damaged))
