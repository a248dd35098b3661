package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/modeltest"
)

// post is a request with events, as the server reads it.
type post struct {
	at     time.Duration // since the server was made
	batch  bool
	events []entry // one for each channel
}

func (p post) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", p.at)
	if p.batch {
		b.WriteString(" batch")
	}
	for _, e := range p.events {
		fmt.Fprintf(&b, " %s:%s", e.Channel, e.Data)
		if e.SocketID != "" {
			b.WriteString("-" + e.SocketID)
		}
	}
	return b.String()
}

func read(t testing.TB, r request) post {
	t.Helper()
	var one trigger
	var several struct{ Batch []entry }
	path, _, _ := strings.Cut(r.uri, "?")
	switch path {
	case "/apps/3/events":
		if err := json.Unmarshal([]byte(r.body), &one); err != nil {
			t.Error(err)
		}
		p := post{}
		for _, c := range one.Channels {
			p.events = append(p.events, entry{c, one.Name, one.Data, one.SocketID, one.Info})
		}
		return p
	case "/apps/3/batch_events":
		if err := json.Unmarshal([]byte(r.body), &several); err != nil {
			t.Error(err)
		}
		if n := len(several.Batch); n < 2 || n > 10 {
			t.Errorf("a batch has %d events", n)
		}
		return post{batch: true, events: several.Batch}
	}
	t.Errorf("a request to %s", path)
	return post{}
}

// recorder is a server that takes everything, after a time that what says.
type recorder struct {
	t     testing.TB
	start time.Time
	mu    sync.Mutex
	got   []post
	takes func(post) time.Duration
	says  func(post) (*http.Response, error)
}

func (s *recorder) serve(r request) (*http.Response, error) {
	p := read(s.t, r)
	p.at = time.Since(s.start)
	s.mu.Lock()
	s.got = append(s.got, p)
	s.mu.Unlock()
	if s.takes != nil {
		select {
		case <-time.After(s.takes(p)):
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
	}
	if s.says != nil {
		return s.says(p)
	}
	return answer(200, "{}")
}

// posts is what has come so far.
func (s *recorder) posts() []post {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// want compares it.
func (s *recorder) want(lines ...string) {
	s.t.Helper()
	var got []string
	for _, p := range s.posts() {
		got = append(got, p.String())
	}
	if !slices.Equal(got, lines) {
		s.t.Errorf("the server got\n%s\nand should have got\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// queueing is a driver with a window of 100 ms, in a bubble of synctest.
func queueing(t *testing.T, cfg Config) (*Driver, *recorder) {
	s := &recorder{t: t, start: time.Now()}
	cfg.BatchWindow = 100 * time.Millisecond
	if cfg.Retries == 0 {
		cfg.Retries = -1
	}
	return driver(t, cfg, s.serve), s
}

func send(t testing.TB, d *Driver, m *realtime.Message) {
	t.Helper()
	if err := d.Send(t.Context(), m); err != nil {
		t.Error(err)
	}
}

func flush(t testing.TB, d *Driver) {
	t.Helper()
	if err := d.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// in runs f in a bubble.
func in(f func(t *testing.T)) func(*testing.T) { return func(t *testing.T) { synctest.Test(t, f) } }

func TestWhenQueuedMessagesAreSent(t *testing.T) {
	t.Run("a lone one at the end of its window, by itself", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		send(t, d, message("e", "1", "a", "b"))
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		s.want()
		time.Sleep(time.Second)
		s.want("100ms a:1 b:1")
	}))
	t.Run("all at the end of the oldest one's window", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		m := message("e", "1", "a")
		m.ExceptSockets = []string{"1.2"}
		send(t, d, m)
		time.Sleep(60 * time.Millisecond)
		send(t, d, message("e", "2", "b", "c"))
		time.Sleep(time.Second)
		s.want("100ms batch a:1-1.2 b:2 c:2")
	}))
	t.Run("ten events at once, and the rest at the end of its own window", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		for i := range 9 {
			send(t, d, message("e", fmt.Sprint(i), fmt.Sprint("c", i)))
		}
		time.Sleep(30 * time.Millisecond)
		send(t, d, message("e", "9", "c9"))
		time.Sleep(10 * time.Millisecond)
		send(t, d, message("e", "10", "x"))
		time.Sleep(time.Second)
		s.want("30ms batch c0:0 c1:1 c2:2 c3:3 c4:4 c5:5 c6:6 c7:7 c8:8 c9:9", "140ms x:10")
	}))
	t.Run("a message is never torn", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		send(t, d, message("e", "1", channels(6)...))
		send(t, d, message("e", "2", "x0", "x1", "x2", "x3", "x4"))
		time.Sleep(time.Second)
		s.want("0s c0:1 c1:1 c2:1 c3:1 c4:1 c5:1", "100ms x0:2 x1:2 x2:2 x3:2 x4:2")
	}))
	t.Run("one with an id by itself, behind what came before", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Millisecond }
		send(t, d, message("e", "1", "a"))
		send(t, d, message("e", "2", "a"))
		m := message("e", "3", "a")
		m.ID = "x"
		send(t, d, m)
		send(t, d, message("e", "4", "a"))
		time.Sleep(time.Second)
		s.want("0s batch a:1 a:2", "1ms a:3", "100ms a:4")
	}))
	t.Run("one with many channels by itself", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Millisecond }
		send(t, d, message("e", "1", "c3"))
		send(t, d, message("e", "2", channels(10)...))
		time.Sleep(time.Second)
		s.want("0s c3:1", "1ms c0:2 c1:2 c2:2 c3:2 c4:2 c5:2 c6:2 c7:2 c8:2 c9:2")
	}))
	t.Run("large ones apart", in(func(t *testing.T) {
		d, s := queueing(t, Config{MaxPayload: -1})
		for _, c := range []string{"a", "b", "c"} {
			send(t, d, message("e", strings.Repeat(" ", 500<<10)+"1", c))
		}
		time.Sleep(time.Second)
		if got := s.posts(); len(got) != 2 || len(got[0].events) != 2 || got[0].at != 0 || got[1].at != 100*time.Millisecond {
			t.Errorf("%d requests, the first at %v", len(got), got[0].at)
		}
	}))
	t.Run("when they are flushed", in(func(t *testing.T) {
		d, s := queueing(t, Config{})
		send(t, d, message("e", "1", "a"))
		send(t, d, message("e", "2", "b"))
		flush(t, d)
		s.want("0s batch a:1 b:2")
		send(t, d, message("e", "3", "a"))
		time.Sleep(time.Second)
		s.want("0s batch a:1 b:2", "100ms a:3")
	}))
}

func TestARequestWaitsForOthersOfItsChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(p post) time.Duration {
			if p.events[0].Channel == "slow" {
				return time.Second
			}
			return 0
		}
		send(t, d, message("e", "1", "slow"))
		time.Sleep(200 * time.Millisecond)
		send(t, d, message("e", "2", "b"))
		time.Sleep(200 * time.Millisecond)
		send(t, d, message("e", "3", "slow"))
		send(t, d, message("e", "4", "b"))
		time.Sleep(5 * time.Second)
		s.want("100ms slow:1", "300ms b:2", "1.1s batch slow:3 b:4")
	})
}

func TestAtMostEightRequestsAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Second }
		for i := range 20 {
			send(t, d, message("e", "1", fmt.Sprint("c", i)))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if n := len(s.posts()); n != min(i+1, 8) && i < 9 {
				t.Errorf("after %d messages, %d requests have begun", i+1, n)
			}
		}
		flush(t, d)
	})
}

func TestAFullQueueMakesSendWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{MaxQueue: 1000})
		s.takes = func(post) time.Duration { return time.Second }
		big := func() *realtime.Message { return message("e", strings.Repeat("1", 200), "a") }
		send(t, d, big())
		send(t, d, big())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cancel()
		err := d.Send(ctx, big())
		if err != context.Canceled {
			t.Errorf("the error is %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err = d.Send(ctx, big())
		want := `pusher: event "e": 2 messages wait to be sent, and there is no room for its 457 bytes under the limit of 1000 (MaxQueue): realtime: overloaded: the server takes messages more slowly than they are sent: context deadline exceeded`
		if fmt.Sprint(err) != want || !errors.Is(err, realtime.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is\n%v\nand should be\n%s", err, want)
		}
		start := time.Now()
		send(t, d, big())
		if took := time.Since(start); took != 500*time.Millisecond { // the batch of two began when there was no room, 500 ms before
			t.Errorf("there was room after %v", took)
		}
		flush(t, d)
		if n := d.queue.bytes; n != 0 {
			t.Errorf("the empty queue holds %d bytes", n)
		}
		// One that is larger than the whole queue is taken when there is nothing else.
		send(t, d, message("e", strings.Repeat("1", 2000), "a"))
		flush(t, d)
		if n := len(s.posts()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestErrorsReachTheCallbackAndFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		d, s := queueing(t, Config{OnError: func(m *realtime.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%s %s %s: %v", m.Event, m.Channels, m.Data, err))
		}})
		s.says = func(post) (*http.Response, error) { return answer(500, "oh") }
		send(t, d, message("e1", "1", "a"))
		send(t, d, message("e2", "2", "a", "b", "c"))
		err := d.Flush(t.Context())
		const at = "pusher: POST https://api-mt1.pusher.com/apps/3/batch_events: 500 Internal Server Error: oh"
		want := `event "e1" to "a": ` + at + "\n" + `event "e2" to "a" and 2 more channels: ` + at
		if fmt.Sprint(err) != want {
			t.Errorf("Flush returns\n%v\nand should return\n%s", err, want)
		}
		if got := strings.Join(told, "\n"); got != "e1 [a] 1: "+at+"\ne2 [a b c] 2: "+at {
			t.Errorf("OnError was told\n%s", got)
		}
		if err := d.Flush(t.Context()); err != nil {
			t.Errorf("the next Flush returns %v", err)
		}
		for i := range 250 {
			send(t, d, message("e", "1", fmt.Sprint("c", i%7)))
		}
		err = d.Flush(t.Context())
		if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 101 || lines[100] != "pusher: 150 more messages were not sent" {
			t.Errorf("Flush returns %d lines, at last %q", len(lines), lines[len(lines)-1])
		}
		if len(told) != 252 {
			t.Errorf("OnError was told %d times", len(told))
		}
	})
}

