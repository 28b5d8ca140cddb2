"""What clients ask for, checked: generated messages into what the broker takes.

Every refusal is an InvalidValue that names the field as it is written in raven.proto, the value, and what would be valid.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from raven.broker import Subscription
from raven.broker.bookmark import Resume, parse_bookmark
from raven.broker.policy import Policy, check_delivery, delivery_of
from raven.codec.generated.raven import v1
from raven.errors import InvalidName, InvalidValue
from raven.model.topic import KINDS, Kind, Selector, check_selector_names

__all__ = [
    "SELECTORS_MAX",
    "check_client_id",
    "page",
    "parse_selector",
    "parse_selectors",
    "parse_subscription",
    "selector_message",
    "subscription_message",
]

SELECTORS_MAX = 100
"""Selectors in one request."""

SELECTORS_SHARED_MAX = 4096
ID_LENGTH_MAX = 64
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 1_000, 10_000

T = TypeVar("T")


def parse_selector(message: v1.TopicSelector | None, field: str, *, kinds_needed: bool) -> Selector:
    """The set of topics that a message names.

    Args:
        field: where it stands, for errors ("selectors[0]").
        kinds_needed: whether no kind is an error (else it means any).

    Raises:
        InvalidValue: naming the field.
    """
    if message is None:
        raise InvalidValue(field, None, "a selector with venue and symbol")
    try:
        check_selector_names(message.venue, message.symbol, message.variant)
    except InvalidName as error:
        raise error.within(field) from error
    if kinds_needed and not message.kinds:
        raise InvalidValue(f"{field}.kinds", [], f"at least one of {', '.join(_kind_names())}")
    kinds = frozenset(_parse_kind(kind, f"{field}.kinds[{index}]") for index, kind in enumerate(message.kinds))
    return _shared(Selector(message.venue, message.symbol, kinds, message.variant))


@lru_cache(maxsize=SELECTORS_SHARED_MAX)
def _shared(selector: Selector) -> Selector:
    """The first of all that are equal: most clients ask for the same, and a thousand of them keep it once."""
    return selector


def parse_selectors(
    messages: Sequence[v1.TopicSelector], *, empty_ok: bool = False, kinds_needed: bool = False
) -> list[Selector]:
    """All selectors of a request.

    Args:
        kinds_needed: whether no kind is an error (else it means any).

    Raises:
        InvalidValue: one of them, or how many they are.
    """
    if not messages and not empty_ok:
        raise InvalidValue("selectors", [], "at least one selector")
    if len(messages) > SELECTORS_MAX:
        raise InvalidValue("selectors", len(messages), f"at most {SELECTORS_MAX} in one request")
    return [parse_selector(message, f"selectors[{i}]", kinds_needed=kinds_needed) for i, message in enumerate(messages)]


def parse_subscription(message: v1.Subscription, name: Callable[[], str]) -> Subscription:
    """One subscription, named by `name` if it has no id.

    Raises:
        InvalidValue: naming the field within the subscription.
    """
    if len(message.id) > ID_LENGTH_MAX or not message.id.isprintable():
        raise InvalidValue("id", message.id, f"at most {ID_LENGTH_MAX} printable characters")
    policy = _parse_policy(message.slow_consumer_policy)
    selector = parse_selector(message.selector, "selector", kinds_needed=True)
    check_delivery(selector.kinds, policy, message.conflate_ms)
    resume = _parse_resume(message)
    if message.skip_image and Kind.BOOK in selector.kinds and resume is None:
        raise InvalidValue("skip_image", True, "false for books: a book needs its image or a resume point")
    return Subscription(message.id or name(), selector, message.skip_image, resume, policy, message.conflate_ms)


def check_client_id(client_id: str) -> str:
    """A client_id as a client may choose it.

    Raises:
        InvalidValue: too long, or with characters that cannot be printed.
    """
    if len(client_id) > ID_LENGTH_MAX or not client_id.isprintable():
        raise InvalidValue("client_id", client_id, f"at most {ID_LENGTH_MAX} printable characters")
    return client_id


def selector_message(selector: Selector) -> v1.TopicSelector:
    """A selector as a message."""
    kinds = [v1.Kind(int(kind)) for kind in sorted(selector.kinds)]
    return v1.TopicSelector(selector.venue, selector.symbol, kinds, selector.variant)


def subscription_message(subscription: Subscription) -> v1.Subscription:
    """A subscription as it is in force."""
    return v1.Subscription(
        selector=selector_message(subscription.selector),
        slow_consumer_policy=v1.SlowConsumerPolicy(_policy_in_force(subscription)),
        conflate_ms=subscription.conflate_ms,
        skip_image=subscription.skip_image,
        id=subscription.id,
    )


def _parse_resume(message: v1.Subscription) -> Resume | None:
    """Where it continues. What makes no sense is not refused: it cannot be continued, and that is told topic by topic."""
    if not message.resume and not message.bookmark:
        return None
    points = {_topic(point.topic): (point.epoch, point.sequence) for point in message.resume if point.topic is not None}
    return Resume(parse_bookmark(message.bookmark) if message.bookmark else None, points)


def _topic(topic: v1.Topic) -> tuple[str, str, int, str]:
    return topic.venue, topic.symbol, int(topic.kind), topic.variant


def _policy_in_force(subscription: Subscription) -> Policy:
    """What holds for all kinds of a subscription; DEFAULT where their defaults differ."""
    policies = {delivery_of(kind, subscription.policy, subscription.conflate_ms).policy for kind in subscription.selector.kinds}
    return policies.pop() if len(policies) == 1 else subscription.policy


def page(items: Sequence[T], key: Callable[[T], str], size: int, token: str) -> tuple[list[T], str]:
    """One page of `items`, in the order of their keys, and the token of the next ("" after the last).

    A token is the key of the last item that was read, so pages stay right while items come and go.

    Raises:
        InvalidValue: the token is none of ours.
    """
    after = _parse_token(token)
    rest = sorted((item for item in items if key(item) > after), key=key)
    count = min(size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    if len(rest) <= count:
        return rest, ""
    return rest[:count], base64.urlsafe_b64encode(key(rest[count - 1]).encode()).decode()


def _parse_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidValue("page_token", token, "empty, or the next_page_token of the answer before") from None


def _parse_policy(policy: int) -> Policy:
    try:
        return Policy(policy)
    except ValueError:
        valid = ", ".join(f"SLOW_CONSUMER_POLICY_{policy.name}" for policy in Policy if policy is not Policy.DEFAULT)
        raise InvalidValue("slow_consumer_policy", int(policy), f"one of {valid}, or unset") from None


def _parse_kind(kind: int, field: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise InvalidValue(field, int(kind), f"one of {', '.join(_kind_names())}") from None


def _kind_names() -> list[str]:
    return [f"KIND_{label.upper()}" for label in KINDS]
