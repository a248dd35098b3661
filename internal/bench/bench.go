// Package bench is the load generator behind "realtime bench". It opens many connections to one server, gives it one
// kind of work, and reports what that work cost. Every message
// carries a number, and every connection checks that the numbers it receives are contiguous, so a server cannot
// look fast by losing, repeating or reordering messages.
//
// The generator is one epoll loop, so that it stays well ahead of the server it measures. It runs on Linux only.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Work names what the server is asked to do.
type Work string

const (
	// Fanout publishes messages to channels with many subscribers each.
	Fanout Work = "fanout"
	// Echo keeps one ping under way on every connection.
	Echo Work = "echo"
	// Connect opens and subscribes connections as fast as the server takes them.
	Connect Work = "connect"
	// Idle opens subscribed connections and measures the memory they hold.
	Idle Work = "idle"
)

// Protocol is a wire protocol.
type Protocol string

const (
	WebSocket Protocol = "ws"       // plain JSON
	SocketIO  Protocol = "socketio" // Socket.IO 5 on Engine.IO 4, over WebSocket only
	Pusher    Protocol = "pusher"   // Pusher Channels, version 7; for subscribers
	HTTP      Protocol = "http"     // the Pusher HTTP API; for publishers
)

// App is what signs requests to the HTTP API.
type App struct{ ID, Key, Secret string }

