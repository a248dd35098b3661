package loop

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// parkedEnd is the handler of a parked connection. It takes what is queued when it is told to.
type parkedEnd struct {
	end
	asks   bool // as soon as there is something
	told   func()
	queued int
	taken  strings.Builder
}

func (p *parkedEnd) Queued(c *Conn) {
	p.queued++
	if p.told != nil {
		p.told()
	}
	if p.asks {
		p.taken.Write(c.Take())
	}
}

func (r *rig) park() *parkedEnd {
	p := &parkedEnd{end: end{closed: make(chan error, 2)}}
	r.on(func() { r.AttachParked(&p.Conn, p) })
	return p
}

// take is what waits, by now.
func (r *rig) take(p *parkedEnd) (b string) {
	r.t.Helper()
	r.written()
	r.on(func() { b = string(p.Take()) })
	return b
}

func (r *rig) want(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s is %.200q, not %.200q", what, got, want)
	}
}

// busy is a rig whose flushes are interrupted: its clock moves whenever it is looked at, by more than a flush may take.
func busy(t *testing.T, socket bool) *rig {
	var ms atomic.Int64
	return newRig(t, socket, Config{Now: func() time.Time { return clockZero.Add(time.Duration(ms.Add(2)) * time.Millisecond) }})
}

// crowd makes so many members of a group that a flush to them is interrupted, and returns the first.
func (r *rig) crowd(g *Group) (first *parkedEnd) {
	r.on(func() {
		for range flushWrites {
			c := &parkedEnd{asks: true, end: end{closed: make(chan error, 1)}}
			r.AttachParked(&c.Conn, c)
			c.Join(g, Stamp{}, nil)
			if first == nil {
				first = c
			}
		}
	})
	return first
}

// midst appends a unit to the crowd's group, and runs f when the flush of it is under way and has not come to c.
func (r *rig) midst(first *parkedEnd, g *Group, seq uint64, text string, c *Conn, f func()) {
	r.t.Helper()
	r.written()
	done := make(chan struct{})
	r.on(func() {
		first.told = func() { // in the flush: what is posted now runs when it is interrupted
			r.Post(Func(func(*Loop) {
				defer close(done)
				if c.mark == 0 {
					r.t.Error("the flush is not under way: the crowd is too small")
				}
				f()
			}), 0)
			first.told = nil
		}
		r.append(g, Stamp{Seq: seq}, text)
	})
	<-done
	r.written()
}

func TestAParkedConnectionGetsUnitsAndRepliesInOrder(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g, h Group
		p, other := r.park(), r.park()
		r.on(func() {
			p.Join(&g, Stamp{}, nil)
			p.Join(&h, Stamp{}, nil)
			other.Join(&g, Stamp{}, nil)
			p.Send([]byte("r0 "))
			r.append(&h, Stamp{Seq: 1}, "h1 ")
			r.append(&g, Stamp{Seq: 1}, "g1 ")
			p.Send([]byte("r1 "))
			r.append(&g, Stamp{Seq: 2}, "g2 ", &p.Conn)
			r.append(&g, Stamp{Seq: 3}, "g3 ", &other.Conn)
			r.append(&h, Stamp{Seq: 2}, "h2 ")
			if b := p.Take(); b != nil {
				t.Errorf("%q is taken before the turn has ended", b)
			}
		})
		r.want("what is taken", r.take(p), "r0 h1 g1 r1 g3 h2 ")
		r.want("what is taken again", r.take(p), "")
		r.on(func() {
			r.append(&g, Stamp{Seq: 4}, "g4 ")
			p.Leave(&g)
			r.append(&g, Stamp{Seq: 5}, "g5 ")
			p.asks = true
		})
		r.written()
		r.on(func() { r.append(&h, Stamp{Seq: 3}, "h3 ") })
		r.written()
		r.on(func() { // the first turn was taken when it was queued, too
			r.want("what was taken as it came", p.taken.String(), "g4 h3 ")
			if p.queued != 3 || p.Queued_() != 0 {
				t.Errorf("it was told %d times, and %d bytes wait", p.queued, p.Queued_())
			}
		})
		r.want("what the other takes", r.take(other), "g1 g2 g4 g5 ")
	})
}

// Queued_ is Conn.Queued, which the handler's own hides.
func (p *parkedEnd) Queued_() int { return p.Conn.Queued() }

