package pusher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go"
)

const (
	maxFlying    = 8       // requests of a queue under way
	maxBatchSize = 1 << 20 // bytes of data in one of its requests
	maxFailures  = 100     // errors that are kept for Flush
	overhead     = 256     // what a queued message takes besides its data and names, in bytes
)

// queue holds messages for up to a window, so that they share requests.
//
// Requests are made of the oldest messages and begin in their order. Up to maxFlying are under way, and one that
// shares a channel with another waits for it; so what is sent to one channel arrives in order, whatever takes its time
// elsewhere.
type queue struct {
	d      *Driver
	ctx    context.Context // of the requests; ends when Close gives up
	cancel context.CancelCauseFunc
	wake   chan struct{} // capacity 1: run has something to look at

	mu       sync.Mutex // guards what follows
	closed   bool
	running  bool // the goroutine run exists; it does while anything waits
	waiting  []*queued
	flying   [][]*queued
	bytes    int           // of both
	newest   uint64        // number of the message that came last
	hurry    uint64        // messages up to this one do not wait for their window
	progress chan struct{} // closed, and replaced, when a request has ended, or the queue was closed
	failures []error
	unkept   int // failures beyond maxFailures
}

// queued is a message in a queue.
type queued struct {
	realtime.Message
	number uint64
	due    time.Time // when its window ends
}

func newQueue(d *Driver) *queue {
	q := &queue{d: d, wake: make(chan struct{}, 1), progress: make(chan struct{})}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	return q
}

func (m *queued) size() int {
	n := overhead + len(m.Data)
	for _, c := range m.Channels {
		n += len(c)
	}
	return n
}

// alone reports whether a message has a request of its own: a batch has no place for an id, and of so many channels
// it would hold nothing else.
func (m *queued) alone() bool { return m.ID != "" || len(m.Channels) >= maxBatch }

// add queues a copy of m.
func (q *queue) add(ctx context.Context, m *realtime.Message) error {
	c := &queued{Message: *m}
	c.Channels, c.Data, c.ExceptSockets = slices.Clone(m.Channels), slices.Clone(m.Data), slices.Clone(m.ExceptSockets)
	size := c.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && q.bytes > 0 && q.bytes+size > q.d.cfg.MaxQueue {
		n, progress := q.count(math.MaxUint64), q.progress
		q.hurry = q.newest // there is no point in waiting for more
		q.signal()
		q.mu.Unlock()
		select {
		case <-progress:
			q.mu.Lock()
		case <-ctx.Done():
			q.mu.Lock()
			return fmt.Errorf("pusher: event %.60q: %d messages wait to be sent, and there is no room for its %d bytes under the limit of %d (MaxQueue): %w: %w",
				m.Event, n, size, q.d.cfg.MaxQueue, realtime.ErrOverloaded, context.Cause(ctx))
		}
	}
	if q.closed {
		return realtime.ErrClosed
	}
	q.newest++
	c.number, c.due = q.newest, time.Now().Add(q.d.cfg.BatchWindow)
	q.waiting = append(q.waiting, c)
	q.bytes += size
	if q.running {
		q.signal()
	} else {
		q.running = true
		go q.run()
	}
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run starts requests until nothing waits.
func (q *queue) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) > 0 {
		n, full := q.next()
		var window <-chan time.Time
		due := full || q.waiting[0].number <= q.hurry
		if !due {
			left := time.Until(q.waiting[0].due)
			if due = left <= 0; !due {
				window = time.After(left)
			}
		}
		if due && q.clear(q.waiting[:n]) {
			batch := q.waiting[:n:n]
			q.waiting = q.waiting[n:]
			q.flying = append(q.flying, batch)
			go q.fly(batch)
			continue
		}
		q.mu.Unlock()
		select {
		case <-window:
		case <-q.wake:
		}
		q.mu.Lock()
	}
	q.running, q.waiting = false, nil
}

// next says how many of the oldest messages the next request takes, and whether it can take no more.
func (q *queue) next() (n int, full bool) {
	events, size := 0, 0
	for _, m := range q.waiting {
		events += len(m.Channels)
		size += len(m.Channels) * len(m.Data)
		switch {
		case n == 0 && m.alone():
			return 1, true
		case m.alone(), events > maxBatch, n > 0 && size > maxBatchSize:
			return n, true
		}
		n++
	}
	return n, events == maxBatch
}

// clear reports whether a request may begin.
func (q *queue) clear(batch []*queued) bool {
	if len(q.flying) == maxFlying {
		return false
	}
	for _, other := range q.flying {
		for _, a := range other {
			for _, b := range batch {
				if slices.ContainsFunc(b.Channels, func(c string) bool { return slices.Contains(a.Channels, c) }) {
					return false
				}
			}
		}
	}
	return true
}

