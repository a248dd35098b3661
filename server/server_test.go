package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// live is a server that listens on a loopback port.
type live struct {
	*Server
	t    testing.TB
	addr string
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start serves cfg until the test ends.
func start(t testing.TB, cfg Config) *live {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if cfg.DrainWindow == 0 {
		cfg.DrainWindow = time.Nanosecond
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &live{s, t, ln.Addr().String()}
}

// peer is a client of the plain protocol.
type peer struct {
	*wsclient.Conn
	t        testing.TB
	SocketID string
}

func (s *live) dial(query string) *peer {
	s.t.Helper()
	c, err := wsclient.Dial(context.Background(), "ws://"+s.addr+"/ws"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &peer{Conn: c, t: s.t}
	s.t.Cleanup(func() { c.Close(1000, "") })
	var hello struct {
		Event string
		Data  struct {
			SocketID string `json:"socket_id"`
		}
	}
	text := p.next()
	if err := json.Unmarshal([]byte(text), &hello); err != nil || hello.Event != "connection_established" {
		s.t.Fatalf("greeting is %s", text)
	}
	p.SocketID = hello.Data.SocketID
	return p
}

func (p *peer) say(frame string) {
	p.t.Helper()
	if err := p.Write(context.Background(), ws.OpText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

// next is the next frame from the server.
func (p *peer) next() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	if err != nil {
		p.t.Fatalf("no further frame: %v", err)
	}
	return string(b)
}

func (p *peer) want(frames ...string) {
	p.t.Helper()
	for _, want := range frames {
		if got := p.next(); got != want {
			p.t.Fatalf("frame is\n%s\nand should be\n%s", got, want)
		}
	}
}

func (s *live) send(m realtime.Message) {
	s.t.Helper()
	if err := s.Send(context.Background(), &m); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnEventReachesASubscriber(t *testing.T) {
	s := start(t, Config{})
	p := s.dial("")
	p.say(`{"event":"subscribe","channel":"orders"}`)
	p.want(`{"event":"subscription_succeeded","channel":"orders"}`)
	s.send(realtime.Message{Channels: []string{"orders"}, Event: "OrderShipped", Data: json.RawMessage(`{"orderId":"1"}`)})
	p.want(`{"event":"OrderShipped","channel":"orders","data":{"orderId":"1"}}`)
}
