// A client of Raven with grpc-go. build.sh makes the stubs (package raven/v1) and builds it.
//
//	./build.sh
//	build/client [host:port] [events]
//
// It lists the topics, subscribes to trades, adds quotes, removes the trades; after each answer it prints `events` events. When
// the connection is lost or the server restarts, stream.go comes back, and nothing is missing or printed twice.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/grpc"

	pb "raven/v1"
)

// What an event is, and what it says.
func describe(event *pb.MarketEvent) (string, string) {
	what := "event"
	if event.Flags&isImage != 0 {
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

// An event that the server made of several, because this client did not read fast enough, has the numbers of them all.
func numbers(event *pb.MarketEvent) string {
	if event.FirstSequence == 0 {
		return fmt.Sprint(event.Sequence)
	}
	return fmt.Sprintf("%d-%d", event.FirstSequence, event.Sequence)
}

func showControl(message *pb.StreamMarketDataResponse) {
	switch control := message.Control.(type) {
	case *pb.StreamMarketDataResponse_Welcome:
		fmt.Println("welcome", control.Welcome.ClientId)
	case *pb.StreamMarketDataResponse_Subscribed:
		for _, result := range control.Subscribed.Results {
			if !result.Accepted {
				fmt.Printf("subscribed %s refused: %s: %s\n", result.Id, result.Field, result.Error)
			} else if result.Recovered {
				fmt.Printf("subscribed %s %d topics, recovered\n", result.Id, result.Topics)
			} else {
				fmt.Printf("subscribed %s %d topics\n", result.Id, result.Topics)
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
func show(ctx context.Context, stream *Stream, count int) error {
	answered := false
	for count > 0 {
		message, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		showControl(message)
		answered = answered || message.GetSubscribed() != nil || message.GetUnsubscribed() != nil
		for _, event := range message.Events {
			what, text := describe(event)
			fmt.Println(what, topicName(event.Topic), numbers(event), text)
			if answered && what == "event" {
				count--
			}
		}
	}
	return nil
}

func listTopics(ctx context.Context, target string) error {
	connection, err := grpc.Dial(target, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	listed, err := pb.NewMarketDataServiceClient(connection).ListTopics(ctx, &pb.ListTopicsRequest{})
	if err != nil {
		return err
	}
	for _, entry := range listed.Topics {
		fmt.Println("topic", topicName(entry.Topic), entry.Status.State)
	}
	return nil
}

func run(ctx context.Context, target string, events int) error {
	if err := listTopics(ctx, target); err != nil {
		return err
	}
	stream := NewStream(target, "example-go", grpc.WithInsecure())
	defer stream.Close()
	stream.OnLost = func(reason string, pause time.Duration) {
		fmt.Println("lost", reason, "again in", pause.Milliseconds(), "ms")
	}
	// As bad as a gap, and not told by the server.
	stream.OnHole = func(topic *pb.Topic, what string) { fmt.Println("hole", topicName(topic), what) }

	all := func(kind pb.Kind) *pb.TopicSelector {
		return &pb.TopicSelector{Venue: "sim", Symbol: "*", Kinds: []pb.Kind{kind}}
	}
	steps := []func(){
		func() { stream.Subscribe("trades", all(pb.Kind_KIND_TRADE)) },
		func() { stream.Subscribe("quotes", all(pb.Kind_KIND_QUOTE)) },
		func() { stream.Unsubscribe("trades") },
	}
	for _, step := range steps {
		step()
		if err := show(ctx, stream, events); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	rand.Seed(time.Now().UnixNano()) // else all clients would come back in step
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
	if ctx.Err() != nil {
		fmt.Println("stopped")
	} else if err != nil {
		log.Fatal(err)
	}
}
