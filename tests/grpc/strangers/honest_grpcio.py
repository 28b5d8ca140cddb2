"""A program: an unmodified client of grpcio that does one thing flat out for a while, and tells how much it got.

Arguments: target, seconds, what.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator

import grpc

from raven.codec.generated.raven import v1

SERVICE = "/raven.v1.MarketDataService/"
STREAMS = 40
HANGS_S = 20.0  # behind its time: then it says where it is, and ends


def watch(channel: grpc.Channel, seconds: float) -> int:
    """Messages of one stream."""
    selector = v1.TopicSelector("sim", "*", [v1.Kind.TRADE, v1.Kind.QUOTE])
    method = channel.unary_stream(SERVICE + "WatchMarketData", request_serializer=bytes)
    return count_messages(method(v1.WatchMarketDataRequest([v1.Subscription(selector=selector)]), timeout=seconds))


def count_messages(stream: Iterator[object]) -> int:
    """Until its time is over."""
    count = 0
    try:
        for _ in stream:
            count += 1
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    return count


def watch_many(channel: grpc.Channel, seconds: float) -> int:
    """Messages of many streams on one connection."""
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(watch(channel, seconds))) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def call(channel: grpc.Channel, seconds: float) -> int:
    """Answers to unary calls; every third call is cancelled as soon as it is made, every seventh has no time left."""
    method = channel.unary_unary(SERVICE + "ListTopics", request_serializer=bytes)
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        calls = [method.future(v1.ListTopicsRequest(), timeout=0.001 if number % 7 == 6 else 10) for number in range(STREAMS)]
        for number, future in enumerate(calls):
            if number % 3 == 2:
                future.cancel()
        count += sum(isinstance(result_of(future), bytes) for future in calls)
    return count


def result_of(future: grpc.Future) -> object:
    try:
        return future.result()
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        return error


def subscribe(channel: grpc.Channel, seconds: float) -> int:
    """Answers of one stream to pings and subscriptions that are sent without waiting."""
    method = channel.stream_stream(SERVICE + "StreamMarketData", request_serializer=bytes)
    over = threading.Event()

    def requests() -> Iterator[v1.StreamMarketDataRequest]:
        selector = v1.TopicSelector("sim", "BTC-USDT", [v1.Kind.QUOTE])
        wanted = v1.SubscribeRequest(subscriptions=[v1.Subscription(selector=selector, id="quotes")])
        while not over.is_set():
            for number in range(20):
                yield v1.StreamMarketDataRequest(ping=v1.Ping(number))
            yield v1.StreamMarketDataRequest(subscribe=wanted)
            time.sleep(0.002)

    try:
        return count_messages(method(requests(), timeout=seconds))
    finally:
        over.set()  # grpcio asks for requests in a thread of its own, which must not run while the interpreter ends


WHAT = {"watch": watch, "watch_many": watch_many, "call": call, "subscribe": subscribe}


def main() -> None:
    target, seconds, what = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    faulthandler.dump_traceback_later(seconds + HANGS_S, exit=True)
    with grpc.insecure_channel(target) as channel:
        print(WHAT[what](channel, seconds))


if __name__ == "__main__":
    main()
