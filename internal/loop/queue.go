package loop

import "slices"

// queue holds what a connection's socket did not take, as references to logs.
type queue struct {
	items []item
	head  int
	bytes int
	busy  int // items at the head that a pump is writing, or that a cork does not hold back, and
	hand  int // their bytes
}

// waiting is how many bytes neither the socket nor a pump's writer has taken.
func (q *queue) waiting() int { return q.bytes - q.hand }

type item struct {
	b     []byte
	group *Group // whose policy may leave it out; nil once it is partly written, or where nothing may be left out
}

// writeAll is the fast path: everything the group got this turn, in one write.
func (c *Conn) writeAll(g *Group) {
	b := g.out.Buf
	if len(b) == 0 {
		return
	}
	if c.fd < 0 { // a pump: everything goes through its queue
		c.emit([]run{{b: b, log: g.out, group: g, hi: len(g.out.units)}})
		return
	}
	n, err := writeFD(int(c.fd), b)
	if err != nil && err != errAgain {
		c.Abort(err)
		return
	}
	if n < len(b) {
		c.enqueue([]run{{b: b, log: g.out, group: g, hi: len(g.out.units)}}, n)
	}
}

// emit writes runs, or queues them behind what waits already.
func (c *Conn) emit(runs []run) {
	if len(runs) == 0 {
		return
	}
	if c.fd < 0 || c.Queued() > 0 || c.x != nil && c.x.corks > 0 {
		c.enqueue(runs, 0)
		return
	}
	b := runs[0].b
	if len(runs) > 1 {
		// One copy into one write beats a vector of many small pieces.
		t := &c.loop.turn
		t.join = t.join[:0]
		for i := range runs {
			t.join = append(t.join, runs[i].b...)
		}
		b = t.join
	}
	n, err := writeFD(int(c.fd), b)
	if cap(c.loop.turn.join) > 4*logBytes {
		c.loop.turn.join = nil
	}
	if err != nil && err != errAgain {
		c.Abort(err)
		return
	}
	if n < len(b) {
		c.enqueue(runs, n)
	}
}

// enqueue keeps runs, of which the first skip bytes are written, for when the socket takes more.
func (c *Conn) enqueue(runs []run, skip int) {
	x := c.extra()
	q := &x.queue
	had := q.waiting()
	atOnce := (x.pump != nil || x.parked) && x.corks == 0 && q.bytes == 0 // the writer takes all of it, as a socket would: nothing has waited
	for i := range runs {
		r := &runs[i]
		if skip >= len(r.b) {
			skip -= len(r.b)
			continue
		}
		if r.group != nil && r.group.Policy != Disconnect && !atOnce {
			for u := r.lo; u < r.hi; u++ {
				b := r.log.Buf[r.log.start(u):r.log.units[u].end]
				if skip >= len(b) {
					skip -= len(b)
					continue
				}
				if r.group.Policy == KeepLatest {
					x.dropUnits(r.group, -1)
				}
				it := item{b: r.keep(b[skip:]), group: r.group}
				if skip > 0 {
					it.group = nil
				}
				skip = 0
				q.push(it)
			}
			continue
		}
		q.push(item{b: r.keep(r.b[skip:])})
		skip = 0
	}
	if limit := c.loop.cfg.MaxQueued; q.waiting() > limit {
		x.dropUnits(nil, q.waiting()-limit)
		// What one turn brings may be more than the limit; a connection is slow when something older waits too.
		if q.waiting() > limit && had > 0 {
			c.slow()
			return
		}
	}
	c.writeOn()
}

// slow ends a connection that does not read. Its queue ends behind the item that is being written, which is the end of
// a unit; behind that goes what the handler has to say.
func (c *Conn) slow() {
	defer c.rescue()
	last, grace := c.h.Slow(c)
	if len(last) == 0 || c.x.parked {
		c.Abort(ErrSlow)
		return
	}
	q := &c.x.queue
	if c.x.corks > 0 { // nothing of what is held back has begun
		c.x.corks, c.x.first = 0, nil
		q.cut(q.head + q.busy)
	} else {
		q.cut(q.head + max(q.busy, 1))
	}
	q.push(item{b: last})
	c.close(ErrSlow, grace)
}

// keep returns b for a queue: by reference where it is a good part of its log, else copied, so that a small
// piece does not hold a large log in memory.
func (r *run) keep(b []byte) []byte {
	switch {
	case r.log != nil && len(b)*4 >= cap(r.log.Buf):
		r.log.kept = true
		return b
	case r.rep != nil && len(b)*4 >= cap(r.rep.buf):
		r.rep.kept = true
		return b
	}
	return slices.Clone(b)
}

func (q *queue) push(it item) {
	// A queue that is never empty must not grow by what has been written.
	if q.head > len(q.items)/2 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, it)
	q.bytes += len(it.b)
}

// cut drops the items from the i-th on.
func (q *queue) cut(i int) {
	for _, it := range q.items[i:] {
		q.bytes -= len(it.b)
	}
	clear(q.items[i:])
	q.items = q.items[:i]
}

// dropUnits leaves out waiting units, oldest first: all of g, or, for nil, of DropOldest groups until over bytes
// are gone. Units partly written, or in a pump's hands, stay.
func (x *extra) dropUnits(g *Group, over int) {
	q := &x.queue
	keep := q.items[:q.head+q.busy]
	for _, it := range q.items[q.head+q.busy:] {
		drop := it.group != nil && (it.group == g || g == nil && over > 0)
		if !drop {
			keep = append(keep, it)
			continue
		}
		q.bytes -= len(it.b)
		over -= len(it.b)
		x.countDropped(it.group)
	}
	clear(q.items[len(keep):])
	q.items = keep
}

func (x *extra) countDropped(g *Group) {
	for i := range x.dropped {
		if x.dropped[i].Group == g {
			x.dropped[i].N++
			return
		}
	}
	x.dropped = append(x.dropped, Dropped{g, 1})
}

// drain writes what waits, now that the socket takes more.
func (c *Conn) drain() {
	q := &c.x.queue
	corked := c.x.corks > 0
	end := len(q.items)
	if corked {
		end = q.head + q.busy
	}
	for q.head < end {
		n, err := writevFD(int(c.fd), q.items[q.head:end])
		if err == errAgain {
			return
		}
		if err != nil {
			c.Abort(err)
			return
		}
		q.wrote(n)
		if corked {
			q.busy, q.hand = end-q.head, q.hand-n
		}
	}
	c.flags &^= flagWriting
	c.interest()
	if q.bytes == 0 {
		c.emptied()
	}
}

// wrote takes n bytes off the head.
func (q *queue) wrote(n int) {
	q.bytes -= n
	for n > 0 {
		it := &q.items[q.head]
		if n < len(it.b) {
			it.b, it.group = it.b[n:], nil
			return
		}
		n -= len(it.b)
		*it = item{}
		q.head++
	}
}

// emptied runs when nothing waits any more.
func (c *Conn) emptied() {
	x := c.x
	x.queue = queue{}
	dropped := x.dropped
	x.dropped = nil
	c.slim()
	c.drained(dropped)
	if c.flags&flagClosing != 0 {
		c.shutNow()
	}
}

// slim drops extra when nothing needs it, which puts the connection back on the fast path.
func (c *Conn) slim() {
	if x := c.x; x != nil && x.pump == nil && !x.parked && x.corks == 0 && x.unread == nil && x.queue.bytes == 0 && x.dropped == nil {
		c.x = nil
	}
}
