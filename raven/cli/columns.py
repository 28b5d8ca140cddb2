"""Events as rows of one table, whatever their kinds: for CSV, Parquet and Arrow. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from raven.cli.render import FLAGS, payload_name, plain
from raven.client import StreamEvent
from raven.model.events import BookDelta, BookSnapshot, Gap, TopicStatus, payload_kinds
from raven.model.plain import has_fields, names_of
from raven.model.topic import Kind

__all__ = ["Column", "columns_of", "row_of"]


@attrs.frozen
class Column:
    """One column.

    Args:
        form: "text", "int", "float", "bool", "time" (nanoseconds since 1970), "floats" (a list), "json" (a text of it).
        value: of an event; None where it has none.
    """

    name: str
    form: str
    value: Callable[[StreamEvent], Any]


def columns_of(kinds: Iterable[Kind]) -> list[Column]:
    """The columns of events of these kinds: what all events have, then what each payload has."""
    wanted = set(kinds)
    classes = [cls for cls, of in payload_kinds.items() if of & wanted and cls not in (TopicStatus, Gap)]
    columns = {column.name: column for column in _STAMPS}
    for cls in classes:
        for name, form in _forms(cls).items():
            _add(columns, cls, name, form)
    return list(columns.values())


def row_of(event: StreamEvent, columns: Sequence[Column]) -> list[Any]:
    """The cells of an event."""
    return [column.value(event) for column in columns]


def _add(columns: dict[str, Column], cls: type, name: str, form: str) -> None:
    """A field as a column, which several payloads may share; under a name of its own where another means something else."""
    if name in ("venue", "symbol"):
        return
    title = name
    before = columns.get(name)
    if before is not None and (before.form != form or not isinstance(before.value, _Field)):
        title = f"{'book' if cls in (BookSnapshot, BookDelta) else cls.__name__.lower()}_{name}"
    shared = columns.get(title)
    classes = (*shared.value.classes, cls) if shared is not None and isinstance(shared.value, _Field) else (cls,)
    columns[title] = Column(title, form, _Field(name, form, classes))


@attrs.frozen
class _Field:
    """Takes a field out of an event's payload."""

    name: str
    form: str
    classes: tuple[type, ...]

    def __call__(self, event: StreamEvent) -> Any:
        payload = event.payload
        if not isinstance(payload, self.classes):
            return None
        value = getattr(payload, self.name)
        if isinstance(value, Enum):
            return value.name.lower()
        if value is None or self.form in ("int", "float", "bool", "time"):
            return value
        if self.form == "text":
            return str(value)
        return list(value) if self.form == "floats" else json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if has_fields(type(value)):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _forms(cls: type) -> dict[str, str]:
    hints = get_type_hints(cls)
    return {name: _form(name, hints[name]) for name in names_of(cls)}


def _form(name: str, hint: Any) -> str:
    types = [one for one in get_args(hint) or (hint,) if one is not type(None)]
    if get_origin(hint) is Sequence:
        return "floats" if types == [float] else "json"
    if any(isinstance(one, type) and issubclass(one, Enum) for one in types):
        return "text"
    if types == [int]:
        return "time" if name.endswith("_ts_ns") else "int"
    simple: dict[Any, str] = {bool: "bool", float: "float", str: "text"}
    return simple.get(types[0], "json")


def _note(event: StreamEvent) -> str | None:
    """What a status or a gap says, in words."""
    payload = event.payload
    if isinstance(payload, TopicStatus):
        state = payload.state.name if isinstance(payload.state, Enum) else str(payload.state)
        return f"{state}: {payload.text}" if payload.text else state
    if isinstance(payload, Gap):
        cause = payload.cause.name if isinstance(payload.cause, Enum) else str(payload.cause)
        return f"missing: {payload.first_sequence} to {payload.last_sequence} ({cause})"
    return None


def _flags(event: StreamEvent) -> str:
    return " ".join(mark.replace(" ", "_") for bit, mark in FLAGS.items() if event.flags & bit)


_STAMPS = (
    Column("venue", "text", lambda event: event.topic.venue),
    Column("symbol", "text", lambda event: event.topic.symbol),
    Column("kind", "text", lambda event: Kind(event.topic.kind).label),
    Column("variant", "text", lambda event: event.topic.variant),
    Column("epoch", "int", lambda event: event.epoch),
    Column("sequence", "int", lambda event: event.sequence),
    Column("venue_ts_ns", "time", lambda event: event.venue_ts_ns),
    Column("received_ts_ns", "time", lambda event: event.received_ts_ns),
    Column("flags", "text", _flags),
    Column("type", "text", payload_name),
    Column("note", "text", _note),
)
