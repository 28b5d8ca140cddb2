"""What `raven replay` says at its end."""

from __future__ import annotations

import pytest

from raven.cli.replay import _result
from raven.replay_app import Progress

AT_NS = 1_796_077_492_000_000_000


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress("over", AT_NS, 12, 0, {}, True), "12 events were told"),
        (Progress("playing", AT_NS, 1_234, 1, {}, True), "1,234 events were told, up to 2026-11-30 22:24:52.000 UTC"),
        (Progress("waiting for clients", 0, 1, 0, {}, True), "1 events were told"),
    ],
)
def test_how_far_it_came(progress: Progress, said: str) -> None:
    assert _result(progress) == said
