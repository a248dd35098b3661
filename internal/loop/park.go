package loop

import "slices"

// A parked connection has no transport. What is sent to it waits in its queue, up to MaxQueued, until somebody takes it:
// a client that asks over and over again by HTTP request. It may get a transport later, and stays who it is.

// Parker is the handler of a parked connection.
type Parker interface {
	Handler
	// Queued is called whenever something has been queued. It may Take.
	Queued(c *Conn)
}

// AttachParked makes c a connection of this loop without a transport. Data is never called.
func (l *Loop) AttachParked(c *Conn, h Parker) {
	l.adopt(c, h)
	c.extra().parked = true
}

// Guard runs what a parked connection's handler does without being called by the loop: its panic costs this connection only.
func (c *Conn) Guard(f func()) {
	defer c.rescue()
	f()
}

// Take removes everything that waits for a parked connection, whole units, and returns it; nil when there is nothing.
func (c *Conn) Take() []byte {
	if c.x == nil || !c.x.parked || c.x.corks > 0 || c.x.queue.bytes == 0 {
		return nil
	}
	b := c.x.queue.all()
	c.emptied()
	return b
}

func (q *queue) all() []byte {
	b := make([]byte, 0, q.bytes)
	for _, it := range q.items[q.head:] {
		b = append(b, it.b...)
	}
	return b
}

// Finish ends a parked connection and returns all that was sent to it and not taken. Closed is called before it returns.
func (c *Conn) Finish(reason error) []byte {
	if c.flags&flagClosed != 0 {
		return nil
	}
	c.x.release()
	b := c.x.queue.all()
	if c.mark != 0 { // a flush is under way that has not come to it
		for _, r := range c.loop.turn.merge(c) {
			b = append(b, r.b...)
		}
	}
	b = append(b, c.loop.turn.collect(c)...)
	c.Abort(reason)
	return b
}

// TakeOver gives c, which is parked, the transport of old, and h for its handler. old is over then, without a call of
// Closed; what waits for c is written. It is called from old's handler, which returns at once, and does nothing and
// reports false while something sent to old waits: a pump's writer may have it in hand.
func (c *Conn) TakeOver(old *Conn, h Handler) bool {
	if old.replyHead >= 0 || old.mark != 0 || old.x != nil && old.x.queue.waiting() > 0 || old.Closing() {
		return false
	}
	l := c.loop
	l.table[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.conns.Add(-1)
	l.table[old.slot] = c
	c.h, c.slot, c.gen, c.fd, c.lastRead = h, old.slot, old.gen, old.fd, l.wheel.now
	c.flags |= old.flags & flagMuted
	x := c.extra()
	x.parked = false
	if old.x != nil {
		x.unread = append(x.unread, old.x.unread...)
		if x.pump = old.x.pump; x.pump != nil {
			x.pump.conn = c
			x.queue.behind(&old.x.queue)
		}
	}
	old.flags |= flagClosed
	old.fd, old.x = -1, nil
	if old.flags&flagPaused != 0 && c.flags&flagPaused == 0 {
		c.flags |= flagPaused
		c.Resume()
	}
	if c.armed = 0; c.deadline != 0 {
		c.arm() // the wheel knew it by its former slot
	}
	if x.queue.bytes > 0 {
		c.writeOn()
	}
	c.slim()
	return true
}

// behind puts what waits in q behind what the writer of another queue has in hand.
func (q *queue) behind(hand *queue) {
	q.items = append(slices.Clone(hand.items[hand.head:]), q.items[q.head:]...)
	q.head = 0
	q.bytes += hand.bytes
	q.busy, q.hand = hand.busy, hand.hand
}

// Cork holds back what is sent to c, and what has been sent and waits, until as many calls of Uncork. It reports false,
// and does nothing, when the connection ends.
func (c *Conn) Cork() bool {
	if c.Closing() {
		return false
	}
	x := c.extra()
	if q := &x.queue; x.corks == 0 && c.fd >= 0 && q.bytes > 0 { // what has begun has to be ended
		q.busy, q.hand = 1, len(q.items[q.head].b)
	}
	x.corks++
	return true
}

// Uncork takes one Cork back; first goes before everything that is held back. With the last, all of it goes.
func (c *Conn) Uncork(first []byte) {
	x := c.x
	if c.Closing() || x == nil || x.corks == 0 {
		return
	}
	x.first = append(x.first, first...)
	if x.corks > 1 {
		x.corks--
		return
	}
	x.release()
	if x.queue.bytes > 0 {
		c.writeOn()
	}
	c.slim()
}

// release ends all holding back.
func (x *extra) release() {
	q := &x.queue
	if len(x.first) > 0 {
		q.items = slices.Insert(q.items, q.head+q.busy, item{b: x.first})
		q.bytes += len(x.first)
	}
	x.corks, x.first = 0, nil
	if x.pump == nil {
		q.busy, q.hand = 0, 0
	}
}

// writeOn sees to it that what is queued gets out.
func (c *Conn) writeOn() {
	x := c.x
	switch {
	case x.corks > 0:
	case x.parked:
		if p, ok := c.h.(Parker); ok {
			c.queued(p)
		}
	case x.pump != nil:
		x.pump.start()
	case c.flags&flagWriting == 0:
		c.flags |= flagWriting
		c.interest()
	}
}

func (c *Conn) queued(p Parker) {
	defer c.rescue()
	p.Queued(c)
}
