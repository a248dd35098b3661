package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/modeltest"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// rounds waits until every loop has run what was posted to it, so that what a test does falls into many turns.
func (s *live) rounds() {
	for _, l := range s.loops {
		done := make(chan struct{})
		if l.Post(loop.Func(func(*loop.Loop) { close(done) }), 0) == nil {
			<-done
		}
	}
}

const (
	loadConns      = 1000
	loadChannels   = 100
	loadPerConn    = 8 // channels of one connection
	loadPublishers = 5 // the last one is a client
)

// load is what is published, known beforehand.
type load struct {
	live       *live
	conns      []*loadConn
	listeners  [loadChannels][]int // connections
	messages   []loadMessage
	deliveries int // expected
}

type loadMessage struct {
	frame   string // what listeners get
	channel int
	except  int // the connection that gets nothing
}

// publisher is whose message n is: each publisher's are sent in ascending order.
func publisher(n int) int { return n % loadPublishers }

func newLoad(s *live, r *rand.Rand, deliveries int) *load {
	w := &load{live: s}
	for i := range loadConns {
		c := &loadConn{load: w, number: i, rand: rand.New(rand.NewPCG(r.Uint64(), 0)), channels: r.Perm(loadChannels)[:loadPerConn]}
		for _, ch := range c.channels {
			w.listeners[ch] = append(w.listeners[ch], i)
		}
		w.conns = append(w.conns, c)
	}
	for w.deliveries < deliveries {
		ch := r.IntN(loadChannels)
		to := w.listeners[ch]
		w.messages = append(w.messages, loadMessage{
			channel: ch, except: to[r.IntN(len(to))],
			frame: fmt.Sprintf(`{"event":"E","channel":"c%d","data":{"n":%d}}`, ch, len(w.messages)),
		})
		w.deliveries += len(to) - 1
	}
	return w
}

// loadConn is one connection: its goroutine reads, and now and then asks for an answer.
type loadConn struct {
	load     *load
	number   int
	rand     *rand.Rand
	channels []int
	raw      *raw
	id       string
	asked    []string // answers still to come, in order
	answered int
	got      []int32 // messages, as they came
}

func (c *loadConn) connect() {
	names := make([]string, len(c.channels))
	for i, ch := range c.channels {
		names[i] = fmt.Sprintf(`"c%d"`, ch)
	}
	list := strings.Join(names, ",")
	c.raw = c.load.live.upgraded("/ws", masked(ws.OpText, `{"event":"batch_subscribe","channels":[`+list+`]}`)...)
	c.id = c.raw.greeted()
	for _, n := range names {
		c.raw.want(ws.OpText, `{"event":"subscription_succeeded","channel":`+n+`}`)
	}
	c.raw.want(ws.OpText, `{"event":"batch_subscribe_result","data":{"succeeded":[`+list+`],"failed":{}}}`)
	c.raw.SetReadDeadline(time.Now().Add(3 * time.Minute))
}

// ask sends a command whose answer must come in its turn among all the others.
func (c *loadConn) ask() error {
	n := len(c.asked) + c.answered
	var ask, answer string
	switch c.rand.IntN(4) {
	case 0:
		ask, answer = fmt.Sprintf(`{"event":"ping","id":%d}`, n), fmt.Sprintf(`{"event":"pong","id":%d}`, n)
	case 1:
		ask, answer = fmt.Sprintf(`{"event":"unsubscribe","channel":"none","id":%d}`, n), fmt.Sprintf(`{"event":"unsubscribed","id":%d,"channel":"none"}`, n)
	case 2:
		ch := c.channels[c.rand.IntN(loadPerConn)]
		ask, answer = fmt.Sprintf(`{"event":"subscribe","channel":"c%d","id":%d}`, ch, n), fmt.Sprintf(`{"event":"subscription_succeeded","id":%d,"channel":"c%d"}`, n, ch)
	default:
		c.asked = append(c.asked, strconv.Itoa(n))
		_, err := c.raw.Write(masked(ws.OpPing, strconv.Itoa(n)))
		return err
	}
	c.asked = append(c.asked, answer)
	_, err := c.raw.Write(masked(ws.OpText, ask))
	return err
}

const (
	endPing, endPong   = `{"event":"ping","id":"end"}`, `{"event":"pong","id":"end"}`
	overPing, overPong = `{"event":"ping","id":"over"}`, `{"event":"pong","id":"over"}`
)

