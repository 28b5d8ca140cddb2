"""What stands at the entry point."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from raven.adapter import GROUP, FeedSpec, Kind, Topic, load_adapter
from raven.errors import ConfigError
from raven.structure import structure
from raven_example import ExampleAdapter, ExampleOptions
from raven_example.session import CHANNELS

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_entry_point_leads_to_an_adapter() -> None:
    """As Raven finds it, but from pyproject.toml, so that nothing need be installed."""
    offered = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"][GROUP]
    for name, target in offered.items():
        assert isinstance(load_adapter(name, [EntryPoint(name, target, GROUP)]), ExampleAdapter)


def test_one_connection_carries_everything() -> None:
    topics = (Topic("example", "BTC-USD", Kind.TRADE), Topic("example", "ETH-USD", Kind.QUOTE))
    (connection,) = ExampleAdapter().connections(FeedSpec("example", topics, ExampleOptions("ws://127.0.0.1:9000")))
    assert (connection.url, connection.topics) == ("ws://127.0.0.1:9000", topics)


def test_capabilities_are_what_the_session_feeds() -> None:
    assert ExampleAdapter.capabilities.kinds == set(CHANNELS)


def test_bad_option_names_itself() -> None:
    with pytest.raises(ConfigError, match=r"^feeds\[0\].options.ws_url: 'http://x' is not valid: an address that begins with"):
        structure(ExampleOptions, {"ws_url": "http://x"}, "feeds[0].options")