func TestTakingInTheMidstOfAFlush(t *testing.T) {
	r := busy(t, false)
	defer r.Stop()
	var g, h Group
	first := r.crowd(&g)
	p := r.park()
	r.on(func() { p.Join(&g, Stamp{}, nil); p.Join(&h, Stamp{}, nil) })
	r.midst(first, &g, 1, "g1 ", &p.Conn, func() {
		if b := p.Take(); b != nil {
			t.Errorf("%q is taken before it was flushed", b)
		}
		p.Send([]byte("r1 "))
		r.append(&h, Stamp{Seq: 1}, "h1 ")
	})
	r.want("what is taken", r.take(p), "g1 r1 h1 ")
	r.midst(first, &g, 2, "g2 ", &p.Conn, func() {
		p.Send([]byte("r2 "))
		r.want("what is left at the end", string(p.Finish(io.ErrNoProgress)), "g2 r2 ")
		if err := <-p.closed; err != io.ErrNoProgress {
			t.Errorf("closed with %v", err)
		}
		if b := p.Finish(nil); b != nil {
			t.Errorf("finished again, with %q", b)
		}
	})
	if len(p.closed) > 0 || p.Take() != nil {
		t.Error("it goes on after its end")
	}
}

func TestFinishReturnsAllThatWasNotTaken(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		p := r.park()
		r.on(func() {
			p.Join(&g, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "queued ")
			p.Send([]byte("too "))
		})
		r.written()
		r.on(func() {
			r.append(&g, Stamp{Seq: 2}, "collected ")
			p.Send([]byte("reply "))
			p.onClose = func(error) { p.Send([]byte("too late ")) }
			r.want("what is left", string(p.Finish(nil)), "queued too collected reply ")
			if g.Len() != 0 || !p.IsClosed() {
				t.Error("it is there still")
			}
		})
		corked := r.park()
		r.on(func() {
			corked.Cork()
			corked.Cork()
			corked.Send([]byte("held "))
			corked.Uncork([]byte("first "))
		})
		r.written()
		r.on(func() { r.want("what is left of a corked one", string(corked.Finish(nil)), "first held ") })
	})
}

func TestAParkedConnectionThatNobodyAsksEnds(t *testing.T) {
	each(t, Config{MaxQueued: 100}, func(t *testing.T, r *rig) {
		var g, h Group
		h.Policy = DropOldest
		p, dropper, taker := r.park(), r.park(), r.park()
		taker.asks = true
		unit := strings.Repeat("x", 60)
		r.on(func() {
			p.Join(&g, Stamp{}, nil)
			taker.Join(&g, Stamp{}, nil)
			dropper.Join(&h, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, unit+unit) // of one turn: more than the limit, and nothing older waits
			r.append(&h, Stamp{Seq: 1}, unit)
		})
		r.written()
		var dropped []Dropped
		r.on(func() {
			if p.IsClosed() {
				t.Error("it ended for what came at once")
			}
			dropper.drained = func(d []Dropped) { dropped = append(dropped, d...) }
			r.append(&g, Stamp{Seq: 2}, "y")
			r.append(&h, Stamp{Seq: 2}, unit[:29]+"2")
		})
		r.written()
		r.on(func() { r.append(&h, Stamp{Seq: 3}, unit[:29]+"3") })
		r.written()
		if err := <-p.closed; err != ErrSlow {
			t.Errorf("closed with %v", err)
		}
		// The first unit was queued at once, as if a socket had taken it: it is not left out.
		r.want("what the one takes that leaves out the oldest", r.take(dropper), unit+unit[:29]+"3")
		r.on(func() {
			if len(dropped) != 1 || dropped[0] != (Dropped{&h, 1}) {
				t.Errorf("left out: %v", dropped)
			}
			r.want("what was taken as it came", taker.taken.String(), unit+unit+"y")
		})
	})
}

// upgrade attaches a connection, which says hello first, and returns it with its peer, when that has read it.
func (r *rig) upgrade() (*end, net.Conn) {
	r.t.Helper()
	e, peer := r.dial()
	r.on(func() { e.Send([]byte("hello ")) })
	r.read(peer, "hello ")
	r.on(func() {}) // a pump's writer says that it has written after the peer has read
	return e, peer
}

func (r *rig) read(c net.Conn, want string) {
	r.t.Helper()
	b := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		r.t.Fatalf("read %.200q, %v, not %.200q", b[:n], err, want)
	}
}

