// A stream of Raven that loses nothing: when its connection ends, it comes back and goes on where it was.
//
//	stream := NewStream("localhost:50051", "my-client-id")
//	defer stream.Close()
//	stream.Subscribe("trades", &pb.TopicSelector{Venue: "sim", Symbol: "*", Kinds: []pb.Kind{pb.Kind_KIND_TRADE}})
//	for message, err := stream.Next(ctx); err == nil; message, err = stream.Next(ctx) { ... }
//
// What it does is what docs/clients.md asks of a client: events that came before are left out of the messages, and a hole that
// the server has not told is told by OnHole. A Stream belongs to one goroutine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "raven/v1"
)

const (
	pauseMin, pauseMax  = 250 * time.Millisecond, 20 * time.Second // a pause is random, up to a ceiling that doubles ...
	stableFor           = 5 * time.Second                          // ... and begins anew after a stream that lasted so long
	welcomeWithin       = 5 * time.Second                          // the server's first word
	heartbeatsMissedMax = 3                                        // a connection without a word for so many is dead
	moveMargin          = 500 * time.Millisecond                   // a server that drains is left so long before its deadline
	refusedFor          = 60 * time.Second                         // what was taken once and is refused is asked for again
	pointsMax           = 2000                                     // resume points in a request: it may have 256 KiB

	isImage = uint32(pb.EventFlag_EVENT_FLAG_IMAGE)
	isLocal = uint32(pb.EventFlag_EVENT_FLAG_LOCAL)
)

// Statuses and goodbyes after which coming back makes no sense.
var forGood = map[codes.Code]bool{codes.InvalidArgument: true, codes.Unauthenticated: true, codes.PermissionDenied: true,
	codes.Aborted: true, codes.Unimplemented: true}

type wanted struct {
	id                string
	selector          *pb.TopicSelector
	accepted, covered bool // covered: a bookmark came since it was accepted
}

type place struct {
	topic           *pb.Topic
	epoch, sequence uint64
	gap             bool // one has come, and nothing behind it yet
}

type Stream struct {
	OnLost func(reason string, pause time.Duration)
	OnHole func(topic *pb.Topic, what string)

	target, clientID string
	options          []grpc.DialOption
	wanted           []*wanted
	places           map[string]*place
	bookmark         []byte // stands behind everything that came before it
	attempt          int
	refusedSince     time.Time
	connection       *connection
}

// One connection, with a channel of its own, so that the next one is made anew, at another server perhaps.
type connection struct {
	channel    *grpc.ClientConn
	call       pb.MarketDataService_StreamMarketDataClient
	cancel     context.CancelFunc
	left       atomic.Value // why it was cancelled here
	began      time.Time
	heartbeat  time.Duration // 0 before the Welcome
	moving     *time.Timer
	retryAfter time.Duration
	over       error // it makes no sense to come back
}

func NewStream(target, clientID string, options ...grpc.DialOption) *Stream {
	return &Stream{target: target, clientID: clientID, options: options, places: map[string]*place{},
		OnLost: func(string, time.Duration) {}, OnHole: func(*pb.Topic, string) {}}
}

func (s *Stream) Subscribe(id string, selector *pb.TopicSelector) {
	one := &wanted{id: id, selector: selector}
	s.wanted = append(s.wanted, one)
	s.send(subscribeRequest(s.subscription(one)))
}

func (s *Stream) Unsubscribe(id string) {
	for i, one := range s.wanted {
		if one.id == id {
			s.wanted = append(s.wanted[:i:i], s.wanted[i+1:]...)
			break
		}
	}
	request := &pb.UnsubscribeRequest{Ids: []string{id}}
	s.send(&pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Unsubscribe{Unsubscribe: request}})
}

func (s *Stream) Close() {
	if s.connection != nil {
		s.connection.close()
		s.connection = nil
	}
}

