package hub

import (
	"slices"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// Recoverable is the codec of clients that may come back and get what they missed. Its units have room for a place in
// the journal, which the client remembers; the unit is encoded once for all loops, and stamped by each.
type Recoverable interface {
	Codec
	// Stamp writes the place into a unit that Append, of messages and whispers, or AppendEmission made, if it has room for
	// one.
	Stamp(unit []byte, loop int, ordinal uint64)
}

// journal is what a loop has delivered lately, in its order. Owned by the loop.
type journal struct {
	next    uint64 // ordinal of the next entry, from 1
	entries []entry
	bytes   int
}

type entry struct {
	ord   uint64
	at    time.Time
	d     *Delivery // or
	e     *Emission
	to    ID // the only client it is for; zero for all
	bytes int
}

const (
	journalBytes = 16 << 20 // of what one loop's journal refers to
	savedClients = 100_000  // of one loop: connections that come and go at once must not fill the memory
)

// add enters what has been delivered, and returns its ordinal.
func (b *branch) enter(e entry) uint64 {
	j := &b.journal
	if j.next == 0 {
		j.next = 1
	}
	e.ord, e.at = j.next, b.hub.cfg.Now()
	e.bytes += 128
	j.next++
	j.entries = append(j.entries, e)
	j.bytes += e.bytes
	j.trim(e.at.Add(-b.hub.cfg.Recovery))
	return e.ord
}

// last is the ordinal of the last entry, 0 before the first.
func (j *journal) last() uint64 { return j.next - min(1, j.next) }

// trim lets go of what is older than a time, or too much.
func (j *journal) trim(since time.Time) {
	n := 0
	for n < len(j.entries) && (j.bytes > journalBytes || j.entries[n].at.Before(since)) {
		j.bytes -= j.entries[n].bytes
		j.entries[n] = entry{}
		n++
	}
	if j.entries = j.entries[n:]; len(j.entries) == 0 {
		j.entries = nil
	}
}

// whole reports whether everything after an ordinal is still there.
func (j *journal) whole(after uint64) bool {
	return after+1 >= j.next || len(j.entries) > 0 && j.entries[0].ord <= after+1
}

// after is where the entries behind an ordinal begin.
func (j *journal) after(ord uint64) []entry {
	i, _ := slices.BinarySearchFunc(j.entries, ord+1, func(e entry, ord uint64) int {
		switch {
		case e.ord < ord:
			return -1
		case e.ord > ord:
			return 1
		}
		return 0
	})
	return j.entries[i:]
}

// note enters a delivery that somebody who listens here could miss, and returns its ordinal; 0 if nobody can.
func (lo *local) note(d *Delivery) uint64 {
	if d.Kind != Message && d.Kind != Whisper {
		return 0
	}
	there := lo.saved > 0
	for i := range lo.groups {
		there = there || lo.groups[i].rec != nil
	}
	if !there || lo.branch.hub.cfg.Recovery <= 0 {
		return 0
	}
	return lo.branch.enter(entry{d: d, bytes: len(d.Event.Data)})
}

// joined, as a membership's data, is the journal's next ordinal when it began.
type joined uint64

// data is what a new subscription keeps: nothing, most of the time.
func (c *Client) data(sub *Sub) any {
	_, comesBack := c.codec.(Recoverable)
	comesBack = comesBack && c.hub.cfg.Recovery > 0
	switch {
	case sub != nil:
		sub.joined = c.branch.journal.next
		return sub
	case comesBack:
		return joined(c.branch.journal.next)
	}
	return nil
}

// Saved is a client that is gone and may come back. Its fields are owned by the loop it was on.
type Saved struct {
	branch *branch
	id     ID
	app    *App
	user   *User
	from   uint64 // its connection began behind this ordinal
	until  time.Time
	subs   []savedSub
	rooms  []savedRoom
	space  string
	data   any // of the protocol
}

type savedSub struct {
	local *local
	sub   *Sub // nil: nothing special
	since uint64
	// up to there the new connection does not get it by itself
	upTo loop.Stamp
}

type savedRoom struct {
	name  string
	since uint64
}

// Save keeps what the client is for Config.Recovery, so that it can come back; not if very many are away already. The
// session calls it from its connection's Closed, before Remove.
func (c *Client) Save(data any) {
	b, h := c.branch, c.hub
	if h.cfg.Recovery <= 0 || c.gone || len(b.saved) >= savedClients {
		return
	}
	s := &Saved{branch: b, id: c.id, app: c.app, user: c.user, from: c.from, until: h.cfg.Now().Add(h.cfg.Recovery), space: c.space(), data: data}
	for _, m := range c.conn.Memberships() {
		o := m.Group.Owner.(*owner)
		switch {
		case o.codec != c.codec:
		case o.room != nil:
			s.rooms = append(s.rooms, savedRoom{name: o.room.key.Name, since: m.Data.(*roomSub).since})
		default:
			x := savedSub{local: o.local}
			switch d := m.Data.(type) {
			case *Sub:
				x.sub, x.since = d, d.joined
			case joined:
				x.since = uint64(d)
			}
			hm := h.home(o.local.ch.key)
			hm.mu.Lock()
			o.local.ch.saved++
			hm.mu.Unlock()
			o.local.saved++
			s.subs = append(s.subs, x)
		}
	}
	b.saved[c.id] = s
	h.away.Store(c.id, b)
}

// forget takes a client out of those that may come back.
func (b *branch) forget(s *Saved) {
	delete(b.saved, s.id)
	b.hub.away.Delete(s.id)
}

// release lets the channels go that were kept for a client.
func (s *Saved) release() {
	h := s.branch.hub
	for _, x := range s.subs {
		lo, ch := x.local, x.local.ch
		hm := h.home(ch.key)
		hm.mu.Lock()
		lo.saved--
		ch.saved--
		if lo.saved == 0 && len(lo.groups) == 0 {
			ch.locals[s.branch.index()] = nil
		}
		if ch.idle() {
			delete(hm.channels, ch.key)
		}
		hm.mu.Unlock()
	}
}

// expire forgets clients that did not come back in time, and what nobody can miss any more.
func (b *branch) expire(now time.Time) {
	b.journal.trim(now.Add(-b.hub.cfg.Recovery))
	for _, s := range b.saved {
		if s.until.Before(now) {
			b.forget(s)
			s.release()
		}
	}
}

// Return looks for a client that was saved. It last saw the ordinal after on the loop at; at is negative for one that has
// seen none. found is called on the loop l, with nil when the client is not known, or something that it missed is no
// longer.
func (h *Hub) Return(l *loop.Loop, id ID, at int, after uint64, found func(*Saved)) {
	answer := func(s *Saved) {
		l.Post(loop.Func(func(*loop.Loop) { found(s) }), 0)
	}
	where, ok := h.away.Load(id)
	if !ok {
		answer(nil)
		return
	}
	b := where.(*branch)
	b.loop.Post(loop.Func(func(*loop.Loop) {
		s := b.saved[id]
		now := h.cfg.Now()
		if s == nil || s.until.Before(now) {
			answer(nil)
			return
		}
		b.forget(s)
		if at == b.index() { // otherwise it is of an earlier connection, and everything since is to be sent
			s.from = max(s.from, min(after, b.journal.last()))
		}
		b.journal.trim(now.Add(-h.cfg.Recovery))
		if !b.journal.whole(s.from) {
			s.release()
			answer(nil)
			return
		}
		answer(s)
	}), 0)
}

// Ordinal is the last ordinal of the journal of the client's loop. On the loop.
func (c *Client) Ordinal() uint64 { return c.branch.journal.last() }

// Journal enters what is sent to this client alone, so that it is not missed, and returns its ordinal. On the loop.
func (c *Client) Journal(e *Emission) uint64 {
	if c.hub.cfg.Recovery <= 0 {
		return 0
	}
	return c.branch.enter(entry{e: e, to: c.id, bytes: e.Bytes})
}

// Data is what Save was given.
func (s *Saved) Data() any { return s.data }

// ID is the client's id, which it keeps.
func (s *Saved) ID() ID { return s.id }

// App is the client's application.
func (s *Saved) App() *App { return s.app }

// Discard gives up on a client that was found and cannot come back after all.
func (s *Saved) Discard() { s.branch.loop.Post(loop.Func(func(*loop.Loop) { s.release() }), 0) }

// Missed is something that a client missed, with its place in the journal of the loop it is on now.
type Missed struct {
	Delivery *Delivery // or
	Emission *Emission
	Ordinal  uint64
}

// Restore makes c the client that was saved: with its id, identity, subscriptions and rooms. Nothing may be written to
// the connection until done has been called, with what the client missed, and the session has sent that. lost are the
// subscriptions that could not be taken up again.
func (h *Hub) Restore(c *Client, conn *loop.Conn, s Session, codec Codec, saved *Saved, done func(missed []Missed, lost map[string]*Error)) {
	h.add(c, conn, s, codec, saved.app)
	b := c.branch
	c.id = saved.id
	c.from = b.journal.last()
	c.hook(HookEvent{Kind: Connected})
	lost := map[string]*Error{}
	if saved.user != nil {
		if err := c.Identify(saved.user); err != nil {
			lost[""] = err
		}
	}
	for i := range saved.subs {
		x := &saved.subs[i]
		if err := c.rejoin(x); err != nil {
			lost[x.local.ch.key.Name] = err
		}
	}
	l := conn.Loop()
	h.emitting.mu.Lock()
	upTo := h.emitting.seq // these have been posted before the next task, and what comes later behind it
	l.Post(loop.Func(func(*loop.Loop) {
		if c.gone {
			return
		}
		b.guests[c.id] = c
		for _, r := range saved.rooms {
			c.JoinRoom(r.name)
		}
	}), 0)
	h.emitting.mu.Unlock()
	saved.branch.loop.Post(loop.Func(func(*loop.Loop) { // behind everything that the new connection does not get by itself
		missed := saved.missed(upTo)
		saved.release()
		l.Post(loop.Func(func(*loop.Loop) {
			if c.gone {
				return
			}
			for i := range missed {
				m := &missed[i]
				e := entry{d: m.Delivery, e: m.Emission, to: c.id}
				if e.d != nil {
					e.bytes = len(e.d.Event.Data)
				} else {
					e.bytes = e.e.Bytes
				}
				m.Ordinal = b.enter(e)
			}
			done(missed, lost)
		}), 0)
	}), 0)
}

// rejoin takes a subscription up again, and says up to where the former connection's journal has what was missed.
func (c *Client) rejoin(x *savedSub) *Error {
	h, ch := c.hub, x.local.ch
	hm := h.home(ch.key)
	hm.mu.Lock()
	defer hm.mu.Unlock()
	x.upTo = loop.Stamp{Seq: ch.sent, Ver: ch.version}
	var sub *Sub
	g := &Grant{}
	if x.sub != nil {
		again := *x.sub
		sub = &again
		g.MemberID, g.MemberInfo, g.Expires = sub.member, sub.info, sub.expires
	}
	if !g.Expires.IsZero() && !g.Expires.After(h.cfg.Now()) {
		return errf(Expired, "the grant for %q has expired", ch.key.Name)
	}
	if err := c.admit(ch, g, g.MemberID != "", nil); err != nil {
		return err
	}
	if ch.count++; ch.count == 1 {
		h.happened(ch, HookEvent{Kind: ChannelOccupied})
	}
	if g.MemberID != "" {
		if _, news := ch.enter(g, false); news != nil {
			h.deliver(ch, news)
			h.happened(ch, HookEvent{Kind: MemberJoined, UserID: g.MemberID})
		}
	}
	h.count(hm, ch, c.app)
	since := loop.Stamp{Seq: ch.sent, Ver: ch.version}
	lo := ch.locals[c.branch.index()]
	if lo == nil {
		lo = &local{ch: ch, branch: c.branch, last: since}
		ch.locals[c.branch.index()] = lo
	}
	c.conn.Join(lo.group(c.codec), since, c.data(sub))
	c.hook(HookEvent{Kind: SubscribedTo, Channel: ch.key.Name})
	return nil
}

// missed lists what the client's former connection did not get, and the new one does not by itself, because it gets only
// emissions behind upTo. On the loop it was on.
func (s *Saved) missed(upTo uint64) []Missed {
	var out []Missed
	for _, e := range s.branch.journal.after(s.from) {
		switch {
		case e.to != (ID{}):
			if e.to != s.id {
				continue
			}
		case e.d != nil:
			if !s.hears(&e) {
				continue
			}
		case e.e.seq > upTo || !s.meets(&e):
			continue
		}
		out = append(out, Missed{Delivery: e.d, Emission: e.e})
	}
	return out
}

// hears reports whether a delivery to a channel was for the client.
func (s *Saved) hears(e *entry) bool {
	i := slices.IndexFunc(s.subs, func(x savedSub) bool { return x.local.ch == e.d.ch })
	if i < 0 || e.ord < s.subs[i].since || e.d.stamp.Seq > s.subs[i].upTo.Seq {
		return false
	}
	return !slices.Contains(e.d.Event.ExceptSockets, s.id) && (s.user == nil || !slices.Contains(e.d.Event.ExceptUsers, s.user.ID))
}

// meets reports whether an event to rooms was for the client.
func (s *Saved) meets(e *entry) bool {
	in := func(names []string) bool {
		for _, name := range names {
			if id, ok := ParseID(name); ok {
				if id == s.id {
					return true
				}
				continue
			}
			for i := range s.rooms {
				if r := &s.rooms[i]; r.name == name && e.ord >= r.since {
					return true
				}
			}
		}
		return false
	}
	if e.e.App != s.app || e.e.Space != s.space {
		return false
	}
	return in(e.e.names()) && !in(e.e.Except)
}
