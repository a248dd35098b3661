package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"
)

var (
	// ErrSlow: more than MaxQueued bytes waited for a connection that did not read.
	ErrSlow = errors.New("loop: the connection reads too slowly")
	// ErrTimeout: the peer did not finish closing in time.
	ErrTimeout = errors.New("loop: timed out")
)

// Handler is what a connection means to the room above. Every method runs on the loop and must not wait.
type Handler interface {
	// Data gets bytes as they arrived; they are valid, and may be changed, during the call only. It returns how
	// many it took, at least one. It takes fewer only after Pause, and gets the rest again after Resume; or because the
	// loop is Full, and gets the rest in a later turn.
	Data(c *Conn, b []byte) int
	// Timeout is called when the deadline set with SetDeadline has passed.
	Timeout(c *Conn)
	// Drained is called when everything queued has been written after some of it could not be at once;
	// dropped tells for which groups units were left out meanwhile.
	Drained(c *Conn, dropped []Dropped)
	// Slow is called when more than MaxQueued bytes wait, and the connection ends for it with ErrSlow. What waits is
	// lost; last is what the peer gets behind a prefix of it, if it reads that within the grace.
	Slow(c *Conn) (last []byte, grace time.Duration)
	// Closed is called once, last, with the reason: io.EOF when the peer ended the stream.
	Closed(c *Conn, reason error)
}

// Dropped says that a group's policy left n units out for a slow connection.
type Dropped struct {
	Group *Group
	N     int
}

const (
	flagPaused  uint16 = 1 << iota // not reading
	flagClosing                    // over for its handler; to be shut once everything is written
	flagLinger                     // shut; what arrives is thrown away until the peer ends its side
	flagWriting                    // the poller tells us when the descriptor takes more
	flagMerge                      // left out of a unit of the turn being flushed: must not take the fast path
	flagMuted                      // paused, and the poller has been told: it would not stop reporting unread bytes
	flagClosed
)

// Conn is one connection, embedded by whoever gives it a meaning. Every field is owned by the loop.
type Conn struct {
	loop *Loop
	h    Handler
	x    *extra // what few connections have at any moment; nil otherwise
	// Members are the groups the connection is in, in no order.
	members []Membership

	// the turn being flushed
	first *Group // its first group with units
	chain int32  // more of them: a place in turn.chain, -1 for none
	reply int32  // its own units in the turn being flushed: a place in its replies, -1 for none
	mark  uint32 // the flush that will write to it; 0 for none

	// the turn being collected
	replyHead, replyTail int32 // -1 for none

	fd       int32  // -1 for a pump
	slot     uint32 // in the loop's table
	gen      uint32 // tells this connection's events from those of the slot's former owner
	armed    uint32 // tick at which the wheel looks at it; 0 for none
	deadline uint32 // tick; 0 for none
	lastRead uint32 // tick
	young    uint16 // groups some of whose units on the way are older than its membership
	flags    uint16
}

type extra struct {
	pump    *pump
	parked  bool   // there is no transport
	corks   uint16 // what is sent is held back
	first   []byte // goes before what is held back
	queue   queue
	unread  []byte // arrived while paused
	dropped []Dropped
}

func (c *Conn) extra() *extra {
	if c.x == nil {
		c.x = new(extra)
	}
	return c.x
}

// Membership is a connection's place in a group.
type Membership struct {
	Group *Group
	Data  any // of whoever joined it
	index int32
}

// Loop is the owner.
func (c *Conn) Loop() *Loop { return c.loop }

// IsClosed reports whether Closed has been called.
func (c *Conn) IsClosed() bool { return c.flags&flagClosed != 0 }

// Closing reports whether no more can be sent.
func (c *Conn) Closing() bool { return c.flags&(flagClosed|flagClosing|flagLinger) != 0 }

// Queued is how many bytes wait because the peer has not read them.
func (c *Conn) Queued() int {
	if c.x == nil {
		return 0
	}
	return c.x.queue.bytes
}

// Memberships are the groups the connection is in; valid until the next Join or Leave.
func (c *Conn) Memberships() []Membership { return c.members }

// Silence is how long nothing has arrived.
func (c *Conn) Silence() time.Duration {
	return c.loop.now.Sub(c.loop.wheel.time(c.lastRead))
}

// SetDeadline asks for one call of Timeout at t, rounded up to the wheel's tick; it replaces the one before.
// The zero time asks for none.
func (c *Conn) SetDeadline(t time.Time) {
	if t.IsZero() {
		c.deadline = 0
		return
	}
	c.deadline = c.loop.wheel.tick(t)
	if c.armed == 0 || c.armed > c.deadline {
		c.arm()
	}
}

func (c *Conn) arm() {
	c.armed = max(c.deadline, c.loop.wheel.now+1)
	c.loop.wheel.remind(c.slot, c.armed)
}

