"""Looking into events and payloads field by field, whichever way their class is made (msgspec or attrs)."""

from __future__ import annotations

from typing import Any, cast

import attrs
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

__all__ = ["MISSING", "defaults_of", "has_fields", "names_of"]

MISSING = object()
"""The default of a field that has none."""


def has_fields(cls: type) -> bool:
    """Whether instances of `cls` are plain data with named fields.

    >>> has_fields(int)
    False
    """
    return issubclass(cls, Struct) or attrs.has(cls)


def names_of(cls: type) -> tuple[str, ...]:
    """The fields of a class that `has_fields`, in their order."""
    if issubclass(cls, Struct):
        return cls.__struct_fields__
    return tuple(field.name for field in _attributes(cls))


def defaults_of(cls: type) -> dict[str, Any]:
    """The default of each field of a class that `has_fields`; MISSING where it has none. What a factory makes is made anew."""
    if issubclass(cls, Struct):
        return {field.name: _default(field.default, field.default_factory) for field in fields(cls)}
    return {field.name: _default_of_attrs(field) for field in _attributes(cls)}


def _attributes(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    return cast("tuple[attrs.Attribute[Any], ...]", attrs.fields(cast(Any, cls)))


def _default(default: Any, factory: Any) -> Any:
    if default is not NODEFAULT:
        return default
    return MISSING if factory is NODEFAULT else factory()


def _default_of_attrs(field: attrs.Attribute[Any]) -> Any:
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub says is a function
        return field.default.factory()  # type: ignore[union-attr]
    return MISSING if field.default is attrs.NOTHING else field.default
