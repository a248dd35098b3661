package realtimetest

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/server"
)

// Live is a server that really listens, for one test.
type Live struct {
	*server.Server
	// Addr is where it listens: "127.0.0.1:PORT".
	Addr string
	// URL is where WebSockets connect: "ws://127.0.0.1:PORT/ws".
	URL string

	t testing.TB
}

// Server starts a real server on a loopback port, which ends with the test. The context it returns carries a
// Broadcaster with events, which may be nil, that sends through the server. Of cfg, what is zero becomes what a test
// wants: no log, and no waiting at the end.
func Server(t testing.TB, cfg server.Config, events *realtime.Events) (context.Context, *Live) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.DrainWindow == 0 {
		cfg.DrainWindow = time.Nanosecond
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := realtime.New(s, events)
	if err != nil {
		s.Shutdown(context.Background())
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Shutdown(context.Background())
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("realtimetest: the server ended with %v", err)
		}
	})
	addr := ln.Addr().String()
	return realtime.WithBroadcaster(context.Background(), b), &Live{s, addr, "ws://" + addr + cmp.Or(cfg.Path, "/ws"), t}
}
