package loop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a loop and a way to connect to it.
type rig struct {
	*Loop
	t      testing.TB
	socket bool // descriptors; else pumps over net.Pipe
}

func newRig(t testing.TB, socket bool, cfg Config) *rig {
	t.Helper()
	cfg.Portable = !socket
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	l, err := New(0, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Loop: l, t: t, socket: socket}
}

// each runs a test over pumps and over descriptors.
func each(t *testing.T, cfg Config, f func(*testing.T, *rig)) {
	t.Run("pump", func(t *testing.T) {
		r := newRig(t, false, cfg)
		defer r.Stop()
		f(t, r)
	})
	t.Run("descriptor", func(t *testing.T) {
		if !hasDescriptors {
			t.Skip("this system's loops take no descriptors")
		}
		r := newRig(t, true, cfg)
		defer r.Stop()
		f(t, r)
	})
}

// on runs f on the loop and waits for it.
func (r *rig) on(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.Post(Func(func(*Loop) { defer close(done); f() }), 0); err != nil {
		r.t.Fatal(err)
	}
	<-done
}

// until runs f on the loop, turn after turn, until it is true.
func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		var ok bool
		r.on(func() { ok = f() })
		if ok {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

// written returns when everything sent before is written or queued.
func (r *rig) written() {
	r.t.Helper()
	r.until("the turn is flushed", r.turn.idle)
}

// end is a connection's handler, which does what the test says, or counts.
type end struct {
	Conn
	data    func(b []byte) int
	timeout func()
	drained func([]Dropped)
	onClose func(error)
	slow    string // what a slow peer is told
	closed  chan error
}

func (e *end) Data(_ *Conn, b []byte) int {
	if e.data != nil {
		return e.data(b)
	}
	return len(b)
}

func (e *end) Timeout(*Conn) {
	if e.timeout != nil {
		e.timeout()
	}
}

func (e *end) Drained(_ *Conn, d []Dropped) {
	if e.drained != nil {
		e.drained(d)
	}
}

func (e *end) Slow(*Conn) ([]byte, time.Duration) { return []byte(e.slow), time.Minute }

func (e *end) Closed(_ *Conn, reason error) {
	if e.onClose != nil {
		e.onClose(reason)
	}
	e.closed <- reason
}

// dial makes a connection and returns both its ends. What the handler does besides counting is set on the loop, or
// passed as data.
func (r *rig) dial(data ...func(e *end, b []byte) int) (*end, net.Conn) {
	r.t.Helper()
	e := &end{closed: make(chan error, 2)}
	for _, f := range data {
		e.data = func(b []byte) int { return f(e, b) }
	}
	return e, r.attach(&e.Conn, e, 0)
}

// attach makes c a connection. sndbuf is the size of its socket's buffer; 0 is the system's.
func (r *rig) attach(c *Conn, h Handler, sndbuf int) net.Conn {
	r.t.Helper()
	if !r.socket {
		here, there := net.Pipe()
		r.on(func() { r.AttachPump(c, h, here, nil) })
		r.t.Cleanup(func() { there.Close() })
		return there
	}
	fd, there := socketPair(r.t, sndbuf)
	r.on(func() {
		if err := r.Attach(c, h, fd, nil); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { there.Close() })
	return there
}

// append gives a group one unit; on the loop.
func (r *rig) append(g *Group, s Stamp, text string, except ...*Conn) {
	log := r.Begin(g)
	log.Buf = append(log.Buf, text...)
	r.Commit(g, s, except)
}

// rest reads until the loop's side ends.
func rest(t testing.TB, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %.60q: %v", b, err)
	}
	return string(b)
}

// wantRest shuts a connection and checks all it got.
func (r *rig) wantRest(e *end, c net.Conn, want string) {
	r.t.Helper()
	r.Post(Func(func(*Loop) { e.Shut(nil, nil, time.Minute) }), 0)
	if got := rest(r.t, c); got != want {
		r.t.Errorf("got %q, not %q", got, want)
	}
	c.Close()
}

func TestUnitsAndRepliesArriveInTheOrderInWhichTheyWereAppended(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var a, b, c Group
		all, allPeer := r.dial()
		one, onePeer := r.dial()
		r.on(func() {
			for _, g := range []*Group{&a, &b, &c} {
				all.Join(g, Stamp{}, nil)
			}
			one.Join(&b, Stamp{}, nil)
			if a.Len() != 1 || b.Len() != 2 || all.In(&c) == nil || one.In(&c) != nil {
				t.Error("the groups' members are not those who joined")
			}
			all.Send([]byte("r0 "))
			r.append(&c, Stamp{Seq: 1}, "c1 ")
			r.append(&a, Stamp{Seq: 1}, "a1 ")
			r.append(&a, Stamp{Seq: 2}, "a2 ")
			all.Send([]byte("r1 "))
			all.Send([]byte("r2 "))
			one.Send([]byte("r3 "))
			r.append(&b, Stamp{Seq: 1}, "b1 ")
			r.append(&a, Stamp{Seq: 3}, "a3 ")
			r.append(&c, Stamp{Seq: 2}, "c2 ")
			r.append(&b, Stamp{Seq: 2}, "b2 ")
			all.Send([]byte("r4 "))
		})
		r.written()
		r.on(func() {
			r.append(&b, Stamp{Seq: 3}, "b3 ") // alone: the fast path
			r.append(&b, Stamp{Seq: 4}, "b4 ")
		})
		r.wantRest(all, allPeer, "r0 c1 a1 a2 r1 r2 b1 a3 c2 b2 r4 b3 b4 ")
		r.wantRest(one, onePeer, "r3 b1 b2 b3 b4 ")
	})
}

