// Package socket is a WebSocket on a loop: RFC 6455 messages over a loop.Conn, for every protocol that speaks in them.
package socket

import (
	"errors"
	"io"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Config is shared by many sockets and never changes. Every field must be set.
type Config struct {
	Plain   ws.Config // for connections without compression
	Deflate ws.Config // and with
	// Ping is the silence after which the peer is pinged, Pong how long it may take to show any life then.
	Ping, Pong time.Duration
	// Grace is how long the peer may take to close its side once we have.
	Grace time.Duration
}

// NewConfig makes a Config for messages of at most max bytes.
func NewConfig(max int, ping, pong, grace time.Duration) *Config {
	return &Config{
		Plain:   ws.Config{MaxMessage: max},
		Deflate: ws.Config{MaxMessage: max, Deflate: true},
		Ping:    ping, Pong: pong, Grace: grace,
	}
}

// ErrIdle: the peer showed no life, not even a pong.
var ErrIdle = errors.New("the peer does not answer")

// Room is what the messages mean. It is called on the loop, and a payload is valid during the call only.
type Room interface {
	Text(payload []byte)
	Binary(payload []byte)
	// Held reports that no more messages can be taken now; the connection has been paused.
	Held() bool
	// Expire does what is due at now and returns when to be called again; zero means never.
	Expire(now time.Time) time.Time
	Drained(dropped []loop.Dropped)
	// Idle is called instead of closing when the peer is silent for too long: the room closes with its own code.
	Idle()
	// Slow gives the code and text of the close frame for a peer that reads too slowly; Closed follows.
	Slow() (code int, text string)
	// Closed is called once, last.
	Closed(reason error)
}

// Releaser is told that a connection has ended.
type Releaser interface{ Release() }

// Socket is one WebSocket. Every field is owned by the loop.
type Socket struct {
	loop.Conn
	room    Room
	cfg     *Config
	reader  *ws.Reader // what is left between reads; nil most of the time
	Deflate bool       // was negotiated
	pinged  bool       // and not heard of since
}

// Start makes s, which has been attached to a loop or taken a handshake's place, a socket of the room.
func (s *Socket) Start(cfg *Config, room Room, deflate bool) {
	s.cfg, s.room, s.Deflate = cfg, room, deflate
	s.schedule()
}

// Data takes what arrived.
func (s *Socket) Data(_ *loop.Conn, b []byte) int {
	s.pinged = false
	var fresh ws.Reader
	r := s.reader
	if r == nil {
		r = &fresh
	}
	cfg := &s.cfg.Plain
	if s.Deflate {
		cfg = &s.cfg.Deflate
	}
	n, err := r.Feed(cfg, b, s)
	if err != nil {
		if ce, ok := errors.AsType[*ws.CloseError](err); ok {
			s.Close(ce.Code, ce.Reason, err)
		} else {
			s.Abort(err)
		}
		return len(b)
	}
	if r.Idle() {
		s.reader = nil
	} else if s.reader == nil {
		kept := fresh
		s.reader = &kept
	}
	if s.Closing() {
		return len(b)
	}
	return n
}

// Message implements ws.Handler.
func (s *Socket) Message(op ws.Op, payload []byte) bool {
	if op == ws.OpText {
		s.room.Text(payload)
	} else {
		s.room.Binary(payload)
	}
	return !s.Closing() && !s.room.Held() && !s.Loop().Full()
}

// Control implements ws.Handler.
func (s *Socket) Control(op ws.Op, payload []byte) bool {
	switch op {
	case ws.OpPing:
		s.Send(ws.AppendFrame(make([]byte, 0, len(payload)+ws.HeaderRoom), ws.OpPong, payload))
	case ws.OpClose:
		code, reason, err := ws.ParseClose(payload)
		if ce, ok := errors.AsType[*ws.CloseError](err); ok {
			s.Close(ce.Code, ce.Reason, err)
		} else {
			// RFC 6455 section 5.5.1: the answer echoes the code.
			s.Close(code, "", &ws.CloseError{Code: code, Reason: reason})
		}
	}
	return !s.Closing()
}

// Close sends a close frame behind everything sent so far and ends the connection; reason is what Closed gets.
func (s *Socket) Close(code int, text string, reason error) {
	s.Shut(ws.AppendClose(nil, code, text), reason, s.cfg.Grace)
}

// Restart asks a room that has one for its own Restart: the server goes away.
func (s *Socket) Restart() {
	if r, ok := s.room.(interface{ Restart() }); ok {
		r.Restart()
	}
}

// Timeout looks after the heartbeat and what the room has due.
func (s *Socket) Timeout(*loop.Conn) { s.schedule() }

// Schedule is to be called when the room's next Expire may be due earlier than it said.
func (s *Socket) Schedule() { s.schedule() }

func (s *Socket) schedule() {
	now := s.Loop().Now()
	silence := s.Silence()
	next := now.Add(s.cfg.Ping - silence)
	switch {
	case silence >= s.cfg.Ping+s.cfg.Pong:
		s.room.Idle()
		return
	case silence >= s.cfg.Ping:
		if !s.pinged {
			s.pinged = true
			s.Send(pingFrame)
		}
		next = now.Add(s.cfg.Ping + s.cfg.Pong - silence)
	}
	if due := s.room.Expire(now); !due.IsZero() && due.Before(next) {
		next = due
	}
	if !s.Closing() {
		s.SetDeadline(next)
	}
}

var pingFrame = ws.AppendFrame(nil, ws.OpPing, nil)

// Drained implements loop.Handler.
func (s *Socket) Drained(_ *loop.Conn, dropped []loop.Dropped) { s.room.Drained(dropped) }

// Slow implements loop.Handler.
func (s *Socket) Slow(*loop.Conn) ([]byte, time.Duration) {
	code, text := s.room.Slow()
	return ws.AppendClose(nil, code, text), s.cfg.Grace
}

// Closed implements loop.Handler.
func (s *Socket) Closed(_ *loop.Conn, reason error) {
	s.reader = nil
	s.room.Closed(reason)
}

// Reason puts into words why a connection ended.
func Reason(err error) string {
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, io.EOF):
		return "the client went away without closing"
	case errors.Is(err, loop.ErrSlow):
		return "the client read too slowly"
	}
	return err.Error()
}