// receive reads everything until the answer to a ping that follows another one sent when all was published: the
// answer to the first may overtake what was posted to the loop while it read.
func (c *loadConn) receive() error {
	head := []byte(`{"event":"E",`)
	next := 1 + c.rand.IntN(40)
	for ending := false; ; {
		h, err := c.raw.r.Peek(2)
		if err != nil {
			return err
		}
		n := int(h[1])
		if n > 125 {
			return fmt.Errorf("a frame begins with % x", h)
		}
		f, err := c.raw.r.Peek(2 + n)
		if err != nil {
			return err
		}
		op, text := ws.Op(f[0]&15), f[2:]
		if op == ws.OpText && bytes.HasPrefix(text, head) {
			m := 0
			for _, d := range text[bytes.LastIndexByte(text, ':')+1 : n-2] {
				m = m*10 + int(d-'0')
			}
			if m < 0 || m >= len(c.load.messages) || c.load.messages[m].frame != string(text) {
				return fmt.Errorf("got %s", text)
			}
			c.got = append(c.got, int32(m))
			if next--; next == 0 && !ending {
				next = 1 + c.rand.IntN(40)
				if err := c.ask(); err != nil {
					return err
				}
			}
		} else {
			switch {
			case !ending && string(text) == endPong:
				ending = true
				if _, err := c.raw.Write(masked(ws.OpText, overPing)); err != nil {
					return err
				}
			case ending && len(c.asked) == 0 && string(text) == overPong:
				return nil
			case len(c.asked) == 0 || c.asked[0] != string(text) || (op == ws.OpPong) != (text[0] != '{'):
				return fmt.Errorf("got %d %s, while the answers to come are %.3q", op, text, c.asked)
			default:
				c.asked = c.asked[1:]
				c.answered++
			}
		}
		c.raw.r.Discard(2 + n)
	}
}

// tally is what went wrong, in deliveries.
type tally struct{ lost, doubled, disordered, excluded, strays int }

// count compares what the connection got with what was published.
func (c *loadConn) count(t *tally) {
	w := c.load
	var listens [loadChannels]bool
	for _, ch := range c.channels {
		listens[ch] = true
	}
	times := make([]uint8, len(w.messages))
	last := [loadPublishers]int32{-1, -1, -1, -1, -1}
	for _, n := range c.got {
		if times[n] < 2 {
			times[n]++
		}
		if p := publisher(int(n)); n < last[p] {
			t.disordered++
		} else {
			last[p] = n
		}
	}
	for n, m := range w.messages {
		switch {
		case !listens[m.channel]:
			t.strays += int(times[n])
		case m.except == c.number:
			t.excluded += int(times[n])
		case times[n] == 0:
			t.lost++
		case times[n] > 1:
			t.doubled++
		}
	}
}

// publish sends one publisher's messages from the program itself.
func (w *load) publish(p int, r *rand.Rand) error {
	for n := p; n < len(w.messages); n += loadPublishers {
		m := &w.messages[n]
		err := w.live.Send(context.Background(), &realtime.Message{
			Channels: []string{fmt.Sprintf("c%d", m.channel)}, Event: "E", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)),
			ExceptSockets: []string{w.conns[m.except].id},
		})
		if err != nil {
			return err
		}
		if r.IntN(50) == 0 {
			w.live.rounds()
		}
	}
	return nil
}

// publishByWire sends one publisher's messages from a client.
func (w *load) publishByWire(c *raw, p int) error {
	for n := p; n < len(w.messages); n += loadPublishers {
		m := &w.messages[n]
		id := ""
		if n+loadPublishers >= len(w.messages) {
			id = `,"id":"last"`
		}
		if _, err := c.Write(masked(ws.OpText, fmt.Sprintf(`{"event":"publish","channel":"c%d","name":"E","data":{"n":%d},"except":["%s"]%s}`,
			m.channel, n, w.conns[m.except].id, id))); err != nil {
			return err
		}
	}
	if _, text, err := c.read(); err != nil || !strings.HasPrefix(string(text), `{"event":"ack","id":"last","data":{"seq":`) {
		return fmt.Errorf("the last publish is answered with %s, %v", text, err)
	}
	return nil
}

