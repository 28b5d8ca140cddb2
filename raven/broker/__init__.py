"""The broker: topics with epoch and sequence, last values, subscriptions, one outbox per client.

Everything here is synchronous, and nothing here knows gRPC, venues or stores: batches come in by a memory channel, bytes stand
ready in outboxes, and whoever owns an outbox writes them away.
"""

from raven.broker.broker import Broker, BrokerStatistics
from raven.broker.client import Client, Ended, Result, Subscription
from raven.broker.clients import BrokerLimits, Clients
from raven.broker.directory import Directory
from raven.broker.outbox import Outbox, OutboxLimits, OutboxStatistics

__all__ = [
    "Broker",
    "BrokerLimits",
    "BrokerStatistics",
    "Client",
    "Clients",
    "Directory",
    "Ended",
    "Outbox",
    "OutboxLimits",
    "OutboxStatistics",
    "Result",
    "Subscription",
]
