package hub

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
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

// Subscribe asks for a subscription.
type Subscribe struct {
	Channel     string
	Auth        string
	ChannelData string
	Since       *Since // replay what came after
	Rewind      int    // or the last so many messages
	Tag         any    // given back in the answer
}

// Subscribed is what a new subscriber is told: the channel's state at the moment from which on it misses nothing.
type Subscribed struct {
	Channel   string
	Position  Position
	History   bool // the position is of use
	Members   []*Member
	Me        *Member // nil except in presence channels
	Replay    []*Delivery
	Recovered bool      // Replay is everything after Since
	Cached    *Delivery // the last message of a cache channel
	CacheMiss bool
	Again     bool // it was subscribed already
	Tag       any
}

// Sub is a subscription's own data; most have none.
type Sub struct {
	member  string // in a presence channel
	info    string // of the member, where the client may come back
	publish bool
	expires time.Time
	joined  uint64 // where the channel stood when it began: what is older is not for it
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

// subscription returns c's membership in a channel; nil if it is not subscribed.
func (c *Client) subscription(channel string) *loop.Membership {
	ms := c.conn.Memberships()
	for i := range ms {
		if o := ms[i].Group.Owner.(*owner); o.codec == c.codec && o.local != nil && o.local.ch.key.Name == channel {
			return &ms[i]
		}
	}
	return nil
}

// Subscribed reports whether the client is subscribed to the channel.
func (c *Client) Subscribed(channel string) bool { return c.subscription(channel) != nil }

// Channels are the channels the client is subscribed to.
func (c *Client) Channels() []string {
	var names []string
	for _, m := range c.conn.Memberships() {
		if o := m.Group.Owner.(*owner); o.codec == c.codec && o.local != nil {
			names = append(names, o.local.ch.key.Name)
		}
	}
	return names
}

// Subscribe asks for a channel; the session is told the outcome, in the order of this channel's commands.
func (c *Client) Subscribe(r Subscribe) {
	c.inLane(r.Channel, false, func() { c.subscribe(&r) })
}

func (c *Client) subscribe(r *Subscribe) {
	if err := channelname.Validate(r.Channel); err != nil {
		c.refuse(r, errf(BadRequest, "%v", err))
		return
	}
	if err := c.room(r.Channel); err != nil {
		c.refuse(r, err)
		return
	}
	kind, bare := channelname.Split(r.Channel)
	switch kind {
	case channelname.Public:
		c.join(r, &Grant{})
		return
	case channelname.User:
		if c.user == nil || c.user.ID != bare {
			c.refuse(r, errf(Unauthorized, "channel %q is only for connections of that user", r.Channel))
			return
		}
		c.join(r, &Grant{})
		return
	}
	if c.hub.cfg.Authorizer == nil {
		c.refuse(r, errf(Unauthorized, "channel %q needs a grant, and this server has no authorizer to give one", r.Channel))
		return
	}
	q := &Request{App: c.app, Channel: r.Channel, SocketID: c.id.String(), Auth: r.Auth, ChannelData: r.ChannelData, User: c.user}
	if g, decided, err := c.hub.cfg.Authorizer.Decide(q); decided {
		if err != nil {
			c.refuse(r, err)
			return
		}
		c.join(r, &g)
		return
	}
	var g Grant
	c.call(r.Channel, c.undecided(), func(ctx context.Context) (err error) {
		g, err = c.hub.cfg.Authorizer.Authorize(ctx, q)
		return err
	}, func(unsubscribed bool, err *Error) {
		switch {
		case err != nil:
			c.refuse(r, err)
		case unsubscribed:
			c.refuse(r, errf(NotSubscribed, "unsubscribed from %q before the grant came", r.Channel))
		default:
			c.join(r, &g)
		}
	})
}

// room says whether the client may listen to one more channel.
func (c *Client) room(channel string) *Error {
	if limit := c.hub.cfg.Limits.ChannelsPerClient; len(c.conn.Memberships()) >= limit && len(c.Channels()) >= limit && !c.Subscribed(channel) {
		return errf(TooManyChannels, "this connection listens to %d channels, which is the limit; unsubscribe from one first", limit)
	}
	return nil
}

func (c *Client) refuse(r *Subscribe, err *Error) {
	c.hub.stats.Refused.Add(1)
	c.hook(HookEvent{Kind: Refused, Channel: r.Channel, Reason: err.Message})
	c.session.Refused(r.Channel, err, r.Tag)
}

// join subscribes a client that may.
func (c *Client) join(r *Subscribe, g *Grant) {
	h := c.hub
	now := h.cfg.Now()
	if !g.Expires.IsZero() && !g.Expires.After(now) {
		c.refuse(r, errf(Expired, "the grant for %q has expired", r.Channel))
		return
	}
	if err := c.room(r.Channel); err != nil { // others were granted meanwhile
		c.refuse(r, err)
		return
	}
	presence := strings.HasPrefix(r.Channel, "presence-")
	var sub *Sub
	if presence || g.Publish || !g.Expires.IsZero() {
		sub = &Sub{publish: g.Publish, expires: g.Expires}
	}
	if presence {
		if err := c.memberOf(r.Channel, g); err != nil {
			c.refuse(r, err)
			return
		}
		sub.member, sub.info = g.MemberID, g.MemberInfo
	}
	again := c.subscription(r.Channel)

	k := Key{App: c.app.ID, Name: r.Channel}
	hm := h.home(k)
	hm.mu.Lock()
	ch := h.get(hm, k)
	if err := c.admit(ch, g, presence, again); err != nil {
		if ch.idle() {
			delete(hm.channels, k)
		}
		hm.mu.Unlock()
		c.refuse(r, err)
		return
	}
	out := &Subscribed{Channel: ch.key.Name, Tag: r.Tag, Again: again != nil}
	if again == nil {
		if ch.count++; ch.count == 1 {
			h.happened(ch, HookEvent{Kind: ChannelOccupied})
		}
	}
	var news *Delivery
	if presence {
		out.Me, news = ch.enter(g, again != nil)
		out.Members = ch.list()
	}
	ch.trim(now)
	out.Position, out.History = Position{ch.epoch, ch.seq}, ch.policy.History.Size > 0
	if again == nil {
		switch {
		case r.Since != nil:
			out.Replay, out.Recovered = ch.after(*r.Since)
		case r.Rewind > 0:
			out.Replay = slices.Clone(ch.log[max(0, len(ch.log)-r.Rewind):])
		}
		if ch.policy.Cache > 0 && len(out.Replay) == 0 {
			if ch.cached != nil && !c.leftOut(ch.cached) {
				out.Cached = ch.cached
			}
			out.CacheMiss = out.Cached == nil
		}
		out.Replay = slices.DeleteFunc(out.Replay, c.leftOut)
	}
	late := again != nil && (presence || out.History) // it says where the channel stands, so it has a place there
	if late {
		c.inPlace(r.Channel, func() {
			if !c.Subscribed(r.Channel) {
				c.refuse(r, errf(NotSubscribed, "the subscription to %q was taken back", r.Channel))
				return
			}
			c.session.Subscribed(out)
		})
	}
	if news != nil {
		h.deliver(ch, news)
		if news.Kind == MemberAdded {
			h.happened(ch, HookEvent{Kind: MemberJoined, UserID: g.MemberID})
		}
	}
	since := loop.Stamp{Seq: ch.sent, Ver: ch.version}
	lo := ch.locals[c.branch.index()]
	if lo == nil {
		lo = &local{ch: ch, branch: c.branch, last: since}
		ch.locals[c.branch.index()] = lo
	}
	if again == nil {
		h.count(hm, ch, c.app)
		if out.CacheMiss && ch.cached == nil { // not when only this client is left out
			h.happened(ch, HookEvent{Kind: CacheMissed})
		}
	}
	hm.mu.Unlock()

	from := since.Seq
	if again != nil {
		from = joinedAt(again.Data)
	}
	data := c.data(sub, from)
	// A member before it is told: the session looks at once when the grant lapses, and may even close. What it sends
	// now still goes first, since deliveries get their places in later tasks, and Join lets nothing older through.
	if again != nil {
		again.Data = data
	} else {
		c.conn.Join(lo.group(c.codec), since, data)
		c.hook(HookEvent{Kind: SubscribedTo, Channel: ch.key.Name})
	}
	if !late {
		c.session.Subscribed(out) // the acknowledgement, then the replay
	}
}

// inPlace answers behind everything that is on its way to the client from the channel, and before what comes next, so
// that the state in the answer fits in where it stands. The channel's later commands wait for it. Under the home's
// mutex.
func (c *Client) inPlace(channel string, answer func()) {
	ln := c.lane(channel)
	ln.busy = true
	c.branch.loop.Post(loop.Func(func(*loop.Loop) {
		if !c.gone {
			ln.busy = false
			answer()
			c.next(channel, ln)
		}
	}), 0)
}

// leftOut reports whether a kept message is not for this client: it never was, and does not become so by being kept.
func (c *Client) leftOut(d *Delivery) bool {
	return slices.Contains(d.Event.ExceptSockets, c.id) || c.user != nil && slices.Contains(d.Event.ExceptUsers, c.user.ID)
}

// memberOf completes a grant with who the member is.
func (c *Client) memberOf(channel string, g *Grant) *Error {
	if g.MemberID == "" && c.user != nil && c.user.ID != "" {
		g.MemberID = c.user.ID
		if g.MemberInfo == "" {
			g.MemberInfo = c.user.Info
		}
	}
	if g.MemberID == "" {
		return errf(Unauthorized, "presence channel %q needs to know who joins: sign a user_id, or identify the connection", channel)
	}
	if c.user != nil && c.user.ID != "" && c.user.ID != g.MemberID {
		return errf(Unauthorized, "the grant for %q is for user %q, but this connection is user %q", channel, g.MemberID, c.user.ID)
	}
	if n, limit := len(g.MemberID)+len(g.MemberInfo), c.hub.cfg.Limits.MemberBytes; n > limit {
		return errf(MemberTooLarge, "member id and info are %d bytes, more than %d", n, limit)
	}
	return nil
}

// admit checks the channel's own limits. Under the home's mutex.
func (c *Client) admit(ch *channel, g *Grant, presence bool, again *loop.Membership) *Error {
	if limit := ch.policy.Subscribers; again == nil && limit > 0 && ch.count >= limit {
		return errf(TooManyListeners, "channel %q has %d subscribers, which is its limit", ch.key.Name, limit)
	}
	if !presence {
		return nil
	}
	if again != nil {
		if was := again.Data.(*Sub).member; was != g.MemberID {
			return errf(Forbidden, "this connection is member %q of %q already; unsubscribe before joining as %q", was, ch.key.Name, g.MemberID)
		}
		return nil
	}
	if _, known := ch.members[g.MemberID]; !known && len(ch.members) >= ch.policy.Members {
		return errf(TooManyMembers, "presence channel %q has %d members, which is its limit", ch.key.Name, ch.policy.Members)
	}
	return nil
}

// enter makes a user a member, and returns what the others are to be told, if that is news. again is an update by a
// connection of the member's. Under the home's mutex.
func (ch *channel) enter(g *Grant, again bool) (me *Member, news *Delivery) {
	m := ch.members[g.MemberID]
	switch {
	case m == nil:
		ch.version++
		m = &member{Member: Member{g.MemberID, g.MemberInfo}, conns: 1, since: ch.version}
		if ch.members == nil {
			ch.members = map[string]*member{}
		}
		ch.members[g.MemberID] = m
		return &m.Member, ch.tell(MemberAdded, &m.Member)
	case !again:
		m.conns++ // another tab: no news, and the first one's info stays
	case m.Info != g.MemberInfo:
		ch.version++
		m = &member{Member: Member{g.MemberID, g.MemberInfo}, conns: m.conns, since: m.since}
		ch.members[g.MemberID] = m
		return &m.Member, ch.tell(MemberUpdated, &m.Member)
	}
	return &m.Member, nil
}

// Unsubscribe leaves a channel; the session is told with the tag. Not being subscribed is fine.
func (c *Client) Unsubscribe(channel string, tag any) {
	c.inLane(channel, true, func() {
		c.drop(channel)
		c.session.Unsubscribed(channel, nil, tag)
	})
}

// drop leaves a channel, and reports whether the client was in it.
func (c *Client) drop(channel string) bool {
	m := c.subscription(channel)
	if m == nil {
		return false
	}
	was := *m
	c.ended(&was)
	c.leave(&was)
	c.hook(HookEvent{Kind: UnsubscribedFrom, Channel: channel})
	return true
}

// leave undoes join.
func (c *Client) leave(m *loop.Membership) {
	h := c.hub
	o := m.Group.Owner.(*owner)
	lo, ch := o.local, o.local.ch
	c.conn.Leave(m.Group)
	empty := m.Group.Len() == 0
	if empty {
		lo.groups = slices.DeleteFunc(lo.groups, func(g group) bool { return g.Group == m.Group })
	}
	hm := h.home(ch.key)
	hm.mu.Lock()
	defer hm.mu.Unlock()
	if empty && len(lo.groups) == 0 && lo.saved == 0 {
		ch.locals[c.branch.index()] = nil
	}
	ch.count--
	h.count(hm, ch, c.app)
	if sub, _ := m.Data.(*Sub); sub != nil && sub.member != "" {
		if mb := ch.members[sub.member]; mb != nil {
			if mb.conns--; mb.conns == 0 {
				delete(ch.members, sub.member)
				ch.version++
				h.deliver(ch, ch.tell(MemberRemoved, &mb.Member))
				h.happened(ch, HookEvent{Kind: MemberLeft, UserID: sub.member})
			}
		}
	}
	if ch.count == 0 {
		h.happened(ch, HookEvent{Kind: ChannelVacated})
		if ch.idle() {
			delete(h.home(ch.key).channels, ch.key)
		}
	}
}

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
		c.session.Done(channel, pos, nil, err, tag)
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
		c.call(lane, c.undecided(), func(ctx context.Context) (err error) {
			reply, err = fn(ctx, in)
			return err
		}, func(_ bool, err *Error) {
			c.session.Done(channel, Position{}, reply, err, tag)
		})
	})
	return true
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

// Members tells a subscriber of a presence channel its members, in its turn among their changes.
func (c *Client) Members(channel string, tell func([]*Member, *Error)) {
	c.inLane(channel, false, func() {
		if !strings.HasPrefix(channel, "presence-") {
			tell(nil, errf(BadRequest, "%q is not a presence channel", channel))
			return
		}
		none := errf(NotSubscribed, "subscribe to %q to see its members", channel)
		m := c.subscription(channel)
		if m == nil {
			tell(nil, none)
			return
		}
		ch := m.Group.Owner.(*owner).local.ch
		hm := c.hub.home(ch.key)
		hm.mu.Lock()
		defer hm.mu.Unlock()
		ms := ch.list()
		c.inPlace(channel, func() {
			if !c.Subscribed(channel) {
				tell(nil, none)
				return
			}
			tell(ms, nil)
		})
	})
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

func (c *Client) String() string { return fmt.Sprintf("client %s of app %q", c.id, c.app.ID) }