// A thousand connections listen to eight of a hundred channels each and ask for answers in between, while four
// goroutines of the program and one client publish, leaving out another connection each time. Every delivery is
// checked: its bytes, that it comes once, and that it keeps its publisher's order across all channels.
func TestEveryDeliveryComesOnceAndInOrder(t *testing.T) {
	sd := modeltest.Seed(t)
	onEach(t, func(t *testing.T, tr transport) {
		deliveries := 100_000
		if tr == loops && !testing.Short() && !raceEnabled {
			deliveries = 1_000_000
		}
		s := startOn(t, tr, Config{Auth: byQuery("*")})
		r := rand.New(rand.NewPCG(sd, 0))
		w := newLoad(s, r, deliveries)
		for _, c := range w.conns {
			c.connect()
		}
		client := s.upgraded("/ws?user=publisher")
		client.greeted()
		client.SetReadDeadline(time.Now().Add(3 * time.Minute))
		begun := time.Now()
		var readers, publishers sync.WaitGroup
		for _, c := range w.conns {
			readers.Go(func() {
				if err := c.receive(); err != nil {
					t.Errorf("connection %d, after %d messages and %d answers: %v", c.number, len(c.got), c.answered, err)
				}
			})
		}
		for p := range loadPublishers {
			r := rand.New(rand.NewPCG(sd, 1+uint64(p)))
			publishers.Go(func() {
				var err error
				if p == loadPublishers-1 {
					err = w.publishByWire(client, p)
				} else {
					err = w.publish(p, r)
				}
				if err != nil {
					t.Errorf("publisher %d: %v", p, err)
				}
			})
		}
		publishers.Wait()
		for _, c := range w.conns {
			if _, err := c.raw.Write(masked(ws.OpText, endPing)); err != nil {
				t.Errorf("connection %d: %v", c.number, err)
			}
		}
		readers.Wait()
		took := time.Since(begun)
		var bad tally
		got, answers := 0, 0
		for _, c := range w.conns {
			c.count(&bad)
			got += len(c.got)
			answers += c.answered
		}
		if bad != (tally{}) || got != w.deliveries {
			t.Errorf("%d deliveries of %d: lost %d, doubled %d, out of order %d, to the excluded %d, on channels not subscribed to %d",
				got, w.deliveries, bad.lost, bad.doubled, bad.disordered, bad.excluded, bad.strays)
		}
		t.Logf("%d deliveries of %d messages, and %d answers, in %v", got, len(w.messages), answers, took.Round(time.Millisecond))
	})
}

// However the messages rush by, a subscriber is told first, then hears each one from there on until it leaves, and a
// subscriber that comes back hears exactly what it missed.
func TestSubscribingInAStormMissesNothing(t *testing.T) {
	sd := modeltest.Seed(t)
	onEach(t, func(t *testing.T, tr transport) {
		cycles := 100
		if testing.Short() || tr == portable { // where the storm leaves little time for the network
			cycles = 25
		}
		s := startOn(t, tr, Config{Loops: 2, Channels: []Channel{{Pattern: "kept", History: History{Size: 1 << 20, Bytes: 1 << 30}}}})
		for _, channel := range []string{"passing", "kept"} {
			t.Run(channel, func(t *testing.T) {
				var begun, done atomic.Int64 // the number of the last message whose Send was called, and has returned
				stop, moved := make(chan struct{}), make(chan struct{}, 1)
				var riders [4]rider
				for i := range riders {
					riders[i] = rider{peer: s.dial(""), channel: channel, r: rand.New(rand.NewPCG(sd, uint64(i))), begun: &begun, done: &done, moved: moved}
				}
				var storm, clients sync.WaitGroup
				storm.Go(func() {
					for n := int64(1); ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						begun.Store(n)
						s.send(event(channel, strconv.FormatInt(n, 10)))
						done.Store(n)
						if n%16 == 0 {
							s.rounds()
						}
						for i := range riders { // nobody is to be taken for a slow client
							for riders[i].reached.Load() < n-2000 {
								<-moved
							}
						}
					}
				})
				for i := range riders {
					clients.Go(func() {
						riders[i].ride(cycles)
						riders[i].reach(math.MaxInt64)
					})
				}
				clients.Wait()
				close(stop)
				storm.Wait()
			})
		}
	})
}

// rider is a client in a storm of the numbers 1, 2, 3, ….
type rider struct {
	*peer
	channel     string
	r           *rand.Rand
	begun, done *atomic.Int64
	reached     atomic.Int64 // the number it has read up to
	moved       chan<- struct{}
}

