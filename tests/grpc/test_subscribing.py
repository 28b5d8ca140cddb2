"""What became of subscriptions, as it is written."""

from __future__ import annotations

import pytest

from raven.broker import Result, Subscription
from raven.broker.bookmark import Resume
from raven.codec.generated.raven import v1
from raven.grpc.subscribing import Outcome, encode_control, encode_subscribed, result_messages
from raven.model.topic import Kind, Selector

BTC = Subscription("one", Selector("sim", "BTC-USDT", frozenset({Kind.TRADE})), resume=Resume({"sim": (5, 7)}))
TAKEN = Result("one", accepted=True, topics=1, recovered=True)
REFUSED = Result("two", accepted=False, field="selector.venue", error="'sym' is not served")


@pytest.mark.parametrize("request_id", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("outcomes", [[], [(TAKEN, BTC)], [(TAKEN, BTC), (REFUSED, None)], [(REFUSED, BTC)] * 200])
def test_it_is_written_as_the_generated_code_would(outcomes: list[Outcome], request_id: int) -> None:
    answer = v1.SubscribeResponse(result_messages(outcomes), request_id)
    assert encode_subscribed(outcomes, request_id) == encode_control(subscribed=answer)