func TestTakeOverWritesWhatWaits(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		p := r.park()
		r.on(func() {
			p.Join(&g, Stamp{}, nil)
			r.append(&g, Stamp{Seq: 1}, "1 ")
			p.Send([]byte("a "))
		})
		r.written()
		old, peer := r.upgrade()
		heard := make(chan string, 10)
		after := &end{data: func(b []byte) int { heard <- string(b); return len(b) }, closed: make(chan error, 2)}
		r.on(func() {
			conns := r.Conns()
			r.append(&g, Stamp{Seq: 2}, "2 ")
			p.Send([]byte("b "))
			if !p.TakeOver(&old.Conn, after) {
				t.Error("it does not take over")
			}
			if r.Conns() != conns-1 || !old.IsClosed() || p.IsClosed() || r.table[p.slot] != &p.Conn || old.Queued() != 0 {
				t.Error("the loop does not know who has the transport")
			}
			if b := p.Take(); b != nil {
				t.Errorf("%q can be taken from who has a transport", b)
			}
			r.append(&g, Stamp{Seq: 3}, "3 ")
		})
		r.read(peer, "1 a 2 b 3 ")
		peer.Write([]byte("x"))
		if b := <-heard; b != "x" {
			t.Errorf("heard %q", b)
		}
		r.on(func() { // back on the fast path
			if r.socket && p.x != nil {
				t.Error("it has more than it needs")
			}
			r.append(&g, Stamp{Seq: 4}, "4 ")
		})
		r.read(peer, "4 ")
		r.on(func() { p.Shut([]byte("last"), nil, time.Minute) })
		if got := rest(t, peer); got != "last" {
			t.Errorf("got %q", got)
		}
		<-after.closed
		peer.Close()
		r.until("it is gone", func() bool { return r.Conns() == 0 })
		if len(old.closed)+len(p.closed)+len(after.closed) > 0 {
			t.Error("somebody else was told of the end")
		}
	})
}

// A client that has read what its new transport said last answers at once: the writer may not have said yet that it is
// done.
func TestTakeOverWhileTheWriterHasTheLastWordInHand(t *testing.T) {
	r := newRig(t, false, Config{})
	defer r.Stop()
	var g Group
	p := r.park()
	old, peer := r.dial()
	r.on(func() {
		p.Join(&g, Stamp{}, nil)
		r.append(&g, Stamp{Seq: 1}, "1 ")
		old.Send([]byte("hello "))
	})
	r.written()
	r.on(func() { // the peer has not read: the writer waits
		if old.Queued() == 0 {
			t.Error("nothing is being written")
		}
		if !p.TakeOver(&old.Conn, p) {
			t.Error("it does not take over")
		}
		p.Send([]byte("2 "))
	})
	r.written()
	r.read(peer, "hello 1 2 ")

	// The same, with what came before held back.
	q := r.park()
	old, peer = r.dial()
	r.on(func() {
		q.Cork()
		q.Send([]byte("3 "))
		old.Send([]byte("hello "))
	})
	r.written()
	r.on(func() {
		if !q.TakeOver(&old.Conn, q) {
			t.Error("it does not take over")
		}
	})
	r.read(peer, "hello ")
	r.on(func() {
		q.Send([]byte("4 "))
		q.Uncork([]byte("0 "))
	})
	r.read(peer, "0 3 4 ")

	// And with something that no writer has.
	old, peer = r.dial()
	w := r.park()
	r.on(func() { old.Send([]byte("hello ")) })
	r.written()
	r.on(func() {
		old.Send([]byte("more "))
		if w.TakeOver(&old.Conn, w) {
			t.Error("it takes over while something is collected")
		}
	})
	r.written()
	r.on(func() {
		if w.TakeOver(&old.Conn, w) || w.IsClosed() || old.IsClosed() {
			t.Error("it takes over while something is queued")
		}
	})
	r.read(peer, "hello more ")
	r.until("it has been written", func() bool { return old.Queued() == 0 })
	r.on(func() {
		old.Shut(nil, nil, time.Minute)
		if w.TakeOver(&old.Conn, w) {
			t.Error("it takes over what ends")
		}
	})
}

func TestTakeOverInTheMidstOfAFlush(t *testing.T) {
	for _, socket := range []bool{false, true} {
		if socket && !hasDescriptors {
			continue
		}
		r := busy(t, socket)
		var g Group
		first := r.crowd(&g)
		p := r.park()
		old, peer := r.upgrade()
		r.on(func() { p.Join(&g, Stamp{}, nil); p.Send([]byte("r0 ")) })
		r.midst(first, &g, 1, "g1 ", &p.Conn, func() {
			if !p.TakeOver(&old.Conn, p) {
				t.Error("it does not take over")
			}
			p.Send([]byte("r1 "))
		})
		r.read(peer, "r0 g1 r1 ")
		r.Stop()
	}
}

