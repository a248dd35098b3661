package socketio

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// polling is what a session has while its client asks over and over again by HTTP request: what is sent waits in the
// connection's queue until a GET comes, and POSTs bring what the client says.
type polling struct {
	// static
	loop    *loop.Loop
	sid     string
	addr    string // of the peer's first request
	query   Query
	posting atomic.Bool // a POST is under way, or its packets wait to be taken

	// owned by the loop
	get       *get     // that waits for something to be said
	body      *body    // a POST whose packets have not all been taken
	probe     *probe   // a WebSocket that may take over
	up        bool     // it has
	last      [][]byte // the end's frames, for the GETs to come
	finishing bool
	leaving   error // the session ends for that when the probe has come to its end
}

// get is a request for what there is to be said.
type get struct {
	frames chan []byte // with room for one; closed when the request is to be refused
	over   bool        // and if that is because the session is over
}

// body is what a POST brought, known to be in order: packets are cut off when they are taken, since many of them, each
// known by itself, would be much more than the body.
type body struct {
	text    string        // of EIO 4; what is left of it
	bytes   []byte        // and of EIO 3
	binary  bool          // it is of the binary form of EIO 3
	more    bool          // something is left
	done    chan struct{} // closed when all have been taken
	refused bool          // before done is closed: none was
}

// next cuts a packet off.
func (b *body) next() (blob bool, data []byte, err error) {
	if b.bytes != nil {
		blob, data, b.bytes, err = cutPayload3(b.bytes, b.binary)
		b.more = len(b.bytes) > 0
		return blob, data, err
	}
	blob, data, b.text, b.more, err = cutPayload(b.text)
	return blob, data, err
}

// parked is an engine as a connection without a transport.
type parked engine

var (
	closeFrame = ws.AppendFrame(nil, ws.OpText, []byte("1"))
	noopFrame  = ws.AppendFrame(nil, ws.OpText, []byte("6"))
)