// fly sends messages in one request, and tells what became of them.
func (q *queue) fly(batch []*queued) {
	errs := q.d.sendAll(q.ctx, batch)
	for i, err := range errs {
		if err != nil {
			q.d.report(&batch[i].Message, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, err := range errs {
		switch {
		case err == nil:
		case len(q.failures) < maxFailures:
			q.failures = append(q.failures, fmt.Errorf("event %.60q to %s: %w", batch[i].Event, name(batch[i].Channels), err))
		default:
			q.unkept++
		}
	}
	for _, m := range batch {
		q.bytes -= m.size()
	}
	q.flying = slices.DeleteFunc(q.flying, func(b []*queued) bool { return b[0] == batch[0] })
	close(q.progress)
	q.progress = make(chan struct{})
	q.signal()
}

func name(channels []string) string {
	if len(channels) == 1 {
		return fmt.Sprintf("%q", channels[0])
	}
	return fmt.Sprintf("%q and %d more channels", channels[0], len(channels)-1)
}

// sendAll sends messages in one request, if the server takes it, and returns an error or nil for each.
func (d *Driver) sendAll(ctx context.Context, batch []*queued) []error {
	errs := make([]error, len(batch))
	if len(batch) > 1 {
		var entries []entry
		for _, m := range batch {
			e := entry{Name: d.eventName(m.Event), Data: string(m.Data)}
			if len(m.ExceptSockets) > 0 {
				e.SocketID = m.ExceptSockets[0]
			}
			for _, e.Channel = range m.Channels {
				entries = append(entries, e)
			}
		}
		_, err := d.batch(ctx, entries)
		e, _ := errors.AsType[*Error](err)
		if e == nil || e.Status != http.StatusBadRequest && e.Status != http.StatusRequestEntityTooLarge {
			for i := range errs {
				errs[i] = err
			}
			return errs
		}
		// One of them is at fault, or all together are too large. Servers take such a request whole or not at all, so
		// nothing has been sent, and the others need not suffer.
	}
	for i, m := range batch {
		_, errs[i] = d.send(ctx, &m.Message, "")
	}
	return errs
}

// report tells the program that a queued message was not sent.
func (d *Driver) report(m *realtime.Message, err error) {
	if d.cfg.OnError != nil {
		d.cfg.OnError(m, err)
		return
	}
	l := d.cfg.Logger
	if l == nil {
		l = slog.Default()
	}
	l.Warn("pusher: a queued message was not sent", "event", m.Event, "channels", m.Channels, "bytes", len(m.Data), "error", err)
}

// count is how many messages up to a number wait or are under way.
func (q *queue) count(number uint64) int {
	n := 0
	for _, list := range append(q.flying[:len(q.flying):len(q.flying)], q.waiting) {
		for _, m := range list {
			if m.number <= number {
				n++
			}
		}
	}
	return n
}

// oldest is the number of the oldest message that waits or is under way.
func (q *queue) oldest() uint64 {
	least := uint64(math.MaxUint64)
	for _, batch := range q.flying {
		least = min(least, batch[0].number)
	}
	if len(q.waiting) > 0 {
		least = min(least, q.waiting[0].number)
	}
	return least
}

func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	last := q.newest
	q.hurry = last
	q.signal()
	for q.oldest() <= last {
		progress := q.progress
		q.mu.Unlock()
		select {
		case <-progress:
			q.mu.Lock()
		case <-ctx.Done():
			q.mu.Lock()
			if n := q.count(last); n > 0 {
				return fmt.Errorf("pusher: %d messages are still to be sent: %w", n, context.Cause(ctx))
			}
		}
	}
	return q.failed()
}

// failed takes the failures that no flush has returned yet.
func (q *queue) failed() error {
	err := errors.Join(q.failures...)
	if q.unkept > 0 {
		err = fmt.Errorf("%w\npusher: %d more messages were not sent", err, q.unkept)
	}
	q.failures, q.unkept = nil, 0
	return err
}

func (q *queue) close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	close(q.progress) // for those who wait for room
	q.progress = make(chan struct{})
	q.mu.Unlock()
	err := q.flush(ctx)
	if ctx.Err() != nil {
		q.cancel(fmt.Errorf("pusher: Close did not wait for it: %w", realtime.ErrClosed)) // what is left fails at once
		err = errors.Join(err, q.flush(context.WithoutCancel(ctx)))
	}
	q.cancel(nil)
	return err
}
