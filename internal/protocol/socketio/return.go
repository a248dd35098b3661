package socketio

import (
	"context"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
)

// kept is what a client's session knows of it while it is away.
type kept struct {
	codec *codec
	flags uint8
	life  *life // of the program's socket; nil where there was none
}

// comeBack makes the client who it was, if it is known still, and otherwise a new one. A token that it brings counts as
// that of a new client would: who it was may have expired.
func (c *client) comeBack(p *packet, creds credentials, prog Program, id hub.ID) {
	if creds.token == "" {
		c.find(p, creds, prog, id, nil)
		return
	}
	var u *hub.User
	c.e.room.cfg.Hub.Ask(c.e.socket.Loop(), func(ctx context.Context) (err error) {
		u, err = c.e.room.cfg.Authenticate(ctx, creds.token)
		return err
	}, func(err *hub.Error) {
		switch {
		case c.flags&left != 0:
		case err != nil:
			c.refuse(err.Message, appendError(nil, err))
		default:
			c.find(p, creds, prog, id, u)
		}
	})
}

// find looks for who the client was. u is whose token it has brought; nil if it has brought none.
func (c *client) find(p *packet, creds credentials, prog Program, id hub.ID, u *hub.User) {
	e := c.e
	if !e.socket.Cork() {
		return // the connection is over
	}
	at, ordinal, seen := e.room.parseOffset(creds.offset)
	if !seen {
		at = -1
	}
	e.room.cfg.Hub.Return(e.socket.Loop(), id, e.opened, at, ordinal, func(s *hub.Saved) {
		switch {
		case s == nil:
		case c.flags&left != 0 || s.App() != e.App || s.Data().(*kept).codec.nsp != p.nsp || another(e.User, s.User()) || another(u, s.User()):
			s.PutBack()
		default:
			c.restore(p, prog, s, u)
			return
		}
		e.socket.Uncork(nil)
		if c.flags&left == 0 {
			c.enter(p, creds, prog)
		}
	})
}

// another reports whether who comes is known to be somebody else.
func another(comes, was *hub.User) bool {
	return comes != nil && comes.ID != "" && was != nil && was.ID != "" && comes.ID != was.ID
}

// restore makes the client the one that was saved.
func (c *client) restore(p *packet, prog Program, saved *hub.Saved, u *hub.User) {
	e, was := c.e, saved.Data().(*kept)
	codec := was.codec
	e.room.cfg.Hub.Restore(&c.Client, &e.socket.Conn, c, codec.wire(), saved, func(err *hub.Error) {
		if err != nil {
			c.refuse(err.Message, appendError(nil, err))
			e.socket.Uncork(nil)
			return
		}
		c.flags |= was.flags&formed | returning
		c.codec = codec
		for _, now := range []*hub.User{e.User, u} {
			if now != nil {
				c.Identify(now) // nobody else than it was, and perhaps for longer
			}
		}
		if prog != nil {
			c.prog = &programmed{Program: prog, socket: newSocket(c, p, true, was.life)}
		}
	}, func(missed []hub.Missed, lost map[string]*hub.Error) {
		switch {
		case c.flags&left != 0:
		case prog == nil:
			c.back(missed, lost)
		default:
			c.asked(func(err error) {
				if err == nil {
					c.back(missed, lost)
				}
			})
		}
	})
}

// back sends a client that came back what it missed, before all that came meanwhile.
func (c *client) back(missed []hub.Missed, lost map[string]*hub.Error) {
	first := c.codec.appendPacket(nil, connect, c.welcome())
	wire := recCodec{c.codec}
	for _, m := range missed {
		from := len(first)
		if m.Delivery != nil {
			first = c.codec.Append(first, m.Delivery)
		} else {
			first = c.codec.AppendEmission(first, m.Emission)
		}
		wire.Stamp(first[from:], c.e.socket.Loop().Index(), m.Ordinal)
	}
	c.flags &^= returning
	c.e.socket.Uncork(first)
	c.begin()
	for name, err := range lost {
		c.Unsubscribed(name, err, nil)
	}
	for _, name := range c.Channels() { // who is there has changed meanwhile, and changes are not among what was missed
		if kind, _ := channelname.Split(name); kind == channelname.Presence {
			c.Members(name, func(ms []*hub.Member, err *hub.Error) {
				if err == nil {
					c.sayMembers(name, ms)
				}
			})
		}
	}
}
