package hub

import (
	"errors"
	"slices"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// Returner is the session of a client that may come back.
type Returner interface {
	Session
	// Opened is the number that Hub.Opened gave to its connection. A client opens one connection after another.
	Opened() uint64
}

// Saved is a client that is gone and may come back. Its fields are owned by the loop it was on; those above the line do
// not change.
type Saved struct {
	branch *branch
	id     ID
	app    *App
	user   *User
	opened uint64 // see Returner
	until  time.Time
	rooms  []savedRoom
	space  string
	data   any    // of the protocol
	taken  uint64 // what had been taken from clients; see takings

	from   uint64  // up to this ordinal it has got everything
	asked  uint64  // the same, as the client that is coming back says
	asker  uint64  // the newest connection over which it does; see Returner
	behind *branch // where things that it missed before are still on the way from; nil for none
	subs   []savedSub
	own    *own // nil: nothing
}

type savedSub struct {
	local *local
	sub   *Sub   // nil: nothing special
	since uint64 // what is not newer is not for it, nor
	upTo  uint64 // what is: the new connection gets that by itself
}

type savedRoom struct {
	name         string
	since, until uint64 // ordinals of the journal; it was in the room from the first, and until before the last
}

const forever = ^uint64(0)

// Save keeps what the client is for Config.Recovery, so that it can come back; not if very many are away already. The
// session calls it from its connection's Closed, before Remove.
func (c *Client) Save(data any) {
	b, h := c.branch, c.hub
	if h == nil || h.cfg.Recovery <= 0 || c.gone || len(b.saved) >= savedClients {
		return
	}
	s := &Saved{
		branch: b, id: c.id, app: c.app, user: c.user, opened: c.session.(Returner).Opened(), until: h.cfg.Now().Add(h.cfg.Recovery), space: c.space(), data: data, taken: b.taken,
		from: c.from, behind: b.arriving[c.id],
	}
	for _, m := range c.conn.Memberships() {
		o := m.Group.Owner.(*owner)
		switch {
		case o.codec != c.codec:
		case o.room != nil:
			s.rooms = append(s.rooms, savedRoom{o.room.key.Name, m.Data.(*roomSub).since, forever})
		default:
			x := savedSub{local: o.local, since: joinedAt(m.Data)}
			x.sub, _ = m.Data.(*Sub)
			hm := h.home(o.local.ch.key)
			hm.mu.Lock()
			o.local.ch.saved++
			hm.mu.Unlock()
			o.local.saved++
			s.subs = append(s.subs, x)
		}
	}
	s.own = b.owns[c.id]
	delete(b.owns, c.id)
	b.saved[c.id] = s
	h.away.Store(c.id, b)
}

// forget takes a client out of those that may come back.
func (b *branch) forget(s *Saved) {
	delete(b.saved, s.id)
	b.hub.away.Delete(s.id)
}

// release lets the channels go that were kept for a client. On the loop it was on.
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
	s.subs = nil
	if s.own != nil {
		s.branch.empty(s.own)
		s.own = nil
	}
}

// expire forgets clients that did not come back in time, and what nobody can miss any more.
func (b *branch) expire(now time.Time) {
	b.journal.trim(now.Add(-b.keep()))
	for _, s := range b.saved {
		if s.until.Before(now) {
			b.forget(s)
			s.release()
		}
	}
}

// Opened numbers a connection, when it is opened: see Returner.
func (h *Hub) Opened() uint64 { return h.openings.Add(1) }

// Return looks for a client that was saved. It comes over the connection opened, and last saw the ordinal after on the loop
// at; at is negative for one that has seen none. found is called on the loop l, with nil when the client is not known, or
// something that it missed is no longer. A client that is found is to be restored, or put back. One that is connected still is
// taken for lost; but who asks over a connection that is older than that has been heard too late, and knows less than the
// client has seen since.
func (h *Hub) Return(l *loop.Loop, id ID, opened uint64, at int, after uint64, found func(*Saved)) {
	answer := func(s *Saved) {
		l.Post(loop.Func(func(*loop.Loop) { found(s) }), 0)
	}
	if where, ok := h.away.Load(id); ok {
		where.(*branch).claim(id, opened, at, after, answer)
		return
	}
	// It may not be known yet that its connection is lost, on whichever loop that is.
	var ask func(i int)
	ask = func(i int) {
		if i == len(h.branches) {
			answer(nil)
			return
		}
		b := h.branches[i]
		b.loop.Post(loop.Func(func(*loop.Loop) {
			if c := b.find(id); c != nil {
				if s, may := c.session.(Returner); may && s.Opened() < opened {
					c.conn.Abort(errReturned)
				}
			}
			if b.saved[id] != nil {
				b.claim(id, opened, at, after, answer)
				return
			}
			ask(i + 1)
		}), 0)
	}
	ask(0)
}