func TestConnectionsInTheSameGroupsGetTheSameInOrder(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		const perTurn, turns = 60, 3
		groups := make([]Group, 4)
		sets := [][]int{{0, 1}, {0, 1}, {1, 0}, {0, 1, 2}, {2, 1, 0}, {3}, {2, 3}, {0, 1}}
		ends := make([]*end, len(sets))
		peers := make([]net.Conn, len(sets))
		for i, set := range sets {
			ends[i] = &end{closed: make(chan error, 2)}
			peers[i] = r.attach(&ends[i].Conn, ends[i], i%2) // every other with the least buffer the system has: short writes
			r.on(func() {
				for _, g := range set {
					ends[i].Join(&groups[g], Stamp{}, nil)
				}
			})
		}
		want := make([]strings.Builder, len(sets))
		for turn := range turns {
			r.on(func() {
				for n := range perTurn {
					g := n * 7 % len(groups)
					text := fmt.Sprintf("%d.%d.%d ", turn, g, n) + strings.Repeat("x", 500)
					r.append(&groups[g], Stamp{Seq: uint64(turn*perTurn + n + 1)}, text)
					for i, set := range sets {
						if slices.Contains(set, g) {
							want[i].WriteString(text)
						}
					}
				}
			})
			r.written()
		}
		for i := range sets {
			r.wantRest(ends[i], peers[i], want[i].String())
		}
	})
}

func TestExclusion(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g, h Group
		a, aPeer := r.dial()
		b, bPeer := r.dial()
		c, cPeer := r.dial()
		r.on(func() {
			for _, e := range []*end{a, b, c} {
				e.Join(&g, Stamp{}, nil)
			}
			b.Join(&h, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "1 ", &a.Conn)
			r.append(&g, Stamp{Seq: 2}, "2 ", &a.Conn, &b.Conn)
			r.append(&g, Stamp{Seq: 3}, "3 ")
			r.append(&h, Stamp{Seq: 1}, "h ", &a.Conn, &c.Conn) // who is not in the group does not matter
			r.append(&g, Stamp{Seq: 4}, "4 ", &b.Conn)
		})
		r.written()
		r.on(func() { r.append(&g, Stamp{Seq: 5}, "5 ") }) // it was for one turn only
		r.wantRest(a, aPeer, "3 4 5 ")
		r.wantRest(b, bPeer, "1 3 h 5 ")
		r.wantRest(c, cPeer, "1 2 3 4 5 ")
	})
}

func TestWhoJoinsGetsNothingItKnows(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		old, oldPeer := r.dial()
		mid, midPeer := r.dial()     // joins between two units of a turn
		young, youngPeer := r.dial() // knows units that are still on their way
		again, againPeer := r.dial() // leaves and joins
		r.on(func() {
			old.Join(&g, Stamp{}, nil)
			again.Join(&g, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "1 ")
			r.append(&g, Stamp{Ver: 1}, "v1 ")
			mid.Join(&g, Stamp{Seq: 1, Ver: 1}, nil)
			young.Join(&g, Stamp{Seq: 3, Ver: 2}, nil)
			young.Send([]byte("ack "))
			r.append(&g, Stamp{Seq: 2}, "2 ")
			again.Leave(&g) // before its units were sealed, which are its own all the same
		})
		r.written()
		r.on(func() {
			r.append(&g, Stamp{Ver: 2}, "v2 ")
			r.append(&g, Stamp{Seq: 3}, "3 ")
			again.Join(&g, Stamp{Seq: 3, Ver: 3}, nil)
			r.append(&g, Stamp{Seq: 4}, "4 ")
			r.append(&g, Stamp{Ver: 3}, "v3 ")
		})
		r.written()
		r.on(func() {
			if len(g.young) > 0 || mid.young+young.young+again.young > 0 {
				t.Errorf("%d memberships are young still", len(g.young))
			}
			r.append(&g, Stamp{Seq: 5}, "5 ")
		})
		r.wantRest(old, oldPeer, "1 v1 2 v2 3 4 v3 5 ")
		r.wantRest(mid, midPeer, "2 v2 3 4 v3 5 ")
		r.wantRest(young, youngPeer, "ack 4 v3 5 ")
		r.wantRest(again, againPeer, "1 v1 2 4 5 ")
	})
}

