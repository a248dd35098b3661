package server

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
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

// Whoever is still being identified when Shutdown begins is told to come back, and holds nothing up.
func TestAClientIdentifiedWhileTheServerDrainsIsRefused(t *testing.T) {
	for _, tr := range transports {
		t.Run(string(tr), func(t *testing.T) {
			asked, decide := make(chan struct{}), make(chan struct{})
			who := auth.New()
			who.Identify(func(*http.Request) (auth.User, error) {
				close(asked)
				<-decide
				return auth.User{ID: "ada"}, nil
			})
			s := startOn(t, tr, Config{Auth: who})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := wsclient.Dial(ctx, s.url(""), &wsclient.Options{TLS: s.tls})
				no, ok := errors.AsType[*wsclient.HandshakeError](err)
				if !ok || no.Status != http.StatusServiceUnavailable || no.Header.Get("Retry-After") != "1" ||
					no.Body != `{"error":"the server is shutting down: connect again","code":503}`+"\n" {
					t.Errorf("connecting: %+v, and should be refused with 503", err)
				}
			})
			<-asked
			wg.Go(func() {
				if err := s.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
			eventually(t, "the server drains", s.draining.Load)
			close(decide)
			wg.Wait()
			if n := s.entered(); n != 0 {
				t.Errorf("%d places are not given back", n)
			}
		})
	}
}

// A handshake may pass every check right before Shutdown, and its connection come to the loop when the others have been
// told already.
func TestAConnectionThatComesAfterTheOthersWereClosedIsClosed(t *testing.T) {
	s := start(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const late = 20
	var admitted []*handshake
	for range late {
		r := httptest.NewRequest("GET", "/ws", nil)
		r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		h, no := s.admit(t.Context(), r)
		if no != nil {
			t.Fatalf("refused: %+v", no)
		}
		admitted = append(admitted, h)
	}
	stays := s.upgraded("/ws") // until it is closed, the loops do not end
	stays.greeted()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	const why = "the server is restarting: connect again"
	told := trouble("error", "", "", 4200, "ServerError", why, 503)
	stays.want(ws.OpText, told)
	for _, h := range admitted {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		its, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.take(its, masked(ws.OpText, `{"event":"ping"}`), h)
		p := &raw{Conn: c, t: t, r: bufio.NewReader(c)}
		if status, _, _ := p.response(); status != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", status)
		}
		p.greeted()
		p.want(ws.OpText, told)
		p.wantClose(4200, why)
		c.Close()
	}
	stays.Close()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if n := s.entered(); n != 0 {
		t.Errorf("%d places are not given back", n)
	}
}
