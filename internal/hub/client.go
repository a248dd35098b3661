package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// User is a verified identity.
type User struct {
	ID      string
	Info    string    // JSON: what others see in presence channels; empty when there is none
	Expires time.Time // zero: never
	Claims  any       // the authorizer's own
}

// Grant is the authorizer's yes for one channel.
type Grant struct {
	MemberID   string // who the member is in a presence channel
	MemberInfo string // JSON
	Publish    bool   // may publish events, and not only whispers
	Expires    time.Time
}

// Request asks whether a client may listen to a channel.
type Request struct {
	App         *App
	Channel     string
	SocketID    string
	Auth        string // what the client brought: a signature, a token, or nothing
	ChannelData string
	User        *User // nil: anonymous
}

// Authorizer says who may listen to what is not public.
type Authorizer interface {
	// Decide answers at once where that needs neither waiting nor much work: it runs on loops.
	Decide(r *Request) (g Grant, decided bool, err *Error)
	// Authorize may take its time; it runs on a goroutine of its own. An error that is not an *Error is logged, and
	// the client is told no more than that it failed.
	Authorize(ctx context.Context, r *Request) (Grant, error)
}

// Handler takes an event that a client sent to the server. It runs on a goroutine of its own, in order per client
// and event name. What it returns is the answer, for a client that asked for one.
type Handler func(ctx context.Context, in *Inbound) (reply []byte, err error)

// Inbound is an event from a client to the server.
type Inbound struct {
	Client  ClientInfo
	Channel string // may be empty; the client need not be subscribed to it
	Event   string
	Data    string // JSON
}

// ClientInfo is what the application may know of a client.
type ClientInfo struct {
	ID   string // socket id
	App  string
	User *User // nil: anonymous
	Addr string
}

// Session is a client's protocol. The hub calls it on the client's loop.
type Session interface {
	// Subscribed is the acknowledgement; the replay and the cached message in it follow it, and nothing comes between.
	Subscribed(*Subscribed)
	Refused(channel string, err *Error, tag any)
	// Unsubscribed: err is nil when the client asked for it.
	Unsubscribed(channel string, err *Error, tag any)
	// Done answers what was asked with Publish, Whisper or Deliver.
	Done(channel string, pos Position, reply []byte, err *Error, tag any)
	// Stop ends the connection for a reason.
	Stop(err *Error)
	// Pause stops reading the connection until as many calls of Resume: others than this client may have paused it, too.
	Pause()
	Resume()
	// Addr is the peer's address.
	Addr() string
}

// Client is who is connected. Every field is owned by the loop.
type Client struct {
	hub     *Hub
	branch  *branch
	conn    *loop.Conn
	session Session
	codec   Codec
	app     *App
	user    *User
	waiting *waiting // commands behind user code; nil most of the time
	id      ID
	from    uint64 // an ordinal of the journal: what it was sent up to there it has got
	slot    uint32
	gone    bool
	watched bool // its user was counted as online
	rates   [2]bucket
}

// Add makes c a client of the hub, on conn's loop.
func (h *Hub) Add(c *Client, conn *loop.Conn, s Session, codec Codec, app *App) {
	h.add(c, conn, s, codec, app)
	c.id = h.newID(c.branch.index(), c.slot)
	c.from = c.branch.journal.last()
	c.hook(HookEvent{Kind: Connected})
}

func (h *Hub) add(c *Client, conn *loop.Conn, s Session, codec Codec, app *App) {
	b := h.branches[conn.Loop().Index()]
	var slot uint32
	if n := len(b.free); n > 0 {
		slot = b.free[n-1]
		b.free = b.free[:n-1]
	} else {
		slot = uint32(len(b.clients))
		b.clients = append(b.clients, nil)
	}
	b.clients[slot] = c
	*c = Client{hub: h, branch: b, conn: conn, session: s, codec: codec, app: app, slot: slot}
}

// ID is the socket id.
func (c *Client) ID() ID { return c.id }

// Session is the client's protocol.
func (c *Client) Session() Session { return c.session }

// User is the verified identity; nil for anonymous clients.
func (c *Client) User() *User { return c.user }

// App is the application the client belongs to.
func (c *Client) App() *App { return c.app }

func (c *Client) info() ClientInfo {
	return ClientInfo{ID: c.id.String(), App: c.app.ID, User: c.user, Addr: c.session.Addr()}
}

// Identify gives the client an identity, or renews it. Another user than before is refused. A user without an id
// stays anonymous, and has whatever its claims allow.
func (c *Client) Identify(u *User) *Error {
	was := ""
	if c.user != nil {
		was = c.user.ID
	}
	if was != "" && was != u.ID {
		return errf(Forbidden, "this connection is user %q already; another user needs another connection", was)
	}
	if was == "" && u.ID != "" {
		k := userKey{c.app.ID, u.ID}
		c.branch.users[k] = append(c.branch.users[k], c)
		if c.app.Settings().Watchlists {
			c.watched = true
			c.hub.online(c.app, u.ID, 1)
		}
	}
	c.user = u
	c.hook(HookEvent{Kind: Identified})
	return nil
}

// Remove ends the client: it leaves every channel. The session calls it from its connection's Closed.
func (c *Client) Remove(reason string) {
	if c.gone || c.hub == nil {
		return
	}
	for _, m := range slices.Clone(c.conn.Memberships()) {
		switch o := m.Group.Owner.(*owner); {
		case o.codec != c.codec:
		case o.room != nil:
			c.leaveRoom(&m)
		default:
			c.leave(&m)
		}
	}
	c.gone = true
	b := c.branch
	b.disown(c.id)
	b.clients[c.slot] = nil
	delete(b.guests, c.id)
	delete(b.arriving, c.id)
	b.free = append(b.free, c.slot)
	if c.user != nil && c.user.ID != "" {
		k := userKey{c.app.ID, c.user.ID}
		us := b.users[k]
		if i := slices.Index(us, c); i >= 0 {
			us = slices.Delete(us, i, i+1)
		}
		if len(us) == 0 {
			delete(b.users, k)
		} else {
			b.users[k] = us
		}
		if c.watched {
			c.hub.online(c.app, c.user.ID, -1)
			c.hub.unwatch(c)
		}
	}
	c.waiting = nil
	c.hook(HookEvent{Kind: Disconnected, Reason: reason})
}

// Expire drops what has lapsed by now and returns when to look again; zero means never.
func (c *Client) Expire(now time.Time) (next time.Time) {
	if u := c.user; u != nil && !u.Expires.IsZero() {
		if !u.Expires.After(now) {
			c.session.Stop(errf(Expired, "the token of user %q has expired and was not renewed", u.ID))
			return time.Time{}
		}
		next = u.Expires
	}
	for _, m := range slices.Clone(c.conn.Memberships()) {
		sub, _ := m.Data.(*Sub)
		if sub == nil || sub.expires.IsZero() || m.Group.Owner.(*owner).codec != c.codec { // rooms have no *Sub
			continue
		}
		if !sub.expires.After(now) {
			name := m.Group.Owner.(*owner).local.ch.key.Name
			c.drop(name)
			c.session.Unsubscribed(name, errf(Expired, "the grant for %q has expired", name), nil)
			continue
		}
		if next.IsZero() || sub.expires.Before(next) {
			next = sub.expires
		}
	}
	return next
}

func (c *Client) String() string { return fmt.Sprintf("client %s of app %q", c.id, c.app.ID) }
