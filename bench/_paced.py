"""Runs at a fixed pace: a venue on the load's core, a server, and readers that measure when each trade reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from _board import END
from _handshakes import Greeting
from _peers import Server, Setup, open_server
from _programs import LOAD_CORE, Program, open_program, python
from _runs import Readers, new_board, open_readers

__all__ = ["Paced", "open_paced"]

MESSAGE_SERVERS = ("redis", "nats")


@dataclass
class Paced:
    """A server with its venue and its readers, all connected."""

    server: Server
    venue: Program
    readers: Readers
    clients: int

    def run(self, rate: float, seconds: float, burst: int = 1, *, missing: int = 0) -> dict[str, Any]:
        """Trades at that pace, and how long they took, in us.

        Args:
            missing: readers that read nothing.

        Raises:
            RuntimeError: something did not reach a reader.
        """
        self.venue.tell(rate=rate, burst=burst, seconds=seconds)
        trades = self.venue.hear("answer")["trades"]
        expected = trades * (self.clients - missing)
        found = self.readers.program.ask("latencies", expected=expected)
        if found["count"] != expected or found["ended"]:
            raise RuntimeError(f"{expected} deliveries were due and {found['count']} came; ended: {found['ended'][:3]}")
        return found

    def end(self) -> dict[str, Any]:
        """Have Raven end; its report."""
        self.readers.board.phase = END
        return self.server.program.hear("report")


@contextmanager
def open_paced(peer: str, clients: int, *, greetings: Sequence[Greeting] = (), first_receive_bytes: int = 0) -> Iterator[Paced]:
    """Everything started.

    Args:
        peer: of `_peers.PEERS`.
        greetings: of the readers, where they are not the server's own.
        first_receive_bytes: the receive buffer of the first reader's socket; 0 = the system's.

    Raises:
        PeerMissing: it cannot be had here.
    """
    with ExitStack() as stack:
        board = stack.enter_context(new_board())
        setup = Setup(board=board, clients=clients)
        if peer not in MESSAGE_SERVERS:
            venue = stack.enter_context(open_program(python("_venue_trades", "ws"), LOAD_CORE))
            setup = replace(setup, source=venue.hear("ready")["port"])
        server = stack.enter_context(open_server(peer, setup))
        if peer in MESSAGE_SERVERS:
            venue = stack.enter_context(open_program(python("_venue_trades", peer, server.port), LOAD_CORE))
            venue.hear("ready")
        readers = stack.enter_context(
            open_readers(
                board,
                server.port,
                clients,
                greetings or server.greetings,
                dict(server.shape),
                stamps=True,
                first_receive_bytes=first_receive_bytes,
            )
        )
        yield Paced(server, venue, readers, clients)
