"""With CI=true no test may be left out: what would be skipped fails instead, and says why. Tests may run in several processes
(`-n auto --dist loadgroup`, as `make test` has it): a file's in one, because they share servers.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator

import pytest
import structlog

NOTHING_SKIPPED = os.environ.get("CI") == "true"


def pytest_configure() -> None:
    """Programs that SIGINT reaches: without job control a shell starts its background with it ignored, which is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


PROCESSES_MAX = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: much of a test is waiting for servers to start."""
    cores = os.cpu_count() or 1
    return min(cores + max(1, cores // 2), PROCESSES_MAX)


LAZY = type(structlog.get_logger())
TOGETHER = ("tests/clients/",)
"""Folders whose files share what takes long to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what runs in one process."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(next((folder for folder in TOGETHER if file.startswith(folder)), file)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips. An expected failure is reported as skipped too, and stays what it is."""
    report = yield
    if NOTHING_SKIPPED and report.skipped and not hasattr(report, "wasxfail"):
        fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips as a whole."""
    report = yield
    if NOTHING_SKIPPED and report.skipped:
        fail(report)
    return report


def fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"CI=true: nothing may be skipped: {reason}"


@pytest.fixture(autouse=True)
def _logging_of_a_test() -> Iterator[None]:
    """What a test makes of logging ends with it: `raven serve` in this process, say."""
    level = logging.getLogger().level
    yield
    if structlog.get_config()["cache_logger_on_first_use"]:
        forget_logging(level)


def forget_logging(level: int) -> None:
    """Undo `raven.ops.logs.configure_logging`: its handlers, its levels, and every logger that keeps how it was made."""
    from raven.ops.logs import LogConfig, configure_logging

    configure_logging(LogConfig(), io.StringIO())  # closes what was open, and resets levels
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if not isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)]
    root.setLevel(level)
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name.partition("_")[0].partition(".")[0] == "raven":
            for value in list(vars(module).values()):
                if isinstance(value, LAZY):
                    vars(value).pop("bind", None)


@pytest.fixture(scope="module", params=["python"] if os.environ.get("RAVEN_PURE") else ["compiled", "python"])
def twins(request: pytest.FixtureRequest) -> Iterator[str]:
    """What has a twin in `raven.speedups` is tested as it is compiled, and as it is in Python."""
    from raven import speedups

    if request.param == "compiled" and speedups.compiled is None:
        pytest.skip(f"raven.speedups is {speedups.missing}")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            for name in ("raven.model.book", "raven.codec.encoder", "raven.grpc.lane", "raven.broker.audience"):
                patch.setattr(importlib.import_module(name), "compiled", None)
        yield request.param
