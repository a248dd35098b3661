package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
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

// queued is how many bytes wait for the server's clients.
func (s *live) queued() int {
	n := 0
	for _, l := range s.loops {
		done := make(chan struct{})
		if l.Post(loop.Func(func(l *loop.Loop) {
			defer close(done)
			l.Each(func(h loop.Handler) {
				if c, ok := h.(*socket.Socket); ok {
					n += c.Queued()
				}
			})
		}), 0) == nil {
			<-done
		}
	}
	return n
}

const restarts = "the server is restarting: connect again"

// wantRestart reads what a client is told when the server goes away.
func (c *raw) wantRestart() {
	c.t.Helper()
	c.want(ws.OpText, trouble("error", "", "", 4200, "ServerError", restarts, 503))
	c.wantClose(4200, restarts)
}

func TestShutdownDeliversWhatIsQueuedAndSpreadsTheCloses(t *testing.T) {
	const clients, steps = 10, 50
	onEach(t, func(t *testing.T, tr transport) {
		before := settled()
		t.Run("server", func(t *testing.T) {
			type step struct {
				wait time.Duration
				left int
			}
			took := make(chan step, steps)
			var s *live
			s = startOn(t, tr, Config{
				now: newClock(time.Now()).now, Loops: 1, DrainWindow: 100 * time.Second, Limits: Limits{QueuedBytes: 16 << 20},
				after: func(d time.Duration) <-chan time.Time {
					took <- step{d, s.entered()}
					now := make(chan time.Time, 1)
					now <- time.Time{}
					return now
				},
			})
			var ps []*raw
			for range clients {
				ps = append(ps, s.sluggish("a"))
			}
			sent := 0
			for ; sent < 400; sent++ { // more than sockets hold
				s.send(numbered("a", sent))
			}
			eventually(t, "bytes are queued", func() bool { return s.queued() > 0 })
			done := make(chan error, 1)
			go func() { done <- s.Shutdown(context.Background()) }()
			for i := 1; i < steps; i++ {
				if got, want := <-took, (step{2 * time.Second, clients * (steps - i) / steps}); got != want {
					t.Errorf("after step %d it waits %v with %d clients left, and should wait %v with %d", i, got.wait, got.left, want.wait, want.left)
				}
			}
			for _, p := range ps {
				for n := range sent {
					p.want(ws.OpText, numberedFrame("a", n))
				}
				p.wantRestart()
				p.Close()
			}
			if err := <-done; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
		heldAgain(t, before)
	})
}

func TestShutdownCutsOffWhoDoesNotReadInTime(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		before := settled()
		t.Run("server", func(t *testing.T) {
			hooked := make(chan string, 100)
			s := startOn(t, tr, Config{now: newClock(time.Now()).now, Limits: Limits{QueuedBytes: 16 << 20}, Hook: func(_ context.Context, e Event) {
				if e.Kind == Disconnected {
					hooked <- e.Reason
				}
			}})
			s.cut = true
			p, q := s.sluggish("a"), s.sluggish("a")
			r := s.upgraded("/ws")
			r.greeted()
			for n := range 400 {
				s.send(numbered("a", n))
			}
			eventually(t, "bytes are queued", func() bool { return s.queued() > 0 })
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Shutdown(ctx) }()
			r.wantRestart() // who reads is not kept waiting
			r.Close()
			eventually(t, "all have been told", func() bool { return s.entered() == 0 && s.open() == 2 })
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) || err.Error() != "server: 2 connections were cut off\ncontext canceled" {
				t.Errorf("Shutdown: %v", err)
			}
			for range 3 {
				if why := <-hooked; why != restarts {
					t.Errorf("the hook is told that %s", why)
				}
			}
			for _, p := range []*raw{p, q} { // some of what was sent, and the end
				for n := 0; ; n++ {
					op, b, err := p.read()
					if err != nil {
						break
					}
					if op != ws.OpText || string(b) != numberedFrame("a", n) {
						t.Fatalf("message %d is %d %.60q", n, op, b)
					}
				}
			}
		})
		heldAgain(t, before)
	})
}

