package socketio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stacksjs/realtime-go"
)

const (
	// repeats is how often a command is repeated that Redis certainly did not take, and firstWait how long it waits before
	// the first time; then twice as long each time.
	repeats   = 2
	firstWait = 100 * time.Millisecond

	// maxUnderWay is how many sends may be under way: those beyond what the client queues, 1024, wait there without an end
	// while Redis is silent.
	maxUnderWay = 1000

	// idWindow is for how long a message's ID is remembered: as long as this module's server does.
	idWindow = 2 * time.Minute
)

// Error is what Redis, or the way there, did not do.
type Error struct {
	// Redis is where, without its password.
	Redis string
	// Err is what went wrong: the network's error, Redis' own, or the context's.
	Err error

	again bool
}

func (e *Error) Error() string { return e.Redis + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether sending again may succeed and cannot deliver an event twice: Redis did not take the message, or
// would know it by its ID. realtime.Retry goes by it.
func (e *Error) Temporary() bool { return e.again }

// connecting is the way to the first connection; all who want one wait for the same.
type connecting struct {
	done   chan struct{} // closed once the others are set
	client rueidis.Client
	err    error
}

// send has Redis take commands, and returns how many it took for certain. Its error is realtime.ErrClosed or an *Error.
func (d *Driver) send(ctx context.Context, list []command) (sent int, err error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return 0, realtime.ErrClosed
	}
	if ctx.Err() != nil {
		d.mu.Unlock()
		return 0, d.fail(context.Cause(ctx), false)
	}
	d.sending.Add(1)
	d.mu.Unlock()

	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, d.late())
	defer cancel()
	select {
	case d.underWay <- struct{}{}:
	case <-ctx.Done():
		d.sending.Done()
		return 0, d.fail(context.Cause(ctx), true)
	}
	// The client waits for other callers' connecting, and for a place in its queue, without an eye on ctx. This goroutine
	// ends with Timeout, or when the connection is found to be dead.
	type result struct {
		sent int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		defer d.sending.Done()
		defer func() { <-d.underWay }()
		left, err := d.try(ctx, list)
		if err != nil { // not a nil *Error
			done <- result{len(list) - left, err}
			return
		}
		done <- result{len(list), nil}
	}()
	select {
	case r := <-done:
		return r.sent, r.err
	case <-ctx.Done():
		return 0, d.fail(context.Cause(ctx), allOnce(list))
	}
}

// try repeats what Redis certainly did not take, and returns how many commands it leaves.
func (d *Driver) try(ctx context.Context, list []command) (left int, err *Error) {
	wait := firstWait
	for attempt := 0; ; attempt++ {
		list, err = d.once(ctx, list)
		if err == nil || !err.again || attempt == repeats {
			return len(list), err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return len(list), err
		}
		wait *= 2
	}
}

// once returns the commands that failed, and the error that matters most.
func (d *Driver) once(ctx context.Context, list []command) (failed []command, worst *Error) {
	client, err := d.connect(ctx)
	if err != nil {
		return list, d.fail(err, notTaken(err) || hungUp(err))
	}
	cmds := make([]rueidis.Completed, len(list))
	for i := range list {
		cmds[i] = list[i].build(client.B(), d.cfg.MaxLen)
	}
	// What the client does for one caller, connecting above all, must not end with that caller's context.
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Timeout)
	defer cancel()
	for i, res := range client.DoMulti(own, cmds...) {
		c := &list[i]
		m, err := res.ToMessage()
		if err == nil {
			d.listening(c, m, client.Mode() == rueidis.ClientModeCluster)
			continue
		}
		if err == context.DeadlineExceeded { // own's
			err = d.late()
		}
		_, answered := rueidis.IsRedisErr(err)
		e := d.fail(err, notTaken(err) || c.once != "" && !answered)
		if worst == nil || worst.again && !e.again {
			worst = e
		}
		failed = append(failed, *c)
	}
	return failed, worst
}

func (d *Driver) fail(err error, again bool) *Error { return &Error{d.cfg.where(), err, again} }

func (d *Driver) late() error {
	return fmt.Errorf("it did not answer within %v: %w", d.cfg.Timeout, context.DeadlineExceeded)
}

