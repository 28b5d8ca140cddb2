"""The writer against h2 as the peer: every byte arrives, in order, and never more than the peer's windows and frame size allow.

h2 on the client's side is the judge: it raises on a frame that is too long, on one that overruns a window, and on DATA of a
stream that it never opened.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged, WindowUpdated
from h2.settings import SettingCodes, Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.broker import Outbox, OutboxLimits
from raven.broker.audience import Audiences
from raven.broker.ring import Ring, RingLimits
from raven.broker.topics import TopicState
from raven.codec.encoder import SENT_TS_SIZE
from raven.grpc.lane import PREFIX_BYTES
from raven.grpc.protocol import RavenConnection
from raven.grpc.writer import StreamWriter
from raven.model.events import Event as MarketEvent
from raven.model.events import Trade
from raven.model.topic import Kind, Topic

pytestmark = pytest.mark.usefixtures("twins")

LIMITS = OutboxLimits(10**9, 10**12, 10**9)
TOPIC = TopicState(Topic("sim", "BTC-USDT", Kind.TRADE), "sim", 1, 1, Ring("sim", 1, RingLimits(1)))
NEWS = MarketEvent(TOPIC.topic, Trade(), 1)
HEADERS = [(":method", "POST"), (":path", "/x"), (":scheme", "http"), (":authority", "x")]


class Wire:
    """The transport between the two, which may be full."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


class Peers:
    """A server's connection with so many streams, and the client at its other end."""

    def __init__(self, streams: int, initial_window: int, frame_max: int) -> None:
        self.wire = Wire()
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.connection = RavenConnection(self.server, self.wire, config=Configuration())  # type: ignore[arg-type]
        initial = {SettingCodes.INITIAL_WINDOW_SIZE: initial_window, SettingCodes.MAX_FRAME_SIZE: frame_max}
        self.client.local_settings = Settings(client=True, initial_values=initial)
        self.client.max_inbound_frame_size = frame_max
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.ids = list(range(1, 2 * streams + 1, 2))
        for stream_id in self.ids:
            self.client.send_headers(stream_id, HEADERS)
        self.exchange()
        for stream_id in self.ids:
            self.server.send_headers(stream_id, [(":status", "200")])
        self.received: dict[int, bytearray] = defaultdict(bytearray)
        self.reset: set[int] = set()
        clock = count(1)
        self.outboxes = {stream_id: Outbox(LIMITS, clock.__next__) for stream_id in self.ids}
        self.writers = {stream_id: self.writer(stream_id) for stream_id in self.ids}
        self.put: dict[int, bytearray] = defaultdict(bytearray)
        self.exchange()

    def writer(self, stream_id: int) -> StreamWriter:
        stream: Any = SimpleNamespace(id=stream_id, connection=self.connection)
        return StreamWriter(stream, self.outboxes[stream_id], lambda: 7)

    def exchange(self) -> None:
        """Bytes both ways until nothing moves."""
        moved = True
        while moved:
            self.wire.write(self.server.data_to_send())
            out, self.wire.written = self.wire.written, []
            for data in out:  # one by one: h2 takes what it acknowledged for true from the next call on
                self._see(self.client.receive_data(data))
            back = self.client.data_to_send()
            events = self.server.receive_data(back)
            self.wire.write(self.server.data_to_send())  # the settings are acknowledged before they are made use of
            if any(isinstance(event, WindowUpdated | RemoteSettingsChanged) for event in events):
                self.connection.flush_writers()
            moved = any(out) or bool(back)

    def _see(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                assert event.stream_id is not None
                self.received[event.stream_id] += event.data or b""

    def elements(self, stream_id: int) -> bytes:
        """What came on a stream, without what gRPC and the time of sending add; a message that is not whole is left out."""
        data, elements = bytes(self.received[stream_id]), bytearray()
        while len(data) >= PREFIX_BYTES:
            assert data[0] == 0
            size = int.from_bytes(data[1:PREFIX_BYTES], "big")
            if len(data) < PREFIX_BYTES + size:
                break
            elements += data[PREFIX_BYTES : PREFIX_BYTES + size - SENT_TS_SIZE]
            data = data[PREFIX_BYTES + size :]
        return bytes(elements)


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 40_000)),
    st.tuples(st.just("control"), st.integers(0, 2), st.integers(1, 3_000)),
    st.tuples(st.just("all"), st.integers(1, 3), st.integers(1, 20_000)),
    st.tuples(st.just("window"), st.integers(0, 3), st.integers(1, 70_000)),
    st.tuples(st.just("settings"), st.integers(0, 100_000), st.integers(16_384, 60_000)),
    st.tuples(st.just("reset"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("socket"), st.integers(0, 1), st.just(0)),
)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 70_000), st.integers(16_384, 40_000), st.lists(STEPS, max_size=40))
def test_every_byte_arrives_as_windows_allow(initial: int, frame_max: int, steps: list[tuple[str, int, int]]) -> None:
    peers = Peers(3, initial, frame_max)
    audiences = Audiences(lambda: 7)
    for outbox in peers.outboxes.values():
        outbox.flush()
        audiences.place(outbox, [TOPIC])
    for number, (step, what, size) in enumerate(steps):
        _take_step(peers, audiences, step, what, size, number)
        peers.exchange()
    peers.connection.write_ready.set()
    _open_everything(peers)
    for stream_id in peers.ids:
        if stream_id in peers.reset:
            assert bytes(peers.put[stream_id]).startswith(peers.elements(stream_id))
        else:
            assert peers.elements(stream_id) == bytes(peers.put[stream_id])
            assert not peers.outboxes[stream_id].behind


