// Package hub knows who listens to what: channels, subscriptions, presence, history and fan-out. It knows no wire
// format and no HTTP; a protocol's room brings a Session per client and a Codec per wire format.
//
// Three owners divide the state. A channel's home, a shard with a mutex, orders what happens to the channel: it
// assigns positions, keeps the log and the members, and posts to the loops that hold subscribers. A branch, one per
// loop and owned by it, holds the clients and the channels' local listeners. A Client is owned by its loop.
// Under a home's mutex nothing is locked but a loop's inbox, the queue of hooks and what Observe locks.
package hub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

var (
	// ErrOverloaded: a loop did not make room for the message before the context ended.
	ErrOverloaded = errors.New("hub: overloaded")
	// ErrClosed: the hub has ended.
	ErrClosed = errors.New("hub: closed")
)

// Key names a channel, or a room: the channels are in the empty space, which all protocols share, rooms in others.
type Key struct{ App, Space, Name string }

// Position is a place in a channel's history. Positions of different epochs cannot be compared.
type Position struct {
	Epoch uint64
	Seq   uint64 // 1, 2, 3, …; 0 before the first message
}

// Config of a Hub.
type Config struct {
	// Loops own the clients. They outlive the hub.
	Loops []*loop.Loop
	// Policies are the channels' policies; the first whose pattern matches holds. DefaultPolicy follows them.
	Policies []*Policy
	// Authorizer decides who may listen to what is not public. Nil refuses everybody.
	Authorizer Authorizer
	// Hook is told what happens, in order per client and per channel, on goroutines of its own. Nil: nobody listens.
	Hook func(context.Context, HookEvent)
	// Observe is told of channels, members, cache channels, counts and whispers as they happen, each channel's in their
	// order: by the loop that caused it, under the channel's mutex. It must return at once and not call the hub. Nil:
	// nobody observes.
	Observe func(HookEvent)
	// Handlers take events that clients send to the server, by event name.
	Handlers map[string]Handler
	// Recovery is how long clients of protocols that can come back may take for it; zero: they cannot.
	Recovery time.Duration
	// Silence is how long such a client may be silent before its connection is ended, and before that may have been.
	Silence time.Duration
	Limits  Limits
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets what no client can be told. Nil means slog.Default.
	Logger *slog.Logger
}

// Limits on what clients may make grow. Each zero value stands for the default; a negative one for no limit.
type Limits struct {
	ChannelsPerClient int           // 100
	Payload           int           // bytes of one event's data: 100 KiB
	EventName         int           // bytes: 200
	MemberBytes       int           // bytes of one member's id and info: 1 KiB (Pusher's limit)
	Waiting           int           // commands waiting for user code before a connection is not read: 64
	Calls             int           // calls of user code under way on the whole server: 10,000
	CallTime          time.Duration // one call of user code: 10 s
	WhispersPerSecond int           // per client: 10
	PublishPerSecond  int           // per client, where it may publish at all: no limit
	Window            time.Duration // how long a message id is remembered: 2 min
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		} else if *v < 0 {
			*v = int(^uint(0) >> 1)
		}
	}
	set(&l.ChannelsPerClient, 100)
	set(&l.Payload, 100<<10)
	set(&l.EventName, 200)
	set(&l.MemberBytes, 1<<10)
	set(&l.Waiting, 64)
	set(&l.Calls, 10_000)
	set(&l.WhispersPerSecond, 10)
	set(&l.PublishPerSecond, -1)
	if l.PublishPerSecond < 0 {
		l.PublishPerSecond = int(^uint(0) >> 1)
	}
	if l.CallTime <= 0 {
		l.CallTime = 10 * time.Second
	}
	if l.Window == 0 {
		l.Window = 2 * time.Minute
	}
	return l
}

const shards = 64

// Hub is the state of one server. Its methods may be called from any goroutine.
type Hub struct {
	cfg      Config
	seed     maphash.Seed
	mask     uint64 // hides the slots in socket ids
	branches []*branch
	homes    [shards]home
	closed   atomic.Bool
	stop     chan struct{}
	janitor  sync.WaitGroup
	calls    atomic.Int64 // user code under way
	hooks    serial
	stats    Stats
	watch    watch
	emitting emitting
	away     sync.Map // ID to the *branch that saved the client
	openings atomic.Uint64
	takings  takings
}

