"""One request stream of a client, as grpclib reads it: the limits on what a message may be."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import Stream

__all__ = ["REQUEST_BYTES_MAX", "RavenStream"]

REQUEST_BYTES_MAX = 256 * 1024
"""The longest request that is taken: a thousand subscriptions with resume points fit into it."""


class RavenStream(Stream):
    """Refuses a request that is too long at its length prefix, before any of it is kept."""

    async def recv_data(self, size: int) -> bytes:
        """`size` bytes of the request; grpclib asks for the prefix first, then for what the prefix says.

        Raises:
            GRPCError: RESOURCE_EXHAUSTED, the message is longer than `REQUEST_BYTES_MAX`.
        """
        if size > REQUEST_BYTES_MAX:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a request of {size} bytes: at most {REQUEST_BYTES_MAX}")
        return await super().recv_data(size)
