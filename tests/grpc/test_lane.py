"""A lane into real sockets that are full most of the time, plain and with TLS: every byte arrives, in order, and none twice."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from h2.stream import StreamState

from raven.grpc.lane import PREFIX_BYTES, open_lane
from raven.grpc.sending import open_way
from raven.grpc.tls import load_tls

pytestmark = pytest.mark.usefixtures("twins")

FILES = Path(__file__).parents[1] / "data" / "tls"
WINDOW = 2**31 - 1
DEADLINE_S = 10
FRAME_HEAD_BYTES = 9


class Sender(asyncio.Protocol):
    """The server's end: its lane, and when there is room in it."""

    def __init__(self, made: asyncio.Future[Sender]) -> None:
        self.gate = SimpleNamespace(open=True)
        self.room, self.lost = asyncio.Event(), asyncio.Event()
        self.made = made
        self.h2 = SimpleNamespace(outbound_flow_control_window=WINDOW, max_outbound_frame_size=16_384)
        machine = SimpleNamespace(state=StreamState.OPEN)
        self.stream = SimpleNamespace(outbound_flow_control_window=WINDOW, stream_id=1, state_machine=machine)

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(1, 0)  # whatever is held back closes the gate
        plain = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.transport = transport
        self.lane = open_lane(self.h2, self.stream, self.gate, open_way(transport))
        self.made.set_result(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self.gate.open = False

    def resume_writing(self) -> None:
        self.gate.open = True
        self.room.set()

    async def send(self, message: bytes) -> None:
        """By the lane; where it takes nothing though the gate is open, as StreamWriter does it."""
        while not self.gate.open:
            self.room.clear()
            await self.room.wait()
        if not self.lane.send(message, {}):
            for owner in (self.h2, self.stream):
                owner.outbound_flow_control_window -= len(message) + PREFIX_BYTES
            self.transport.write(framed(message))


def framed(message: bytes) -> bytes:
    """One DATA frame of stream 1."""
    size = len(message)
    return (size + PREFIX_BYTES).to_bytes(3, "big") + bytes((0, 0, 0, 0, 0, 1, 0)) + size.to_bytes(4, "big") + message


def over(tls: bool, talk: Callable[[Sender, socket.socket], Any]) -> Any:
    """What `talk` gives, with the two ends of a connection; the client's is plain, and its TLS is up to `talk`."""

    async def run() -> Any:
        made: asyncio.Future[Sender] = asyncio.get_running_loop().create_future()
        context = load_tls(FILES / "cert.pem", FILES / "key.pem") if tls else None
        server = await asyncio.get_running_loop().create_server(lambda: Sender(made), "127.0.0.1", 0, ssl=context)
        with socket.socket() as client:
            client.settimeout(DEADLINE_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(client.connect, server.sockets[0].getsockname())
            end = client
            if tls:
                trusted = ssl.create_default_context(cafile=FILES / "cert.pem")
                trusted.set_alpn_protocols(["h2"])
                end = await asyncio.to_thread(trusted.wrap_socket, client, server_hostname="localhost")
            sender = await made
            with end:
                try:
                    return await asyncio.wait_for(talk(sender, end), DEADLINE_S)
                finally:
                    sender.transport.abort()
                    server.close()
                    await asyncio.sleep(0)  # the transport's end

    return asyncio.run(run())


@pytest.mark.parametrize("tls", [False, True])
def test_every_byte_arrives_through_a_socket_that_is_full(tls: bool) -> None:
    messages = [bytes([number % 251]) * (37 * number % 16_000) for number in range(200)]
    expected = b"".join(map(framed, messages))

    def read(client: socket.socket) -> bytes:
        received = bytearray()
        while len(received) < len(expected) and (data := client.recv(3000)):
            received += data
        return bytes(received)

    async def talk(sender: Sender, client: socket.socket) -> bytes:
        reading = asyncio.create_task(asyncio.to_thread(read, client))
        for message in messages:
            await sender.send(message)
        assert sender.h2.outbound_flow_control_window == WINDOW - len(expected) + FRAME_HEAD_BYTES * len(messages)
        assert sender.stream.outbound_flow_control_window == sender.h2.outbound_flow_control_window
        return await reading

    assert over(tls, talk) == expected


@pytest.mark.parametrize("tls", [False, True])
def test_nothing_is_sent_past_what_is_in_its_way(tls: bool) -> None:
    async def talk(sender: Sender, client: socket.socket) -> None:
        message = b"x" * 1000
        size = len(message) + PREFIX_BYTES

        def blocked() -> bool:
            return not sender.lane.send(message, {})

        for owner, name, value in (
            (sender.h2, "outbound_flow_control_window", size - 1),
            (sender.h2, "outbound_flow_control_window", -5),
            (sender.stream, "outbound_flow_control_window", size - 1),
            (sender.h2, "max_outbound_frame_size", size - 1),
            (sender.gate, "open", False),
            (sender.stream.state_machine, "state", StreamState.CLOSED),
            (sender.lane, "closed", True),
        ):
            before = getattr(owner, name)
            setattr(owner, name, value)
            windows = sender.h2.outbound_flow_control_window, sender.stream.outbound_flow_control_window
            assert blocked(), name
            assert windows == (sender.h2.outbound_flow_control_window, sender.stream.outbound_flow_control_window)
            setattr(owner, name, before)
        client.setblocking(False)
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            assert client.recv(1) is None, "something was sent"
        sender.h2.outbound_flow_control_window = sender.stream.outbound_flow_control_window = size
        assert not blocked()
        assert sender.h2.outbound_flow_control_window == sender.stream.outbound_flow_control_window == 0

    over(tls, talk)


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_is_over_is_the_transports_affair(tls: bool) -> None:
    """The socket is closed, and another has its descriptor: the transport gets the bytes, which knows; the other gets none."""

    async def talk(sender: Sender, client: socket.socket) -> None:
        client.close()
        plain = sender.transport.get_extra_info("socket")
        number = plain.fileno()
        sender.transport.abort()
        await sender.lost.wait()
        assert plain.fileno() < 0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert number in (ours.fileno(), theirs.fileno()), "the system gives the lowest number that is free"
            assert sender.lane.send(b"x" * 1000, {})
            assert sender.h2.outbound_flow_control_window == WINDOW - 1000 - PREFIX_BYTES
            for one in (ours, theirs):
                one.setblocking(False)
                with pytest.raises(BlockingIOError):
                    one.recv(1)

    over(tls, talk)


@pytest.mark.parametrize("tls", [False, True])
def test_a_peer_that_has_gone_is_the_transports_affair(tls: bool) -> None:
    """A lane says that it took the bytes, and raises nothing; the transport ends the connection."""

    async def talk(sender: Sender, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        taken = [sender.lane.send(b"x" * 1000, {}) for _ in range(5)]
        assert taken[0]
        await sender.lost.wait()

    over(tls, talk)
