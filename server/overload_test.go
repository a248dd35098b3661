package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// forever keeps the servers of tests whose clock stands still from looking after their clients.
const forever = 10_000 * time.Hour

// block makes a loop stand still until release is called.
func (s *live) block(i int) (release func()) {
	s.t.Helper()
	held, hold := make(chan struct{}), make(chan struct{})
	if err := s.loops[i].Post(loop.Func(func(*loop.Loop) { close(held); <-hold }), 0); err != nil {
		s.t.Fatal(err)
	}
	<-held
	release = sync.OnceFunc(func() { close(hold) })
	s.t.Cleanup(release)
	return release
}

// dialOn connects to a loop of choice.
func (s *live) dialOn(i int, query string) *peer {
	s.t.Helper()
	if s.on == loops { // whoever accepts first: so let the others stand still
		for j := range s.loops {
			if j != i {
				defer s.block(j)()
			}
		}
	}
	for range 100 {
		before := s.loops[i].Conns()
		p := s.dial(query)
		if s.loops[i].Conns() > before {
			return p
		}
		p.Close(1000, "")
	}
	s.t.Fatalf("no connection comes to loop %d", i)
	return nil
}

// held reports whether a client is not read.
func (s *live) held(id string) bool {
	held := make(chan bool, 1)
	s.hub.Each(hub.Select{App: s.appID(""), Socket: id}, func(c *hub.Client) { held <- c.Held() })
	return <-held
}

func TestHalfAHandshakeIsEndedAndHoldsNobodyUp(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	c := newClock(time.Now())
	s := start(t, Config{Loops: 2, now: c.now, Limits: Limits{Ping: forever}})
	if !s.loops[0].Polls() {
		t.Skip("this system leaves handshakes to net/http")
	}
	s.clock = c
	p := s.dial("")
	p.say(subscribe("news"))
	p.want(succeeded("news"))
	request := upgradeRequest("/ws")
	halves := []string{"", "GE", request[:40], request[:len(request)-2], request[:30] + "X-Long: " + strings.Repeat("x", 7<<10)}
	before := liveHeap()
	var half []*raw
	sent := 0
	for i := range n {
		p := s.connect()
		half = append(half, p)
		p.write([]byte(halves[i%len(halves)]))
		sent += len(halves[i%len(halves)])
	}
	// kept is how many connections have not said yet what they want, and what they have said.
	kept := func() (conns, bytes int) {
		for i := range s.loops {
			done := make(chan struct{})
			s.loops[i].Post(loop.Func(func(l *loop.Loop) {
				defer close(done)
				l.Each(func(h loop.Handler) {
					if f, ok := h.(*front); ok {
						conns++
						bytes += len(f.buf)
					}
				})
			}), 0)
			<-done
		}
		return conns, bytes
	}
	eventually(t, "all have been read", func() bool { conns, bytes := kept(); return conns == n && bytes == sent })
	if per := (liveHeap() - before) / int64(n); per > 24<<10 { // both ends
		t.Errorf("half a handshake holds %d bytes", per)
	}
	served := func(i int) {
		t.Helper()
		q := s.dial("")
		q.say(subscribe("news"))
		q.want(succeeded("news"))
		s.send(event("news", fmt.Sprint(i)))
		for _, p := range []*peer{p, q} {
			p.want(fmt.Sprintf(`{"event":"E","channel":"news","data":%d}`, i))
		}
		q.Close(1000, "")
	}
	served(1)
	start := c.now()
	s.at(start.Add(10*time.Second - time.Millisecond))
	if conns, _ := kept(); conns != n {
		t.Fatalf("%d of %d are left before their time is over", conns, n)
	}
	served(2)
	s.at(start.Add(10*time.Second + 200*time.Millisecond))
	for _, p := range half {
		if status, _, body := p.response(); status != 408 || body != refusalBody(408, "no complete request within 10s") {
			t.Fatalf("half a handshake is answered with %d %q", status, body)
		}
		if _, err := p.r.ReadByte(); err != io.EOF {
			t.Fatalf("after the answer comes %v", err)
		}
		p.Close()
	}
	served(3)
	eventually(t, "only one connection is left", func() bool { return s.open() == 1 })
}