// Config says where the server is and what it is asked to do. A count or length that is zero takes the default
// stated at the field; a negative one is an error.
type Config struct {
	// URL is the server's endpoint, ws://host:port/path or wss://host:port/path; for Socket.IO without the parameters that
	// every client of it adds. TLS runs through two goroutines
	// for each connection and suits up to some 5,000 connections.
	URL string
	// Insecure accepts any certificate of a wss:// server.
	Insecure bool
	// Token, unless empty, is sent by publishers as the query parameter "token".
	Token string
	// Protocol is what clients speak; by default WebSocket.
	Protocol Protocol
	// Publish is what publishers speak: WebSocket, SocketIO or HTTP. By default HTTP for Pusher, and otherwise what clients
	// speak. Where it is neither, the server must have it at /ws or /socket.io/.
	Publish Protocol
	// App signs what is published over HTTP. It must be the app that URL belongs to.
	App App
	// Batch is how many messages go into one HTTP request; by default 1, at most 10. A publisher waits for each answer
	// before its next request, so no more than Publishers × Batch messages are on their way.
	Batch int
	// Work is what the server is asked to do.
	Work Work

	// Channels is how many channels a fan-out publishes to, in turn; by default 1.
	Channels int
	// Subscribers is how many connections subscribe to each channel; by default 1000.
	Subscribers int
	// PerConn is how many of the channels each subscribing connection takes; by default 1.
	// Channels × Subscribers / PerConn connections are opened.
	PerConn int
	// Publishers is how many connections publish; by default 1.
	Publishers int
	// Rate is how many messages per second all publishers send together, whether or not the server keeps up. Zero
	// publishes as fast as Window allows.
	Rate float64
	// Window is how many messages of one channel and publisher may be on their way, counted from the slowest
	// subscriber's receipt; by default 1024, or fewer so that no more than 16,384 messages and some four million
	// deliveries are on their way altogether. It keeps a server's limit for slow clients out of the measurement.
	// Values are rounded down to four times a power of two.
	Window int
	// Messages ends a fan-out after so many published messages; zero means Duration ends it.
	Messages int
	// Size is the length of a message's data in bytes of JSON; by default 128, at least 80.
	Size int
	// Burst, unless zero, lets the server's own program publish in place of the publishing connections: one connection
	// asks for bursts, in which each of Publishers goroutines broadcasts all that Window allows. It asks as soon as that
	// is at least Burst messages each. See [Burst].
	Burst int
	// Except leaves one subscriber out of every message, another one each time. It excludes PerConn above 1.
	Except bool

	// Connections is how many connections Echo, Connect and Idle open; by default 100. During a Fanout it is how many
	// connections, besides the subscribers, keep one ping under way each; by default none.
	Connections int
	// Opening is how many connections may be under way to being subscribed at once; by default 64.
	Opening int

	// Duration is how long Fanout and Echo are measured; by default 5 s.
	Duration time.Duration
	// Warmup is how long the same work runs before it is measured; zero means not at all.
	Warmup time.Duration
	// Stall is how long a run waits while nothing arrives before it counts what is missing as lost; by default 10 s.
	Stall time.Duration

	// PID is the server's process on this machine, whose CPU time and memory are reported; zero reports neither.
	PID int
	// Progress, unless nil, is called now and then with a line for the person waiting.
	Progress func(string)
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	notNegative := func(name string, v float64) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s is %v: it cannot be negative", name, v))
		}
	}
	notNegative("channels", float64(c.Channels))
	notNegative("subscribers", float64(c.Subscribers))
	notNegative("channels per connection", float64(c.PerConn))
	notNegative("publishers", float64(c.Publishers))
	notNegative("rate", c.Rate)
	notNegative("window", float64(c.Window))
	notNegative("messages", float64(c.Messages))
	notNegative("batch", float64(c.Batch))
	notNegative("burst", float64(c.Burst))
	notNegative("size", float64(c.Size))
	notNegative("connections", float64(c.Connections))
	notNegative("opening", float64(c.Opening))
	notNegative("duration", float64(c.Duration))
	notNegative("warm-up", float64(c.Warmup))
	notNegative("stall", float64(c.Stall))
	notNegative("pid", float64(c.PID))

	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("the URL: %w", err))
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		errs = append(errs, fmt.Errorf("the URL is %q: want ws://host:port/path or wss://host:port/path", c.URL))
	}
	c.Protocol = cmp.Or(c.Protocol, WebSocket)
	c.Batch = cmp.Or(c.Batch, 1)
	switch c.Protocol {
	case WebSocket, SocketIO:
		c.Publish = cmp.Or(c.Publish, c.Protocol)
	case Pusher:
		c.Publish = cmp.Or(c.Publish, HTTP)
	default:
		errs = append(errs, fmt.Errorf("protocol is %q: want %s, %s or %s", c.Protocol, WebSocket, SocketIO, Pusher))
	}
	switch {
	case c.Publish == HTTP:
		if c.Work == Fanout && (c.App.ID == "" || c.App.Key == "" || c.App.Secret == "") {
			errs = append(errs, errors.New("publishing over HTTP needs an app's id, key and secret"))
		}
		if c.Batch > 10 || c.Batch > 1 && c.Except {
			errs = append(errs, fmt.Errorf("a batch of %d: at most 10 messages, and none with somebody left out", c.Batch))
		}
	case c.Publish != "" && c.Publish != WebSocket && c.Publish != SocketIO:
		errs = append(errs, fmt.Errorf("publish is %q: want %s, %s or %s", c.Publish, WebSocket, SocketIO, HTTP))
	case c.Batch > 1:
		errs = append(errs, fmt.Errorf("a batch of %d: messages are batched over HTTP only", c.Batch))
	}
	if c.Burst > 0 && (c.Protocol != WebSocket || c.Publish != WebSocket) {
		errs = append(errs, errors.New("messages of the server's program are measured with plain WebSocket clients"))
	}
	c.Channels = cmp.Or(c.Channels, 1)
	c.Subscribers = cmp.Or(c.Subscribers, 1000)
	c.PerConn = cmp.Or(c.PerConn, 1)
	c.Publishers = cmp.Or(c.Publishers, 1)
	c.Window = cmp.Or(c.Window, max(4, min(1024, 16384/max(1, c.Channels*c.Publishers), 4<<20/max(1, c.Subscribers*c.Publishers))))
	c.Size = cmp.Or(c.Size, 128)
	if c.Work != Fanout {
		c.Connections = cmp.Or(c.Connections, 100)
	}
	c.Opening = cmp.Or(c.Opening, 64)
	c.Duration = cmp.Or(c.Duration, 5*time.Second)
	c.Stall = cmp.Or(c.Stall, 10*time.Second)
	c.PerConn = max(c.PerConn, 1)
	switch c.Work {
	case Fanout:
		if c.PerConn > c.Channels {
			errs = append(errs, fmt.Errorf("%d channels per connection, but there are only %d channels", c.PerConn, c.Channels))
		} else if c.Channels*c.Subscribers%c.PerConn != 0 {
			errs = append(errs, fmt.Errorf("%d channels with %d subscribers each cannot be shared out as %d per connection", c.Channels, c.Subscribers, c.PerConn))
		}
		if c.Except && c.PerConn > 1 {
			errs = append(errs, errors.New("leaving one subscriber out works with one channel per connection only"))
		}
		if c.Except && c.Subscribers < 2 {
			errs = append(errs, errors.New("leaving one subscriber out needs at least two of them"))
		}
		if c.Burst > 0 && (c.Channels > 1 || c.Except || c.Rate > 0) {
			errs = append(errs, errors.New("the server's program publishes to one channel, to every subscriber, as fast as the window allows"))
		}
		if c.Window < max(4, c.Burst) {
			errs = append(errs, fmt.Errorf("window is %d: at least 4, and not less than a burst", c.Window))
		}
		if c.Size < 80 {
			errs = append(errs, fmt.Errorf("size is %d bytes: at least 80, so that the numbers fit", c.Size))
		}
	case Echo, Connect, Idle:
	default:
		errs = append(errs, fmt.Errorf("work is %q: want %s, %s, %s or %s", c.Work, Fanout, Echo, Connect, Idle))
	}
	return c, errors.Join(errs...)
}

