// Package bun speaks plain JSON over WebSocket: the seed's "bun" driver, its successor, and one superset of both that
// needs no library in the browser. docs/protocol-ws.md describes it.
package bun

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Subprotocol may be offered by clients; its absence means nothing.
const Subprotocol = "realtime.v1.json"

const (
	batchMax     = 50
	expectWarned = 30 * time.Second // before a token expires, the client is told
)

// Room holds what all sessions of this protocol share.
type Room struct {
	Hub    *hub.Hub
	Socket *socket.Config
	// ActivityTimeout is what clients are told: silence after which they may suspect the connection.
	ActivityTimeout time.Duration
	// Authenticate turns a token into an identity, for the auth command. Nil: there are no tokens.
	Authenticate func(ctx context.Context, token string) (*hub.User, error)
	Logger       *slog.Logger

	warned sync.Map // apps whose old clients were reported
}

// session is one connection. Every field is owned by the loop.
type session struct {
	socket socket.Socket
	client hub.Client
	room   *Room
	end    socket.Releaser // nil: nobody counts connections
	flags  uint8
}

const (
	oldDialect uint8 = 1 << iota // commands in "type": expects no answers it did not ask for
	spoke                        // the dialect is known
	toldExpiry                   // token_expiring was sent for the present token
)

// request is what an answer must carry back, and how it is asked for.
type request struct {
	id, messageID field // raw JSON
	ack           bool  // an answer was asked for
	command       string
	batch         *batch
	silent        bool // the server's own subscription
}

// batch collects the outcomes of one batch command.
type batch struct {
	req       *request
	name      string
	left      int
	succeeded []string
	failed    []failure
}

type failure struct{ channel, reason string }

// Conn is a session's place for a connection: it must take a handshake's place, or be attached, before Start.
type Conn struct{ s session }

// New makes a place for a session. It is large on purpose: one allocation holds all a client needs.
func (r *Room) New() *Conn { return &Conn{session{room: r}} }

// Loop returns the connection to attach, and its handler.
func (c *Conn) Loop() (*loop.Conn, loop.Handler) { return &c.s.socket.Conn, &c.s.socket }

// Start begins the session: on the loop, after the handshake's answer was sent. u is nil for anonymous clients; end,
// which may be nil, is told when the connection has ended.
func (c *Conn) Start(app *hub.App, u *hub.User, deflate bool, end socket.Releaser) {
	s := &c.s
	s.end = end
	s.room.Hub.Add(&s.client, &s.socket.Conn, s, Codec{Deflate: deflate}, app)
	s.reply(func(b []byte) []byte {
		b = append(b, `{"event":"connection_established","data":{"socket_id":"`...)
		b = append(b, s.client.ID().String()...)
		b = append(b, `","activity_timeout":`...)
		b = strconv.AppendInt(b, int64(s.room.ActivityTimeout/time.Second), 10)
		return append(b, `,"server":"realtime","recovery":true}}`...)
	})
	if u != nil {
		if err := s.client.Identify(u); err != nil {
			s.Stop(err)
			return
		}
		s.hearUser(u)
	}
	s.socket.Start(s.room.Socket, s, deflate)
}

// Stop ends the session for a reason; on the loop, after Start.
func (c *Conn) Stop(err *hub.Error) { c.s.Stop(err) }

// hearUser subscribes to the user's own channel, so that what is sent to the user arrives without being asked for.
func (s *session) hearUser(u *hub.User) {
	if u.ID == "" {
		return
	}
	name := channelname.UserPrefix + u.ID
	if !s.client.Subscribed(name) {
		s.client.Subscribe(hub.Subscribe{Channel: name, Tag: &request{silent: true}})
	}
}

func (s *session) reply(payload func([]byte) []byte) {
	s.socket.Send(ws.AppendText(make([]byte, 0, 256), 100, payload))
}

// Text implements socket.Room: one frame of the client.
func (s *session) Text(payload []byte) {
	if text := string(payload); text == "__stacks_ping__" || text == "__stacks_pong__" {
		return // the successor's heartbeat; it has counted as life already
	} else {
		s.command(text)
	}
}

// Binary implements socket.Room.
func (s *session) Binary([]byte) {
	s.fail(nil, "", &hub.Error{Code: hub.BadRequest, Message: "binary frames mean nothing here: send JSON in text frames"})
}

