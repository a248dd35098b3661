package pusher

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go"
)

// MaxHostedPayload is the most bytes of data that hosted Pusher Channels takes in one event.
const MaxHostedPayload = 10 << 10

const (
	defaultCluster = "mt1"
	defaultTimeout = 10 * time.Second
	defaultRetries = 2
	defaultQueue   = 8 << 20
	// maxConns bounds the connections to the server, and is how many are kept open: callers beyond it wait for one.
	maxConns = 64
	// idleTime is below the 60 s after which load balancers close a connection, so that they rarely do so just as it
	// is used again.
	idleTime = 45 * time.Second
)

// Config says which server to send to, and how. AppID, Key and Secret are needed; everything else has a default.
type Config struct {
	// AppID is the application's id on the server.
	AppID string
	// Key is the application's public key, Secret what signs under it.
	Key, Secret string

	// Cluster is the cluster of hosted Pusher Channels, for the host api-CLUSTER.pusher.com. Empty means "mt1". It does
	// not count when there is a Host.
	Cluster string
	// Host is another server's name or address, without scheme and port. Empty means hosted Pusher Channels.
	Host string
	// Port is the server's port. Zero means that of the Scheme.
	Port int
	// Scheme is "https" or "http". Empty means "https".
	Scheme string
	// Path stands before "/apps/…" where the server is below a path: "/realtime". It is part of what is signed, as the
	// server receives it.
	Path string

	// EventNamespace makes laravel-echo's listen("OrderShipped") hear the event OrderShipped, whose name on the wire is
	// then "App\Events\OrderShipped": "App\Events", or as Echo's own option has it, "App.Events". Events are named as
	// in Echo's listen, so a name that begins with "." is sent without the dot and otherwise as it is. Empty means that
	// all names are sent as they are.
	EventNamespace string
	// MaxPayload is the most bytes of data in one event; more are refused before anything is sent. Zero means
	// MaxHostedPayload for hosted Pusher, and elsewhere that the server decides. A negative value is no limit.
	MaxPayload int

	// Timeout is how long one request may take, its answer included. Zero means 10 s. A request that is repeated has
	// it anew each time; the caller's context ends them all.
	Timeout time.Duration
	// Retries is how often a request is repeated that failed in a way that can pass, where that cannot deliver an event
	// twice (see the package's documentation). Zero means 2; a negative value none. Waits begin at 100 ms and double, or
	// are what the server asks for.
	Retries int
	// AtLeastOnce repeats also where the server may have taken the request, after a timeout say. An event may then
	// arrive twice.
	AtLeastOnce bool
	// HTTPClient sends the requests, in place of one with a connection pool of its own. Redirects are never followed.
	HTTPClient *http.Client

	// BatchWindow makes Send only queue a message, which waits at most this long for others to share a request with.
	// What becomes of it is told to OnError and returned by Flush. Zero: Send sends, and returns what came of it.
	BatchWindow time.Duration
	// MaxQueue is the most bytes of messages that wait or are under way. While it is full Send waits, and returns
	// realtime.ErrOverloaded when its context ends first. Zero means 8 MiB. Only with BatchWindow.
	MaxQueue int
	// OnError is called with each queued message that could not be sent, from several goroutines. The message is the
	// callee's. While it runs the message's channels wait, so to send again from it takes a context with a deadline: the
	// queue may be full. Nil means a warning in the log, without the data. Only with BatchWindow.
	OnError func(*realtime.Message, error)
	// Logger is where that warning goes. Nil means slog.Default.
	Logger *slog.Logger

	// now is the clock of signatures; nil means time.Now.
	now func() time.Time
}

// Driver sends to one application of a Pusher server. Its methods may be called concurrently.
type Driver struct {
	// static after New
	cfg       Config
	base      url.URL // scheme, host and the path with which all calls begin
	client    *http.Client
	transport *http.Transport // the client's, where it is our own
	self      *realtime.Broadcaster
	queue     *queue // nil without BatchWindow

	closed atomic.Bool
	// idempotent says that the server deals with repeated messages: its last answer to one with an id repeated the id.
	idempotent atomic.Bool
}

