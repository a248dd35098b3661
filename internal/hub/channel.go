package hub

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// channel is a channel at its home. Everything is guarded by the home's mutex; locals[i] is written by loop i
// only, under that mutex, so loop i may read it without.
type channel struct {
	key    Key
	policy *Policy
	epoch  uint64
	seq    uint64 // of the last message
	count  int    // subscriptions
	saved  int    // and those of clients that may come back
	locals []*local
	log    []*Delivery // oldest first
	bytes  int         // of the log
	cached *Delivery   // the last message, where the policy keeps it

	// sent and version number what reaches the loops, so that a subscription can tell what came before it.
	sent    uint64 // messages and whispers
	version uint64 // changes of the members
	members map[string]*member

	told   int       // the count of subscriptions that was told last
	toldAt time.Time // and when
}

// Member is one user in a presence channel. It never changes: an update makes another.
type Member struct {
	ID   string
	Info string // JSON; empty when there is none
}

type member struct {
	Member
	conns int
	since uint64 // the version of its joining, which orders the list
}

// Event is what was published. It does not change, and the channels it went to share it.
type Event struct {
	Name string
	Data string // JSON text
	// Text: what was published is no JSON but a text; Data is the JSON string of it.
	Text bool
	ID   string // for de-duplication; may be empty
	// Own: the program that the server is embedded in sent it, under the name that its own events have.
	Own bool

	// What delivery leaves out.
	ExceptSockets []ID
	ExceptUsers   []string

	// UserID is the verified sender of a whisper in a presence channel.
	UserID string
}

// DeliveryKind says what a Delivery tells.
type DeliveryKind uint8

const (
	Message DeliveryKind = iota
	Whisper
	MemberAdded
	MemberUpdated
	MemberRemoved
	Subscribers // how many subscriptions there are now, where the app wants that told
)

// Delivery is one event on one channel on its way to the loops. It does not change.
type Delivery struct {
	Kind   DeliveryKind
	Event  *Event
	Member *Member   // of the Member… kinds
	Count  int       // of Subscribers
	Time   time.Time // of messages where history is on
	ch     *channel
	pos    Position
	stamp  loop.Stamp
	shared *shared // nil where one loop has all listeners
}

// Channel is the channel's wire name.
func (d *Delivery) Channel() string { return d.ch.key.Name }

// Position is where the message stands; ok where the channel keeps history, so that a client can use it.
func (d *Delivery) Position() (p Position, ok bool) {
	return d.pos, d.Kind == Message && d.ch.policy.History.Size > 0
}

// shared holds the units that several loops need, until the last of them has had them: what was sent is kept for longer by
// those who keep history, and clients choose how many codecs there are.
type shared struct {
	loops atomic.Int32 // that are to have them still
	mu    sync.Mutex
	units []encoded     // guarded by mu
	index map[Codec]int // guarded by mu; of units, where they are many
}

type encoded struct {
	codec Codec
	unit  []byte
}

// append encodes d, once for all loops.
func (d *Delivery) append(dst []byte, c Codec) []byte {
	if d.shared == nil {
		return c.Append(dst, d)
	}
	return d.shared.append(dst, c, func(dst []byte) []byte { return c.Append(dst, d) })
}

// append appends a codec's unit, which encode makes if it is not there.
func (s *shared) append(dst []byte, c Codec, encode func([]byte) []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(c); i >= 0 {
		return append(dst, s.units[i].unit...)
	}
	from := len(dst)
	dst = encode(dst)
	if s.index != nil {
		s.index[c] = len(s.units)
	}
	s.units = append(s.units, encoded{c, slices.Clone(dst[from:])})
	return dst
}

// find returns the place of a codec's unit; -1 if there is none. Under mu.
func (s *shared) find(c Codec) int {
	const many = 32
	if len(s.units) < many {
		return slices.IndexFunc(s.units, func(e encoded) bool { return e.codec == c })
	}
	if s.index == nil {
		s.index = map[Codec]int{}
		for i := range s.units {
			s.index[s.units[i].codec] = i
		}
	}
	if i, ok := s.index[c]; ok {
		return i
	}
	return -1
}

// had is called by each loop when it needs the units no more.
func (s *shared) had() {
	if s.loops.Add(-1) == 0 {
		s.mu.Lock()
		s.units, s.index = nil, nil
		s.mu.Unlock()
	}
}

