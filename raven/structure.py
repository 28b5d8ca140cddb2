"""Plain data (a TOML table) into frozen attrs classes, strictly, with errors that name the key and what would be valid.

Types it knows: bool, int, float (an int is taken), str, Path (a str is taken), `X | None`, `tuple[X, ...]`, `Literal[...]`,
`dict[str, X]`, Any, and attrs classes of these. No other conversion is made: "8080" is no int. Validators of the class run,
and a ValueError of theirs becomes a ConfigError of the key.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs

from raven.errors import ConfigError, InvalidValue, nearest

__all__ = ["structure", "structure_value"]

T = TypeVar("T")

_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def structure(cls: type[T], data: object, path: str = "") -> T:
    """An instance of the attrs class `cls` from the table `data`.

    Args:
        path: where the table stands, as errors show it ("feeds[0].options").

    Raises:
        ConfigError: an unknown key (with the nearest valid one), a wrong type, a missing key, or a value that a validator
            refuses.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(path, data, "a table")
    fields = {field.alias or field.name: field for field in attrs.fields(attrs.resolve_types(cast(Any, cls)))}
    for key in data:
        if key not in fields:
            raise ConfigError(_join(path, key), data[key], f"there is no such key: {nearest(str(key), fields)}")
    for name, field in fields.items():
        if name not in data and field.default is attrs.NOTHING:
            raise ConfigError(_join(path, name), None, "the key is needed")
    values = {key: structure_value(fields[key].type, value, _join(path, key)) for key, value in data.items()}
    try:
        return cls(**values)
    except InvalidValue as error:
        raise ConfigError(_join(path, error.field), error.value, error.expected) from error
    except ValueError as error:
        raise ConfigError(path, dict(data), str(error)) from error


def structure_value(kind: Any, value: object, path: str) -> Any:
    """`value` as the type `kind`. Raises ConfigError."""
    if kind is Any:
        return value
    if attrs.has(kind):
        return structure(kind, value, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, path)
    if origin is tuple:
        return _array(arguments[0], value, path)
    if origin is dict:
        return _table(arguments[1], value, path)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool):
            raise ConfigError(path, value, nearest(str(value), map(str, arguments)))
        return value
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: object, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise ConfigError(path, value, _WORDS.get(kind, f"a {kind.__name__}"))
    return value


def _union(choices: tuple[Any, ...], value: object, path: str) -> Any:
    if value is None and types.NoneType in choices:
        return None
    kinds = [choice for choice in choices if choice is not types.NoneType]
    exact = [kind for kind in kinds if type(value) is kind]  # an int stays an int in `int | float`
    if exact:
        return value
    for kind in kinds[:-1]:
        try:
            return structure_value(kind, value, path)
        except ConfigError:
            continue
    return structure_value(kinds[-1], value, path)


def _array(kind: Any, value: object, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(path, value, "an array")
    return tuple(structure_value(kind, item, f"{path}[{index}]") for index, item in enumerate(value))


def _table(kind: Any, value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(path, value, "a table")
    return {str(key): structure_value(kind, item, _join(path, str(key))) for key, item in value.items()}


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path and key else f"{path}{key}"
