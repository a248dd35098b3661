// Package config opens what a file and the environment say: a driver, and with driver bun the server behind it.
//
//	app, err := config.Open(ctx, "config/realtime.yaml", broadcasts.All())
//	if err != nil {
//		return err // every mistake, with its key and line
//	}
//	defer app.Close(context.WithoutCancel(ctx))
//	realtime.SetDefault(app.Broadcaster)
//	return app.Run(ctx)
//
// docs/configuration.md lists the keys; it is made from the comments of the types below.
package config

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/webhook"
	"github.com/stacksjs/realtime-go/server"
)

// Config is what a file and the environment say, checked. It is not changed after Load, and may be read concurrently.
// Printed in any way, it shows no secret.
type Config struct {
	// Which driver sends: `bun` (the embedded server, plain JSON over WebSocket at /ws), `socket` (the embedded server,
	// Socket.IO at /socket.io/; with `socket.redis` Node servers with Socket.IO, through Redis), `pusher` (hosted Pusher
	// Channels or a server like it, over HTTP), `log` or `null`. Default: `bun`.
	Driver string `yaml:"driver"`
	// What clients of the embedded server may speak: `ws` (plain JSON over WebSocket), `pusher` (pusher-js, Laravel
	// Echo) and `socketio` (socket.io-client, Laravel Echo). Default: `ws`, with driver socket `socketio`, which it always
	// speaks; without a file all of them.
	Protocols []string `yaml:"protocols,omitempty"`
	// The embedded server of drivers bun and socket: where it listens and how.
	Server Server `yaml:"server,omitempty"`
	// The same address under the driver's name.
	Bun Address `yaml:"bun,omitempty"`
	// The credentials of the default application, with drivers bun and socket of the one served, and with driver pusher of the one
	// sent to and where that is.
	Pusher Pusher `yaml:"pusher,omitempty"`
	// How Socket.IO is spoken.
	Socket Socket `yaml:"socket,omitempty"`
	// The applications served, apart from each other in everything. `pusher` stands before them; without either
	// there is one with the id "1" and no keys, which takes no signatures.
	Apps []Application `yaml:"apps,omitempty"`
	// Who may connect.
	Auth Auth `yaml:"auth,omitempty"`
	// What a stranger could make grow. Everywhere 0 means the default, and -1 no limit unless said otherwise.
	Limits Limits `yaml:"limits,omitempty"`
	// Policies of channels; the first whose pattern matches holds.
	Channels []Channel `yaml:"channels,omitempty"`

	file string
	// where says where a key was written: "config/realtime.yaml:14", or the name of an environment variable.
	where map[string]string
}

// Server is where and how the embedded server listens.
type Server struct {
	// The address to listen on; `0.0.0.0` is every one of the machine. Default: `127.0.0.1`, so that nothing is open
	// to the network until somebody says so.
	Host string `yaml:"host,omitempty"`
	// The TCP port. Default: 6001.
	Port Port `yaml:"port,omitempty"`
	// Where WebSockets connect. Default: `/ws`; `/app` is always served too.
	Path string `yaml:"path,omitempty"`
	// What stands before the paths of the Pusher protocol and its HTTP API, for clients that have a wsPath: `/realtime`.
	Prefix string `yaml:"prefix,omitempty"`
	// Origins of web pages that may connect, besides the server's own: `https://shop.example`, every subdomain as
	// `https://*.example`, every page as `*`.
	Origins []string `yaml:"origins,omitempty"`
	// Serve TLS.
	TLS TLS `yaml:"tls,omitempty"`
	// The time over which a shutdown spreads the closes of connections. Default: 5s.
	Drain Duration `yaml:"drain,omitempty"`
	// Whether Pusher clients must name a version of their protocol that is spoken here (5 to 7), as at hosted Pusher.
	// Default: false.
	StrictVersion bool `yaml:"strictVersion,omitempty"`
	// Whether permessage-deflate is accepted. Default: true.
	Compression *bool `yaml:"compression,omitempty"`
	// How many event loops own the connections. Default: one per CPU.
	Loops int `yaml:"loops,omitempty"`
}

// TLS is a certificate and its key.
type TLS struct {
	// PEM file of the certificate chain, relative to the configuration file.
	Cert string `yaml:"cert,omitempty"`
	// PEM file of its private key, relative to the configuration file.
	Key string `yaml:"key,omitempty"`
}

