package hub

import (
	"context"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// HookKind says what happened.
type HookKind uint8

const (
	Connected HookKind = iota
	Identified
	SubscribedTo
	Refused
	UnsubscribedFrom
	Whispered
	Disconnected
	ChannelOccupied
	ChannelVacated
	MemberJoined
	MemberLeft
	CacheMissed
	Counted
	CacheFilled // an empty cache channel got a message; only observed
)

// HookEvent tells the application what happened. Client is set for what a client did; the events of channels and
// members have none.
type HookEvent struct {
	Kind    HookKind
	App     string
	Client  *ClientInfo
	Channel string
	Event   string // of whispers
	Data    string // of whispers
	UserID  string // of members, and of who whispered in a presence channel
	Count   int    // of subscriptions
	Reason  string // of refusals and disconnections

	// Of whispers that are observed, which have no Client: who sent it, and whether Data is the JSON string of a text.
	Sender ID
	Text   bool
}

// happened tells what happened to a channel. Under the home's mutex.
func (h *Hub) happened(ch *channel, ev HookEvent) {
	ev.App, ev.Channel = ch.key.App, ch.key.Name
	if h.cfg.Observe != nil && ch.key.Space == "" {
		h.cfg.Observe(ev)
	}
	if ev.Kind != Whispered && ev.Kind != CacheFilled { // Hook hears whispers among what their clients did
		h.hook(ch.key, ev)
	}
}

// hook queues ev behind the earlier ones of the same key.
func (h *Hub) hook(key any, ev HookEvent) {
	if h.cfg.Hook == nil {
		return
	}
	ok := h.hooks.do(key, func() {
		defer func() {
			if p := recover(); p != nil {
				h.cfg.Logger.Error("the application's hook panicked", "panic", p)
			}
		}()
		h.cfg.Hook(context.Background(), ev)
	})
	if !ok && h.stats.HooksDropped.Add(1)%1000 == 1 {
		h.cfg.Logger.Error("hook events are lost because the hook is too slow", "waiting", serialMax, "lost", h.stats.HooksDropped.Load())
	}
}

func (c *Client) hook(ev HookEvent) {
	if c.hub.cfg.Hook == nil {
		return
	}
	in := c.info()
	ev.App, ev.Client = c.app.ID, &in
	c.hub.hook(c.id, ev)
}

// Select names clients: a socket, or all connections of a user.
type Select struct {
	App    string
	Socket string
	User   string
}

// Each runs f on every client selected, on its loop. It does not wait.
func (h *Hub) Each(s Select, f func(*Client)) {
	for _, b := range h.branches {
		b.loop.Post(loop.Func(func(*loop.Loop) { b.each(s, f) }), 0)
	}
}

func (b *branch) each(s Select, f func(*Client)) {
	if s.Socket != "" {
		if id, ok := ParseID(s.Socket); ok {
			if c := b.find(id); c != nil && c.app.ID == s.App {
				f(c)
			}
		}
		return
	}
	for _, c := range append([]*Client(nil), b.users[userKey{s.App, s.User}]...) {
		f(c)
	}
}

// Revoke takes a subscription back, also from clients that are away.
func (h *Hub) Revoke(s Select, channel, why string) {
	err := errf(Revoked, "%s", why)
	h.take(s, channel, err, func(c *Client) {
		if c.drop(channel) {
			c.session.Unsubscribed(channel, err, nil)
		}
	})
}

// Disconnect ends connections. Clients that are away do not come back as who they were.
func (h *Hub) Disconnect(s Select, why string) {
	err := errf(Revoked, "%s", why)
	h.take(s, "", err, func(c *Client) { c.session.Stop(err) })
}

// Clients is how many clients a loop has; it runs on that loop.
func (h *Hub) Clients(l *loop.Loop) int {
	b := h.branches[l.Index()]
	return len(b.clients) - len(b.free)
}

// StopAllBut ends a loop's clients until only some are left; it runs on that loop.
func (h *Hub) StopAllBut(l *loop.Loop, left int, why *Error) {
	n := h.Clients(l) - left
	for _, c := range h.branches[l.Index()].clients {
		if n <= 0 {
			return
		}
		if c != nil {
			c.session.Stop(why)
			n--
		}
	}
}
