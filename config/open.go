package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	logdriver "github.com/stacksjs/realtime-go/driver/log"
	"github.com/stacksjs/realtime-go/driver/null"
	"github.com/stacksjs/realtime-go/driver/pusher"
	"github.com/stacksjs/realtime-go/driver/socketio"
	"github.com/stacksjs/realtime-go/server"
)

// App is what a configuration opened. Its methods may be called concurrently.
type App struct {
	// Broadcaster sends through the driver. realtime.SetDefault makes it that of the whole program.
	Broadcaster *realtime.Broadcaster
	// Driver is what Broadcaster sends through: *server.Server, *pusher.Driver (which also answers questions about
	// channels), *socketio.Driver (which also reaches any room and namespace), or one of the others.
	Driver realtime.Driver
	// Server is the embedded server, for Run or to be mounted in a router. Nil with drivers that have none.
	Server *server.Server
	// Config is what it was opened from.
	Config *Config

	changes []func(*server.Config) // the program's
}

// Option is a choice of the program, which a file cannot make.
type Option func(*options)

type options struct {
	auth   *auth.Auth
	server []func(*server.Config)
	logger *slog.Logger

	middleware []realtime.Middleware
}

// WithAuth gives the server the program's authorizers. Tokens and anonymous access that the configuration speaks of
// are added to a, so it serves one Open only.
func WithAuth(a *auth.Auth) Option { return func(o *options) { o.auth = a } }

// WithServer lets the program change what the configuration says of the server before it is made: hooks, handlers.
// Several are called in their order; with drivers that have no server, none is.
func WithServer(change func(*server.Config)) Option {
	return func(o *options) { o.server = append(o.server, change) }
}

// WithMiddleware puts middleware around sending, the first outermost: retries, logging, end-to-end encryption.
func WithMiddleware(mw ...realtime.Middleware) Option {
	return func(o *options) { o.middleware = append(o.middleware, mw...) }
}

// WithLogger is where server and driver log. Without it, slog.Default.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// Open loads a configuration (see Load; an empty path is the environment alone) and opens its driver; nothing listens
// before Run. A nil events is an empty table. The error joins all that is wrong. ctx is for opening only; whoever opens
// must Close.
func Open(ctx context.Context, path string, events *realtime.Events, opts ...Option) (*App, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := Load(path)
	if err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	app := &App{Config: c, changes: o.server}
	switch {
	case c.intoNode():
		if app.Driver, err = socketio.New(c.socketio(o)); err != nil {
			return nil, c.wrap(err)
		}
	case c.Driver == "log":
		app.Driver = logdriver.New(o.logger)
	case c.Driver == "null":
		app.Driver = null.New()
	case c.Driver == "pusher":
		if app.Driver, err = pusher.New(c.pusher(o)); err != nil {
			return nil, c.wrap(err)
		}
	default: // bun and socket: the embedded server
		cfg, err := c.server(o)
		if err != nil {
			return nil, err
		}
		if app.Server, err = server.New(cfg); err != nil {
			return nil, c.wrap(err)
		}
		app.Driver = app.Server
	}
	if app.Broadcaster, err = realtime.New(app.Driver, events, o.middleware...); err != nil {
		if app.Server != nil {
			app.Server.Shutdown(ctx)
		}
		return nil, err
	}
	return app, nil
}

func (c *Config) wrap(err error) error {
	if err == nil || c.file == "" {
		return err
	}
	return fmt.Errorf("%s: %w", c.file, err)
}

// Addr is where Run listens: "host:port".
func (a *App) Addr() string { return a.Config.Addr() }

// Addr is the address the configuration says to listen on: "host:port".
func (c *Config) Addr() string {
	return net.JoinHostPort(strings.Trim(c.Server.Host, "[]"), strconv.Itoa(int(c.Server.Port)))
}

// ServeHTTP serves what Server does, so that an App can be mounted in a router whatever its driver: with drivers that
// have no server it answers 404, and says why.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.Server == nil {
		why := fmt.Sprintf("driver %q has none", a.Config.Driver)
		if a.Config.intoNode() {
			why = "with socket.redis events go to Node servers, and nothing is served here"
		}
		http.Error(w, "no realtime server: "+why, http.StatusNotFound)
		return
	}
	a.Server.ServeHTTP(w, r)
}

// Run serves where the configuration says until ctx ends, then drains as server.Run does, and returns nil. With
// drivers that have no server it only waits for ctx to end, so that a program is the same for every driver.
func (a *App) Run(ctx context.Context) error {
	if a.Server == nil {
		<-ctx.Done()
		return nil
	}
	return a.Server.Run(ctx, a.Addr())
}

