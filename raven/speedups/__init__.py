"""The busiest few steps of an event's way, compiled where that can be had; else their twins in Python do the same.

Whoever has a twin looks at `compiled` each time it makes an object, so that a test can have either (`raven.adapter.columns`, a
function that every frame calls, is chosen once). What is compiled is in `_speedups.pyx`, which `hatch_build.py` builds when the
package is installed; what it brings is in docs/benchmarks.md.
"""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raven.speedups import _speedups

__all__ = ["PURE", "SOURCE", "Compiled", "compiled", "missing", "source_mark"]

PURE = "RAVEN_PURE"
"""Environment variable: anything but nothing = use the twins in Python, and build nothing."""

SOURCE = Path(__file__).with_name("_speedups.pyx")

_K = TypeVar("_K")


class SendAll(Protocol):
    """Of `raven.broker.audience`."""

    def __call__(self, lanes: dict[_K, Any], message: bytes) -> list[_K]:
        """The keys of those that did not take the message."""


class Compiled(NamedTuple):
    """What there is, by the names of the twins.

    Args:
        columns: of `raven.adapter.columns`.
        Side: of `raven.model.book`.
        ElementEncoder: of `raven.codec.encoder`.
        Lane: of `raven.grpc.lane`.
        send_all: of `raven.broker.audience`.
    """

    columns: Callable[[Sequence[tuple[float, float]]], tuple[tuple[float, ...], tuple[float, ...]]]
    Side: type[_speedups.Side]
    ElementEncoder: type[_speedups.ElementEncoder]
    Lane: type[_speedups.Lane]
    send_all: SendAll


def source_mark(source: bytes) -> str:
    """What an extension remembers of the source that it was built from."""
    return hashlib.sha256(source).hexdigest()[:16]


def _load() -> tuple[Compiled | None, str]:
    """What there is, or why there is nothing."""
    if os.environ.get(PURE):
        return None, f"{PURE} is set"
    try:
        module = import_module("raven.speedups._speedups")
    except ImportError as error:
        return None, f"not built: {error}"
    if SOURCE.is_file() and source_mark(SOURCE.read_bytes()) != module.BUILT_FROM:
        return None, "built from another source than it stands beside: install the package again"
    return Compiled(module.columns, module.Side, module.ElementEncoder, module.Lane, module.send_all), ""


compiled, missing = _load()
