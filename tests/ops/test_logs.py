"""Log lines: form, levels, libraries, tracebacks, files."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import structlog

from raven.errors import InvalidValue, StartupError
from raven.ops.logs import LogConfig, configure_logging, parse_log_filter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logged(log: LogConfig, name: str = "raven.feed.runner") -> tuple[io.StringIO, Any]:
    stream = io.StringIO()
    configure_logging(log, stream)
    return stream, structlog.stdlib.get_logger(name)


def test_one_json_object_a_line() -> None:
    stream, log = logged(LogConfig())
    log.info("connected", feed="sim", url="ws://x", text="a\nb\x1b[31m")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "connected",
        "level": "info",
        "logger": "raven.feed.runner",
        "feed": "sim",
        "url": "ws://x",
        "text": "a\nb\x1b[31m",
    }


def test_libraries_speak_from_warning_up_in_the_same_form() -> None:
    stream, _ = logged(LogConfig(level="debug"))
    for name in ("hypercorn.error", "grpclib.protocol", "httpx", "asyncio", "h2"):
        logging.getLogger(name).info("not this")
        logging.getLogger(name).warning("this of %s", name)
    assert [(line["logger"], line["event"], line["level"]) for line in lines(stream)] == [
        (name, f"this of {name}", "warning") for name in ("hypercorn.error", "grpclib.protocol", "httpx", "asyncio", "h2")
    ]


def test_levels_by_logger_and_a_second_call_forgets_the_first() -> None:
    stream, log = logged(LogConfig(level="warn,raven.feed=debug,httpx=info"))
    log.debug("shown")
    structlog.stdlib.get_logger("raven.broker").info("hidden")
    logging.getLogger("httpx").info("shown too")
    assert [line["event"] for line in lines(stream)] == ["shown", "shown too"]
    again, _ = logged(LogConfig(level="info"))
    log.debug("hidden")
    log.info("now")
    logging.getLogger("httpx").info("hidden")
    assert [line["event"] for line in lines(again)] == ["now"]
    assert len(lines(stream)) == 2


@pytest.mark.parametrize(
    ("text", "default", "loggers"),
    [
        ("info", logging.INFO, {}),
        ("", logging.INFO, {}),
        ("ERROR", logging.ERROR, {}),
        (" warn , raven.feed = debug ", logging.WARNING, {"raven.feed": logging.DEBUG}),
        ("raven::feed=trace", logging.INFO, {"raven.feed": logging.DEBUG}),
        ("off,raven=info", logging.CRITICAL + 10, {"raven": logging.INFO}),
    ],
)
def test_the_filter_syntax(text: str, default: int, loggers: dict[str, int]) -> None:
    parsed = parse_log_filter(text)
    assert (parsed.default, parsed.loggers) == (default, loggers)


@pytest.mark.parametrize("text", ["loud", "raven.feed=", "=info", "raven.feed=debig", "info;debug"])
def test_a_bad_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="level"):
        parse_log_filter(text)


@pytest.mark.parametrize(
    ("form", "stream", "is_json", "coloured"),
    [
        ("auto", io.StringIO(), True, False),
        ("auto", Terminal(), False, True),
        ("console", io.StringIO(), False, False),
        ("json", Terminal(), True, False),
    ],
)
def test_the_form_fits_the_stream(form: Any, stream: io.StringIO, is_json: bool, coloured: bool) -> None:
    configure_logging(LogConfig(format=form), stream)
    structlog.stdlib.get_logger("raven").info("hello", a=1)
    text = stream.getvalue()
    assert text.startswith("{") is is_json
    assert ("\x1b[" in text) is coloured


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure_logging(LogConfig(), stream)
    structlog.stdlib.get_logger("raven").info("hello", a=1)
    assert "hello" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_a_venue_cannot_move_the_cursor_of_a_terminal() -> None:
    stream, log = logged(LogConfig(format="console"))
    log.warning("bad frame \x1b[2J", frame="\x1b]0;x\x07\r\u202ex")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()
    assert "\\x1b[2J" in stream.getvalue()


def fail() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ExceptionGroup("several", [ValueError("second"), OSError("third")]) from error


def test_full_and_short_tracebacks() -> None:
    texts = {}
    for kind in ("full", "short"):
        stream, log = logged(LogConfig(tracebacks=kind))
        try:
            fail()
        except ExceptionGroup:
            log.exception("broken")
        (line,) = lines(stream)
        texts[kind] = line["exception"]
    assert "Traceback (most recent call last)" in texts["full"]
    short = texts["short"].splitlines()
    assert short[0].startswith("KeyError: 'first' (")
    assert short[0].endswith(" in fail)")
    assert short[1:] == ["ValueError: second", "OSError: third"]


def test_a_file_gets_json_lines_and_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "raven.log"
    stream = Terminal()
    configure_logging(LogConfig(file=path, max_bytes=300, keep=2), stream)
    log = structlog.stdlib.get_logger("raven")
    for number in range(20):
        log.info("line", number=number)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["raven.log", "raven.log.1", "raven.log.2"]
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 19
    assert all(file.stat().st_size <= 300 for file in tmp_path.iterdir())
    assert stream.getvalue().count("\n") == 20


def test_a_file_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"log\.file: .* cannot be written: .*: set \[log\] file or RAVEN_LOG_FILE"):
        configure_logging(LogConfig(file=tmp_path / "none" / "raven.log"), io.StringIO())


def test_what_is_no_json_does_not_stop_the_line() -> None:
    stream, log = logged(LogConfig())
    log.info("odd", path=Path("/x"), raw=b"\xff", nan=float("nan"))
    assert lines(stream)[0]["path"] == "/x"