func TestWhoLeavesGetsEverythingBeforeItInOrder(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g, h Group
		e, peer := r.dial()
		other, otherPeer := r.dial()
		silent, silentPeer := r.dial() // leaves before it is sent anything
		r.on(func() {
			for _, c := range []*end{e, other, silent} {
				c.Join(&g, Stamp{}, nil)
			}
			silent.Leave(&g)
			e.Join(&h, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "1 ")
			e.Send([]byte("a "))
			r.append(&h, Stamp{Seq: 1}, "h1 ")
			r.append(&g, Stamp{Seq: 2}, "2 ")
			r.append(&g, Stamp{Seq: 3}, "not for it ", &e.Conn)
			e.Send([]byte("b "))
			e.Send([]byte("c "))
			r.append(&g, Stamp{Seq: 4}, "4 ")
			e.Leave(&g)
			e.Send([]byte("left "))
			r.append(&g, Stamp{Seq: 5}, "5 ")
			r.append(&h, Stamp{Seq: 2}, "h2 ")
			e.Join(&g, Stamp{Seq: 6}, nil)
			e.Send([]byte("joined "))
			r.append(&g, Stamp{Seq: 6}, "6 ")
			r.append(&g, Stamp{Seq: 7}, "7 ")
			e.Leave(&h)
		})
		r.wantRest(e, peer, "1 a h1 2 b c 4 left h2 joined 7 ")
		r.wantRest(other, otherPeer, "1 2 not for it 4 5 6 7 ")
		r.wantRest(silent, silentPeer, "")
	})
}

func TestShutDeliversEverythingBeforeItAndNothingAfter(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		reason := errors.New("enough")
		e, peer := r.dial()
		other, otherPeer := r.dial()
		r.on(func() {
			e.Join(&g, Stamp{}, nil)
			other.Join(&g, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "1 ")
		})
		r.written()
		r.on(func() {
			r.append(&g, Stamp{Seq: 2}, "2 ")
			e.Send([]byte("r "))
			r.append(&g, Stamp{Seq: 3}, "not for it ", &e.Conn)
			e.Shut([]byte("last"), reason, time.Minute)
			if !e.Closing() || len(e.Memberships()) != 0 || g.Len() != 1 {
				t.Error("it is a member still")
			}
			r.append(&g, Stamp{Seq: 4}, "4 ")
			e.Send([]byte("too late"))
			e.Shut([]byte("again"), nil, time.Minute)
		})
		if got := <-e.closed; got != reason {
			t.Errorf("closed with %v", got)
		}
		if got := rest(t, peer); got != "1 2 r last" {
			t.Errorf("got %q", got)
		}
		peer.Close()
		r.until("the peer's end is seen", func() bool { return r.Conns() == 1 })
		if len(e.closed) > 0 {
			t.Errorf("closed again, with %v", <-e.closed)
		}
		r.wantRest(other, otherPeer, "1 2 not for it 4 ")
	})
}

// The peer of a pump may be in the midst of sending when it is told to go: closing the socket then would answer with a
// reset, and throw away what it has not read yet.
func TestAPumpShutsLikeADescriptor(t *testing.T) {
	r := newRig(t, false, Config{})
	defer r.Stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	here, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	e := &end{closed: make(chan error, 2)}
	r.on(func() {
		r.AttachPump(&e.Conn, e, here, nil)
		e.Pause()
	})
	reason := errors.New("enough")
	const n = 2 << 20 // more than the peer's side takes unread
	if _, err := peer.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	r.on(func() {
		e.Send(make([]byte, n))
		e.Shut([]byte("last"), reason, time.Minute)
	})
	if err := <-e.closed; err != reason {
		t.Errorf("closed with %v", err)
	}
	if _, err := peer.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, peer); len(got) != n+4 || !strings.HasSuffix(got, "last") {
		t.Errorf("got %d bytes of %d", len(got), n+4)
	}
	r.on(func() {
		if r.Conns() != 1 {
			t.Error("the loop did not wait for the peer to end its side")
		}
	})
	peer.Close()
	r.until("it is gone", func() bool { return r.Conns() == 0 })
}

