"""What `raven adapter check sim` plays: two seconds of the simulated venue, and the events that came when it was written.

Found by the entry point in the group `raven.conformance`; a server never imports it. The numbers of a seed are a promise to
whoever compares runs: a change of them shows here. `python -m raven_sim.conformance` writes the events anew.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from raven.adapter import Kind, Topic
from raven.testing import ConformanceKit, LateSubscription, Scenario, events_of, open_session, play, read_events, write_events
from raven_sim.adapter import SimAdapter
from raven_sim.topics import INTERVALS_NS

__all__ = ["kit"]

EVENTS = Path(__file__).with_name("conformance.events.gz")
START_NS = 1_700_000_000_300_000_000

TOPICS = (
    *(Topic("sim", "BTC-USDT", kind) for kind in (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.TICKER, Kind.INSTRUMENT)),
    *(Topic("sim", "BTC-USDT", Kind.CANDLE, interval) for interval in INTERVALS_NS),
)
LATE = LateSubscription(START_NS + 1_000_000_000, (Topic("sim", "ETH-USDT-PERP", Kind.TRADE),))

SCENARIO = Scenario(topics=TOPICS, options={"seed": 7, "rate": 5, "burst": 2}, late=[LATE], start_ns=START_NS, run_s=2.0)


def kit() -> ConformanceKit:
    """The scenario with its events."""
    return ConformanceKit([attrs.evolve(SCENARIO, events=read_events(EVENTS))])


if __name__ == "__main__":
    write_events(EVENTS, events_of(play(open_session(SimAdapter(), SCENARIO), SCENARIO)))
