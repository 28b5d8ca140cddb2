"""Logs: structlog over the standard library's logging, one line an event, to a stream and optionally to a rotating file.

Everybody writes `structlog.stdlib.get_logger(__name__)`; what libraries log comes through the same formatter, from WARNING up.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal, TextIO

import attrs
import structlog

from raven.errors import InvalidValue, StartupError, nearest

__all__ = ["LogConfig", "LogFilter", "configure_logging", "parse_log_filter"]

LEVELS: Mapping[str, int] = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": logging.CRITICAL + 10,
}
LIBRARIES = ("asyncio", "grpclib", "h2", "hpack", "httpcore", "httpx", "hypercorn", "trio", "trio-websocket", "websockets")
FILTER_FORM = "a level, or levels by logger, like info,raven.feed=debug"

_levels_set: list[str] = []  # loggers that the last configure_logging gave a level


@attrs.frozen
class LogFilter:
    """From which level on is logged.

    Args:
        default: of everything that `loggers` does not name, as `logging` counts levels.
        loggers: of a logger and those below it.
    """

    default: int
    loggers: Mapping[str, int]


def parse_log_filter(text: str, field: str = "level") -> LogFilter:
    """`info,raven.feed=debug`: at most one bare level, any number of `logger=level`.

    Raises:
        InvalidValue: not of that form, or no such level.
    """
    default, loggers = logging.INFO, {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, level = (piece.strip() for piece in part.rpartition("="))
        if equals and not name:
            raise InvalidValue(field, text, FILTER_FORM)
        if level.lower() not in LEVELS:
            raise InvalidValue(field, text, f"{level!r} is no level; {nearest(level.lower(), LEVELS)}")
        if equals:
            loggers[name.replace("::", ".")] = LEVELS[level.lower()]
        else:
            default = LEVELS[level.lower()]
    return LogFilter(default, loggers)


def _level(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    parse_log_filter(value, attribute.name)


def _at_least_one(_: Any, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise InvalidValue(attribute.name, value, "1 or more")


@attrs.frozen
class LogConfig:
    """[log]

    Args:
        level: a level, or levels by logger: "info,raven.feed=debug".
        format: "console" for people, "json" for machines, "auto" = console on a terminal, else json.
        file: JSON lines are written there too; it is renamed to .1, .2, ... when it is full.
        max_bytes: a file that would grow beyond this is full.
        keep: how many full files are kept.
        tracebacks: "full", or "short" for one line an exception.
    """

    level: str = attrs.field(default="info", validator=_level)
    format: Literal["auto", "console", "json"] = "auto"
    file: Path | None = None
    max_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=_at_least_one)
    keep: int = attrs.field(default=5, validator=_at_least_one)
    tracebacks: Literal["full", "short"] = "full"


def configure_logging(log: LogConfig, stream: TextIO) -> None:
    """Send every log line of the process to `stream`, and to the file of `log`. Calling it again takes the place of before.

    Raises:
        StartupError: the file cannot be opened.
    """
    handlers = list(_handlers(log, stream))
    root = logging.getLogger()
    for old in filter(_is_ours, list(root.handlers)):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    _set_levels(parse_log_filter(log.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _is_ours(handler: logging.Handler) -> bool:
    return isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)


def _set_levels(levels: LogFilter) -> None:
    libraries = dict.fromkeys(LIBRARIES, max(logging.WARNING, levels.default))
    for name in _levels_set:
        logging.getLogger(name).setLevel(logging.NOTSET)
    named = libraries | dict(levels.loggers)
    for name, level in named.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().setLevel(levels.default)
    _levels_set[:] = named


def _shared() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _handlers(log: LogConfig, stream: TextIO) -> Iterator[logging.Handler]:
    terminal = stream.isatty()
    console = log.format == "console" or (log.format == "auto" and terminal)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _formatter(_console(log, colours=terminal and not os.environ.get("NO_COLOR")) if console else _json(log))
    )
    if log.file is not None:
        file = _open(log.file, log)
        file.setFormatter(_formatter(_json(log)))
        yield file
    yield handler


def _open(path: Path, log: LogConfig) -> logging.Handler:
    try:
        return RotatingFileHandler(path, maxBytes=log.max_bytes, backupCount=log.keep, encoding="utf-8")
    except OSError as error:
        raise StartupError(
            f"log.file: {str(path)!r} cannot be written: {error.strerror}: set [log] file or RAVEN_LOG_FILE"
        ) from error


def _formatter(renderers: Iterable[structlog.typing.Processor]) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _json(log: LogConfig) -> list[structlog.typing.Processor]:
    return [_exceptions(log), structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]


def _console(log: LogConfig, colours: bool) -> list[structlog.typing.Processor]:
    plain = structlog.dev.plain_traceback  # the default one depends on what else is installed
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=0)
    return [_exceptions(log), escape_control, renderer]


def _exceptions(log: LogConfig) -> structlog.typing.Processor:
    return structlog.processors.ExceptionRenderer(short_traceback if log.tracebacks == "short" else full_traceback)


def full_traceback(exc_info: structlog.typing.ExcInfo) -> str:
    """As Python prints it."""
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n")


def short_traceback(exc_info: structlog.typing.ExcInfo) -> str:
    """One line an exception, the one that was raised first first: what it is, and the place that raised it."""
    return "\n".join(_short(exc_info[1]))


def _short(error: BaseException) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _short(cause)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _short(inner)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" ({frame.filename}:{frame.lineno} in {frame.name})" for frame in place)
        yield "".join(traceback.format_exception_only(error)).strip() + where


def escape_control(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What a venue or a client sent must not move the cursor of a terminal, or turn its text around."""
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)
