"""A command line in an empty directory, with an environment that says nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the test."""
    for name in list(os.environ):
        if name.startswith(("RAVEN_", "RUST_", "SERVER_", "HEALTH_", "METRICS_")) or name == "NO_COLOR":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