// adopt gives the connection a slot and an owner.
func (l *Loop) adopt(c *Conn, h Handler) {
	var slot uint32
	if n := len(l.free); n > 0 {
		slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		slot = uint32(len(l.table))
		l.table = append(l.table, nil)
	}
	l.gen++
	*c = Conn{loop: l, h: h, fd: -1, slot: slot, gen: l.gen, chain: -1, reply: -1, replyHead: -1, replyTail: -1}
	c.lastRead = l.wheel.now
	l.table[slot] = c
	l.conns.Add(1)
}

// Attach makes fd, a connected non-blocking stream socket, a connection of this loop, which closes it in the
// end. first holds bytes that arrived earlier. On error the descriptor is the caller's still.
func (l *Loop) Attach(c *Conn, h Handler, fd int, first []byte) error {
	l.adopt(c, h)
	c.fd = int32(fd)
	if err := l.poll.add(fd, c.slot, c.gen); err != nil {
		l.disown(c)
		return fmt.Errorf("loop: attach descriptor: %w", err)
	}
	c.Feed(first)
	return nil
}

// Become gives old's place, and everything it is, to c, whose handler is h: a handshake turns into a session.
// It is called from old's handler, which then returns at once.
func (c *Conn) Become(old *Conn, h Handler) {
	*c = *old
	c.h = h
	c.loop.table[c.slot] = c
	if c.x != nil && c.x.pump != nil {
		c.x.pump.conn = c
	}
	for i := range c.members {
		c.members[i].Group.members[c.members[i].index] = c
	}
	c.loop.turn.replace(old, c)
	old.flags |= flagClosed
	old.x, old.members = nil, nil
}

// Detach takes the descriptor out of the loop, which forgets the connection without calling Closed. unread is what has
// arrived and was left.
func (c *Conn) Detach() (fd int, unread []byte) {
	fd = int(c.fd)
	if c.x != nil {
		unread = c.x.unread
	}
	c.loop.poll.del(fd)
	c.loop.disown(c)
	return fd, unread
}