func (s *session) command(text string) {
	c, err := decode(text)
	if err != nil {
		s.fail(nil, "", &hub.Error{Code: hub.BadRequest, Message: "the frame is not a JSON object: " + err.Error()})
		return
	}
	name, ok := c.event.Text()
	if !ok {
		if name, ok = c.typ.Text(); ok && s.flags&spoke == 0 {
			s.flags |= oldDialect
		}
	}
	s.flags |= spoke
	var req *request
	if c.id.There() || c.messageID.There() || c.ack == "true" {
		req = &request{id: c.id, messageID: c.messageID, ack: true, command: name}
		if err := req.check(); err != nil {
			s.fail(nil, "", err)
			return
		}
	}
	channel, isText := c.channel.Text()
	if !isText && c.channel.There() {
		s.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: fmt.Sprintf("channel is %.40s; it must be a string", c.channel)})
		return
	}
	if !ok || name == "" {
		s.unknown(req, channel, "", c)
		return
	}
	switch name {
	case "subscribe":
		s.subscribe(c, channel, req)
	case "unsubscribe":
		s.client.Unsubscribe(channel, req)
	case "publish":
		s.publish(c, channel, req)
	case "batch_subscribe", "batch_unsubscribe":
		s.batch(name, c, req)
	case "ping":
		s.answer(req, `{"event":"pong"`, nil)
	case "heartbeat", "presence_heartbeat":
	case "presence":
		s.members(channel, req)
	case "auth":
		s.authenticate(c, req)
	default:
		if strings.HasPrefix(name, "client-") {
			s.client.Whisper(channel, hub.Event{Name: name, Data: c.payload()}, req)
			return
		}
		s.unknown(req, channel, name, c)
	}
}

// check refuses what could not be given back.
func (r *request) check() *hub.Error {
	for _, f := range [2]field{r.id, r.messageID} {
		if f.There() && (len(f) > 128 || strings.IndexByte("{[tf", f[0]) >= 0) {
			return &hub.Error{Code: hub.BadRequest, Message: "id and messageId are numbers or strings of at most 126 bytes"}
		}
	}
	return nil
}

// payload is the event's data; one that is missing is null.
func (c *command) payload() string {
	if c.data == "" {
		return "null"
	}
	return c.own(string(c.data))
}

// own returns s, a piece of the frame, so that who keeps it does not keep a frame that is much longer.
func (c *command) own(s string) string {
	if c.size > 2*len(c.data)+1024 {
		return strings.Clone(s)
	}
	return s
}

func (s *session) subscribe(c command, channel string, req *request) {
	r := hub.Subscribe{Channel: channel, ChannelData: c.channelData.JSON(), Tag: req}
	r.Auth, _ = c.auth.Text()
	if err := envelope.From(&r, c.since, c.epoch, c.rewind); err != nil {
		s.Refused(channel, err, req)
		return
	}
	s.client.Subscribe(r)
}

func (s *session) publish(c command, channel string, req *request) {
	name, _ := c.name.Text()
	ev := &hub.Event{Name: c.own(name), Data: c.payload()}
	if err := envelope.Metadata(ev, c.mid, c.except, c.own); err != nil {
		s.Done(channel, hub.Position{}, nil, err, req)
		return
	}
	s.client.Publish(channel, ev, req)
}

func (s *session) batch(name string, c command, req *request) {
	channels, err := c.channels.List(batchMax)
	if err != nil {
		s.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: fmt.Sprintf("channels: %v", err)}, "BatchError")
		return
	}
	data := map[string]string{}
	if c.dataByOne.There() {
		if err := jsontext.Object(string(c.dataByOne), func(k string, v field) { data[k] = v.JSON() }); err != nil {
			s.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: fmt.Sprintf("channelData: %v", err)}, "BatchError")
			return
		}
	}
	b := &batch{req: req, name: name, left: len(channels)}
	if b.left == 0 {
		s.batchDone(b)
	}
	for _, ch := range channels {
		r := &request{command: name, batch: b}
		if name == "batch_subscribe" {
			s.client.Subscribe(hub.Subscribe{Channel: ch, ChannelData: data[ch], Tag: r})
		} else {
			s.client.Unsubscribe(ch, r)
		}
	}
}

// one counts an outcome in its batch.
func (s *session) one(b *batch, channel string, err *hub.Error) {
	if err == nil {
		b.succeeded = append(b.succeeded, channel)
	} else {
		b.failed = append(b.failed, failure{channel, err.Message})
	}
	if b.left--; b.left == 0 {
		s.batchDone(b)
	}
}

