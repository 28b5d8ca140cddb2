"""What the simulated venue can feed."""

from __future__ import annotations

from raven.adapter import Capabilities
from raven.errors import InvalidValue, nearest
from raven.model.topic import Kind, Topic
from raven_sim.listing import Listing, parse_listing

__all__ = ["CAPABILITIES", "INTERVALS_NS", "check_topic"]

_SECOND_NS = 1_000_000_000
INTERVALS_NS = {"1s": _SECOND_NS, "1m": 60 * _SECOND_NS, "5m": 300 * _SECOND_NS, "1h": 3600 * _SECOND_NS}

CAPABILITIES = Capabilities(
    frozenset({Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.CANDLE, Kind.TICKER, Kind.INSTRUMENT}), tuple(INTERVALS_NS)
)


def check_topic(topic: Topic) -> Listing:
    """What a topic is about, if it is one that can be fed.

    Raises:
        InvalidValue: it is none; the field is "kinds", "intervals" or "symbols", as in a feed's table.
    """
    if topic.kind not in CAPABILITIES.kinds:
        raise InvalidValue("kinds", topic.kind.label, nearest(topic.kind.label, (kind.label for kind in CAPABILITIES.kinds)))
    if topic.kind is Kind.CANDLE and topic.variant not in INTERVALS_NS:
        raise InvalidValue("intervals", topic.variant, "valid are " + ", ".join(INTERVALS_NS))
    if topic.kind is not Kind.CANDLE and topic.variant:
        raise InvalidValue("variant", topic.variant, f"none: {topic.kind.label} has no variants here")
    return parse_listing(topic.symbol)
