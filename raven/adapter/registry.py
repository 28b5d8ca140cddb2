"""Adapters, found by the entry-point group `raven.adapters`.

Finding is cheap and imports nothing; loading imports one package. What cannot be used is refused by name, with one line, and
never stands in the way of the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import attrs

from raven.adapter.contract import ADAPTER_API, Adapter, Capabilities
from raven.errors import AdapterNotFound, AdapterRefused, nearest

__all__ = ["GROUP", "AdapterEntry", "find_adapters", "load_adapter"]

GROUP = "raven.adapters"


@attrs.frozen
class AdapterEntry:
    """One name under the group, before anything of it is imported.

    Args:
        name: of the entry point, as a feed's `adapter` key has it.
        distribution: the package that offers it.
        version: of that package.
        target: "package.module:object".
        rivals: other packages that offer the same name; with any, none of them is used.
    """

    name: str
    distribution: str
    version: str
    target: str
    rivals: tuple[str, ...] = ()
    entry: EntryPoint | None = attrs.field(default=None, repr=False, eq=False)


def find_adapters(points: Iterable[EntryPoint] | None = None) -> dict[str, AdapterEntry]:
    """All names under the group, in order. `points` stands in for what is installed."""
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=GROUP) if points is None else points:
        if _distribution(point) not in map(_distribution, found[point.name]):  # an editable install can list a package twice
            found[point.name].append(point)
    return {name: _entry(name, found[name]) for name in sorted(found)}


def load_adapter(name: str, points: Iterable[EntryPoint] | None = None) -> Adapter:
    """The adapter of that name, imported and checked.

    Raises:
        AdapterNotFound: nothing installed offers it; names the nearest.
        AdapterRefused: it is there and cannot be used; says why.
    """
    found = find_adapters(points)
    if name not in found:
        raise AdapterNotFound(f"no installed package offers the adapter {name!r}: {nearest(name, found)}")
    return check_adapter(found[name])


def check_adapter(entry: AdapterEntry) -> Adapter:
    """Import `entry` and hold it against what a server needs of it.

    Raises:
        AdapterRefused: it cannot be used; says why.
    """
    adapter = import_adapter(entry)
    if not (isinstance(adapter.options_type, type) and attrs.has(adapter.options_type)):
        raise AdapterRefused(
            f"adapter {entry.name!r} of {entry.distribution}: the options_type of {entry.target} is no attrs class"
        )
    return adapter


def import_adapter(entry: AdapterEntry) -> Adapter:
    """The adapter at `entry`, one with the contract's own parts, for those who look at the rest themselves.

    Raises:
        AdapterRefused: it is none; says why.
    """
    if entry.rivals:
        packages = ", ".join((entry.distribution, *entry.rivals))
        raise AdapterRefused(f"adapter {entry.name!r} is offered by more than one package ({packages}): uninstall all but one")
    assert entry.entry is not None
    try:
        loaded = entry.entry.load()
        adapter = loaded() if isinstance(loaded, type) else loaded
    except (Exception, SystemExit) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())  # some have paragraphs; a refusal is one line
        raise AdapterRefused(
            f"adapter {entry.name!r} of {entry.distribution} {entry.version} fails to import: {text}"
        ) from error
    level = getattr(adapter, "api", None)
    if level != ADAPTER_API:
        raise AdapterRefused(
            f"adapter {entry.name!r} of {entry.distribution} {entry.version} is written for adapter API {level}, "
            f"this Raven has {ADAPTER_API}: install a version of it that fits"
        )
    if not isinstance(adapter, Adapter):
        raise AdapterRefused(f"adapter {entry.name!r} of {entry.distribution}: {entry.target} is no raven.adapter.Adapter")
    if not isinstance(getattr(adapter, "capabilities", None), Capabilities):
        raise AdapterRefused(f"adapter {entry.name!r} of {entry.distribution}: {entry.target} declares no capabilities")
    return adapter


def _entry(name: str, points: list[EntryPoint]) -> AdapterEntry:
    described = [(_distribution(point), point) for point in points]
    (distribution, version), first = described[0]
    rivals = tuple(other for (other, _), _ in described[1:])
    return AdapterEntry(name, distribution, version, first.value, rivals, first)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "0")
