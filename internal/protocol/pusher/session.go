// Package pusher speaks version 7 of the Pusher Channels protocol, as pusher-js, laravel-echo and the native clients
// do: over WebSocket, and over the HTTP requests that pusher-js falls back to where there is none. See XHR.
package pusher

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Room holds what all sessions of this protocol share.
type Room struct {
	Hub    *hub.Hub
	Socket *socket.Config // of WebSockets
	XHR    *socket.Config // of sessions over requests: a heartbeat keeps proxies from ending a response
	// ActivityTimeout is what clients are told: silence after which they ping. More than 0, or they give up.
	ActivityTimeout time.Duration
	// Namespace stands before the names of the program's own events; see Codec.
	Namespace string
	// SignIn verifies a pusher:signin that is signed; it does not wait, and runs on the loop.
	SignIn func(app *hub.App, socketID, auth, userData string) (u *hub.User, watchlist []string, err *hub.Error)
	// Authenticate turns a token into an identity, for a pusher:signin that brings one.
	Authenticate func(ctx context.Context, token string) (*hub.User, error)
}

// session is one connection. Every field is owned by the loop.
type session struct {
	socket socket.Socket
	client hub.Client
	room   *Room
	end    socket.Releaser // nil: nobody counts connections
	since  uint32          // Unix seconds of the beginning, where a connection must become authorized
	flags  uint8
}

// maxWatched is how many users one connection may watch. (Pusher Channels protocol, error code 4302.)
const maxWatched = 100

const (
	dotnet     uint8 = 1 << iota // listens for pusher_internal:subscription_error
	authorized                   // signed in, or subscribed to what needs a grant
	stranger                     // never became a client: refused at the door
)

// Conn is a session's place for a connection: it must take a handshake's place, or be attached, before Start.
type Conn struct{ s session }

// New makes a place for a session. It is large on purpose: one allocation holds all a client needs.
func (r *Room) New() *Conn { return &Conn{session{room: r}} }

// Loop returns the connection to attach, and its handler.
func (c *Conn) Loop() (*loop.Conn, loop.Handler) { return &c.s.socket.Conn, &c.s.socket }

// Library tells the session which client library it talks to, from the client parameter of the URL.
func (c *Conn) Library(name string) {
	if strings.Contains(strings.ToLower(name), "dotnet") {
		c.s.flags |= dotnet
	}
}

// Start begins the session: on the loop, after the handshake's answer was sent. u is nil for anonymous clients; end,
// which may be nil, is told when the connection has ended.
func (c *Conn) Start(app *hub.App, u *hub.User, deflate bool, end socket.Releaser) {
	c.s.start(&c.s, c.s.room.Socket, app, u, deflate, end)
}

// start begins the session. The socket calls as: s, or what stands for it.
func (s *session) start(as socket.Room, cfg *socket.Config, app *hub.App, u *hub.User, deflate bool, end socket.Releaser) {
	s.end = end
	s.room.Hub.Add(&s.client, &s.socket.Conn, s, s.codec(deflate), app)
	s.say("pusher:connection_established", "", func(b []byte) []byte {
		b = append(b, `{"socket_id":"`...)
		b = append(b, s.client.ID().String()...)
		b = append(b, `","activity_timeout":`...)
		b = strconv.AppendInt(b, max(1, int64(s.room.ActivityTimeout/time.Second)), 10)
		return append(b, '}')
	})
	if u != nil {
		if err := s.client.Identify(u); err != nil {
			s.Stop(err)
			return
		}
		s.flags |= authorized
	}
	s.since = uint32(s.socket.Loop().Now().Unix())
	s.socket.Start(cfg, as, deflate)
}

// Stop ends the session for a reason; on the loop, after Start.
func (c *Conn) Stop(err *hub.Error) { c.s.Stop(err) }

func (s *session) codec(deflate bool) Codec {
	return Codec{Deflate: deflate, Namespace: s.room.Namespace}
}

