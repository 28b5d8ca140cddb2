// A plain grpc-go server: a goroutine and a channel per call, and SendMsg of each event, which is encoded once.
//
//	grpc_go_server BOARD ELEMENT-AS-HEX
//
// The board is the one of _board.py: seven numbers, little end first, in a mapped file.
package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

const (
	burst = 10
	end   = 1 << 63
)

const (
	phase = iota
	done
	durationNs
	window
	received
	begunNs
	deliveries
)

type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = append([]byte(nil), data...); return nil }
func (raw) String() string                             { return "proto" }

type server struct {
	lock     sync.Mutex
	channels map[chan []byte]bool
}

func (s *server) watch(_ interface{}, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	channel := make(chan []byte, 4096)
	s.lock.Lock()
	s.channels[channel] = true
	s.lock.Unlock()
	defer func() {
		s.lock.Lock()
		delete(s.channels, channel)
		s.lock.Unlock()
	}()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		select {
		case element := <-channel:
			if err := stream.SendMsg(element); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (s *server) publish(element []byte) uint64 {
	s.lock.Lock()
	defer s.lock.Unlock()
	for i := 0; i < burst; i++ {
		for channel := range s.channels {
			channel <- element
		}
	}
	return uint64(burst * len(s.channels))
}

func openBoard(path string) *[7]uint64 {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	check(err)
	memory, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(err)
	return (*[7]uint64)(unsafe.Pointer(&memory[0]))
}

func monotonicNs() uint64 {
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		panic(errno)
	}
	return uint64(now.Nano())
}

func (s *server) run(board *[7]uint64, element []byte) {
	var last uint64
	load := func(slot int) uint64 { return atomic.LoadUint64(&board[slot]) }
	for {
		for load(phase) == last {
			time.Sleep(time.Millisecond)
		}
		last = load(phase)
		if last == end {
			os.Exit(0)
		}
		base, begun := load(received), monotonicNs()
		var made uint64
		for until := begun + load(durationNs); monotonicNs() < until; {
			if int64(made-(load(received)-base)) > int64(load(window)) {
				time.Sleep(100 * time.Microsecond)
				continue
			}
			made += s.publish(element)
		}
		board[begunNs], board[deliveries] = begun, made
		atomic.StoreUint64(&board[done], last)
	}
}

func main() {
	element, err := hex.DecodeString(os.Args[2])
	check(err)
	s := &server{channels: map[chan []byte]bool{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	service := grpc.ServiceDesc{
		ServiceName: "raven.v1.MarketDataService",
		HandlerType: (*interface{})(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "WatchMarketData", Handler: s.watch, ServerStreams: true}},
	}
	plain := grpc.NewServer(grpc.CustomCodec(raw{}))
	plain.RegisterService(&service, s)
	go s.run(openBoard(os.Args[1]), element)
	fmt.Printf("{\"word\": \"ready\", \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	check(plain.Serve(listener))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
