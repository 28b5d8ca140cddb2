"""Where `raven history` writes: lines for people, JSON lines, CSV, Parquet and Arrow files.

A file is written beside its name and takes it when it is whole: what was interrupted does not look like what was asked for.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

import click

from raven.cli.columns import Column, columns_of, row_of
from raven.cli.render import event_json, event_line
from raven.client import StreamEvent
from raven.errors import StartupError
from raven.model.topic import Kind

__all__ = ["BINARY", "FORMATS", "Sink", "open_sink"]

FORMATS = ("table", "json", "csv", "parquet", "arrow")
BINARY = frozenset({"parquet", "arrow"})

ROWS_MAX = 16_384
"""Rows that are held before they are written as one record batch."""


class Sink(Protocol):
    """Takes events."""

    def put(self, events: Sequence[StreamEvent]) -> None:
        """The next ones."""

    def close(self) -> None:
        """There are no more."""


@contextmanager
def open_sink(form: str, output: Path | None, kinds: Sequence[Kind]) -> Iterator[Sink]:
    """Writes in one of FORMATS to a file, or to standard output.

    Raises:
        click.UsageError: a binary format has nowhere to go, or what it needs is not installed.
        StartupError: the file cannot be written.
    """
    if form in BINARY:
        _check_binary(form, output)
    with _opened(output) as file:
        sink = _sink(form, file, columns_of(kinds))
        yield sink
        sink.close()


def _check_binary(form: str, output: Path | None) -> None:
    if output is None and sys.stdout.isatty():
        raise click.UsageError(f"--format {form} is not for a terminal: name a file with --output FILE, or redirect the output")
    if find_spec("pyarrow") is None:
        raise click.UsageError(f'--format {form} needs pyarrow: pip install "raven-marketdata[arrow]"')


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes] | None]:
    """A file that takes its name at the end; None = standard output."""
    if output is None:
        yield None
        return
    being_written = output.with_name(output.name + ".part")
    try:
        with being_written.open("wb") as out:
            yield out
        being_written.replace(output)
    except OSError as error:
        raise StartupError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            being_written.unlink(missing_ok=True)


class _Lines:
    """One line an event; with colours on a terminal."""

    def __init__(self, file: IO[bytes] | None, line: Callable[[StreamEvent], str]) -> None:
        self._file = file
        self._line = line

    def put(self, events: Sequence[StreamEvent]) -> None:
        """See Sink."""
        for event in events:
            line = self._line(event)
            if self._file is None:
                click.echo(line)
            else:
                self._file.write(click.unstyle(line).encode() + b"\n")

    def close(self) -> None:
        """See Sink."""


def dated_line(event: StreamEvent) -> str:
    """For people, with the day."""
    day = datetime.fromtimestamp(event.received_ts_ns // 10**9, UTC).strftime("%Y-%m-%d")
    return f"{click.style(day, dim=True)} {event_line(event)}"


class _Csv:
    """A header, then a row an event; lists are JSON."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._columns = columns
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def put(self, events: Sequence[StreamEvent]) -> None:
        """See Sink."""
        self._writer.writerows([_cell(value) for value in row_of(event, self._columns)] for event in events)

    def close(self) -> None:
        """See Sink."""
        self._text.detach().flush()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, list) else value


class _Columnar:
    """Parquet, or the file format of Arrow."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column], form: str) -> None:
        import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]  # of the extra "arrow"
        import pyarrow.parquet as pq  # type: ignore[import-not-found, import-untyped, unused-ignore]

        types = {
            "text": pa.string(),
            "json": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "time": pa.timestamp("ns", tz="UTC"),
            "floats": pa.list_(pa.float64()),
        }
        self._pa = pa
        self._columns = columns
        self._schema = pa.schema([(column.name, types[column.form]) for column in columns])
        self._rows: list[list[Any]] = []
        self._writer = (
            pq.ParquetWriter(file, self._schema, compression="zstd")
            if form == "parquet"
            else pa.ipc.new_file(file, self._schema)
        )

    def put(self, events: Sequence[StreamEvent]) -> None:
        """See Sink."""
        self._rows += [row_of(event, self._columns) for event in events]
        if len(self._rows) >= ROWS_MAX:
            self._write()

    def _write(self) -> None:
        cells = zip(*self._rows, strict=True)
        arrays = [self._pa.array(column, field.type) for column, field in zip(cells, self._schema, strict=True)]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        """See Sink."""
        if self._rows:
            self._write()
        self._writer.close()


def _sink(form: str, file: IO[bytes] | None, columns: Sequence[Column]) -> Sink:
    if form in BINARY:
        return _Columnar(file or sys.stdout.buffer, columns, form)
    if form == "csv":
        return _Csv(file or sys.stdout.buffer, columns)
    return _Lines(file, event_json if form == "json" else dated_line)
