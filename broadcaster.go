package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// Broadcaster sends an application's events through one driver. Its methods may be called concurrently.
type Broadcaster struct {
	// static after New
	driver Driver // with its middlewares
	bare   Driver // without: the one that may have a Close
	events *Events

	mu      sync.RWMutex // guards closed, and that sending.Add never follows sending.Wait
	closed  bool
	sending sync.WaitGroup

	done     chan struct{} // closed once closeErr is set
	closeErr error
}

// New returns a Broadcaster that sends with driver, through the middlewares; the first of them is the
// outermost and sees a message first. A nil events is an empty table. A nil driver or middleware and
// everything that went wrong while registering events are returned as one error.
func New(driver Driver, events *Events, mw ...Middleware) (*Broadcaster, error) {
	var errs []error
	if driver == nil {
		errs = append(errs, errors.New("realtime: New: the driver is nil; driver/null sends nowhere, driver/log to the log"))
	}
	if events != nil {
		errs = append(errs, events.Err())
	}
	chain := refusePlainText(driver)
	for i := len(mw) - 1; i >= 0; i-- {
		if mw[i] == nil {
			errs = append(errs, fmt.Errorf("realtime: New: middleware %d is nil", i))
		} else if chain = mw[i](chain); chain == nil {
			errs = append(errs, fmt.Errorf("realtime: New: middleware %d returned a nil driver", i))
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Broadcaster{driver: chain, bare: driver, events: events, done: make(chan struct{})}, nil
}

// Broadcast sends the event registered under name: see the function Broadcast. The handler's ctx carries
// this Broadcaster.
func (b *Broadcaster) Broadcast(ctx context.Context, name string, data any) error {
	h := b.events.find(name)
	if h == nil {
		return b.events.unknown(name)
	}
	ptr, err := h.payloadOf(data)
	if err != nil {
		return err
	}
	return h.run(WithBroadcaster(ctx, b), ptr)
}

// Dispatch sends the event: see the function Dispatch. The event's ctx carries this Broadcaster.
func (b *Broadcaster) Dispatch(ctx context.Context, event Event) error {
	v := reflect.ValueOf(event)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("realtime: Dispatch was given a nil event (%T)", event)
	}
	name := event.EventName()
	h := b.events.find(name)
	if h == nil {
		t := v.Type()
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		h = selfHandled(name, t)
	}
	ptr, err := h.payloadOf(event)
	if err != nil {
		return err
	}
	return h.run(WithBroadcaster(ctx, b), ptr)
}

// Send hands one message to the driver, once Message.Validate has nothing against it. Most programs use
// Channel or Broadcast instead.
func (b *Broadcaster) Send(ctx context.Context, m *Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return ErrClosed
	}
	b.sending.Add(1)
	b.mu.RUnlock()
	defer b.sending.Done()
	return b.driver.Send(ctx, m)
}

// Close makes later sends fail with ErrClosed, waits for those under way, and closes the driver if it has a
// method Close(ctx) error or Close() error. When ctx ends first, the driver is closed all the same and the
// error says so. Further calls wait for the first and return what it returned.
func (b *Broadcaster) Close(ctx context.Context) error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	if !first {
		select {
		case <-b.done:
			return b.closeErr
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(b.done)

	idle := make(chan struct{})
	go func() {
		b.sending.Wait()
		close(idle)
	}()
	var waited error
	select {
	case <-idle:
	case <-ctx.Done():
		waited = fmt.Errorf("realtime: closed while messages were being sent: %w", context.Cause(ctx))
	}
	var closed error
	switch d := b.bare.(type) {
	case interface{ Close(context.Context) error }:
		closed = d.Close(ctx)
	case interface{ Close() error }:
		closed = d.Close()
	}
	b.closeErr = errors.Join(waited, closed)
	return b.closeErr
}

// refusePlainText is the last stop before a driver. What goes to an end-to-end encrypted channel must have
// been encrypted by now: receivers could not read it otherwise, and everybody in between could.
func refusePlainText(next Driver) Driver {
	return DriverFunc(func(ctx context.Context, m *Message) error {
		for _, c := range m.Channels {
			if kind, _ := channelname.Split(c); kind != Encrypted {
				continue
			}
			var sealed struct{ Nonce, Ciphertext string }
			if json.Unmarshal(m.Data, &sealed) != nil || sealed.Nonce == "" || sealed.Ciphertext == "" {
				return fmt.Errorf("realtime: event %.60q: channel %q is end-to-end encrypted, but its data is not: give New the middleware of package encrypted", m.Event, c)
			}
		}
		return next.Send(ctx, m)
	})
}

// Broadcast sends the event registered under name to where its handler says. The data is the event's
// payload, a pointer to it, or a map, json.RawMessage or []byte with its JSON, which is decoded strictly (see
// DataError); nil is JSON's null. A name that is not registered is an error that lists the nearest ones.
//
// The Broadcaster is found as FromContext says, and handed to the handler in its ctx.
func Broadcast(ctx context.Context, name string, data any) error {
	b, err := FromContext(ctx)
	if err != nil {
		return err
	}
	return b.Broadcast(ctx, name, data)
}

// Dispatch is Broadcast for an event at hand, checked by the compiler. It needs no registration; if its name
// is registered, it must be for the same payload, and the registered handler runs.
func Dispatch(ctx context.Context, event Event) error {
	b, err := FromContext(ctx)
	if err != nil {
		return err
	}
	return b.Dispatch(ctx, event)
}

type contextKey struct{}

// WithBroadcaster returns a context that carries b to everything below it.
func WithBroadcaster(ctx context.Context, b *Broadcaster) context.Context {
	return context.WithValue(ctx, contextKey{}, b)
}

// FromContext returns the Broadcaster to send with: the one ctx carries, else the default, else
// ErrNoBroadcaster.
func FromContext(ctx context.Context) (*Broadcaster, error) {
	if b, _ := ctx.Value(contextKey{}).(*Broadcaster); b != nil {
		return b, nil
	}
	if b := Default(); b != nil {
		return b, nil
	}
	return nil, ErrNoBroadcaster
}

var defaultBroadcaster atomic.Pointer[Broadcaster]

// Default returns the Broadcaster given to SetDefault, or nil.
func Default() *Broadcaster { return defaultBroadcaster.Load() }

// SetDefault makes b the Broadcaster of every context that carries none. A nil b takes it away. Like Default it may
// be called at any time by any goroutine.
func SetDefault(b *Broadcaster) { defaultBroadcaster.Store(b) }
