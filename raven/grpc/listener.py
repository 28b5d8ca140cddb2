"""grpclib's server as Raven runs it: our protocol for each connection, our codec, and h2's validation on."""

from __future__ import annotations

from collections.abc import Callable

import grpclib.server
from grpclib.const import Handler
from h2.config import H2Configuration

from raven.grpc.codec import MessageCodec
from raven.grpc.protocol import RavenProtocol

__all__ = ["Listener"]


class Listener(grpclib.server.Server):
    """grpclib's server with our protocol, our codec, and h2's validation on."""

    def __init__(
        self,
        mapping: dict[str, Handler],
        on_open: Callable[[RavenProtocol], None],
        on_close: Callable[[RavenProtocol], None],
        on_fault: Callable[[str], None],
    ) -> None:
        super().__init__([], codec=MessageCodec())
        self._mapping = mapping
        self._h2_config = H2Configuration(client_side=False, header_encoding="ascii")
        self._on_open, self._on_close, self._on_fault = on_open, on_close, on_fault

    def _protocol_factory(self) -> RavenProtocol:
        made = super()._protocol_factory()
        return RavenProtocol(
            made.handler,
            self._config,
            self._h2_config,
            on_open=self._on_open,
            on_close=self._on_close,
            on_fault=self._on_fault,
        )
