"""Ctrl-C without a traceback, for programs that do not catch it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

__all__ = ["quiet_interrupt"]


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """A KeyboardInterrupt that leaves the block and that nobody catches ends the program without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.excepthook is not _say_nothing:
            _OTHERS.append(sys.excepthook)
            sys.excepthook = _say_nothing
        raise


_OTHERS = [sys.__excepthook__]


def _say_nothing(cls: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(cls, KeyboardInterrupt):
        _OTHERS[-1](cls, error, trace)