// CheckVersion says why a protocol version is not one that is spoken here: 5 to 7, of which the later ones only add.
func CheckVersion(v string) *hub.Error {
	switch {
	case v == "":
		return &hub.Error{Code: hub.NoVersion, Message: "no protocol version: this server wants protocol=7"}
	case strings.Trim(v, "0123456789") != "":
		return &hub.Error{Code: hub.BadVersion, Message: fmt.Sprintf("protocol version %.20q is no number", v)}
	case v != "5" && v != "6" && v != "7":
		return &hub.Error{Code: hub.UnsupportedVersion, Message: fmt.Sprintf("protocol version %.20s is not supported: this server speaks 5 to 7", v)}
	}
	return nil
}

// Refuse begins a session that ends at once. The handshake succeeds, because a browser tells a page nothing about one
// that fails, and the client could not know whether to come back.
func (c *Conn) Refuse(err *hub.Error, end socket.Releaser) {
	c.s.refuse(&c.s, c.s.room.Socket, err, end)
}

func (s *session) refuse(as socket.Room, cfg *socket.Config, err *hub.Error, end socket.Releaser) {
	s.end = end
	s.flags |= stranger
	s.socket.Start(cfg, as, false)
	s.Stop(err)
}

// say sends an event of the protocol.
func (s *session) say(name, channel string, data func([]byte) []byte) {
	s.send(func(b []byte) []byte { return appendEvent(b, name, channel, data) })
}

func (s *session) send(payload func([]byte) []byte) {
	s.socket.Send(ws.AppendText(make([]byte, 0, 256), 100, payload))
}

// command is a client's frame, and what stands in its data.
type command struct {
	event, channel, data, auth, channelData, userData jsontext.Value
}

func decode(text string) (c command, err error) {
	err = jsontext.Object(text, func(key string, v jsontext.Value) {
		switch key {
		case "event":
			c.event = v
		case "channel":
			c.channel = v
		case "data":
			c.data = v
		}
	})
	return c, err
}

// fields reads the object in data, which some clients encode once more as a string.
func (c *command) fields() error {
	c.channel = ""
	return jsontext.Object(c.data.JSON(), func(key string, v jsontext.Value) {
		switch key {
		case "channel":
			c.channel = v
		case "auth":
			c.auth = v
		case "channel_data":
			c.channelData = v
		case "user_data":
			c.userData = v
		}
	})
}

// Text implements socket.Room: one frame of the client.
func (s *session) Text(payload []byte) {
	c, err := decode(string(payload))
	name, ok := c.event.Text()
	if err == nil && !ok {
		err = fmt.Errorf("it has no event")
	}
	if err != nil {
		s.fail("", &hub.Error{Code: hub.Violation, Message: "Invalid message format: " + err.Error()})
		return
	}
	switch name {
	case "pusher:ping":
		s.say("pusher:pong", "", empty)
	case "pusher:pong":
	case "pusher:subscribe", "pusher:unsubscribe", "pusher:signin":
		if err := c.fields(); err != nil {
			s.fail("", &hub.Error{Code: hub.Violation, Message: "Invalid message format: the data of " + name + ": " + err.Error()})
			return
		}
		channel, _ := c.channel.Text()
		switch name {
		case "pusher:subscribe":
			r := hub.Subscribe{Channel: channel}
			r.Auth, _ = c.auth.Text()
			r.ChannelData = c.channelData.JSON()
			s.client.Subscribe(r)
		case "pusher:unsubscribe":
			s.client.Unsubscribe(channel, nil)
		case "pusher:signin":
			s.signIn(&c)
		}
	default:
		s.event(name, &c)
	}
}

// event is one that the application's clients made up.
func (s *session) event(name string, c *command) {
	channel, _ := c.channel.Text()
	data, isText := publishedData(c.data)
	switch {
	case strings.HasPrefix(name, "client-"):
		s.client.Whisper(channel, hub.Event{Name: name, Data: data, Text: isText}, nil)
	case !strings.HasPrefix(name, "pusher:") && !strings.HasPrefix(name, "pusher_internal:") && s.client.Deliver(channel, name, data, nil):
	default:
		s.fail(channel, &hub.Error{Code: hub.Unknown, Message: fmt.Sprintf("Invalid message format: no event %.100q is known; clients' own events begin with client-", name)})
	}
}

