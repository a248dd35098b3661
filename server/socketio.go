package server

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// SocketIOConfig says how Socket.IO is spoken. The zero value is what socket.io-client 3 and 4 expect.
type SocketIOConfig struct {
	// Path is where clients connect. Empty means "/socket.io/", the clients' own default.
	Path string
	// EIO3 lets clients of Socket.IO 2 in, which speak Engine.IO 3. They cannot come back (see Recovery), and learn no
	// socket id of ours.
	EIO3 bool
	// Recovery is how long a client may be away and come back as who it was: with its id, rooms and subscriptions, and with
	// everything it missed. Every event without acknowledgement then has one more argument, the last: a string. Zero means
	// 2 min; negative: clients begin anew.
	Recovery time.Duration
	// Cookie names a cookie with the session id, for load balancers that want one. Empty: there is none.
	Cookie string
	// PingInterval and PingTimeout are the heartbeat: 25 s and 20 s. ConnectTimeout is how long a connection may be without
	// a namespace, 45 s; UpgradeTimeout how long a WebSocket may take to replace polling, 10 s. For each, zero or less means
	// the default.
	PingInterval, PingTimeout, ConnectTimeout, UpgradeTimeout time.Duration
	// MaxPayload is the longest message of a client, and the longest body of a request, in bytes. Zero or less means
	// 1,000,000.
	MaxPayload int
	// Attachments is how many binary attachments one event may have. Zero or less means 10.
	Attachments int
}

func (c SocketIOConfig) withDefaults() SocketIOConfig {
	c.Path = "/" + strings.Trim(cmp.Or(c.Path, "socket.io"), "/") + "/"
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.PingInterval, 25 * time.Second}, {&c.PingTimeout, 20 * time.Second}, {&c.ConnectTimeout, 45 * time.Second}, {&c.UpgradeTimeout, 10 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	switch {
	case c.Recovery == 0:
		c.Recovery = 2 * time.Minute
	case c.Recovery < 0:
		c.Recovery = 0
	}
	if c.MaxPayload <= 0 {
		c.MaxPayload = 1_000_000
	}
	if c.Attachments <= 0 {
		c.Attachments = 10
	}
	return c
}

// startSocketIO makes the room of that protocol, if it is spoken.
func (s *Server) startSocketIO() error {
	c, l := s.cfg.SocketIO, s.cfg.Limits
	authenticate := s.authenticate
	if !s.auth.TakesTokens() {
		authenticate = nil
	}
	s.socketio = socketio.NewRoom(socketio.Config{
		Hub: s.hub, Loops: s.loops, Logger: s.log, Echo: s.cfg.echo,
		Authenticate: authenticate, EventNamespace: s.cfg.EventNamespace, Recovery: c.Recovery, EIO3: c.EIO3, Cookie: c.Cookie,
		PingInterval: c.PingInterval, PingTimeout: c.PingTimeout, ConnectTimeout: c.ConnectTimeout, UpgradeTimeout: c.UpgradeTimeout,
		MaxPayload: c.MaxPayload, Attachments: c.Attachments, Namespaces: 100, Acks: 4096, Waiting: 64,
		CallTime: defaultTime(l.AuthorizeTime, 10*time.Second), Calls: defaultCount(l.Authorizing, 10_000),
	})
	if s.cfg.IO == nil {
		return nil
	}
	s.socketio.Serve(s.cfg.IO.Program, s.cfg.IO.Match())
	return s.cfg.IO.Attach(s.socketio, func() *hub.App { return s.apps.Load().first })
}

func defaultTime(d, or time.Duration) time.Duration {
	if d <= 0 {
		return or
	}
	return d
}

func defaultCount(n, or int) int {
	switch {
	case n == 0:
		return or
	case n < 0:
		return noLimit
	}
	return n
}

// isSocketIO reports whether Socket.IO clients connect at a path.
func (s *Server) isSocketIO(path string) bool {
	want := s.cfg.SocketIO.Path
	if rest, ok := strings.CutPrefix(path, s.cfg.Prefix); ok {
		path = rest
	}
	return path == want || path == want[:len(want)-1]
}

// engineIO reads the Engine.IO side of a WebSocket handshake.
func (s *Server) engineIO(r *http.Request, h *handshake) *refused {
	q, e := s.socketio.Query(r.URL.Query())
	if e == nil && q.Transport != "websocket" {
		e = socketio.ErrRequest
	}
	if e != nil {
		return refusedBy(e)
	}
	h.query = q
	if q.SID == "" {
		h.peer = s.socketHandshake(r)
		return nil
	}
	if !s.originAllowed(r) {
		return refusedBy(socketio.Forbidden("the page's origin is not allowed: add it to the server's origins"))
	}
	if h.probe, e = s.socketio.Probe(q); e != nil {
		return refusedBy(e)
	}
	return nil
}

// socketHandshake is what the program may want to know of a request; nil where there is none to ask.
func (s *Server) socketHandshake(r *http.Request) *socketio.Handshake {
	if s.cfg.IO == nil {
		return nil
	}
	return &socketio.Handshake{Header: r.Header, URL: r.URL.RequestURI(), Query: r.URL.Query(), Addr: r.RemoteAddr, Time: s.now()}
}

func (h *handshake) socketPeer() socketio.Peer {
	return socketio.Peer{App: h.app, User: h.user, Denied: h.denied, Handshake: h.peer}
}

// polling serves Socket.IO clients over HTTP requests, and leads those with a WebSocket on.
func (s *Server) polling(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.socket(w, r)
		return
	}
	s.served.Store(true)
	if !s.cors(w, r) {
		return
	}
	if e := s.poll(w, r); e != nil {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(e.Status())
		w.Write(e.Body())
	}
}

func (s *Server) poll(w http.ResponseWriter, r *http.Request) *socketio.Error {
	q, e := s.socketio.Query(r.URL.Query())
	if e == nil && q.Transport != "polling" {
		e = socketio.ErrRequest
	}
	if e != nil {
		return e
	}
	if q.SID != "" {
		return s.socketio.Go(w, r, q, func() ([]byte, error) { return s.body(w, r, int64(s.cfg.SocketIO.MaxPayload)) })
	}
	if r.Method != http.MethodGet {
		return socketio.ErrMethod
	}
	unavailable := func(why string) {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, why)
	}
	if s.draining.Load() {
		unavailable(shuttingDown.why)
		return nil
	}
	h, no := s.safely(func() (*handshake, *refused) {
		h := &handshake{protocol: SocketIO, query: q}
		_, no := s.identify(r.Context(), r, h, r.URL.Query().Get("app"), r.URL.Query().Get("token"))
		return h, no
	})
	switch {
	case no != nil && no.status == http.StatusServiceUnavailable:
		unavailable(no.why)
		return nil
	case no != nil:
		return socketio.Forbidden(no.why)
	}
	h.peer = s.socketHandshake(r)
	return s.socketio.Polling(w, r, s.next(), q, h.socketPeer(), h.end(), func(stop func(*hub.Error)) { s.stillServed(h.app, stop) })
}
