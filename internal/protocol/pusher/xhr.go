package pusher

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

const (
	// fullResponse is where pusher-js leaves a response and asks for another: at the first end of a line behind so many
	// UTF-16 units (its src/core/http/http_request.ts). What came behind that would be lost, and a streaming client takes
	// a response that ends earlier for the end of the session.
	fullResponse = 256 << 10
	// awayTime is how long a session waits for a request: between two polls, or after a full response.
	awayTime = 5 * time.Second
	// hurryTime is what a response still gets to take what is being written when it is over.
	hurryTime = 2 * time.Second
	// maxSends is how many bodies of one session are held at once; further ones are not read yet.
	maxSends = 16
)

// ErrEnded: the session of a request is over.
var ErrEnded = errors.New("the session has ended: connect again")

// XHR is a session without a WebSocket: pusher-js's transports xhr_streaming and xhr_polling. Requests come and go, one
// response at a time is the one in which the session speaks, and bodies of further requests are what the client says.
//
// To the loop it is a pump with a WebSocket client at its far end: frames become lines of the response, and the client's
// strings become frames. So the session is the one of WebSockets, and messages are encoded once for both.
//
// A session is entered with a secret. The id in its URL is the client's own choice, of some 50 bits, and from
// Math.random on React Native. The client carries the secret without knowing: the first line may name the host to go on
// with, and the client puts that text, whatever it is, in place of the host's name; ours is the same host and the
// beginning of a path with the secret in it.
type XHR struct {
	session
	wire wire

	// owned by the loop
	until time.Time // the end, unless a request comes; zero while one is there
}

// wire carries the bytes between the loop and the requests.
type wire struct {
	// static
	loop   *loop.Loop
	secret string
	addr   peer
	closed func() // called once, when the session is over and everything was said

	// of the pump's reader
	frames []byte // not read yet

	// of the pump's writer
	reader ws.Reader
	first  []byte // the line that opens the session, until it is written

	// of the current response: whoever became it after the one before was gone
	rest []byte // lines that are taken from the writer, and not written
	lost bool   // what was written may not have arrived, or only in part: there must be no other response

	// between goroutines
	in    chan []byte   // frames for the reader
	alive chan struct{} // a request has come, which is a sign of life
	asked atomic.Bool   // a heartbeat waits for its answer
	sends chan struct{} // a place for each body that is held
	lines chan []byte   // from the writer to the current response
	taken chan struct{} // the response has written all of them
	end   chan struct{} // closed with the session
	once  sync.Once
	mu    sync.Mutex
	now   *response // guarded by mu; the last that came
}

// peer is a network address in its text form.
type peer string

func (peer) Network() string  { return "tcp" }
func (p peer) String() string { return string(p) }

// NewXHR makes a session for loop l. base is the URL the client connects to, from its host to the app's key and without
// the scheme; addr is the peer's address. closed is called once, on any goroutine, when the session is over.
func (r *Room) NewXHR(l *loop.Loop, base, addr string, closed func()) *XHR {
	x := &XHR{session: session{room: r}, wire: wire{
		loop: l, secret: rand.Text(), addr: peer(addr), closed: closed,
		in: make(chan []byte), alive: make(chan struct{}, 1), sends: make(chan struct{}, maxSends),
		lines: make(chan []byte), taken: make(chan struct{}, 1), end: make(chan struct{}),
	}}
	x.wire.first = append(jsontext.AppendString([]byte(`o{"hostname":`), base+"/"+x.wire.secret), "}\n"...)
	return x
}

// Knows reports whether secret is the session's.
func (x *XHR) Knows(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(x.wire.secret)) == 1
}

// Start begins the session, on its loop. See Conn.Start.
func (x *XHR) Start(app *hub.App, u *hub.User, end socket.Releaser) {
	x.attach()
	x.start(x, x.room.XHR, app, u, false, end)
}

// Refuse begins a session that ends at once, on its loop. See Conn.Refuse.
func (x *XHR) Refuse(err *hub.Error, end socket.Releaser) {
	x.attach()
	x.refuse(x, x.room.XHR, err, end)
}

func (x *XHR) attach() { x.wire.loop.AttachPump(&x.socket.Conn, &x.socket, &x.wire, nil) }

// Abandon ends a session that could not begin.
func (x *XHR) Abandon() { x.wire.Close() }

// Expire implements socket.Room.
func (x *XHR) Expire(now time.Time) time.Time {
	next := x.session.Expire(now)
	switch {
	case x.until.IsZero():
	case !x.until.After(now):
		x.socket.Abort(fmt.Errorf("no request came for %v", awayTime))
	case next.IsZero() || x.until.Before(next):
		next = x.until
	}
	return next
}

