package socketio

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/echo"
)

// Adapter is how the Node servers are connected with each other.
type Adapter string

// The adapters there are.
const (
	// Classic is createAdapter of @socket.io/redis-adapter (and of socket.io-redis before it): Redis' PUBLISH.
	Classic Adapter = "classic"
	// Sharded is createShardedAdapter of @socket.io/redis-adapter: SPUBLISH, of Redis 7.
	Sharded Adapter = "sharded"
	// Streams is createAdapter of @socket.io/redis-streams-adapter: XADD.
	Streams Adapter = "streams"
)

// SubscriptionMode is the sharded adapter's option of that name.
type SubscriptionMode string

// What rooms have Redis channels of their own.
const (
	Dynamic        SubscriptionMode = "dynamic"         // all but those of single sockets
	DynamicPrivate SubscriptionMode = "dynamic-private" // all
	Static         SubscriptionMode = "static"          // none
)

// Form is what clients receive of a message that was sent.
type Form string

// The forms there are.
const (
	// Object is the event with one argument: {"event":…,"channel":…,"data":…}.
	Object Form = "object"
	// Echo is the event with two arguments, channel and data: what laravel-echo listens for.
	Echo Form = "echo"
)

const (
	defaultPrefix     = "socket.io"
	defaultMaxLen     = 10_000
	defaultTimeout    = 10 * time.Second
	defaultMaxPayload = 1 << 20
)

// Config says which cluster to publish into. Everything has a default; what the servers have as an option must be the same
// here, or nobody hears anything.
type Config struct {
	// Redis is the server or cluster that connects the Node servers: "host:port", or a URL such as
	// "rediss://user:password@host:6379/0" (rediss is TLS). Further nodes to ask for a cluster are named as
	// ?addr=host:port. With ?master_set=name all addresses are of Sentinels, which name the master; user and password are
	// the master's, and TLS is for both. Empty means "127.0.0.1:6379".
	Redis string
	// Password is Redis' password, for who wants it apart from the URL, over which it goes.
	Password string
	// TLS is for servers whose certificates this machine does not trust by itself. It turns TLS on. Nil means that the URL
	// says.
	TLS *tls.Config

	// Adapter is the one of the Node servers. Empty means Classic.
	Adapter Adapter
	// Prefix begins the names of Redis channels: the option key of the classic adapter, channelPrefix of the sharded one.
	// Empty means "socket.io".
	Prefix string
	// Stream is the streams adapter's streamName, for a streamCount of 1. Empty means "socket.io".
	Stream string
	// MaxLen is how many entries the stream keeps, about: the streams adapter's maxLen. Zero means 10000.
	MaxLen int
	// Mode is the sharded adapter's subscriptionMode. Empty means Dynamic. Static reaches servers of every mode, at the
	// price that each server gets each message.
	Mode SubscriptionMode
	// Encode is for classic adapters with a parser of their own: what they decode. It is given nil, bool, string, int64,
	// uint64, float64, []byte, and []any and map[string]any of these, by many goroutines. Nil means MessagePack, as they have
	// by default.
	Encode func(v any) ([]byte, error)

	// Namespace is the one that Send publishes to. Empty means "/".
	Namespace string
	// Form is what clients receive of what is sent. Empty means Object.
	Form Form
	// EventNamespace makes laravel-echo's listen("OrderShipped") hear the event OrderShipped, as in driver/pusher. Only with
	// Form Echo. Empty means that all names are sent as they are.
	EventNamespace string
	// UserRoom is the room in which the Node servers put each user's sockets, "{id}" being the user's id: "user:{id}". It is
	// what realtime.User(id) sends to and what ExceptUsers leaves out. Empty means that there is none, and that both are
	// refused.
	UserRoom string

	// MaxPayload is the most bytes of one message on its way to Redis; more are refused before anything is sent. Zero means
	// 1 MiB. A negative value is no limit but Redis' own, 512 MB.
	MaxPayload int
	// Timeout is how long sending may take, connecting and repeating included; the caller's context can end it earlier.
	// Zero means 10 s.
	Timeout time.Duration
	// Logger is warned when no server of the cluster listens, which is what wrong settings look like. Nil means
	// slog.Default.
	Logger *slog.Logger
}

