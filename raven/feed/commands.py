"""What goes to a session's runner from both sides: commands of the session, checked, and changes of its topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from raven.adapter.outputs import Count, Fetch, Resync, Send, Wakeup
from raven.errors import AdapterFault, shown
from raven.model.topic import Topic

__all__ = ["Command", "TopicChange", "check_command"]

Command = Send | Fetch | Wakeup | Count


@attrs.frozen
class TopicChange:
    """Carry `added` too, and `removed` no longer; what `doubted` says was seen downstream."""

    added: Sequence[Topic] = ()
    removed: Sequence[Topic] = ()
    doubted: Resync | None = None


def check_command(output: object) -> Command:
    """`output` itself: an adapter's slip must show as the adapter's, not as an error of the library that it reaches.

    Raises:
        AdapterFault: it is no output at all, or has a field that cannot be carried out.
    """
    match output:
        case Send(str(data)):
            if not _is_utf8(data):
                raise AdapterFault(f"Send.data: {shown(data)} is not valid: text that UTF-8 can carry")
            return output
        case Send(bytes()) | Wakeup(int()) | Count(str(), int()):
            return output
        case Fetch(str(), method=str(), headers=Mapping(), body=bytes()) if _is_text_table(output.headers):
            return output
        case Send() | Wakeup() | Count() | Fetch():
            raise AdapterFault(f"{shown(output)} is not valid: see raven.adapter.outputs for the types of its fields")
    raise AdapterFault(f"{shown(output)} is no output: see raven.adapter.outputs")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text_table(table: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, str) for name, value in table.items())
