"""gRPC: grpclib under trio-asyncio. The server's only place that knows asyncio.

`serve_grpc` is what the rest of the server sees. Events do not cross into asyncio one by one: a `StreamWriter` works on the
HTTP/2 connection from the broker's flush.
"""

from raven.grpc.server import GrpcConfig, GrpcServer

__all__ = ["GrpcConfig", "GrpcServer"]
