"""Every exception that Raven raises on purpose.

    RavenError
    |-- InvalidValue (ValueError)      one field has a value that it cannot have
    |   |-- InvalidName                ... a venue, symbol, variant or topic outside its character set
    |   `-- ConfigError                ... a key of the configuration
    |-- StartupError                   the process cannot start; the message says what to do
    |-- AdapterError
    |   |-- AdapterNotFound            no such entry point
    |   |-- AdapterRefused             found, and not usable: import failed, other API level, name taken twice
    |   `-- AdapterFault               an adapter broke its contract while it ran
    |-- FrameError                     one frame of a venue could not be understood; the connection goes on
    |-- FeedError                      a venue's fault; the feed's connection is made again
    |   |-- ConnectFailed
    |   `-- ConnectionLost
    |       `-- VenueSilent            the socket stands, and nothing comes
    |-- StoreError                     a store does not take or give what it should; the call may be made again
    |-- RequestError                   what a client asked for cannot be done; becomes a gRPC status
    `-- ClientError                    raised by the client library
        |-- ServerUnavailable          no server answers there
        |-- SubscriptionRefused        the server will not give what was asked for
        `-- StreamEnded                the server ended the stream; its kinds stand in raven.client.errors

A value error names the field, the value, and what would be valid, in this order, because that is what its reader needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AdapterError",
    "AdapterFault",
    "AdapterNotFound",
    "AdapterRefused",
    "ClientError",
    "ConfigError",
    "ConnectFailed",
    "ConnectionLost",
    "FeedError",
    "FrameError",
    "InvalidName",
    "InvalidValue",
    "RavenError",
    "RequestError",
    "ServerUnavailable",
    "StartupError",
    "StoreError",
    "StreamEnded",
    "SubscriptionRefused",
    "VenueSilent",
    "nearest",
    "shown",
]

VALUE_SHOWN_MAX = 80  # characters of a refused value that a message repeats


def nearest(word: str, choices: Iterable[str]) -> str:
    """The end of an error message: the nearest valid choice, or all of them.

    >>> nearest("prot", ["host", "port"])
    "did you mean 'port'?"
    >>> nearest("x", ["host", "port"])
    'valid are host, port'
    """
    choices = sorted(choices)
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "valid are " + ", ".join(choices) if choices else "there is none"


def shown(value: object) -> str:
    """`value` as a message repeats it: its repr, cut to `VALUE_SHOWN_MAX` characters, control characters escaped."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 3] + "..."


class RavenError(Exception):
    """The root of the tree."""


class InvalidValue(RavenError, ValueError):
    """One field has a value that it cannot have.

    Args:
        field: the path of the field, as its user writes it ("subscriptions[0].selector.venue", "server.port").
        value: what was given.
        expected: what would be valid, as the end of a sentence.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: {shown(value)} is not valid: {expected}")
        self.field = field
        self.value = value
        self.expected = expected

    @property
    def reason(self) -> str:
        """The text without the field, for places that have a field of their own."""
        return f"{shown(self.value)} is not valid: {self.expected}"

    def within(self, prefix: str) -> InvalidValue:
        """The same error with its field seen from further out."""
        joint = "" if self.field.startswith("[") or not self.field else "."
        return type(self)(f"{prefix}{joint}{self.field}", self.value, self.expected)


class InvalidName(InvalidValue):
    """A venue, symbol, variant or topic outside the character set that raven.proto gives it."""


class ConfigError(InvalidValue):
    """A key of the configuration. `source` is the file, variable or flag that it came from."""

    def __init__(self, field: str, value: object, expected: str, source: str = "") -> None:
        super().__init__(field, value, expected)
        self.source = source

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.source}: {text}" if self.source else text


class StartupError(RavenError):
    """The process cannot start. The message is one line that names the cause and what would help."""


class AdapterError(RavenError):
    """Something is wrong with an adapter package."""


class AdapterNotFound(AdapterError):
    """No installed package offers an adapter of that name."""


class AdapterRefused(AdapterError):
    """An adapter was found, and cannot be used."""


class AdapterFault(AdapterError):
    """An adapter broke its contract while it ran."""


class FrameError(RavenError):
    """One frame could not be understood. Sessions raise it; the frame is counted, sampled in the log, and skipped."""


class FeedError(RavenError):
    """A venue's fault. The feed's connection is made again after a pause."""


class ConnectFailed(FeedError):
    """A connection to a venue could not be opened."""


class ConnectionLost(FeedError):
    """A connection to a venue ended: closed, reset, silent for too long, or given up by the session."""


class VenueSilent(ConnectionLost):
    """Nothing was received for the connection's `idle_timeout_s`, though the socket stands."""


class StoreError(RavenError):
    """A store did not take or give something. The message says which store, and why; the same call may be made again."""


class RequestError(RavenError):
    """What a client asked for cannot be done. `code` is the name of the gRPC status that it becomes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClientError(RavenError):
    """Raised by the client library."""


class ServerUnavailable(ClientError):
    """No server answers at that address, or it went away."""


class SubscriptionRefused(ClientError):
    """The server will not give what was asked for. `field` says which part of the request it was."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field and not message.startswith(field) else message)
        self.field = field


class StreamEnded(ClientError):
    """The server ended the stream. `reason` is the name of the Goodbye's reason, or of the gRPC status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
