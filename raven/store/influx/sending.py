"""One request to an endpoint, by influxdb-client's synchronous write API, and what its answer means.

The library's threads and retries stay off: a batch is one request in the thread that calls, and what is done about a failure is
decided by who called (`raven.store.influx.endpoint`).
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import attrs
import msgspec
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from raven.store.config import InfluxConfig

__all__ = ["TAKEN", "Answer", "Sender", "Verdict", "compressed", "read_answer"]

COMPRESSION_LEVEL = 1
PRECISION = "ns"
REASON_MAX = 300
"""Characters of a server's own words that are repeated."""


class Verdict(Enum):
    """What became of a request."""

    TAKEN = auto()
    REFUSED = auto()
    """Something in it is not to be written, ever: InfluxDB says so."""
    TOO_LARGE = auto()
    FAILED = auto()
    """Not now: no connection, no answer in time, or a server in trouble."""
    MISCONFIGURED = auto()
    """Not until somebody changes something: no permission, no such bucket."""


@attrs.frozen
class Answer:
    """A verdict, in words.

    Args:
        pause_s: what the server asked for.
        of_batch: FAILED, and perhaps because of what was sent: a server was there, and said so without asking for a pause.
    """

    verdict: Verdict
    reason: str = ""
    pause_s: float = 0.0
    of_batch: bool = False


TAKEN = Answer(Verdict.TAKEN)


def compressed(lines: Sequence[str]) -> bytes:
    """Lines as the body of a request."""
    return gzip.compress("\n".join(lines).encode(), COMPRESSION_LEVEL, mtime=0)


class Sender:
    """Writes to one endpoint.

    Args:
        config: of the endpoint.
    """

    def __init__(self, config: InfluxConfig) -> None:
        self._bucket = config.bucket or config.database
        self._client = _client_of(config)
        self._write: Any = self._client.write_api(write_options=SYNCHRONOUS).write

    def send(self, body: bytes) -> Answer:
        """Write lines that are compressed. Blocks for the endpoint's `timeout_s` at most."""
        try:
            self._write(self._bucket, record=body, write_precision=PRECISION)
        except ApiException as error:
            return read_answer(error.status or 0, error.body or error.reason or "", error.headers or {})
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Answer(Verdict.FAILED, _short(_cause(error)))
        return TAKEN

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _client_of(config: InfluxConfig) -> Any:
    token = config.token or (f"{config.username}:{config.password}" if config.username else "")
    org = config.org or "-"  # the library asks for one, and InfluxDB 1.8 takes any
    client = InfluxDBClient(config.url, token, timeout=int(config.timeout_s * 1000), org=org, retries=False)
    api: Any = client.api_client
    # The library would compress at level 9, once for each endpoint and again for each try: the body comes compressed.
    api.set_default_header("Content-Encoding", "gzip")
    return client


def read_answer(status: int, body: str, headers: Any) -> Answer:
    """What a status that is no success means. Pure."""
    told = _told(body)
    words = "" if body.lstrip().startswith("<") else body  # a page of somebody between us and InfluxDB says nothing more
    reason = f"{status} {_phrase(status)}: {_short(told or words)}".rstrip(": ") if status else _short(body)
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and told:
        return Answer(Verdict.REFUSED, reason)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Answer(Verdict.TOO_LARGE, reason)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Answer(Verdict.MISCONFIGURED, f"{reason} (valid: a token, or username and password, that may write there)")
    if status == HTTPStatus.NOT_FOUND:
        return Answer(Verdict.MISCONFIGURED, f"{reason} (valid: a bucket or database that is there, and the url of InfluxDB)")
    pause_s = _pause_s(headers.get("Retry-After", ""))
    of_batch = status >= HTTPStatus.BAD_REQUEST and status != HTTPStatus.TOO_MANY_REQUESTS and not pause_s
    return Answer(Verdict.FAILED, reason, pause_s, of_batch)


def _told(body: str) -> str:
    """What InfluxDB itself says; empty where somebody between us and it answered."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return ""
    if not isinstance(document, dict):
        return ""
    text = document.get("error") or document.get("message") or ""  # 1.x, 2.x
    return text if isinstance(text, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "status"


def _pause_s(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _cause(error: BaseException) -> str:
    """The innermost of what urllib3 wraps, without addresses of objects."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _cause(reason)
    text = str(error).rpartition(": ")[2] or str(error)
    return f"{type(error).__name__}: {text}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON_MAX else f"{line[: REASON_MAX - 3]}..."