// requested tells the session that a request is there to answer, or none any more.
func (x *XHR) requested(there bool) {
	x.onLoop(func() {
		if there {
			x.until = time.Time{}
			return
		}
		x.until = x.wire.loop.Now().Add(awayTime)
		x.socket.Schedule()
	})
}

// onLoop runs f on the loop unless the session is over by then.
func (x *XHR) onLoop(f func()) {
	x.wire.loop.Post(loop.Func(func(*loop.Loop) {
		if !x.socket.Closing() {
			f()
		}
	}), 0)
}

// cut ends the session because the client of the current response has gone.
func (x *XHR) cut(reason error) {
	x.wire.lost = true
	x.wire.loop.Post(loop.Func(func(*loop.Loop) { x.socket.Abort(reason) }), 0)
}

// response is one response in which the session speaks.
type response struct {
	to    *http.ResponseController
	leave chan struct{} // closed when another takes its place
	gone  chan struct{} // closed when it is over
	over  bool          // guarded by wire.mu; its connection may carry other requests by now
}

// hurry bounds how long a write to a response may still take. Under mu.
func (p *response) hurry() {
	if !p.over {
		p.to.SetWriteDeadline(time.Now().Add(hurryTime))
	}
}

// Serve speaks in the response to r, in place of the one before: with poll once, as soon as there is something to say,
// otherwise until the response is full. With an error nothing was written: ErrEnded when the session is over, or
// http.ErrNotSupported when w cannot be flushed.
//
// A client that goes away from a response has gone for good: what was on its way to it is lost, and a session does not
// go on with a gap.
func (x *XHR) Serve(w http.ResponseWriter, r *http.Request, poll bool) error {
	t := &x.wire
	me := &response{to: http.NewResponseController(w), leave: make(chan struct{}), gone: make(chan struct{})}
	me.to.SetWriteDeadline(time.Time{}) // the program's http.Server may have one for its own handlers
	t.mu.Lock()
	before := t.now
	t.now = me
	if before != nil {
		close(before.leave)
		before.hurry()
	}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		me.over = true
		t.mu.Unlock()
		close(me.gone)
	}()
	if before != nil {
		<-before.gone
	}
	if t.lost || t.ended() {
		return ErrEnded
	}
	x.requested(true)
	defer x.requested(false)
	select {
	case t.alive <- struct{}{}:
	default:
	}
	t.asked.Store(false)

	h := w.Header()
	h.Set("Content-Type", "application/javascript; charset=UTF-8") // not sniffed, so that browsers do not hold it back
	h.Set("Cache-Control", "no-store, no-transform")               // nor compressed on the way
	h.Set("X-Accel-Buffering", "no")                               // nor collected
	if !poll {
		if err := me.to.Flush(); err != nil {
			x.cut(err)
			if errors.Is(err, http.ErrNotSupported) {
				return err
			}
			return nil
		}
	}
	for written := 0; ; {
		if len(t.rest) == 0 {
			select {
			case t.rest = <-t.lines:
			case <-me.leave:
				return nil
			case <-t.end:
				if poll { // which says something, or that there is nothing more
					return ErrEnded
				}
				return nil
			case <-r.Context().Done():
				if !me.left() {
					x.cut(io.EOF)
				}
				return nil
			}
		}
		n, units := upTo(t.rest, fullResponse-written)
		written += units
		if poll {
			h.Set("Content-Length", strconv.Itoa(n))
		}
		// A client may leave a full response as soon as it has all of it, which is before the flush knows.
		mayHaveAll := false
		_, err := w.Write(t.rest[:n])
		if err == nil {
			err = me.to.Flush()
			mayHaveAll = written > fullResponse && !errors.Is(err, os.ErrDeadlineExceeded)
		}
		if poll && errors.Is(err, http.ErrNotSupported) {
			err = nil // it is flushed when it ends, which is now
		}
		if err != nil && !mayHaveAll {
			x.cut(err)
			return nil
		}
		if t.rest = t.rest[n:]; len(t.rest) == 0 {
			t.rest = nil
			t.taken <- struct{}{} // has room: there is one Write at a time
		}
		if poll || written > fullResponse {
			return nil
		}
	}
}

func (p *response) left() bool {
	select {
	case <-p.leave:
		return true
	default:
		return false
	}
}

// upTo is the length of the first lines of b that have more than room UTF-16 units, or of all, and how many they have.
func upTo(b []byte, room int) (n, units int) {
	for n < len(b) && units <= room {
		for b[n] != '\n' {
			units += utf16Units(b[n])
			n++
		}
		units++
		n++
	}
	return n, units
}

