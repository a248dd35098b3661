package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/ws"
	io "github.com/stacksjs/realtime-go/socketio"
)

// ears check what a client hears: that the numbers of every stream follow each other, and that binary units are whole.
// A stream is a channel, whose events have a number for data, or the first argument of an event with the number behind it.
type ears struct {
	next  map[string]int // the number expected; of a stream that was not heard, none is
	heard int
	unit  struct { // attachments that are on their way
		stream      string
		n, at, size int
	}
}

// attachment is the i-th of a stream's n-th unit.
func attachment(stream string, n, i int) []byte {
	return []byte(fmt.Sprintf("%s %d %d ", stream, n, i) + strings.Repeat("z", (n*7+i*131)%400))
}

func (e *ears) packet(text string) error {
	if e.unit.at < e.unit.size {
		return fmt.Errorf("%s comes between the attachments of %v", text, e.unit)
	}
	if text[0] != '4' {
		return nil
	}
	var stream string
	n, blobs := 0, 0
	kind, args, ok := strings.Cut(text, "[")
	binary := strings.HasPrefix(kind, "45")
	if !ok || !strings.HasPrefix(kind, "42") && !binary {
		return nil
	}
	var in []json.RawMessage
	if err := json.Unmarshal([]byte("["+args), &in); err != nil || len(in) < 2 {
		return fmt.Errorf("packet %s: %v", text, err)
	}
	var told struct {
		Channel string
		Data    *int
	}
	switch {
	case in[1][0] == '{' && json.Unmarshal(in[1], &told) == nil && told.Data != nil:
		stream, n = told.Channel, *told.Data
	case in[1][0] == '"' && len(in) > 2 && json.Unmarshal(in[1], &stream) == nil && json.Unmarshal(in[2], &n) == nil:
	default:
		return nil // of the protocol
	}
	if binary {
		if _, err := fmt.Sscanf(text, "45%d-", &blobs); err != nil {
			return err
		}
		for i := range blobs {
			if want := fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i); len(in) < 3+i || string(in[3+i]) != want {
				return fmt.Errorf("argument %d of %s is not %s", 3+i, text, want)
			}
		}
	}
	if next, known := e.next[stream]; known && n != next {
		return fmt.Errorf("%s has number %d behind %d", stream, n, next-1)
	}
	if e.next == nil {
		e.next = map[string]int{}
	}
	e.next[stream] = n + 1
	e.heard++
	e.unit.stream, e.unit.n, e.unit.at, e.unit.size = stream, n, 0, blobs
	return nil
}

func (e *ears) blob(b []byte) error {
	u := &e.unit
	if u.at == u.size {
		return fmt.Errorf("attachment %.50q of nothing", b)
	}
	if want := attachment(u.stream, u.n, u.at); string(b) != string(want) {
		return fmt.Errorf("attachment %.50q should be %.50q", b, want)
	}
	u.at++
	return nil
}

// frame takes a frame of a WebSocket.
func (e *ears) frame(op ws.Op, b []byte) error {
	switch op {
	case ws.OpText:
		return e.packet(string(b))
	case ws.OpBinary:
		return e.blob(b)
	}
	return fmt.Errorf("a frame %d %q", op, b)
}