// Address is a host and a port.
type Address struct {
	// As in `server`.
	Host string `yaml:"host,omitempty"`
	// As in `server`.
	Port Port `yaml:"port,omitempty"`
}

// Socket is how Socket.IO is spoken: server.SocketIOConfig.
type Socket struct {
	// With driver socket the same as `server.host`. Not beside `socket.redis`.
	Host string `yaml:"host,omitempty"`
	// With driver socket the same as `server.port`. Not beside `socket.redis`.
	Port Port `yaml:"port,omitempty"`
	// Where clients connect. Default: `/socket.io/`, as theirs.
	Path string `yaml:"path,omitempty"`
	// Whether clients of Socket.IO 2 may connect (Engine.IO 3). Default: false.
	EIO3 bool `yaml:"eio3,omitempty"`
	// How long a client may be away and get what it missed; every event then has one more argument, the last. Default: 2m.
	// -1: not at all.
	Recovery Duration `yaml:"recovery,omitempty"`
	// The name of a cookie with the session id, for load balancers that want one. Default: there is none.
	Cookie string `yaml:"cookie,omitempty"`
	// The time between heartbeats. Default: 25s.
	PingInterval Duration `yaml:"pingInterval,omitempty"`
	// How long a client may take to answer one. Default: 20s.
	PingTimeout Duration `yaml:"pingTimeout,omitempty"`
	// One message of a client, and one polling request. Default: 1000000.
	MaxPayload Size `yaml:"maxPayload,omitempty"`
	// With driver socket: publish into a cluster of Node servers with Socket.IO, which this Redis connects, and serve nothing. See docs/publish-into-node.md.
	Redis Redis `yaml:"redis,omitempty"`
}

// Redis is a cluster of Node servers with Socket.IO: socketio.Config.
type Redis struct {
	// The Redis of the servers: `redis://user:password@host:6379/0`, or `rediss://…` with TLS; `?addr=host:port` names another
	// node of a cluster, and `?master_set=name` the master whose Sentinels the addresses are. It is shown without user,
	// password and query. Default: `redis://127.0.0.1:6379`.
	URL URL `yaml:"url,omitempty"`
	// Its password, over the URL's.
	Password Secret `yaml:"password,omitempty"`
	// The servers' adapter: `classic` (createAdapter), `sharded` (createShardedAdapter) or `streams`
	// (@socket.io/redis-streams-adapter). Default: `classic`.
	Adapter string `yaml:"adapter,omitempty"`
	// The option `key` of the classic adapter, `channelPrefix` of the sharded one. Default: `socket.io`.
	Prefix string `yaml:"prefix,omitempty"`
	// The sharded adapter's: `dynamic`, `dynamic-private` or `static`. Default: `dynamic`.
	SubscriptionMode string `yaml:"subscriptionMode,omitempty"`
	// The streams adapter's `streamName`. Default: `socket.io`.
	Stream string `yaml:"stream,omitempty"`
	// The streams adapter's `maxLen`. Default: 10000.
	MaxLen int `yaml:"maxLen,omitempty"`
	// The namespace of the clients. Default: `/`.
	Namespace string `yaml:"namespace,omitempty"`
	// What clients receive: `object` (one argument, `{event, channel, data}`) or `echo` (two, channel and data, for
	// laravel-echo). Default: `object`.
	Form string `yaml:"form,omitempty"`
	// The namespace that laravel-echo puts before events' names: `App.Events`. Only with form echo. Default: names are
	// sent as they are.
	EventNamespace string `yaml:"eventNamespace,omitempty"`
	// The room in which the servers put each user's sockets: `user:{id}`. Default: none, and events for users or without
	// some users are refused.
	UserRoom string `yaml:"userRoom,omitempty"`
	// One message on its way to Redis; -1 is no limit. Default: 1MiB.
	MaxPayload Size `yaml:"maxPayload,omitempty"`
	// How long sending may take. Default: 10s.
	Timeout Duration `yaml:"timeout,omitempty"`
}