func TestDeadlinesAfterATakeOver(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		p := r.park()
		old, peer := r.upgrade()
		fired := make(chan string, 10)
		var later *parkedEnd
		p.timeout = func() { fired <- "parked" }
		old.timeout = func() { fired <- "old" }
		r.on(func() {
			p.SetDeadline(r.Now().Add(300 * time.Millisecond))
			old.SetDeadline(r.Now().Add(100 * time.Millisecond))
			after := &end{timeout: func() { fired <- "after" }, closed: make(chan error, 2)}
			if !p.TakeOver(&old.Conn, after) {
				t.Error("it does not take over")
			}
			// Who gets the slot that is free now has no deadline.
			later = &parkedEnd{end: end{timeout: func() { fired <- "later" }, closed: make(chan error, 2)}}
			r.AttachParked(&later.Conn, later)
		})
		if who := <-fired; who != "after" {
			t.Errorf("%s timed out", who)
		}
		r.on(func() {
			p.SetDeadline(r.Now().Add(100 * time.Millisecond))
			later.SetDeadline(r.Now().Add(400 * time.Millisecond))
		})
		if a, b := <-fired, <-fired; a != "after" || b != "later" {
			t.Errorf("%s and %s timed out", a, b)
		}
		r.on(func() {
			if len(fired) > 0 {
				t.Errorf("%s timed out, too", <-fired)
			}
			p.Abort(nil)
		})
		peer.Close()
	})
}

// What a connection was sent before its take-over may have been left unread by a handler that is paused.
func TestWhatIsReadAroundATakeOverIsHeardOnce(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		p := r.park()
		heard := make(chan string, 10)
		after := &end{data: func(b []byte) int { heard <- string(b); return len(b) }, closed: make(chan error, 2)}
		took := make(chan bool, 1)
		_, peer := r.dial(func(e *end, b []byte) int {
			took <- p.TakeOver(&e.Conn, after)
			p.Pause() // by the session, which is busy
			return 2
		})
		r.on(func() {}) // nothing was sent to it
		peer.Write([]byte("5 first"))
		if !<-took {
			t.Fatal("it does not take over")
		}
		go peer.Write([]byte(" second"))
		r.on(func() {})
		if len(heard) > 0 {
			t.Errorf("%q is heard by who is paused", <-heard)
		}
		r.on(func() { p.Resume() })
		got := ""
		for got != "first second" {
			select {
			case b := <-heard:
				got += b
			case <-time.After(20 * time.Second):
				t.Fatalf("heard %q", got)
			}
		}
	})
}

func TestCorksHoldBackWhatIsSent(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		var g Group
		e, peer := r.dial()
		r.on(func() {
			e.Join(&g, Stamp{}, nil)
			for range 2 {
				if !e.Cork() {
					t.Error("it cannot be corked")
				}
			}
			r.append(&g, Stamp{Seq: 1}, "1 ")
			e.Send([]byte("a "))
		})
		r.written()
		r.on(func() {
			if !e.Cork() { // although something waits: it is held back, too
				t.Error("it cannot be corked once more")
			}
			e.Uncork([]byte("x "))
			r.append(&g, Stamp{Seq: 2}, "2 ")
			e.Uncork(nil)
		})
		r.written()
		r.on(func() {
			if e.Queued() != len("1 a 2 ") {
				t.Errorf("%d bytes wait", e.Queued())
			}
			r.append(&g, Stamp{Seq: 3}, "3 ")
			e.Uncork([]byte("y "))
			e.Send([]byte("b "))
			e.Uncork([]byte("too many "))
		})
		r.read(peer, "x y 1 a 2 3 b ")
		r.until("it has been written", func() bool { return e.Queued() == 0 })
		r.on(func() {
			if r.socket && e.x != nil {
				t.Error("it has more than it needs")
			}
			e.Cork()
			e.Uncork(nil) // nothing was held back
			if r.socket && e.x != nil {
				t.Error("it has more than it needs")
			}
			e.Cork()
			e.Send([]byte("c "))
		})
		r.written()
		r.on(func() {
			e.Uncork([]byte("z "))
			e.Cork() // again, before the poller says that the socket takes more: the first is on its way
			e.Send([]byte("d "))
		})
		r.read(peer, "z ")
		r.written()
		r.on(func() { e.Uncork(nil) })
		r.wantRest(e, peer, "c d ")
	})
}

