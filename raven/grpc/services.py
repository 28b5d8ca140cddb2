"""The services of raven.proto. Thin: they check what was asked, ask the broker, and say what it said.

What the server does not serve answers UNIMPLEMENTED, from the generated base classes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import Any, Protocol

import structlog
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from raven.broker import Broker
from raven.broker.outbox import MESSAGE_BYTES_MAX
from raven.broker.topics import TopicView
from raven.codec.generated.raven import v1
from raven.codec.payloads import encode_payload
from raven.errors import InvalidValue, RequestError, nearest
from raven.grpc.history import HistoricalData
from raven.grpc.requests import check_client_id, page, parse_selectors, subscription_message
from raven.grpc.stream import ClientStreams
from raven.grpc.subscribing import encode_control, parse_unsubscribe, result_messages, subscribe_all
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Selector, Topic, check_selector_names

__all__ = ["MarketDataService", "Observer", "observed"]

log = structlog.stdlib.get_logger("raven.grpc")

Call = Callable[[Any], Awaitable[None]]

STREAMS = frozenset({"StreamMarketData", "WatchMarketData", "GetHistoricalData"})
"""Calls that last as long as their client likes."""


class Observer(Protocol):
    """Who counts calls (raven.instruments.Instruments)."""

    def response(self, method: str, seconds: float) -> None:
        """One answer took so long."""

    def error(self, component: str, kind: str, amount: int = 1) -> None:
        """One error of a kind."""


class MarketDataService(v1.MarketDataServiceBase):
    """raven.v1.MarketDataService."""

    def __init__(self, broker: Broker, streams: ClientStreams, historical: HistoricalData) -> None:
        self._broker = broker
        self._streams = streams
        self._historical = historical

    def __mapping__(self) -> dict[str, Handler]:
        """The generated one, with the calls that write joined bytes in place of those that build messages."""
        own = {
            "StreamMarketData": self._streams.stream_market_data,
            "WatchMarketData": self._streams.watch_market_data,
            "GetLatest": self._get_latest,
            "GetHistoricalData": self._historical.get_historical_data,
        }
        mapping = super().__mapping__()
        for name, call in own.items():
            path = f"/raven.v1.MarketDataService/{name}"
            mapping[path] = mapping[path]._replace(func=call)
        return mapping

    async def _get_latest(self, stream: Any) -> None:
        request = await stream.recv_message()
        selectors = parse_selectors(request.selectors)
        self._check_known(selectors)
        await stream.send_initial_metadata()
        for message in _joined(self._broker.directory.latest(selectors)):
            await stream.send_message(message)

    async def subscribe(self, message: v1.SubscribeRequest) -> v1.SubscribeResponse:
        """Subscribe for a client_id: in its stream if it is connected, at its next restore if it is not."""
        client_id = _needed_client_id(message.client_id)
        client = self._broker.clients.get(client_id)
        if client is None:
            outcomes = subscribe_all(
                message.subscriptions, self._name_kept(client_id), partial(self._broker.clients.keep, client_id)
            )
            return v1.SubscribeResponse(result_messages(outcomes), message.request_id)
        outcomes = subscribe_all(
            message.subscriptions, client.name_subscription, partial(self._broker.clients.subscribe, client)
        )
        answer = v1.SubscribeResponse(result_messages(outcomes), message.request_id)
        client.outbox.put_control(encode_control(subscribed=answer))
        for result, subscription in outcomes:
            if result.accepted and subscription is not None:
                self._broker.clients.put_images(client, subscription)
        client.outbox.flush()
        return answer

    async def unsubscribe(self, message: v1.UnsubscribeRequest) -> v1.UnsubscribeResponse:
        """The opposite; what the client's stream is told comes behind the last event of what was removed."""
        client_id = _needed_client_id(message.client_id)
        selectors, bad = parse_unsubscribe(message)
        client = self._broker.clients.get(client_id)
        if client is None:
            removed, unknown = self._broker.clients.unkeep(client_id, message.ids, selectors)
            return v1.UnsubscribeResponse(removed, unknown + bad, message.request_id)
        removed, unknown = self._broker.clients.unsubscribe(client, message.ids, selectors)
        answer = v1.UnsubscribeResponse(removed, unknown + bad, message.request_id)
        client.outbox.put_control(encode_control(unsubscribed=answer))
        client.outbox.flush()
        return answer

    async def list_subscriptions(self, message: v1.ListSubscriptionsRequest) -> v1.ListSubscriptionsResponse:
        """Of one client_id, or of all: connected, and away with subscriptions that are kept."""
        ids = self._broker.clients.ids()
        wanted = [client_id for client_id in ids if message.client_id in ("", client_id)]
        shown, token = page(wanted, str, message.page_size, message.page_token)
        return v1.ListSubscriptionsResponse([self._subscriptions_entry(client_id) for client_id in shown], token)

    def _subscriptions_entry(self, client_id: str) -> v1.ListSubscriptionsResponseEntry:
        client = self._broker.clients.get(client_id)
        subscriptions = client.subscriptions.values() if client is not None else self._broker.clients.kept(client_id)
        messages = [subscription_message(subscription) for subscription in subscriptions]
        return v1.ListSubscriptionsResponseEntry(client_id, client is not None, messages)

    def _name_kept(self, client_id: str) -> Callable[[], str]:
        """Ids for subscriptions of a client that is away: none that it has already."""
        taken = {subscription.id for subscription in self._broker.clients.kept(client_id)}
        names = (f"sub-{number}" for number in count(1))
        return lambda: next(name for name in names if name not in taken)

    async def list_topics(self, message: v1.ListTopicsRequest) -> v1.ListTopicsResponse:
        """Topics that are configured or live, in the order of their names."""
        selectors = parse_selectors(message.selectors, empty_ok=True)
        self._check_known(selectors)
        views = self._broker.directory.views(selectors or [Selector("*", "*", variant="*")])
        shown, token = page(views, lambda view: str(view.topic), message.page_size, message.page_token)
        return v1.ListTopicsResponse([_topic_entry(view) for view in shown], token)

    async def list_instruments(self, message: v1.ListInstrumentsRequest) -> v1.ListInstrumentsResponse:
        """Definitions that venues have given, in the order of venue and symbol."""
        venue, symbol = message.venue or "*", message.symbol or "*"
        check_selector_names(venue, symbol, "")
        if venue != "*" and venue not in self._broker.directory.venues:
            raise InvalidValue("venue", venue, nearest(venue, self._broker.directory.venues))
        selector = Selector(venue, symbol)
        found = [i for i in self._broker.directory.instruments() if selector.matches(_instrument_topic(i))]
        shown, token = page(found, lambda i: f"{i.venue}/{i.symbol}", message.page_size, message.page_token)
        return v1.ListInstrumentsResponse([_instrument_message(i) for i in shown], token)

    def _check_known(self, selectors: Iterable[Selector]) -> None:
        for index, selector in enumerate(selectors):
            field, error = self._broker.directory.explain_missing(selector)
            if error:
                raise RequestError("INVALID_ARGUMENT", f"selectors[{index}].{field}: {error}")