// New returns a driver. It connects to nothing yet, and returns everything that is wrong with the configuration.
func New(cfg Config) (*Driver, error) {
	d := &Driver{cfg: cfg}
	c := &d.cfg
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Scheme = cmp.Or(c.Scheme, "https")
	c.Cluster = cmp.Or(c.Cluster, defaultCluster)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Retries = cmp.Or(c.Retries, defaultRetries)
	c.MaxQueue = cmp.Or(c.MaxQueue, defaultQueue)
	if c.now == nil {
		c.now = time.Now
	}
	host := strings.Trim(cmp.Or(c.Host, "api-"+c.Cluster+".pusher.com"), "[]")
	if c.MaxPayload == 0 && (c.Host == "" || strings.HasSuffix(host, ".pusher.com")) {
		c.MaxPayload = MaxHostedPayload
	}
	switch {
	case c.Port != 0:
		host = net.JoinHostPort(host, strconv.Itoa(c.Port))
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	prefix := strings.Trim(c.Path, "/")
	if prefix != "" {
		prefix = "/" + prefix
	}
	d.base = url.URL{Scheme: c.Scheme, Host: host, Path: prefix + "/apps/" + c.AppID}
	d.base.RawPath = (&url.URL{Path: prefix}).EscapedPath() + "/apps/" + url.PathEscape(c.AppID)

	client := c.HTTPClient
	if client == nil {
		d.transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:   true,
			MaxConnsPerHost:     maxConns,
			MaxIdleConnsPerHost: maxConns,
			IdleConnTimeout:     idleTime,
		}
		client = &http.Client{Transport: d.transport}
	}
	own := *client // a copy: the caller's stays as it is
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	d.client = &own

	var err error
	if d.self, err = realtime.New(d, nil); err != nil {
		return nil, err
	}
	if c.BatchWindow > 0 {
		d.queue = newQueue(d)
	}
	return d, nil
}

// check never has the secret in its error.
func (c *Config) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("pusher: "+format, args...)) }
	for _, x := range [][2]string{{"AppID", c.AppID}, {"Key", c.Key}, {"Secret", c.Secret}} {
		if x[1] == "" {
			fail("%s is missing", x[0])
		}
	}
	if strings.Trim(c.Cluster, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		fail("Cluster is %.60q, and must be a name such as mt1 or eu", c.Cluster)
	}
	if host := strings.Trim(c.Host, "[]"); strings.ContainsAny(host, "/@?# ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		fail("Host is %.100q, and must be a name or an address alone; Scheme, Port and Path are apart", c.Host)
	}
	if c.Port < 0 || c.Port > 65535 {
		fail("Port is %d, and must be from 1 to 65535", c.Port)
	}
	if c.Scheme != "" && c.Scheme != "http" && c.Scheme != "https" {
		fail(`Scheme is %.60q, and must be "https" or "http"`, c.Scheme)
	}
	if strings.ContainsAny(c.Path, "?#") {
		fail("Path is %.100q, and must be a path such as /realtime", c.Path)
	}
	for _, x := range []struct {
		name  string
		value int64
	}{{"Timeout", int64(c.Timeout)}, {"BatchWindow", int64(c.BatchWindow)}, {"MaxQueue", int64(c.MaxQueue)}} {
		if x.value < 0 {
			fail("%s must not be negative", x.name)
		}
	}
	return errors.Join(errs...)
}

// String shows no secret.
func (c Config) String() string {
	type plain Config
	if c.Secret != "" {
		c.Secret = "***"
	}
	return fmt.Sprintf("%+v", plain(c))
}

// GoString shows no secret either.
func (c Config) GoString() string { return "pusher.Config" + c.String() }

// String says where the driver sends to, and shows no secret.
func (d *Driver) String() string {
	return "pusher.Driver{" + d.base.String() + " key:" + d.cfg.Key + "}"
}

// GoString is String.
func (d *Driver) GoString() string { return d.String() }