// Pusher is an application as Pusher's SDKs are configured.
type Pusher struct {
	// The application's id.
	AppID string `yaml:"appId,omitempty"`
	// Its public key, which clients and backends name.
	Key string `yaml:"key,omitempty"`
	// Its secret, which signs.
	Secret Secret `yaml:"secret,omitempty"`
	// Of hosted Pusher Channels, such as `eu`. This and what follows is for driver pusher, and, but for eventNamespace, read
	// by nothing else.
	// Default: `mt1`.
	Cluster string `yaml:"cluster,omitempty"`
	// Another server's name or address alone. Default: hosted Pusher Channels.
	Host string `yaml:"host,omitempty"`
	// Its port. Default: that of the scheme.
	Port Port `yaml:"port,omitempty"`
	// `https` or `http`. Default: `https`.
	Scheme string `yaml:"scheme,omitempty"`
	// Another way to say `https` (true) or `http` (false).
	UseTLS *bool `yaml:"useTLS,omitempty"`
	// What stands before `/apps/…` where the server is below a path.
	Path string `yaml:"path,omitempty"`
	// The namespace that laravel-echo puts before events' names: `App.Events`. With driver bun it holds for Pusher
	// clients of the embedded server. Default: names are sent as they are.
	EventNamespace string `yaml:"eventNamespace,omitempty"`
	// The data of one event; -1 is no limit. Default: 10KiB for hosted Pusher Channels, and elsewhere what the server
	// allows.
	MaxPayload Size `yaml:"maxPayload,omitempty"`
	// How long one request may take. Default: 10s.
	Timeout Duration `yaml:"timeout,omitempty"`
	// How long an event may wait for others to share a request with. Default: not at all. With it, sending only queues,
	// and what the server refuses is a warning in the log.
	BatchWindow Duration `yaml:"batchWindow,omitempty"`
}

// Application is an application served.
type Application struct {
	// The application's id.
	ID string `yaml:"id,omitempty"`
	// Its public key.
	Key string `yaml:"key,omitempty"`
	// Its secret.
	Secret Secret `yaml:"secret,omitempty"`
	// Further keys, all valid: add the new one before the old one goes.
	Keys []Key `yaml:"keys,omitempty"`
	// Connections that may be open at once. Default: no limit but `limits.connections`.
	Connections int `yaml:"connections,omitempty"`
	// Whether clients may send client events at all. Default: true.
	ClientEvents *bool `yaml:"clientEvents,omitempty"`
	// Tell Pusher clients how many subscriptions a channel has.
	SubscriptionCounts bool `yaml:"subscriptionCounts,omitempty"`
	// Tell Pusher clients that sign in with a watchlist which of those users are online.
	Watchlists bool `yaml:"watchlists,omitempty"`
	// Close Pusher connections that neither sign in nor subscribe to a private or presence channel within this time.
	// Default: they need not.
	AuthorizedWithin Duration `yaml:"authorizedWithin,omitempty"`
	// HTTP endpoints that are told what happens on its channels. The app's key signs. See docs/webhooks.md.
	Webhooks []Webhook `yaml:"webhooks,omitempty"`
}

// Webhook is an HTTP endpoint that is told what happens.
type Webhook struct {
	// Where to, http or https. It is shown without its query.
	URL URL `yaml:"url"`
	// Which types: `channel_occupied`, `channel_vacated`, `member_added`, `member_removed`, `client_event`, `cache_miss`
	// and, with `subscriptionCounts`, `subscription_count`. Default: all.
	Events []string `yaml:"events,omitempty"`
	// Which channels, by their name with its prefix; `*` stands for any characters. Default: all.
	Channels []string `yaml:"channels,omitempty"`
	// Headers sent along, such as `Authorization: Bearer …`. Their values are shown as secrets are.
	Headers map[string]Secret `yaml:"headers,omitempty"`
}

// Key is a public key and its secret.
type Key struct {
	// The public key.
	Key string `yaml:"key,omitempty"`
	// Its secret.
	Secret Secret `yaml:"secret,omitempty"`
}

// Auth is who may connect.
type Auth struct {
	// Believe JSON Web Tokens. Connections then need one, unless `anonymous` is on.
	JWT JWT `yaml:"jwt,omitempty"`
	// Let clients in that bring no identity, though tokens or the program could give one.
	Anonymous bool `yaml:"anonymous,omitempty"`
}