func TestShutWaitsForTheGraceOnly(t *testing.T) {
	c := &fakeClock{}
	each(t, Config{Now: c.now}, func(t *testing.T, r *rig) {
		e, _ := r.dial() // whose peer neither reads nor ends
		r.on(func() {
			e.Send(bytes.Repeat([]byte("x"), 8<<20))
			e.Shut([]byte("last"), nil, time.Second)
		})
		r.written()
		r.at(c, 999*time.Millisecond)
		if n := r.Conns(); n != 1 {
			t.Fatalf("%d connections, not 1", n)
		}
		r.at(c, time.Second+2*wheelTick)
		if n := r.Conns(); n != 0 {
			t.Fatalf("%d connections are left", n)
		}
		c.ms.Store(0)
	})
}

func TestPolicies(t *testing.T) {
	const units, size = 200, 1000
	text := func(i int) string { return fmt.Sprintf("%0*d", size, i) }
	run := func(r *rig, p Policy) (e *end, got []string, dropped []Dropped) {
		g := Group{Policy: p}
		e = &end{closed: make(chan error, 2)}
		peer := r.attach(&e.Conn, e, 1) // the least the system has
		drained := make(chan []Dropped, 1)
		e.drained = func(d []Dropped) { drained <- slices.Clone(d) }
		r.on(func() { e.Join(&g, Stamp{}, nil) })
		for i := range units {
			r.on(func() { r.append(&g, Stamp{Seq: uint64(i + 1)}, text(i)) })
			r.written()
		}
		if len(e.closed) > 0 {
			return e, nil, nil
		}
		b := make([]byte, units*size)
		n := 0
		peer.SetReadDeadline(time.Now().Add(20 * time.Second))
		for !bytes.HasSuffix(b[:n], []byte(text(units-1))) {
			k, err := peer.Read(b[n:min(n+777, len(b))])
			if n += k; err != nil {
				r.t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		dropped = <-drained
		for i := 0; i < n; i += size {
			got = append(got, string(b[i:i+size]))
		}
		if len(dropped) > 0 && dropped[0].Group != &g {
			r.t.Error("another group is named")
		}
		return e, got, dropped
	}
	// check: the units got are first ones without a gap, and the last tail ones.
	check := func(t *testing.T, r *rig, got []string, dropped []Dropped, tail int) {
		first := len(got) - tail
		for i, s := range got {
			want := i
			if i >= first {
				want = units - len(got) + i
			}
			if s != text(want) {
				t.Fatalf("unit %d of %d is %s", i, len(got), strings.TrimLeft(s, "0"))
			}
		}
		lost := units - len(got)
		if len(dropped) != 1 || dropped[0].N != lost || lost == 0 {
			t.Errorf("%d units are missing, and %v is told", lost, dropped)
		}
		if !r.socket && first != 1 { // what the writer has in hand
			t.Errorf("%d units came before the gap", first)
		}
	}
	cfg := Config{MaxQueued: 20 * size}
	t.Run("drop oldest", func(t *testing.T) {
		each(t, cfg, func(t *testing.T, r *rig) {
			_, got, dropped := run(r, DropOldest)
			tail := 20 // a full queue of units
			if r.socket && len(dropped) == 1 && units-dropped[0].N > 20 && len(got) > 20 && got[len(got)-20] != text(units-20) {
				tail = 19 // some of the one partly written was in the queue too
			}
			check(t, r, got, dropped, tail)
		})
	})
	t.Run("keep latest", func(t *testing.T) {
		each(t, cfg, func(t *testing.T, r *rig) {
			_, got, dropped := run(r, KeepLatest)
			check(t, r, got, dropped, 1)
		})
	})
	t.Run("disconnect", func(t *testing.T) {
		each(t, cfg, func(t *testing.T, r *rig) {
			e, _, _ := run(r, Disconnect)
			if err := <-e.closed; err != ErrSlow {
				t.Errorf("closed with %v", err)
			}
		})
	})
}

// A pump's queue is not a slow reader's until something older waits in it.
func TestAPumpThatKeepsUpLosesNothing(t *testing.T) {
	for _, p := range []Policy{Disconnect, DropOldest, KeepLatest} {
		r := newRig(t, false, Config{MaxQueued: 10})
		g := Group{Policy: p}
		e, peer := r.dial()
		e.drained = func(d []Dropped) {
			if len(d) > 0 {
				t.Errorf("policy %d dropped %v", p, d)
			}
		}
		r.on(func() {
			e.Join(&g, Stamp{}, nil)
			for i := range 10 {
				r.append(&g, Stamp{Seq: uint64(i + 1)}, "abcdefgh")
			}
		})
		r.wantRest(e, peer, strings.Repeat("abcdefgh", 10))
		r.Stop()
	}
}

func TestPauseAndResumeLoseNoByteAndKeepTheirOrder(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		want := make([]byte, 2<<20)
		for i := range want {
			want[i] = byte(i ^ i>>8 ^ i>>16)
		}
		var got []byte
		e, peer := r.dial(func(e *end, b []byte) int {
			n := 1 + len(b)*2/3
			if len(b) < 10 {
				n = len(b)
			}
			got = append(got, b[:n]...)
			e.Pause()
			r.Post(Func(func(*Loop) { e.Resume() }), 0)
			return n
		})
		go func() {
			peer.Write(want)
			if c, ok := peer.(interface{ CloseWrite() error }); ok {
				c.CloseWrite() // the end must not overtake what was left
			} else {
				peer.Close()
			}
		}()
		if err := <-e.closed; err != io.EOF {
			t.Errorf("closed with %v", err)
		}
		r.on(func() {
			if !bytes.Equal(got, want) {
				i := 0
				for i < min(len(got), len(want)) && got[i] == want[i] {
					i++
				}
				t.Errorf("%d bytes arrived of %d; the first %d are right", len(got), len(want), i)
			}
		})
	})
}

