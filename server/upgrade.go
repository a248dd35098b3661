package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/protocol/bun"
	"github.com/stacksjs/realtime-go/internal/protocol/pusher"
	"github.com/stacksjs/realtime-go/internal/protocol/socketio"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// refused is why a connection is not upgraded.
type refused struct {
	status int
	why    string
	engine *socketio.Error // of Socket.IO, which has a form of its own
}

// refusedBy is a refusal of Engine.IO's.
func refusedBy(e *socketio.Error) *refused { return &refused{e.Status(), e.Message, e} }

// body is what the client reads.
func (no *refused) body() []byte {
	if no.engine != nil {
		return no.engine.Body()
	}
	return errorBody(no.status, no.why)
}

// shuttingDown is for those who come too late.
var shuttingDown = refused{status: http.StatusServiceUnavailable, why: "the server is shutting down: connect again"}

// handshake is an upgrade request that passed every check.
type handshake struct {
	protocol Protocol
	app      *hub.App
	user     *hub.User
	place    *places // a place in the gate, to be released; nil when none was taken
	answer   []byte  // the 101
	deflate  bool
	library  string     // of the client, as it says
	refused  *hub.Error // what the client is told when it has been let in, and then closed

	// of Socket.IO
	query  socketio.Query
	peer   *socketio.Handshake
	probe  *socketio.Probe // the session is there already
	denied *hub.Error      // why the client may not connect without a token
}

// loop is where the connection must be; nil where it does not matter.
func (h *handshake) loop() *loop.Loop {
	if h.probe != nil {
		return h.probe.Loop
	}
	return nil
}

// protocolAt tells what is spoken at a path, and the app key in it; it is empty where no WebSocket connects.
func (s *Server) protocolAt(path string) (p Protocol, key string) {
	if s.speaks(WebSocket) && (path == s.cfg.Path || path == "/app") {
		return WebSocket, ""
	}
	if s.speaks(SocketIO) && s.isSocketIO(path) {
		return SocketIO, ""
	}
	if s.speaks(Pusher) {
		key, ok := strings.CutPrefix(path, "/app/")
		if !ok && s.cfg.Prefix != "" {
			key, ok = strings.CutPrefix(path, s.cfg.Prefix+"/app/")
		}
		if ok && key != "" && !strings.Contains(key, "/") {
			return Pusher, key
		}
	}
	return "", ""
}

// release gives the place in the gate back, of a connection that never became one.
func (h *handshake) release() {
	if h.place != nil {
		h.place.Release()
	}
}

// end is who is told when the connection has ended; nil when nobody is.
func (h *handshake) end() socket.Releaser {
	if h.place == nil {
		return nil
	}
	return h.place
}

// session makes a place for the connection in its protocol's room. begin is to be called once it is on its loop and
// the handshake's answer was sent.
func (s *Server) session(h *handshake) (lc *loop.Conn, handler loop.Handler, begin func()) {
	end := h.end()
	if h.probe != nil {
		return h.probe.Conn, h.probe.Handler, h.probe.Begin
	}
	if h.protocol == SocketIO {
		c := s.socketio.New(h.query, h.socketPeer())
		lc, handler = c.Loop()
		return lc, handler, func() {
			c.Start(end)
			s.stillServed(h.app, c.Stop)
		}
	}
	if h.protocol == Pusher {
		c := s.pusher.New()
		lc, handler = c.Loop()
		return lc, handler, func() {
			if h.refused != nil {
				c.Refuse(h.refused, end)
				return
			}
			c.Library(h.library)
			c.Start(h.app, h.user, h.deflate, end)
			s.stillServed(h.app, c.Stop)
		}
	}
	c := s.bun.New()
	lc, handler = c.Loop()
	return lc, handler, func() {
		c.Start(h.app, h.user, h.deflate, end)
		s.stillServed(h.app, c.Stop)
	}
}