func (s *session) batchDone(b *batch) {
	s.answer(b.req, `{"event":"`+b.name+`_result"`, func(d []byte) []byte {
		d = append(d, `,"data":{`...)
		if b.req != nil && b.req.messageID.There() { // where the successor's own client looks for it
			d = append(d, `"messageId":`...)
			d = append(d, b.req.messageID...)
			d = append(d, ',')
		}
		d = append(d, `"succeeded":[`...)
		for i, ch := range b.succeeded {
			d = comma(d, i)
			d = jsontext.AppendString(d, ch)
		}
		d = append(d, `],"failed":{`...)
		for i, f := range b.failed {
			d = comma(d, i)
			d = jsontext.AppendString(d, f.channel)
			d = append(d, ':')
			d = jsontext.AppendString(d, f.reason)
		}
		return append(d, "}}"...)
	})
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

func (s *session) members(channel string, req *request) {
	s.client.Members(channel, func(ms []*hub.Member, err *hub.Error) {
		if err != nil {
			s.fail(req, channel, err)
			return
		}
		s.answer(req, `{"event":"presence"`, func(b []byte) []byte {
			b = append(b, `,"channel":`...)
			b = jsontext.AppendString(b, channel)
			b = append(b, `,"data":{`...)
			b = envelope.AppendPresence(b, ms)
			return append(b, '}')
		})
	})
}

func (s *session) authenticate(c command, req *request) {
	token, ok := c.token.Text()
	if !ok || token == "" {
		s.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: "auth needs a token"})
		return
	}
	if s.room.Authenticate == nil {
		s.fail(req, "", &hub.Error{Code: hub.Forbidden, Message: "this server takes no tokens"})
		return
	}
	s.client.Authenticate(func(ctx context.Context) (*hub.User, error) { return s.room.Authenticate(ctx, token) }, func(u *hub.User, err *hub.Error) {
		if err != nil {
			s.fail(req, "", err)
			return
		}
		s.flags &^= toldExpiry
		s.answer(req, `{"event":"auth_ok"`, func(b []byte) []byte {
			b = append(b, `,"data":{"user_id":`...)
			b = jsontext.AppendString(b, u.ID)
			if !u.Expires.IsZero() {
				b = append(b, `,"expires_at":`...)
				b = strconv.AppendInt(b, u.Expires.UnixMilli(), 10)
			}
			return append(b, '}')
		})
		s.hearUser(u)
		s.socket.Schedule()
	})
}

// unknown is for events that are not commands: the application's handlers have them, or nobody.
func (s *session) unknown(req *request, channel, name string, c command) {
	switch {
	case name != "" && s.client.Deliver(channel, name, c.payload(), req):
	case strings.HasPrefix(name, "pusher:"):
		s.fail(req, channel, &hub.Error{Code: hub.Unknown, Message: "this is the plain JSON endpoint; the Pusher protocol is served at /app/{key}"}, "NotSupported")
	case req != nil:
		s.fail(req, channel, &hub.Error{Code: hub.Unknown, Message: fmt.Sprintf("unknown command %.100q; commands are subscribe, unsubscribe, batch_subscribe, batch_unsubscribe, publish, presence, ping, auth and client-…", name)})
	}
}

// answer sends head, what the request wants back, and tail, which may be nil; both without the closing brace.
func (s *session) answer(req *request, head string, tail func([]byte) []byte) {
	s.reply(func(b []byte) []byte {
		b = append(b, head...)
		if req != nil && req.id.There() {
			b = append(b, `,"id":`...)
			b = append(b, req.id...)
		}
		if req != nil && req.messageID.There() {
			b = append(b, `,"messageId":`...)
			b = append(b, req.messageID...)
		}
		if tail != nil {
			b = tail(b)
		}
		return append(b, '}')
	})
}

// fail sends an error frame; kind overrides the word for its type.
func (s *session) fail(req *request, channel string, err *hub.Error, kind ...string) {
	s.failed(req, "error", channel, err, kind...)
}

func (s *session) failed(req *request, event, channel string, err *hub.Error, kind ...string) {
	r := reasons[err.Code]
	if len(kind) > 0 {
		r.kind = kind[0]
	}
	s.answer(req, `{"event":"`+event+`"`, func(b []byte) []byte {
		if channel != "" {
			b = append(b, `,"channel":`...)
			b = jsontext.AppendString(b, channel)
		}
		b = append(b, `,"data":{"code":`...)
		b = strconv.AppendInt(b, int64(r.code), 10)
		b = append(b, `,"type":"`...)
		b = append(b, r.kind...)
		b = append(b, `","error":`...)
		b = jsontext.AppendString(b, err.Message)
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(r.status), 10)
		if err.RetryAfter > 0 {
			b = append(b, `,"retryAfter":`...)
			b = strconv.AppendInt(b, s.socket.Loop().Now().UnixMilli()+err.RetryAfter, 10)
		}
		return append(b, '}')
	})
}

func asRequest(tag any) *request {
	r, _ := tag.(*request)
	return r
}

