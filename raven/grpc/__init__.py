"""gRPC: grpclib under trio-asyncio. The server's only place that knows asyncio.

`serve_grpc` is what the rest of the server sees. Events do not cross into asyncio one by one: a `StreamWriter` works on the
HTTP/2 connection from the broker's flush.
"""

import asyncio

import grpclib.utils
import trio_asyncio  # noqa: F401  must be imported before grpclib looks for the current task

# grpclib keeps the function that it found at import; trio-asyncio puts its own in place of it (Python 3.12 and later), and only
# that one knows the tasks of a loop that runs under Trio.
grpclib.utils._current_task = asyncio.current_task  # noqa: SLF001

from raven.grpc.limits import ConnectionLimits  # noqa: E402
from raven.grpc.server import GrpcConfig, GrpcServer  # noqa: E402

__all__ = ["ConnectionLimits", "GrpcConfig", "GrpcServer"]
