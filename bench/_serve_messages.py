"""A gRPC server that never limits who reads it: one trade a message, all of them prepared, hundreds to one write.

What a grpcio server needs for a message is many times what its client needs, so that between the two the server is what is
measured. This one joins prepared messages to DATA frames as long as the client's windows allow, and keeps to the windows; h2
does the rest. One client at a time. Tells "ready" with its port; ends with its standard input.

    python _serve_messages.py CORE EVENTS
"""

from __future__ import annotations

import os
import select
import socket
import sys

import h2.config
import h2.connection
import h2.events
from _meter import pin, tell
from _trades import encode_trade

__all__ = ["Messages"]

READ_BYTES = 64 * 1024
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


class Messages:
    """One connection, sans-IO: bytes in, bytes out.

    Args:
        message: of gRPC, with its prefix.
        events: how often it is sent.
    """

    def __init__(self, message: bytes, events: int) -> None:
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._h2.initiate_connection()
        self._flow = memoryview(message * events)
        self._at = 0
        self._stream = 0

    def receive(self, data: bytes) -> bytes:
        """What is to be sent when this has come."""
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._stream = event.stream_id or 0
                self._h2.send_headers(self._stream, HEADERS)
        if self._stream:
            self._send()
        return self._h2.data_to_send()

    def _send(self) -> None:
        """As much as the windows take."""
        while self._at < len(self._flow):
            room = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            piece = self._flow[self._at : self._at + room]
            self._h2.send_data(self._stream, bytes(piece))
            self._at += len(piece)


def serve(listener: socket.socket, message: bytes, events: int) -> None:
    """One client behind the other, until standard input ends."""
    while sys.stdin.fileno() not in (ready := select.select([listener, sys.stdin], [], [])[0]):
        assert ready
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client:
            serve_one(client, Messages(message, events))


def serve_one(client: socket.socket, messages: Messages) -> None:
    """Until it leaves."""
    try:
        while data := client.recv(READ_BYTES):
            client.sendall(messages.receive(data))
    except OSError:
        return


def main() -> None:
    """Serve until standard input ends."""
    core, events = map(int, sys.argv[1:])
    pin(core)
    element = encode_trade(0, 1)
    message = b"\0" + len(element).to_bytes(4, "big") + element
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell("ready", port=listener.getsockname()[1], message=len(message))
        serve(listener, message, events)
    os._exit(0)


if __name__ == "__main__":
    main()
