"""Subscriptions as bytes, and back. What comes back is held against the same rules as what a client asks for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from raven.broker.client import Subscription
from raven.broker.policy import Policy, check_delivery
from raven.model.topic import Kind, Selector, Topic, check_selector_names, parse_topic
from raven.store.latest.values import ClientSubscriptions, LatestValue

__all__ = ["pack_subscriptions", "unpack_client", "unpack_topic", "unpack_value"]

log = structlog.stdlib.get_logger("raven.store")


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """One subscription. Fields are added behind, with a default, and never change their meaning."""

    id: str
    venue: str
    symbol: str
    kinds: list[int]
    variant: str = ""
    skip_image: bool = False
    policy: int = 0
    conflate_ms: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Packed]).decode


def pack_subscriptions(subscriptions: Iterable[Subscription]) -> bytes:
    """JSON: a list for each, in the order of `_Packed`."""
    return _encode([_packed(subscription) for subscription in subscriptions])


def _packed(one: Subscription) -> _Packed:
    selector = one.selector
    kinds = [int(kind) for kind in sorted(selector.kinds)]
    policy = int(one.policy)
    return _Packed(one.id, selector.venue, selector.symbol, kinds, selector.variant, one.skip_image, policy, one.conflate_ms)


def unpack_client(client_id: str, packed: bytes, expires_s: float) -> ClientSubscriptions | None:
    """The opposite; None when it cannot be, which is logged."""
    try:
        subscriptions = tuple(_unpacked(one) for one in _decode(packed))
    except (ValueError, msgspec.MsgspecError) as error:
        log.warning("subscriptions of a client make no sense: they are forgotten", client_id=client_id, error=str(error))
        return None
    return ClientSubscriptions(client_id, subscriptions, expires_s)


def _unpacked(packed: _Packed) -> Subscription:
    """Raises ValueError: a client could not have asked for this."""
    check_selector_names(packed.venue, packed.symbol, packed.variant)
    kinds = frozenset(Kind(kind) for kind in packed.kinds)
    policy = Policy(packed.policy)
    check_delivery(kinds, policy, packed.conflate_ms)
    selector = Selector(packed.venue, packed.symbol, kinds, packed.variant)
    return Subscription(packed.id, selector, packed.skip_image, policy=policy, conflate_ms=packed.conflate_ms)


def unpack_topic(text: str) -> Topic | None:
    """The topic that `str(topic)` wrote; None when it cannot be, which is logged."""
    try:
        return parse_topic(text)
    except ValueError as error:
        log.warning("a latest value has no topic: it is left out", error=str(error))
        return None


def unpack_value(topic: Topic | None, epoch: object, sequence: object, status: object, image: object) -> LatestValue | None:
    """A value of what a store holds of it; None when it cannot be, which is logged."""
    if topic is None:
        return None
    if isinstance(epoch, int) and isinstance(sequence, int) and isinstance(status, bytes) and isinstance(image, bytes):
        return LatestValue(topic, epoch, sequence, status, image)
    log.warning("a latest value makes no sense: it is left out", topic=str(topic))
    return None