// JWT is which tokens to believe (RFC 7519).
type JWT struct {
	// The only algorithm accepted: `HS256`, `RS256`, `ES256` or `EdDSA`. Default: `HS256` where there is a secret.
	Algorithm string `yaml:"algorithm,omitempty"`
	// The key of HS256, at least 32 bytes.
	Secret Secret `yaml:"secret,omitempty"`
	// The key of the others: PEM, or the path of a PEM file relative to the configuration file.
	PublicKey string `yaml:"publicKey,omitempty"`
	// What must be among a token's `aud`. Default: tokens with an `aud` are refused.
	Audience string `yaml:"audience,omitempty"`
	// What a token's `iss` must be. Default: any.
	Issuer string `yaml:"issuer,omitempty"`
}

// Limits are server.Limits.
type Limits struct {
	// Connections of the whole server. Default: 100000.
	Connections int `yaml:"connections,omitempty"`
	// Connections from one IP address. Default: no limit, since proxies and offices share one.
	ConnectionsPerAddress int `yaml:"connectionsPerAddress,omitempty"`
	// From accepting a connection to a complete request. Default: 10s. Never unlimited.
	Handshake Duration `yaml:"handshake,omitempty"`
	// Subscriptions of one connection. Default: 100.
	ChannelsPerConnection int `yaml:"channelsPerConnection,omitempty"`
	// One WebSocket message from a client. Default: 128KiB. -1 is 1GiB.
	MessageBytes Size `yaml:"messageBytes,omitempty"`
	// The data of one event. Default: 100KiB.
	PayloadBytes Size `yaml:"payloadBytes,omitempty"`
	// What waits for one connection that does not read. Default: 4MiB. Never unlimited.
	QueuedBytes Size `yaml:"queuedBytes,omitempty"`
	// Client events of one connection. Default: 10.
	WhispersPerSecond int `yaml:"whispersPerSecond,omitempty"`
	// Events of one connection that may publish. Default: no limit.
	PublishesPerSecond int `yaml:"publishesPerSecond,omitempty"`
	// Id and info of one presence member. Default: 1KiB.
	MemberBytes Size `yaml:"memberBytes,omitempty"`
	// One call of the program's code for a client. Default: 10s. Never unlimited.
	AuthorizeTime Duration `yaml:"authorizeTime,omitempty"`
	// Such calls under way. Default: 10000.
	Authorizing int `yaml:"authorizing,omitempty"`
	// How long a message's id is remembered. Default: 2m. -1: not at all.
	IdempotencyWindow Duration `yaml:"idempotencyWindow,omitempty"`
	// Silence after which a client is pinged. Default: 60s. Never unlimited.
	Ping Duration `yaml:"ping,omitempty"`
	// How long it may take to answer. Default: 30s. Never unlimited.
	Pong Duration `yaml:"pong,omitempty"`
}

// Channel is the policy of some channels.
type Channel struct {
	// Which channels, by their name with its prefix; `*` stands for any characters: `private-orders.*`.
	Pattern string `yaml:"pattern"`
	// Keep messages for clients that come back.
	History History `yaml:"history,omitempty"`
	// For how long new subscribers get the last message. Default: not at all, but 30m on channels that are named
	// `cache-` behind their prefix.
	Cache Duration `yaml:"cache,omitempty"`
	// Whether members may send client events to each other. Default: true.
	Whispers *bool `yaml:"whispers,omitempty"`
	// What happens to a connection that does not read fast enough: `disconnect`, `drop-oldest` (waiting messages) or
	// `keep-latest` (only). Default: `disconnect`.
	Slow string `yaml:"slow,omitempty"`
	// The data of one event. Default: `limits.payloadBytes`.
	Payload Size `yaml:"payload,omitempty"`
	// Connections that may listen. Default: no bound.
	Subscribers int `yaml:"subscribers,omitempty"`
	// Distinct users of a presence channel. Default: 100.
	Members int `yaml:"members,omitempty"`
	// Refuse data that is not end-to-end encrypted.
	Encrypted bool `yaml:"encrypted,omitempty"`

	source string
}

// History is how much of a channel is kept.
type History struct {
	// Messages. Default: 0, nothing is kept.
	Size int `yaml:"size,omitempty"`
	// Their age. Default: 5m.
	Age Duration `yaml:"age,omitempty"`
	// Their data. Default: 1MiB.
	Bytes Size `yaml:"bytes,omitempty"`
}