// admit decides about an upgrade request, however it came in. It may run the application's code, so never on a loop.
func (s *Server) admit(ctx context.Context, r *http.Request) (*handshake, *refused) {
	if e := ws.CheckUpgrade(r); e != nil {
		return nil, &refused{status: e.Status, why: e.Reason}
	}
	q := r.URL.Query()
	protocol, key := s.protocolAt(r.URL.Path)
	if protocol == "" { // mounted by the program under a path of its own
		protocol = WebSocket
	}
	if protocol != Pusher {
		key = q.Get("app")
	}
	h := &handshake{protocol: protocol, library: q.Get("client")}
	if protocol == SocketIO {
		if no := s.engineIO(r, h); no != nil || h.probe != nil {
			h.answer = ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), ws.Upgrade{})
			return h, no
		}
	}
	if h.refused = s.pusherVersion(h, q); h.refused != nil {
		h.answer = ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), ws.Upgrade{})
		return h, nil
	}
	code, no := s.identify(ctx, r, h, key, q.Get("token"))
	if s.draining.Load() { // last, since the application may have taken its time
		h.release()
		return nil, &shuttingDown
	}
	if no != nil {
		if protocol != Pusher {
			return nil, no
		}
		// A browser does not tell a page why an upgrade fails, so that pusher-js would try again for ever.
		h.refused = &hub.Error{Code: code, Message: no.why}
		h.answer = ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), ws.Upgrade{})
		return h, nil
	}
	up := ws.Upgrade{Deflate: !s.cfg.NoCompression && protocol != SocketIO && ws.NegotiateDeflate(r.Header)}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(p) == bun.Subprotocol {
				up.Protocol = bun.Subprotocol
			}
		}
	}
	h.deflate = up.Deflate
	h.answer = ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), up)
	return h, nil
}

// pusherVersion says why a Pusher client's protocol version is not taken, where that is looked at.
func (s *Server) pusherVersion(h *handshake, q url.Values) *hub.Error {
	if h.protocol != Pusher || !s.cfg.StrictVersion {
		return nil
	}
	return pusher.CheckVersion(q.Get("protocol"))
}

// identify finds the app and the user of a handshake and a place for it.
func (s *Server) identify(ctx context.Context, r *http.Request, h *handshake, key, token string) (hub.Code, *refused) {
	if !s.originAllowed(r) {
		return hub.OriginRefused, &refused{status: http.StatusForbidden, why: fmt.Sprintf("origin %.200q is not allowed: add it to the server's origins", r.Header.Get("Origin"))}
	}
	if h.app = s.app(key); h.app == nil {
		return hub.UnknownApp, &refused{status: http.StatusUnauthorized, why: fmt.Sprintf("there is no app with the key %.100q", key)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limits.Handshake)
	defer cancel()
	if h.protocol == SocketIO && !s.auth.TakesTokens() {
		token = "" // it is the program's
	}
	u, err := s.auth.User(ctx, r, token)
	if err != nil {
		var no *auth.Refusal
		if !errors.As(err, &no) {
			s.log.Warn("identifying a client failed", "addr", r.RemoteAddr, "error", err)
		}
		if h.protocol != SocketIO { // whose clients have another chance to say who they are
			return hub.Unauthorized, &refused{status: http.StatusUnauthorized, why: auth.Reason(err)}
		}
		h.denied = &hub.Error{Code: hub.Unauthorized, Message: auth.Reason(err)}
	}
	h.user = user(u)
	if h.place, err = s.gate.enter(h.app.ID, s.apps.Load().most[h.app.ID], r.RemoteAddr); err != nil {
		return hub.TooManyConns, &refused{status: http.StatusServiceUnavailable, why: err.Error()}
	}
	return 0, nil
}

// upgrade takes a connection over from net/http.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	h, no := s.safely(func() (*handshake, *refused) { return s.admit(r.Context(), r) })
	if no != nil {
		switch no.status {
		case http.StatusMethodNotAllowed:
			w.Header().Set("Allow", "GET")
		case http.StatusUpgradeRequired:
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Sec-WebSocket-Version", "13")
		case http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(no.status)
		w.Write(no.body())
		return
	}
	conn, rw, err := hijack(w)
	if err != nil {
		h.release()
		s.log.Error("a WebSocket cannot be taken over from net/http", "path", r.URL.Path, "error", err)
		refuse(w, http.StatusInternalServerError, "the connection cannot be upgraded behind this server's middleware; its log names the cause")
		return
	}
	conn.SetDeadline(noDeadline)
	var first []byte
	if n := rw.Reader.Buffered(); n > 0 { // frames that came with the request
		first, _ = rw.Reader.Peek(n)
		first = append([]byte(nil), first...)
	}
	s.take(conn, first, h)
}

// take makes a connection whose handshake came through net/http a client; first is what it has sent since.
func (s *Server) take(conn net.Conn, first []byte, h *handshake) {
	if p, wrapped := conn.(*prefixed); wrapped { // and what the loop read with it before it left it to net/http
		first, conn = append(first, p.first...), p.Conn
	}
	l := h.loop()
	if l == nil {
		l = s.next()
	}
	lc, handler, begin := s.session(h)
	start := func() {
		lc.Send(h.answer)
		begin()
		lc.Feed(first)
	}
	fd, ok := -1, false
	var err error
	if l.Polls() {
		fd, ok = descriptor(conn)
	}
	if ok {
		err = l.Post(loop.Func(func(l *loop.Loop) {
			if err := l.Attach(lc, handler, fd, nil); err != nil {
				s.log.Error("a connection cannot be attached", "error", err)
				h.release()
				closeDescriptor(fd)
				return
			}
			start()
		}), 0)
	} else {
		err = l.Post(loop.Func(func(l *loop.Loop) {
			l.AttachPump(lc, handler, conn, nil)
			start()
		}), 0)
	}
	if err != nil { // the loops have ended
		h.release()
		if ok {
			closeDescriptor(fd)
		}
		conn.Close()
	}
}

// hijack takes the connection from under a chain of ResponseWriters. The outermost that has Hijack is asked first, since
// it may keep books of its own; but some look for Hijack only one step further, not knowing Unwrap, and fail or panic
// where that step does not have it, so that the next one is asked.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
	chain := []http.ResponseWriter{w}
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
		chain = append(chain, w)
	}
	if _, ok := w.(http.Hijacker); !ok { // asked before anybody's Hijack: gin's spoils the response for the refusal
		return nil, nil, fmt.Errorf("the ResponseWriter %T has neither Hijack nor Unwrap: "+
			"leave its middleware out for this path, or give it a method Unwrap() http.ResponseWriter", w)
	}
	var errs []error
	for _, w := range chain {
		if h, ok := w.(http.Hijacker); ok {
			conn, rw, err := try(h)
			if err == nil {
				return conn, rw, nil
			}
			errs = append(errs, fmt.Errorf("%T: %w", w, err))
		}
	}
	return nil, nil, errors.Join(errs...)
}

