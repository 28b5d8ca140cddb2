"""The topics and instruments that there are, and how to find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from raven.broker.ring import Ring, RingLimits
from raven.broker.topics import TopicState, TopicView
from raven.errors import nearest
from raven.model.events import State
from raven.model.instrument import Instrument
from raven.model.topic import Selector, Topic

__all__ = ["SELECTORS_REMEMBERED_MAX", "Directory"]

SELECTORS_REMEMBERED_MAX = 1_024
"""Selectors whose topics are kept together, until topics come or go."""

_topic_of = attrgetter("topic")


class Directory:
    """Topics and instruments of one server.

    Args:
        now_ns: wall clock.
        ring: how much of each feed is kept for clients that come back.
    """

    def __init__(self, now_ns: Callable[[], int], ring: RingLimits) -> None:
        self._now_ns = now_ns
        self._ring_limits = ring
        self.rings: dict[str, Ring] = {}  # by feed
        self._topics: dict[Topic, TopicState] = {}
        self._by_symbol: dict[tuple[str, str], list[TopicState]] = {}
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self._matched: dict[Selector, tuple[TopicState, ...]] = {}  # what selectors were found to match since topics changed
        self._venues: list[str] | None = None  # of the topics, when that is known
        self.find = self._topics.get  # the busiest call there is
        """The state of a topic, or None."""

    def add(self, topic: Topic, feed: str, epoch: int | None = None) -> TopicState:
        """A new topic, whose continuity begins now, or began with `epoch`."""
        now_ns = self._now_ns()
        epoch = now_ns // 1_000_000 if epoch is None else epoch
        state = self._topics[topic] = TopicState(topic, feed, epoch, now_ns, self.ring(feed))
        self._by_symbol.setdefault((topic.venue, topic.symbol), []).append(state)
        self._topics_changed()
        return state

    def remove(self, state: TopicState) -> None:
        """The topic is nobody's."""
        del self._topics[state.topic]
        self._by_symbol[state.topic.venue, state.topic.symbol].remove(state)
        self._topics_changed()

    def _topics_changed(self) -> None:
        self._matched.clear()
        self._venues = None

    def of_feed(self, feed: str) -> list[TopicState]:
        """All topics of a feed."""
        return [state for state in self._topics.values() if state.feed == feed]

    def adopt_ring(self, feed: str, epoch: int, first: int) -> Ring:
        """The recent events of a feed that an earlier server began."""
        ring = self.rings[feed] = Ring(feed, epoch, self._ring_limits, first)
        return ring

    def ring(self, feed: str) -> Ring:
        """The recent events of a feed."""
        ring = self.rings.get(feed)
        if ring is None:
            ring = self.rings[feed] = Ring(feed, self._now_ns() // 1_000_000, self._ring_limits)
        return ring

    def learn(self, instrument: Instrument) -> Instrument | None:
        """Keep a definition; returns the one that it takes the place of."""
        key = (instrument.venue, instrument.symbol)
        known = self._instruments.get(key)
        if known is None or known.venue_symbol == instrument.venue_symbol:
            self._instruments[key] = instrument
        return known

    def matching(self, selectors: Iterable[Selector]) -> Sequence[TopicState]:
        """The topics of any of `selectors`, in the order of their names."""
        selectors = list(selectors)
        if len(selectors) == 1:
            return self.matching_one(selectors[0])
        found = (state for topic, state in self._topics.items() if any(selector.matches(topic) for selector in selectors))
        return sorted(found, key=_topic_of)

    def matching_one(self, selector: Selector) -> tuple[TopicState, ...]:
        """The topics of one selector, in the order of their names. Remembered: many clients have the same, and ask twice."""
        found = self._matched.get(selector)
        if found is None:
            states = self._of_exact(selector) if selector.exact else self._of_pattern(selector)
            if len(self._matched) >= SELECTORS_REMEMBERED_MAX:
                self._matched.clear()
            found = self._matched[selector] = tuple(sorted(states, key=_topic_of))
        return found

    def _of_pattern(self, selector: Selector) -> list[TopicState]:
        return [state for topic, state in self._topics.items() if selector.matches(topic)]

    def _of_exact(self, selector: Selector) -> list[TopicState]:
        """The topics of a selector that names one symbol, of thousands that there may be."""
        known = self._by_symbol.get((selector.venue, selector.symbol), ())
        return [state for state in known if selector.matches(state.topic)]

    def latest(self, selectors: Iterable[Selector]) -> Iterator[bytes]:
        """Per matching topic its status, then its image, as `events` elements."""
        for state in self.matching(selectors):
            yield state.status_element(self._now_ns())
            image = state.image()
            if image is not None:
                yield image

    def views(self, selectors: Iterable[Selector]) -> list[TopicView]:
        """The matching topics as they stand, in the order of their names."""
        return [state.view() for state in self.matching(selectors)]

    def instruments(self) -> list[Instrument]:
        """All known definitions, in the order of venue and symbol."""
        return [self._instruments[key] for key in sorted(self._instruments)]

    @property
    def venues(self) -> list[str]:
        """The venues that have topics."""
        if self._venues is None:
            self._venues = sorted({topic.venue for topic in self._topics})
        return self._venues

    def explain_missing(self, selector: Selector) -> tuple[str, str]:
        """Which field of a selector names what is not there, and what would be valid; two empty texts when it is all there.

        Patterns may match nothing yet; names must be known.
        """
        if selector.exact and (found := self._of_exact(selector)) and {state.topic.kind for state in found} >= selector.kinds:
            return "", ""
        if selector.venue != "*" and selector.venue not in self.venues:
            return "venue", f"{selector.venue!r} is not served: {nearest(selector.venue, self.venues)}"
        if not selector.exact:
            return "", ""
        at_venue = [topic for topic in self._topics if topic.venue == selector.venue]
        of_symbol = [topic for topic in at_venue if topic.symbol == selector.symbol]
        if not of_symbol:
            return "symbol", f"{selector.symbol!r} is not carried: {nearest(selector.symbol, {t.symbol for t in at_venue})}"
        for kind in sorted(selector.kinds):
            if not any(topic.kind is kind for topic in of_symbol):
                labels = ", ".join(sorted({topic.kind.label for topic in of_symbol}))
                return "kinds", f"{kind.label} is not carried for {selector.symbol}; valid: {labels}"
            if not any(selector.matches(topic) for topic in of_symbol if topic.kind is kind):
                variants = ", ".join(sorted({topic.variant for topic in of_symbol if topic.kind is kind}))
                return "variant", f"{selector.variant!r} of {kind.label} is not carried; valid: {variants}"
        return "", ""

    def sequences(self) -> Counter[tuple[str, str]]:
        """Events that were published, by (venue, label of the kind)."""
        events: Counter[tuple[str, str]] = Counter()
        for topic, state in self._topics.items():
            events[topic.venue, topic.kind.label] += state.sequence
        return events

    def states(self) -> Mapping[str, int]:
        """How many topics are in which state."""
        return Counter(State(state.status.state).name.lower() for state in self._topics.values())

    def __iter__(self) -> Iterator[TopicState]:
        """All topics; they may come and go meanwhile."""
        return iter(list(self._topics.values()))

    def __len__(self) -> int:
        return len(self._topics)
