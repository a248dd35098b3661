package socketio

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Why connections end, in the words of Socket.IO.
var (
	errPing     = errors.New("ping timeout")
	errParse    = errors.New("parse error")
	errClose    = errors.New("transport close")
	errForced   = errors.New("forced close")
	errShutdown = errors.New("server shutting down")
	errConnect  = errors.New("no namespace was connected in time")
	errReturn   = errors.New("a client that came back was refused")
)

// Close codes of RFC 6455 section 7.4.1. Clients of this protocol do not look at them; people do.
const (
	closeNormal = 1000
	closePolicy = 1008
)

// engine is one Engine.IO session. Every field is owned by the loop.
type engine struct {
	socket socket.Socket
	room   *Room
	Peer
	end    socket.Releaser // nil: nobody counts connections
	poll   *polling        // of who began with polling; see polling.up
	part   *part           // a packet whose attachments are on their way
	more   []*client       // behind the first
	opened uint64          // among all connections; a client that comes back asks over its newest
	due    int64           // Unix milliseconds: of the next ping, or by when its pong, or of EIO 3 the client's, must be there
	by     int64           // by when a namespace must be connected, or the attachments be there; 0: neither is awaited
	sent   uint64          // the last ordinal of the journal when the ping was sent; 0: nobody was there to get it
	holds  int32           // reasons not to read
	flags  uint8
	first  client // most connections have no other
}

const (
	eio3   uint8 = 1 << iota
	pinged       // a pong is awaited
	began        // first is taken, if only by one that has left
	over         // nothing more is sent or heard
)

// part is a packet some of whose attachments have not come yet.
type part struct {
	packet
	got [][]byte
}

// Peer is who a connection is of, as its handshake says.
type Peer struct {
	App       *hub.App
	User      *hub.User  // nil: anonymous
	Denied    *hub.Error // nil: it may connect without a token; otherwise why not
	Handshake *Handshake // nil where there is no program to see it
}

// Conn is a session's place for a connection that begins as a WebSocket: it must take a handshake's place, or be
// attached, before Start.
type Conn struct{ e engine }

// New makes a place for a session.
func (r *Room) New(q Query, peer Peer) *Conn {
	c := &Conn{engine{room: r, Peer: peer}}
	if q.EIO3 {
		c.e.flags |= eio3
	}
	return c
}

// Loop returns the connection to attach, and its handler.
func (c *Conn) Loop() (*loop.Conn, loop.Handler) { return &c.e.socket.Conn, &c.e.socket }

// Start begins the session: on the loop, after the handshake's answer was sent. end, which may be nil, is told when the
// connection has ended.
func (c *Conn) Start(end socket.Releaser) {
	c.e.end = end
	c.e.open(c.e.room.newSID(), "[]")
	c.e.socket.Start(c.e.room.socket, &c.e, false)
	c.e.greet()
}

// Stop ends the session for a reason; on the loop, after Start.
func (c *Conn) Stop(err *hub.Error) { c.e.stop(err) }

// Restart ends a session that is not connected to any namespace, because the server goes; on the loop.
func (e *engine) Restart() {
	if !e.any() {
		e.stop(&hub.Error{Code: hub.Shutdown, Message: "the server is restarting: connect again"})
	}
}

// open sends the handshake. (Engine.IO protocol, "Handshake".)
func (e *engine) open(sid, upgrades string) {
	cfg := &e.room.cfg
	now := e.now()
	e.opened = cfg.Hub.Opened()
	e.due, e.by = now+cfg.PingInterval.Milliseconds(), now+cfg.ConnectTimeout.Milliseconds()
	if cfg.Echo {
		e.by = 0
	}
	if e.flags&eio3 != 0 {
		e.due += cfg.PingTimeout.Milliseconds()
	}
	e.text(func(b []byte) []byte {
		b = append(b, `0{"sid":"`...)
		b = append(b, sid...)
		b = append(b, `","upgrades":`...)
		b = append(b, upgrades...)
		b = append(b, `,"pingInterval":`...)
		b = strconv.AppendInt(b, cfg.PingInterval.Milliseconds(), 10)
		b = append(b, `,"pingTimeout":`...)
		b = strconv.AppendInt(b, cfg.PingTimeout.Milliseconds(), 10)
		b = append(b, `,"maxPayload":`...)
		b = strconv.AppendInt(b, int64(cfg.MaxPayload), 10)
		return append(b, '}')
	})
}

// greet connects a client of Socket.IO 4 to "/", where everybody is without asking.
func (e *engine) greet() {
	if e.flags&eio3 != 0 {
		e.connect(packet{kind: connect, nsp: "/"})
	}
}

func (e *engine) now() int64 { return e.socket.Loop().Now().UnixMilli() }

// text sends one Engine.IO packet.
func (e *engine) text(packet func([]byte) []byte) {
	e.socket.Send(ws.AppendText(make([]byte, 0, 128), 100, packet))
}

func (e *engine) packet(s string) {
	e.text(func(b []byte) []byte { return append(b, s...) })
}