// Stats counts since the start; each field may be read at any time.
type Stats struct {
	Published    atomic.Int64 // messages accepted, once per channel
	Repeated     atomic.Int64 // messages not delivered again because of their id
	HooksDropped atomic.Int64 // hook events lost because the hook is too slow
	Refused      atomic.Int64 // subscriptions refused
}

// New makes a hub over running loops.
func New(cfg Config) *Hub {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	h := &Hub{cfg: cfg, seed: maphash.MakeSeed(), mask: rand.Uint64() & (1<<40 - 1), stop: make(chan struct{})}
	for _, l := range cfg.Loops {
		h.branches = append(h.branches, &branch{
			hub: h, loop: l, users: map[userKey][]*Client{}, rooms: map[Key]*room{}, guests: map[ID]*Client{},
			journal: journal{next: 1}, owns: map[ID]*own{}, saved: map[ID]*Saved{}, arriving: map[ID]*branch{},
		})
	}
	for i := range h.homes {
		h.homes[i].channels = map[Key]*channel{}
	}
	h.janitor.Add(1)
	go h.sweep()
	return h
}

// Close ends the hub; its clients are closed with their loops. Later publishes return ErrClosed.
func (h *Hub) Close() {
	if h.closed.CompareAndSwap(false, true) {
		close(h.stop)
	}
	h.janitor.Wait()
}

// Hooked returns when the hook has been told everything, or ctx ends: with false. It is for a hub whose loops have ended.
func (h *Hub) Hooked(ctx context.Context) bool { return h.hooks.wait(ctx) }

// Stats counts what happened.
func (h *Hub) Stats() *Stats { return &h.stats }

// home is one shard of the channels.
type home struct {
	mu       sync.Mutex
	channels map[Key]*channel // guarded by mu, and everything in the channels but locals[i], see there
	window   window           // guarded by mu
	counts   []*channel       // guarded by mu; whose count of subscriptions is told later
}

func (h *Hub) home(k Key) *home {
	return &h.homes[maphash.String(h.seed, k.Name)%shards]
}

// get returns the channel, made if it is not there. Under the home's mutex.
func (h *Hub) get(hm *home, k Key) *channel {
	ch := hm.channels[k]
	if ch == nil {
		k.Name = strings.Clone(k.Name) // it may be a piece of a client's frame
		ch = &channel{key: k, policy: h.Policy(k), epoch: 1 + rand.Uint64()>>12, locals: make([]*local, len(h.branches))}
		hm.channels[k] = ch
	}
	return ch
}

// Publish sends an event to a channel's listeners, waiting while a loop that has some is overloaded. The event
// must not change afterwards. Not from a loop: see Client.Publish.
func (h *Hub) Publish(ctx context.Context, k Key, ev *Event) (Position, error) {
	for {
		pos, full, err := h.publish(k, ev, Message)
		if full == nil {
			return pos, err
		}
		select {
		case <-full:
		case <-ctx.Done():
			return Position{}, fmt.Errorf("%w: %w", ErrOverloaded, ctx.Err())
		case <-h.stop:
			return Position{}, ErrClosed
		}
	}
}