// assign gives an event its place, and keeps it where the policy says so.
func (ch *channel) assign(ev *Event, kind DeliveryKind, now func() time.Time) *Delivery {
	ch.sent++
	d := &Delivery{Kind: kind, Event: ev, ch: ch, stamp: loop.Stamp{Seq: ch.sent}}
	if kind != Message {
		return d
	}
	ch.seq++
	d.pos = Position{ch.epoch, ch.seq}
	if p := &ch.policy.History; p.Size > 0 {
		d.Time = now()
		ch.log = append(ch.log, d)
		ch.bytes += len(ev.Data)
		ch.trim(d.Time)
	}
	if ch.policy.Cache > 0 {
		if d.Time.IsZero() {
			d.Time = now()
		}
		ch.cached = d
	}
	return d
}

// trim lets go of what the policy no longer keeps.
func (ch *channel) trim(now time.Time) {
	p := &ch.policy.History
	n := 0
	for n < len(ch.log) && (len(ch.log)-n > p.Size || ch.bytes > p.Bytes || now.Sub(ch.log[n].Time) > p.Age) {
		ch.bytes -= len(ch.log[n].Event.Data)
		ch.log[n] = nil
		n++
	}
	ch.log = ch.log[n:]
	if len(ch.log) == 0 {
		ch.log = nil
	}
	if ch.cached != nil && now.Sub(ch.cached.Time) > ch.policy.Cache {
		ch.cached = nil
	}
}

// idle reports whether the channel can be forgotten.
func (ch *channel) idle() bool {
	return ch.count == 0 && ch.saved == 0 && len(ch.log) == 0 && ch.cached == nil
}

// Since is where a returning client stopped reading.
type Since struct {
	Seq   uint64
	Epoch uint64 // 0: unknown, any will do
}

// after returns the kept messages after s, and whether that is all there were.
func (ch *channel) after(s Since) ([]*Delivery, bool) {
	if s.Epoch != 0 && s.Epoch != ch.epoch || s.Seq > ch.seq || ch.policy.History.Size == 0 {
		return nil, false
	}
	missed := ch.seq - s.Seq
	if missed <= uint64(len(ch.log)) {
		return slices.Clone(ch.log[len(ch.log)-int(missed):]), true
	}
	if s.Epoch != 0 { // all or nothing: a partial replay looks whole to its reader
		return nil, false
	}
	return slices.Clone(ch.log), false
}

// list returns the members in the order in which they joined.
func (ch *channel) list() []*Member {
	ms := make([]*member, 0, len(ch.members))
	for _, m := range ch.members {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b *member) int {
		if a.since != b.since {
			if a.since < b.since {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	out := make([]*Member, len(ms))
	for i, m := range ms {
		out[i] = &m.Member
	}
	return out
}

// tell makes the delivery of a change of the members.
func (ch *channel) tell(kind DeliveryKind, m *Member) *Delivery {
	return &Delivery{Kind: kind, Event: &noEvent, Member: m, ch: ch, stamp: loop.Stamp{Ver: ch.version}}
}

var noEvent Event

// Info is what the outside may know of a channel.
type Info struct {
	Subscriptions int
	Members       []*Member // presence channels only
	Position      Position
	Cached        *Delivery
}

// Info describes a channel; ok is false when the hub knows nothing of it.
func (h *Hub) Info(k Key) (in Info, ok bool) {
	hm := h.home(k)
	hm.mu.Lock()
	defer hm.mu.Unlock()
	ch := hm.channels[k]
	if ch == nil {
		return Info{}, false
	}
	ch.trim(h.cfg.Now())
	return Info{Subscriptions: ch.count, Members: ch.list(), Position: Position{ch.epoch, ch.seq}, Cached: ch.cached}, true
}

// Occupied lists the channels of an app whose names begin with prefix and that somebody is subscribed to, sorted.
// Users' own channels are not among them.
func (h *Hub) Occupied(app, prefix string) []string {
	var names []string
	for i := range h.homes {
		hm := &h.homes[i]
		hm.mu.Lock()
		for k, ch := range hm.channels {
			if ch.count > 0 && k.App == app && k.Space == "" && strings.HasPrefix(k.Name, prefix) && !strings.HasPrefix(k.Name, channelname.UserPrefix) {
				names = append(names, k.Name)
			}
		}
		hm.mu.Unlock()
	}
	slices.Sort(names)
	return names
}
