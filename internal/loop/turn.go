package loop

import (
	"slices"
	"time"
)

// Stamp places a unit in its group's history, so that whoever joins later can tell what it already knows:
// positions of messages and versions of the member list count separately.
type Stamp struct {
	Seq uint64 // position; 0 where the unit is not a message
	Ver uint64 // version; 0 where the unit does not change the members
}

// unit is one piece of bytes that is never split or interleaved: a frame, or frames that belong together.
type unit struct {
	end    uint32 // in Log.Buf
	ord    uint32 // among everything of the turn
	stamp  Stamp
	except []*Conn
}

// Log is what one group got in one turn: its units back to back, ready to be written as they are.
type Log struct {
	Buf    []byte
	units  []unit
	except bool // some unit leaves someone out
	kept   bool // a queue refers to Buf: it must not be used again
}

func (g *Log) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return g.units[i-1].end
}

// Policy says what happens to a group's units for a connection that reads too slowly.
type Policy uint8

const (
	Disconnect Policy = iota // nothing is left out: the connection ends
	DropOldest               // the group's oldest waiting units are left out
	KeepLatest               // only the newest waiting unit of the group is kept
)

// Group is a list of connections that get the same bytes. It belongs to one loop.
type Group struct {
	Owner  any // of whoever made it
	Policy Policy

	members  []*Conn
	young    []young
	cur, out *Log   // being collected; being flushed. nil when there is nothing
	place    uint32 // among the groups being flushed
	last     Stamp
}

// young is a membership newer than some units on the way: those up to since are not for it.
type young struct {
	conn  *Conn
	since Stamp
	left  bool
}

// Len is the number of members.
func (g *Group) Len() int { return len(g.members) }

// Members are the connections in it, in no order; valid until the next Join or Leave.
func (g *Group) Members() []*Conn { return g.members }

// Begin returns the log to whose Buf one unit is to be appended before Commit.
func (l *Loop) Begin(g *Group) *Log {
	if g.cur == nil {
		g.cur = l.turn.newLog()
		l.turn.dirty = append(l.turn.dirty, g)
	}
	return g.cur
}

// Commit ends the unit begun; except get nothing of it. A unit of no bytes only moves the stamp.
func (l *Loop) Commit(g *Group, s Stamp, except []*Conn) {
	log := g.cur
	g.last.Seq = max(g.last.Seq, s.Seq)
	g.last.Ver = max(g.last.Ver, s.Ver)
	from := int(log.start(len(log.units)))
	if len(log.Buf) == from {
		return
	}
	l.turn.ord++
	log.units = append(log.units, unit{end: uint32(len(log.Buf)), ord: l.turn.ord, stamp: s, except: except})
	log.except = log.except || len(except) > 0
	l.turn.bytes += len(log.Buf) - from
	l.turn.longest = max(l.turn.longest, len(log.Buf))
}

// Init gives a group without members the stamp up to which its members will know everything.
func (g *Group) Init(s Stamp) { g.last = s }

// Join makes c a member. since is what it knows: units up to there are not sent to it, even if they come later.
// A connection is in a group once.
func (c *Conn) Join(g *Group, since Stamp, data any) {
	c.members = append(c.members, Membership{Group: g, Data: data, index: int32(len(g.members))})
	g.members = append(g.members, c)
	if g.cur != nil || since.Seq > g.last.Seq || since.Ver > g.last.Ver {
		g.young = append(g.young, young{conn: c, since: since})
		c.young++
	}
}

// In returns c's membership in g; nil if it has none. Valid until the next Join or Leave.
func (c *Conn) In(g *Group) *Membership {
	for i := range c.members {
		if c.members[i].Group == g {
			return &c.members[i]
		}
	}
	return nil
}

// Leave ends c's membership in g. What g got before is still sent to it, in its order among everything else.
func (c *Conn) Leave(g *Group) {
	i := slices.IndexFunc(c.members, func(m Membership) bool { return m.Group == g })
	if i < 0 {
		return
	}
	if g.cur != nil && !c.Closing() {
		c.loop.turn.keep(c, g)
	}
	at := c.members[i].index
	last := len(g.members) - 1
	if moved := g.members[last]; moved != c {
		g.members[at] = moved
		moved.In(g).index = at
	}
	g.members[last] = nil
	if g.members = g.members[:last]; cap(g.members) > 64 && last < cap(g.members)/4 {
		g.members = slices.Clone(g.members)
	}
	c.members = slices.Delete(c.members, i, i+1)
	flushing := c.mark != 0 && g.out != nil // which must still know what to send, even if c joins again meanwhile
	j := slices.IndexFunc(g.young, func(y young) bool { return y.conn == c && !y.left })
	switch {
	case j >= 0 && flushing:
		g.young[j].left = true
	case j >= 0:
		g.young = slices.Delete(g.young, j, j+1)
		c.young--
	case flushing && !c.Closing():
		g.young = append(g.young, young{conn: c, left: true})
		c.young++
	}
}