func (l *Loop) disown(c *Conn) {
	c.flags |= flagClosed
	l.table[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.conns.Add(-1)
}

// ready handles what the poller said about one descriptor.
func (l *Loop) ready(e *event) {
	if int(e.slot) >= len(l.table) {
		l.readyListener(e.slot)
		return
	}
	c := l.table[e.slot]
	if c == nil || c.gen != e.gen {
		return
	}
	if e.writable && c.flags&flagWriting != 0 {
		c.drain()
	}
	if e.readable && c.flags&flagClosed == 0 {
		switch {
		case c.flags&flagPaused == 0:
			c.read()
		case c.flags&flagMuted == 0:
			c.flags |= flagMuted
			c.interest()
		}
	}
	if e.hangup && c.flags&flagClosed == 0 && c.flags&flagPaused != 0 {
		c.Abort(io.EOF)
	}
}

func (c *Conn) read() {
	l := c.loop
	if c.x != nil && len(c.x.unread) > 0 {
		return // what arrived before goes first; the poller will say so again
	}
	if l.buf == nil {
		l.buf = make([]byte, readBuffer)
	}
	for budget := readBudget; budget > 0 && !l.Full(); { // here, too, the poller will say so again
		n, err := readFD(int(c.fd), l.buf)
		switch {
		case err == errAgain:
			return
		case err != nil:
			c.Abort(err)
			return
		case n == 0:
			c.end()
			return
		}
		c.lastRead = l.wheel.now
		c.Feed(l.buf[:n])
		if n < len(l.buf) || c.flags&(flagPaused|flagClosed) != 0 {
			return
		}
		budget -= n
	}
}

// end is the peer's end of the stream.
func (c *Conn) end() {
	c.Abort(io.EOF)
}

// Feed gives bytes to the handler as if they had just arrived, and keeps what it leaves.
func (c *Conn) Feed(b []byte) {
	if x := c.x; x != nil && len(x.unread) > 0 && c.flags&flagPaused == 0 {
		b, x.unread = append(x.unread, b...), nil // resumed, but not replayed yet: the older bytes go first
	}
	for len(b) > 0 && c.flags&(flagPaused|flagClosed) == 0 && !c.loop.Full() {
		b = b[c.data(b):]
		now := c.owner()
		if now == c {
			break
		}
		c = now // a handshake has become a session, which the rest is for
	}
	if len(b) > 0 && !c.Closing() {
		x := c.extra()
		x.unread = append(x.unread, b...)
		if c.flags&flagPaused == 0 {
			c.loop.resumed = append(c.loop.resumed, c) // the next turn takes it up
		}
	}
}

func (c *Conn) data(b []byte) (n int) {
	defer c.rescue()
	n = len(b) // should it panic
	return c.h.Data(c, b)
}

// Pause stops reading until Resume: the peer is held back by its own window.
func (c *Conn) Pause() {
	if c.flags&flagClosed == 0 {
		c.flags |= flagPaused // most pauses end before anything arrives: the poller need not know yet
	}
}

// Resume undoes Pause. Bytes that were left are given to the handler later in this turn or the next.
func (c *Conn) Resume() {
	if c.flags&flagPaused == 0 || c.flags&flagClosed != 0 {
		return
	}
	c.unmute()
	c.loop.resumed = append(c.loop.resumed, c)
}

func (c *Conn) replayUnread() {
	c = c.owner()
	if c.flags&(flagClosed|flagPaused) != 0 || c.x == nil {
		return
	}
	b := c.x.unread
	c.x.unread = nil
	c.Feed(b)
	c = c.owner()
	c.slim()
	c.askMore()
}

func (c *Conn) unmute() {
	c.flags &^= flagPaused
	if c.flags&flagMuted != 0 {
		c.flags &^= flagMuted
		c.interest()
	}
}

// interest tells the poller what the connection waits for now.
func (c *Conn) interest() {
	if c.fd >= 0 {
		c.loop.poll.mod(int(c.fd), c.slot, c.gen, c.flags&flagMuted == 0, c.flags&flagWriting != 0)
	}
}

// Shut ends the connection in order: what was sent so far is written, then last; then our side of the stream
// ends, and the peer has grace to end its own. For the handler it is over at once: Closed is called before Shut
// returns.
func (c *Conn) Shut(last []byte, reason error, grace time.Duration) {
	if c.Closing() {
		return
	}
	final := append(c.loop.turn.collect(c), last...)
	c.close(reason, grace)
	if len(final) > 0 {
		c.send(final)
	}
	c.loop.turn.shut = append(c.loop.turn.shut, c)
}

// close makes the connection over for its handler, and drops what was sent to it in the turn being collected.
func (c *Conn) close(reason error, grace time.Duration) {
	c.flags |= flagClosing
	c.over(reason)
	x := c.extra()
	x.unread, x.dropped = nil, nil
	x.release()
	c.unmute()
	if x.pump != nil {
		x.pump.more()
	}
	if x.queue.bytes > 0 {
		c.writeOn()
	}
	c.SetDeadline(c.loop.now.Add(grace))
	c.replyHead, c.replyTail = -1, -1
}

// shutNow ends our side of the stream of a closing connection once nothing is left to write.
func (c *Conn) shutNow() {
	if c.flags&flagClosing == 0 || c.flags&(flagClosed|flagLinger) != 0 ||
		c.Queued() > 0 || c.replyHead >= 0 || c.mark != 0 {
		return
	}
	c.flags |= flagLinger
	if c.fd >= 0 {
		shutdownWrite(int(c.fd))
	} else if c.x.pump == nil || !c.x.pump.endWrite() { // it has written everything when its queue is empty
		c.Abort(nil)
	}
}

// lingering is the handler of a connection that is over for everybody but the socket.
type lingering struct{}

func (lingering) Data(c *Conn, b []byte) int { return len(b) }
func (lingering) Timeout(c *Conn)            { c.Abort(ErrTimeout) }
func (lingering) Drained(*Conn, []Dropped)   {}
func (lingering) Closed(*Conn, error)        {}

func (lingering) Slow(*Conn) ([]byte, time.Duration) { return nil, 0 }

// Abort closes the connection now; what is queued is lost.
func (c *Conn) Abort(reason error) {
	if c.flags&flagClosed != 0 {
		return
	}
	c.loop.disown(c)
	c.over(reason) // it may still ask for the peer's address
	if c.fd >= 0 {
		closeFD(int(c.fd)) // which takes it out of the poller, since nothing else refers to the socket
		c.fd = -1
	}
	if c.x != nil && c.x.pump != nil {
		c.x.pump.close()
	}
	c.x = nil
}

// over tells the handler, and takes the connection out of its groups.
func (c *Conn) over(reason error) {
	h := c.h
	c.h = lingering{}
	func() {
		defer func() {
			if p := recover(); p != nil {
				c.loop.panicked(p)
			}
		}()
		h.Closed(c, reason)
	}()
	for len(c.members) > 0 {
		c.Leave(c.members[len(c.members)-1].Group)
	}
	c.members = nil
}

// rescue, deferred, keeps a handler's panic from ending the loop and everybody on it: it costs this connection only.
func (c *Conn) rescue() {
	if p := recover(); p != nil {
		c.loop.panicked(p)
		c.Abort(fmt.Errorf("loop: handler panicked: %v", p))
	}
}

func (c *Conn) timeout() {
	defer c.rescue()
	c.h.Timeout(c)
}

func (c *Conn) drained(dropped []Dropped) {
	defer c.rescue()
	c.h.Drained(c, dropped)
}

func (l *Loop) panicked(p any) {
	l.cfg.Logger.Error("a connection's handler panicked; the connection is closed", "panic", p, "stack", string(debug.Stack()))
}

// RemoteAddr is the peer's address, asked of the socket: it is wanted seldom, and kept by nobody.
func (c *Conn) RemoteAddr() string {
	if c.x != nil && c.x.pump != nil {
		if a, ok := c.x.pump.rw.(interface{ RemoteAddr() net.Addr }); ok {
			return a.RemoteAddr().String()
		}
	}
	if c.fd >= 0 {
		return peerOf(int(c.fd))
	}
	return ""
}
