"""What one connection may do, and what it may not.

`ConnectionLimits` are the keys of [server] that a connection is held to. The constants beside them are no keys: honest clients
do not come near them, and each bounds what a stranger can make the server keep or do.
"""

from __future__ import annotations

import zlib

import attrs
from h2.errors import ErrorCodes

__all__ = ["ConnectionLimits", "Offence"]

CONNECTION_WINDOW_BYTES = 256 * 1024
"""What a client may send before its calls have read it, over all of its streams; of one stream 65,535, HTTP/2's default."""

FRAME_BYTES_MAX = 16_384
"""The longest frame that is taken: HTTP/2's default, which no client needs to be told."""

HEADER_LIST_BYTES_MAX = 64 * 1024
"""Headers of a request, inflated and counted as RFC 9113 (6.5.2) has it; also their block, as it is on the wire."""

CONTINUATIONS_MAX = 64
"""Frames of one header block."""

HEADER_TABLE_BYTES_MAX = 4_096
"""What headers that we send may leave in the memory of our own compression, whatever a client allows (RFC 7541, 4.2)."""

CLOSED_STREAMS_MAX = 1_024
"""Streams that are over and still known, so that frames that were on their way are told from nonsense."""

ANSWERS_BYTES_MAX = 64 * 1024
"""What may wait of answers that are owed to frames (acknowledgements, resets) while the client does not read."""

TURN_S = 0.001
"""How long the frames of one connection may keep the loop before others have their turn."""

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What compressed requests may be, beside identity, with the window bits that say it to zlib."""

READ_BYTES = 16 * 1024
"""Read from a socket at once. One buffer serves all connections."""

LINGER_S = 1.0
"""A connection that is told to go is read for so long, so that what it was told is not lost with a reset of TCP."""

LINGER_BYTES_MAX = 1024 * 1024
"""... and not further than this."""


@attrs.frozen
class ConnectionLimits:
    """How connections are held.

    Args:
        connections_max: open at once; one more is closed as soon as it is accepted.
        streams_max: calls of one connection at once; one more is refused, and the connection goes on.
        handshake_s: for TLS, and then for HTTP/2 up to the client's SETTINGS.
        keepalive_s: a client that is silent for so long is asked whether it is there (PING).
        keepalive_timeout_s: ... and is gone if it stays silent for so long.
    """

    connections_max: int = 10_000
    streams_max: int = 100
    handshake_s: float = 5.0
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0


class Offence(Exception):
    """A client did what ends its connection.

    Args:
        reason: one of a few fixed words, for the metric ("ping_flood").
        text: for the client, in the GOAWAY, and for the log.
        code: of the GOAWAY.
    """

    def __init__(self, reason: str, text: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.code = code