// try is Hijack, with a panic as an error.
func try(h http.Hijacker) (conn net.Conn, rw *bufio.ReadWriter, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in Hijack: %v", p)
		}
	}()
	return h.Hijack()
}

// descriptor takes the socket out of a plain TCP connection, whose Go side is closed: the loop has its own.
func descriptor(c net.Conn) (fd int, ok bool) {
	tc, plain := c.(*net.TCPConn)
	if !plain {
		return -1, false
	}
	fd, err := duplicate(tc)
	if err != nil {
		return -1, false
	}
	tc.Close()
	return fd, true
}

// front is a connection that the loop has accepted and that has not said yet what it wants.
type front struct {
	loop.Conn
	srv    *Server
	rest   *handedOver // for what is not a WebSocket
	buf    []byte
	remote net.Addr
	asked  bool // the request is being decided about
}

// accepted runs on the loop for every new connection.
func (s *Server) accepted(l *loop.Loop, fd int, remote net.Addr, rest *handedOver) {
	f := &front{srv: s, rest: rest, remote: remote}
	if err := l.Attach(&f.Conn, f, fd, nil); err != nil {
		s.log.Error("a connection cannot be attached", "error", err)
		closeDescriptor(fd)
		return
	}
	f.SetDeadline(l.Now().Add(s.cfg.Limits.Handshake))
	if s.draining.Load() {
		f.refuse(&shuttingDown)
	}
}

