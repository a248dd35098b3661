package socketio

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Channels for Socket.IO clients: commands are events of the client, and so are the answers that nobody wanted as
// acknowledgements.

// request is who wants an answer.
type request struct {
	id      uint64
	wanted  bool // as an acknowledgement
	handler bool // it goes to a handler of the server's, whose reply is the answer as it is
	silent  bool // nobody asked
}

var silent = request{silent: true}

func asRequest(tag any) request {
	r, _ := tag.(request)
	return r
}

// fields are those of a command's argument.
type fields struct {
	channel, auth, channelData, since, epoch, rewind, event, data, except, mid, token jsontext.Value
}

// command runs a command; false for what is none.
func (c *client) command(name string, arg jsontext.Value, req request) bool {
	switch name {
	case "subscribe", "unsubscribe", "client event", "whisper", "publish", "presence", "auth":
	default:
		return false
	}
	var f fields
	var err error
	if _, isText := arg.Text(); isText {
		f.channel = arg
	} else {
		err = jsontext.Object(string(arg), func(key string, v jsontext.Value) {
			switch key {
			case "channel":
				f.channel = v
			case "auth":
				f.auth = v
			case "channel_data":
				f.channelData = v
			case "since":
				f.since = v
			case "epoch":
				f.epoch = v
			case "rewind":
				f.rewind = v
			case "event":
				f.event = v
			case "data":
				f.data = v
			case "except":
				f.except = v
			case "mid":
				f.mid = v
			case "token":
				f.token = v
			}
		})
	}
	channel, ok := f.channel.Text()
	if err != nil || !ok && name != "auth" {
		takes := "a channel's name, or an object with a channel"
		if name == "auth" {
			takes = "an object with a token"
		}
		c.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: fmt.Sprintf("%s takes %s: %.60s", name, takes, orNull(arg))})
		return true
	}
	switch name {
	case "subscribe":
		c.subscribe(channel, &f, req)
	case "unsubscribe":
		c.Client.Unsubscribe(channel, req)
	case "client event", "whisper":
		event, _ := f.event.Text()
		if !strings.HasPrefix(event, "client-") {
			event = "client-" + event
		}
		c.Whisper(channel, hub.Event{Name: event, Data: orNull(f.data)}, req)
	case "publish":
		event, _ := f.event.Text()
		ev := &hub.Event{Name: event, Data: orNull(f.data)}
		if err := envelope.Metadata(ev, f.mid, f.except, strings.Clone); err != nil {
			c.fail(req, channel, err)
			return true
		}
		c.Publish(channel, ev, req)
	case "presence":
		c.Members(channel, func(ms []*hub.Member, err *hub.Error) {
			switch {
			case err != nil:
				c.fail(req, channel, err)
			case req.wanted:
				c.answer(req, channel, func(b []byte) []byte { return envelope.AppendPresence(append(b, ','), ms) })
			default:
				c.sayMembers(channel, ms)
			}
		})
	case "auth":
		c.authenticate(&f, req)
	}
	return true
}

func (c *client) subscribe(channel string, f *fields, req request) {
	r := hub.Subscribe{Channel: channel, ChannelData: f.channelData.JSON(), Tag: req}
	var isText bool
	if r.Auth, isText = f.auth.Text(); !isText && strings.HasPrefix(string(f.auth), "{") { // laravel-echo
		c.form(true)
		r.Auth = bearer(f.auth)
	} else {
		c.form(false)
	}
	if err := envelope.From(&r, f.since, f.epoch, f.rewind); err != nil {
		c.Refused(channel, err, req)
		return
	}
	c.Client.Subscribe(r)
}

// form settles the form of the client's events, at its first subscription.
func (c *client) form(echo bool) {
	if c.flags&formed != 0 {
		return
	}
	c.flags |= formed
	if echo == c.codec.echo {
		return
	}
	form := codec{nsp: c.codec.nsp, eio3: c.codec.eio3, rec: c.codec.rec, echo: echo}
	c.codec = c.e.room.codecOf(form)
	c.Recode(c.codec.wire())
}