def _take_step(peers: Peers, audiences: Audiences, step: str, what: int, size: int, number: int) -> None:
    data = bytes([number % 251]) * size
    if step == "all":
        _publish(peers, audiences, [data] * what)
    elif step == "settings":
        peers.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: what, SettingCodes.MAX_FRAME_SIZE: size})
    elif step == "window":
        _open_window(peers, what, size)
    elif step == "socket":
        (peers.connection.write_ready.set if what else peers.connection.write_ready.clear)()
        if what:
            peers.connection.flush_writers()
    elif (stream_id := peers.ids[what]) not in peers.reset:
        if step == "reset":
            peers.client.reset_stream(stream_id)
            peers.reset.add(stream_id)
        else:
            outbox = peers.outboxes[stream_id]
            (outbox.put if step == "put" else outbox.put_control)(data)
            outbox.flush()
            peers.put[stream_id] += data


def _publish(peers: Peers, audiences: Audiences, elements: list[bytes]) -> None:
    """As the broker does it: one append an audience, and one by one for those that are behind."""
    for audience in TOPIC.audiences:
        for element in elements:
            audience.pending.append(element)
            for outbox in audience.behind:
                outbox.put_event(TOPIC, NEWS, element)
        if not audience.dirty:
            audience.mark()
    audiences.flush()
    for stream_id in peers.ids:
        peers.put[stream_id] += b"".join(elements)


def _open_window(peers: Peers, what: int, size: int) -> None:
    if what == 3:
        peers.client.increment_flow_control_window(size)
    elif peers.ids[what] not in peers.reset:
        peers.client.increment_flow_control_window(size, peers.ids[what])


def _open_everything(peers: Peers) -> None:
    for _ in range(200):
        peers.client.increment_flow_control_window(1_000_000)
        for stream_id in peers.ids:
            if stream_id not in peers.reset:
                peers.client.increment_flow_control_window(200_000, stream_id)
        peers.connection.flush_writers()
        peers.exchange()
        if all(peers.outboxes[stream_id].empty for stream_id in peers.ids if stream_id not in peers.reset):
            return


def test_a_message_goes_in_one_write_however_many_frames_it_needs() -> None:
    peers = Peers(1, 1_000_000, 16_384)
    peers.client.increment_flow_control_window(1_000_000)
    peers.exchange()
    writes: list[int] = []
    write = peers.wire.write
    peers.wire.write = lambda data: (writes.append(len(data)), write(data))  # type: ignore[func-returns-value, method-assign]
    peers.outboxes[1].put(b"x" * 100_000)
    peers.outboxes[1].flush()
    assert writes == [7 * 9 + PREFIX_BYTES + 100_000 + SENT_TS_SIZE]
    peers.exchange()
    assert peers.elements(1) == b"x" * 100_000


def test_streams_of_the_same_number_share_the_frame() -> None:
    first, second = Peers(1, 65_535, 16_384), Peers(1, 65_535, 16_384)
    shared: dict[int, bytes] = {}
    for peers in (first, second):
        assert peers.writers[1].lane.send(b"message-9-bytes-", shared)
        peers.exchange()
    assert len(shared) == 1
    assert first.received[1] == second.received[1] == bytes([0, 0, 0, 0, 16]) + b"message-9-bytes-"


def test_a_client_that_has_gone_is_written_to_no_more() -> None:
    peers = Peers(1, 65_535, 16_384)
    peers.wire.closing = True
    assert peers.writers[1].begin(b"x")
    peers.outboxes[1].put(b"y")
    peers.outboxes[1].flush()
    assert not any(peers.wire.written)
    assert peers.outboxes[1].empty


def test_a_stream_that_was_reset_before_its_first_message_has_no_writer() -> None:
    peers = Peers(1, 65_535, 16_384)
    stream: Any = SimpleNamespace(id=99, connection=peers.connection)
    with pytest.raises(StreamTerminatedError):
        StreamWriter(stream, Outbox(LIMITS), lambda: 7)