func TestShutdownCutsOffRequestsThatDoNotEndInTime(t *testing.T) {
	for _, tr := range []transport{loops, overTLS, portable} {
		before := settled()
		t.Run(string(tr), func(t *testing.T) {
			s := startOn(t, tr, Config{Apps: testApps, Limits: Limits{Handshake: time.Hour}})
			p := s.connect()
			p.write([]byte("POST /apps/shop/events?" + auth.SignRequest("POST", "/apps/shop/events", nil, []byte("{}"), "k1", "s1", time.Now()) +
				" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"))
			if line, err := p.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" { // the body is being waited for
				t.Fatalf("got %q, %v", line, err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Shutdown(ctx) }()
			eventually(t, "the loops have ended", func() bool { return s.loops[0].Post(loop.Func(func(*loop.Loop) {}), 0) != nil })
			cancel()
			if err := <-done; err == nil || err.Error() != "server: HTTP requests under way were cut off: context canceled" {
				t.Errorf("Shutdown: %v", err)
			}
			if b, err := io.ReadAll(p.r); string(b) != "\r\n" || errors.Is(err, os.ErrDeadlineExceeded) { // the end of the 100, and of the stream
				t.Errorf("then it gets %q, %v", b, err)
			}
		})
		heldAgain(t, before)
	}
}

func TestWhoComesWhileTheServerGoesIsToldSo(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		waiting, step := make(chan struct{}, 1), make(chan time.Time)
		asked, decide := make(chan struct{}), make(chan struct{})
		a := auth.New()
		a.AllowAnonymous()
		a.Identify(func(r *http.Request) (auth.User, error) {
			if r.URL.RawQuery == "slow" {
				close(asked)
				<-decide
			}
			return auth.User{}, nil
		})
		s := startOn(t, tr, Config{Auth: a, DrainWindow: time.Hour, after: func(time.Duration) <-chan time.Time {
			select {
			case waiting <- struct{}{}:
			default:
			}
			return step
		}})
		goOn := sync.OnceFunc(func() { close(step) })
		t.Cleanup(goOn)
		var ps []*raw
		for range 100 { // which are not all gone after the first step
			p := s.upgraded("/ws")
			p.greeted()
			ps = append(ps, p)
		}
		get := func(path string) (int, http.Header, string) {
			p := s.connect()
			p.write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
			defer p.Close()
			return p.response()
		}
		if status, _, body := get("/ready"); status != 200 || body != "ready\n" {
			t.Errorf("before, /ready is %d %q", status, body)
		}
		half, slow := s.connect(), s.connect()
		half.write([]byte(upgradeRequest("/ws")[:30])) // net/http closes it in silence
		slow.write([]byte(upgradeRequest("/ws?slow")))
		<-asked
		eventually(t, "the server has half a request", func() bool { return tr != loops || s.open() == len(ps)+2 })
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(context.Background()) }()
		<-waiting // in the midst of it
		late := func(p *raw) {
			t.Helper()
			if status, h, body := p.response(); status != 503 || body != refusalBody(503, "the server is shutting down: connect again") || h.Get("Retry-After") != "1" {
				t.Errorf("a late request is answered with %d %q, Retry-After %q", status, body, h.Get("Retry-After"))
			}
			p.Close()
		}
		if tr == loops { // at once, both
			late(half)
			late(slow)
			close(decide)
		} else {
			half.Close()
			close(decide)
			late(slow)
		}
		if tr == mounted {
			if status, h, body := get("/ready"); status != 503 || body != "draining\n" || h.Get("Retry-After") != "1" {
				t.Errorf("/ready is %d %q, Retry-After %q", status, body, h.Get("Retry-After"))
			}
			if status, _, body := get("/health"); status != 200 || body != "ok\n" {
				t.Errorf("/health is %d %q", status, body)
			}
			p := s.connect()
			p.write([]byte(upgradeRequest("/ws")))
			late(p)
		} else { // whose listener is closed
			eventually(t, "nobody can connect", func() bool {
				c, err := net.Dial("tcp", s.addr)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
		}
		goOn()
		for _, p := range ps {
			p.wantRestart()
			p.Close()
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownDoesNotWaitForAHookForEver(t *testing.T) {
	stuck := make(chan struct{})
	s, err := New(Config{Logger: quiet(), Loops: 1, Hook: func(context.Context, Event) { <-stuck }})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	defer web.Close()
	c, err := wsclient.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(1000, "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	for err == nil {
		_, _, err = c.ReadMessage(t.Context())
	}
	eventually(t, "the loops have ended", func() bool { return s.loops[0].Post(loop.Func(func(*loop.Loop) {}), 0) != nil })
	cancel()
	if err := <-done; err == nil || err.Error() != "server: Config.Hook has not returned: context canceled" {
		t.Errorf("Shutdown: %v", err)
	}
	close(stuck)
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