func TestAParkedConnectionCanBeCorked(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		p := r.park()
		p.asks = true
		r.on(func() {
			p.Cork()
			p.Send([]byte("1 "))
		})
		r.written()
		r.on(func() {
			if p.queued != 0 || p.Take() != nil {
				t.Error("what is held back can be taken")
			}
			p.Uncork([]byte("0 "))
			r.want("what was taken", p.taken.String(), "0 1 ")
			p.Uncork([]byte("nothing "))
		})
		old, peer := r.upgrade()
		r.on(func() {
			p.Cork()
			p.Send([]byte("2 "))
		})
		r.written()
		r.on(func() {
			if !p.TakeOver(&old.Conn, p) {
				t.Error("it does not take over")
			}
			p.Send([]byte("3 "))
		})
		r.written()
		r.on(func() { p.Uncork([]byte("1 ")) })
		r.read(peer, "1 2 3 ")
	})
}

func TestCorkingWhileTheWriterHasSomethingInHand(t *testing.T) {
	r := newRig(t, false, Config{})
	defer r.Stop()
	e, peer := r.dial()
	r.on(func() { e.Send([]byte("before ")) })
	r.written()
	r.on(func() {
		if e.Queued() == 0 || !e.Cork() {
			t.Error("it cannot be corked while the writer has everything in hand")
		}
		e.Send([]byte("held "))
	})
	r.written()
	r.read(peer, "before ")
	r.until("the writer is done", func() bool { return !e.x.pump.writing })
	r.on(func() {
		if e.Queued() != len("held ") {
			t.Errorf("%d bytes wait", e.Queued())
		}
		e.Uncork([]byte("first "))
	})
	r.read(peer, "first held ")
	r.until("the writer is done", func() bool { return !e.x.pump.writing })

	r.on(func() { e.Send([]byte("before ")) })
	r.written()
	r.on(func() {
		e.Cork()
		e.Uncork([]byte("first ")) // behind what the writer has
	})
	r.read(peer, "before first ")
	r.until("the writer is done", func() bool { return !e.x.pump.writing })

	r.on(func() { e.Send([]byte("a ")) })
	r.written()
	r.on(func() { e.Send([]byte("b ")) }) // which the writer has not
	r.written()
	r.on(func() { e.Cork() })
	r.read(peer, "a ")
	r.until("the writer is done", func() bool { return !e.x.pump.writing })
	r.on(func() { e.Uncork([]byte("first ")) })
	r.wantRest(e, peer, "first b ")
}

func TestACorkOutlivesAPause(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		e, peer := r.dial()
		r.on(func() {
			e.Cork()
			e.Pause()
			e.Resume()
		})
		r.on(func() { e.Send([]byte("held ")) })
		r.written()
		r.on(func() { e.Uncork([]byte("first ")) })
		r.read(peer, "first held ")
	})
}

// What is held back waits, so that the groups' policies hold for it.
func TestWhatIsHeldBackMayBeLeftOut(t *testing.T) {
	each(t, Config{MaxQueued: 100}, func(t *testing.T, r *rig) {
		g := Group{Policy: DropOldest}
		e, peer := r.dial()
		r.on(func() {
			e.Join(&g, Stamp{}, nil)
			e.Cork()
		})
		for i, text := range []string{"1", "2", "3"} {
			r.on(func() { r.append(&g, Stamp{Seq: uint64(i + 1)}, strings.Repeat(text, 49)+" ") })
			r.written()
		}
		r.on(func() { e.Uncork([]byte("first ")) })
		r.read(peer, "first "+strings.Repeat("2", 49)+" "+strings.Repeat("3", 49)+" ")
	})
}

