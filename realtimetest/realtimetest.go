// Package realtimetest is for the tests of applications: Record records what they send, and Server is a real server
// whose clients show what is received.
//
//	func TestShip(t *testing.T) {
//		ctx, rec := realtimetest.Record(t, broadcasts.All())
//		shop.Ship(ctx, order)
//		rec.AssertSent("OrderShipped", "private-orders.12345")
//	}
//
// The Broadcaster travels in ctx, so tests run in parallel.
package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go"
)

// Recorder is a driver that keeps what it is given. Its methods may be called concurrently; the assertions
// report to the test that Record was given.
type Recorder struct {
	t testing.TB

	mu       sync.Mutex
	messages []realtime.Message
}

// Record returns a context whose Broadcaster sends to the Recorder. A nil events is an empty table; a table
// with faulty registrations fails t at once. Data for encrypted channels is recorded as the application gave
// it.
func Record(t testing.TB, events *realtime.Events) (context.Context, *Recorder) {
	t.Helper()
	r := &Recorder{t: t}
	// As a middleware that goes no further, the recorder stands before the check that encrypted channels
	// get no plain text.
	b, err := realtime.New(r, events, func(realtime.Driver) realtime.Driver { return r })
	if err != nil {
		t.Fatalf("realtimetest: %v", err)
	}
	return realtime.WithBroadcaster(t.Context(), b), r
}

// Send records a copy of the message.
func (r *Recorder) Send(ctx context.Context, m *realtime.Message) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, clone(*m))
	return nil
}

// Messages returns copies of what was sent so far, in order.
func (r *Recorder) Messages() []realtime.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]realtime.Message, len(r.messages))
	for i, m := range r.messages {
		all[i] = clone(m)
	}
	return all
}

func clone(m realtime.Message) realtime.Message {
	m.Channels, m.Data = slices.Clone(m.Channels), slices.Clone(m.Data)
	m.ExceptSockets, m.ExceptUsers = slices.Clone(m.ExceptSockets), slices.Clone(m.ExceptUsers)
	return m
}

// AssertSent wants the event to have been sent to each of these channels, by wire name ("private-orders.1";
// a user's is "#server-to-user-" and the id), in one message or several. Without channels it wants the event
// to have been sent at all.
func (r *Recorder) AssertSent(event string, channels ...string) {
	r.t.Helper()
	all := r.Messages()
	reached, sent := make(map[string]bool), false
	for _, m := range all {
		if m.Event == event {
			sent = true
			for _, c := range m.Channels {
				reached[c] = true
			}
		}
	}
	if !sent {
		r.t.Errorf("event %q was not sent; %s", event, listing(all))
		return
	}
	for _, c := range channels {
		if !reached[c] {
			r.t.Errorf("event %q was not sent to channel %q; %s", event, c, listing(all))
		}
	}
}

// AssertNotSent wants the event not to have been sent to any of these channels, or, without channels, not
// at all.
func (r *Recorder) AssertNotSent(event string, channels ...string) {
	r.t.Helper()
	all := r.Messages()
	for _, m := range all {
		if m.Event != event {
			continue
		}
		if len(channels) == 0 {
			r.t.Errorf("event %q was sent; %s", event, listing(all))
			return
		}
		for _, c := range channels {
			if slices.Contains(m.Channels, c) {
				r.t.Errorf("event %q was sent to channel %q; %s", event, c, listing(all))
			}
		}
	}
}

// AssertCount wants exactly n messages to have been sent. One to several channels is one message.
func (r *Recorder) AssertCount(n int) {
	r.t.Helper()
	if all := r.Messages(); len(all) != n {
		r.t.Errorf("%d messages were sent, not %d; %s", len(all), n, listing(all))
	}
}

// Data returns the data of the one message with this event, decoded into a T. None, several, or data that
// is no T, fail t at once.
func Data[T any](t testing.TB, r *Recorder, event string) T {
	t.Helper()
	all := r.Messages()
	var found []realtime.Message
	for _, m := range all {
		if m.Event == event {
			found = append(found, m)
		}
	}
	var data T
	if len(found) != 1 {
		t.Fatalf("event %q was sent in %d messages, not in one; %s", event, len(found), listing(all))
	} else if err := json.Unmarshal(found[0].Data, &data); err != nil {
		t.Fatalf("data of event %q is no %T: %v; %s", event, data, err, listing(all))
	}
	return data
}

// listing is what a failure tells of what happened instead.
func listing(all []realtime.Message) string {
	const most = 200 // bytes of data a line
	if len(all) == 0 {
		return "nothing was sent"
	}
	var b strings.Builder
	b.WriteString("sent was:")
	for _, m := range all {
		data := string(m.Data)
		if len(data) > most {
			data = strings.ToValidUTF8(data[:most], "") + "…"
		}
		fmt.Fprintf(&b, "\n\t%q to %q: %s", m.Event, m.Channels, data)
		if len(m.ExceptSockets) > 0 {
			fmt.Fprintf(&b, " except sockets %q", m.ExceptSockets)
		}
		if len(m.ExceptUsers) > 0 {
			fmt.Fprintf(&b, " except users %q", m.ExceptUsers)
		}
	}
	return b.String()
}
