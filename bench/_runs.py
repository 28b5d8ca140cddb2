"""One run of the fan-out: a server on one core, readers on the other, a phase of warming up and one that is measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _board import Board
from _handshakes import Greeting
from _peers import Server
from _programs import LOAD_CORE, Program, open_program, python
from _trades import BURST

__all__ = ["Phase", "Readers", "new_board", "open_readers", "run_phase"]

PHASE_GRACE_S = 60.0


@dataclass(frozen=True)
class Phase:
    """What was measured between the first event and its last delivery.

    Args:
        deliveries: counted by the readers.
        wall_s: from the first event to the last delivery.
        server_cpu_s: of the server's process.
        readers_cpu_s: of the readers' process; near `wall_s` the readers are what limits.
        messages: gRPC messages that the deliveries came in; of a message server its writes, as far as it uses `write`.
    """

    deliveries: int
    wall_s: float
    server_cpu_s: float
    readers_cpu_s: float
    messages: int
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.wall_s

    @property
    def cost_us(self) -> float:
        """Wall time per delivery in microseconds."""
        return 1e6 * self.wall_s / self.deliveries


class Readers:
    """The readers' process, from outside."""

    def __init__(self, program: Program, board: Board) -> None:
        self.program = program
        self.board = board
        self.messages = 0


@contextmanager
def new_board() -> Iterator[tuple[Board, Path]]:
    """A board for one run."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "board"
        yield Board.make(path), path


@contextmanager
def open_readers(
    board: tuple[Board, Path],
    port: int,
    clients: int,
    greetings: Sequence[Greeting],
    shape: dict[str, object],
    *,
    stamps: bool = False,
    tls: bool = False,
    first_receive_bytes: int = 0,
) -> Iterator[Readers]:
    """So many connections, subscribed; the n-th has the n-th greeting, and again from the first."""
    with open_program(python("_readers"), LOAD_CORE) as program:
        program.tell(
            core=LOAD_CORE,
            board=str(board[1]),
            port=port,
            clients=clients,
            greetings=[greeting.facts for greeting in greetings],
            shape=shape,
            stamps=stamps,
            tls=tls,
            first_receive_bytes=first_receive_bytes,
        )
        program.hear("ready")
        yield Readers(program, board[0])


def run_phase(server: Server, readers: Readers, seconds: float, clients: int) -> Phase:
    """Have events made for so long, and wait for the last delivery.

    Raises:
        RuntimeError: something was not delivered, or a connection ended.
    """
    board = readers.board
    board.duration_ns = round(seconds * 1e9)
    board.window = server.window_bursts * BURST * clients
    cpu_s, writes = server.program.cpu_s, server.program.writes
    board.phase = phase = board.phase + 1
    deadline = time.monotonic() + seconds + PHASE_GRACE_S
    while board.done != phase:
        time.sleep(0.002)
        if time.monotonic() > deadline or server.program.process.poll() is not None:
            raise RuntimeError(f"{server.program.process.args!r} made no events")
    drained = readers.program.ask("drain", expected=board.deliveries)
    if drained["deliveries"] != board.deliveries or drained["ended"]:
        raise RuntimeError(
            f"{board.deliveries} deliveries were due and {drained['deliveries']} came; ended: {drained['ended'][:3]}"
        )
    messages, readers.messages = drained["messages"] - readers.messages, drained["messages"]
    messages = messages or server.program.writes - writes
    wall_s = (drained["last_ns"] - board.begun_ns) / 1e9
    return Phase(drained["deliveries"], wall_s, server.program.cpu_s - cpu_s, drained["cpu_s"], messages)
