"""Finds calls that a session must not make: of a clock, of chance, of a socket, a file or a thread.

While a block runs, the functions of the standard library are replaced by ones that note who called them; also where a module
of the package in question imported them by name. Everything happens in one thread, and everything is put back.
"""

from __future__ import annotations

import builtins
import datetime as dt
import io
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, ModuleType
from typing import Any

import attrs

from raven.errors import AdapterFault

__all__ = ["Tripwires", "tripwires"]

_CLOCK = "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time sleep"
_CHANCE = (
    "random randint randrange uniform choice choices sample shuffle gauss normalvariate expovariate betavariate getrandbits "
    "randbytes seed"
)

Wrapped = Callable[..., Any]


@attrs.define
class Tripwires:
    """What was called while the block ran, each with the line that did it: "time.time_ns at raven_example/session.py:31"."""

    package: str
    calls: dict[str, None] = attrs.field(factory=dict)

    def note(self, name: str) -> str:
        """Remember a call; as text."""
        call = f"{name} at {_caller(self.package)}"
        self.calls[call] = None
        return call


@contextmanager
def tripwires(package: str) -> Iterator[Tripwires]:
    """Watch while the block runs.

    Args:
        package: the import package whose modules may have imported functions by name.

    A clock and chance go on to work and are noted; whatever leaves the process raises AdapterFault too, so that a check of an
    adapter opens nothing.
    """
    found = Tripwires(package)
    with ExitStack() as stack:
        for original, replacement in _functions(found):
            for owner, name in _places(original, package):
                _replace(stack, owner, name, replacement)
        _replace(stack, socket.socket, "__init__", _barred(found, "socket.socket"))
        _replace(stack, threading.Thread, "start", _barred(found, "threading.Thread.start"))
        yield found


def _functions(found: Tripwires) -> Iterator[tuple[object, object]]:
    for name in _CLOCK.split():
        yield getattr(time, name), _noted(found, f"time.{name}", getattr(time, name))
    for name in _CHANCE.split():
        yield getattr(random, name), _noted(found, f"random.{name}", getattr(random, name))
    for module, name in ((os, "urandom"), (uuid, "uuid1"), (uuid, "uuid4")):
        yield getattr(module, name), _noted(found, f"{module.__name__}.{name}", getattr(module, name))
    yield dt.datetime, _datetime_class(found)
    yield dt.date, _date_class(found)
    for module, name in ((builtins, "open"), (os, "open"), (socket, "create_connection"), (socket, "getaddrinfo")):
        yield getattr(module, name), _barred(found, f"{module.__name__}.{name}".removeprefix("builtins."))


def _noted(found: Tripwires, name: str, original: Wrapped) -> Wrapped:
    def wire(*args: Any, **kwargs: Any) -> Any:
        found.note(name)
        return original(*args, **kwargs)

    return wire


def _barred(found: Tripwires, name: str) -> Wrapped:
    def wire(*args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
        raise AdapterFault(f"a session must not call {found.note(name)}")

    return wire


def _datetime_class(found: Tripwires) -> type:
    real = dt.datetime

    class Datetime(real, metaclass=_AsIf):  # type: ignore[misc, valid-type]
        """`datetime.datetime` whose clock is watched."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            found.note("datetime.now")
            return real.now(tz)

        @classmethod
        def utcnow(cls) -> dt.datetime:
            found.note("datetime.utcnow")
            return real.now(dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> dt.datetime:
            found.note("datetime.today")
            return real.today()  # what was asked for

    return Datetime


def _date_class(found: Tripwires) -> type:
    real = dt.date

    class Date(real, metaclass=_AsIf):  # type: ignore[misc, valid-type]
        """`datetime.date` whose clock is watched."""

        @classmethod
        def today(cls) -> dt.date:
            found.note("date.today")
            return real.today()  # what was asked for

    return Date


class _AsIf(type):
    """Values that were made before, or by a library in C, are instances of the class that is replaced."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.__bases__[0])


def _places(original: object, package: str) -> list[tuple[ModuleType, str]]:
    """Where the very object can be called by name: its own modules, and those of the package."""
    own = (builtins, io, os, time, random, socket, uuid, dt)
    theirs = (module for name, module in list(sys.modules.items()) if name == package or name.startswith(f"{package}."))
    return [(module, name) for module in (*own, *theirs) for name, value in list(vars(module).items()) if value is original]


def _replace(stack: ExitStack, owner: object, name: str, replacement: object) -> None:
    original = getattr(owner, name)
    stack.callback(setattr, owner, name, original)
    setattr(owner, name, replacement)


def _caller(package: str) -> str:
    """The nearest line of the package on the stack; of whoever called where there is none."""
    first = sys._getframe(3)  # noqa: SLF001  # past this one, `note` and the wire
    frame: FrameType | None = first
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] != package:
        frame = frame.f_back
    return _place(frame or first)


def _place(frame: FrameType) -> str:
    file = frame.f_code.co_filename.replace("\\", "/")
    return f"{'/'.join(file.split('/')[-2:])}:{frame.f_lineno}"
