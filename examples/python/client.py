"""A client of Raven with grpcio alone, and stubs made from the contract.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I ../../protos/raven/v1 --python_out=. --grpc_python_out=. raven.proto
    python client.py [host:port] [events]

It lists the topics, subscribes to trades, adds quotes, removes the trades; after each answer it prints `events` events.
"""

import queue
import sys

import grpc
import raven_pb2 as pb
from raven_pb2_grpc import MarketDataServiceStub


def topic_name(topic):
    return "/".join(filter(None, [topic.venue, topic.symbol, pb.Kind.Name(topic.kind), topic.variant]))


def describe(event):
    """What an event is, and what it says."""
    if event.HasField("gap"):  # events of this topic that will not come
        return "gap", pb.Gap.Cause.Name(event.gap.cause)
    if event.HasField("status"):  # how good the topic's data is from here on
        return "status", pb.TopicStatus.State.Name(event.status.state)
    what = "image" if event.flags & pb.EVENT_FLAG_IMAGE else "event"  # an image is the latest state, not news
    if event.HasField("trade"):
        return what, f"{event.trade.price} {event.trade.size}"
    if event.HasField("quote"):
        return what, f"{event.quote.bid_price} {event.quote.ask_price}"
    return what, event.WhichOneof("payload")


def numbers(event):
    """An event that the server made of several, because this client did not read fast enough, has the numbers of them all."""
    return f"{event.first_sequence}-{event.sequence}" if event.first_sequence else event.sequence


def show_control(message):
    control = message.WhichOneof("control")
    if control == "welcome":
        print("welcome", message.welcome.client_id)
    elif control == "subscribed":
        for result in message.subscribed.results:
            said = f"{result.topics} topics" if result.accepted else f"refused: {result.field}: {result.error}"
            print("subscribed", result.id, said)
    elif control == "unsubscribed":
        print("unsubscribed", *message.unsubscribed.removed_ids)
    elif control == "draining":  # the server is about to go
        print("draining", message.draining.deadline_ms)
    elif control == "goodbye":
        print("goodbye", pb.Goodbye.Reason.Name(message.goodbye.reason), message.goodbye.text)


def show(stream, count):
    """Print what comes, until a request was answered and `count` events have come behind the answer."""
    answered = False
    while count > 0:
        message = next(stream)
        show_control(message)
        answered = answered or message.HasField("subscribed") or message.HasField("unsubscribed")
        for event in message.events:
            what, text = describe(event)
            print(what, topic_name(event.topic), numbers(event), text, flush=True)
            count -= answered and what == "event"


def subscribe(name, kind):
    selector = pb.TopicSelector(venue="sim", symbol="*", kinds=[kind])
    subscription = pb.Subscription(id=name, selector=selector)
    return pb.StreamMarketDataRequest(subscribe=pb.SubscribeRequest(subscriptions=[subscription]))


def unsubscribe(name):
    return pb.StreamMarketDataRequest(unsubscribe=pb.UnsubscribeRequest(ids=[name]))


def main(target="localhost:50051", events="10"):
    with grpc.insecure_channel(target) as channel:
        raven = MarketDataServiceStub(channel)
        for entry in raven.ListTopics(pb.ListTopicsRequest(), timeout=5).topics:
            print("topic", topic_name(entry.topic), pb.TopicStatus.State.Name(entry.status.state))

        requests = queue.SimpleQueue()
        stream = raven.StreamMarketData(iter(requests.get, None))
        try:
            requests.put(pb.StreamMarketDataRequest(hello=pb.Hello(client_id="example-python")))
            requests.put(subscribe("trades", pb.KIND_TRADE))
            show(stream, int(events))
            requests.put(subscribe("quotes", pb.KIND_QUOTE))
            show(stream, int(events))
            requests.put(unsubscribe("trades"))
            show(stream, int(events))
        finally:
            requests.put(None)
            stream.cancel()


try:
    main(*sys.argv[1:])
except KeyboardInterrupt:
    print("stopped")
except StopIteration:
    sys.exit("the server ended the stream")
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")
