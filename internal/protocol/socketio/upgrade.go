package socketio

import (
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// probe is a WebSocket that wants to take a polling session over. (Engine.IO protocol, "Upgrade".) It is owned by the
// session's loop.
type probe struct {
	loop.Conn
	e      *engine
	reader ws.Reader
	heard  bool // the client's 2probe
	moved  bool // the session has the connection now
}

// Probe is a place for a WebSocket that names a session.
type Probe struct {
	Conn    *loop.Conn
	Handler loop.Handler
	Loop    *loop.Loop // where it must be attached
	Begin   func()     // to be called there, when the handshake was answered
}

// Probe makes a place for a WebSocket that names a session.
func (r *Room) Probe(q Query) (*Probe, *Error) {
	e := r.session(q.SID)
	if e == nil {
		return nil, errSID
	}
	if q.EIO3 != e.poll.query.EIO3 {
		return nil, ErrRequest
	}
	p := &probe{e: e}
	return &Probe{&p.Conn, p, e.poll.loop, p.begin}, nil
}

func (p *probe) begin() {
	if p.e.flags&over != 0 || p.e.poll.up || p.e.poll.probe != nil {
		p.bye("there is no such session, or it has a WebSocket already")
		return
	}
	p.e.poll.probe = p
	p.SetDeadline(p.Loop().Now().Add(p.e.room.cfg.UpgradeTimeout))
}

func (p *probe) bye(text string) {
	p.Shut(ws.AppendClose(nil, closePolicy, text), errClose, closeGrace)
}

// Data implements loop.Handler.
func (p *probe) Data(_ *loop.Conn, b []byte) int {
	n, err := p.reader.Feed(&p.e.room.socket.Plain, b, p)
	switch {
	case p.moved:
		return n // the rest is the session's
	case err != nil:
		p.Abort(err)
	}
	return len(b)
}

// Message implements ws.Handler.
func (p *probe) Message(op ws.Op, payload []byte) bool {
	e := p.e
	switch text := string(payload); {
	case e.poll.probe != p: // it has ended meanwhile
		return false
	case op == ws.OpText && text == "2probe" && !p.heard:
		p.heard = true
		p.Send(ws.AppendFrame(nil, ws.OpText, []byte("3probe")))
		if e.poll.get != nil { // the client waits for it to end
			e.poll.say(noopFrame)
		}
		return true
	case op == ws.OpText && text == "5" && p.heard && e.socket.TakeOver(&p.Conn, &e.socket):
		p.moved = true
		e.upgraded()
	default:
		p.bye("a probe begins with 2probe and ends with 5")
	}
	return false
}

// upgraded goes on with the WebSocket.
func (e *engine) upgraded() {
	p := e.poll
	p.probe, p.up = nil, true
	if p.get != nil {
		p.say(noopFrame)
	}
	e.socket.Start(e.room.socket, e, false)
	if p.leaving != nil {
		e.close(closeNormal, "", p.leaving)
	}
}

// Control implements ws.Handler.
func (p *probe) Control(op ws.Op, payload []byte) bool {
	switch op {
	case ws.OpPing:
		p.Send(ws.AppendFrame(nil, ws.OpPong, payload))
	case ws.OpClose:
		p.bye("")
	}
	return op != ws.OpClose
}

// Timeout implements loop.Handler.
func (p *probe) Timeout(*loop.Conn) { p.bye("the upgrade took too long") }

// Drained implements loop.Handler.
func (p *probe) Drained(*loop.Conn, []loop.Dropped) {}

// Slow implements loop.Handler.
func (p *probe) Slow(*loop.Conn) ([]byte, time.Duration) { return nil, 0 }

// Closed implements loop.Handler.
func (p *probe) Closed(*loop.Conn, error) {
	if e := p.e; e.poll.probe == p {
		e.poll.probe = nil
		if e.poll.leaving != nil && e.polling() {
			e.close(0, "", e.poll.leaving)
		}
	}
}
