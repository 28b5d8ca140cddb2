"""What is done for a client that does not read fast enough, and how often it wants to hear of a topic."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import attrs

from raven.errors import InvalidValue
from raven.model.events import Candle, Event, Funding, Gap, TopicStatus
from raven.model.topic import Kind

__all__ = ["CONFLATE_MS_MAX", "NEVER_CONFLATED", "Delivery", "Policy", "check_delivery", "delivery_of", "is_final", "is_mark"]

CONFLATE_MS_MAX = 3_600_000

NEVER_CONFLATED = frozenset({Kind.TRADE, Kind.LIQUIDATION})
"""Kinds whose events are news each, so that the newest does not stand for those before (raven.proto, SlowConsumerPolicy)."""

_DISCONNECT_BY_DEFAULT = NEVER_CONFLATED | {Kind.BAR}


class Policy(IntEnum):
    """raven.v1.SlowConsumerPolicy, with its numbers."""

    DEFAULT = 0
    CONFLATE = 1
    DROP_OLDEST = 2
    DISCONNECT = 3


@attrs.frozen
class Delivery:
    """How one topic is delivered to one client.

    Args:
        policy: any but DEFAULT.
        conflate_ms: at most one event in so many milliseconds; 0 = every event.
    """

    policy: Policy
    conflate_ms: int = 0


@lru_cache(maxsize=1024)  # there are few, and one for each topic of each client would be what the garbage collector looks at
def delivery_of(kind: Kind, policy: Policy, conflate_ms: int) -> Delivery:
    """What holds for a topic of `kind` when a client asks for `policy`.

    Quotes, books and what else is a state are conflated unless the client asks for something else; trades, liquidations and
    bars are not. Books cannot lose their oldest events, so DROP_OLDEST acts as CONFLATE there. Who asks for conflate_ms asks
    for conflation.
    """
    if policy is Policy.DEFAULT:
        policy = Policy.DISCONNECT if kind in _DISCONNECT_BY_DEFAULT else Policy.CONFLATE
    elif policy is Policy.DROP_OLDEST and kind is Kind.BOOK:
        policy = Policy.CONFLATE
    return Delivery(Policy.CONFLATE if conflate_ms else policy, conflate_ms)


def check_delivery(kinds: frozenset[Kind], policy: Policy, conflate_ms: int) -> None:
    """Whether what a client asks for is possible for the kinds of its subscription.

    Raises:
        InvalidValue: conflation of events that are news each, or an interval out of range.
    """
    news = ", ".join(kind.label for kind in sorted(kinds & NEVER_CONFLATED))
    if news and policy is Policy.CONFLATE:
        valid = f"DROP_OLDEST or DISCONNECT for {news}, whose events are news each; subscribe to other kinds by themselves"
        raise InvalidValue("slow_consumer_policy", f"SLOW_CONSUMER_POLICY_{policy.name}", valid)
    if news and conflate_ms:
        raise InvalidValue("conflate_ms", conflate_ms, f"0 for {news}; subscribe to other kinds by themselves")
    if conflate_ms > CONFLATE_MS_MAX:
        raise InvalidValue("conflate_ms", conflate_ms, f"0 to {CONFLATE_MS_MAX}")


def is_final(event: Event) -> bool:
    """Whether nothing later stands for this event though its topic is conflated: a closed candle, a settled funding rate."""
    payload = event.payload
    if isinstance(payload, Candle):
        return payload.closed
    return isinstance(payload, Funding) and payload.settled


def is_mark(event: Event) -> bool:
    """Whether it says something about its topic instead of the market."""
    return isinstance(event.payload, TopicStatus | Gap)