// keep turns what g has collected for c, which is about to leave it, into replies at their places among the others.
func (t *turn) keep(c *Conn, g *Group) {
	log := t.replies
	prev, next := int32(-1), c.replyHead
	k := newCursor(c, g, g.cur)
	for ; k.settle(c); k.at++ {
		u := &g.cur.units[k.at]
		for next >= 0 && log.list[next].ord < u.ord {
			prev, next = next, log.list[next].next
		}
		i := t.addToReplies(g.cur.Buf[g.cur.start(k.at):u.end], u.ord, next)
		switch {
		case prev >= 0:
			log.list[prev].next = i
		case next < 0:
			t.replied = append(t.replied, c)
			fallthrough
		default:
			c.replyHead = i
		}
		if next < 0 {
			c.replyTail = i
		}
		prev = i
	}
}

// Send queues a unit for this connection alone. b is copied. After Shut nothing is sent.
func (c *Conn) Send(b []byte) {
	if len(b) > 0 && !c.Closing() {
		c.send(b)
	}
}

func (c *Conn) send(b []byte) {
	t := &c.loop.turn
	t.ord++
	i := t.addToReplies(b, t.ord, -1)
	if c.replyHead < 0 {
		c.replyHead = i
		t.replied = append(t.replied, c)
	} else {
		t.replies.list[c.replyTail].next = i
	}
	c.replyTail = i
}

// addToReplies adds a unit, and returns its place; chaining it is the caller's.
func (t *turn) addToReplies(b []byte, ord uint32, next int32) int32 {
	log := t.replies
	off := len(log.buf)
	log.buf = append(log.buf, b...)
	log.list = append(log.list, reply{off: uint32(off), end: uint32(len(log.buf)), ord: ord, next: next})
	t.bytes += len(b)
	return int32(len(log.list) - 1)
}

// replyLog holds the units of single connections, chained per connection.
type replyLog struct {
	buf  []byte
	list []reply
	kept bool
}

type reply struct {
	off, end uint32
	ord      uint32
	next     int32
}

// turn is what was appended and not written yet: one half is being collected while the other is flushed.
type turn struct {
	// being collected
	ord     uint32
	bytes   int
	longest int // bytes of the longest log of a group
	dirty   []*Group
	replies *replyLog
	replied []*Conn
	shut    []*Conn

	// being flushed
	flush      uint32 // its number, never 0
	list       []*Conn
	pos        int
	groups     []*Group
	outReplies *replyLog
	shutting   []*Conn
	chain      []link
	merges     merges

	began  time.Time     // when the last flush did
	ended  time.Time     // and when it was done
	gather time.Duration // how long the next turn may wait for more, by what it took

	// scratch
	cursors []cursor
	runs    []run
	join    []byte
	logs    []*Log
}

// link chains the second and later groups of a connection in one flush.
type link struct {
	group *Group
	next  int32
}

func (t *turn) init() {
	t.replies, t.outReplies = new(replyLog), new(replyLog)
}

func (t *turn) collected() bool {
	return len(t.dirty) > 0 || len(t.replied) > 0 || len(t.shut) > 0
}
func (t *turn) full() bool {
	return t.bytes >= turnBytes || t.longest >= logBytes || len(t.replies.buf) >= logBytes
}
func (t *turn) flushing() bool { return t.pos < len(t.list) }
func (t *turn) idle() bool     { return !t.collected() && !t.flushing() }

func (t *turn) newLog() *Log {
	if n := len(t.logs); n > 0 {
		log := t.logs[n-1]
		t.logs = t.logs[:n-1]
		return log
	}
	return new(Log)
}

func (t *turn) release(log *Log) {
	if len(t.logs) >= 1024 {
		return
	}
	if log.kept || cap(log.Buf) > logBytes*2 {
		log.Buf = nil
	}
	clear(log.units) // exclusions must not keep connections alive
	if cap(log.units) > 16<<10 {
		log.units = nil
	}
	*log = Log{Buf: log.Buf[:0], units: log.units[:0]}
	t.logs = append(t.logs, log)
}

// replace puts c where old stood.
func (t *turn) replace(old, c *Conn) {
	for _, l := range [][]*Conn{t.replied, t.list[t.pos:], t.shut} {
		for i := range l {
			if l[i] == old {
				l[i] = c
			}
		}
	}
}