// notTaken reports whether Redis certainly did not take the command, and may do so later.
func notTaken(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op == "dial"
	}
	if re, ok := rueidis.IsRedisErr(err); ok {
		code, _, _ := strings.Cut(re.Error(), " ")
		switch code {
		case "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "READONLY", "BUSY", "OOM", "MISCONF", "NOREPLICAS":
			return true
		}
	}
	return false
}

// hungUp reports whether a connection that was to be made has ended, as one does to a proxy whose Redis is away.
func hungUp(err error) bool {
	op, ok := errors.AsType[*net.OpError](err) // which TLS has too, for a peer that does not want us
	return ok && (op.Op == "read" || op.Op == "write") || errors.Is(err, io.EOF)
}

func allOnce(list []command) bool {
	for i := range list {
		if list[i].once == "" {
			return false
		}
	}
	return true
}

// connect returns the client, connecting for the first time.
func (d *Driver) connect(ctx context.Context) (rueidis.Client, error) {
	d.mu.Lock()
	if client := d.client; client != nil {
		d.mu.Unlock()
		return client, nil
	}
	c := d.connecting
	if c == nil {
		c = &connecting{done: make(chan struct{})}
		d.connecting = c
		go func() {
			client, err := rueidis.NewClient(d.option)
			d.mu.Lock()
			c.client, c.err = client, err
			d.connecting = nil
			if err == nil {
				d.client = client
			}
			d.mu.Unlock()
			close(c.done)
		}()
	}
	d.mu.Unlock()
	select {
	case <-c.done:
		return c.client, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// script does what ARGV says from its second on, if the name in KEYS was not there within the time in ARGV's first. What
// fails is as if it had not been.
const script = `if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then return -1 end
local r = redis.pcall(unpack(ARGV, 2))
if type(r) == 'table' and r.err then redis.call('DEL', KEYS[1]) end
return r`

// build makes the command for the client. Its key says to the client of a cluster which node is to take it: always the same
// for one channel, since two nodes would not keep the order.
func (c *command) build(b rueidis.Builder, maxLen int) rueidis.Completed {
	args := []string{c.payload}
	if c.verb == "XADD" {
		args = append([]string{"MAXLEN", "~", strconv.Itoa(maxLen), "*"}, c.fields...)
	}
	if c.once == "" {
		return b.Arbitrary(c.verb).Keys(c.key).Args(args...).Build()
	}
	return b.Arbitrary("EVAL", script, "1").Keys(c.once).Args(strconv.FormatInt(idWindow.Milliseconds(), 10), c.verb, c.key).Args(args...).Build()
}

// slotOf is a part of a key's name that gives it the slot of another in a cluster.
func slotOf(key string) string {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i:], '}'); n > 1 {
			return key[i : i+n+1]
		}
	}
	return "{" + key + "}"
}

// listening warns, once, when nobody has got a message that every server gets. In a cluster PUBLISH counts one node's.
func (d *Driver) listening(c *command, m rueidis.RedisMessage, cluster bool) {
	if !c.all || cluster && c.verb == "PUBLISH" {
		return
	}
	n, err := m.AsInt64()
	if err != nil || n < 0 {
		return
	}
	if d.unheard.Swap(n == 0) || n > 0 {
		return
	}
	l := d.cfg.Logger
	if l == nil {
		l = slog.Default()
	}
	l.Warn("socketio: no Socket.IO server listens: none runs, or its adapter, its key or channelPrefix, its Redis or its namespaces are not what the driver's are",
		"redis", d.cfg.where(), "adapter", d.cfg.Adapter, "channel", c.key)
}

// Close makes every later call fail with realtime.ErrClosed, waits for those under way, and lets go of the connections.
// When ctx ends first the error says so; what is under way then ends by itself, within Timeout and, where Redis is silent,
// the 10 s more that it may take to find the connection dead.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	d.mu.Unlock()
	if !first {
		return nil
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.sending.Wait()
		d.mu.Lock()
		c := d.connecting
		d.mu.Unlock()
		if c != nil { // whoever wanted it has gone
			<-c.done
		}
		d.mu.Lock()
		client := d.client
		d.mu.Unlock()
		if client != nil {
			client.Close()
		}
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("socketio: closed while messages were being sent: %w", context.Cause(ctx))
	}
}