// Secret is text that prints as "***".
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText implements encoding.TextMarshaler, so that JSON and logs do not show it either.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements yaml.InterfaceMarshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// URL is a web address that prints without its query, which may hold a secret.
type URL string

func (u URL) String() string {
	if !strings.Contains(string(u), "://") { // a Redis that is host:port
		return strings.TrimPrefix(webhook.Redact("//"+string(u)), "//")
	}
	return webhook.Redact(string(u))
}

// GoString implements fmt.GoStringer.
func (u URL) GoString() string { return fmt.Sprintf("%q", u.String()) }

// MarshalText implements encoding.TextMarshaler.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// MarshalYAML implements yaml.InterfaceMarshaler.
func (u URL) MarshalYAML() (any, error) { return u.String(), nil }

// Duration is written like "5m", "1h30m" or "250ms".
type Duration time.Duration

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (d Duration) MarshalYAML() (any, error) {
	if d == -1 {
		return -1, nil
	}
	return d.String(), nil
}

// Size is a number of bytes, written as one or like "100KiB", "4MiB", "1kB".
type Size int

var units = []struct {
	name  string
	bytes int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}}

func (s Size) String() string {
	for _, u := range units[:3] {
		if s > 0 && int(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int(s)/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int(s))
}

// MarshalYAML implements yaml.InterfaceMarshaler.
func (s Size) MarshalYAML() (any, error) {
	if text := s.String(); strings.HasSuffix(text, "B") {
		return text, nil
	}
	return int(s), nil
}

// Port is a TCP port, 1 to 65535.
type Port int

// String is the configuration in effect, in YAML: file, environment and the defaults of driver and address. Secrets
// stand as "***".
func (c *Config) String() string {
	b, err := yaml.MarshalWithOptions(*c, yaml.IndentSequence(true))
	if err != nil {
		return fmt.Sprintf("config: %v", err)
	}
	return string(b)
}

// Where says where a key, such as "server.port" or "apps[0].secret", was written: "config/realtime.yaml:14" or the name
// of an environment variable. Empty: nowhere, its default holds.
func (c *Config) Where(key string) string { return c.where[key] }

// Which returns the policy that holds for a channel, a wire name, with its defaults filled in. Its Source is the line
// it was written in, or says which default it is.
func (c *Config) Which(channel string) (server.Channel, error) {
	if err := channelname.Validate(channel); err != nil {
		return server.Channel{}, fmt.Errorf("config: %w", err)
	}
	for _, ch := range c.Channels {
		if channelname.Match(ch.Pattern, channel) {
			s := ch.policy()
			p := hub.Policy{
				Pattern: s.Pattern, Source: s.Source, History: hub.History(s.History), Cache: s.Cache, Whispers: !s.NoWhispers,
				Payload: s.PayloadBytes, Subscribers: s.Subscribers, Members: s.Members, Encrypted: s.Encrypted,
			}.Normal()
			out := fromHub(p.Of(channel), c)
			out.Slow = s.Slow
			return out, nil
		}
	}
	return fromHub(hub.Default(channel), c), nil
}

func fromHub(p *hub.Policy, c *Config) server.Channel {
	return server.Channel{
		Pattern: p.Pattern, Source: p.Source, History: server.History(p.History), Cache: p.Cache, NoWhispers: !p.Whispers,
		PayloadBytes: cmp.Or(p.Payload, int(c.Limits.PayloadBytes), 100<<10), Subscribers: p.Subscribers, Members: p.Members,
		Encrypted: p.Encrypted,
	}
}

func (ch Channel) policy() server.Channel {
	out := server.Channel{
		Pattern: ch.Pattern, Source: ch.source,
		History: server.History{Size: ch.History.Size, Age: time.Duration(ch.History.Age), Bytes: int(ch.History.Bytes)},
		Cache:   time.Duration(ch.Cache), NoWhispers: ch.Whispers != nil && !*ch.Whispers, PayloadBytes: int(ch.Payload),
		Subscribers: ch.Subscribers, Members: ch.Members, Encrypted: ch.Encrypted,
	}
	if ch.Slow != "disconnect" {
		out.Slow = server.Slow(ch.Slow)
	}
	return out
}
