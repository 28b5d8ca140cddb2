"""Defaults, then one TOML file, then the environment, then flags: one Config, and where each value of it came from."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

import attrs

from raven.config.influxdb import imply_influxdb
from raven.config.secrets import HIDDEN, is_secret
from raven.config.tables import Config
from raven.errors import ConfigError, nearest
from raven.speedups import PURE
from raven.structure import structure

__all__ = ["LoadedConfig", "load_config", "located"]

FILE_NAME = "raven.toml"

# The names that stand in deployment guides, beside RAVEN_<SECTION>_<KEY>. What stands later wins.
_ALIASES = (
    ("SERVER_HOST", "server.host"),
    ("SERVER_PORT", "server.port"),
    ("HEALTH_PORT", "health.port"),
    ("METRICS_PORT", "metrics.port"),
    ("REDIS_URL", "cache.redis_url"),
    ("RUST_LOG", "log.level"),
    ("RAVEN_LOG", "log.level"),
    ("RUST_BACKTRACE", "log.tracebacks"),
)
_KNOWN_ELSEWHERE = ("RAVEN_SERVER", PURE)  # the server that commands talk to; that nothing compiled is used
# Kubernetes writes these into every container beside a service that is called "raven".
_SERVICE_LINK = re.compile(r"RAVEN_(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?)")
_FLAGS = {"health.port": "--health-port", "metrics.port": "--metrics-port", "log.level": "--log"}
_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FALLBACKS = {"health.host": "server.host", "metrics.host": "server.host"}


@attrs.frozen
class Row:
    """One line of `raven config show`."""

    key: str
    value: object
    origin: str


@attrs.frozen
class LoadedConfig:
    """A configuration, and how it came about.

    Args:
        value: the configuration.
        provenance: key ("server.port", "feeds[0].name") to where its value came from: the file's path, "environment NAME" or
            "flag --name". What is not in here is a default.
        path: the file that was read; None when there was none.
        warnings: what a user should hear about and need not act on.
    """

    value: Config
    provenance: Mapping[str, str] = attrs.field(factory=dict)
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Every key with its value and where that came from, in the order of the file."""
        return [Row(key, value, self._origin(key)) for key, value in _flatten(attrs.asdict(self.value, recurse=True), "")]

    def _origin(self, key: str) -> str:
        origin = self.provenance.get(key)
        if origin is None and key in _FALLBACKS:
            return f"default: {_FALLBACKS[key]}"
        return origin or "default"


def load_config(
    path: Path | None,
    environ: Mapping[str, str] = MappingProxyType({}),
    flags: Mapping[str, object] = MappingProxyType({}),
    directory: Path | None = None,
) -> LoadedConfig:
    """The configuration of this process.

    Args:
        path: the file to read; None = `raven.toml` in `directory`, if there is one.
        environ: the environment. An empty variable counts as not set.
        flags: config key ("server.port") to the value that the command line gave; None = not given.
        directory: where `raven.toml` is looked for; None = the current one.

    Raises:
        ConfigError: the file cannot be read or is no TOML, a key does not exist, or a value is not valid. It names the source,
            the key, the value and what would be valid.
    """
    path = path or _file_in(directory or Path())
    table = _read(path) if path else {}
    origins = {key: str(path) for key, _ in _flatten(table, "")}
    for key, value, origin in (*_from_environment(environ), *_from_flags(flags)):
        _put(table, origins, key, value, origin)
    _imply_redis(table, origins)
    ignored = imply_influxdb(table, origins, environ)
    try:
        config = structure(Config, table)
    except ConfigError as error:
        raise located(error, origins, str(path) if path else "") from error.__cause__
    return LoadedConfig(config, origins, path, (*ignored, *_unknown_variables(environ)))


def located(error: ConfigError, provenance: Mapping[str, str], fallback: str = "") -> ConfigError:
    """The same error with the source of its key, and without the value where the key is a secret."""
    value = HIDDEN if is_secret(error.field) else error.value
    source = error.source or _source_of(error.field, provenance) or fallback
    return ConfigError(error.field, value, error.expected, source)