var errReturned = errors.New("the client came back on another connection")

// claim takes a client out of those that are away, if it is among them and nothing that it missed is lost.
func (b *branch) claim(id ID, opened uint64, at int, after uint64, answer func(*Saved)) {
	h := b.hub
	var look func(*loop.Loop)
	look = func(*loop.Loop) {
		s := b.saved[id]
		now := h.cfg.Now()
		if s == nil || s.until.Before(now) || max(s.opened, s.asker) > opened {
			answer(nil)
			return
		}
		s.asker = opened
		if from := s.behind; from != nil { // what comes from there is here when this is here again, and not before for others
			from.loop.Post(loop.Func(func(*loop.Loop) {
				b.loop.Post(loop.Func(func(l *loop.Loop) {
					s.behind = nil
					look(l)
				}), 0)
			}), 0)
			return
		}
		b.forget(s)
		s.asked = s.from
		if at == b.index() { // otherwise it is of an earlier connection, and everything since is to be sent
			s.asked = max(s.from, min(after, b.journal.last()))
		}
		if !b.journal.whole(s.asked) || s.own != nil && s.own.gone > s.asked || !h.takings.known(s.taken) || s.tooMuch() {
			s.release()
			answer(nil)
			return
		}
		answer(s)
	}
	b.loop.Post(loop.Func(look), 0)
}

// Data is what Save was given.
func (s *Saved) Data() any { return s.data }

// ID is the client's id, which it keeps.
func (s *Saved) ID() ID { return s.id }

// App is the client's application.
func (s *Saved) App() *App { return s.app }

// User is the client's identity; nil for anonymous clients.
func (s *Saved) User() *User { return s.user }

// PutBack undoes Return, for a client that cannot come back this time.
func (s *Saved) PutBack() {
	b := s.branch
	b.loop.Post(loop.Func(func(*loop.Loop) { // where it expires, if it has to
		b.saved[s.id] = s
		b.hub.away.Store(s.id, b)
	}), 0)
}

// Missed is something that a client missed, with its place in the journal of the loop it is on now.
type Missed struct {
	Delivery *Delivery // or
	Emission *Emission
	Ordinal  uint64
}

func (m *Missed) bytes() int {
	if m.Delivery != nil {
		return len(m.Delivery.Event.Data)
	}
	return m.Emission.Bytes
}

// Restore makes c the client that was saved: with its id, identity, subscriptions and rooms. restored is called when it
// is, or with the reason why it cannot be. Nothing may be written to the connection until done has been called, with what
// the client missed, and the session has sent that. lost are the subscriptions that could not be taken up again. Both are
// called on the loop, unless the client is gone.
func (h *Hub) Restore(c *Client, conn *loop.Conn, s Session, codec Codec, saved *Saved, restored func(*Error), done func(missed []Missed, lost map[string]*Error)) {
	h.emitting.mu.Lock()
	defer h.emitting.mu.Unlock()
	upTo := h.emitting.seq // these are posted before the next task, and what comes later behind it
	conn.Loop().Post(loop.Func(func(l *loop.Loop) {
		if conn.Closing() {
			saved.PutBack()
			return
		}
		gone, lost := h.takings.from(saved)
		if gone != nil {
			saved.branch.loop.Post(loop.Func(func(*loop.Loop) { saved.release() }), 0)
			restored(gone)
			return
		}
		h.add(c, conn, s, codec, saved.app)
		b := c.branch
		c.id = saved.id
		b.guests[c.id] = c
		b.arriving[c.id] = saved.branch
		c.from = b.journal.last()
		first := b.journal.reserve() // it gets what it missed before what comes from now on
		c.hook(HookEvent{Kind: Connected})
		if saved.user != nil {
			c.Identify(saved.user) // it has had no other
		}
		upTos := make([]uint64, len(saved.subs))
		for i := range saved.subs {
			x := &saved.subs[i]
			if lost[x.local.ch.key.Name] == nil {
				var err *Error
				if upTos[i], err = c.rejoin(x); err != nil {
					lost[x.local.ch.key.Name] = err
				}
			}
		}
		for _, r := range saved.rooms {
			c.JoinRoom(r.name)
		}
		restored(nil)
		saved.branch.loop.Post(loop.Func(func(*loop.Loop) { // behind everything that the new connection does not get by itself
			missed := saved.missed(upTos, upTo)
			saved.release()
			l.Post(loop.Func(func(*loop.Loop) {
				b.insert(first, missed, c)
				if c.gone {
					return
				}
				delete(b.arriving, c.id)
				done(missed, lost)
			}), 0)
		}), 0)
	}), 0)
}

