"""What an adapter says about a feed's connections, checked before anything rests on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

from raven.adapter.contract import Adapter, Connection, FeedSpec, Session
from raven.errors import AdapterFault, AdapterRefused, InvalidValue, shown

__all__ = ["make_session", "plan_connections"]

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+: [ -~]*")  # RFC 9110, 5.6.2 and 5.5, without what is obsolete
_SHOWN_MAX = 5  # topics that a message names


def make_session(adapter: Adapter, spec: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
    """The adapter's session for one life of a connection.

    Raises:
        AdapterFault: there is none.
    """
    try:
        session = adapter.session(spec, connection, memory)
    except Exception as error:  # an adapter's bug may be anything
        raise AdapterFault(f"session() raised {type(error).__name__}: {error}") from error
    if not isinstance(session, Session):
        raise AdapterFault(f"session() returned {shown(session)}, which is no raven.adapter.Session")
    return session


def plan_connections(adapter: Adapter, spec: FeedSpec) -> tuple[Connection, ...]:
    """How the adapter divides the feed, checked: a topic that no connection carried would be silent for ever.

    Raises:
        InvalidValue: the adapter refuses an option or a topic.
        AdapterFault: it cannot be used, it raised anything else, or its plan does not hold.
    """
    try:
        plan = tuple(adapter.connections(spec))
    except InvalidValue:
        raise
    except AdapterRefused as error:  # there is none: what stands in for it says why
        raise AdapterFault(str(error)) from error
    except Exception as error:  # an adapter's bug may be anything
        raise AdapterFault(f"connections() raised {type(error).__name__}: {error}") from error
    for connection in plan:
        _check_connection(connection)
    if not plan:
        raise AdapterFault("connections() returned none")
    if len({connection.name for connection in plan}) < len(plan):
        raise AdapterFault("connections() returned one name twice")
    carried = Counter(topic for connection in plan for topic in connection.topics)
    wrong = [str(topic) for topic in (carried - Counter(spec.topics)) + (Counter(spec.topics) - carried)]
    if wrong:
        raise AdapterFault(
            f"connections() must carry each topic once: {', '.join(wrong[:_SHOWN_MAX])} and {len(wrong)} in all are not"
        )
    return plan


def _check_connection(connection: object) -> None:
    if not isinstance(connection, Connection):
        raise AdapterFault(f"connections() returned {shown(connection)}, which is no raven.adapter.Connection")
    for field in ("idle_timeout_s", "sends_per_s_max", "frame_bytes_max"):
        value = getattr(connection, field)
        if not isinstance(value, int | float) or not value > 0:
            raise AdapterFault(f"connection {connection.name!r}, {field}: {shown(value)} is not valid: a number over 0")
    for name, header in connection.headers.items():
        if not isinstance(header, str) or not _HEADER.fullmatch(f"{name}: {header}"):
            raise AdapterFault(
                f"connection {connection.name!r}, headers[{shown(name)}]: not valid: a name, and text in one line"
            )
