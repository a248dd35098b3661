package hub

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// Whisper relays a client's event to the channel's other listeners.
func (c *Client) Whisper(channel string, ev Event, tag any) {
	c.inLane(channel, false, func() {
		ev.ExceptSockets = []ID{c.id}
		if err := c.mayWhisper(channel, &ev); err != nil {
			c.session.Done(channel, Position{}, nil, err, tag)
			return
		}
		c.send(channel, &ev, Whisper, tag)
		c.hook(HookEvent{Kind: Whispered, Channel: channel, Event: ev.Name, Data: ev.Data, UserID: ev.UserID})
	})
}

func (c *Client) mayWhisper(channel string, ev *Event) *Error {
	if err := channelname.Validate(channel); err != nil {
		return errf(BadRequest, "%v", err)
	}
	if c.app.Settings().NoClientEvents {
		return errf(Forbidden, "client events are switched off for app %q", c.app.ID)
	}
	kind, _ := channelname.Split(channel)
	if kind != channelname.Private && kind != channelname.Presence {
		return errf(Forbidden, "client events work on private and presence channels only, not on %s channel %q", kind, channel)
	}
	if err := c.sized(channel, ev); err != nil {
		return err
	}
	m := c.subscription(channel)
	if m == nil {
		return errf(NotSubscribed, "subscribe to %q before sending client events to it", channel)
	}
	if !m.Group.Owner.(*owner).local.ch.policy.Whispers {
		return errf(Forbidden, "channel %q takes no client events", channel)
	}
	if sub, _ := m.Data.(*Sub); sub != nil && kind == channelname.Presence {
		ev.UserID = sub.member
	}
	return c.rates[0].take(c.conn.Loop().Now(), c.hub.cfg.Limits.WhispersPerSecond, "client events")
}

// sized checks an event's name and data against the limits.
func (c *Client) sized(channel string, ev *Event) *Error {
	if err := CheckEventName(ev.Name, c.hub.cfg.Limits.EventName); err != nil {
		return err
	}
	return c.hub.CheckData(Key{App: c.app.ID, Name: channel}, ev.Data)
}

// CheckEventName says why a client or publisher may not use an event name.
func CheckEventName(name string, limit int) *Error {
	switch {
	case name == "":
		return errf(BadRequest, "the event has no name")
	case len(name) > limit:
		return errf(BadRequest, "the event name is %d bytes, more than %d", len(name), limit)
	case strings.HasPrefix(name, "pusher:") || strings.HasPrefix(name, "pusher_internal:"):
		return errf(BadRequest, "event name %.60q is reserved for the protocol", name)
	}
	return nil
}

// CheckData says why an event's data may not be sent to a channel: its size, or that it is readable where only
// end-to-end encrypted data may pass.
func (h *Hub) CheckData(k Key, data string) *Error {
	p := h.Policy(k)
	limit := p.Payload
	if limit == 0 {
		limit = h.cfg.Limits.Payload
	}
	if len(data) > limit {
		return errf(TooLarge, "the data is %d bytes, more than the %d allowed on channel %q", len(data), limit, k.Name)
	}
	if p.Encrypted && !(strings.Contains(data, `"nonce"`) && strings.Contains(data, `"ciphertext"`)) {
		return errf(Forbidden, "channel %q takes only end-to-end encrypted data, and this is not: send through the encrypted package", k.Name)
	}
	return nil
}

// Publish publishes a client's event as the application itself would, where the client's grant allows that.
func (c *Client) Publish(channel string, ev *Event, tag any) {
	c.inLane(channel, false, func() {
		err := c.mayPublish(channel)
		if err == nil {
			err = c.sized(channel, ev)
		}
		if err == nil {
			err = c.rates[1].take(c.conn.Loop().Now(), c.hub.cfg.Limits.PublishPerSecond, "published events")
		}
		if err != nil {
			c.session.Done(channel, Position{}, nil, err, tag)
			return
		}
		c.send(channel, ev, Message, tag)
	})
}

// Publisher is an identity that may publish without a subscription. User.Claims may implement it.
type Publisher interface{ MayPublish(channel string) bool }

func (c *Client) mayPublish(channel string) *Error {
	if err := channelname.Validate(channel); err != nil {
		return errf(BadRequest, "%v", err)
	}
	if m := c.subscription(channel); m != nil {
		if sub, _ := m.Data.(*Sub); sub != nil && sub.publish {
			return nil
		}
	}
	if c.user != nil {
		if p, ok := c.user.Claims.(Publisher); ok && p.MayPublish(channel) {
			return nil
		}
	}
	return errf(Unauthorized, "this connection may not publish to %q: it needs a grant or token that allows it", channel)
}

// send publishes from the client's loop. When some loop is overloaded, the client waits, unread, and nobody else.
func (c *Client) send(channel string, ev *Event, kind DeliveryKind, tag any) {
	k := Key{App: c.app.ID, Name: channel}
	pos, full, err := c.hub.publish(k, ev, kind)
	if full == nil {
		c.session.Done(channel, pos, nil, asError(err), tag)
		return
	}
	c.hold()
	late := errf(Overloaded, "the server takes events more slowly than they come; try later")
	c.call(channel, late, func(ctx context.Context) error {
		for full != nil {
			select {
			case <-full:
			case <-ctx.Done():
				return late
			}
			pos, full, err = c.hub.publish(k, ev, kind)
		}
		return err
	}, func(_ bool, err *Error) {
		c.release()
		if err != nil {
			c.session.Done(channel, Position{}, nil, err, tag)
			return
		}
		c.session.Done(channel, pos, nil, nil, tag)
	})
}

func asError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	return errf(Shutdown, "%v", err)
}

// Deliver hands an event to the handler registered for it; false when there is none.
func (c *Client) Deliver(channel, event, data string, tag any) bool {
	fn := c.hub.cfg.Handlers[event]
	if fn == nil {
		return false
	}
	in := &Inbound{Client: c.info(), Channel: channel, Event: event, Data: data}
	lane := "\x00" + event // a channel's commands do not wait for handlers, nor one event's handler for another's
	c.inLane(lane, false, func() {
		var reply []byte
		c.call(lane, c.hub.undecided(), func(ctx context.Context) (err error) {
			reply, err = fn(ctx, in)
			return err
		}, func(_ bool, err *Error) {
			if err != nil {
				c.session.Done(channel, Position{}, nil, err, tag)
				return
			}
			c.session.Done(channel, Position{}, reply, nil, tag)
		})
	})
	return true
}

// bucket is a token bucket of eight bytes.
type bucket struct {
	tokens float32
	at     uint32 // milliseconds, wrapping
}

func (b *bucket) take(now time.Time, perSecond int, what string) *Error {
	if perSecond == math.MaxInt {
		return nil
	}
	ms := uint32(now.UnixMilli())
	if b.at == 0 {
		b.tokens = float32(perSecond)
	} else {
		b.tokens = min(float32(perSecond), b.tokens+float32(ms-b.at)*float32(perSecond)/1000)
	}
	b.at = max(ms, 1)
	if b.tokens < 1 {
		e := errf(RateLimited, "more than %d %s in a second", perSecond, what)
		e.RetryAfter = int64(math.Ceil(float64(1-b.tokens) * 1000 / float64(perSecond)))
		return e
	}
	b.tokens--
	return nil
}