// rejoin takes a subscription up again, and says up to where the former connection's journal has what was missed.
func (c *Client) rejoin(x *savedSub) (upTo uint64, err *Error) {
	h, ch := c.hub, x.local.ch
	hm := h.home(ch.key)
	hm.mu.Lock()
	defer hm.mu.Unlock()
	upTo = ch.sent
	var sub *Sub
	g := &Grant{}
	if x.sub != nil {
		again := *x.sub
		sub = &again
		g.MemberID, g.MemberInfo, g.Expires = sub.member, sub.info, sub.expires
	}
	if !g.Expires.IsZero() && !g.Expires.After(h.cfg.Now()) {
		return 0, errf(Expired, "the grant for %q has expired", ch.key.Name)
	}
	if err := c.admit(ch, g, g.MemberID != "", nil); err != nil {
		return 0, err
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
	c.conn.Join(lo.group(c.codec), since, c.data(sub, since.Seq))
	c.hook(HookEvent{Kind: SubscribedTo, Channel: ch.key.Name})
	return upTo, nil
}

// tooMuch reports whether the client missed more than may wait for a connection: it is sent all of that at once.
func (s *Saved) tooMuch() bool {
	limit := s.branch.loop.MaxQueued()
	if own := s.own; s.branch.journal.bytes <= limit && (own == nil || own.bytes <= limit) {
		return false
	}
	bytes := 0
	for _, m := range s.missed(nil, forever) {
		bytes += m.bytes()
	}
	return bytes > limit
}

// missed lists what the client's former connection did not get, and the new one does not by itself: that gets messages
// behind upTos, of each subscription, and emissions behind upTo. On the loop it was on.
func (s *Saved) missed(upTos []uint64, upTo uint64) []Missed {
	subs, rooms := make([]savedSub, len(s.subs)), slices.Clone(s.rooms)
	for i, x := range s.subs {
		if x.upTo = forever; upTos != nil {
			x.upTo = upTos[i]
		}
		subs[i] = x
	}
	entries := s.since(s.asked)
	for i := range entries {
		if e := &entries[i]; e.to == s.id {
			switch past := e.past.(type) {
			case savedSub:
				subs = append(subs, past)
			case savedRoom:
				rooms = append(rooms, past)
			}
		}
	}
	var out []Missed
	for i := range entries {
		switch e := &entries[i]; {
		case e.past != nil:
			continue
		case e.to != (ID{}):
			if e.to != s.id {
				continue
			}
		case e.d != nil:
			if !s.hears(e, subs) {
				continue
			}
		case e.e.seq > upTo || !s.meets(e, rooms):
			continue
		}
		out = append(out, Missed{Delivery: entries[i].d, Emission: entries[i].e})
	}
	return out
}

// hears reports whether a delivery to a channel was for the client.
func (s *Saved) hears(e *entry, subs []savedSub) bool {
	seq := e.d.stamp.Seq
	if !slices.ContainsFunc(subs, func(x savedSub) bool { return x.local.ch == e.d.ch && x.since < seq && seq <= x.upTo }) {
		return false
	}
	return !slices.Contains(e.d.Event.ExceptSockets, s.id) && (s.user == nil || !slices.Contains(e.d.Event.ExceptUsers, s.user.ID))
}

// meets reports whether an event to rooms was for the client.
func (s *Saved) meets(e *entry, rooms []savedRoom) bool {
	in := func(names []string) bool {
		for _, name := range names {
			if id, ok := ParseID(name); ok {
				if id == s.id {
					return true
				}
				continue
			}
			for i := range rooms {
				if r := &rooms[i]; r.name == name && r.since <= e.ord && e.ord < r.until {
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