// seal turns what was collected into a flush.
func (l *Loop) seal() {
	t := &l.turn
	if !t.collected() {
		return
	}
	if t.flush++; t.flush == 0 {
		t.flush = 1
	}
	t.dirty, t.groups = t.groups[:0], t.dirty
	for i, g := range t.groups {
		g.out, g.cur, g.place = g.cur, nil, uint32(i)
		for _, c := range g.members {
			t.touch(c, g)
		}
		if g.out.except {
			for i := range g.out.units {
				for _, c := range g.out.units[i].except {
					c.flags |= flagMerge
				}
			}
		}
	}
	for _, c := range t.replied {
		if c.flags&flagClosed == 0 && c.replyHead >= 0 {
			t.touch(c, nil)
			c.reply = c.replyHead
		}
		c.replyHead, c.replyTail = -1, -1
	}
	clear(t.replied)
	t.replied = t.replied[:0]
	t.replies, t.outReplies = t.outReplies, t.replies
	t.shut, t.shutting = t.shutting[:0], t.shut
	t.began = l.now
	t.ord, t.bytes, t.longest = 0, 0, 0
}

func (t *turn) touch(c *Conn, g *Group) {
	if c.mark != t.flush {
		c.mark, c.first, c.chain, c.reply = t.flush, g, -1, -1
		t.list = append(t.list, c)
	} else if g != nil {
		if c.first == nil {
			c.first = g
			return
		}
		// Order among the groups does not matter: the merge goes by ordinal.
		t.chain = append(t.chain, link{g, c.chain})
		c.chain = int32(len(t.chain) - 1)
	}
}

// flush writes to the connections of the sealed turn until all are done or the others have waited long enough.
// It reports whether it is done.
func (l *Loop) flush() bool {
	t := &l.turn
	if len(t.groups) == 0 && len(t.list) == 0 && len(t.shutting) == 0 {
		return true
	}
	begun := time.Time{}
	for n := 0; t.pos < len(t.list); n++ {
		if n == flushWrites {
			return false
		}
		if n&63 == 63 {
			if now := l.cfg.Now(); begun.IsZero() {
				begun = now
			} else if now.Sub(begun) > flushTime {
				return false
			}
		}
		c := t.list[t.pos]
		t.list[t.pos] = nil
		t.pos++
		l.flushConn(c)
	}
	l.finish()
	return true
}

func (l *Loop) flushConn(c *Conn) {
	if c.flags&flagClosed == 0 {
		alike := c.reply < 0 && c.young == 0 && c.flags&flagMerge == 0 && c.x == nil // gets what others of its groups get
		switch {
		case alike && c.chain < 0:
			c.writeAll(c.first)
		case alike && l.turn.merges.worthwhile():
			c.writeMerged()
		default:
			c.emit(l.turn.merge(c))
		}
	}
	c.mark, c.first, c.chain, c.reply = 0, nil, -1, -1
	c.flags &^= flagMerge
	if c.flags&flagClosing != 0 {
		c.shutNow()
	}
}

// finish ends a flush: logs can be used again unless a queue holds on to them.
func (l *Loop) finish() {
	t := &l.turn
	for _, g := range t.groups {
		if len(g.young) > 0 {
			g.young = slices.DeleteFunc(g.young, func(y young) bool {
				old := y.left || (g.cur == nil && y.since.Seq <= g.last.Seq && y.since.Ver <= g.last.Ver)
				if old {
					y.conn.young--
				}
				return old
			})
			if len(g.young) == 0 {
				g.young = nil
			}
		}
		if g.out.except {
			for i := range g.out.units {
				for _, c := range g.out.units[i].except {
					c.flags &^= flagMerge
				}
			}
		}
		t.release(g.out)
		g.out = nil
	}
	clear(t.groups)
	t.groups = t.groups[:0]
	t.list, t.pos = t.list[:0], 0
	if cap(t.list) > 64<<10 {
		t.list = nil
	}
	clear(t.chain)
	t.chain = t.chain[:0]
	t.merges.forget()
	r := t.outReplies
	if r.kept || cap(r.buf) > logBytes {
		*r = replyLog{}
	}
	r.buf, r.list = r.buf[:0], r.list[:0]
	shut := t.shutting
	for _, c := range shut {
		c.shutNow()
	}
	clear(shut)
	t.shutting = shut[:0]
	t.ended = l.cfg.Now()
	t.gather = min(t.ended.Sub(t.began)/2, gatherTime)
}

// gathers reports whether a turn that has much to write, but little for each, shall see what else has arrived: writing that
// by itself would cost as much again. What is waited is less than what writing takes.
func (l *Loop) gathers() bool {
	t := &l.turn
	return t.bytes >= bulkBytes && t.longest < smallWrite && !t.full() && l.now.Sub(t.ended) < t.gather
}