// lastWords gives its bytes together with the end, as crypto/tls may.
type lastWords struct{ left string }

func (w *lastWords) Read(b []byte) (int, error) {
	n := copy(b, w.left)
	w.left = w.left[n:]
	return n, io.EOF
}
func (*lastWords) Write(b []byte) (int, error) { return len(b), nil }
func (*lastWords) Close() error                { return nil }

func TestAnEndThatComesWithTheLastBytesDoesNotOvertakeThem(t *testing.T) {
	r := newRig(t, false, Config{})
	defer r.Stop()
	var got []byte
	e := &end{closed: make(chan error, 2)}
	e.data = func(b []byte) int {
		got = append(got, b[0])
		e.Pause()
		r.Post(Func(func(*Loop) { e.Resume() }), 0)
		return 1
	}
	r.on(func() { r.AttachPump(&e.Conn, e, &lastWords{"goodbye"}, nil) })
	if err := <-e.closed; err != io.EOF || string(got) != "goodbye" {
		t.Errorf("got %q, then %v", got, err)
	}
}

// grown is what a handshake turns into.
type grown struct {
	end
	got []byte
}

func TestASessionTakesTheRestOfItsHandshake(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var s grown
		s.closed = make(chan error, 1)
		s.data = func(b []byte) int {
			s.got = append(s.got, b...)
			if bytes.HasSuffix(s.got, []byte("!")) {
				s.Send(s.got)
			}
			return len(b)
		}
		e, peer := r.dial(func(e *end, b []byte) int {
			if len(b) < 5 {
				t.Errorf("the handshake got %q", b)
			}
			e.Send([]byte("welcome:"))
			s.Become(&e.Conn, &s)
			if !e.IsClosed() {
				t.Error("the handshake is open still")
			}
			return 5
		})
		go func() {
			peer.Write([]byte("hello" + "rest "))
			peer.Write([]byte("and more!"))
		}()
		want := "welcome:rest and more!"
		b := make([]byte, len(want))
		peer.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(peer, b); err != nil || string(b) != want {
			t.Errorf("got %q, %v", b, err)
		}
		peer.Close()
		<-s.closed
		if len(e.closed) != 0 {
			t.Error("the handshake was told of the end")
		}
		r.on(func() {
			if r.Conns() != 0 {
				t.Errorf("%d connections are left", r.Conns())
			}
		})
	})
}

// fakeClock is a time that moves when it is told to.
type fakeClock struct{ ms atomic.Int64 }

var clockZero = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *fakeClock) now() time.Time {
	return clockZero.Add(time.Duration(c.ms.Load()) * time.Millisecond)
}

// at moves the clock to d after its start, and returns when the loop has seen it.
func (r *rig) at(c *fakeClock, d time.Duration) {
	r.t.Helper()
	c.ms.Store(d.Milliseconds())
	r.until("the clock is seen", func() bool { return r.wheel.now >= uint32(d/wheelTick) })
}