// bearer is the token among the headers that laravel-echo sends; tokens that are no JWT say nothing to us.
func bearer(auth jsontext.Value) (token string) {
	jsontext.Object(string(auth), func(key string, v jsontext.Value) {
		if key != "headers" || !strings.HasPrefix(string(v), "{") {
			return
		}
		jsontext.Object(string(v), func(key string, v jsontext.Value) {
			if text, ok := v.Text(); ok && strings.EqualFold(key, "Authorization") {
				if t, ok := strings.CutPrefix(text, "Bearer "); ok && strings.Count(t, ".") == 2 {
					token = t
				}
			}
		})
	})
	return token
}

func (c *client) authenticate(f *fields, req request) {
	token, _ := f.token.Text()
	if token == "" || c.e.room.cfg.Authenticate == nil {
		c.fail(req, "", &hub.Error{Code: hub.BadRequest, Message: "auth needs a token, and a server that takes them"})
		return
	}
	c.Authenticate(c.e.room.whose(token), func(u *hub.User, err *hub.Error) {
		if err != nil {
			c.fail(req, "", err)
			return
		}
		if c.prog != nil {
			c.prog.socket.user.Store(u)
		}
		c.ack(req, func(b []byte) []byte {
			b = append(b, `{"ok":true,"user_id":`...)
			b = jsontext.AppendString(b, u.ID)
			return append(b, '}')
		})
		c.hearUser()
		c.e.schedule()
	})
}

// ack answers what wants an answer, with one argument.
func (c *client) ack(req request, arg func([]byte) []byte) {
	if req.wanted {
		c.Send(c.codec.appendAck(nil, req.id, Args{JSON: string(append(arg([]byte{'['}), ']'))}))
	}
}

// answer acknowledges a command; more appends further fields, each behind a comma.
func (c *client) answer(req request, channel string, more func([]byte) []byte) {
	c.ack(req, func(b []byte) []byte {
		b = append(b, `{"ok":true,"channel":`...)
		b = jsontext.AppendString(b, channel)
		if more != nil {
			b = more(b)
		}
		return append(b, '}')
	})
}

// appendError appends code and status, as in what a refused CONNECT has for data.
func appendError(b []byte, err *hub.Error) []byte {
	r := reasons[err.Code]
	b = append(b, `{"code":`...)
	b = strconv.AppendInt(b, int64(r.code), 10)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	return append(b, '}')
}

// appendFailure appends the fields that say what went wrong, each but the first behind a comma.
func (c *client) appendFailure(b []byte, channel string, err *hub.Error) []byte {
	r := reasons[err.Code]
	if channel != "" {
		b = append(b, `"channel":`...)
		b = jsontext.AppendString(b, channel)
		b = append(b, ',')
	}
	b = append(b, `"code":`...)
	b = strconv.AppendInt(b, int64(r.code), 10)
	b = append(b, `,"message":`...)
	b = jsontext.AppendString(b, err.Message)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	if err.RetryAfter > 0 {
		b = append(b, `,"retryAfter":`...)
		b = strconv.AppendInt(b, c.e.now()+err.RetryAfter, 10)
	}
	return b
}

// fail answers what did not work.
func (c *client) fail(req request, channel string, err *hub.Error) {
	c.failed(req, "channel_error", channel, err)
}

func (c *client) failed(req request, event, channel string, err *hub.Error) {
	if req.wanted {
		c.ack(req, func(b []byte) []byte {
			return append(c.appendFailure(append(b, `{"ok":false,`...), channel, err), '}')
		})
		return
	}
	c.say(event, func(b []byte) []byte { return append(c.appendFailure(append(b, '{'), channel, err), '}') })
}

