"""Puts a plan of faults into what the emulator sends: frames, answers on the socket, answers over REST."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from raven_binance.emulator.faults import (
    Answer,
    Close,
    Fault,
    Fin,
    Fragment,
    Insert,
    Plan,
    Refuse,
    Reset,
    Slice,
    Stall,
    Struck,
)
from raven_binance.emulator.frames import Record
from raven_binance.emulator.framing import close_frame, cut_up, fragmented, text_frame
from raven_binance.emulator.rest import Application, Receive, Scope, Send

if TYPE_CHECKING:
    from raven_binance.emulator.connections import Client

__all__ = ["Injector", "Request", "Strike"]

BODIES_KEPT_MAX = 100  # of REST answers, for `OldAnswer`


@attrs.frozen
class Strike:
    """A fault struck `name` (a stream, a path with its query) at `at_s` on Trio's clock."""

    fault: Fault
    name: str
    at_s: float


@attrs.frozen
class Request:
    """A REST request came at `at_s` on Trio's clock, and was answered with `status`."""

    target: str
    status: int
    at_s: float


class Injector:
    """The faults of one emulator, and a log of what was struck and asked for. For one `run`.

    Args:
        faults: none is a venue that behaves.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._plan = Plan(faults)
        self.strikes: list[Strike] = []
        self.requests: list[Request] = []
        self._bodies: dict[str, bytes] = {}
        self._recent: Mapping[str, deque[Record]] = defaultdict(self._no_records)
        self._greeted: set[Client] = set()

    # Frames.

    async def deliver(self, records: Sequence[Record], clients: Sequence[Client]) -> None:
        """Send frames to whom they belong."""
        if not self._plan.faults:
            for client in clients:
                await client.deliver(records)
            return
        await self._replay(clients)
        for step in self._plan.steps(records, self._note):
            for client in clients:
                await (_strike(client, step) if isinstance(step, Struck) else client.deliver(step))
        self._remember(records)

    async def _replay(self, clients: Sequence[Client]) -> None:
        for client in clients:
            if client not in self._greeted and client.subscriptions.streams:
                self._greeted.add(client)
                await client.deliver([record for recent in self._recent.values() for record in recent])
        self._greeted &= set(clients)

    def _remember(self, records: Iterable[Record]) -> None:
        patterns = self._plan.replays()
        for record in records:
            if any(fnmatchcase(record.stream, where) for where, _ in patterns):
                self._recent[record.stream].append(record)

    def _no_records(self) -> deque[Record]:
        return deque(maxlen=max(last for _, last in self._plan.replays()))

    # Answers on the socket.

    def refusal(self, message: str | bytes) -> str | None:
        """The error that answers a client's message, if a fault says so."""
        try:
            command = msgspec.json.decode(message, type=_Command)
        except msgspec.MsgspecError:
            return None
        if command.method != "SUBSCRIBE":
            return None
        fault = self._plan.on_subscribe(command.params)
        if fault is None or not isinstance(fault.act, Refuse):
            return None
        self._note(fault, ",".join(command.params))
        error = {"code": fault.act.code, "msg": fault.act.text}
        return msgspec.json.encode({"error": error, "id": command.id}).decode()

    # REST.

    def rest(self, application: Application) -> Application:
        """The same ASGI application with this plan's faults in its answers."""
        return partial(self._serve, application)

    async def _serve(self, application: Application, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        target = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        fault, at_s = self._plan.on_rest(target), trio.current_time()
        if fault is not None:
            self._note(fault, target)
        if fault is not None and isinstance(fault.act, Answer):
            answer = fault.act
        else:
            answer = await _answered(application, scope, receive)
            answer = self._aged(target, answer, old=fault is not None)
        self.requests.append(Request(target, answer.status, at_s))
        await _respond(send, answer)

    def _aged(self, target: str, answer: Answer, *, old: bool) -> Answer:
        if answer.status == 200 and len(self._bodies) < BODIES_KEPT_MAX:
            self._bodies.setdefault(target, answer.body)
        return attrs.evolve(answer, body=self._bodies[target]) if old and target in self._bodies else answer

    def _note(self, fault: Fault, name: str) -> None:
        self.strikes.append(Strike(fault, name, trio.current_time()))


class _Command(msgspec.Struct):
    method: str
    params: list[str] = []
    id: int | str | None = None


async def _strike(client: Client, struck: Struck) -> None:
    """Do to one client what was struck, if it has the stream."""
    payload = client.payload_of(struck.record)
    if payload is None:
        return
    frame = text_frame(payload)
    match struck.act:
        case Stall():
            client.stall()
        case Fin():
            client.cut()
        case Reset(part):
            await client.write([frame[: int(len(frame) * part)]])
            client.cut(reset=True)
        case Close(code, reason):
            await client.write([close_frame(code, reason)])
            client.stall()
        case Insert(data):
            await client.write([data, frame])
        case Fragment(pieces):
            await client.write([fragmented(payload, pieces)])
        case Slice(pieces, pause_s):
            await client.write(cut_up(frame, pieces), pause_s)


async def _answered(application: Application, scope: Scope, receive: Receive) -> Answer:
    """What the application itself answers."""
    status, headers, body = 500, {}, b""

    async def keep(message: Scope) -> None:
        nonlocal status, headers, body
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode(): value.decode() for name, value in message["headers"] if name != b"content-length"}
        else:
            body += message["body"]

    await application(scope, receive, keep)
    return Answer(status, body, headers)


async def _respond(send: Send, answer: Answer) -> None:
    named = {"content-type": "application/json;charset=UTF-8", **answer.headers, "content-length": str(len(answer.body))}
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
