"""Subscribing and unsubscribing, the same for a client's own stream and for the unary calls beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import attrs

from raven.broker import Result, Subscription
from raven.codec.generated.raven import v1
from raven.codec.varint import varint
from raven.errors import InvalidValue
from raven.grpc.requests import SELECTORS_MAX, parse_selector, parse_subscription, subscription_message
from raven.model.topic import Selector

__all__ = [
    "SUBSCRIPTIONS_PER_REQUEST_MAX",
    "Outcome",
    "encode_control",
    "encode_subscribed",
    "parse_unsubscribe",
    "result_messages",
    "subscribe_all",
]

SUBSCRIPTIONS_PER_REQUEST_MAX = 1_000

RESULTS_REMEMBERED_MAX = 4_096
"""Results that are kept as they were written: a crowd that comes back asks for the same things."""

_RESULTS_TAG, _REQUEST_ID_TAG, _SUBSCRIBED_TAG = b"\x0a", b"\x11", b"\x1a"
"""results = 1 and request_id = 2 of SubscribeResponse, subscribed = 3 of StreamMarketDataResponse (raven.proto)."""

Outcome = tuple[Result, Subscription | None]
"""What became of one subscription of a request, and the subscription if it could be read."""


def encode_control(**control: Any) -> bytes:
    """A StreamMarketDataResponse with one control ("heartbeat=..."), without sent_ts_ns, which the writer adds."""
    return bytes(v1.StreamMarketDataResponse(**control))


def encode_subscribed(outcomes: Sequence[Outcome], request_id: int) -> bytes:
    """`encode_control(subscribed=...)` of what became of a request, from parts that are written once however many ask."""
    parts = [_encode_result(result, _without_place(subscription)) for result, subscription in outcomes]
    if request_id:
        parts.append(_REQUEST_ID_TAG + request_id.to_bytes(8, "little"))
    body = b"".join(parts)
    return _SUBSCRIBED_TAG + varint(len(body)) + body


@lru_cache(maxsize=RESULTS_REMEMBERED_MAX)
def _encode_result(result: Result, subscription: Subscription | None) -> bytes:
    message = bytes(_result_message(result, subscription))
    return _RESULTS_TAG + varint(len(message)) + message


def _without_place(subscription: Subscription | None) -> Subscription | None:
    """The same as it is in force: where it continued is for that once, and is not told."""
    if subscription is None or subscription.resume is None:
        return subscription
    return attrs.evolve(subscription, resume=None)


def subscribe_all(
    messages: Sequence[v1.Subscription], name: Callable[[], str], subscribe: Callable[[Subscription], Result]
) -> list[Outcome]:
    """Take each subscription by itself; one that cannot be does not stand in the way of the others.

    Args:
        name: an id for one that has none.
        subscribe: takes one that is well formed.
    """
    if not messages:
        return [(Result("", accepted=False, field="subscriptions", error="empty: at least one subscription is needed"), None)]
    return [_subscribe_one(index, message, name, subscribe) for index, message in enumerate(messages)]


def _subscribe_one(
    index: int, message: v1.Subscription, name: Callable[[], str], subscribe: Callable[[Subscription], Result]
) -> Outcome:
    if index >= SUBSCRIPTIONS_PER_REQUEST_MAX:
        error = f"at most {SUBSCRIPTIONS_PER_REQUEST_MAX} subscriptions in one request"
        return Result(message.id, accepted=False, field="subscriptions", error=error), None
    try:
        subscription = parse_subscription(message, name)
    except InvalidValue as error:
        return Result(message.id, accepted=False, field=error.field, error=error.reason), None
    return subscribe(subscription), subscription


def result_messages(outcomes: Sequence[Outcome]) -> list[v1.SubscribeResponseResult]:
    """One Result per subscription, in order, with what is in force where it was accepted."""
    return [_result_message(result, subscription) for result, subscription in outcomes]


def _result_message(result: Result, subscription: Subscription | None) -> v1.SubscribeResponseResult:
    return v1.SubscribeResponseResult(
        id=result.id,
        accepted=result.accepted,
        field=result.field,
        error=result.error,
        effective=subscription_message(subscription) if subscription is not None and result.accepted else None,
        topics=result.topics,
        recovered=result.recovered,
    )


def parse_unsubscribe(request: v1.UnsubscribeRequest) -> tuple[list[Selector], list[str]]:
    """The selectors of a request that can be read, and in words those that cannot."""
    selectors, bad = [], []
    for index, message in enumerate(request.selectors[:SELECTORS_MAX]):
        try:
            selectors.append(parse_selector(message, f"selectors[{index}]", kinds_needed=True))
        except InvalidValue as error:
            bad.append(str(error))
    bad.extend(f"selectors[{i}]: at most {SELECTORS_MAX} in one request" for i in range(SELECTORS_MAX, len(request.selectors)))
    return selectors, bad