func TestAnIdentityThatDoesNotComeInTimeIsNotWaitedFor(t *testing.T) {
	asked, decide := make(chan struct{}), make(chan struct{})
	a := auth.New()
	a.Identify(func(*http.Request) (auth.User, error) {
		close(asked)
		<-decide
		return auth.User{ID: "7"}, nil
	})
	c := newClock(time.Now())
	s := start(t, Config{Auth: a, now: c.now})
	if !s.loops[0].Polls() {
		t.Skip("this system leaves handshakes to net/http")
	}
	s.clock = c
	p := s.connect()
	p.write([]byte(upgradeRequest("/ws")))
	<-asked
	s.at(c.now().Add(10*time.Second + 200*time.Millisecond))
	if status, h, body := p.response(); status != 503 || body != refusalBody(503, "identifying the client took longer than 10s") || h.Get("Retry-After") != "1" {
		t.Errorf("the answer is %d %q, Retry-After %q", status, body, h.Get("Retry-After"))
	}
	p.Close()
	close(decide)
	eventually(t, "nothing is left", func() bool { return s.open() == 0 && s.entered() == 0 })
}

// What the loops leave to net/http has the same time.
func TestHalfARequestOfAnyKindIsEnded(t *testing.T) {
	for _, tr := range []transport{loops, overTLS, portable} {
		s := startOn(t, tr, Config{Limits: Limits{Handshake: 50 * time.Millisecond}})
		for _, half := range []string{"", "GET /ws HTTP/1.1\r\n", "POST /apps/1/events HTTP/1.1\r\nHost: x\r\n", "\x16\x03\x01", strings.Repeat("x", 20_000)} {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, half)
			if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: after %.20q the connection stays", tr, half)
			}
			c.Close()
		}
	}
}

func TestAFullServerSaysWhichLimitIsReached(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Limits: Limits{Connections: 4, ConnectionsPerAddress: 2}})
		from := func(ip string) func(context.Context, string, string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext
		}
		if c, err := from("127.0.0.2")(t.Context(), "tcp", s.addr); err != nil {
			t.Skip("this system has no second loopback address")
		} else {
			c.Close()
		}
		dial := func(ip string) *peer { return s.dialWith("", &wsclient.Options{NetDial: from(ip)}) }
		refused := func(ip, why string) {
			t.Helper()
			_, err := wsclient.Dial(t.Context(), s.url(""), &wsclient.Options{TLS: s.tls, NetDial: from(ip)})
			he, ok := errors.AsType[*wsclient.HandshakeError](err)
			if !ok || he.Status != http.StatusServiceUnavailable || he.Body != refusalBody(503, why) || he.Header.Get("Retry-After") != "1" {
				t.Errorf("one more from %s: %v, Retry-After %v", ip, err, he.Header["Retry-After"])
			}
		}
		const address, server = "there are 2 connections from your address, which is the limit", "the server has 4 connections, which is its limit"
		for range 3 { // places are given back
			a1, a2 := dial("127.0.0.1"), dial("127.0.0.1")
			refused("127.0.0.1", address)
			b1, b2 := dial("127.0.0.2"), dial("127.0.0.2")
			refused("127.0.0.3", server)
			refused("127.0.0.1", server)
			b1.Close(1000, "")
			eventually(t, "one place is free", func() bool { return s.entered() == 3 })
			refused("127.0.0.1", address)
			c1 := dial("127.0.0.3")
			for _, p := range []*peer{a1, a2, b2, c1} {
				p.quiet()
				p.Close(1000, "")
			}
			eventually(t, "all places are free", func() bool { return s.entered() == 0 })
		}
	})
}

var pad = strings.Repeat("x", 16<<10)

func numbered(channel string, n int) realtime.Message {
	return event(channel, fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, pad))
}

func numberedFrame(channel string, n int) string {
	return fmt.Sprintf(`{"event":"E","channel":"%s","data":{"n":%d,"pad":"%s"}}`, channel, n, pad)
}

// sluggish is a subscribed client that does not read unless it is told to.
func (s *live) sluggish(channel string) *raw {
	s.t.Helper()
	p := s.upgraded("/ws", masked(ws.OpText, subscribe(channel))...)
	p.greeted()
	p.want(ws.OpText, succeeded(channel))
	return p
}

