"""The HTTP endpoints: two small ASGI applications, served by Hypercorn on sockets that were bound before."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from raven.ops.health import Document, ServerHealth, health_document, live_document, ready_document
from raven.ops.sockets import bound_address

__all__ = ["CLOSE_S", "App", "Response", "health_app", "metrics_app", "serve_http"]

CLOSE_S = 1.0  # how long requests that have begun may take after the end was asked for
CONNECTIONS_MAX = 256  # one scraper and one load balancer need two
KEEP_ALIVE_S = 5.0  # Hypercorn keeps the task of a connection that its client closed for so long too

log = structlog.stdlib.get_logger("raven.ops")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@attrs.frozen
class Response:
    """One HTTP answer, whole."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Route = Callable[[Scope], Response]


def health_app(state: Callable[[], ServerHealth]) -> App:
    """/health, /health/live and /health/ready as JSON. `state` is called for each request and must be quick."""
    documents: dict[str, Callable[[ServerHealth], Document]] = {
        "/health": health_document,
        "/health/live": live_document,
        "/health/ready": ready_document,
    }
    return _routed({path: partial(_documented, document, state) for path, document in documents.items()})


def metrics_app(registry: CollectorRegistry) -> App:
    """/metrics in the format that the scraper asks for."""
    return _routed({"/metrics": partial(_exposed, registry)})


def _documented(document: Callable[[ServerHealth], Document], state: Callable[[], ServerHealth], _: Scope) -> Response:
    status, body = document(state())
    return _json(status, body)


def _exposed(registry: CollectorRegistry, scope: Scope) -> Response:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    try:
        encode, content_type = choose_encoder(accepted)
    except (TypeError, ValueError):  # a version that is no version
        encode, content_type = choose_encoder("")
    return Response(200, encode(registry), content_type)


def _json(status: int, body: Mapping[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    return Response(status, json.dumps(body, indent=2).encode() + b"\n", headers=headers)


def _routed(routes: Mapping[str, Route]) -> App:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _answer(_dispatch(routes, scope), scope["method"] == "HEAD", send)
        else:  # a WebSocket is refused with 403, as ASGI has it
            await send({"type": "websocket.close", "code": 1000})

    return app


def _dispatch(routes: Mapping[str, Route], scope: Scope) -> Response:
    path, method = scope["path"], scope["method"]
    if path not in routes:
        return _json(404, {"error": "there is nothing here", "paths": sorted(routes)})
    if method not in ("GET", "HEAD"):
        return _json(405, {"error": f"{path} answers GET and HEAD only"}, ((b"allow", b"GET, HEAD"),))
    return routes[path](scope)


async def _answer(response: Response, head: bool, send: Send) -> None:
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"content-length", str(len(response.body)).encode()),
        (b"cache-control", b"no-store"),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


def root_cause(error: BaseException) -> str:
    """The first plain exception in a tree of groups, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def serve_http(app: App, sock: socket.socket, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve `app` on `sock` until cancelled; requests that have begun then get `CLOSE_S` to end, and are cut off after that.

    Takes `sock` over and closes it. Reports started with its address ("http://127.0.0.1:8080").
    """
    address = f"http://{bound_address(sock)}"
    server = HttpServer(app)
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(server.run, sock)
            task_status.started(address)
            await trio.sleep_forever()
        finally:
            server.stop.set()


class HttpServer:
    """Hypercorn's HTTP for each connection, and what its own worker lacks: a limit on connections, and an end that comes.

    Its sends are shielded from cancellation, so that a client that asks much and reads nothing would hold up the end of the
    process for ever; here such a connection is shut down under it.

    Args:
        app: what is served.
    """

    def __init__(self, app: App) -> None:
        self.stop = trio.Event()
        self._config = _hypercorn()
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]  # its Scope is narrower
        self._context = WorkerContext(None)
        self._streams: set[trio.SocketStream] = set()
        self._emptied = trio.Event()

    async def run(self, sock: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is set, whatever else is cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as listening:
                    await listening.start(partial(trio.serve_listeners, self._serve, [listener], handler_nursery=connections))
                    task_status.started()
                    await self.stop.wait()
                    listening.cancel_scope.cancel()
                await self._end()
                connections.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        if len(self._streams) >= CONNECTIONS_MAX:
            log.warning("connection refused", limit=CONNECTIONS_MAX)
            await stream.aclose()
            return
        self._streams.add(stream)
        try:
            await TCPServer(self._app, self._config, self._context, ConnectionState(LifespanState()), stream)  # type: ignore[arg-type]
        except Exception as error:  # Hypercorn's, of what this client sent: DATA behind the end of an answer, over HTTP/2
            log.warning("a connection broke", error=root_cause(error))
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._emptied.set()

    async def _end(self) -> None:
        await self._context.terminated.set()
        if self._streams:
            self._emptied = trio.Event()
            with trio.move_on_after(CLOSE_S):
                await self._emptied.wait()
        for stream in self._streams:
            with suppress(OSError):  # it has just ended
                stream.socket.shutdown(socket.SHUT_RDWR)


def _hypercorn() -> HypercornConfig:
    config = HypercornConfig()
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config
