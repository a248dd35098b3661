// Package server is the realtime server: an http.Handler to mount in any program or a listener of its own, and a
// realtime.Driver for the program it is embedded in.
//
//	srv, err := server.New(server.Config{Auth: who, Origins: []string{"https://shop.example"}})
//	...
//	b, err := realtime.New(srv, broadcasts.All()) // the server is itself a driver
//	realtime.SetDefault(b)
//	err = srv.Run(ctx, ":6001")
//
// Where a network lets no WebSocket through, pusher-js falls back to HTTP by itself (xhr_streaming, xhr_polling); a proxy
// in front must pass the Host header on, or set X-Forwarded-Host, and pages of other origins must be in Config.Origins.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/protocol/bun"
	"github.com/stacksjs/realtime-go/internal/protocol/pusher"
	"github.com/stacksjs/realtime-go/internal/protocol/socketio"
	"github.com/stacksjs/realtime-go/internal/socket"
	"github.com/stacksjs/realtime-go/internal/webhook"
	io "github.com/stacksjs/realtime-go/socketio"
)

// Config of a Server. The zero value serves one application without keys: public channels for everybody of the same
// origin, and nothing else.
type Config struct {
	// Apps are the applications served. The first is the default one. Empty means one app with the id "1" and no
	// keys, which accepts no signatures and no HTTP requests to publish.
	Apps []App
	// Auth says who connects and who may listen. Nil means that only Pusher signatures of the apps' keys open
	// private and presence channels.
	Auth *auth.Auth
	// Origins are the web pages' origins that may connect ("https://shop.example"), besides the server's own. "*"
	// allows every page; "https://*.example" every subdomain. Clients that are no browsers send no origin and are
	// not concerned.
	Origins []string
	// Channels are the policies of channels; the first whose pattern matches a channel's wire name holds.
	Channels []Channel
	// Handlers take events that clients send to the server, by event name. See also Server.On.
	Handlers map[string]Handler
	// Hook is told what happens: who connects, subscribes, leaves. See Event. Events of one client, and of one
	// channel, arrive in order; the hook may take its time, but when 65,536 events wait the next ones are lost,
	// counted and logged. Nil: nobody is told.
	Hook   func(context.Context, Event)
	Limits Limits
	// Protocols are what is spoken. Empty means all there are.
	Protocols []Protocol
	// Path is where plain WebSockets connect. Empty means "/ws"; "/app" is always served too.
	Path string
	// Prefix stands before the paths of the Pusher protocol and its HTTP API, for clients that are told a wsPath and a
	// httpPath: with "/realtime", /realtime/app/{key}. Empty: none.
	Prefix string
	// IO has the program's namespaces for Socket.IO clients, and what it does in them; New ends the time of registering.
	// Nil: there is "/" alone, for channels.
	IO *io.IO
	// SocketIO says how Socket.IO is spoken.
	SocketIO SocketIOConfig
	// StrictVersion closes connections of Pusher clients that do not name a version of their protocol which is spoken here
	// (5 to 7), as hosted Pusher does: with 4008, 4006 or 4007. Otherwise the version is not looked at.
	StrictVersion bool
	// NoCompression refuses permessage-deflate (RFC 7692). Otherwise it is accepted without context takeover, so that a
	// message is compressed once for all its receivers.
	NoCompression bool
	// EventNamespace stands before the names of the program's own events where Pusher clients hear them: with
	// "App.Events", laravel-echo's listen("OrderShipped") hears OrderShipped, as App\Events\OrderShipped. An event whose name begins
	// with a dot is sent without the dot and the namespace. Empty: names are sent as they are.
	EventNamespace string
	// CertFile and KeyFile are PEM files; with both, Run serves TLS.
	CertFile, KeyFile string
	// DrainWindow is the time over which Shutdown spreads the closes of connections, so that they do not come back
	// all at once. Zero means 5 s; it is never more than half of what Shutdown's context leaves.
	DrainWindow time.Duration
	// Loops is how many event loops own the connections. Zero means GOMAXPROCS.
	Loops int
	// Logger gets one line at debug level for each connection's beginning and end, and what goes wrong at higher
	// ones. Nil means slog.Default.
	Logger *slog.Logger

	// portable makes every connection a pump, as on systems without epoll.
	portable bool
	// now is the clock of connections, channels and signatures; nil means time.Now.
	now func() time.Time
	// after is the clock of the drain; nil means time.After.
	after func(time.Duration) <-chan time.Time
	// echo is socketio.Config.Echo.
	echo bool
	// grace is webhook.Config.Grace.
	grace time.Duration
}

// Protocol is a wire protocol that clients speak.
type Protocol string

const (
	WebSocket Protocol = "ws"       // plain JSON at Config.Path
	SocketIO  Protocol = "socketio" // Socket.IO 5, at Config.SocketIO.Path: over WebSocket and HTTP polling
	Pusher    Protocol = "pusher"   // Pusher Channels, version 7, at /app/{key}: over WebSocket, or over HTTP requests below it
)