func TestWithoutACallbackErrorsAreLoggedWithoutTheData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d, s := queueing(t, Config{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "time" {
				return slog.Attr{}
			}
			return a
		}}))})
		s.says = func(post) (*http.Response, error) { return answer(400, "oh") }
		send(t, d, message("e", `"private"`, "a"))
		if d.Flush(t.Context()) == nil {
			t.Error("Flush has no error")
		}
		want := `level=WARN msg="pusher: a queued message was not sent" event=e channels=[a] bytes=9 error="pusher: POST https://api-mt1.pusher.com/apps/3/events: 400 Bad Request: oh"` + "\n"
		if out.String() != want {
			t.Errorf("the log is\n%s\nand should be\n%s", &out, want)
		}
	})
}

func TestABadEventDoesNotTakeItsBatchWithIt(t *testing.T) {
	for _, status := range []int{400, 413} {
		synctest.Test(t, func(t *testing.T) {
			d, s := queueing(t, Config{OnError: func(*realtime.Message, error) {}})
			s.says = func(p post) (*http.Response, error) {
				for _, e := range p.events {
					if e.Data == `"bad"` {
						return answer(status, "")
					}
				}
				return answer(200, "{}")
			}
			send(t, d, message("e", `1`, "a", "b"))
			send(t, d, message("worse", `"bad"`, "a"))
			send(t, d, message("e", `2`, "a"))
			err := d.Flush(t.Context())
			if err == nil || !strings.HasPrefix(err.Error(), `event "worse" to "a": pusher: POST https://api-mt1.pusher.com/apps/3/events: 4`) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Flush returns %v", err)
			}
			s.want(`0s batch a:1 b:1 a:"bad" a:2`, `0s a:1 b:1`, `0s a:"bad"`, `0s a:2`)
		})
	}
}

func TestQueuedMessagesAreRepeatedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{Retries: 2})
		n := 0
		s.says = func(p post) (*http.Response, error) {
			if n++; n < 3 {
				return answer(429, "", "Retry-After", "1")
			}
			return answer(200, "{}")
		}
		send(t, d, message("e", "1", "a"))
		time.Sleep(500 * time.Millisecond)
		send(t, d, message("e", "2", "a"))
		flush(t, d)
		var got []string
		for _, p := range s.posts() {
			got = append(got, p.events[0].Data)
		}
		if fmt.Sprint(got) != "[1 1 1 2]" {
			t.Errorf("the server got %v", got)
		}
	})
}

func TestFlushThatEndsEarlyLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Second }
		send(t, d, message("e", "1", "a"))
		send(t, d, message("e", "2", "a"))
		m := message("e", "3", "a")
		m.ID = "x"
		send(t, d, m)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err := d.Flush(ctx)
		if fmt.Sprint(err) != "pusher: 1 messages are still to be sent: context deadline exceeded" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush returns %v", err)
		}
		flush(t, d)
		s.want("0s batch a:1 a:2", "1s a:3")
	})
}

func TestFlushWaitsForWhatCameBeforeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Second }
		send(t, d, message("e", "1", "a"))
		go func() {
			for range 50 {
				time.Sleep(100 * time.Millisecond)
				send(t, d, message("e", "2", "a"))
			}
		}()
		start := time.Now()
		flush(t, d)
		if took := time.Since(start); took != time.Second {
			t.Errorf("Flush took %v", took)
		}
		time.Sleep(10 * time.Second)
	})
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := queueing(t, Config{})
		s.takes = func(post) time.Duration { return time.Second }
		b, err := realtime.New(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 25 {
			send(t, d, message("e", fmt.Sprint(i), fmt.Sprint("c", i)))
		}
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := len(s.posts()); n != 3 {
			t.Errorf("%d requests", n)
		}
		if err := d.Send(t.Context(), message("e", "1", "c")); err != realtime.ErrClosed {
			t.Errorf("Send after Close returns %v", err)
		}
	})
}

func TestCloseThatGivesUpSaysWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		d, s := queueing(t, Config{MaxQueue: 3 * (overhead + 2), OnError: func(_ *realtime.Message, err error) {
			told++
			if !errors.Is(err, realtime.ErrClosed) {
				t.Errorf("OnError is told %v", err)
			}
		}})
		s.takes = func(post) time.Duration { return 5 * time.Second }
		for range 3 {
			send(t, d, message("e", "1", "a"))
			time.Sleep(150 * time.Millisecond)
		}
		full := make(chan error)
		go func() { full <- d.Send(t.Context(), message("e", "1", "a")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		closed := make(chan error)
		go func() { closed <- d.Close(ctx) }()
		if err := <-full; err != realtime.ErrClosed {
			t.Errorf("Send that waited for room returns %v", err)
		}
		err := <-closed
		if time.Since(start) != time.Second || told != 3 {
			t.Errorf("Close took %v; OnError was told %d times", time.Since(start), told)
		}
		const lost = `event "e" to "a": pusher: Close did not wait for it: realtime: closed`
		want := "pusher: 3 messages are still to be sent: context deadline exceeded\n" +
			`event "e" to "a": pusher: POST https://api-mt1.pusher.com/apps/3/events: pusher: Close did not wait for it: realtime: closed` + "\n" + lost + "\n" + lost
		if fmt.Sprint(err) != want {
			t.Errorf("Close returns\n%v\nand should return\n%s", err, want)
		}
	})
}

// TestAQueueAgainstItsModel: several senders, a server that is slow, refuses and breaks as chance will have it. Each
// event is taken once or told to OnError, in the order of its sender and channel, and requests under way share no
// channel.
func TestAQueueAgainstItsModel(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	start := modeltest.Seed(t)
	for round := range rounds {
		if t.Failed() {
			return
		}
		synctest.Test(t, func(t *testing.T) { model(t, rand.New(rand.NewPCG(start, uint64(round)))) })
	}
}

