"""Field numbers of the controls of a StreamMarketDataResponse, as raven.proto has them."""

from __future__ import annotations

__all__ = ["DRAINING", "GOODBYE", "HEARTBEAT", "SLOW_WARNING", "SUBSCRIBED", "UNSUBSCRIBED", "WELCOME"]

WELCOME, SUBSCRIBED, UNSUBSCRIBED, HEARTBEAT, DRAINING, SLOW_WARNING, GOODBYE = 2, 3, 4, 7, 8, 9, 10