// utf16Units is how many UTF-16 units begin with a byte of valid UTF-8.
func utf16Units(c byte) int {
	switch {
	case c&0xc0 == 0x80:
		return 0
	case c >= 0xf0:
		return 2
	}
	return 1
}

// Receive takes what the client sends: body reads a JSON array of strings, each of them one message; without any it is a
// heartbeat. It waits while the session takes nothing, and ends the session when ctx's deadline passes meanwhile: what
// the client said is not dropped behind its back.
func (x *XHR) Receive(ctx context.Context, body func() ([]byte, error)) error {
	t := &x.wire
	select {
	case t.sends <- struct{}{}:
	case <-t.end:
		return ErrEnded
	case <-ctx.Done():
		return x.late(ctx)
	}
	defer func() { <-t.sends }()
	b, err := body()
	if err != nil {
		if big, ok := errors.AsType[*http.MaxBytesError](err); ok {
			x.onLoop(func() {
				x.Stop(&hub.Error{Code: hub.TooLarge, Message: fmt.Sprintf("a request with messages is longer than %d bytes", big.Limit)})
			})
		}
		return err
	}
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil || texts == nil {
		return errors.New("it is not a JSON array of strings")
	}
	var frames []byte
	for _, text := range texts {
		frames = ws.AppendMasked(frames, ws.OpText, []byte(text), noMask)
	}
	if len(texts) == 0 {
		op := ws.OpPing // it wants to hear something
		if t.asked.Swap(false) {
			op = ws.OpPong
		}
		frames = ws.AppendMasked(nil, op, nil, noMask)
	}
	select {
	case t.in <- frames:
		return nil
	case <-t.end:
		return ErrEnded
	case <-ctx.Done():
		return x.late(ctx)
	}
}

// late ends the session when its client has waited too long to be heard.
func (x *XHR) late(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		x.onLoop(func() {
			x.Stop(&hub.Error{Code: hub.Busy, Message: "too many of this connection's commands are waiting"})
		})
	}
	return ctx.Err()
}

// noMask: nothing between here and the loop could be confused by what clients choose to send.
var noMask [4]byte

// Read gives the pump what the client says, as frames.
func (t *wire) Read(b []byte) (int, error) {
	if len(t.frames) == 0 {
		select {
		case t.frames = <-t.in:
		case <-t.alive:
			t.frames = ws.AppendMasked(nil, ws.OpPong, nil, noMask)
		case <-t.end:
			return 0, io.EOF
		}
	}
	n := copy(b, t.frames)
	t.frames = t.frames[n:]
	return n, nil
}

// Write takes frames from the pump, and returns when they have been written to a response, as lines.
func (t *wire) Write(frames []byte) (int, error) {
	out := linesOf{wire: t, b: t.first}
	t.first = nil
	if _, err := t.reader.Feed(&fromServer, frames, &out); err != nil {
		return 0, err
	}
	if len(out.b) == 0 {
		return len(frames), nil
	}
	select {
	case t.lines <- out.b:
	case <-t.end:
		return 0, net.ErrClosed
	}
	select {
	case <-t.taken:
		return len(frames), nil
	case <-t.end:
		return 0, net.ErrClosed
	}
}

var fromServer = ws.Config{Client: true, MaxMessage: 1 << 30}

// linesOf turns frames into lines.
type linesOf struct {
	*wire
	b []byte
}

// Message implements ws.Handler.
func (l *linesOf) Message(_ ws.Op, payload []byte) bool {
	l.b = jsontext.AppendString(append(l.b, "a["...), string(payload))
	l.b = append(l.b, "]\n"...)
	return true
}

// Control implements ws.Handler.
func (l *linesOf) Control(op ws.Op, payload []byte) bool {
	switch op {
	case ws.OpPing:
		l.asked.Store(true)
		l.b = append(l.b, "h\n"...)
	case ws.OpPong:
		l.b = append(l.b, "a[]\n"...) // no message, but a sign of life; to h the client would answer again
	case ws.OpClose:
		if code, reason, err := ws.ParseClose(payload); err == nil {
			l.b = strconv.AppendInt(append(l.b, "c["...), int64(code), 10)
			l.b = append(jsontext.AppendString(append(l.b, ','), reason), "]\n"...)
		}
	}
	return true
}

// Close ends the requests. The session is over.
func (t *wire) Close() error {
	t.once.Do(func() {
		close(t.end)
		t.mu.Lock()
		if t.now != nil {
			t.now.hurry()
		}
		t.mu.Unlock()
		t.closed()
	})
	return nil
}

func (t *wire) ended() bool {
	select {
	case <-t.end:
		return true
	default:
		return false
	}
}

// RemoteAddr is the address of the client's first request.
func (t *wire) RemoteAddr() net.Addr { return t.addr }