// express writes replies to connections that neither the flush under way nor what was collected concerns, so that an
// answer does not wait behind a broadcast to thousands of others.
func (l *Loop) express() {
	t := &l.turn
	for _, c := range t.replied {
		if c.replyHead < 0 || c.mark != 0 || c.x != nil || c.flags&(flagClosed|flagClosing) != 0 || len(c.members) > 8 ||
			slices.ContainsFunc(c.members, func(m Membership) bool { return m.Group.cur != nil }) {
			continue
		}
		t.runs = t.runs[:0]
		for i := c.replyHead; i >= 0; i = t.replies.list[i].next {
			t.addReply(t.replies, i)
		}
		c.replyHead, c.replyTail = -1, -1
		c.emit(t.runs)
	}
}

// run is a stretch of bytes for one connection: units of one group's log, or a reply.
type run struct {
	b      []byte
	log    *Log // nil for a reply
	group  *Group
	lo, hi int // units
	rep    *replyLog
}

// cursor walks the units of one log that are for the connection.
type cursor struct {
	group *Group
	log   *Log
	at    int
	since Stamp
	young bool
}

func (k *cursor) settle(c *Conn) bool { // on a unit that is for c
	for ; k.at < len(k.log.units); k.at++ {
		u := &k.log.units[k.at]
		if k.young && u.stamp.Seq <= k.since.Seq && u.stamp.Ver <= k.since.Ver {
			continue
		}
		if len(u.except) > 0 && slices.Contains(u.except, c) {
			continue
		}
		return true
	}
	return false
}

func newCursor(c *Conn, g *Group, log *Log) cursor {
	k := cursor{group: g, log: log}
	if c.young > 0 {
		for i := range g.young {
			// What is being flushed is for the membership that c had then: its first one, should it have joined again.
			if y := &g.young[i]; y.conn == c && (log == g.out || !y.left) {
				k.since, k.young = y.since, true
				break
			}
		}
	}
	return k
}

func (t *turn) addCursor(c *Conn, g *Group, log *Log) {
	if k := newCursor(c, g, log); k.settle(c) {
		t.cursors = append(t.cursors, k)
	}
}

// merge lists what c gets in this flush, in the order in which it was appended.
func (t *turn) merge(c *Conn) []run {
	t.cursors = t.cursors[:0]
	if c.first != nil {
		t.addCursor(c, c.first, c.first.out)
	}
	for i := c.chain; i >= 0; i = t.chain[i].next {
		t.addCursor(c, t.chain[i].group, t.chain[i].group.out)
	}
	return t.byOrdinal(c, t.outReplies, c.reply)
}

// collect returns, copied, what c would get of the turn being collected.
func (t *turn) collect(c *Conn) []byte {
	t.cursors = t.cursors[:0]
	for i := range c.members {
		if g := c.members[i].Group; g.cur != nil {
			t.addCursor(c, g, g.cur)
		}
	}
	var b []byte
	for _, r := range t.byOrdinal(c, t.replies, c.replyHead) {
		b = append(b, r.b...)
	}
	return b
}

func (t *turn) byOrdinal(c *Conn, replies *replyLog, reply int32) []run {
	t.runs = t.runs[:0]
	for len(t.cursors) > 0 || reply >= 0 {
		best, next := -1, ^uint32(0) // next: the ordinal at which another source takes over
		ord := ^uint32(0)
		if reply >= 0 {
			ord = replies.list[reply].ord
		}
		for i := range t.cursors {
			k := &t.cursors[i]
			if o := k.log.units[k.at].ord; o < ord {
				next, ord, best = ord, o, i
			} else if o < next {
				next = o
			}
		}
		if best < 0 {
			t.addReply(replies, reply)
			reply = replies.list[reply].next
			continue
		}
		k := &t.cursors[best]
		lo := k.at
		more := true
		for {
			k.at++
			hi := k.at
			if more = k.settle(c); !more || k.at != hi || k.log.units[k.at].ord > next {
				t.addUnits(k, lo, hi)
				break
			}
		}
		if !more {
			t.cursors[best] = t.cursors[len(t.cursors)-1]
			t.cursors = t.cursors[:len(t.cursors)-1]
		}
	}
	return t.runs
}

func (t *turn) addUnits(k *cursor, lo, hi int) {
	t.runs = append(t.runs, run{
		b: k.log.Buf[k.log.start(lo):k.log.units[hi-1].end], log: k.log, group: k.group, lo: lo, hi: hi,
	})
}

func (t *turn) addReply(log *replyLog, i int32) {
	r := &log.list[i]
	t.runs = append(t.runs, run{b: log.buf[r.off:r.end], rep: log})
}
