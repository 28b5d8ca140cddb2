"""Times as people write them on a command line. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

__all__ = ["TIME_HELP", "parse_time"]

TIME_HELP = "ISO 8601 (2026-11-23, 2026-11-23T10:00, ...Z; UTC unless it says otherwise), '2h ago' or -2h, now, today"

_UNITS_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9}
_AGO = re.compile(r"(?:-\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])|(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s+ago)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_NS = _UNITS_NS["d"]


def parse_time(text: str, now_ns: int, option: str) -> int:
    """Nanoseconds since 1970.

    >>> parse_time("1970-01-02", 0, "--from") == DAY_NS
    True
    >>> parse_time("-2h", 3 * 3600 * 10**9, "--from") == 3600 * 10**9
    True

    Raises:
        click.BadParameter: it is no time, or one before 1970.
    """
    ts_ns = _parse(text.strip(), now_ns)
    if ts_ns is None:
        raise click.BadParameter(f"{text!r} is no time: valid are {TIME_HELP}", param_hint=repr(option))
    if not 0 <= ts_ns < 2**63:
        raise click.BadParameter(f"{text!r} is before 1970 or far too late", param_hint=repr(option))
    return ts_ns


def _parse(text: str, now_ns: int) -> int | None:
    days = {"now": now_ns, "today": now_ns // DAY_NS * DAY_NS, "yesterday": (now_ns // DAY_NS - 1) * DAY_NS}
    if text.lower() in days:
        return days[text.lower()]
    if match := _AGO.fullmatch(text):
        amount, unit = match[1] or match[3], match[2] or match[4]
        return now_ns - round(float(amount) * _UNITS_NS[unit])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1) * 1_000
