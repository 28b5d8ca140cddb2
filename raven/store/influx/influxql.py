"""InfluxQL: statements whose parts are written by rules, and their answers as rows. InfluxDB 1.x and 2.x serve it under /query.

Source: https://docs.influxdata.com/influxdb/v1/query_language/spec/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import httpx
import msgspec

from raven.errors import StoreError
from raven.store.config import InfluxConfig

__all__ = ["TIME_MAX", "TIME_MIN", "QueryClient", "Series", "integer", "name", "select", "string"]

TIME_MIN, TIME_MAX = -(2**63) + 2, 2**63 - 2  # what InfluxDB takes as a time

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of one answer; a page of history is far below it."""

_IN_STRING = str.maketrans({"\\": "\\\\", "\n": "\\n", "'": "\\'"})
_IN_NAME = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def string(text: str) -> str:
    """A string literal."""
    return "'" + text.translate(_IN_STRING) + "'"


def name(text: str) -> str:
    """An identifier."""
    return '"' + text.translate(_IN_NAME) + '"'


def integer(value: int) -> str:
    """An integer literal, within what InfluxDB takes as a time."""
    return str(max(TIME_MIN, min(TIME_MAX, int(value))))


def select(what: str, source: str, where: str) -> str:
    """A SELECT. Its parts are code, and the literals and identifiers in them are written by the functions above."""
    return f"SELECT {what} FROM {source} WHERE {where}"  # noqa: S608


class Series(msgspec.Struct):
    """One series of an answer."""

    name: str = ""
    tags: dict[str, str] = {}
    columns: list[str] = []
    values: list[list[Any]] = []

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Its rows, by name of the column."""
        for values in self.values:
            yield dict(zip(self.columns, values, strict=True))


class _Result(msgspec.Struct):
    series: list[Series] = []
    error: str = ""


class _Document(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""
    message: str = ""  # 2.x


_DECODER = msgspec.json.Decoder(_Document)


@attrs.define(eq=False)
class QueryClient:
    """Asks one endpoint. May be used by several threads."""

    config: InfluxConfig
    _client: httpx.Client = attrs.field(init=False)
    _parameters: dict[str, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        config = self.config
        # "database/retention policy" is how a bucket of 1.8 is written
        database, _, policy = (config.bucket or config.database).partition("/")
        self._parameters = {"db": database, "epoch": "ns"} | ({"rp": policy} if policy else {})
        headers = {"Authorization": f"Token {config.token}"} if config.token else {}
        auth = None if config.token or not config.username else httpx.BasicAuth(config.username, config.password)
        tls = config.url.startswith("https:")  # without it, there is nothing to verify, and no store of certificates to load
        self._client = httpx.Client(headers=headers, auth=auth, timeout=config.timeout_s, verify=tls, trust_env=False)

    def ask(self, *statements: str) -> list[list[Series]]:
        """The series of each statement's answer.

        Raises:
            StoreError: no answer in time, or none that can be used.
        """
        try:
            document = self._document({**self._parameters, "q": "; ".join(statements)})
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from error
        told = document.error or document.message or next((result.error for result in document.results if result.error), "")
        if told or len(document.results) != len(statements):
            raise self._failed(told or f"{len(document.results)} results for {len(statements)} statements")
        return [result.series for result in document.results]

    def _document(self, parameters: dict[str, str]) -> _Document:
        url = f"{self.config.url.rstrip('/')}/query"
        with self._client.stream("GET", url, params=parameters) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise self._failed(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        try:
            document = _DECODER.decode(body)
        except msgspec.MsgspecError:
            if response.is_success:
                raise
            document = _Document(error=response.reason_phrase)
        if not response.is_success:
            raise self._failed(f"{response.status_code} {document.error or document.message or response.reason_phrase}")
        return document

    def _failed(self, reason: str) -> StoreError:
        return StoreError(f"history endpoint {self.config.endpoint}: {reason}")

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
