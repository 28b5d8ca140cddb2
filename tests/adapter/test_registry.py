"""What cannot be used is refused by name with one line, and the rest is there."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError
from typing import Any, ClassVar

import pytest

from raven.adapter import GROUP, Adapter, Capabilities, Kind, find_adapters, load_adapter
from raven.adapter.registry import check_adapter
from raven.errors import AdapterNotFound, AdapterRefused
from tests.testing.toy import ToyAdapter

MODULE = "toy_package_of_test_registry"


class OldAdapter(ToyAdapter):
    api: ClassVar[int] = 0


class NewAdapter(ToyAdapter):
    api: ClassVar[int] = 2


class NoLevel:
    capabilities = Capabilities(frozenset({Kind.TRADE}))


class RightLevel:
    api = 1


class Raising(ToyAdapter):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Leaving(ToyAdapter):
    def __init__(self) -> None:
        sys.exit("no licence:\n\n\tbuy one")


class NothingDeclared(Adapter):
    api: ClassVar[int] = 1
    connections = ToyAdapter.connections
    session = ToyAdapter.session


class OddOptions(ToyAdapter):
    options_type: ClassVar[type] = dict


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    made: Any = types.ModuleType(MODULE)
    for cls in (ToyAdapter, OldAdapter, NewAdapter, NoLevel, RightLevel, Raising, Leaving, NothingDeclared, OddOptions):
        setattr(made, cls.__name__, cls)
    made.instance = ToyAdapter()
    sys.modules[MODULE] = made
    yield
    del sys.modules[MODULE]


class Package(Distribution):
    """An installed package that is not installed."""

    def __init__(self, name: str, version: str = "1.0") -> None:
        self._name, self._version = name, version

    def read_text(self, filename: str) -> str | None:
        return f"Name: {self._name}\nVersion: {self._version}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise PackageNotFoundError(path)


def point(name: str, target: str = "ToyAdapter", package: str = "raven-toy", module: str = MODULE) -> EntryPoint:
    made = EntryPoint(name, f"{module}:{target}", GROUP)
    vars(made).update(dist=Package(package))
    return made


def refusal(*points: EntryPoint) -> str:
    """The one line by which the first of these is refused, while a good one beside it can be used."""
    good = point("good", package="raven-good")
    assert isinstance(load_adapter("good", [*points, good]), ToyAdapter)
    with pytest.raises(AdapterRefused) as caught:
        load_adapter(points[0].name, [*points, good])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("target", ["ToyAdapter", "instance"])
def test_a_class_or_an_instance(target: str) -> None:
    assert isinstance(load_adapter("toy", [point("toy", target)]), Adapter)


def test_finding_imports_nothing_and_sorts() -> None:
    found = find_adapters([point("b", module="not_there"), point("a", "Missing")])
    assert list(found) == ["a", "b"]
    assert (found["b"].distribution, found["b"].version, found["b"].target) == ("raven-toy", "1.0", "not_there:ToyAdapter")


@pytest.mark.parametrize(("target", "level"), [("OldAdapter", "0"), ("NewAdapter", "2"), ("NoLevel", "None")])
def test_another_api_level(target: str, level: str) -> None:
    assert refusal(point("toy", target)) == (
        f"adapter 'toy' of raven-toy 1.0 is written for adapter API {level}, this Raven has 1: "
        "install a version of it that fits"
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (point("toy", module="no_such_module_of_raven"), "ModuleNotFoundError: No module named 'no_such_module_of_raven'"),
        (point("toy", "Missing"), f"AttributeError: module '{MODULE}' has no attribute 'Missing'"),
        (point("toy", "Raising"), "RuntimeError: no licence"),
        (point("toy", "Leaving"), "SystemExit: no licence: buy one"),
    ],
)
def test_one_that_fails_to_import(broken: EntryPoint, why: str) -> None:
    assert refusal(broken) == f"adapter 'toy' of raven-toy 1.0 fails to import: {why}"


def test_an_object_that_is_no_adapter() -> None:
    assert refusal(point("toy", "RightLevel")) == (
        f"adapter 'toy' of raven-toy: {MODULE}:RightLevel is no raven.adapter.Adapter"
    )


def test_an_adapter_that_does_not_say_what_it_can_do() -> None:
    assert refusal(point("toy", "NothingDeclared")) == (
        f"adapter 'toy' of raven-toy: {MODULE}:NothingDeclared declares no capabilities"
    )
    assert refusal(point("toy", "OddOptions")) == (
        f"adapter 'toy' of raven-toy: the options_type of {MODULE}:OddOptions is no attrs class"
    )


def test_two_packages_with_one_name() -> None:
    assert refusal(point("toy"), point("toy", "instance", package="raven-other")) == (
        "adapter 'toy' is offered by more than one package (raven-toy, raven-other): uninstall all but one"
    )


def test_a_package_that_is_listed_twice_is_one() -> None:
    assert find_adapters([point("toy"), point("toy")])["toy"].rivals == ()


def test_not_installed_names_the_nearest() -> None:
    with pytest.raises(AdapterNotFound, match=r"^no installed package offers the adapter 'tou': did you mean 'toy'\?$"):
        load_adapter("tou", [point("toy")])


def test_without_a_package() -> None:
    (entry,) = find_adapters([EntryPoint("toy", f"{MODULE}:ToyAdapter", GROUP)]).values()
    assert (entry.distribution, entry.version) == ("unknown", "0")
    assert isinstance(check_adapter(entry), ToyAdapter)
