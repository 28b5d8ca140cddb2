"""The tripwires catch, and leave everything as it was."""

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
import types
from collections.abc import Iterator
from pathlib import Path
from time import time_ns
from typing import Any

import pytest

from raven.errors import AdapterFault
from raven.testing.tripwires import tripwires

PACKAGE = __name__.partition(".")[0]
WATCHED: tuple[tuple[Any, str], ...] = (
    (time, "time"), (time, "sleep"), (random, "random"), (os, "open"), (os, "urandom"), (builtins, "open"), (io, "open"),
    (socket, "getaddrinfo"), (socket.socket, "__init__"), (threading.Thread, "start"), (dt, "datetime"), (dt, "date"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def everything_is_put_back() -> Iterator[None]:
    before = [getattr(owner, name) for owner, name in WATCHED]
    yield
    assert [getattr(owner, name) for owner, name in WATCHED] == before


def test_a_quiet_block() -> None:
    with tripwires(PACKAGE) as trips:
        generator = random.Random(1)
        numbers = [generator.random(), dt.datetime.fromtimestamp(0, dt.UTC).timestamp(), time.gmtime(0).tm_year]
    assert not trips.calls
    assert numbers[1:] == [0.0, 1970]


def test_a_clock_goes_on_and_is_noted_with_its_line() -> None:
    with tripwires(PACKAGE) as trips:
        now_ns, now = time_ns(), dt.datetime.now(dt.UTC)
    line = sys._getframe().f_lineno - 1
    assert abs(now.timestamp() - now_ns / 1e9) < 5
    where = f"testing/test_tripwires.py:{line}"
    assert list(trips.calls) == [f"time.time_ns at {where}", f"datetime.now at {where}"]


def test_what_leaves_the_process_is_barred(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with tripwires(PACKAGE) as trips:
        for call in (lambda: target.write_text("x"), socket.socket, threading.Thread(target=print).start):
            with pytest.raises(AdapterFault, match=r"^a session must not call "):
                call()
    assert [call.partition(" at ")[0] for call in trips.calls] == ["open", "socket.socket", "threading.Thread.start"]
    assert not target.exists()


def test_put_back_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), tripwires(PACKAGE):
        raise ZeroDivisionError
    assert time_ns is time.time_ns


def test_values_of_the_real_class_are_instances_of_the_watched_one() -> None:
    before = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with tripwires(PACKAGE):
        assert isinstance(before, dt.datetime)
        assert isinstance(before.date(), dt.date)
        assert dt.datetime(2024, 1, 1, tzinfo=dt.UTC) == before


def test_names_that_a_module_of_the_package_imported() -> None:
    inner: Any = types.ModuleType("some_package.inner")
    outer: Any = types.ModuleType("some_package_of_another")
    inner.now, outer.now = time.time, time.time
    sys.modules.update({inner.__name__: inner, outer.__name__: outer})
    try:
        with tripwires("some_package") as trips:
            outer.now()
            assert not trips.calls
            inner.now()
        assert [call.partition(" at ")[0] for call in trips.calls] == ["time.time"]
        assert inner.now is time.time
    finally:
        del sys.modules[inner.__name__], sys.modules[outer.__name__]
