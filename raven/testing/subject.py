"""An adapter under check, and what it is checked with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from raven.adapter import Adapter, Event, Kind, Topic
from raven.errors import AdapterFault, ConfigError, InvalidValue
from raven.testing.driver import Step, connection_of, events_of, open_session, play
from raven.testing.kit import ConformanceKit, Scenario

__all__ = ["Subject"]

# Where there is no kit: one of these is a symbol of nearly every venue.
SYMBOLS = ("BTC-USDT", "BTC-USD", "BTC-USDT-PERP", "BTC-USD-PERP:BTC", "BTC-USD-PERP", "BTC-EUR")
RUN_S = 5.0


@attrs.define(eq=False)
class Subject:
    """An adapter under check.

    Args:
        name: of its entry point.
        kit: None where its package offers none: then the rules that need no golden data are held against a feed that is
            made up from its capabilities.
    """

    name: str
    adapter: Adapter
    kit: ConformanceKit | None = None
    _made_up: Scenario | str | None = attrs.field(default=None, init=False, repr=False)
    _clean: dict[int, list[Step]] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def package(self) -> str:
        """The import package that the adapter is in."""
        return type(self.adapter).__module__.partition(".")[0]

    def scenarios(self) -> tuple[Scenario, ...]:
        """Of the kit, or the one that is made up; none where nothing can be made up, and `obstacle` says why."""
        if self.kit is not None:
            return self.kit.scenarios
        made_up = self._make_up()
        return (made_up,) if isinstance(made_up, Scenario) else ()

    @property
    def obstacle(self) -> str:
        """Why there are no scenarios."""
        made_up = self._make_up() if self.kit is None else ""
        return made_up if isinstance(made_up, str) else ""

    def clean(self, scenario: Scenario) -> list[Step]:
        """The scenario played as it is; once.

        Raises:
            AdapterFault: the session raised, or returned what is no output.
        """
        key = id(scenario)
        if key not in self._clean:
            self._clean[key] = play(open_session(self.adapter, scenario), scenario)
        return self._clean[key]

    def clean_events(self) -> Iterator[tuple[Scenario, Event]]:
        """Every event of every scenario as it is."""
        for scenario in self.scenarios():
            for event in events_of(self.clean(scenario)):
                yield scenario, event

    def hears(self) -> bool:
        """Whether a scenario's connection has an address; without one no frames come."""
        return any(connection_of(self.adapter, scenario).url is not None for scenario in self.scenarios())

    def _make_up(self) -> Scenario | str:
        if self._made_up is None:
            self._made_up = made_up_scenario(self.adapter)
        return self._made_up


def made_up_scenario(adapter: Adapter) -> Scenario | str:
    """A feed of one symbol with all that the adapter declares; or why it cannot be."""
    reason = "it declares no kinds"
    for symbol in SYMBOLS if adapter.capabilities.kinds else ():
        scenario = Scenario(_topics(adapter, symbol), name="made up", run_s=RUN_S)
        try:
            connections = adapter.connections(scenario.feed(adapter))
            return attrs.evolve(scenario, connection=connections[0].name) if connections else "it makes no connection"
        except ConfigError as error:
            return f"without a kit its options are unknown: {error}"
        except (InvalidValue, AdapterFault) as error:
            reason = f"without a kit its symbols are unknown: {error}"
    return reason


def _topics(adapter: Adapter, symbol: str) -> Sequence[Topic]:
    capabilities = adapter.capabilities
    return [
        Topic("venue", symbol, kind, variant)
        for kind in sorted(capabilities.kinds)
        for variant in (capabilities.intervals[:1] if kind is Kind.CANDLE else ("",))
    ]