func (p *rider) reach(n int64) {
	p.reached.Store(n)
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// ride subscribes and unsubscribes.
func (p *rider) ride(cycles int) {
	channel := p.channel
	type frame struct {
		Event    string
		Data     json.RawMessage
		Seq      int64
		Epoch    string
		Replayed bool
	}
	read := func() (f frame, text string, ok bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, b, err := p.ReadMessage(ctx)
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			p.t.Errorf("%s: %v", b, err)
		}
		return f, string(b), err == nil
	}
	say := func(frame string) { p.Write(context.Background(), ws.OpText, []byte(frame)) }
	var last int64
	epoch := ""
	for i := range cycles {
		already := p.done.Load()
		since := ""
		if epoch != "" {
			since = fmt.Sprintf(`,"since":%d,"epoch":"%s"`, last, epoch)
		}
		say(fmt.Sprintf(`{"event":"subscribe","channel":"%s"%s}`, channel, since))
		f, text, ok := read()
		if !ok {
			return
		}
		if f.Event != "subscription_succeeded" {
			p.t.Errorf("cycle %d: before the acknowledgement comes %s", i, text)
			return
		}
		atMost := p.begun.Load() + 1
		p.reach(atMost - 1)
		next := int64(0) // unknown
		if channel == "kept" {
			var ack struct {
				Seq       int64
				Epoch     string
				Recovered bool
			}
			if err := json.Unmarshal(f.Data, &ack); err != nil || ack.Recovered != (since != "") || ack.Seq < already || ack.Seq >= atMost {
				p.t.Errorf("cycle %d: after %d messages and before number %d, since %d, the acknowledgement is %s, %v", i, already, atMost, last, text, err)
				return
			}
			if epoch == "" {
				last = ack.Seq
			}
			epoch, next = ack.Epoch, last+1
			atMost = 0
		}
		for left := p.r.IntN(6); ; left-- {
			if left == 0 {
				say(fmt.Sprintf(`{"event":"unsubscribe","channel":"%s","id":%d}`, channel, i))
			}
			f, text, ok := read()
			if !ok {
				return
			}
			if f.Event == "unsubscribed" && left <= 0 {
				break
			}
			n, err := strconv.ParseInt(string(f.Data), 10, 64)
			switch {
			case f.Event != "E" || err != nil || n != next && next != 0 || f.Seq != n && channel == "kept":
				p.t.Errorf("cycle %d: got %s, which should be number %d", i, text, next)
				return
			case next == 0 && (n <= already || n > atMost):
				p.t.Errorf("cycle %d: number %d is the first after the acknowledgement: %d had been sent before the subscription, and %d only after", i, n, already, atMost)
				return
			}
			last, next = n, n+1
			p.reach(n)
		}
	}
}

type step struct {
	By int `json:"by"`
	N  int `json:"n"`
}

func TestBroadcastsOfOneGoroutineKeepTheirOrder(t *testing.T) {
	const goroutines, listeners = 8, 12
	each := 500
	if testing.Short() {
		each = 100
	}
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Loops: 3})
		events := realtime.NewEvents()
		realtime.HandleFunc(events, "Step", func(ctx context.Context, st step) error {
			return realtime.Channel("steps").Public(ctx, "Step", st)
		})
		b, err := realtime.New(s.Server, events)
		if err != nil {
			t.Fatal(err)
		}
		var ps []*peer
		for range listeners {
			p := s.dial("")
			p.say(subscribe("steps"))
			p.want(succeeded("steps"))
			ps = append(ps, p)
		}
		ctx := realtime.WithBroadcaster(t.Context(), b)
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for n := range each {
					if err := realtime.Broadcast(ctx, "Step", step{g, n}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var first []string
		for i, p := range ps {
			var next [goroutines]int
			for j := range goroutines * each {
				text := p.next()
				var f struct{ Data step }
				if err := json.Unmarshal([]byte(text), &f); err != nil || f.Data.By >= goroutines {
					t.Fatalf("%s: %v", text, err)
				}
				by, n := f.Data.By, next[f.Data.By]
				if want := fmt.Sprintf(`{"event":"Step","channel":"steps","data":{"by":%d,"n":%d}}`, by, n); text != want {
					t.Fatalf("subscriber %d gets\n%s\nand should get\n%s", i, text, want)
				}
				next[by]++
				if i == 0 {
					first = append(first, text)
				} else if first[j] != text {
					t.Fatalf("subscriber %d gets %s as number %d, the first one %s", i, text, j, first[j])
				}
			}
		}
		wg.Wait()
		for _, p := range ps {
			p.quiet()
		}
	})
}