// Subscribed implements hub.Session.
func (c *client) Subscribed(o *hub.Subscribed) {
	req := asRequest(o.Tag)
	if req.silent {
		return
	}
	state := func(b []byte) []byte {
		if o.Me == nil && !o.History {
			return b
		}
		return envelope.AppendState(append(b, ','), o)
	}
	switch {
	case req.wanted:
		c.answer(req, o.Channel, state)
	case !c.codec.echo:
		c.say("subscription_succeeded", func(b []byte) []byte {
			b = append(b, `{"channel":`...)
			b = jsontext.AppendString(b, o.Channel)
			return append(state(b), '}')
		})
	}
	if c.codec.echo && o.Me != nil {
		c.sayMembers(o.Channel, o.Members)
	}
	for _, d := range o.Replay {
		c.replay(d)
	}
	if o.Cached != nil {
		c.replay(o.Cached)
	}
	c.e.schedule() // the grant may lapse before the next heartbeat
}

// replay sends a kept message again.
func (c *client) replay(d *hub.Delivery) {
	unit := ws.AppendText(nil, len(d.Event.Data)+200, func(b []byte) []byte { return c.codec.appendDelivery(b, d, true, c.codec.rec) })
	if c.codec.rec {
		recCodec{c.codec}.Stamp(unit, c.e.socket.Loop().Index(), c.Replayed(d))
	}
	c.Send(unit)
}

// sayMembers tells who is in a presence channel.
func (c *client) sayMembers(channel string, ms []*hub.Member) {
	if !c.codec.echo {
		c.say("presence", func(b []byte) []byte {
			b = append(b, `{"channel":`...)
			b = jsontext.AppendString(b, channel)
			b = append(b, ',')
			return append(envelope.AppendPresence(b, ms), '}')
		})
		return
	}
	c.say("presence:subscribed", func(b []byte) []byte {
		b = jsontext.AppendString(b, channel)
		b = append(b, ",["...)
		for i, m := range ms {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendEchoMember(b, m)
		}
		return append(b, ']')
	})
}

// Refused implements hub.Session.
func (c *client) Refused(channel string, err *hub.Error, tag any) {
	req := asRequest(tag)
	switch {
	case req.silent:
	case c.codec.echo:
		c.echoRefused(channel, err)
		if req.wanted {
			c.fail(req, channel, err)
		}
	default:
		c.failed(req, "subscription_error", channel, err)
	}
}

func (c *client) echoRefused(channel string, err *hub.Error) {
	c.say("subscription_error", func(b []byte) []byte {
		b = jsontext.AppendString(b, channel)
		b = append(b, ',')
		return strconv.AppendInt(b, int64(reasons[err.Code].status), 10)
	})
}

// Unsubscribed implements hub.Session.
func (c *client) Unsubscribed(channel string, err *hub.Error, tag any) {
	switch {
	case err == nil:
		c.answer(asRequest(tag), channel, nil)
	case c.codec.echo:
		c.echoRefused(channel, err)
	default:
		c.say("unsubscribed", func(b []byte) []byte {
			b = append(b, `{"channel":`...)
			b = jsontext.AppendString(b, channel)
			b = append(b, `,"reason":"`...)
			b = append(b, reasons[err.Code].word...)
			b = append(b, `","message":`...)
			b = jsontext.AppendString(b, err.Message)
			return append(b, '}')
		})
	}
}

// Done implements hub.Session.
func (c *client) Done(channel string, pos hub.Position, reply []byte, err *hub.Error, tag any) {
	req := asRequest(tag)
	switch {
	case err != nil:
		c.fail(req, channel, err)
	case req.handler:
		c.ack(req, func(b []byte) []byte {
			if len(reply) > 0 && jsontext.Valid(string(reply)) {
				return append(b, reply...)
			}
			return b
		})
	default:
		c.answer(req, channel, func(b []byte) []byte {
			if pos.Seq > 0 {
				b = envelope.AppendPosition(append(b, ','), pos)
			}
			return b
		})
	}
}

// query reads the query of a namespace.
func query(s string) url.Values {
	v, _ := url.ParseQuery(s)
	return v
}
