"""What the client library raises, beside what stands in raven/errors.py.

ClientError
|-- BufferOverflow                 this program did not take its events fast enough, and asked to be told so
|-- ServerUnavailable              no server answers there
|-- SubscriptionRefused            the server will not give what was asked for
`-- StreamEnded                    the server ended the stream, and coming back makes no sense
    |-- Replaced                   another stream took over this client_id
    |-- CredentialsRefused         expired, missing or not enough
    |-- Disconnected               an operator ended it
    |-- SlowConsumer               it did not read fast enough, and the server does not want it back
    `-- ProtocolRefused            what this library sent made no sense to the server
"""

from __future__ import annotations

from raven.client.wire import DecodeError
from raven.errors import ClientError, ServerUnavailable, StreamEnded, SubscriptionRefused

__all__ = [
    "BufferOverflow",
    "ClientError",
    "CredentialsRefused",
    "DecodeError",
    "Disconnected",
    "ProtocolRefused",
    "Replaced",
    "ServerUnavailable",
    "SlowConsumer",
    "StreamEnded",
    "SubscriptionRefused",
    "error_of_status",
    "stream_ended",
]


class BufferOverflow(ClientError):
    """More events wait in this program than its buffer holds, and `on_slow` is "error"."""


class Replaced(StreamEnded):
    """Another stream took over this client_id."""


class CredentialsRefused(StreamEnded):
    """The credentials have expired, are missing, or do not permit it."""


class Disconnected(StreamEnded):
    """An operator ended the stream."""


class SlowConsumer(StreamEnded):
    """The stream was not read fast enough."""


class ProtocolRefused(StreamEnded):
    """The server could not make sense of what this library sent."""


_CLASSES: dict[str, type[StreamEnded]] = {
    "REPLACED": Replaced,
    "ABORTED": Replaced,
    "CREDENTIALS_EXPIRED": CredentialsRefused,
    "UNAUTHENTICATED": CredentialsRefused,
    "PERMISSION_DENIED": CredentialsRefused,
    "OPERATOR": Disconnected,
    "SLOW_CONSUMER": SlowConsumer,
    "PROTOCOL": ProtocolRefused,
}


def stream_ended(reason: str, text: str) -> StreamEnded:
    """The class that fits the name of a Goodbye's reason or of a gRPC status."""
    return _CLASSES.get(reason, StreamEnded)(reason, text)


def error_of_status(status: str, message: str, target: str) -> ClientError:
    """What a call raises that ended with this gRPC status."""
    if status == "INVALID_ARGUMENT":
        return SubscriptionRefused("", message or status)
    if status == "UNAVAILABLE":
        return ServerUnavailable(f"{target}: {message or status}")
    return stream_ended(status, message)
