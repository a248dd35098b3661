package hub

import (
	"github.com/stacksjs/realtime-go/internal/loop"
)

// branch is the hub's side on one loop. Everything in it is owned by the loop.
type branch struct {
	hub     *Hub
	loop    *loop.Loop
	clients []*Client // by slot
	free    []uint32
	users   map[userKey][]*Client // identified clients only
	rooms   map[Key]*room
	emitted uint64         // the last emission that came through
	guests  map[ID]*Client // whose id does not lead to their slot: they came back

	// of those who come back
	journal   journal
	owns      map[ID]*own
	ownsBytes int
	saved     map[ID]*Saved
	arriving  map[ID]*branch // who came back and has not been sent what it missed, which comes from there
	taken     uint64         // the last of takings that came through
}

type userKey struct{ app, id string }

// local is a channel's listeners on one loop, grouped by wire format. Owned by the loop.
type local struct {
	ch     *channel
	branch *branch
	groups []group
	last   loop.Stamp // what has come through
	saved  int        // subscriptions of clients that may come back
}

type group struct {
	codec Codec
	rec   Recoverable // the same; nil if its clients do not come back
	*loop.Group
}

// Codec writes deliveries in one wire format. It is a map key and shared by all clients of the format, whatever
// their loop: comparable, and safe for concurrent use.
type Codec interface {
	// Append appends d as one unit: bytes that are written in one piece. Appending nothing leaves d out.
	Append(dst []byte, d *Delivery) []byte
}

func (b *branch) index() int { return b.loop.Index() }

// Run hands the delivery to the loop's listeners: this is all the work there is per message and wire format. It
// runs on the loop.
func (d *Delivery) Run(l *loop.Loop) {
	if d.shared != nil {
		defer d.shared.had()
	}
	lo := d.ch.locals[l.Index()]
	if lo == nil {
		return // the last listener left while it was on its way
	}
	if d.stamp.Ver == 0 {
		if d.stamp.Seq <= lo.last.Seq {
			return // older than this loop's first listener
		}
		lo.last.Seq = d.stamp.Seq
	} else {
		if d.stamp.Ver <= lo.last.Ver {
			return
		}
		lo.last.Ver = d.stamp.Ver
	}
	var leftOut []*Client
	if len(d.Event.ExceptSockets) > 0 || len(d.Event.ExceptUsers) > 0 {
		leftOut = lo.branch.leftOut(d.Event, d.ch.key.App)
	}
	ord := lo.note(d)
	for _, g := range lo.groups {
		log := l.Begin(g.Group)
		from := len(log.Buf)
		log.Buf = d.append(log.Buf, g.codec)
		if ord > 0 && g.rec != nil {
			g.rec.Stamp(log.Buf[from:], l.Index(), ord)
		}
		var except []*loop.Conn
		for _, c := range leftOut {
			if c.codec == g.codec {
				except = append(except, c.conn)
			}
		}
		l.Commit(g.Group, d.stamp, except)
	}
}

// owner leads from a loop's group back to the channel, or to the room.
type owner struct {
	local *local // nil of a room
	room  *room  // nil of a channel
	codec Codec
}

// leftOut finds this loop's clients that an event is not for.
func (b *branch) leftOut(ev *Event, app string) []*Client {
	var cs []*Client
	for _, id := range ev.ExceptSockets {
		if c := b.find(id); c != nil && c.app.ID == app {
			cs = append(cs, c)
		}
	}
	for _, u := range ev.ExceptUsers {
		cs = append(cs, b.users[userKey{app, u}]...)
	}
	return cs
}

// find returns this loop's client with the id.
func (b *branch) find(id ID) *Client {
	i, slot := b.hub.branchOf(id)
	if i != b.index() || slot >= uint64(len(b.clients)) {
		return b.guests[id]
	}
	if c := b.clients[slot]; c != nil && c.id == id {
		return c
	}
	return b.guests[id]
}

// group returns the local's group for a codec, made if it is not there.
func (lo *local) group(c Codec) *loop.Group {
	for _, g := range lo.groups {
		if g.codec == c {
			return g.Group
		}
	}
	g := &loop.Group{Owner: &owner{local: lo, codec: c}, Policy: lo.ch.policy.Slow}
	g.Init(lo.last)
	rec, _ := c.(Recoverable)
	lo.groups = append(lo.groups, group{c, rec, g})
	return g
}

// ChannelOf names the channel a loop's group belongs to; empty for a room's.
func ChannelOf(g *loop.Group) string {
	if lo := g.Owner.(*owner).local; lo != nil {
		return lo.ch.key.Name
	}
	return ""
}
