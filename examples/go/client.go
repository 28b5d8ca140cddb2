// A client of Raven with grpc-go. build.sh makes the stubs (package raven/v1) and builds it.
//
//	./build.sh
//	build/client [host:port] [events]
//
// It lists the topics, subscribes to trades, adds quotes, removes the trades; after each answer it prints `events` events.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "raven/v1"
)

func topicName(topic *pb.Topic) string {
	name := fmt.Sprintf("%s/%s/%s", topic.Venue, topic.Symbol, topic.Kind)
	if topic.Variant != "" {
		name += "/" + topic.Variant
	}
	return name
}

// What an event is, and what it says.
func describe(event *pb.MarketEvent) (string, string) {
	what := "event"
	if event.Flags&uint32(pb.EventFlag_EVENT_FLAG_IMAGE) != 0 {
		what = "image" // the latest state, not news
	}
	switch payload := event.Payload.(type) {
	case *pb.MarketEvent_Gap: // events of this topic that will not come
		return "gap", payload.Gap.Cause.String()
	case *pb.MarketEvent_Status: // how good the topic's data is from here on
		return "status", payload.Status.State.String()
	case *pb.MarketEvent_Trade:
		return what, fmt.Sprint(payload.Trade.GetPrice(), " ", payload.Trade.GetSize())
	case *pb.MarketEvent_Quote:
		return what, fmt.Sprint(payload.Quote.GetBidPrice(), " ", payload.Quote.GetAskPrice())
	default:
		return what, fmt.Sprintf("%T", payload)
	}
}

func showControl(message *pb.StreamMarketDataResponse) {
	switch control := message.Control.(type) {
	case *pb.StreamMarketDataResponse_Welcome:
		fmt.Println("welcome", control.Welcome.ClientId)
	case *pb.StreamMarketDataResponse_Subscribed:
		for _, result := range control.Subscribed.Results {
			if result.Accepted {
				fmt.Println("subscribed", result.Id, result.Topics, "topics")
			} else {
				fmt.Printf("subscribed %s refused: %s: %s\n", result.Id, result.Field, result.Error)
			}
		}
	case *pb.StreamMarketDataResponse_Unsubscribed:
		fmt.Println("unsubscribed", strings.Join(control.Unsubscribed.RemovedIds, " "))
	case *pb.StreamMarketDataResponse_Draining: // the server is about to go
		fmt.Println("draining", control.Draining.DeadlineMs)
	case *pb.StreamMarketDataResponse_Goodbye:
		fmt.Println("goodbye", control.Goodbye.Reason, control.Goodbye.Text)
	}
}

// Print what comes, until a request was answered and `count` events have come behind the answer.
func show(stream pb.MarketDataService_StreamMarketDataClient, count int) error {
	answered := false
	for count > 0 {
		message, err := stream.Recv()
		if err == io.EOF {
			return errors.New("the server ended the stream")
		} else if err != nil {
			return err
		}
		showControl(message)
		answered = answered || message.GetSubscribed() != nil || message.GetUnsubscribed() != nil
		for _, event := range message.Events {
			what, text := describe(event)
			fmt.Println(what, topicName(event.Topic), event.Sequence, text)
			if answered && what == "event" {
				count--
			}
		}
	}
	return nil
}

func hello(clientID string) *pb.StreamMarketDataRequest {
	return &pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Hello{Hello: &pb.Hello{ClientId: clientID}}}
}

func subscribe(id string, kind pb.Kind) *pb.StreamMarketDataRequest {
	selector := &pb.TopicSelector{Venue: "sim", Symbol: "*", Kinds: []pb.Kind{kind}}
	request := &pb.SubscribeRequest{Subscriptions: []*pb.Subscription{{Id: id, Selector: selector}}}
	return &pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Subscribe{Subscribe: request}}
}

func unsubscribe(id string) *pb.StreamMarketDataRequest {
	request := &pb.UnsubscribeRequest{Ids: []string{id}}
	return &pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Unsubscribe{Unsubscribe: request}}
}

func run(ctx context.Context, target string, events int) error {
	connection, err := grpc.Dial(target, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewMarketDataServiceClient(connection)
	listed, err := client.ListTopics(ctx, &pb.ListTopicsRequest{})
	if err != nil {
		return err
	}
	for _, entry := range listed.Topics {
		fmt.Println("topic", topicName(entry.Topic), entry.Status.State)
	}

	stream, err := client.StreamMarketData(ctx)
	if err != nil {
		return err
	}
	steps := [][]*pb.StreamMarketDataRequest{
		{hello("example-go"), subscribe("trades", pb.Kind_KIND_TRADE)},
		{subscribe("quotes", pb.Kind_KIND_QUOTE)},
		{unsubscribe("trades")},
	}
	for _, requests := range steps {
		for _, request := range requests {
			if err := stream.Send(request); err != nil && err != io.EOF { // io.EOF: Recv tells why
				return err
			}
		}
		if err := show(stream, events); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	target, events := "localhost:50051", 10
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	if len(os.Args) > 2 {
		if _, err := fmt.Sscan(os.Args[2], &events); err != nil {
			log.Fatalf("events %q: a number is wanted", os.Args[2])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, target, events)
	if status.Code(err) == codes.Canceled {
		fmt.Println("stopped")
	} else if err != nil {
		log.Fatal(err)
	}
}