// Reload reads the file and the environment again and gives the server the applications they name now: keys come and go,
// switches are turned, and no connection of an application that stays is dropped. Everything else holds until a restart.
// When something is wrong nothing changes. It does nothing with drivers that have no server.
func (a *App) Reload() error {
	if a.Server == nil {
		return nil
	}
	c, err := Load(a.Config.file)
	if err != nil {
		return err
	}
	cfg := server.Config{Apps: c.apps()}
	for _, change := range a.changes {
		change(&cfg)
	}
	return c.wrap(a.Server.SetApps(cfg.Apps))
}

// Close waits for what is being sent, refuses what comes later, and shuts the server down, telling its clients. When ctx
// ends first, the rest is cut off and the error says so.
func (a *App) Close(ctx context.Context) error {
	err := a.Broadcaster.Close(ctx)
	if a.Server != nil {
		err = errors.Join(err, a.Server.Shutdown(ctx))
	}
	return err
}

// server translates the configuration.
func (c *Config) server(o options) (server.Config, error) {
	s, l := c.Server, c.Limits
	cfg := server.Config{
		Apps: c.apps(), Origins: s.Origins, Path: s.Path, Prefix: s.Prefix, StrictVersion: s.StrictVersion, EventNamespace: c.Pusher.EventNamespace, NoCompression: s.Compression != nil && !*s.Compression,
		CertFile: c.path(s.TLS.Cert), KeyFile: c.path(s.TLS.Key), DrainWindow: time.Duration(s.Drain), Loops: s.Loops, Logger: o.logger,
		Limits: server.Limits{
			Connections: l.Connections, ConnectionsPerAddress: l.ConnectionsPerAddress, Handshake: time.Duration(l.Handshake),
			ChannelsPerConnection: l.ChannelsPerConnection, MessageBytes: int(l.MessageBytes), PayloadBytes: int(l.PayloadBytes),
			QueuedBytes: int(l.QueuedBytes), WhispersPerSecond: l.WhispersPerSecond, PublishesPerSecond: l.PublishesPerSecond,
			MemberBytes: int(l.MemberBytes), AuthorizeTime: time.Duration(l.AuthorizeTime), Authorizing: l.Authorizing,
			IdempotencyWindow: time.Duration(l.IdempotencyWindow), Ping: time.Duration(l.Ping), Pong: time.Duration(l.Pong),
		},
	}
	cfg.SocketIO = server.SocketIOConfig{
		Path: c.Socket.Path, EIO3: c.Socket.EIO3, Recovery: time.Duration(c.Socket.Recovery), Cookie: c.Socket.Cookie,
		PingInterval: time.Duration(c.Socket.PingInterval), PingTimeout: time.Duration(c.Socket.PingTimeout), MaxPayload: int(c.Socket.MaxPayload),
	}
	for _, p := range c.Protocols {
		cfg.Protocols = append(cfg.Protocols, server.Protocol(p))
	}
	if c.file != "" && len(c.Protocols) == 0 {
		cfg.Protocols = []server.Protocol{server.WebSocket}
	}
	for _, ch := range c.Channels {
		cfg.Channels = append(cfg.Channels, ch.policy())
	}
	cfg.Auth = o.auth
	if c.Auth.JWT != (JWT{}) {
		if cfg.Auth == nil {
			cfg.Auth = auth.New()
		}
		j, err := c.jwt()
		if err != nil {
			return server.Config{}, c.wrap(err)
		}
		cfg.Auth.JWT(j)
	}
	if c.Auth.Anonymous && cfg.Auth != nil {
		cfg.Auth.AllowAnonymous()
	}
	for _, change := range o.server {
		change(&cfg)
	}
	return cfg, nil
}

func (c *Config) apps() []server.App {
	var apps []server.App
	if p := c.Pusher; p.AppID != "" {
		apps = append(apps, server.App{ID: p.AppID, Keys: []auth.Key{{Key: p.Key, Secret: string(p.Secret)}}})
	}
	for _, a := range c.Apps {
		app := server.App{
			ID: a.ID, Connections: a.Connections, NoClientEvents: a.ClientEvents != nil && !*a.ClientEvents, SubscriptionCounts: a.SubscriptionCounts,
			Watchlists: a.Watchlists, AuthorizedWithin: time.Duration(a.AuthorizedWithin),
		}
		if a.Key != "" {
			app.Keys = append(app.Keys, auth.Key{Key: a.Key, Secret: string(a.Secret)})
		}
		for _, k := range a.Keys {
			app.Keys = append(app.Keys, auth.Key{Key: k.Key, Secret: string(k.Secret)})
		}
		for _, w := range a.Webhooks {
			app.Webhooks = append(app.Webhooks, w.server())
		}
		apps = append(apps, app)
	}
	return apps
}