func TestDeadlines(t *testing.T) {
	var c fakeClock
	r := newRig(t, false, Config{Now: c.now})
	defer r.Stop()
	e, _ := r.dial()
	fired := 0
	e.timeout = func() {
		if fired++; fired == 5 {
			e.SetDeadline(c.now().Add(time.Second)) // from inside
		}
	}
	const round = wheelSlots * wheelTick
	set := func(d time.Duration) { r.on(func() { e.SetDeadline(clockZero.Add(d)) }) }
	step := func(d time.Duration, want int) {
		t.Helper()
		r.at(&c, d)
		r.on(func() {
			if fired != want {
				t.Fatalf("at %v it fired %d times, not %d", d, fired, want)
			}
		})
	}
	// due checks that the deadline at d is not early and at most two ticks late.
	due := func(d time.Duration, want int) {
		t.Helper()
		step(d-time.Millisecond, want-1)
		step(d+2*wheelTick, want)
	}
	set(time.Second)
	due(time.Second, 1)
	step(10*time.Second, 1) // once
	set(20 * time.Second)
	set(30 * time.Second) // later
	due(30*time.Second, 2)
	set(50 * time.Second)
	set(40 * time.Second) // earlier
	due(40*time.Second, 3)
	step(60*time.Second, 3)
	set(60*time.Second + 3*round + 5*wheelTick) // several rounds of the wheel
	due(60*time.Second+3*round+5*wheelTick, 4)
	at := c.now().Sub(clockZero)
	set(at + 10*round)
	set(at + time.Second) // its old entry must not fire
	due(at+time.Second, 5)
	due(at+2*time.Second+2*wheelTick, 6) // set by the handler
	at = c.now().Sub(clockZero)
	set(at + time.Second)
	r.on(func() { e.SetDeadline(time.Time{}) })
	step(at+11*round, 6)
	set(time.Second) // passed already
	step(at+11*round+2*wheelTick, 7)
	at += 12 * round
	for _, far := range []time.Duration{1<<63 - 1, at + 1<<32*wheelTick} { // more ticks than can be counted
		set(far)
		at += 2 * round
		step(at, 7)
	}
}

// TestASlotsNextOwnerIsNotRemindedOfTheLastOnes reuses a slot whose entries are in the wheel.
func TestASlotsNextOwnerIsNotRemindedOfTheLastOnes(t *testing.T) {
	var c fakeClock
	r := newRig(t, false, Config{Now: c.now})
	defer r.Stop()
	a, _ := r.dial()
	r.on(func() {
		a.SetDeadline(clockZero.Add(time.Second))
		a.Abort(nil)
	})
	b, _ := r.dial()
	fired := 0
	b.timeout = func() { fired++ }
	r.on(func() {
		if a.slot != b.slot {
			t.Fatal("the slot was not reused")
		}
		b.SetDeadline(clockZero.Add(2 * time.Second))
	})
	for at := range 30 {
		r.at(&c, time.Duration(at)*100*time.Millisecond)
		r.on(func() {
			if want := at > 21; at != 21 && at != 20 && (fired == 1) != want {
				t.Errorf("after %d ms it fired %d times", at*100, fired)
			}
		})
	}
}

func TestAPanicCostsItsConnectionOnly(t *testing.T) {
	var log bytes.Buffer
	var c fakeClock
	r := newRig(t, false, Config{Now: c.now, MaxQueued: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer r.Stop()
	var g Group
	bystander, bystanderPeer := r.dial()
	r.on(func() { bystander.Join(&g, Stamp{}, nil) })
	boom := func() { panic("boom") }

	e, peer := r.dial()
	e.data = func([]byte) int { boom(); return 0 }
	r.on(func() { e.Join(&g, Stamp{}, nil) })
	peer.Write([]byte("x"))
	if err := <-e.closed; err == nil || err.Error() != "loop: handler panicked: boom" {
		t.Errorf("closed with %v", err)
	}

	e, _ = r.dial()
	e.timeout = boom
	r.on(func() { e.SetDeadline(clockZero.Add(time.Second)) })
	r.at(&c, 2*time.Second)
	<-e.closed

	e, peer = r.dial()
	e.drained = func([]Dropped) { boom() }
	r.on(func() { e.Send([]byte("abc")) })
	io.ReadFull(peer, make([]byte, 3))
	<-e.closed

	e, peer = r.dial()
	e.onClose = func(error) { boom() }
	r.on(func() { e.Join(&g, Stamp{}, nil) })
	peer.Close()
	r.until("the others are gone", func() bool { return r.Conns() == 1 && g.Len() == 1 })

	r.on(func() {
		r.append(&g, Stamp{Seq: 1}, "hello")
		if n := strings.Count(log.String(), "a connection's handler panicked"); n != 4 {
			t.Errorf("%d panics were logged, not 4:\n%s", n, log.String())
		}
	})
	r.wantRest(bystander, bystanderPeer, "hello")
}

func TestTasksOfOneGoroutineKeepTheirOrder(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		const posters, tasks = 8, 2000
		var last [posters]int
		ran := 0
		var wg sync.WaitGroup
		for p := range posters {
			wg.Go(func() {
				for i := range tasks {
					r.Post(Func(func(*Loop) {
						if last[p] != i {
							t.Errorf("task %d of %d ran as number %d", i, p, last[p])
						}
						last[p]++
						ran++
					}), 10)
				}
			})
		}
		wg.Wait()
		r.on(func() {
			if ran != posters*tasks {
				t.Errorf("%d tasks ran", ran)
			}
		})
		r.until("the inbox counts nothing", func() bool { return r.inboxBytes.Load() == 0 })
	})
}