func tooSlow(limit int) string {
	return fmt.Sprintf("this connection reads too slowly: more than %d bytes waited for it", limit)
}

func TestASlowConnectionIsClosedWithItsReasonAndCostsNobodyAMessage(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		const queued, batch = 1 << 20, 16
		ended := make(chan string, 10)
		s := startOn(t, tr, Config{now: newClock(time.Now()).now, Loops: 2, Limits: Limits{QueuedBytes: queued}, Hook: func(_ context.Context, e Event) {
			if e.Kind == Disconnected {
				ended <- e.Reason
			}
		}})
		var readers []*peer
		for range 3 {
			p := s.dial("")
			p.say(subscribe("a"))
			p.want(succeeded("a"))
			readers = append(readers, p)
		}
		slow := []*raw{s.sluggish("a"), s.sluggish("a")}
		sent := 0
		for over := false; !over; {
			over = s.entered() == len(readers) // and one batch more
			for range batch {
				s.send(numbered("a", sent))
				sent++
			}
			for _, p := range readers {
				for n := sent - batch; n < sent; n++ {
					p.want(numberedFrame("a", n))
				}
			}
			if sent > 8192 {
				t.Fatalf("%d MiB were sent, and nobody is too slow", sent*len(pad)>>20)
			}
		}
		for range slow {
			if why := <-ended; why != "the client read too slowly" {
				t.Errorf("the hook is told that %s", why)
			}
		}
		for _, p := range slow { // which read on after all: nothing is missing before the end
			n := 0
			for ; ; n++ {
				op, b, err := p.read()
				if err != nil {
					t.Fatalf("after %d messages: %v", n, err)
				}
				if op == ws.OpClose {
					if want := ws.AppendClose(nil, 4100, tooSlow(queued))[2:]; !bytes.Equal(b, want) {
						t.Errorf("the close frame is %q, and should be %q", b, want)
					}
					break
				}
				if string(b) != numberedFrame("a", n) {
					t.Fatalf("message %d is %.60s", n, b)
				}
			}
			if n == 0 || n >= sent-batch {
				t.Errorf("a slow connection got %d messages of %d", n, sent)
			}
			if _, _, err := p.read(); err != io.EOF {
				t.Errorf("after the close frame comes %v", err)
			}
		}
		for _, p := range readers {
			p.quiet()
		}
	})
}

func TestWhatASlowConnectionMissesIsCounted(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		for _, policy := range []Slow{DropOldest, KeepLatest} {
			t.Run(string(policy), func(t *testing.T) {
				s := startOn(t, tr, Config{now: newClock(time.Now()).now, Loops: 2, Limits: Limits{QueuedBytes: 256 << 10}, Channels: []Channel{{Pattern: "a", Slow: policy}}})
				p, quick, other := s.sluggish("a"), s.dial(""), s.dial("")
				quick.say(subscribe("a"))
				quick.want(succeeded("a"))
				other.say(subscribe("b"))
				other.want(succeeded("b"))
				sent := 0
				more := func(n int) {
					for range n {
						s.send(numbered("a", sent))
						quick.want(numberedFrame("a", sent)) // who keeps up misses nothing
						sent++
					}
				}
				more(400) // more than sockets hold
				s.send(event("b", `1`))
				other.want(`{"event":"E","channel":"b","data":1}`)
				received, dropped, last := 0, 0, -1
				for received+dropped < sent {
					_, b, err := p.read()
					var f struct {
						Event string
						Data  struct{ N, Count int }
					}
					if err != nil || json.Unmarshal(b, &f) != nil {
						t.Fatalf("after message %d: %.60q, %v", last, b, err)
					}
					switch n := f.Data.N; {
					case string(b) == fmt.Sprintf(`{"event":"messages_dropped","channel":"a","data":{"count":%d}}`, f.Data.Count):
						dropped += f.Data.Count
					case string(b) == numberedFrame("a", n) && n > last:
						last = n
						received++
					default:
						t.Fatalf("after message %d comes %.60q", last, b)
					}
				}
				if dropped == 0 || received+dropped != sent || last != sent-1 {
					t.Errorf("%d messages were received, the last one number %d, and %d left out, of %d", received, last, dropped, sent)
				}
				// It is as good as any other then.
				more(1)
				p.want(ws.OpText, numberedFrame("a", sent-1))
				p.write(masked(ws.OpText, `{"event":"ping"}`))
				p.want(ws.OpText, `{"event":"pong"}`)
				quick.quiet()
				other.quiet()
			})
		}
	})
}