// subscribing is how many connections subscribe in a fan-out.
func (c Config) subscribing() int { return c.Channels * c.Subscribers / c.PerConn }

// publishing is how many connections publish, or ask the server's program to.
func (c Config) publishing() int {
	if c.Burst > 0 {
		return 1
	}
	return c.Publishers
}

// Run opens the connections, does the work, closes the connections and reports. It returns an error when the run
// could not be completed: the server refused something, closed a connection or spoke another protocol. Messages
// that were lost, repeated or out of order complete the run and are found by [Result.Err].
//
// A run keeps one operating-system thread busy. Runs may be concurrent, but then measure each other.
func Run(ctx context.Context, c Config) (Result, error) {
	c, err := c.withDefaults()
	if err != nil {
		return Result{}, fmt.Errorf("bench: %w", err)
	}
	r, err := run(ctx, c)
	if err != nil {
		return r, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

// Result is what one run measured. Fields that do not belong to the work are zero.
type Result struct {
	Work Work `json:"work"`
	// Shape describes the work in a few words, such as "1×1000 saturate".
	Shape string `json:"shape"`
	// Connections is how many connections were open.
	Connections int `json:"connections"`
	// Published is how many messages were published while measuring.
	Published int64 `json:"published,omitempty"`
	// Count is how many deliveries, round trips or connections were measured, in Seconds.
	Count   int64   `json:"count"`
	Seconds float64 `json:"seconds"`
	// PerSecond is Count / Seconds.
	PerSecond float64 `json:"perSecond"`
	// CPU is the server's CPU time, user and system, in microseconds for each of Count.
	CPU float64 `json:"cpuMicros,omitempty"`
	// OwnCPU is the same for the generator.
	OwnCPU float64 `json:"ownCpuMicros"`
	// P50 and P99 are quantiles of the time from publishing (at a rate: from when the message was due) to delivery,
	// or of a round trip, in microseconds. They are exact to 2 %.
	P50 float64 `json:"p50Micros,omitempty"`
	P99 float64 `json:"p99Micros,omitempty"`
	// EchoP50, EchoP99 and EchoCount are the round trips made during a fan-out.
	EchoP50   float64 `json:"echoP50Micros,omitempty"`
	EchoP99   float64 `json:"echoP99Micros,omitempty"`
	EchoCount int64   `json:"echoCount,omitempty"`
	// RSS is the growth of the server's resident memory in KiB for each connection.
	RSS float64 `json:"rssKiB,omitempty"`

	Faults
}

// Faults counts what went wrong with the order of messages, over all connections and including the warm-up.
type Faults struct {
	// Lost messages did not arrive.
	Lost int64 `json:"lost"`
	// Doubled messages arrived more than once.
	Doubled int64 `json:"doubled"`
	// OutOfOrder messages arrived after one that was published later.
	OutOfOrder int64 `json:"outOfOrder"`
	// NotExcepted messages arrived at the connection they should have left out.
	NotExcepted int64 `json:"notExcepted"`
	// Altered messages arrived with other data than was published, or in the wrong place.
	Altered int64 `json:"altered"`
}

// Err is nil when every message arrived everywhere exactly once, in order and unaltered.
func (f Faults) Err() error {
	var words []string
	for _, fault := range []struct {
		n    int64
		word string
	}{
		{f.Lost, "lost"}, {f.Doubled, "doubled"}, {f.OutOfOrder, "out of order"},
		{f.NotExcepted, "delivered to the connection left out"}, {f.Altered, "altered"},
	} {
		if fault.n != 0 {
			words = append(words, fmt.Sprintf("%d %s", fault.n, fault.word))
		}
	}
	if words == nil {
		return nil
	}
	return errors.New("bench: deliveries were not exact: " + strings.Join(words, ", "))
}

// String is one line of a table.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-28s %12.0f /s", r.Work, r.Shape, r.PerSecond)
	if r.CPU != 0 {
		fmt.Fprintf(&b, "  %8.3f µs server CPU", r.CPU)
	}
	fmt.Fprintf(&b, "  %8.3f µs own CPU", r.OwnCPU)
	if r.P50 != 0 {
		fmt.Fprintf(&b, "  p50 %.0f µs  p99 %.0f µs", r.P50, r.P99)
	}
	if r.EchoCount != 0 {
		fmt.Fprintf(&b, "  echo p50 %.0f µs  p99 %.0f µs", r.EchoP50, r.EchoP99)
	}
	if r.Work == Idle {
		fmt.Fprintf(&b, "  %.2f KiB per connection", r.RSS)
	}
	if err := r.Err(); err != nil {
		fmt.Fprintf(&b, "  NOT EXACT: %v", err)
	} else if r.Work == Fanout {
		b.WriteString("  exact")
	}
	return b.String()
}

// shape describes a fan-out, as in "1×1000 saturate".
func (c Config) shape() string {
	if c.Work != Fanout {
		return fmt.Sprintf("%d connections", c.Connections)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d×%d", c.Channels, c.Subscribers)
	if c.PerConn > 1 {
		fmt.Fprintf(&b, " %d each", c.PerConn)
	}
	if c.Rate > 0 {
		fmt.Fprintf(&b, " %g/s", c.Rate)
	} else {
		b.WriteString(" saturate")
	}
	if c.Publishers > 1 {
		fmt.Fprintf(&b, " %d publishers", c.Publishers)
	}
	if c.Burst > 0 {
		b.WriteString(" inside the program")
	}
	if c.Publish == HTTP {
		b.WriteString(" over HTTP")
	}
	if c.Batch > 1 {
		fmt.Fprintf(&b, " by %d", c.Batch)
	}
	if c.Except {
		b.WriteString(" except")
	}
	if c.Connections > 0 {
		fmt.Fprintf(&b, " +%d echo", c.Connections)
	}
	return b.String()
}
