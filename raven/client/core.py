"""One stream of one client, sans-IO: it takes bytes and `now`, and says what to do. No I/O, no clock, no task.

    CONNECTING --opened--> STREAMING --lost, silent, Goodbye--> BACKING_OFF --tick--> CONNECTING ...
                                     --Goodbye that says so, refusal--> ENDED
                                     --Draining, tick--> MOVING --moved--> STREAMING
                                                                --stayed, no more time--> STREAMING
                                                                --as of STREAMING--> ...

A shell does what `phase` asks for: dial and call `opened` or `lost`; read and call `received`; sleep until `wake_at` and call
`tick`. After each call it sends and delivers what was returned, and hangs up when it finds another phase than before.

While MOVING it goes on as while STREAMING, and makes another stream beside that: it dials, sends what `overlap` returns, and
gives what comes to the Overlap. Once that is ready, `moved` puts the new stream in the place of the old one, which is hung up
or may have ended meanwhile. An attempt that failed is told by `stayed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from random import Random
from typing import Any, Protocol

import attrs

from raven.client.backoff import Backoff, Reconnect
from raven.client.changes import Change, Connected, Lost, Moving, Refused, SlowWarned, Subscribed
from raven.client.controls import DRAINING, GOODBYE, HEARTBEAT, SLOW_WARNING, SUBSCRIBED, UNSUBSCRIBED, WELCOME
from raven.client.decode import Decoder
from raven.client.errors import ClientError, ServerUnavailable, SubscriptionRefused, stream_ended
from raven.client.events import StreamEvent
from raven.client.overlap import Overlap
from raven.client.tracking import Tracker
from raven.client.wire import DecodeError
from raven.client.wishes import Wishes
from raven.codec.generated.raven import v1

__all__ = ["Deliver", "Notice", "Output", "Phase", "Reader", "Send", "StreamCore"]

HEARTBEATS_MISSED_MAX = 3
"""Heartbeat intervals without any message after which the connection counts as dead."""

MOVE_MARGIN_S = 0.5
"""A client that is asked to move makes no attempt at it later than so long before the deadline."""

RETRIED = frozenset(
    {"OK", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Names of the gRPC statuses after which a stream that ended without a Goodbye is made again."""


class Phase(Enum):
    """What the shell is asked for."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    MOVING = "moving"
    BACKING_OFF = "backing off"
    ENDED = "ended"


@attrs.frozen
class Send:
    """Send this request."""

    data: bytes


@attrs.frozen
class Deliver:
    """Hand these events (or what the reader makes of them) to the program; `bookmark` stands behind them, None = unchanged."""

    events: Sequence[Any]
    bookmark: bytes | None = None


@attrs.frozen
class Notice:
    """Tell the program what has become of the connection."""

    change: Change


Output = Send | Deliver | Notice


class Reader(Protocol):
    """Reads messages."""

    def read(self, data: bytes, tracker: Tracker) -> tuple[Sequence[Any], Sequence[tuple[int, bytes]]]:
        """What of a message is new, and its controls. DecodeError when it is no message."""


class EventReader:
    """Reads messages as events, one by one."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def read(self, data: bytes, tracker: Tracker) -> tuple[Sequence[StreamEvent], Sequence[tuple[int, bytes]]]:
        """What of a message is new, and its controls."""
        message = self._decoder.decode(data)
        return tracker.admit(message.events, message.origins), message.controls


