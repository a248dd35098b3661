package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	io "github.com/stacksjs/realtime-go/socketio"
)

// Eight goroutines emit events with three attachments each, to rooms and to sockets, while channels publish: no unit has
// anything between its parts, and every stream of events is whole and in order.
func TestBinaryUnitsAreNeverInterleaved(t *testing.T) {
	const rooms, clients, emitters = 4, 24, 8
	n := 300
	if testing.Short() {
		n = 60
	}
	onEach(t, func(t *testing.T, tr transport) {
		var mu sync.Mutex
		var sockets []*io.Socket // guarded by mu
		say := io.New(io.Options{Logger: quiet()})
		ns := say.Namespace("/")
		join := func(s *io.Socket) error {
			mu.Lock()
			defer mu.Unlock()
			sockets = append(sockets, s)
			return s.Join(t.Context(), fmt.Sprintf("r%d", (len(sockets)-1)%rooms), "all")
		}
		io.On(ns, "join", func(_ context.Context, s *io.Socket, _ struct{}) (struct{}, error) { return struct{}{}, join(s) })
		s := startOn(t, tr, Config{IO: say, Loops: 2})
		type client struct {
			*sioPeer
			*sioPoller
			ears ears
			room int
		}
		all := make([]*client, clients)
		for i := range all {
			c := &client{room: i % rooms}
			if i%3 == 2 {
				c.sioPoller = s.dialPoller("")
				c.sioPoller.say(`42["subscribe","news"]`)
				c.sioPoller.want(`42["subscription_succeeded",{"channel":"news"}]`)
				c.sioPoller.say(`429["join"]`)
				c.sioPoller.want(`439[]`)
			} else {
				c.sioPeer = s.dialSIO("")
				c.subscribe("news")
				c.sioPeer.say(`429["join"]`)
				c.sioPeer.want(`439[]`)
			}
			all[i] = c
		}
		var wg sync.WaitGroup
		for g := range emitters {
			wg.Go(func() {
				stream := fmt.Sprintf("s%d", g)
				for i := range n {
					to := ns.To("all")
					switch {
					case g < rooms:
						to = ns.To(fmt.Sprintf("r%d", g))
					case g == rooms: // each socket by its id, as a room
						var ids []string
						for _, s := range sockets {
							ids = append(ids, s.ID())
						}
						to = ns.To(ids...)
					case g == rooms+1: // each socket by itself
						for _, s := range sockets {
							if err := s.Emit(t.Context(), "bin", stream, i, attachment(stream, i, 0), attachment(stream, i, 1), attachment(stream, i, 2)); err != nil {
								t.Error(err)
							}
						}
						continue
					}
					if err := to.Emit(t.Context(), "bin", stream, i, attachment(stream, i, 0), attachment(stream, i, 1), attachment(stream, i, 2)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for i := range n {
				s.send(event("news", fmt.Sprint(i)))
			}
		})
		var heard atomic.Int32
		for i, c := range all {
			wg.Go(func() {
				// Its own room, the four streams to everybody, and the channel.
				for want := n * (1 + emitters - rooms + 1); c.ears.heard < want || c.ears.unit.at < c.ears.unit.size; {
					var err error
					if c.sioPeer != nil {
						op, b, e := c.read()
						if err = e; err == nil {
							err = c.ears.frame(op, b)
						}
					} else {
						status, body, e := c.do(t.Context(), http.MethodGet, "")
						if err = e; err == nil && status != http.StatusOK {
							err = fmt.Errorf("%d %s", status, body)
						}
						if err == nil {
							err = c.ears.body(body)
						}
					}
					if err != nil {
						t.Errorf("client %d, after %d events: %v", i, c.ears.heard, err)
						return
					}
				}
				for stream, next := range c.ears.next {
					if next != n {
						t.Errorf("client %d hears %d events of %s, and should %d", i, next, stream, n)
					}
				}
				if _, mine := c.ears.next[fmt.Sprintf("s%d", c.room)]; !mine || len(c.ears.next) != 1+emitters-rooms+1 {
					t.Errorf("client %d in room %d hears %v", i, c.room, c.ears.next)
				}
				heard.Add(int32(c.ears.heard))
			})
		}
		wg.Wait()
		for _, c := range all {
			if c.sioPeer != nil {
				c.sioPeer.quiet()
			} else {
				c.sioPoller.quiet()
			}
		}
		t.Logf("%d clients heard %d events", clients, heard.Load())
	})
}

// Nothing may stand between a header and its attachments when those who read slowly are left out of something either.
func TestUnitsOfThoseWhoReadSlowlyAreWhole(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	ns := say.Namespace("/")
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}, Limits: Limits{QueuedBytes: 64 << 20}, Channels: []Channel{{Pattern: "news", Slow: DropOldest}}})
	p := s.dialSIO("")
	p.subscribe("news")
	const n = 3000
	for i := range n {
		s.send(event("news", fmt.Sprint(i)))
		if err := ns.Emit(t.Context(), "bin", "bin", i, attachment("bin", i, 0), []byte(pad), attachment("bin", i, 2)); err != nil {
			t.Fatal(err)
		}
	}
	seen, parts := 0, 0
	for seen < n || parts < 3*n {
		op, b, err := p.read()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case op == 1 && parts%3 != 0:
			t.Fatalf("%.100s stands behind %d attachments", b, parts%3)
		case op == 2:
			i := parts % 3
			if want := attachment("bin", parts/3, i); i != 1 && string(b) != string(want) || i == 1 && string(b) != pad {
				t.Fatalf("attachment %d of unit %d is %.50q", i, parts/3, b)
			}
			parts++
		case len(b) > 3 && string(b[:3]) == "453":
			seen++
		}
	}
}