func TestAnOverloadedLoopSaysWhenItHasRoom(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		if r.Overloaded() != nil {
			t.Fatal("overloaded from the start")
		}
		hold, held := make(chan struct{}), make(chan struct{})
		r.Post(Func(func(*Loop) { close(held); <-hold }), 0)
		<-held
		nop := Func(func(*Loop) {})
		r.Post(nop, inboxHigh)
		if r.Overloaded() != nil {
			t.Error("overloaded at the limit")
		}
		r.Post(nop, 1)
		full := r.Overloaded()
		if full == nil || r.Overloaded() != full {
			t.Fatal("not overloaded beyond the limit")
		}
		select {
		case <-full:
			t.Error("room while nothing was taken")
		default:
		}
		close(hold)
		<-full
		r.until("there is room", func() bool { return r.Overloaded() == nil })
		// A loop that stops makes nobody wait.
		hold, held = make(chan struct{}), make(chan struct{})
		r.Post(Func(func(*Loop) { close(held); <-hold }), inboxHigh+1)
		<-held
		full = r.Overloaded()
		stopped := make(chan struct{})
		go func() { r.Stop(); close(stopped) }()
		close(hold)
		<-full
		<-stopped
		if r.Overloaded() != nil {
			t.Error("overloaded after its end")
		}
	})
}

func TestStop(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		var ends []*end
		var peers []net.Conn
		for range 20 {
			e, p := r.dial()
			ends, peers = append(ends, e), append(peers, p)
		}
		ran := 0
		r.on(func() {
			for _, e := range ends {
				e.Join(&g, Stamp{}, nil)
			}
		})
		ends[0].onClose = func(error) { r.Post(Func(func(*Loop) { ran = -1 << 20 }), 0) }
		for range 100 {
			r.Post(Func(func(*Loop) { ran++ }), 0)
		}
		r.Stop()
		r.Stop() // again is fine
		if ran != 100 {
			t.Errorf("%d tasks ran of 100", ran)
		}
		for i, e := range ends {
			if err := <-e.closed; err != ErrStopped {
				t.Errorf("closed with %v", err)
			}
			if got := rest(t, peers[i]); got != "" {
				t.Errorf("got %q", got)
			}
		}
		if g.Len() != 0 || r.Conns() != 0 {
			t.Errorf("%d members and %d connections are left", g.Len(), r.Conns())
		}
		if err := r.Post(Func(func(*Loop) {}), 0); err != ErrStopped {
			t.Errorf("Post returns %v", err)
		}
	})
}

// TestNoGoroutineIsLeft: in the bubble, a goroutine that does not end is an error.
func TestNoGoroutineIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, Config{})
		var g Group
		var peers []net.Conn
		for i := range 10 {
			e, p := r.dial()
			peers = append(peers, p)
			r.on(func() {
				e.Join(&g, Stamp{}, nil)
				e.SetDeadline(r.Now().Add(time.Duration(i) * time.Second))
			})
		}
		r.on(func() { r.append(&g, Stamp{Seq: 1}, "nobody reads this") })
		peers[0].Close()
		synctest.Wait()
		if n := r.Conns(); n != 9 {
			t.Errorf("%d connections, not 9", n)
		}
		r.Stop()
		synctest.Wait()
		for _, p := range peers[1:] {
			if _, err := p.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a connection is open: %v", err)
			}
		}
	})
}