class StreamCore:
    """The state of one stream.

    Args:
        wishes: what is subscribed to.
        settings: how to come back.
        random: for jitter.
        target: the server, for messages.
        client_id: empty = the server makes one.
        bookmark: where an earlier stream was, to go on from there.
        reader: what becomes of a message; by default its events, one by one, as far as they are new.
    """

    def __init__(
        self,
        wishes: Wishes,
        settings: Reconnect,
        random: Random,
        *,
        target: str = "the server",
        client_id: str = "",
        bookmark: bytes = b"",
        reader: Reader | None = None,
    ) -> None:
        self.phase = Phase.CONNECTING
        self.wake_at: float | None = None
        self.error: ClientError | None = None
        self.bookmark = bookmark
        self.tracker = Tracker()
        self.wishes = wishes
        self._settings = settings
        self._backoff = Backoff(settings, random)
        self.target = target
        self._client_id = client_id
        self._reader = reader or EventReader()
        self._streams = 0  # that got their Welcome
        self._opened_at = 0.0
        self._since: float | None = None  # without a stream since then
        self._refused_since: float | None = None
        self._silence_s: float | None = None
        self._heard_at = 0.0
        self._move_at: float | None = None
        self._move_until = 0.0
        self._moves = Backoff(settings, random)
        self._welcomed = False

    @property
    def streaming(self) -> bool:
        """Whether there is a stream to be read."""
        return self.phase in (Phase.STREAMING, Phase.MOVING)

    @property
    def connect_s(self) -> float:
        """How long to wait for a connection, and then for the server's answer."""
        return self._settings.connect_s

    # ---- what the shell tells

    def opened(self, now: float) -> list[Output]:
        """A call of StreamMarketData stands."""
        self._begin(now)
        return [Send(data) for data in self._requests()]

    def overlap(self) -> tuple[list[bytes], Overlap]:
        """Another call stands beside the one that is read: what to send on it, and what takes its messages."""
        return self._requests(), Overlap(self.wishes)

    def moved(self, overlap: Overlap, now: float) -> list[Output]:
        """The call of `overlap`, which is ready, takes the place of the one that was read."""
        self._begin(now)
        outputs: list[Output] = []
        for message in overlap.messages:
            outputs += self.received(message, now) if self.streaming else []
        return outputs

    def stayed(self, now: float) -> float | None:
        """No call could be made beside the one that is read: in how many seconds to try it again, None = not any more."""
        if self.phase is not Phase.MOVING:
            return None
        pause_s = self._moves.next_s()
        if now + pause_s <= self._move_until:
            return pause_s
        self.phase = Phase.STREAMING
        return None

    def received(self, data: bytes, now: float) -> list[Output]:
        """One message of the call."""
        self._heard_at = now
        try:
            events, controls = self._reader.read(data, self.tracker)
            outputs: list[Output] = [Deliver(events)] if events else []
            for number, body in controls:
                outputs += self._control(number, body, now)
        except (DecodeError, ValueError, EOFError) as error:
            return self._back_off(f"what {self.target} sent cannot be read: {error}", now)
        if self._backoff.attempts and self._stable(now):
            self._backoff.reset()
        self._set_alarm()
        return outputs

    def lost(self, reason: str, now: float, status: str = "UNAVAILABLE") -> list[Output]:
        """The connection could not be made, or the call has ended, with this gRPC status."""
        if self.phase in (Phase.ENDED, Phase.BACKING_OFF):
            return []
        if self._replaced_by_itself(status):
            return self._left_early(now)
        if status not in RETRIED:
            return self._end(SubscriptionRefused("", reason) if status == "INVALID_ARGUMENT" else stream_ended(status, reason))
        return self._back_off(reason, now)

    def tick(self, now: float) -> list[Output]:
        """`wake_at` has come."""
        if self.wake_at is None or now < self.wake_at:
            return []
        if self.phase is Phase.BACKING_OFF:
            self.phase, self.wake_at = Phase.CONNECTING, None
            return []
        if not self.streaming:
            return []
        if self._move_at is not None and now >= self._move_at:
            self.phase, self._move_at = Phase.MOVING, None
            self._set_alarm()
            return []
        if not self._welcomed:
            return self._back_off(f"no answer from {self.target} within {self._settings.connect_s:g} s", now)
        return self._back_off(f"{self.target} has been silent for {now - self._heard_at:.1f} s", now)

    def resumed(self, now: float) -> None:
        """Nothing was read for a while, because the program did not take its events; so silence proves nothing."""
        self._heard_at = now
        self._set_alarm()

    # ---- what the server says

    def _control(self, number: int, body: bytes, now: float) -> list[Output]:
        if number == HEARTBEAT:
            return self._mark(v1.Heartbeat.parse(body).bookmark)
        if number == WELCOME:
            return self._welcome(v1.Welcome.parse(body), now)
        if number == SUBSCRIBED:
            return self._subscribed(v1.SubscribeResponse.parse(body), now)
        if number == DRAINING:
            return self._draining(v1.Draining.parse(body), now)
        if number == GOODBYE:
            return self._goodbye(v1.Goodbye.parse(body), now)
        if number == UNSUBSCRIBED:
            self._forget_unwanted()
        elif number == SLOW_WARNING:
            warning = v1.SlowWarning.parse(body)
            return [Notice(SlowWarned(warning.queued_bytes, warning.limit_bytes, warning.cleared))]
        return []

    def _forget_unwanted(self) -> None:
        """What comes later of a topic that nothing asks for any more begins anew."""
        self.tracker.forget(place.topic for place in self.tracker.points() if not self.wishes.matches(place.topic))

    def _welcome(self, welcome: v1.Welcome, now: float) -> list[Output]:
        self._welcomed = True
        self._streams += 1
        self._since = now
        if welcome.heartbeat_interval_ms:
            self._silence_s = HEARTBEATS_MISSED_MAX * welcome.heartbeat_interval_ms / 1000
        # An id that the server made up is not asked for again: the next server may have given it to somebody else.
        return [Notice(Connected(welcome.client_id, welcome.instance_id, welcome.server_version, self._streams))]

    def _mark(self, bookmark: bytes) -> list[Output]:
        if not bookmark:
            return []
        self.bookmark = bookmark
        self.wishes.marked()
        return [Deliver([], bookmark)]

    def _subscribed(self, answer: v1.SubscribeResponse, now: float) -> list[Output]:
        results = answer.results
        for result in results:
            if result.accepted:
                self.wishes.accepted(result.id)
                continue
            error = SubscriptionRefused(result.field, result.error)
            if not self.wishes.was_accepted(result.id):
                if self.wishes.is_late(result.id):
                    self.wishes.remove(result.id)
                    continue
                return self._end(error)
            self._refused_since = now if self._refused_since is None else self._refused_since
            if now - self._refused_since >= self._settings.refused_s:
                return self._end(error)
            return [Notice(Refused(str(error))), *self._back_off(str(error), now)]
        self._refused_since = None
        return [Notice(Subscribed(tuple(results)))]

    def _draining(self, draining: v1.Draining, now: float) -> list[Output]:
        marked = self._mark(draining.bookmark)
        if self.phase is Phase.MOVING or self._move_at is not None:
            return marked
        latest_s = max(draining.deadline_ms / 1000 - MOVE_MARGIN_S, 0.0)
        own_s = 0.0 if self._stable(now) else self._backoff.next_s()  # else it would run round servers that all drain
        pause_s = min(max(draining.retry_after_ms / 1000, own_s), latest_s)
        self._move_at, self._move_until = now + pause_s, now + latest_s
        self._moves.reset()
        return [*marked, Notice(Moving(draining.reason, pause_s))]

    def _goodbye(self, goodbye: v1.Goodbye, now: float) -> list[Output]:
        marked = self._mark(goodbye.bookmark)
        reason = goodbye.reason.name or str(int(goodbye.reason))
        if self._replaced_by_itself(reason):
            return [*marked, *self._left_early(now)]
        if not goodbye.reconnect:
            return [*marked, *self._end(stream_ended(reason, goodbye.text))]
        text = f"{self.target}: {reason.lower()}" + (f": {goodbye.text}" if goodbye.text else "")
        pause_s = goodbye.retry_after_ms / 1000 if goodbye.retry_after_ms else None
        return [*marked, *self._back_off(text, now, pause_s=pause_s)]

    def _replaced_by_itself(self, reason: str) -> bool:
        """Whether what took over this client_id is the stream that is being made here."""
        return self.phase is Phase.MOVING and reason in ("REPLACED", "ABORTED")

    def _left_early(self, now: float) -> list[Output]:
        """The old stream has ended and the next is on its way: nothing to tell. If it should fail, another is made at once."""
        self.phase, self.wake_at = Phase.BACKING_OFF, now
        return []

    # ---- from phase to phase

    def _begin(self, now: float) -> None:
        self.phase = Phase.STREAMING
        self._opened_at = self._heard_at = now
        self._silence_s, self._move_at, self._welcomed = None, None, False
        self._forget_unwanted()
        self.tracker.reconnected()
        self._set_alarm()

    def _requests(self) -> list[bytes]:
        """What a new stream begins with."""
        hello = v1.StreamMarketDataRequest(hello=v1.Hello(client_id=self._client_id))
        return [bytes(hello), *self.wishes.requests(self.bookmark, self.tracker.points())]

    def _stable(self, now: float) -> bool:
        return self._welcomed and now - self._opened_at >= self._settings.stable_s

    def _back_off(self, reason: str, now: float, pause_s: float | None = None) -> list[Output]:
        """Hang up, and come back after `pause_s`, by default the backoff's next. One that was short-lived waits for both."""
        stable = self._stable(now)
        if stable:
            self._backoff.reset()
        own_s = 0.0 if stable and pause_s is not None else self._backoff.next_s()
        wait_s = max(own_s, pause_s or 0.0)
        give_up_s = self._settings.give_up_s
        self._since = now if self._welcomed or self._since is None else self._since
        self._welcomed = False
        if give_up_s is not None and now + wait_s - self._since > give_up_s:
            return self._end(ServerUnavailable(reason))
        self.phase, self.wake_at = Phase.BACKING_OFF, now + wait_s
        return [Notice(Lost(reason, wait_s, self._backoff.attempts))]

    def _end(self, error: ClientError) -> list[Output]:
        self.phase, self.wake_at, self.error = Phase.ENDED, None, error
        return []

    def _set_alarm(self) -> None:
        if not self.streaming:
            return
        if not self._welcomed:
            alarms = [self._opened_at + self._settings.connect_s]
        elif self._silence_s is not None:
            alarms = [self._heard_at + self._silence_s]
        else:
            alarms = []
        if self._move_at is not None:
            alarms.append(self._move_at)
        self.wake_at = min(alarms, default=None)
