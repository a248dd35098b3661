package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// Whenever Shutdown comes, Serve ends without an error, and takes its listener with it.
func TestShutdownWhileServeBegins(t *testing.T) {
	for range 100 {
		s, err := New(Config{Logger: quiet(), Loops: 2})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Serve(ctx, ln); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
		wg.Wait()
		cancel()
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
			t.Fatal("the address is still listened on")
		}
	}
}

// Also of clients that are cut off because the time is over: nothing is told after Shutdown has returned.
func TestShutdownTellsTheHookOfEverybody(t *testing.T) {
	const clients, channels = 5, 20
	var told atomic.Int32
	srv, err := New(Config{Logger: quiet(), Loops: 2, DrainWindow: time.Hour, Hook: func(_ context.Context, e Event) {
		if e.Kind == ChannelVacated || e.Kind == Disconnected {
			for range 100 {
				runtime.Gosched()
			}
			told.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	defer web.Close()
	s := &live{Server: srv, t: t, addr: web.Listener.Addr().String()}
	for i := range clients {
		p := s.upgraded("/ws")
		p.greeted()
		for j := range channels {
			name := fmt.Sprint(i, ".", j)
			p.write(masked(ws.OpText, subscribe(name)))
			p.want(ws.OpText, succeeded(name))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if n := told.Load(); n != clients*(1+channels) {
		t.Errorf("when Shutdown returns, the hook has been told of %d ends, not %d", n, clients*(1+channels))
	}
}