// speaks reports whether clients may use a protocol.
func (s *Server) speaks(p Protocol) bool {
	return len(s.cfg.Protocols) == 0 || slices.Contains(s.cfg.Protocols, p)
}

// Limits bound whatever a stranger could make grow. For each, zero means the default named, and a negative value no
// limit, unless said otherwise; the durations are never unlimited, and negative ones mean the default.
type Limits struct {
	Connections           int           // on the whole server: 100,000
	ConnectionsPerAddress int           // from one IP address: no limit, since proxies and offices share one
	Handshake             time.Duration // from accepting a connection to a complete request, and again for a request's body: 10 s
	ChannelsPerConnection int           // subscriptions: 100
	MessageBytes          int           // one WebSocket message from a client: 128 KiB; negative means 1 GiB
	PayloadBytes          int           // one event's data: 100 KiB
	QueuedBytes           int           // waiting for one connection that does not read: 4 MiB. Never unlimited.
	WhispersPerSecond     int           // of one connection: 10
	PublishesPerSecond    int           // of one connection that may publish: no limit
	MemberBytes           int           // id and info of one presence member: 1 KiB
	AuthorizeTime         time.Duration // one call of the application's code for a client: 10 s
	Authorizing           int           // such calls under way: 10,000, and some 64 of them for one connection
	IdempotencyWindow     time.Duration // how long a message's ID is remembered: 2 min; negative: not at all. At most 524,288 ids are.
	Ping                  time.Duration // silence after which a client is pinged: 60 s
	Pong                  time.Duration // and may take to answer: 30 s
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			*v = int(^uint(0) >> 1)
		}
	}
	set(&l.Connections, 100_000)
	set(&l.ConnectionsPerAddress, -1)
	if l.MessageBytes == 0 {
		l.MessageBytes = 128 << 10
	}
	if l.MessageBytes < 0 {
		l.MessageBytes = 1 << 30
	}
	if l.QueuedBytes <= 0 {
		l.QueuedBytes = 4 << 20
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&l.Handshake, 10 * time.Second}, {&l.Ping, time.Minute}, {&l.Pong, 30 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return l
}

// Server is a realtime server. Make it with New, and end it with Shutdown, even if Run was never called. Its methods
// may be called from any goroutine.
type Server struct {
	cfg      Config
	log      *slog.Logger
	auth     *auth.Auth
	apps     atomic.Pointer[apps]
	loops    []*loop.Loop
	hub      *hub.Hub
	bun      *bun.Room
	pusher   *pusher.Room
	socketio *socketio.Room
	xhrs     xhrs
	mux      *http.ServeMux
	gate     *gate
	byEv     map[string]hub.Handler
	hooks    map[string]*webhook.Sender // by app id; of apps that have webhooks
	served   atomic.Bool                // something has been served: handlers are fixed

	draining  atomic.Bool
	drainOnce sync.Once
	drained   chan struct{}
	drainErr  error

	mu        sync.Mutex
	listening []func(context.Context) error // guarded by mu: what stops the listeners
}

// New makes a server and starts its event loops. It returns everything that is wrong with the configuration.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, drained: make(chan struct{})}
	s.cfg.Limits = cfg.Limits.withDefaults()
	s.cfg.SocketIO = cfg.SocketIO.withDefaults()
	if s.cfg.Path == "" {
		s.cfg.Path = "/ws"
	}
	if s.cfg.DrainWindow == 0 {
		s.cfg.DrainWindow = 5 * time.Second
	}
	if s.log = cfg.Logger; s.log == nil {
		s.log = slog.Default()
	}
	if s.auth = cfg.Auth; s.auth == nil {
		s.auth = auth.New()
	}
	policies, err := s.check()
	if err != nil {
		return nil, err
	}
	s.gate = newGate(s.cfg.Limits)

	n := cfg.Loops
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for i := range min(n, 255) {
		l, err := loop.New(i, loop.Config{MaxQueued: s.cfg.Limits.QueuedBytes, Portable: cfg.portable, Now: cfg.now, Logger: s.log})
		if err != nil {
			s.stopLoops()
			return nil, fmt.Errorf("server: %w", err)
		}
		s.loops = append(s.loops, l)
	}
	s.startWebhooks()
	l := s.cfg.Limits
	s.byEv = map[string]hub.Handler{}
	for name, h := range cfg.Handlers {
		s.byEv[name] = s.handler(h)
	}
	s.hub = hub.New(hub.Config{
		Loops: s.loops, Policies: policies, Authorizer: authorizer{s.auth}, Hook: s.hook(), Observe: s.observe(), Handlers: s.byEv, Now: cfg.now, Logger: s.log,
		Recovery: s.recovery(), Silence: s.cfg.SocketIO.PingInterval + 2*s.cfg.SocketIO.PingTimeout,
		Limits: hub.Limits{
			ChannelsPerClient: l.ChannelsPerConnection, Payload: l.PayloadBytes, MemberBytes: l.MemberBytes,
			Calls: l.Authorizing, CallTime: l.AuthorizeTime, WhispersPerSecond: l.WhispersPerSecond,
			PublishPerSecond: l.PublishesPerSecond, Window: l.IdempotencyWindow,
		},
	})
	s.bun = &bun.Room{
		Hub: s.hub, Logger: s.log, ActivityTimeout: 2 * time.Minute,
		Socket:       socket.NewConfig(l.MessageBytes, l.Ping, l.Pong, 5*time.Second),
		Authenticate: s.authenticate,
	}
	s.pusher = &pusher.Room{
		Hub: s.hub, ActivityTimeout: 2 * time.Minute, Socket: s.bun.Socket, Namespace: cfg.EventNamespace, SignIn: signIn, Authenticate: s.authenticate,
		XHR: socket.NewConfig(l.MessageBytes, min(l.Ping, xhrPing), min(l.Pong, xhrPong), 5*time.Second),
	}
	if err := s.startSocketIO(); err != nil {
		s.hub.Close()
		s.stopLoops()
		return nil, err
	}
	s.mux = s.routes()
	return s, nil
}