// Next is the next message, of this connection or of one that is made after it. An error is for good.
func (s *Stream) Next(ctx context.Context) (*pb.StreamMarketDataResponse, error) {
	for {
		err := s.connect(ctx)
		if err == nil {
			var message *pb.StreamMarketDataResponse
			if message, err = s.connection.receive(); err == nil {
				return message, s.take(message)
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = s.lost(ctx, err); err != nil {
			return nil, err
		}
	}
}

// Make a connection, if there is none, and ask for what is wanted.
func (s *Stream) connect(ctx context.Context) error {
	if s.connection != nil {
		return nil
	}
	channel, err := grpc.Dial(s.target, s.options...)
	if err != nil {
		return err
	}
	calling, cancel := context.WithCancel(ctx)
	s.connection = &connection{channel: channel, cancel: cancel, began: time.Now()}
	if s.connection.call, err = pb.NewMarketDataServiceClient(channel).StreamMarketData(calling); err != nil {
		return err
	}
	hello := &pb.Hello{ClientId: s.clientID}
	s.send(&pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Hello{Hello: hello}})
	subscriptions := make([]*pb.Subscription, len(s.wanted))
	for i, one := range s.wanted {
		subscriptions[i] = s.subscription(one)
	}
	if len(subscriptions) > 0 {
		s.send(subscribeRequest(subscriptions...))
	}
	return nil
}

// The connection has ended: wait, so that another can be made. An error is for good.
func (s *Stream) lost(ctx context.Context, err error) error {
	last := s.connection
	if last == nil {
		return err // the target is no address
	}
	s.Close()
	if last.over != nil {
		return last.over
	}
	reason := status.Convert(err).Message()
	if left, ok := last.left.Load().(string); ok {
		reason = left
	} else if err == io.EOF {
		reason = "the server ended the stream"
	} else if forGood[status.Code(err)] {
		return err
	}
	if last.heartbeat > 0 && time.Since(last.began) >= stableFor {
		s.attempt = 0
	}
	ceiling := pauseMin << s.attempt
	if ceiling >= pauseMax {
		ceiling = pauseMax
	} else {
		s.attempt++
	}
	pause := time.Duration(rand.Int63n(int64(ceiling)))
	if pause < last.retryAfter {
		pause = last.retryAfter
	}
	s.OnLost(reason, pause)
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Stream) send(request *pb.StreamMarketDataRequest) {
	if s.connection != nil && s.connection.call != nil {
		_ = s.connection.call.Send(request) // Recv tells why it could not be sent
	}
}

// What a message says: its controls, and which of its events are new.
func (s *Stream) take(message *pb.StreamMarketDataResponse) error {
	switch control := message.Control.(type) {
	case *pb.StreamMarketDataResponse_Welcome:
		s.connection.heartbeat = milliseconds(control.Welcome.HeartbeatIntervalMs)
	case *pb.StreamMarketDataResponse_Subscribed:
		for _, result := range control.Subscribed.Results {
			if err := s.answered(result); err != nil {
				return err
			}
		}
	case *pb.StreamMarketDataResponse_Unsubscribed:
		s.forget()
	case *pb.StreamMarketDataResponse_Heartbeat:
		s.mark(control.Heartbeat.Bookmark)
	case *pb.StreamMarketDataResponse_Draining:
		s.mark(control.Draining.Bookmark)
		s.connection.move(control.Draining)
	case *pb.StreamMarketDataResponse_Goodbye:
		s.mark(control.Goodbye.Bookmark)
		s.connection.retryAfter = milliseconds(control.Goodbye.RetryAfterMs)
		if !control.Goodbye.Reconnect {
			s.connection.over = fmt.Errorf("%s: %s", control.Goodbye.Reason, control.Goodbye.Text)
		}
	}
	events := message.Events[:0]
	for _, event := range message.Events {
		if s.isNew(event) {
			events = append(events, event)
		}
	}
	message.Events = events
	return nil
}

func (s *Stream) answered(result *pb.SubscribeResponse_Result) error {
	for _, one := range s.wanted {
		if one.id != result.Id {
			continue
		}
		if result.Accepted {
			one.accepted, s.refusedSince = true, time.Time{}
			return nil
		}
		if s.refusedSince.IsZero() {
			s.refusedSince = time.Now()
		}
		refusal := fmt.Sprintf("%s: %s", result.Field, result.Error)
		if !one.accepted || time.Since(s.refusedSince) > refusedFor {
			return errors.New(refusal)
		}
		s.connection.leave("refused for now: " + refusal) // it has just started, and may not know its topics yet
	}
	return nil
}

func (s *Stream) mark(bookmark []byte) {
	if len(bookmark) == 0 {
		return
	}
	s.bookmark = bookmark
	for _, one := range s.wanted {
		one.covered = one.covered || one.accepted
	}
}

// A topic that nobody asks for any more begins anew when it is asked for again.
func (s *Stream) forget() {
	for name, last := range s.places {
		asked := false
		for _, one := range s.wanted {
			asked = asked || matches(one.selector, last.topic)
		}
		if !asked {
			delete(s.places, name)
		}
	}
}

// What to ask for: behind the bookmark if it covers this subscription, else behind the last event of each topic.
func (s *Stream) subscription(one *wanted) *pb.Subscription {
	subscription := &pb.Subscription{Id: one.id, Selector: one.selector}
	if one.covered {
		subscription.Bookmark = s.bookmark
		return subscription
	}
	for _, last := range s.places {
		if matches(one.selector, last.topic) && len(subscription.Resume) < pointsMax {
			point := &pb.ResumePoint{Topic: last.topic, Epoch: last.epoch, Sequence: last.sequence}
			subscription.Resume = append(subscription.Resume, point)
		}
	}
	return subscription
}

// Whether an event has not come before. Within an epoch the sequence of a topic goes up by one.
func (s *Stream) isNew(event *pb.MarketEvent) bool {
	name := topicName(event.Topic)
	last := s.places[name]
	if event.Flags&isLocal != 0 { // for this client alone: it takes no sequence
		if event.GetGap() != nil && last != nil {
			last.gap = true
		}
		return true
	}
	image := event.Flags&isImage != 0
	goesOn := last != nil && event.Epoch == last.epoch
	if goesOn && (event.Sequence < last.sequence || event.Sequence == last.sequence && !(image && last.gap)) {
		return false // behind a gap the image as of the last sequence is what there is to go on from
	}
	first := event.Sequence
	if image { // it tells the state, not what led to it
		first++
	} else if event.FirstSequence != 0 { // a conflated event stands for all from there on
		first = event.FirstSequence
	}
	if last != nil && !last.gap && !goesOn {
		s.OnHole(event.Topic, "a new epoch")
	} else if last != nil && !last.gap && first > last.sequence+1 {
		s.OnHole(event.Topic, fmt.Sprint(last.sequence+1, " to ", first-1))
	}
	s.places[name] = &place{topic: event.Topic, epoch: event.Epoch, sequence: event.Sequence}
	return true
}

// The next message. A connection that says nothing for too long is dead, whatever TCP says.
func (c *connection) receive() (*pb.StreamMarketDataResponse, error) {
	if c.call == nil {
		return nil, status.Error(codes.Unavailable, "there is no connection")
	}
	limit := heartbeatsMissedMax * c.heartbeat
	if limit == 0 {
		limit = welcomeWithin
	}
	silence := time.AfterFunc(limit, func() { c.leave(fmt.Sprint("nothing came for ", limit)) })
	defer silence.Stop()
	return c.call.Recv()
}

func (c *connection) leave(reason string) {
	c.left.Store(reason)
	c.cancel()
}

// The server is going away: data goes on until this client leaves, before the deadline.
func (c *connection) move(draining *pb.Draining) {
	pause, latest := milliseconds(draining.RetryAfterMs), milliseconds(draining.DeadlineMs)-moveMargin
	if pause > latest {
		pause = latest
	}
	if c.moving == nil {
		c.moving = time.AfterFunc(pause, func() { c.leave("the server is going away") })
	}
}

func (c *connection) close() {
	if c.moving != nil {
		c.moving.Stop()
	}
	c.cancel()
	c.channel.Close()
}

func subscribeRequest(subscriptions ...*pb.Subscription) *pb.StreamMarketDataRequest {
	request := &pb.SubscribeRequest{Subscriptions: subscriptions}
	return &pb.StreamMarketDataRequest{Request: &pb.StreamMarketDataRequest_Subscribe{Subscribe: request}}
}

func matches(selector *pb.TopicSelector, topic *pb.Topic) bool {
	for _, kind := range selector.Kinds {
		if kind == topic.Kind {
			return fits(selector.Venue, topic.Venue) && fits(selector.Symbol, topic.Symbol)
		}
	}
	return false
}

func fits(pattern, name string) bool {
	return pattern == name || strings.HasSuffix(pattern, "*") && strings.HasPrefix(name, strings.TrimSuffix(pattern, "*"))
}

func topicName(topic *pb.Topic) string {
	name := fmt.Sprintf("%s/%s/%s", topic.Venue, topic.Symbol, topic.Kind)
	if topic.Variant != "" {
		name += "/" + topic.Variant
	}
	return name
}

func milliseconds(count uint32) time.Duration { return time.Duration(count) * time.Millisecond }