def _source_of(field: str, provenance: Mapping[str, str]) -> str:
    if field in provenance:
        return provenance[field]
    inside = (source for key, source in provenance.items() if field and key.startswith((f"{field}.", f"{field}[")))
    around = (source for key, source in provenance.items() if field.startswith((f"{key}.", f"{key}[")))
    return next(inside, "") or next(around, "")


def _file_in(directory: Path) -> Path | None:
    path = directory / FILE_NAME
    return path if path.exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("--config", str(path), "there is no such file") from None
    except OSError as error:
        raise ConfigError("--config", str(path), f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            "--config", str(path), f"it is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise _broken_toml(path, str(error)) from None


def _broken_toml(path: Path, text: str) -> ConfigError:
    place = _TOML_PLACE.fullmatch(text)
    what, line, column = place.groups() if place else (text.removesuffix(" (at end of document)"), "end", "")
    source = f"{path}:{line}:{column}" if column else f"{path}: at its end"
    return ConfigSyntaxError(source, what[:1].lower() + what[1:])


class ConfigSyntaxError(ConfigError):
    """The file is no TOML. `source` has line and column."""

    def __init__(self, source: str, what: str) -> None:
        super().__init__("", "", what, source)

    def __str__(self) -> str:
        return f"{self.source}: this is no TOML: {self.expected}"


def _scalars() -> dict[str, Any]:
    """Key of every scalar of every section ("server.port", "server.tls.cert_file") to its type."""
    return {key: kind for key, kind in _scalars_of(Config) if "." in key}


def _scalars_of(table: Any) -> Iterator[tuple[str, Any]]:
    for field in attrs.fields(attrs.resolve_types(table)):
        if attrs.has(field.type):
            yield from ((f"{field.name}.{key}", kind) for key, kind in _scalars_of(field.type))
        else:
            yield field.name, field.type


def _variables() -> list[tuple[str, str]]:
    """(variable, key), weakest first."""
    return [*_ALIASES, *((_variable_of(key), key) for key in _scalars())]


def _variable_of(key: str) -> str:
    return "RAVEN_" + key.replace(".", "_").upper()


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    types = _scalars()
    for name, key in _variables():
        text = environ.get(name, "")
        if text:
            value = _backtrace(text) if name == "RUST_BACKTRACE" else _parse(types[key], text)
            yield key, value, f"environment {name}"


def _backtrace(text: str) -> str:
    return "short" if text == "0" else "full"


def _parse(kind: Any, text: str) -> object:
    """`text` as the scalar type `kind`; the text itself where it is none, for `structure` to refuse."""
    kinds = (
        [choice for choice in typing.get_args(kind) if choice is not NoneType] if NoneType in typing.get_args(kind) else [kind]
    )
    if kinds[0] is int and _INTEGER.fullmatch(text):
        return int(text)
    if kinds[0] is float:
        return _float(text)
    if kinds[0] is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def _float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for key, value in flags.items():
        if value is not None:
            yield key, value, f"flag {_FLAGS.get(key, '--' + key.rpartition('.')[2].replace('_', '-'))}"


def _imply_redis(table: dict[str, Any], origins: dict[str, str]) -> None:
    """Who says where Redis is means to use it, and need not say so."""
    cache = table.get("cache")
    if isinstance(cache, dict) and cache.get("redis_url") and "backend" not in cache:
        _put(table, origins, "cache.backend", "redis", origins.get("cache.redis_url", ""))


def _put(table: dict[str, Any], origins: dict[str, str], key: str, value: object, origin: str) -> None:
    *tables, name = key.split(".")
    into: Any = table
    for step in tables:
        into = into.setdefault(step, {})
        if not isinstance(into, dict):  # it stays as it is, for `structure` to refuse
            return
    into[name] = value
    origins[key] = origin


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = {name for name, _ in _variables()} | set(_KNOWN_ELSEWHERE)
    for name in sorted(environ):
        if name.startswith("RAVEN_") and name not in known and not _SERVICE_LINK.fullmatch(name):
            close = [other for other in known if other.startswith("RAVEN_")]
            yield f"environment {name}: there is no such variable, it is ignored: {nearest(name, close)}"


def _flatten(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and (value or not key):
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{key}[{index}]")
    else:
        yield key, value