// recovery is how long clients that can come back may be away.
func (s *Server) recovery() time.Duration {
	if !s.speaks(SocketIO) {
		return 0
	}
	return s.cfg.SocketIO.Recovery
}

// check validates the configuration and translates it.
func (s *Server) check() ([]*hub.Policy, error) {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf("server: "+format, args...)) }
	apps, err := s.appTable(s.cfg.Apps)
	if err != nil {
		errs = append(errs, err)
	}
	s.apps.Store(apps)
	if p := s.cfg.Path; p == "/" || !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "{} ?#") {
		add("path %.60q for WebSockets is not one such as /ws", p)
	} else if ownPath(p) {
		add("path %.60q for WebSockets is the server's own for something else", p)
	}
	if p := s.cfg.SocketIO.Path; s.speaks(SocketIO) {
		switch {
		case strings.Contains(p, "//") || strings.ContainsAny(p, "{} ?#%"):
			add("path %.60q for Socket.IO is not one such as /socket.io/", p)
		case s.speaks(WebSocket) && (p == s.cfg.Path+"/" || p == "/app/"):
			add("path %.60q is for plain WebSockets already, and cannot be for Socket.IO too", p)
		case ownPath(p):
			add("path %.60q for Socket.IO is the server's own for something else", p)
		}
	}
	s.checkWebhooks(add)
	if err := s.auth.Check(); err != nil {
		errs = append(errs, err)
	}
	for _, o := range s.cfg.Origins {
		if err := checkOriginPattern(o); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range s.cfg.Protocols {
		if p != WebSocket && p != Pusher && p != SocketIO {
			add("protocol %q is unknown; there are %q, %q and %q", p, WebSocket, Pusher, SocketIO)
		}
	}
	if s.cfg.IO != nil && !s.speaks(SocketIO) {
		add("there are namespaces (IO), but %q is not among the protocols", SocketIO)
	}
	if p := s.cfg.Prefix; p != "" && (p[0] != '/' || p[len(p)-1] == '/' || strings.ContainsAny(p, "{} ?#%")) {
		add("prefix %q must begin with a slash, not end with one, and be a plain path", p)
	}
	if (s.cfg.CertFile == "") != (s.cfg.KeyFile == "") {
		add("TLS needs both CertFile and KeyFile")
	}
	var policies []*hub.Policy
	for _, c := range s.cfg.Channels {
		if c.Slow != Disconnect && c.Slow != DropOldest && c.Slow != KeepLatest {
			add("channel policy %q: slow is %q, which is none of Disconnect, DropOldest and KeepLatest", c.Pattern, c.Slow)
		}
		p := c.policy()
		if err := p.Check(); err != nil {
			errs = append(errs, fmt.Errorf("server: %w", err))
		}
		policies = append(policies, &p)
	}
	return policies, errors.Join(errs...)
}

// ServeHTTP serves everything, by path: plain WebSockets at Config.Path and /app (docs/protocol-ws.md); Pusher clients
// at /app/{key} (Pusher Channels documentation, "Pusher Channels Protocol"); /apps/{id}/… for other programs that
// publish and ask (its "HTTP API reference"); auth and user-auth under /broadcasting/ and /pusher/ for browsers that
// need signatures (auth.Auth.Handler); GET /health, and GET /ready, which is 503 once Shutdown has begun. A router may
// give it all of them or some; a middleware whose ResponseWriter has neither Hijack nor Unwrap keeps WebSockets from
// being served.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// next spreads connections over the loops.
func (s *Server) next() *loop.Loop {
	best := s.loops[0]
	for _, l := range s.loops[1:] {
		if l.Conns() < best.Conns() {
			best = l
		}
	}
	return best
}

func (s *Server) stopLoops() {
	for _, l := range s.loops {
		l.Stop()
	}
}