// Data implements loop.Handler: the first bytes decide who the connection is for.
func (f *front) Data(_ *loop.Conn, b []byte) int {
	had := len(f.buf)
	in := b
	if had > 0 {
		f.buf = append(f.buf, b...)
		in = f.buf
	}
	if in[0] == tlsHandshake {
		f.refuse(&refused{status: http.StatusBadRequest, why: "this port speaks plain HTTP, and the client began TLS: connect with ws:// or http://"})
		return len(b)
	}
	what, r, n := ws.SniffRequest(in)
	if what == ws.Ours {
		if p, _ := f.srv.protocolAt(r.URL.Path); p == "" {
			what = ws.NotOurs
		}
	}
	switch what {
	case ws.NeedMore:
		if had == 0 {
			f.buf = append(f.buf, b...)
		}
		return len(b)
	case ws.NotOurs:
		f.handOver(append([]byte(nil), in...))
		return len(b)
	}
	r.RemoteAddr = f.remote.String()
	f.buf = nil
	f.asked = true
	f.Pause() // what follows the request waits for its answer
	l := f.Conn.Loop()
	if !f.srv.auth.MustWait(r, r.URL.Query().Get("token")) {
		h, no := f.srv.admit(context.Background(), r)
		if no == nil && h.loop() != nil && h.loop() != l { // what follows the request is kept when this has returned, and goes along
			l.Post(loop.Func(func(*loop.Loop) { f.answer(h, nil) }), 0)
			return n - had
		}
		f.answer(h, no)
		return n - had
	}
	go func() {
		h, no := f.srv.safely(func() (*handshake, *refused) { return f.srv.admit(context.Background(), r) })
		if l.Post(loop.Func(func(*loop.Loop) { f.answer(h, no) }), 0) != nil && h != nil {
			h.release()
		}
	}()
	return n - had
}

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// safely takes a panic of the application's code for a refusal.
func (s *Server) safely(admit func() (*handshake, *refused)) (h *handshake, no *refused) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("identifying a client panicked", "panic", p)
			h, no = nil, &refused{status: http.StatusInternalServerError, why: "identification failed"}
		}
	}()
	return admit()
}

// answer ends the handshake, one way or the other.
func (f *front) answer(h *handshake, no *refused) {
	if f.IsClosed() || f.Closing() {
		if h != nil {
			h.release()
		}
		return
	}
	if no != nil {
		f.refuse(no)
		return
	}
	if l := h.loop(); l != nil && l != f.Conn.Loop() {
		f.move(l, h)
		return
	}
	lc, handler, begin := f.srv.session(h)
	lc.Become(&f.Conn, handler)
	lc.Send(h.answer)
	begin()
	lc.Resume()
}

// move goes on on another loop, where the session is.
func (f *front) move(l *loop.Loop, h *handshake) {
	fd, unread := f.Detach()
	lc, handler, begin := f.srv.session(h)
	if l.Post(loop.Func(func(l *loop.Loop) {
		if err := l.Attach(lc, handler, fd, nil); err != nil {
			f.srv.log.Error("a connection cannot be attached", "error", err)
			closeDescriptor(fd)
			return
		}
		lc.Send(h.answer)
		begin()
		lc.Feed(unread)
	}), 0) != nil {
		closeDescriptor(fd)
	}
}

// refuse ends the connection with an HTTP response.
func (f *front) refuse(no *refused) { f.Shut(httpRefusal(no), errors.New(no.why), lingerTime) }

// handOver gives the connection to net/http with the bytes it has sent.
func (f *front) handOver(first []byte) {
	fd, _ := f.Detach() // first is all there is
	conn, err := fileConn(fd)
	if err != nil {
		f.srv.log.Error("a connection cannot be handed to net/http", "error", err)
		return
	}
	f.rest.give(&prefixed{Conn: conn, first: first})
}

// Timeout implements loop.Handler.
func (f *front) Timeout(*loop.Conn) {
	limit := f.srv.cfg.Limits.Handshake
	if f.asked {
		f.refuse(&refused{status: http.StatusServiceUnavailable, why: fmt.Sprintf("identifying the client took longer than %v", limit)})
		return
	}
	f.refuse(&refused{status: http.StatusRequestTimeout, why: fmt.Sprintf("no complete request within %v", limit)})
}

// Drained implements loop.Handler.
func (f *front) Drained(*loop.Conn, []loop.Dropped) {}

// Slow implements loop.Handler.
func (f *front) Slow(*loop.Conn) ([]byte, time.Duration) { return nil, 0 }

// Closed implements loop.Handler.
func (f *front) Closed(*loop.Conn, error) { f.buf = nil }

// httpRefusal is the same answer as refuse gives, in bytes.
func httpRefusal(no *refused) []byte {
	body := no.body()
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n",
		no.status, http.StatusText(no.status), len(body))
	if no.status == http.StatusServiceUnavailable {
		b = append(b, "Retry-After: 1\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}

// errorBody is for people to read: "&" stays what it is.
func errorBody(status int, why string) []byte {
	return fmt.Appendf(nil, `{"error":%s,"code":%d}`+"\n", jsontext.AppendString(nil, why), status)
}

// prefixed is a connection some of whose bytes were read already.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite lets net/http end its side first, so that what it said last is not lost.
func (p *prefixed) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