// pusher translates the section of that name for the driver.
func (c *Config) pusher(o options) pusher.Config {
	p := c.Pusher
	return pusher.Config{
		AppID: p.AppID, Key: p.Key, Secret: string(p.Secret), Cluster: p.Cluster, Host: p.Host, Port: int(p.Port), Scheme: p.scheme(), Path: p.Path,
		EventNamespace: p.EventNamespace, MaxPayload: int(p.MaxPayload), Timeout: time.Duration(p.Timeout), BatchWindow: time.Duration(p.BatchWindow),
		Logger: o.logger,
	}
}

func (p Pusher) scheme() string {
	if p.Scheme == "" && p.UseTLS != nil && !*p.UseTLS {
		return "http"
	}
	return p.Scheme
}

// checkPusher finds what driver pusher cannot work with.
func (c *Config) checkPusher(fail func(key, format string, args ...any)) {
	p := c.Pusher
	if p.Scheme != "" && p.UseTLS != nil && (p.Scheme == "https") != *p.UseTLS && c.where["pusher.scheme"] != "PUSHER_SCHEME" {
		fail("pusher.scheme", "pusher.scheme is %q and pusher.useTLS %t: keep one", p.Scheme, *p.UseTLS)
	}
	if c.Driver != "pusher" {
		return
	}
	complete := true
	for _, x := range [][3]string{{"appId", p.AppID, "PUSHER_APP_ID"}, {"key", p.Key, "PUSHER_APP_KEY"}, {"secret", string(p.Secret), "PUSHER_APP_SECRET"}} {
		if x[1] == "" {
			complete = false
			section := "pusher"
			if c.where[section] == "" {
				section = "driver"
			}
			fail(section, "pusher.%s (or %s) is missing: driver pusher needs appId, key and secret", x[0], x[2])
		}
	}
	if !complete {
		return
	}
	_, err := pusher.New(c.pusher(options{}))
	failFields(err, "pusher: ", "pusher.", nil, fail)
}

// failFields reports what a driver's New has found, each error beginning with the field it is about: the key is in the
// section of its own, and differs in its case only or is in renamed.
func failFields(err error, prefix, section string, renamed map[string]string, fail func(key, format string, args ...any)) {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, err := range all.Unwrap() {
		field, what, _ := strings.Cut(strings.TrimPrefix(err.Error(), prefix), " ")
		key := section + cmp.Or(renamed[field], strings.ToLower(field[:1])+field[1:])
		fail(key, "%s %s", key, what)
	}
}

// intoNode reports whether the driver is the one that publishes into Node servers.
func (c *Config) intoNode() bool {
	if c.Driver != "socket" {
		return false
	}
	return c.where["socket.redis"] != "" || c.where["socket.redis.url"] != ""
}

// socketio translates socket.redis for the driver.
func (c *Config) socketio(o options) socketio.Config {
	r := c.Socket.Redis
	return socketio.Config{
		Redis: string(r.URL), Password: string(r.Password), Adapter: socketio.Adapter(r.Adapter), Prefix: r.Prefix, Mode: socketio.SubscriptionMode(r.SubscriptionMode),
		Stream: r.Stream, MaxLen: r.MaxLen, Namespace: r.Namespace, Form: socketio.Form(r.Form), EventNamespace: r.EventNamespace, UserRoom: r.UserRoom,
		MaxPayload: int(r.MaxPayload), Timeout: time.Duration(r.Timeout), Logger: o.logger,
	}
}

func (w Webhook) server() server.Webhook {
	out := server.Webhook{URL: string(w.URL), Events: w.Events, Channels: w.Channels}
	for name, value := range w.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[name] = string(value)
	}
	return out
}

// jwt translates auth.jwt, reading its key's file.
func (c *Config) jwt() (auth.JWTConfig, error) {
	j := c.Auth.JWT
	out := auth.JWTConfig{Algorithm: j.Algorithm, Secret: []byte(j.Secret), Audience: j.Audience, Issuer: j.Issuer}
	if out.Algorithm == "" && j.Secret != "" {
		out.Algorithm = "HS256"
	}
	switch {
	case strings.Contains(j.PublicKey, "-----BEGIN "):
		out.PublicKey = j.PublicKey
	case j.PublicKey != "":
		pem, err := os.ReadFile(c.path(j.PublicKey))
		if err != nil {
			return out, fmt.Errorf("auth.jwt.publicKey is neither PEM nor a file that can be read: %w", err)
		}
		out.PublicKey = pem
	}
	return out, nil
}

// checkJWT finds at once what the server would find.
func (c *Config) checkJWT(fail func(key, format string, args ...any)) {
	if c.Auth.JWT == (JWT{}) {
		return
	}
	j, err := c.jwt()
	if err != nil {
		fail("auth.jwt.publicKey", "%v", err)
		return
	}
	a := auth.New()
	a.JWT(j)
	if err := a.Check(); err != nil {
		fail("auth.jwt", "auth.jwt: %v", err)
	}
}