// Polling begins a session by HTTP requests on loop l, and answers the first of them. end, which may be nil, is told when
// the session has ended; started, on the loop, when it has begun.
func (r *Room) Polling(w http.ResponseWriter, req *http.Request, l *loop.Loop, q Query, peer Peer, end socket.Releaser, started func(stop func(*hub.Error))) *Error {
	e := &engine{room: r, Peer: peer, end: end, poll: &polling{loop: l, sid: r.newSID(), addr: req.RemoteAddr, query: q}}
	if r.cfg.Cookie != "" {
		http.SetCookie(w, &http.Cookie{Name: r.cfg.Cookie, Value: e.poll.sid, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	if q.EIO3 {
		e.flags |= eio3
	}
	r.mu.Lock()
	r.sessions[e.poll.sid] = e
	r.mu.Unlock()
	g := &get{frames: make(chan []byte, 1)}
	if !e.onLoop(l, func() {
		l.AttachParked(&e.socket.Conn, (*parked)(e))
		e.open(e.poll.sid, `["websocket"]`)
		e.schedule()
		e.greet()
		e.poll.serve(e, g)
		started(e.stop)
	}) {
		r.forget(e)
		if end != nil {
			end.Release()
		}
		return ErrRequest
	}
	return e.speak(w, req, g)
}

func (r *Room) forget(e *engine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[e.poll.sid] == e {
		delete(r.sessions, e.poll.sid)
	}
}

// Go answers a further request of a session. read reads the request's body, of at most MaxPayload bytes.
func (r *Room) Go(w http.ResponseWriter, req *http.Request, q Query, read func() ([]byte, error)) *Error {
	e := r.session(q.SID)
	if e == nil {
		return errSID
	}
	switch {
	case q.EIO3 != e.poll.query.EIO3:
		return ErrRequest
	case req.Method == http.MethodGet:
		g := &get{frames: make(chan []byte, 1)}
		if !e.onLoop(e.poll.loop, func() { e.poll.serve(e, g) }) {
			return errSID
		}
		return e.speak(w, req, g)
	case req.Method == http.MethodPost:
		return e.hear(w, req, read)
	}
	return ErrRequest
}

// serve is a GET: it is answered at once, or waits.
func (p *polling) serve(e *engine, g *get) {
	switch {
	case len(p.last) > 0:
		g.frames <- p.last[0]
		if p.last = p.last[1:]; len(p.last) == 0 {
			e.room.forget(e)
		}
	case p.up || e.flags&over != 0:
		g.over = !p.up
		close(g.frames)
	case p.get != nil: // (Engine.IO protocol, "HTTP long-polling": one at a time)
		p.say(closeFrame)
		close(g.frames)
		e.socket.Abort(errors.New("two requests for the same"))
	default:
		p.get = g
		if b := e.socket.Take(); b != nil {
			p.say(b)
		} else if p.probe != nil && p.probe.heard {
			p.say(noopFrame)
		}
	}
}

// say answers the waiting GET.
func (p *polling) say(frames []byte) {
	p.get.frames <- frames
	p.get = nil
}

// finish ends the session. What was sent goes to the GET that waits, or, where it is the server that ends it, to the next.
func (p *polling) finish(e *engine, reason error) {
	p.finishing = true
	b := e.socket.Finish(reason)
	switch {
	case reason == errForced || reason == errShutdown:
		// Clients look at the end of the transport first, and would not see a DISCONNECT that comes with it.
		if len(b) > 0 {
			p.last = append(p.last, b)
		}
		p.last = append(p.last, closeFrame)
	case p.get == nil:
	case reason == errClose: // the client has asked for it, and is not told again
		p.say(append(b, noopFrame...))
	default:
		p.say(append(b, closeFrame...))
	}
	if p.get != nil {
		p.say(p.last[0])
		p.last = p.last[1:]
	}
	if len(p.last) == 0 {
		e.room.forget(e)
		return
	}
	time.AfterFunc(closeGrace, func() {
		e.room.forget(e)
		e.onLoop(p.loop, func() { p.last = nil })
	})
}

// closed is the end of the session, whatever its transport.
func (p *polling) closed(e *engine) {
	if p.probe != nil {
		p.probe.Abort(errClose)
		p.probe = nil
	}
	if p.body != nil {
		p.took()
	}
	if p.finishing {
		return
	}
	if p.get != nil {
		p.say(closeFrame)
	}
	e.room.forget(e)
}

// speak answers a GET with what comes for it.
func (e *engine) speak(w http.ResponseWriter, req *http.Request, g *get) *Error {
	p := e.poll
	http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the program's http.Server may have one for its own handlers
	var frames []byte
	select {
	case f, ok := <-g.frames:
		switch {
		case !ok && g.over:
			return errSID
		case !ok:
			return ErrRequest
		}
		frames = f
	case <-req.Context().Done():
		e.onLoop(p.loop, func() {
			if p.get == g {
				p.get = nil
			}
			p.lose(e, errClose)
		})
		return nil
	}
	b, kind, err := p.encode(frames)
	if err == nil {
		err = respond(w, kind, b)
	}
	if err != nil {
		e.onLoop(p.loop, func() { p.lose(e, errClose) })
	}
	return nil
}

// lose ends a session whose client has not got the answer to a GET, or has not brought all of a POST. One that has a
// WebSocket meanwhile is done with requests: it waits for their answers before it goes on there.
func (p *polling) lose(e *engine, reason error) {
	if !p.up {
		e.socket.Abort(reason)
	}
}

// writeTime is what a client gets to read a response.
const writeTime = 30 * time.Second

// respond writes a response. It is flushed while there is a deadline: net/http has none when it does that later.
func respond(w http.ResponseWriter, kind string, b []byte) error {
	c := http.NewResponseController(w)
	c.SetWriteDeadline(time.Now().Add(writeTime))
	defer c.SetWriteDeadline(time.Time{})
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "no-store")
	_, err := w.Write(b)
	if err == nil {
		err = c.Flush()
	}
	if errors.Is(err, http.ErrNotSupported) { // some middleware hides it
		return nil
	}
	return err
}

const plainText = "text/plain; charset=UTF-8"

// encode makes frames the body of a response.
func (p *polling) encode(frames []byte) (b []byte, kind string, err error) {
	if !p.query.EIO3 {
		b, err = appendPayload(nil, frames)
		return b, plainText, err
	}
	b, binary, err := appendPayload3(nil, frames, p.query.Base64)
	if err == nil && binary {
		return b, "application/octet-stream", nil
	}
	return b, plainText, err
}

// hear takes the packets of a POST, one POST at a time.
func (e *engine) hear(w http.ResponseWriter, req *http.Request, read func() ([]byte, error)) *Error {
	p := e.poll
	if !p.posting.CompareAndSwap(false, true) {
		e.onLoop(p.loop, func() {
			if e.polling() {
				e.close(0, "", errors.New("two requests at once"))
			}
		})
		return ErrRequest
	}
	handed := false // to the loop
	defer func() {
		if !handed {
			p.posting.Store(false)
		}
	}()
	kind := req.Header.Get("Content-Type")
	binary := kind == "application/octet-stream"
	if binary && !p.query.EIO3 {
		e.fail(p, "a body of binary data")
		return ErrRequest
	}
	b, err := read()
	if err != nil {
		if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
			http.Error(w, "the body is longer than maxPayload, which is "+strconv.FormatInt(big.Limit, 10)+" bytes", http.StatusRequestEntityTooLarge)
			return nil
		}
		e.onLoop(p.loop, func() { p.lose(e, io.ErrUnexpectedEOF) })
		if errors.Is(err, os.ErrDeadlineExceeded) {
			http.Error(w, "the body did not arrive in time", http.StatusRequestTimeout)
			return nil
		}
		return ErrRequest
	}
	in := &body{binary: binary, more: true, done: make(chan struct{})}
	check := func(bool, []byte) error { return nil }
	if p.query.EIO3 {
		in.bytes = b
		err = splitPayload3(b, binary, check)
	} else {
		in.text = string(b)
		err = splitPayload(in.text, check)
	}
	if err != nil {
		e.fail(p, err.Error())
		return ErrRequest
	}
	if handed = e.onLoop(p.loop, func() {
		p.body = in
		if in.refused = !e.polling() || e.flags&over != 0; in.refused {
			p.took()
			return
		}
		p.goOn(e)
	}); !handed {
		return errSID
	}
	select {
	case <-in.done: // they may have waited behind the program: the client is not to send more meanwhile
	case <-req.Context().Done():
		return nil
	}
	if in.refused {
		return ErrRequest
	}
	respond(w, "text/html", []byte("ok"))
	return nil
}

// took ends a POST: the client may make the next one.
func (p *polling) took() {
	p.posting.Store(false)
	close(p.body.done)
	p.body = nil
}

func (e *engine) fail(p *polling, what string) {
	e.onLoop(p.loop, func() {
		if e.polling() {
			e.violation(what)
		}
	})
}

// goOn takes the packets of a POST until the session takes no more for now, or the turn has enough to write.
func (p *polling) goOn(e *engine) {
	for p.body != nil && !e.Held() && e.flags&over == 0 {
		if p.loop.Full() {
			e.pause() // a WebSocket that takes over, too: these go first
			e.onLoop(p.loop, e.resume)
			return
		}
		in := p.body
		if !in.more {
			p.took()
			return
		}
		e.socket.Guard(func() {
			switch blob, data, err := in.next(); {
			case err != nil:
				e.violation(err.Error())
			case blob:
				e.Binary(data)
			default:
				e.Text(data)
			}
		})
	}
}

// Queued implements loop.Parker.
func (k *parked) Queued(*loop.Conn) {
	e := (*engine)(k)
	if p := e.poll; p.get != nil {
		if b := e.socket.Take(); b != nil {
			p.say(b)
		}
	}
}

// Restart: see engine.
func (k *parked) Restart() { (*engine)(k).Restart() }

// Data implements loop.Handler.
func (k *parked) Data(_ *loop.Conn, b []byte) int { return len(b) }

// Timeout implements loop.Handler.
func (k *parked) Timeout(*loop.Conn) { (*engine)(k).schedule() }

// Drained implements loop.Handler.
func (k *parked) Drained(_ *loop.Conn, dropped []loop.Dropped) { (*engine)(k).Drained(dropped) }

// Slow implements loop.Handler.
func (k *parked) Slow(*loop.Conn) ([]byte, time.Duration) { return nil, 0 }

// Closed implements loop.Handler.
func (k *parked) Closed(_ *loop.Conn, reason error) { (*engine)(k).Closed(reason) }