// A few bytes of a command may ask for many of an answer: nobody can make the server hold them all.
func TestAClientThatAsksForMuchAndReadsNothingIsCut(t *testing.T) {
	const limit = 256 << 10
	data := `"` + strings.Repeat("x", 90<<10) + `"`
	ping := strings.Repeat("p", 125)
	type frame struct {
		op      ws.Op
		payload string
	}
	for name, c := range map[string]struct {
		ask   []byte
		times int
		get   []frame
	}{
		"replays": {join(masked(ws.OpText, subscribe("cache-a")), masked(ws.OpText, `{"event":"unsubscribe","channel":"cache-a"}`)), 10_000, []frame{
			{ws.OpText, succeeded("cache-a")}, {ws.OpText, `{"event":"E","channel":"cache-a","data":` + data + `,"replayed":true}`},
		}},
		"pongs": {masked(ws.OpPing, ping), 200_000, []frame{{ws.OpPong, ping}}},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, tr transport) {
				s := startOn(t, tr, Config{now: newClock(time.Now()).now, Limits: Limits{QueuedBytes: limit}})
				s.send(event("cache-a", data))
				bystander := s.dial("")
				p := s.upgraded("/ws")
				p.greeted()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				go p.Write(bytes.Repeat(c.ask, c.times))
				eventually(t, "it is cut", func() bool { return s.entered() == 1 })
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapSys - before.HeapSys); grown > 128<<20 {
					t.Errorf("it made the heap grow by %d MiB", grown>>20)
				}
				bystander.quiet()
				for n := 0; ; n++ {
					op, b, err := p.read()
					if err != nil {
						t.Fatalf("after %d frames: %v", n, err)
					}
					if op == ws.OpClose {
						if want := ws.AppendClose(nil, 4100, tooSlow(limit))[2:]; !bytes.Equal(b, want) {
							t.Errorf("the close frame is %q, and should be %q", b, want)
						}
						break
					}
					if want := c.get[n%len(c.get)]; op != want.op || string(b) != want.payload {
						t.Fatalf("frame %d is %d %.100q, and should be %d %.100q", n, op, b, want.op, want.payload)
					}
				}
			})
		})
	}
}

// asked is a context that tells when somebody begins to wait for it.
type asked struct {
	context.Context
	once sync.Once
	now  chan struct{}
}

func (a *asked) Done() <-chan struct{} {
	a.once.Do(func() { close(a.now) })
	return a.Context.Done()
}

func TestSendWaitsForALoopAndForNoLongerThanItMay(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Loops: 1, Limits: Limits{QueuedBytes: 32 << 20}})
		p := s.dial("")
		p.say(subscribe("a"))
		p.want(succeeded("a"))
		release := s.block(0)
		m := numbered("a", 0)
		n := 0
		for before := liveHeap(); s.loops[0].Overloaded() == nil; n++ {
			s.send(numbered("a", n))
			if held := liveHeapEvery(n, before); held > 32<<20 {
				t.Fatalf("%d messages hold %d MiB", n, held>>20)
			}
		}
		if want := (8<<20)/(len(m.Data)+64) + 1; n < want-10 || n > want {
			t.Errorf("the loop took %d messages before it was overloaded, and should take about %d", n, want)
		}
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			waiting := &asked{Context: ctx, now: make(chan struct{})}
			done := make(chan error)
			go func() { done <- s.Send(waiting, &m) }()
			<-waiting.now
			cancel()
			err := <-done
			const want = "realtime: overloaded: the server takes messages more slowly than they are sent (hub: overloaded: context canceled)"
			if !errors.Is(err, realtime.ErrOverloaded) || !errors.Is(err, context.Canceled) || err.Error() != want {
				t.Errorf("Send returns %v", err)
			}
		}
		s.send(event("elsewhere", `1`)) // where nobody of this loop listens
		waiting := &asked{Context: t.Context(), now: make(chan struct{})}
		done := make(chan error)
		last := numbered("a", n)
		go func() { done <- s.Send(waiting, &last) }()
		<-waiting.now
		release()
		if err := <-done; err != nil {
			t.Errorf("Send returns %v although there is room", err)
		}
		for i := range n + 1 {
			p.want(numberedFrame("a", i))
		}
		p.quiet()
	})
}