// publishedData turns what a client sent as data, a string with JSON in it or any JSON, into the hub's form.
func publishedData(v jsontext.Value) (data string, isText bool) {
	if v == "" {
		return "null", false
	}
	text, ok := v.Text()
	if !ok {
		return string(v), false
	}
	if jsontext.Valid(text) {
		return text, false
	}
	return string(v), true
}

// Binary implements socket.Room.
func (s *session) Binary([]byte) {
	s.fail("", &hub.Error{Code: hub.Violation, Message: "Invalid message format: binary frames mean nothing here"})
}

func (s *session) signIn(c *command) {
	auth, _ := c.auth.Text()
	userData, _ := c.userData.Text()
	done := func(userData string, watchlist []string, err *hub.Error) {
		if err != nil {
			no := &hub.Error{Code: hub.Unauthorized, Message: err.Message}
			if err.Code == hub.Unauthorized && s.flags&authorized == 0 && s.client.App().Settings().AuthorizedWithin > 0 {
				s.Stop(no) // it is not what this app wants, and there is no point in waiting
				return
			}
			s.fail("", no)
			return
		}
		s.flags |= authorized
		s.say("pusher:signin_success", "", func(b []byte) []byte {
			b = append(b, `{"user_data":`...)
			b = jsontext.AppendString(b, userData)
			return append(b, '}')
		})
		s.watch(watchlist)
		s.socket.Schedule() // the identity may lapse before the next heartbeat
	}
	if !strings.Contains(auth, ":") && strings.Count(auth, ".") == 2 { // a token, which names the user by itself
		s.client.Authenticate(func(ctx context.Context) (*hub.User, error) { return s.room.Authenticate(ctx, auth) }, func(u *hub.User, err *hub.Error) {
			if err != nil {
				done("", nil, err)
				return
			}
			b := append([]byte(nil), `{"id":`...)
			b = jsontext.AppendString(b, u.ID)
			if u.Info != "" {
				b = append(b, `,"user_info":`...)
				b = append(b, u.Info...)
			}
			done(string(append(b, '}')), nil, nil)
		})
		return
	}
	u, watchlist, err := s.room.SignIn(s.client.App(), s.client.ID().String(), auth, userData)
	if err == nil {
		err = s.client.Identify(u)
	}
	done(userData, watchlist, err)
}

// watch tells the client which of the users it names are online, now and whenever that changes.
func (s *session) watch(users []string) {
	if len(users) == 0 || !s.client.App().Settings().Watchlists {
		return
	}
	if len(users) > maxWatched {
		s.error(4302, "", fmt.Sprintf("the watchlist names %d users: the first %d are watched", len(users), maxWatched))
		users = users[:maxWatched]
	}
	online, offline := s.client.Watch(users, func(user string, online bool) {
		if online {
			s.watched([]string{user}, nil)
		} else {
			s.watched(nil, []string{user})
		}
	})
	s.watched(online, offline)
}

func (s *session) watched(online, offline []string) {
	s.say("pusher_internal:watchlist_events", "", func(b []byte) []byte {
		b = append(b, `{"events":[`...)
		b = appendWatched(b, "online", online)
		if len(online) > 0 && len(offline) > 0 {
			b = append(b, ',')
		}
		b = appendWatched(b, "offline", offline)
		return append(b, "]}"...)
	})
}

func appendWatched(b []byte, name string, users []string) []byte {
	if len(users) == 0 {
		return b
	}
	b = append(b, `{"name":"`...)
	b = append(b, name...)
	b = append(b, `","user_ids":[`...)
	for i, u := range users {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsontext.AppendString(b, u)
	}
	return append(b, "]}"...)
}

func (s *session) fail(channel string, err *hub.Error) {
	s.error(reasons[err.Code].code, channel, err.Message)
}

// error sends pusher:error, whose data alone is an object: the native clients read no other.
func (s *session) error(code int, channel, message string) {
	s.send(func(b []byte) []byte {
		b = append(b, `{"event":"pusher:error"`...)
		if channel != "" {
			b = append(b, `,"channel":`...)
			b = jsontext.AppendString(b, channel)
		}
		b = append(b, `,"data":{"code":`...)
		b = strconv.AppendInt(b, int64(code), 10)
		b = append(b, `,"message":`...)
		b = jsontext.AppendString(b, message)
		return append(b, "}}"...)
	})
}