func model(t *testing.T, rnd *rand.Rand) {
	const senders, each = 3, 120
	type number struct{ Sender, N int }
	var mu sync.Mutex // guards rnd and what follows
	chance := func(percent int) bool { return rnd.IntN(100) < percent }
	pause := func(most int) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rnd.IntN(most*10)/10) * time.Millisecond
	}
	taken := map[string][]number{} // by channel, in the order in which the server took them
	told := map[number]int{}
	maybe := map[number]bool{} // taken, though the answer does not say so
	flying := map[string]int{}
	requests := 0

	server := func(r request) (*http.Response, error) {
		p := read(t, r)
		wait, after := pause(80), pause(80)
		mu.Lock()
		if requests++; requests > maxFlying {
			t.Errorf("%d requests are under way", requests)
		}
		own := map[string]bool{}
		for _, e := range p.events {
			own[e.Channel] = true
		}
		for c := range own {
			if flying[c]++; flying[c] > 1 {
				t.Errorf("two requests for channel %s are under way", c)
			}
		}
		mu.Unlock()
		time.Sleep(wait)
		mu.Lock()
		var res *http.Response
		err := error(nil)
		take := true
		switch x := rnd.IntN(100); {
		case x < 10:
			res, _ = answer(429, "")
			take = false
		case x < 13:
			res, _ = answer(500, "")
			take = chance(50)
		case x < 16:
			res, err = lost(r)
			take = chance(50)
		case x < 20:
			res, err = unsent(r)
			take = false
		case x < 24 && p.batch:
			res, _ = answer(400, "")
			take = false
		default:
			res, _ = answer(200, "{}")
		}
		if take {
			for _, e := range p.events {
				var n number
				if json.Unmarshal([]byte(e.Data), &n) != nil {
					t.Errorf("data is %s", e.Data)
				}
				taken[e.Channel] = append(taken[e.Channel], n)
				if res == nil || res.StatusCode != 200 {
					maybe[n] = true
				}
			}
		}
		mu.Unlock()
		time.Sleep(after)
		mu.Lock()
		defer mu.Unlock()
		requests--
		for c := range own {
			flying[c]--
		}
		return res, err
	}
	d := driver(t, Config{
		BatchWindow: 50 * time.Millisecond, MaxQueue: 20 * (overhead + 40),
		OnError: func(m *realtime.Message, err error) {
			var n number
			if json.Unmarshal(m.Data, &n) != nil || err == nil {
				t.Errorf("OnError is told of %s: %v", m.Data, err)
			}
			mu.Lock()
			told[n]++
			mu.Unlock()
		},
	}, server)

	sent := map[number][]string{}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				mu.Lock()
				names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}
				rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				k := 1
				switch {
				case chance(3):
					k = 12
				case chance(20):
					k = 2 + rnd.IntN(5)
				}
				n := number{s, i}
				data, _ := json.Marshal(n)
				m := message("e", string(data), names[:k]...)
				if chance(5) {
					m.ID = fmt.Sprintf("%d.%d", s, i)
				}
				sent[n] = slices.Clone(m.Channels)
				flushes, sleeps := chance(2), chance(30)
				mu.Unlock()
				if err := d.Send(t.Context(), m); err != nil {
					t.Errorf("Send: %v", err)
				}
				if sleeps {
					time.Sleep(pause(60))
				}
				if flushes {
					_ = d.Flush(t.Context()) // told to OnError as well
					mu.Lock()
					for j := range i + 1 {
						if n := (number{s, j}); told[n] == 0 && !slices.Contains(taken[sent[n][0]], n) {
							t.Errorf("Flush returned, and message %v is neither taken nor told", n)
						}
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if err := d.Close(t.Context()); err != nil && len(told) == 0 {
		t.Errorf("Close returns %v, and OnError was told nothing", err)
	}
	count := map[number]map[string]int{}
	for c, list := range taken {
		last := map[int]int{}
		for _, n := range list {
			if prev, ok := last[n.Sender]; ok && n.N < prev {
				t.Errorf("channel %s took %d of sender %d after %d", c, n.N, n.Sender, prev)
			}
			last[n.Sender] = n.N
			if count[n] == nil {
				count[n] = map[string]int{}
			}
			count[n][c]++
		}
	}
	for n, names := range sent {
		for _, c := range names {
			switch got := count[n][c]; {
			case got > 1:
				t.Errorf("message %v was taken %d times on channel %s", n, got, c)
			case got == 0 && told[n] != 1:
				t.Errorf("message %v was not taken on channel %s, and told %d times", n, c, told[n])
			case got == 1 && told[n] != 0 && !maybe[n]:
				t.Errorf("message %v was taken, and told to be lost", n)
			}
		}
	}
	if d.queue.bytes != 0 || len(d.queue.waiting)+len(d.queue.flying) != 0 || d.queue.running {
		t.Errorf("the closed queue has %d bytes, %d waiting, %d under way, running: %t", d.queue.bytes, len(d.queue.waiting), len(d.queue.flying), d.queue.running)
	}
}