// Text implements socket.Room: one packet of the client.
func (e *engine) Text(p []byte) {
	if len(p) == 0 {
		e.violation("an empty packet")
		return
	}
	switch p[0] {
	case message:
		if e.room.cfg.Echo {
			e.packet(string(p))
			return
		}
		e.message(string(p[1:]))
	case '3':
		if e.flags&(pinged|eio3) == pinged {
			e.flags &^= pinged
			if e.sent > 0 { // it has got the ping, and thus everything before
				e.each(func(c *client) {
					if c.flags&connected != 0 {
						c.Has(e.sent)
					}
				})
			}
			e.due = e.now() + e.room.cfg.PingInterval.Milliseconds()
		}
	case '2':
		if e.flags&eio3 == 0 {
			e.violation("a ping: in protocol 4 the server sends them")
			return
		}
		e.due = e.now() + (e.room.cfg.PingInterval + e.room.cfg.PingTimeout).Milliseconds()
		e.text(func(b []byte) []byte { return append(append(b, '3'), p[1:]...) })
	case '1':
		e.close(closeNormal, "", errClose)
	case '6':
	default:
		e.violation(fmt.Sprintf("a packet of type %.1q", p))
	}
}

// Binary implements socket.Room.
func (e *engine) Binary(p []byte) {
	if e.flags&eio3 != 0 {
		if len(p) == 0 || p[0] != message-'0' {
			e.violation("a binary packet that is no message")
			return
		}
		p = p[1:]
	}
	if e.room.cfg.Echo {
		e.socket.Send(ws.AppendFrame(nil, ws.OpBinary, p))
		return
	}
	e.blob(append([]byte(nil), p...))
}

// message takes a Socket.IO packet.
func (e *engine) message(text string) {
	if e.part != nil {
		e.violation("a packet, though attachments of the one before are missing")
		return
	}
	p, err := parse(text, e.room.cfg.Attachments, e.flags&eio3 != 0)
	if err != nil {
		e.violation(err.Error())
		return
	}
	if p.blobs > 0 {
		if err := placeholders(p.data, p.blobs); err != nil {
			e.violation(err.Error())
			return
		}
		e.part = &part{packet: p}
		e.by = e.now() + e.room.cfg.ConnectTimeout.Milliseconds()
		e.schedule()
		return
	}
	e.dispatch(p, nil)
}

// blob takes an attachment.
func (e *engine) blob(b []byte) {
	if e.part == nil {
		e.violation("an attachment of nothing")
		return
	}
	if e.part.got = append(e.part.got, b); len(e.part.got) < e.part.blobs {
		return
	}
	p := e.part
	e.part = nil
	e.awaited()
	e.dispatch(p.packet, p.got)
}

// awaited sets by when something must have come, if it is not there.
func (e *engine) awaited() {
	e.by = 0
	if e.flags&began == 0 || !e.any() {
		e.by = e.now() + e.room.cfg.ConnectTimeout.Milliseconds()
		e.schedule()
	}
}

// each calls f with every client.
func (e *engine) each(f func(*client)) {
	if e.flags&began != 0 && e.first.flags&left == 0 {
		f(&e.first)
	}
	for i := len(e.more) - 1; i >= 0; i-- { // f may take it out
		f(e.more[i])
	}
}

func (e *engine) any() (found bool) {
	e.each(func(*client) { found = true })
	return found
}

func (e *engine) client(nsp string) (found *client) {
	e.each(func(c *client) {
		if c.codec.nsp == nsp {
			found = c
		}
	})
	return found
}

// dispatch takes a whole packet.
func (e *engine) dispatch(p packet, blobs [][]byte) {
	c := e.client(p.nsp)
	if p.kind == connect {
		switch {
		case c == nil:
			e.connect(p)
		case e.flags&eio3 != 0 && p.nsp == "/": // some clients of protocol 4 ask for what they have
		default:
			e.violation(fmt.Sprintf("a second CONNECT to namespace %.100q", p.nsp))
		}
		return
	}
	if c == nil || c.flags&connected == 0 {
		e.violation(fmt.Sprintf("a packet to namespace %.100q, which the client is not connected to", p.nsp))
		return
	}
	switch p.kind {
	case event, binaryEvent:
		c.event(&p, blobs)
	case ack, binaryAck:
		c.acked(p.id, Args{p.data, blobs})
	case disconnect:
		c.leave("client namespace disconnect")
	default:
		e.violation(fmt.Sprintf("a %s from the client", p.kind))
	}
}

// violation ends the session of a client that breaks the protocol.
func (e *engine) violation(what string) {
	e.close(closePolicy, what, errParse)
}

// close ends the session in order.
func (e *engine) close(code int, text string, reason error) {
	if e.flags&over != 0 {
		return
	}
	if e.polling() {
		if p := e.poll.probe; p != nil && p.heard && (reason == errForced || reason == errShutdown) {
			e.poll.leaving = reason // the client asks no more, and hears of it over the WebSocket
			return
		}
		e.poll.finish(e, reason)
		return
	}
	e.socket.Close(code, clip(text, 120), reason)
}