def observed(mapping: dict[str, Handler], observer: Observer) -> dict[str, Handler]:
    """The same calls with their errors turned into statuses, counted, and timed; streams of events only counted."""
    return {path: handler._replace(func=_observed(handler.func, path, observer)) for path, handler in mapping.items()}


def _observed(call: Call, path: str, observer: Observer) -> Call:
    method = path.rpartition("/")[2]

    async def run(stream: Any) -> None:
        started = time.perf_counter()
        try:
            await call(stream)
        except GRPCError as error:
            observer.error("grpc", error.status.name.lower())
            if error.status is Status.UNIMPLEMENTED and not error.message:
                raise GRPCError(Status.UNIMPLEMENTED, f"{method} is not served by this server") from None
            raise
        except RequestError as error:
            observer.error("grpc", error.code.lower())
            raise GRPCError(Status[error.code], str(error)) from error
        except InvalidValue as error:
            observer.error("grpc", "invalid_argument")
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        except StreamTerminatedError:
            raise  # the client has gone
        except Exception as error:
            observer.error("grpc", "internal")
            log.exception("a call failed", method=method)
            raise GRPCError(Status.INTERNAL, f"{method} failed in the server: {type(error).__name__}") from error
        finally:
            if method not in STREAMS:
                observer.response(method, time.perf_counter() - started)

    return run


def _joined(elements: Iterator[bytes]) -> Iterator[bytes]:
    """Messages of at most MESSAGE_BYTES_MAX bytes, unless one element alone is longer."""
    taken: list[bytes] = []
    size = 0
    for element in elements:
        if taken and size + len(element) > MESSAGE_BYTES_MAX:
            yield b"".join(taken)
            taken, size = [], 0
        taken.append(element)
        size += len(element)
    if taken:
        yield b"".join(taken)


def _needed_client_id(client_id: str) -> str:
    if not check_client_id(client_id):
        raise InvalidValue("client_id", client_id, "the client_id of a stream, as its Hello had it or its Welcome told it")
    return client_id


def _topic_entry(view: TopicView) -> v1.ListTopicsResponseEntry:
    topic, status = view.topic, view.status
    return v1.ListTopicsResponseEntry(
        topic=v1.Topic(topic.venue, topic.symbol, v1.Kind(int(topic.kind)), topic.variant),
        status=v1.TopicStatus(
            v1.TopicStatusState(int(status.state)), v1.TopicStatusCause(int(status.cause)), status.text, status.since_ts_ns
        ),
        epoch=view.epoch,
        sequence=view.sequence,
        subscribers=view.subscribers,
    )


def _instrument_topic(instrument: Instrument) -> Topic:
    return Topic(instrument.venue, instrument.symbol, Kind.INSTRUMENT)


def _instrument_message(instrument: Instrument) -> v1.Instrument:
    """By way of the encoder, which knows every field."""
    event = v1.MarketEvent.parse(encode_payload(instrument))
    assert event.instrument is not None
    return event.instrument