// liveHeapEvery measures now and then.
func liveHeapEvery(n int, before int64) int64 {
	if n%100 != 99 {
		return 0
	}
	return liveHeap() - before
}

func TestAClientThatPublishesWhileALoopIsOverloadedWaitsUnread(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		for _, patient := range []bool{true, false} {
			t.Run(fmt.Sprint("patient ", patient), func(t *testing.T) {
				a := auth.New()
				a.AllowAnonymous()
				a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
				limits := Limits{QueuedBytes: 32 << 20}
				if !patient {
					limits.AuthorizeTime = 10 * time.Millisecond
				}
				s := startOn(t, tr, Config{Auth: a, Loops: 2, Limits: limits})
				listener := s.dialOn(0, "")
				listener.say(subscribe("a"))
				listener.want(succeeded("a"))
				publisher := s.dialOn(1, "?token="+issue(t, auth.Claims{Publish: []string{"a"}}))
				release := s.block(0)
				n := 0
				for ; s.loops[0].Overloaded() == nil; n++ {
					s.send(numbered("a", n))
				}
				for i := range 3 {
					id := fmt.Sprintf(`"id":%d`, i)
					publisher.say(fmt.Sprintf(`{"event":"publish","channel":"a","name":"P","data":%d,%s}`, i, id))
					publisher.say(fmt.Sprintf(`{"event":"ping",%s}`, id))
					if patient {
						eventually(t, "the publisher is not read", func() bool { return s.held(publisher.SocketID) })
						break
					}
					publisher.want(trouble("error", id, "a", 4100, "CapacityError", "the server takes events more slowly than they come; try later", 503), fmt.Sprintf(`{"event":"pong",%s}`, id))
				}
				release()
				for i := range n {
					listener.want(numberedFrame("a", i))
				}
				if patient {
					publisher.wantEpoch(fmt.Sprintf(`{"event":"ack","id":0,"data":{"seq":%d,"epoch":"<epoch>"}}`, n+1))
					publisher.want(`{"event":"pong","id":0}`)
					listener.want(`{"event":"P","channel":"a","data":0}`)
				}
				publisher.quiet()
				listener.quiet()
			})
		}
	})
}

// Neither the server's authorizers nor the limit of channels can be had by asking for everything at once.
func TestOneClientCannotTakeAllAuthorizers(t *testing.T) {
	const n = 300
	onEach(t, func(t *testing.T, tr transport) {
		var b blocking
		s := startOn(t, tr, Config{Auth: b.auth(), Limits: Limits{Authorizing: 70}})
		var ask []byte
		for i := range n {
			ask = append(ask, masked(ws.OpText, subscribe(fmt.Sprintf("private-slow.%d", i)))...)
		}
		p := s.upgraded("/ws", ask...)
		id := p.greeted()
		eventually(t, "it is not read any more", func() bool { return s.held(id) })
		q := s.dial("")
		q.say(subscribe("private-quick.1"))
		q.want(succeeded("private-quick.1"))
		eventually(t, "the calls have begun", func() bool { return b.entered.Load() >= 64 })
		if n := b.entered.Load(); n != 64 {
			t.Errorf("%d authorizers are at work for one client, and should be 64", n)
		}
		close(b.open)
		got := map[string]int{}
		granted := 0
		for range n {
			_, f, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			var a struct{ Event, Channel string }
			if err := json.Unmarshal(f, &a); err != nil {
				t.Fatal(err)
			}
			got[a.Channel]++
			switch string(f) {
			case succeeded(a.Channel):
				granted++
			case trouble("subscription_error", "", a.Channel, 4100, "CapacityError", "this connection listens to 100 channels, which is the limit; unsubscribe from one first", 429):
			default:
				t.Fatalf("an answer is %s", f)
			}
		}
		if len(got) != n || granted != 100 {
			t.Errorf("%d of %d requests were answered, and %d granted, which should be 100", len(got), n, granted)
		}
	})
}