// clip shortens a text to what a close frame takes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// stop ends the session for a reason of the hub.
func (e *engine) stop(err *hub.Error) {
	reason := errForced
	if err.Code == hub.Shutdown {
		reason = errShutdown
	}
	e.close(reasons[err.Code].code, err.Message, reason)
}

func (e *engine) polling() bool { return e.poll != nil && !e.poll.up }

// Pause stops reading until as many calls of Resume.
func (e *engine) pause() {
	if e.holds++; e.holds == 1 {
		e.socket.Pause()
	}
}

func (e *engine) resume() {
	if e.holds--; e.holds > 0 {
		return
	}
	// A sign of life may be among what was not read.
	e.due = max(e.due, e.now()+e.room.cfg.PingTimeout.Milliseconds())
	if e.poll != nil {
		e.poll.goOn(e) // what came before goes first
	}
	if e.holds == 0 {
		e.socket.Resume()
	}
}

// Held implements socket.Room.
func (e *engine) Held() bool { return e.holds > 0 }

// schedule asks for a call of Expire when it is next due.
func (e *engine) schedule() {
	if e.flags&over != 0 {
		return
	}
	if !e.polling() {
		e.socket.Schedule()
		return
	}
	if next := e.Expire(e.socket.Loop().Now()); !next.IsZero() && e.flags&over == 0 {
		e.socket.SetDeadline(next)
	}
}

// Expire implements socket.Room: the heartbeat, and what lapses.
func (e *engine) Expire(now time.Time) time.Time {
	ms := now.UnixMilli()
	if e.due <= ms {
		switch {
		case e.flags&(pinged|eio3) == 0:
			e.flags |= pinged
			e.due = ms + e.room.cfg.PingTimeout.Milliseconds()
			e.sent = e.room.cfg.Hub.Ordinal(e.socket.Loop())
			e.socket.Send(pingFrame)
		case !e.Held():
			e.close(closeNormal, "ping timeout", errPing)
			return time.Time{}
		default: // nobody reads what it says
			e.due = ms + e.room.cfg.PingInterval.Milliseconds()
			if e.flags&eio3 == 0 { // it must not take us for dead
				e.socket.Send(pingFrame)
			}
		}
	}
	next := e.due
	if e.by > 0 {
		if e.by <= ms {
			if e.part != nil {
				e.violation("the attachments of a packet did not come")
			} else {
				e.close(closePolicy, "no namespace was connected in time", errConnect)
			}
			return time.Time{}
		}
		next = min(next, e.by)
	}
	due := time.UnixMilli(next)
	e.each(func(c *client) {
		if c.flags&connected == 0 {
			return
		}
		if t := c.Client.Expire(now); !t.IsZero() && t.Before(due) {
			due = t
		}
	})
	return due
}

var pingFrame = ws.AppendFrame(nil, ws.OpText, []byte("2"))

// Drained implements socket.Room: clients learn what their slowness cost.
func (e *engine) Drained(dropped []loop.Dropped) {
	for _, d := range dropped {
		if name := hub.ChannelOf(d.Group); name != "" {
			e.each(func(c *client) {
				if c.flags&connected != 0 && c.Client.Hears(d.Group) {
					c.say("messages_dropped", func(b []byte) []byte {
						b = append(b, `{"channel":`...)
						b = jsontext.AppendString(b, name)
						b = append(b, `,"count":`...)
						b = strconv.AppendInt(b, int64(d.N), 10)
						return append(b, '}')
					})
				}
			})
		}
	}
}

// Idle implements socket.Room; Engine.IO's heartbeat comes first.
func (e *engine) Idle() { e.close(closeNormal, "ping timeout", errPing) }

// Slow implements socket.Room.
func (e *engine) Slow() (int, string) {
	return reasons[hub.SlowConsumer].code, fmt.Sprintf("this connection reads too slowly: more than %d bytes waited for it", e.socket.Loop().MaxQueued())
}

// Closed implements socket.Room.
func (e *engine) Closed(reason error) {
	e.flags |= over
	e.part = nil
	e.each(func(c *client) { c.gone(reason) })
	if e.poll != nil {
		e.poll.closed(e)
	}
	if e.end != nil {
		e.end.Release()
	}
}

// why is a reason in the words of Socket.IO.
func why(err error) string {
	switch {
	case errors.Is(err, errPing), errors.Is(err, errParse), errors.Is(err, errForced), errors.Is(err, errShutdown):
		return err.Error()
	case errors.Is(err, loop.ErrStopped):
		return errShutdown.Error()
	case errors.Is(err, loop.ErrSlow):
		return "transport error"
	}
	return errClose.Error()
}

// addr is the peer's address.
func (e *engine) addr() string {
	if e.polling() {
		return e.poll.addr
	}
	return e.socket.RemoteAddr()
}

// onLoop runs f on the session's loop, and reports false when there is none any more.
func (e *engine) onLoop(l *loop.Loop, f func()) bool {
	return l.Post(loop.Func(func(*loop.Loop) { f() }), 0) == nil
}
