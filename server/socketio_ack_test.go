package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	io "github.com/stacksjs/realtime-go/socketio"
)

// askBack registers the event "ask", whose handler asks its own client for twice the number, and answers with one more.
func askBack(ns *io.Namespace) {
	io.On(ns, "ask", func(ctx context.Context, s *io.Socket, n int) (int, error) {
		var twice int
		if err := s.EmitWithAck(ctx, &twice, "twice", n); err != nil {
			return 0, err
		}
		return twice + 1, nil
	})
}

func TestAHandlerMayWaitForItsOwnClient(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	say := io.New(io.Options{Logger: quiet()})
	askBack(say.Namespace("/"))
	s := start(t, Config{IO: say, Loops: 2, SocketIO: SocketIOConfig{Recovery: -1}})
	clients := make([]*sioPeer, n)
	for i := range clients {
		clients[i] = s.dialSIO("")
	}
	var wg sync.WaitGroup
	for i, p := range clients {
		wg.Go(func() {
			p.say(fmt.Sprintf(`425["ask",%d]`, i))
			var id uint64
			var x int
			for {
				text, err := p.packet()
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if text == fmt.Sprintf("435[%d]", 2*i+1) {
					return
				}
				if _, err := fmt.Sscanf(text, `42%d["twice",%d]`, &id, &x); err != nil || x != i {
					t.Errorf("client %d gets %s", i, text)
					return
				}
				if _, err := p.Write(masked(1, fmt.Sprintf("43%d[%d]", id, 2*x))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Each handler of one client waits for an acknowledgement of that client, which sent all its events first.
// A handler gets its client's answer also while the same connection's other namespace is full of events.
func TestAHandlerMayWaitBesideAFullNamespace(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	ask, answered := make(chan struct{}), make(chan error, 1)
	io.On(say.Namespace("/"), "q", func(ctx context.Context, s *io.Socket, _ struct{}) (any, error) {
		<-ask
		answered <- s.EmitWithAck(ctx, nil, "really")
		return nil, nil
	})
	full := make(chan struct{})
	var taken atomic.Int32
	io.On(say.Namespace("/full"), "e", func(context.Context, *io.Socket, struct{}) (any, error) {
		<-full
		taken.Add(1)
		return nil, nil
	})
	s := start(t, Config{IO: say, Loops: 1})
	p := s.dialSIO("")
	p.enter("/full", "")
	p.say(`42["q"]`)
	const events = 200 // more than may wait
	for range events {
		p.say(`42/full,["e"]`)
	}
	close(ask)
	var id int
	if text := p.next(); !parsed(text, `42%d["really"]`, &id) {
		t.Fatalf("the question is %s", text)
	}
	p.say(fmt.Sprintf("43%d[]", id))
	if err := <-answered; err != nil {
		t.Error(err)
	}
	close(full)
	p.say(`42/full,7["e"]`)
	p.want(`43/full,7[]`)
	if taken.Load() != events+1 {
		t.Errorf("%d events were taken of %d", taken.Load(), events+1)
	}
}

func TestManyHandlersOfOneClientWaitForIt(t *testing.T) {
	const n = 200
	say := io.New(io.Options{Logger: quiet()})
	askBack(say.Namespace("/"))
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	for _, c := range []interface {
		say(...string)
		next() string
	}{s.dialSIO(""), s.dialPoller("")} {
		for i := range n {
			c.say(fmt.Sprintf(`42%d["ask",%d]`, i, i))
		}
		for i := range n {
			var id, x int
			if text := c.next(); !parsed(text, `42%d["twice",%d]`, &id, &x) || x != i {
				t.Fatalf("%T: question %d is %s", c, i, text)
			}
			c.say(fmt.Sprintf("43%d[%d]", id, 2*x))
			if got, want := c.next(), fmt.Sprintf("43%d[%d]", i, 2*i+1); got != want {
				t.Fatalf("%T: answer is %s, and should be %s", c, got, want)
			}
		}
	}
}

func parsed(text, format string, to ...any) bool {
	_, err := fmt.Sscanf(text, format, to...)
	return err == nil
}

func TestUnansweredAcknowledgementsAreLimited(t *testing.T) {
	const limit = 4096
	socket := make(chan *io.Socket, 1)
	say := io.New(io.Options{Logger: quiet()})
	say.Namespace("/").OnConnect(func(_ context.Context, s *io.Socket) error {
		socket <- s
		return nil
	})
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	p := s.dialSIO("")
	sock := <-socket
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range limit + 100 {
		wg.Go(func() {
			switch err := sock.EmitWithAck(ctx, nil, "q"); {
			case errors.Is(err, io.ErrTooManyAcks):
				refused.Add(1)
			case !errors.Is(err, context.Canceled):
				t.Errorf("EmitWithAck: %v", err)
			}
		})
	}
	eventually(t, "those beyond the limit are refused", func() bool { return refused.Load() == 100 })
	for range limit {
		var id int
		if text := p.next(); !parsed(text, `42%d["q"]`, &id) {
			t.Fatalf("a question is %s", text)
		}
	}
	if replies, err := say.Namespace("/").All().EmitWithAck(t.Context(), "all"); !errors.Is(err, io.ErrTooManyAcks) || len(replies) != 0 {
		t.Errorf("one more, to all, brings %v, %v", replies, err)
	}
	cancel() // the entries go with their contexts
	wg.Wait()
	done := make(chan error, 1)
	go func() {
		var x int
		err := sock.EmitWithAck(t.Context(), &x, "last")
		if err == nil && x != 7 {
			err = fmt.Errorf("the reply is %d", x)
		}
		done <- err
	}()
	var id int
	for text := ""; !strings.Contains(text, "last"); parsed(text, `42%d["last"]`, &id) {
		text = p.next()
	}
	p.say(fmt.Sprintf(`43%d[7]`, id))
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Who is asked, and goes.
	go func() { done <- sock.EmitWithAck(t.Context(), nil, "late") }()
	p.next()
	p.Close()
	if err := <-done; !errors.Is(err, io.ErrDisconnected) {
		t.Errorf("whose client went gets %v", err)
	}
}

// A client that wants answers faster than its handler gives them is not read meanwhile, and gets all of them.
func TestAClientThatAsksFasterThanItIsAnsweredIsNotRead(t *testing.T) {
	const n = 2000
	gate := make(chan struct{})
	var waited atomic.Int32
	say := io.New(io.Options{Logger: quiet()})
	io.On(say.Namespace("/"), "slow", func(_ context.Context, _ *io.Socket, text string) (int, error) {
		if waited.Add(1) == 1 {
			<-gate
		}
		return len(text), nil
	})
	clk := newClock(time.Now())
	s := start(t, Config{IO: say, Loops: 1, now: clk.now, SocketIO: SocketIOConfig{Recovery: -1}})
	s.clock = clk
	p := s.dialSIO("")
	pad := strings.Repeat("x", 10_000)
	var sent atomic.Int32
	done := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := p.Write(masked(1, fmt.Sprintf(`42%d["slow","%s"]`, i, pad))); err != nil {
				done <- err
				return
			}
			sent.Add(1)
		}
		done <- nil
	}()
	// The kernel's buffers are full, and nobody empties them.
	steady(t, func() int { return int(sent.Load()) })
	if got := sent.Load(); got == n {
		t.Fatalf("all %d events are read, though the first is not answered", n)
	}
	// What is not read holds the answer to the heartbeat, too: the connection does not end for it.
	now := clk.now()
	for range 10 {
		now = now.Add(25 * time.Second)
		s.at(now)
	}
	close(gate)
	for i := 0; i < n; {
		switch got := p.next(); got {
		case "2":
		case fmt.Sprintf("43%d[10000]", i):
			i++
		default:
			t.Fatalf("answer %d is %s", i, got)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// From here on, it does.
	for range 2 {
		now = now.Add(25 * time.Second)
		s.at(now)
	}
	for text := "2"; text == "2"; {
		op, b, err := p.read()
		if text = string(b); err != nil || op == 8 {
			break
		}
	}
}

// steady waits until a number has stopped changing.
func steady(t *testing.T, n func() int) {
	t.Helper()
	was, same := n(), 0
	for end := time.Now().Add(20 * time.Second); same < 200; time.Sleep(time.Millisecond) {
		if now := n(); now == was && now > 0 {
			same++
		} else {
			was, same = now, 0
		}
		if time.Now().After(end) {
			t.Fatal("it never becomes steady")
		}
	}
}

// An event that all are to acknowledge waits for those that are coming back, since it is sent to them.
func TestThoseWhoComeBackAcknowledge(t *testing.T) {
	decide := make(chan struct{})
	asked := make(chan *io.Socket, 10)
	say := io.New(io.Options{Logger: quiet()})
	say.Namespace("/").OnConnect(func(_ context.Context, s *io.Socket) error {
		asked <- s
		if s.Recovered() {
			<-decide
		}
		return nil
	})
	s := start(t, Config{IO: say, Loops: 2})
	p, q := s.dialSIO(""), s.dialSIO("")
	<-asked
	<-asked
	q.Close()
	eventually(t, "its loss is seen", func() bool { return s.entered() == 1 })
	back := s.openSIO("")
	back.say(`40{"pid":"` + q.pid + `"}`)
	<-asked
	type result struct {
		replies []io.Reply
		err     error
	}
	done := make(chan result, 1)
	go func() {
		replies, err := say.Namespace("/").All().EmitWithAck(t.Context(), "q")
		done <- result{replies, err}
	}()
	answer := func(p *sioPeer) {
		var id int
		if got := p.next(); !parsed(got, `42%d["q"]`, &id) {
			t.Errorf("the question is %s", got)
		}
		p.say(fmt.Sprintf("43%d[1]", id))
	}
	answer(p)
	p.quiet()
	close(decide)
	if got := back.next(); !welcomed.MatchString(got) {
		t.Fatalf("it comes back with %s", got)
	}
	answer(back)
	if r := <-done; len(r.replies) != 2 || r.err != nil {
		t.Errorf("%d replies, %v", len(r.replies), r.err)
	}
}

// Who asked and has stopped waiting leaves nothing with clients that are reached only then.
func TestQuestionsThatAreGivenUpBeforeTheyArrive(t *testing.T) {
	const limit = 4096
	say := io.New(io.Options{Logger: quiet()})
	in := connected(say, "/")
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	p := s.dialSIO("")
	<-in
	release := s.block(0)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range limit/100 + 10 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				say.Namespace("/").All().EmitWithAck(ctx, "q")
				cancel()
			}
		})
	}
	wg.Wait()
	release()
	done := make(chan error, 1)
	go func() {
		_, err := say.Namespace("/").All().EmitWithAck(t.Context(), "last")
		done <- err
	}()
	var id int
	for text := ""; !parsed(text, `42%d["last"]`, &id); {
		text = p.next()
	}
	p.say(fmt.Sprintf("43%d[]", id))
	if err := <-done; err != nil {
		t.Errorf("the next question: %v", err)
	}
}
