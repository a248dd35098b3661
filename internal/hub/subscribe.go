package hub

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/loop"
)

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

// Hears reports whether the client itself is among those that a loop's group is for; its connection may have other clients.
func (c *Client) Hears(g *loop.Group) bool {
	return g.Owner.(*owner).codec == c.codec && c.conn.In(g) != nil
}

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
	c.call(r.Channel, c.hub.undecided(), func(ctx context.Context) (err error) {
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