// body takes what answers a GET.
func (e *ears) body(body string) error {
	for p := range strings.SplitSeq(body, "\x1e") {
		if p[0] != 'b' {
			if err := e.packet(p); err != nil {
				return err
			}
			continue
		}
		b, err := base64.StdEncoding.DecodeString(p[1:])
		if err == nil {
			err = e.blob(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// climber is a client that begins with polling and upgrades under fire.
type climber struct {
	*sioPoller
	ears
}

// poll asks once. An error of a session that is not over is the test's.
func (c *climber) poll() (body string, err error) {
	status, body, err := c.do(context.Background(), http.MethodGet, "")
	switch {
	case err != nil:
		return "", err
	case status != http.StatusOK:
		return "", fmt.Errorf("a GET is answered with %d %s", status, body)
	case body == "1":
		return "", errors.New("the session is over")
	}
	return body, c.body(body)
}

// climb connects, upgrades in one of some ways, and returns when it has heard enough behind that.
func (c *climber) climb(way int, enough int) error {
	for _, p := range []string{"40", `420["subscribe","news"]`} {
		status, body, err := c.do(context.Background(), http.MethodPost, p)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("POST %s is answered with %d %s, %v", p, status, body, err)
		}
		for want := strings.NewReplacer("40", `40{"sid"`, `420["subscribe","news"]`, `430[{"ok":true`).Replace(p); !strings.Contains(body, want); {
			if body, err = c.poll(); err != nil {
				return err
			}
		}
	}
	// Polling goes on beside the probe.
	polled := make(chan error, 1)
	pause := make(chan struct{})
	go func() {
		for {
			select {
			case <-pause:
				polled <- nil
				return
			default:
			}
			if _, err := c.poll(); err != nil {
				polled <- err
				return
			}
		}
	}()
	stay := func() error { // on polling
		close(pause)
		if err := <-polled; err != nil {
			return err
		}
		for from := c.heard; c.heard < from+enough; {
			if _, err := c.poll(); err != nil {
				return err
			}
		}
		return nil
	}
	p := &sioPeer{raw: c.s.connect()}
	defer p.Close()
	p.SetDeadline(time.Now().Add(2 * time.Minute))
	if way == 1 { // while the handshake is under way
		p.Write([]byte(upgradeRequest(overWebSocket + "&sid=" + c.sid)))
		p.Close()
		return stay()
	}
	p.write([]byte(upgradeRequest(overWebSocket + "&sid=" + c.sid)))
	if status, _, body := p.response(); status != http.StatusSwitchingProtocols {
		return fmt.Errorf("the probe is refused with %d %s", status, body)
	}
	if way == 2 { // before it says anything
		p.Close()
		return stay()
	}
	p.say("2probe")
	if way == 3 { // before it is answered
		p.reset()
		return stay()
	}
	if got, err := p.packet(); err != nil || got != "3probe" {
		return fmt.Errorf("the probe is answered with %s, %v", got, err)
	}
	if way == 4 { // instead of the last step
		p.Close()
		return stay()
	}
	close(pause)
	if err := <-polled; err != nil {
		return err
	}
	p.say("5", `425["unsubscribe","nothing"]`)
	for from := c.heard; c.heard < from+enough; {
		op, b, err := p.read()
		if err == nil {
			err = c.frame(op, b)
		}
		if err != nil {
			return fmt.Errorf("on the WebSocket: %w", err)
		}
	}
	if status, body, err := c.do(context.Background(), http.MethodGet, ""); err != nil || status != http.StatusBadRequest {
		return fmt.Errorf("a GET behind the upgrade is answered with %d %s, %v", status, body, err)
	}
	return nil
}

func TestUpgradesUnderFire(t *testing.T) {
	all := 1000
	if testing.Short() {
		all = 100
	}
	for _, c := range []struct {
		tr       transport
		loops, n int
	}{{loops, 1, all}, {loops, 2, all}, {loops, 4, all}, {portable, 2, all / 4}, {overTLS, 2, all / 4}, {mounted, 2, all / 4}} {
		t.Run(fmt.Sprintf("%s/%d", c.tr, c.loops), func(t *testing.T) {
			say := io.New(io.Options{Logger: quiet()})
			s := startOn(t, c.tr, Config{IO: say, Loops: c.loops, SocketIO: SocketIOConfig{Recovery: -1}})
			ctx, stop := context.WithCancel(t.Context())
			var fire sync.WaitGroup
			defer fire.Wait()
			defer stop()
			fire.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					if err := s.Send(ctx, &realtime.Message{Channels: []string{"news"}, Event: "E", Data: fmt.Appendf(nil, "%d", n)}); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					if n%4 == 0 {
						m := n / 4
						if err := say.Of("/").Emit(ctx, "bin", "bin", m, attachment("bin", m, 0), attachment("bin", m, 1), attachment("bin", m, 2)); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
					}
					time.Sleep(500 * time.Microsecond) // the rate of fire
				}
			})
			var failed, heard atomic.Int32
			next := make(chan int)
			var clients sync.WaitGroup
			for range 32 {
				clients.Go(func() {
					for i := range next {
						cl := &climber{sioPoller: s.openPoller("")}
						way := 0 // half of the upgrades succeed
						if i%2 == 1 {
							way = 1 + i/2%4
						}
						if err := cl.climb(way, 50); err != nil && failed.Add(1) < 10 {
							t.Errorf("client %d, way %d: %v", i, way, err)
						}
						heard.Add(int32(cl.heard))
						if way != 0 {
							cl.do(context.Background(), http.MethodPost, "1")
						}
						cl.web.CloseIdleConnections()
					}
				})
			}
			for i := range c.n {
				next <- i
			}
			close(next)
			clients.Wait()
			t.Logf("%d clients heard %d events, %d of them failed", c.n, heard.Load(), failed.Load())
		})
	}
}

// lateWrites are connections whose writes return late once they have said something.
type lateWrites struct {
	net.Listener
	said    string
	release chan struct{}
	read    atomic.Int32 // reads that brought something
}

func (l *lateWrites) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateWriter{c, l}, nil
}

type lateWriter struct {
	net.Conn
	l *lateWrites
}

func (c *lateWriter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if strings.Contains(string(b), c.l.said) {
		<-c.l.release
	}
	return n, err
}

func (c *lateWriter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.read.Add(1)
	return n, err
}

// A client may have read the answer to its probe, and answered that, before the loop knows that it is written.
func TestAnUpgradeBeforeTheProbeIsKnownToBeWritten(t *testing.T) {
	srv, err := New(Config{Logger: quiet(), Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &lateWrites{Listener: tcp, said: "3probe", release: make(chan struct{})}
	web := httptest.NewUnstartedServer(srv)
	web.Listener.Close()
	web.Listener = ln
	web.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	s := &live{Server: srv, t: t, addr: tcp.Addr().String()}
	p := s.dialPoller("")
	c := p.probe()
	s.rounds()
	p.want("6")
	reads := ln.read.Load()
	c.say("5", `421["unsubscribe","a"]`)
	eventually(t, "it is read", func() bool { return ln.read.Load() > reads })
	for range 100 {
		s.rounds()
	}
	close(ln.release)
	c.want(`431[{"ok":true,"channel":"a"}]`)
	c.quiet()
}