// publish assigns a position and posts to the loops with listeners. When one of them is overloaded it does
// nothing and returns the channel to wait on.
func (h *Hub) publish(k Key, ev *Event, kind DeliveryKind) (Position, <-chan struct{}, error) {
	if h.closed.Load() {
		return Position{}, nil, ErrClosed
	}
	hm := h.home(k)
	hm.mu.Lock()
	defer hm.mu.Unlock()
	ch := hm.channels[k]
	if ch == nil {
		if ev.ID != "" {
			if pos, ok := hm.window.seen(k, ev.ID, h.cfg.Now()); ok {
				h.stats.Repeated.Add(1)
				return pos, nil, nil
			}
		}
		if kind != Message || !h.Policy(k).keeps() { // nobody listens, and nobody will ask later
			h.stats.Published.Add(1)
			if ev.ID != "" {
				hm.window.add(k, ev.ID, Position{}, h.cfg.Now().Add(h.cfg.Limits.Window))
			}
			return Position{}, nil, nil
		}
		ch = h.get(hm, k)
	}
	for i, lo := range ch.locals {
		if lo != nil {
			if full := h.branches[i].loop.Overloaded(); full != nil {
				return Position{}, full, nil
			}
		}
	}
	var now time.Time
	if ev.ID != "" {
		now = h.cfg.Now()
		if pos, ok := hm.window.seen(k, ev.ID, now); ok {
			h.stats.Repeated.Add(1)
			return pos, nil, nil
		}
	}
	filled := kind == Message && ch.policy.Cache > 0 && ch.cached == nil
	d := ch.assign(ev, kind, h.cfg.Now)
	if ev.ID != "" {
		hm.window.add(k, ev.ID, d.pos, now.Add(h.cfg.Limits.Window))
	}
	h.deliver(ch, d)
	switch {
	case filled:
		h.happened(ch, HookEvent{Kind: CacheFilled})
	case kind == Whisper: // it leaves out its sender, and nobody else
		h.happened(ch, HookEvent{Kind: Whispered, Sender: ev.ExceptSockets[0], Event: ev.Name, Data: ev.Data, Text: ev.Text, UserID: ev.UserID})
	}
	h.stats.Published.Add(1)
	return d.pos, nil, nil
}

// deliver posts to every loop that has listeners. Under the home's mutex, which keeps the order.
func (h *Hub) deliver(ch *channel, d *Delivery) {
	n := 0
	for _, lo := range ch.locals {
		if lo != nil {
			n++
		}
	}
	if n > 1 {
		d.shared = new(shared)
		d.shared.loops.Store(int32(n))
	}
	for i, lo := range ch.locals {
		if lo != nil {
			h.branches[i].loop.Post(d, len(d.Event.Data)+64)
		}
	}
}

// sweep lets go of what has expired: logs of channels nobody listens to, and old message ids.
func (h *Hub) sweep() {
	defer h.janitor.Done()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-h.stop:
			return
		case <-t.C:
		}
		now := h.cfg.Now()
		h.tellCounts(now)
		if tick%10 != 0 {
			continue
		}
		if h.cfg.Recovery > 0 {
			for _, b := range h.branches {
				b.loop.Post(loop.Func(func(*loop.Loop) { b.expire(h.cfg.Now()) }), 0)
			}
		}
		for i := range h.homes {
			hm := &h.homes[i]
			hm.mu.Lock()
			hm.window.expire(now)
			for k, ch := range hm.channels {
				ch.trim(now)
				if ch.idle() {
					delete(hm.channels, k)
				}
			}
			hm.mu.Unlock()
		}
	}
}

// window remembers message ids for a time, and at most windowSize of them.
type window struct {
	ids   map[windowKey]windowEntry
	order []windowKey // oldest first
}

type windowKey struct {
	channel Key
	id      string
}

type windowEntry struct {
	pos     Position
	expires time.Time
}

const windowSize = 8192 // ids per home

func (w *window) seen(k Key, id string, now time.Time) (Position, bool) {
	e, ok := w.ids[windowKey{k, id}]
	if !ok || now.After(e.expires) {
		return Position{}, false
	}
	return e.pos, true
}

func (w *window) add(k Key, id string, pos Position, expires time.Time) {
	if w.ids == nil {
		w.ids = map[windowKey]windowEntry{}
	}
	for len(w.order) >= windowSize {
		delete(w.ids, w.order[0])
		w.order = w.order[1:]
	}
	k.Name = strings.Clone(k.Name) // both may be pieces of a client's frame
	key := windowKey{k, strings.Clone(id)}
	if _, again := w.ids[key]; !again {
		w.order = append(w.order, key)
	}
	w.ids[key] = windowEntry{pos, expires}
}

func (w *window) expire(now time.Time) {
	n := 0
	for n < len(w.order) && now.After(w.ids[w.order[n]].expires) {
		delete(w.ids, w.order[n])
		n++
	}
	if n > 0 {
		w.order = append([]windowKey(nil), w.order[n:]...)
	}
}
