"""A simulated feed, driven by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from raven.adapter import Event, FeedSpec, Output, Session, Topic, Wakeup
from raven_sim import SimAdapter, SimOptions

START_NS = 1_700_000_000_000_000_000

T = TypeVar("T")


class Drive:
    """Runs one session through its own wake-ups. `outputs` holds what each call returned, that of `on_connect` first."""

    def __init__(self, topics: Sequence[Topic], start_ns: int = START_NS, **options: Any) -> None:
        adapter = SimAdapter()
        self.feed = FeedSpec("sim", tuple(topics), SimOptions(**options))
        self.session: Session = adapter.session(self.feed, adapter.connections(self.feed)[0], {})
        self.now_ns = start_ns
        self.outputs: list[Sequence[Output]] = [self.session.on_connect(start_ns)]

    def wake(self, times: int = 1, late_ns: int = 0) -> Drive:
        """Follow the last Wakeup, each time `late_ns` late."""
        for _ in range(times):
            self.wake_at(self.now_ns + self.last(Wakeup)[-1].after_ns + late_ns)
        return self

    def wake_at(self, now_ns: int) -> Drive:
        """Wake up when the clock says `now_ns`."""
        self.now_ns = now_ns
        self.outputs.append(self.session.on_wakeup(now_ns))
        return self

    def last(self, kind: type[T]) -> list[T]:
        """Of what the last call returned."""
        return [output for output in self.outputs[-1] if isinstance(output, kind)]

    def events(self, *topics: Topic) -> list[Event]:
        """All events so far, or those of `topics`."""
        events = [output for outputs in self.outputs for output in outputs if isinstance(output, Event)]
        return [event for event in events if not topics or event.topic in topics]

    def payloads(self, *topics: Topic) -> list[Any]:
        """What these events say."""
        return [event.payload for event in self.events(*topics)]


@pytest.fixture(scope="session")
def drive() -> Callable[..., Drive]:
    """Makes a Drive from topics and options."""
    return Drive