// Subscribed implements hub.Session.
func (s *session) Subscribed(o *hub.Subscribed) {
	s.say("pusher_internal:subscription_succeeded", o.Channel, func(b []byte) []byte {
		if o.Me == nil {
			return empty(b)
		}
		return append(envelope.AppendMembers(append(b, '{'), o.Members, envelope.AppendInfo), '}')
	})
	if kind, _ := channelname.Split(o.Channel); kind != channelname.Public {
		s.flags |= authorized
	}
	switch {
	case o.Cached != nil:
		s.send(func(b []byte) []byte { return s.codec(false).appendDelivery(b, o.Cached) })
	case o.CacheMiss:
		s.say("pusher:cache_miss", o.Channel, empty)
	}
	s.socket.Schedule() // the grant may lapse before the next heartbeat
}

// Refused implements hub.Session.
func (s *session) Refused(channel string, err *hub.Error, _ any) { s.refused(channel, err) }

// refused tells the channel's error listeners: pusher:error alone would not reach them.
func (s *session) refused(channel string, err *hub.Error) {
	r := reasons[err.Code]
	data := func(b []byte) []byte {
		b = append(b, `{"type":"`...)
		b = append(b, r.kind...)
		b = append(b, `","error":`...)
		b = jsontext.AppendString(b, err.Message)
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(r.status), 10)
		return append(b, '}')
	}
	s.say("pusher:subscription_error", channel, data)
	if s.flags&dotnet != 0 {
		s.say("pusher_internal:subscription_error", channel, data)
	}
}

// Unsubscribed implements hub.Session. The protocol answers no request to unsubscribe; what the server takes back is
// told as an error of the subscription.
func (s *session) Unsubscribed(channel string, err *hub.Error, _ any) {
	if err != nil {
		s.refused(channel, err)
	}
}

// Done implements hub.Session.
func (s *session) Done(channel string, _ hub.Position, _ []byte, err *hub.Error, _ any) {
	if err != nil {
		s.fail(channel, err)
	}
}

// Stop implements hub.Session.
func (s *session) Stop(err *hub.Error) {
	s.fail("", err)
	s.socket.Close(reasons[err.Code].close, err.Message, err)
}

// Addr implements hub.Session.
func (s *session) Addr() string { return s.socket.RemoteAddr() }

// Pause implements hub.Session.
func (s *session) Pause() { s.socket.Pause() }

// Resume implements hub.Session.
func (s *session) Resume() { s.socket.Resume() }

// Held implements socket.Room.
func (s *session) Held() bool { return s.flags&stranger == 0 && s.client.Held() }

// Expire implements socket.Room.
func (s *session) Expire(now time.Time) time.Time {
	if s.flags&stranger != 0 {
		return time.Time{}
	}
	next := s.client.Expire(now)
	if within := s.client.App().Settings().AuthorizedWithin; within > 0 && s.flags&authorized == 0 {
		due := time.Unix(int64(s.since), 0).Add(within)
		if !due.After(now) {
			s.Stop(&hub.Error{Code: hub.Unauthorized, Message: fmt.Sprintf("this app wants connections to sign in, or to subscribe to a private or presence channel, within %v", within)})
			return time.Time{}
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// Drained implements socket.Room. The protocol has no word for what was left out; the channel's policy asked for it.
func (s *session) Drained([]loop.Dropped) {}

// Idle implements socket.Room.
func (s *session) Idle() {
	s.socket.Close(reasons[hub.Idle].close, "no sign of life", socket.ErrIdle)
}

// Slow implements socket.Room.
func (s *session) Slow() (int, string) {
	return reasons[hub.SlowConsumer].close, fmt.Sprintf("this connection reads too slowly: more than %d bytes waited for it", s.socket.Loop().MaxQueued())
}

// Closed implements socket.Room.
func (s *session) Closed(reason error) {
	if s.flags&stranger == 0 {
		s.client.Remove(socket.Reason(reason))
	}
	if s.end != nil {
		s.end.Release()
	}
}
