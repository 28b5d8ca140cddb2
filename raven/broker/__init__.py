"""The broker: topics with epoch and sequence, last values, subscriptions, one outbox per client.

Everything here is synchronous, and nothing here knows gRPC, venues or stores: batches come in by a memory channel, bytes stand
ready in outboxes, and whoever owns an outbox writes them away.
"""

from raven.broker.broker import Broker, BrokerLimits, BrokerStatistics
from raven.broker.client import Client, Result, Subscription
from raven.broker.outbox import Outbox, OutboxLimits, OutboxStatistics

__all__ = [
    "Broker",
    "BrokerLimits",
    "BrokerStatistics",
    "Client",
    "Outbox",
    "OutboxLimits",
    "OutboxStatistics",
    "Result",
    "Subscription",
]
