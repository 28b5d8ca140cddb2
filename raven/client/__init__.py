"""The client library, on Trio or asyncio, whichever runs.

import raven.client

async def main():
    async with raven.client.connect("localhost:50051") as client:
        async for event in client.stream("sim/BTC-USDT", kinds="trade,quote"):
            print(event)

raven.client.run(main)

docs/clients.md has the cookbook. `raven.client.sync` is for programs without async, `raven.client.testing` has a server
for tests.
"""

from raven.client.aio import run
from raven.client.anyway import connect
from raven.client.backoff import Reconnect
from raven.client.books import Books, BookStream, LiveBook
from raven.client.changes import Change, Connected, Lost, Moving, Refused, SlowWarned, Subscribed
from raven.client.client import Client
from raven.client.errors import (
    BufferOverflow,
    CredentialsRefused,
    DecodeError,
    Disconnected,
    ProtocolRefused,
    Replaced,
    ServerUnavailable,
    SlowConsumer,
    StreamEnded,
    SubscriptionRefused,
)
from raven.client.events import Batch, Event, GapEvent, Received, StatusEvent, StreamEvent, Unknown
from raven.client.history import HistoryBatches, HistoryStream
from raven.client.selectors import parse_target, selector
from raven.client.streams import BatchStream, EventStream

__all__ = [
    "Batch",
    "BatchStream",
    "BookStream",
    "Books",
    "BufferOverflow",
    "Change",
    "Client",
    "Connected",
    "CredentialsRefused",
    "DecodeError",
    "Disconnected",
    "Event",
    "EventStream",
    "GapEvent",
    "HistoryBatches",
    "HistoryStream",
    "LiveBook",
    "Lost",
    "Moving",
    "ProtocolRefused",
    "Received",
    "Reconnect",
    "Refused",
    "Replaced",
    "ServerUnavailable",
    "SlowConsumer",
    "SlowWarned",
    "StatusEvent",
    "StreamEnded",
    "StreamEvent",
    "Subscribed",
    "SubscriptionRefused",
    "Unknown",
    "connect",
    "parse_target",
    "run",
    "selector",
]