// A slow peer that reads on after all gets what was sent from the beginning, as far as it goes, and then why it ends.
func TestASlowPeerIsToldSoBehindAPrefix(t *testing.T) {
	const units, size = 100, 1000
	c := &fakeClock{} // which stands still: no grace ends
	each(t, Config{MaxQueued: 20 * size, Now: c.now}, func(t *testing.T, r *rig) {
		var g Group
		e := &end{closed: make(chan error, 2), slow: "too slow"}
		peer := r.attach(&e.Conn, e, 1) // the least the system has
		text := func(i int) string { return fmt.Sprintf("%0*d", size, i) }
		r.on(func() { e.Join(&g, Stamp{}, nil) })
		for i := range units {
			r.on(func() { r.append(&g, Stamp{Seq: uint64(i + 1)}, text(i)) })
			r.written()
			r.on(func() { e.Send([]byte("reply")); r.append(&g, Stamp{Seq: uint64(i + 1)}, "") })
			r.written()
		}
		if err := <-e.closed; err != ErrSlow {
			t.Errorf("closed with %v", err)
		}
		var want strings.Builder
		for i := range units {
			want.WriteString(text(i) + "reply")
		}
		got, ok := strings.CutSuffix(rest(t, peer), "too slow")
		if !ok || got == "" || len(got) >= want.Len() || !strings.HasPrefix(want.String(), got) {
			t.Errorf("it got %d bytes, a prefix: %v, its last words: %v", len(got), strings.HasPrefix(want.String(), got), ok)
		}
		if n := len(got) % (size + len("reply")); n != 0 && n != size {
			t.Errorf("it got %d bytes of the last unit", n)
		}
	})
}

func TestAQueueThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	var q queue
	for i := range 100_000 {
		for range 1 + i%3 {
			q.push(item{b: []byte("unit")})
		}
		for q.bytes > 2*len("unit") {
			q.wrote(3) // which ends in the middle of units
		}
	}
	if cap(q.items) > 16 {
		t.Errorf("%d bytes wait, in a queue of %d places", q.bytes, cap(q.items))
	}
}

// Input is taken as fast as its answers can be written: a little of it may ask for much.
func TestInputWaitsWhileTheTurnIsFull(t *testing.T) {
	const asked, size = 400, 100 << 10
	each(t, Config{MaxQueued: 1 << 40}, func(t *testing.T, r *rig) {
		answer := bytes.Repeat([]byte("x"), size)
		e, peer := r.dial(func(e *end, b []byte) int {
			for n := range b {
				if most := logBytes + size; r.turn.bytes >= most {
					t.Fatalf("the turn has %d bytes and more is asked for", r.turn.bytes)
				}
				e.Send(answer)
				if r.Full() {
					return n + 1
				}
			}
			return len(b)
		})
		other, otherPeer := r.dial()
		go peer.Write(bytes.Repeat([]byte("?"), asked))
		peer.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := io.CopyN(io.Discard, peer, asked*size); err != nil {
			t.Fatalf("after %d answers: %v", n/size, err)
		}
		r.on(func() { other.Send([]byte("done")) })
		r.wantRest(other, otherPeer, "done")
		r.wantRest(e, peer, "")
	})
}

// pieces is a peer that says what it is asked for, up to the next piece's length, and remembers how much that was.
type pieces struct {
	left          []int
	said          []byte
	asked         []int
	empty, closed chan struct{}
}

func (p *pieces) Read(b []byte) (int, error) {
	p.asked = append(p.asked, len(b))
	if len(p.left) == 0 {
		close(p.empty)
		<-p.closed
		return 0, io.EOF
	}
	n := min(p.left[0], len(b))
	p.left = p.left[1:]
	for i := range b[:n] {
		b[i] = byte(len(p.said))
		p.said = append(p.said, b[i])
	}
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }
func (p *pieces) Close() error                { close(p.closed); return nil }

// TestAPumpReadsAsMuchAsComes: a peer that says much is read in large pieces, and one that has stopped doing so needs
// little memory again.
func TestAPumpReadsAsMuchAsComes(t *testing.T) {
	r := newRig(t, false, Config{})
	const much = 1 << 20
	p := &pieces{left: []int{100, much, much, much, maxRead / 8, much, much}, empty: make(chan struct{}), closed: make(chan struct{})}
	want := []int{minRead, minRead, maxRead, maxRead, maxRead, maxRead, maxRead}
	for range 15 { // one fewer than make it forget
		p.left, want = append(p.left, 100), append(want, maxRead)
	}
	p.left, want = append(p.left, much), append(want, maxRead)
	for range 16 {
		p.left, want = append(p.left, 100), append(want, maxRead)
	}
	want = append(want, minRead)
	var got []byte
	e := &end{closed: make(chan error, 1), data: func(b []byte) int {
		got = append(got, b...)
		return len(b)
	}}
	r.on(func() { r.AttachPump(&e.Conn, e, p, nil) })
	<-p.empty
	r.Stop()
	<-p.closed
	if !bytes.Equal(got, p.said) {
		t.Error("what was read is not what was said")
	}
	if !slices.Equal(p.asked, want) {
		t.Errorf("it was asked for %d, and should be for %d", p.asked, want)
	}
}
