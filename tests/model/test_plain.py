"""Fields of events and payloads, whichever way their class is made."""

from __future__ import annotations

import pytest

from raven.model.events import Bar, Event, Trade, payload_kinds
from raven.model.instrument import Instrument
from raven.model.plain import MISSING, defaults_of, has_fields, names_of


@pytest.mark.parametrize("cls", [*payload_kinds, Event])
def test_every_payload_has_fields_that_can_be_looked_into(cls: type) -> None:
    assert has_fields(cls)
    assert tuple(defaults_of(cls)) == names_of(cls)


def test_a_default_is_what_an_instance_has() -> None:
    assert defaults_of(Trade) == {name: getattr(Trade(), name) for name in names_of(Trade)}
    assert defaults_of(Bar) == {"candle": None, "values": {}}
    assert defaults_of(Bar)["values"] is not defaults_of(Bar)["values"]


def test_what_has_no_default_is_missing() -> None:
    assert [name for name, default in defaults_of(Event).items() if default is MISSING] == [
        "topic",
        "payload",
        "received_ts_ns",
    ]
    assert defaults_of(Instrument)["venue"] is MISSING
    assert not has_fields(int)