// Subscribed implements hub.Session.
func (s *session) Subscribed(o *hub.Subscribed) {
	req := asRequest(o.Tag)
	if req != nil && req.silent {
		return
	}
	s.answer(req, `{"event":"subscription_succeeded"`, func(b []byte) []byte {
		b = append(b, `,"channel":`...)
		b = jsontext.AppendString(b, o.Channel)
		if o.Me == nil && !o.History {
			return b
		}
		b = append(b, `,"data":{`...)
		b = envelope.AppendState(b, o)
		return append(b, '}')
	})
	for _, d := range o.Replay {
		s.reply(func(b []byte) []byte { return envelope.AppendDelivery(b, d, true) })
	}
	if o.Cached != nil {
		s.reply(func(b []byte) []byte { return envelope.AppendDelivery(b, o.Cached, true) })
	}
	if req != nil && req.batch != nil {
		s.one(req.batch, o.Channel, nil)
	}
	s.socket.Schedule() // the grant may lapse before the next heartbeat
}

// Refused implements hub.Session.
func (s *session) Refused(channel string, err *hub.Error, tag any) {
	req := asRequest(tag)
	if req != nil && req.silent {
		return
	}
	if req != nil && req.batch != nil {
		s.one(req.batch, channel, err)
		return
	}
	if s.flags&oldDialect != 0 {
		if _, again := s.room.warned.LoadOrStore(s.client.App().ID, true); !again {
			s.room.Logger.Warn("a client of the oldest dialect asked for a channel without a grant; the original let everybody in, this server does not",
				"app", s.client.App().ID, "channel", channel, "reason", err.Message)
		}
	}
	s.failed(req, "subscription_error", channel, err)
}

// Unsubscribed implements hub.Session.
func (s *session) Unsubscribed(channel string, err *hub.Error, tag any) {
	req := asRequest(tag)
	switch {
	case req != nil && req.batch != nil:
		s.one(req.batch, channel, nil)
	case err == nil && req == nil: // nobody asked to be told
	default:
		s.answer(req, `{"event":"unsubscribed"`, func(b []byte) []byte {
			b = append(b, `,"channel":`...)
			b = jsontext.AppendString(b, channel)
			if err != nil {
				b = append(b, `,"data":{"reason":"`...)
				b = append(b, reasons[err.Code].word...)
				b = append(b, `","error":`...)
				b = jsontext.AppendString(b, err.Message)
				b = append(b, '}')
			}
			return b
		})
	}
}

// Done implements hub.Session.
func (s *session) Done(channel string, pos hub.Position, reply []byte, err *hub.Error, tag any) {
	req := asRequest(tag)
	switch {
	case err != nil:
		s.fail(req, channel, err)
	case req != nil:
		s.answer(req, `{"event":"ack"`, func(b []byte) []byte {
			switch {
			case len(reply) > 0 && json.Valid(reply):
				b = append(b, `,"data":`...)
				b = append(b, reply...)
			case pos.Seq > 0:
				b = append(b, `,"data":{`...)
				b = envelope.AppendPosition(b, pos)
				b = append(b, '}')
			}
			return b
		})
	}
}

// Stop implements hub.Session.
func (s *session) Stop(err *hub.Error) {
	s.fail(nil, "", err)
	s.socket.Close(reasons[err.Code].close, err.Message, err)
}

// Addr implements hub.Session.
func (s *session) Addr() string { return s.socket.RemoteAddr() }

// Pause implements hub.Session.
func (s *session) Pause() { s.socket.Pause() }

// Resume implements hub.Session.
func (s *session) Resume() { s.socket.Resume() }

// Held implements socket.Room.
func (s *session) Held() bool { return s.client.Held() }

// Expire implements socket.Room.
func (s *session) Expire(now time.Time) time.Time {
	if u := s.client.User(); u != nil && !u.Expires.IsZero() && s.flags&toldExpiry == 0 {
		if left := u.Expires.Sub(now); left > 0 && left <= expectWarned {
			s.flags |= toldExpiry
			s.reply(func(b []byte) []byte {
				b = append(b, `{"event":"token_expiring","data":{"in":`...)
				b = strconv.AppendInt(b, int64((left+time.Second-1)/time.Second), 10)
				return append(b, "}}"...)
			})
		}
	}
	next := s.client.Expire(now)
	if u := s.client.User(); u != nil && !u.Expires.IsZero() && s.flags&toldExpiry == 0 {
		if warn := u.Expires.Add(-expectWarned); next.IsZero() || warn.Before(next) {
			next = warn
		}
	}
	return next
}

// Drained implements socket.Room: the client learns what its slowness cost.
func (s *session) Drained(dropped []loop.Dropped) {
	for _, d := range dropped {
		s.answer(nil, `{"event":"messages_dropped"`, func(b []byte) []byte {
			b = append(b, `,"channel":`...)
			b = jsontext.AppendString(b, hub.ChannelOf(d.Group))
			b = append(b, `,"data":{"count":`...)
			b = strconv.AppendInt(b, int64(d.N), 10)
			return append(b, '}')
		})
	}
}

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
	s.client.Remove(socket.Reason(reason))
	if s.end != nil {
		s.end.Release()
	}
}
