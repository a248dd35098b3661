package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// Rooms are lists of clients that only the program makes: no client can join one by itself, and what is sent to a room
// reaches no channel. They have neither positions nor history. Each loop has its own list, and every event goes to every
// loop.

// RoomCodec is the codec of clients that can be in rooms.
type RoomCodec interface {
	Codec
	// Space is that of the rooms its clients can be in.
	Space() string
	// AppendEmission appends e as one unit.
	AppendEmission(dst []byte, e *Emission) []byte
}

// RoomSession is the session of such a client.
type RoomSession interface {
	Session
	// Ready reports whether the connection could write at once.
	Ready() bool
	// Send takes a unit for this client alone.
	Send(unit []byte)
}

// Emission is an event to rooms. It does not change once it has been emitted.
type Emission struct {
	App   *App
	Space string
	// Rooms are whose clients get it, each of them once; empty: all clients of the space. Except are rooms whose clients
	// do not. A socket id stands for that client alone.
	Rooms, Except []string
	Volatile      bool // leave out clients whose connection cannot write at once
	Keep          bool // for those who come back
	Payload       any  // of the protocol
	Bytes         int  // of memory
	// Reached is called once on every loop, with its clients that get the event; may be nil. Without a Payload nothing is
	// sent.
	Reached func([]*Client)

	hub   *Hub
	seq   uint64 // its place among all emissions
	units shared
}

// reach is one loop's part of an emission.
type reach struct {
	*Emission
	seen    map[*loop.Conn]bool // who does not get it, or has got it
	clients []*Client           // who does, if that is to be known
	ord     uint64
}

// emitting gives emissions the same order on all loops.
type emitting struct {
	mu  sync.Mutex
	seq uint64 // guarded by mu
}

// everybody is the room that all clients of a space are in.
const everybody = ""

func (e *Emission) names() []string {
	if len(e.Rooms) == 0 {
		return []string{everybody}
	}
	return e.Rooms
}

// room is one loop's part of a room. Owned by the loop.
type room struct {
	key    Key
	groups []group
}

// roomSub is what a membership in a room keeps.
type roomSub struct {
	client *Client
	since  uint64 // the journal's next ordinal when it began
}