// Driver publishes into one cluster. Its methods may be called concurrently.
type Driver struct {
	// static after New
	cfg    Config
	option rueidis.ClientOption

	underWay chan struct{} // has one for each send under way
	unheard  atomic.Bool   // the last message that every server gets reached none

	mu         sync.Mutex // guards what follows, and that sending.Add never follows sending.Wait
	closed     bool
	client     rueidis.Client // nil until connected for the first time; from then on it reconnects by itself
	connecting *connecting
	sending    sync.WaitGroup
}

// New returns a driver. It connects to nothing yet, and returns everything that is wrong with the configuration.
func New(cfg Config) (*Driver, error) {
	d := &Driver{cfg: cfg, underWay: make(chan struct{}, maxUnderWay)}
	c := &d.cfg
	c.Redis = cmp.Or(c.Redis, "127.0.0.1:6379")
	c.Adapter = cmp.Or(c.Adapter, Classic)
	c.Prefix = cmp.Or(c.Prefix, defaultPrefix)
	c.Stream = cmp.Or(c.Stream, defaultPrefix)
	c.MaxLen = cmp.Or(c.MaxLen, defaultMaxLen)
	c.Mode = cmp.Or(c.Mode, Dynamic)
	c.Namespace = namespace(c.Namespace)
	c.Form = cmp.Or(c.Form, Object)
	c.MaxPayload = cmp.Or(c.MaxPayload, defaultMaxPayload)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("socketio: "+format, args...)) }
	c.check(cfg, fail)
	var err error
	if d.option, err = c.redis(); err != nil {
		fail("Redis %w", err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

// check says what is wrong with a configuration that has its defaults, each time beginning with the field's name; given is
// the one without them.
func (c *Config) check(given Config, fail func(format string, args ...any)) {
	switch c.Adapter {
	case Classic, Sharded, Streams:
	default:
		fail(`Adapter is %.60q, and must be "classic", "sharded" or "streams"`, c.Adapter)
	}
	for _, x := range []struct {
		name  string
		given bool
		of    Adapter
	}{
		{"Stream", given.Stream != "", Streams}, {"MaxLen", given.MaxLen != 0, Streams},
		{"Mode", given.Mode != "", Sharded}, {"Encode", given.Encode != nil, Classic},
	} {
		if x.given && c.Adapter != x.of {
			fail("%s is for the %s adapter, and Adapter is %.60q", x.name, x.of, c.Adapter)
		}
	}
	if given.Prefix != "" && c.Adapter == Streams {
		fail("Prefix is for the classic and the sharded adapter; the streams adapter has Stream")
	}
	switch c.Mode {
	case Dynamic, DynamicPrivate, Static:
	default:
		fail(`Mode is %.60q, and must be "dynamic", "dynamic-private" or "static"`, c.Mode)
	}
	if c.MaxLen < 0 {
		fail("MaxLen must not be negative")
	}
	if err := checkNamespace(c.Namespace); err != nil {
		fail("Namespace %w", err)
	}
	switch c.Form {
	case Object, Echo:
	default:
		fail(`Form is %.60q, and must be "object" or "echo"`, c.Form)
	}
	if c.EventNamespace != "" && c.Form != Echo {
		fail(`EventNamespace is for laravel-echo: it needs Form "echo"`)
	}
	if c.UserRoom != "" && !strings.Contains(c.UserRoom, "{id}") {
		fail(`UserRoom is %.60q, and must have "{id}" where the user's id stands: user:{id}`, c.UserRoom)
	}
	if c.Timeout < 0 {
		fail("Timeout must not be negative")
	}
}

// redis is how to connect. Its error begins behind the field's name, and has nothing of the URL, where the password is.
func (c *Config) redis() (rueidis.ClientOption, error) {
	address := c.Redis
	if !strings.Contains(address, "://") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return rueidis.ClientOption{}, errors.New("must be host:port, or a URL such as redis://user:password@host:6379/0")
		}
		address = "redis://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return rueidis.ClientOption{}, errors.New("is not a URL: what is no letter or digit in a password must be percent-encoded there (or set Password instead)")
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return rueidis.ClientOption{}, fmt.Errorf("is a URL with %q, and must be one with redis:// or, for TLS, rediss://", u.Scheme)
	}
	for name := range u.Query() {
		if name != "addr" && name != "master_set" {
			return rueidis.ClientOption{}, fmt.Errorf("has the parameter %.60q in its URL, and there are addr and master_set", name)
		}
	}
	if u.Hostname() == "" {
		return rueidis.ClientOption{}, errors.New("names no host")
	}
	// The texts are not shown: where a password was put in the wrong place, they are it.
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" && !isPort(u.Port()) {
		return rueidis.ClientOption{}, errors.New("has a port that is none: they go from 1 to 65535")
	}
	for _, addr := range u.Query()["addr"] {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || !isPort(port) {
			return rueidis.ClientOption{}, errors.New("has an addr in its URL that is not host:port")
		}
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	opt, err := rueidis.ParseURL(u.String())
	if err != nil {
		return opt, fmt.Errorf("has a path %.60q, and it must be the number of a database, such as /0", u.Path)
	}
	if opt.SelectDB < 0 {
		return opt, fmt.Errorf("has the database %d, and there are none below 0", opt.SelectDB)
	}
	if c.Password != "" {
		opt.Password = c.Password
	}
	if c.TLS != nil {
		opt.TLSConfig = c.TLS.Clone()
		opt.TLSConfig.ServerName = cmp.Or(opt.TLSConfig.ServerName, u.Hostname())
	}
	opt.Dialer.Timeout = min(c.Timeout, 5*time.Second)
	opt.Dialer.KeepAlive = 5 * time.Second // after which a silent Redis is pinged, too
	opt.ConnWriteTimeout = c.Timeout
	opt.ClientName = "realtime"
	// Sentinels get nothing of the above by themselves, and no dialing without a limit. What one says of a new master may be
	// lost with its connection, and the old one, which is a replica then, takes messages that nobody hears: so they are asked.
	opt.Sentinel.Dialer, opt.Sentinel.TLSConfig, opt.Sentinel.ClientName = opt.Dialer, opt.TLSConfig, opt.ClientName
	opt.Sentinel.TopologyRefreshInterval = 5 * time.Second
	opt.DisableCache = true // nothing is read
	opt.DisableRetry = true // see try
	// One connection that is always read: a Redis that closes it is seen at once, and not by losing the next message.
	opt.AlwaysPipelining = true
	opt.PipelineMultiplex = -1
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 4<<10, 64<<10
	return opt, nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// namespace is a namespace's name as it is on the wire.
func namespace(name string) string {
	if !strings.HasPrefix(name, "/") {
		return "/" + name
	}
	return name
}

func checkNamespace(name string) error {
	if strings.ContainsAny(name, ",?") || !utf8.ValidString(name) {
		return fmt.Errorf("is %.60q, and must be a name such as /admin, without a comma or a question mark", name)
	}
	return nil
}

// eventName is the name on the wire.
func (d *Driver) eventName(name string) string { return echo.EventName(d.cfg.EventNamespace, name) }

// room is that of a channel: the one of its name, but for a user's own channel.
func (d *Driver) room(channel string) (string, error) {
	kind, id := channelname.Split(channel)
	if kind != channelname.User {
		return channel, nil
	}
	if d.cfg.UserRoom == "" {
		return "", fmt.Errorf("it is for user %q, and a Socket.IO cluster has rooms only: set UserRoom to the room where your servers put a user's sockets", id)
	}
	return d.userRoom(id), nil
}

func (d *Driver) userRoom(id string) string { return strings.ReplaceAll(d.cfg.UserRoom, "{id}", id) }

// String shows no secret.
func (c Config) String() string {
	type plain Config
	c.Redis = c.where()
	if c.Password != "" {
		c.Password = "***"
	}
	c.TLS, c.Encode, c.Logger = nil, nil, nil // noise, or worse
	return fmt.Sprintf("%+v", plain(c))
}

// GoString shows no secret either.
func (c Config) GoString() string { return "socketio.Config" + c.String() }

// where is the Redis without its password.
func (c *Config) where() string {
	scheme, rest, whole := strings.Cut(c.Redis, "://")
	if !whole {
		scheme, rest = "redis", c.Redis
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return "***"
	}
	if !whole {
		return u.Host + u.Path
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// String says where the driver publishes to, and shows no secret.
func (d *Driver) String() string {
	return fmt.Sprintf("socketio.Driver{%s %s %s}", d.cfg.where(), d.cfg.Adapter, d.cfg.Namespace)
}

// GoString is String.
func (d *Driver) GoString() string { return d.String() }