func TestAPartlyWrittenUnitIsNotTornByACork(t *testing.T) {
	if !hasDescriptors {
		t.Skip("this system's loops take no descriptors")
	}
	r := newRig(t, true, Config{})
	defer r.Stop()
	for _, early := range []bool{false, true} {
		e := &end{closed: make(chan error, 2)}
		peer := r.attach(&e.Conn, e, 1)
		big := strings.Repeat("x", 1<<20)
		r.on(func() { e.Send([]byte(big)) })
		r.written()
		r.on(func() { e.Send([]byte("held ")) })
		r.written()
		r.on(func() {
			if e.Queued() < 1<<19 {
				t.Errorf("only %d bytes wait", e.Queued())
			}
			e.Cork()
			if early {
				e.Uncork([]byte("first "))
			}
		})
		r.read(peer, big)
		if !early {
			r.until("it has been written", func() bool { return e.Queued() == len("held ") && e.flags&flagWriting == 0 })
			r.on(func() { e.Uncork([]byte("first ")) })
		}
		r.read(peer, "first held ")
		r.until("nothing waits", func() bool { return e.x == nil })
		r.on(func() { e.Abort(nil) })
	}

	// Nor by its end, for being too slow.
	e := &end{closed: make(chan error, 2), slow: "too slow"}
	peer := r.attach(&e.Conn, e, 1)
	big := strings.Repeat("x", 1<<20)
	r.on(func() { e.Send([]byte(big)) })
	r.written()
	r.on(func() {
		e.Cork()
		e.Send([]byte(strings.Repeat("y", 3<<20)))
	})
	r.written()
	r.on(func() { e.Send([]byte(strings.Repeat("y", 3<<20))) })
	if err := <-e.closed; err != ErrSlow {
		t.Errorf("closed with %v", err)
	}
	if got := rest(t, peer); got != big+"too slow" {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestACorkedConnectionThatIsSentTooMuchEnds(t *testing.T) {
	each(t, Config{MaxQueued: 100}, func(t *testing.T, r *rig) {
		e, peer := r.dial()
		e.slow = "too slow"
		unit := strings.Repeat("x", 60)
		r.on(func() {
			e.Cork()
			e.Cork()
			e.Uncork([]byte("first "))
			e.Send([]byte(unit))
		})
		r.written()
		r.on(func() { e.Send([]byte(unit)) })
		if err := <-e.closed; err != ErrSlow {
			t.Errorf("closed with %v", err)
		}
		if got := rest(t, peer); got != "too slow" {
			t.Errorf("got %q: nothing of what was held back has a place without the rest", got)
		}
		peer.Close()
		r.on(func() { e.Uncork([]byte("first")) })
		r.until("it is gone", func() bool { return r.Conns() == 0 })
	})
}

func TestACorkedConnectionThatIsShutSaysEverything(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		e, peer := r.dial()
		r.on(func() {
			e.Cork()
			e.Cork()
			e.Uncork([]byte("first "))
			e.Send([]byte("held "))
		})
		r.written()
		r.on(func() {
			e.Send([]byte("collected "))
			e.Shut([]byte("last"), errors.New("enough"), time.Minute)
			e.Uncork([]byte("no more"))
			if e.Cork() {
				t.Error("what ends is corked")
			}
		})
		if got := rest(t, peer); got != "first held collected last" {
			t.Errorf("got %q", got)
		}
		peer.Close()
		<-e.closed

		e, peer = r.dial()
		p := r.park()
		r.on(func() {
			for _, c := range []*Conn{&e.Conn, &p.Conn} {
				c.Cork()
				c.Send([]byte("held "))
			}
		})
		r.written()
		r.on(func() {
			for _, c := range []*Conn{&e.Conn, &p.Conn} {
				c.Abort(nil)
				c.Uncork([]byte("no more"))
				if c.Cork() {
					t.Error("what has ended is corked")
				}
			}
		})
		if b, _ := io.ReadAll(peer); len(b) > 0 {
			t.Errorf("got %q of what was held back", b)
		}
		r.until("they are gone", func() bool { return r.Conns() == 0 })
	})
}

func TestParkedAndCorkedConnectionsEndWithTheLoop(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *rig) {
		p := r.park()
		e, _ := r.dial()
		r.on(func() {
			p.Send([]byte("1"))
			e.Cork()
			e.Send([]byte("1"))
		})
		r.Stop()
		for _, c := range []chan error{p.closed, e.closed} {
			if err := <-c; err != ErrStopped {
				t.Errorf("closed with %v", err)
			}
		}
	})
}

// What a parked connection's client says comes by no call of the loop; a panic there ends that connection alone.
func TestAGuardedPanicEndsItsConnection(t *testing.T) {
	r := newRig(t, false, Config{})
	defer r.Stop()
	p, other := r.park(), r.park()
	went := false
	r.on(func() {
		p.Guard(func() { panic("oops") })
		other.Guard(func() { went = !other.Closing() })
	})
	if err := <-p.closed; err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("it is closed with %v", err)
	}
	if !went {
		t.Error("the other is not there any more")
	}
}