// Emit sends e, waiting while a loop is overloaded. Not from a loop.
func (h *Hub) Emit(ctx context.Context, e *Emission) error {
	for _, b := range h.branches {
		for {
			full := b.loop.Overloaded()
			if full == nil {
				break
			}
			select {
			case <-full:
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", ErrOverloaded, ctx.Err())
			case <-h.stop:
				return ErrClosed
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.emit(e)
}

func (h *Hub) emit(e *Emission) error {
	if h.closed.Load() {
		return ErrClosed
	}
	e.hub = h
	e.units.loops.Store(int32(len(h.branches)))
	h.emitting.mu.Lock()
	defer h.emitting.mu.Unlock()
	h.emitting.seq++
	e.seq = h.emitting.seq
	for _, b := range h.branches {
		if err := b.loop.Post(e, e.Bytes+64); err != nil {
			return ErrClosed
		}
	}
	return nil
}

// Run sends the event to the loop's clients.
func (e *Emission) Run(l *loop.Loop) {
	defer e.units.had()
	b := e.hub.branches[l.Index()]
	b.emitted = e.seq
	ord := b.journal.last()
	if e.Keep && e.hub.cfg.Recovery > 0 {
		ord = b.enter(entry{e: e, bytes: e.Bytes})
	}
	r := reach{Emission: e, ord: ord}
	names := e.names()
	if len(e.Except) > 0 || len(names) > 1 {
		r.seen = map[*loop.Conn]bool{}
	}
	for _, name := range e.Except {
		if c, room := b.named(e.App, e.Space, name); c != nil {
			r.seen[c.conn] = true
		} else if room != nil {
			for _, g := range room.groups {
				for _, c := range g.Members() {
					r.seen[c] = true
				}
			}
		}
	}
	for _, name := range names {
		c, room := b.named(e.App, e.Space, name)
		switch {
		case c != nil:
			r.one(c)
		case room != nil:
			for _, g := range room.groups {
				r.all(l, g)
			}
		}
	}
	if e.Reached != nil {
		e.Reached(r.clients)
	}
}

// named finds a client by its id, or a room.
func (b *branch) named(app *App, space, name string) (*Client, *room) {
	if id, ok := ParseID(name); ok {
		if c := b.find(id); c != nil && c.app == app && c.space() == space {
			return c, nil
		}
		return nil, nil
	}
	return nil, b.rooms[Key{app.ID, space, name}]
}

func (c *Client) space() string {
	if rc, ok := c.codec.(RoomCodec); ok {
		return rc.Space()
	}
	return "" // which is no room's
}

func (c *Client) ready() bool { return c.session.(RoomSession).Ready() }

// one sends the event to one client.
func (r *reach) one(c *Client) {
	if r.seen[c.conn] || r.Volatile && !c.ready() {
		return
	}
	if r.seen != nil {
		r.seen[c.conn] = true
	}
	if r.Reached != nil {
		r.clients = append(r.clients, c)
	}
	if r.Payload != nil {
		unit := r.append(nil, c.codec.(RoomCodec))
		if rec, ok := c.codec.(Recoverable); ok {
			rec.Stamp(unit, c.branch.index(), r.ord)
		}
		c.session.(RoomSession).Send(unit)
	}
}

// all sends the event to a group.
func (r *reach) all(l *loop.Loop, g group) {
	var except []*loop.Conn
	if r.seen != nil || r.Volatile || r.Reached != nil {
		for _, conn := range g.Members() {
			c := conn.In(g.Group).Data.(*roomSub).client
			if r.seen[conn] || r.Volatile && !c.ready() {
				except = append(except, conn)
				continue
			}
			if r.seen != nil {
				r.seen[conn] = true
			}
			if r.Reached != nil {
				r.clients = append(r.clients, c)
			}
		}
	}
	if r.Payload == nil || len(except) == g.Len() {
		return
	}
	log := l.Begin(g.Group)
	from := len(log.Buf)
	log.Buf = r.append(log.Buf, g.codec.(RoomCodec))
	if g.rec != nil {
		g.rec.Stamp(log.Buf[from:], l.Index(), r.ord)
	}
	l.Commit(g.Group, loop.Stamp{Seq: r.seq}, except)
}

// append encodes e once for all loops and rooms.
func (e *Emission) append(dst []byte, c RoomCodec) []byte {
	return e.units.append(dst, c, func(dst []byte) []byte { return c.AppendEmission(dst, e) })
}

// JoinRoom makes the client a member of a room of its space; the room without a name is the one of all clients there.
// On the loop.
func (c *Client) JoinRoom(name string) {
	if c.roomMembership(name) != nil {
		return
	}
	k := Key{c.app.ID, c.space(), name}
	r := c.branch.rooms[k]
	if r == nil {
		r = &room{key: k}
		c.branch.rooms[k] = r
	}
	c.enterRoom(r.group(c.codec), &roomSub{c, c.branch.journal.next})
}

// group returns the room's group for a codec, made if it is not there.
func (r *room) group(c Codec) *loop.Group {
	for _, g := range r.groups {
		if g.codec == c {
			return g.Group
		}
	}
	g := &loop.Group{Owner: &owner{room: r, codec: c}}
	rec, _ := c.(Recoverable)
	r.groups = append(r.groups, group{c, rec, g})
	return g
}

// enterRoom joins a room's group, behind everything that this loop has sent.
func (c *Client) enterRoom(g *loop.Group, sub *roomSub) {
	now := loop.Stamp{Seq: c.branch.emitted}
	g.Init(now)
	c.conn.Join(g, now, sub)
}

func (c *Client) roomMembership(name string) *loop.Membership {
	ms := c.conn.Memberships()
	for i := range ms {
		if o := ms[i].Group.Owner.(*owner); o.codec == c.codec && o.room != nil && o.room.key.Name == name {
			return &ms[i]
		}
	}
	return nil
}

// LeaveRoom ends a membership. On the loop.
func (c *Client) LeaveRoom(name string) {
	if m := c.roomMembership(name); m != nil {
		was := *m
		c.ended(&was)
		c.leaveRoom(&was)
	}
}

func (c *Client) leaveRoom(m *loop.Membership) {
	r := m.Group.Owner.(*owner).room
	c.conn.Leave(m.Group)
	if m.Group.Len() == 0 {
		r.groups = slices.DeleteFunc(r.groups, func(g group) bool { return g.Group == m.Group })
	}
	if len(r.groups) == 0 {
		delete(c.branch.rooms, r.key)
	}
}

// Recode changes the client's wire format, from the next message on. On the loop.
func (c *Client) Recode(codec Codec) {
	for _, m := range slices.Clone(c.conn.Memberships()) {
		o := m.Group.Owner.(*owner)
		if o.codec != c.codec {
			continue
		}
		c.conn.Leave(m.Group) // what it had got before is still sent
		empty := func(g group) bool { return g.Group == m.Group && m.Group.Len() == 0 }
		if o.room != nil {
			o.room.groups = slices.DeleteFunc(o.room.groups, empty)
			c.enterRoom(o.room.group(codec), m.Data.(*roomSub))
			continue
		}
		o.local.groups = slices.DeleteFunc(o.local.groups, empty)
		c.conn.Join(o.local.group(codec), o.local.last, m.Data)
	}
	c.codec = codec
}

// Rooms are those the client is in, but the one of all. On the loop.
func (c *Client) Rooms() []string {
	var names []string
	for _, m := range c.conn.Memberships() {
		if o := m.Group.Owner.(*owner); o.codec == c.codec && o.room != nil && o.room.key.Name != everybody {
			names = append(names, o.room.key.Name)
		}
	}
	return names
}
