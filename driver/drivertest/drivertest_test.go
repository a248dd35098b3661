package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go"
)

// sound is a driver without a fault, made of a Go channel.
func sound(perChannel bool) Harness {
	return Harness{
		PerChannel: perChannel,
		New: func(*testing.T) (realtime.Driver, func() realtime.Message) {
			far := make(chan realtime.Message, MaxWaiting)
			d := realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if !perChannel {
					far <- clone(*m)
					return nil
				}
				for _, c := range slices.Backward(m.Channels) {
					one := clone(*m)
					one.Channels = []string{c}
					far <- one
				}
				return nil
			})
			return d, receive(far)
		},
		Listeners: clients,
	}
}

func receive(far <-chan realtime.Message) func() realtime.Message {
	return func() realtime.Message {
		select {
		case m := <-far:
			return m
		default:
			return realtime.Message{Event: "(nothing came)"}
		}
	}
}

// clients are listeners made of Go channels.
func clients(_ *testing.T, users []string) (realtime.Driver, []Listener) {
	var all []Listener
	var far []chan realtime.Message
	for i := range users {
		far = append(far, make(chan realtime.Message, MaxWaiting))
		all = append(all, Listener{SocketID: fmt.Sprintf("1.%d", i), Next: receive(far[i])})
	}
	return realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
		for _, c := range m.Channels {
			one := clone(*m)
			one.Channels, one.ExceptSockets, one.ExceptUsers = []string{c}, nil, nil
			to, private := strings.CutPrefix(c, "#server-to-user-")
			for i, u := range users {
				if private && u != to || slices.Contains(m.ExceptSockets, all[i].SocketID) || u != "" && slices.Contains(m.ExceptUsers, u) {
					continue
				}
				far[i] <- one
			}
		}
		return nil
	}), all
}

func TestSoundDrivers(t *testing.T) {
	t.Run("whole", func(t *testing.T) { Run(t, sound(false)) })
	t.Run("per channel", func(t *testing.T) { Run(t, sound(true)) })
	t.Run("no far end", func(t *testing.T) {
		Run(t, Harness{New: func(*testing.T) (realtime.Driver, func() realtime.Message) {
			return realtime.DriverFunc(func(ctx context.Context, _ *realtime.Message) error { return ctx.Err() }), nil
		}})
	})
	t.Run("refuses exclusions", func(t *testing.T) {
		h := sound(false)
		make := h.New
		h.New = func(t *testing.T) (realtime.Driver, func() realtime.Message) {
			d, next := make(t)
			return realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
				if len(m.ExceptSockets)+len(m.ExceptUsers) > 0 {
					return errors.New("cannot leave anybody out")
				}
				return d.Send(ctx, m)
			}), next
		}
		Run(t, h)
	})
}

// TestFaultyDrivers shows that each sentence of the contract can fail.
func TestFaultyDrivers(t *testing.T) {
	type send = func(ctx context.Context, m *realtime.Message) error
	for _, tt := range []struct {
		fault, sentence string
		wrap            func(next send) send
	}{
		{"escapes for HTML", "event, channel and data arrive byte for byte", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.Data, _ = json.Marshal(m.Data)
				return next(ctx, &c)
			}
		}},
		{"compacts", "event, channel and data arrive byte for byte", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c, buf := clone(*m), new(bytes.Buffer)
				_ = json.Compact(buf, m.Data)
				c.Data = buf.Bytes()
				return next(ctx, &c)
			}
		}},
		{"decodes numbers as float64", "event, channel and data arrive byte for byte", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				var v any
				if json.Unmarshal(m.Data, &v) == nil {
					c.Data, _ = json.Marshal(v)
				}
				return next(ctx, &c)
			}
		}},
		{"sends to the first channel only", "a message arrives on each of its channels", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.Channels = c.Channels[:1]
				return next(ctx, &c)
			}
		}},
		{"drops exclusions of users", "exclusions arrive, or Send refuses them", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.ExceptUsers = nil
				return next(ctx, &c)
			}
		}},
		{"keeps only the first excluded socket", "exclusions arrive, or Send refuses them", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.ExceptSockets = c.ExceptSockets[:min(1, len(c.ExceptSockets))]
				return next(ctx, &c)
			}
		}},
		{"tells the second excluded socket", "who is left out does not hear, and everybody else does", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.ExceptSockets = c.ExceptSockets[:min(1, len(c.ExceptSockets))]
				return next(ctx, &c)
			}
		}},
		{"tells the excluded user", "who is left out does not hear, and everybody else does", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				c.ExceptUsers = nil
				return next(ctx, &c)
			}
		}},
		{"tells nobody where somebody is left out", "who is left out does not hear, and everybody else does", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				if len(m.ExceptSockets)+len(m.ExceptUsers) > 0 {
					return nil
				}
				return next(ctx, m)
			}
		}},
		{"refuses a stranger's id", "the socket id of another server leaves nobody out", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				if len(m.ExceptSockets) > 0 {
					return errors.New("no socket id")
				}
				return next(ctx, m)
			}
		}},
		{"tells nobody where a stranger is left out", "the socket id of another server leaves nobody out", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				if len(m.ExceptSockets) > 0 {
					return nil
				}
				return next(ctx, m)
			}
		}},
		{"drops a user's message", "a user's message reaches that user's connections only", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				if strings.HasPrefix(m.Channels[0], "#") {
					return nil
				}
				return next(ctx, m)
			}
		}},
		{"tells one connection of a user", "a user's message reaches that user's connections only", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				if strings.HasPrefix(m.Channels[0], "#") {
					c.ExceptSockets = []string{"1.1"}
				}
				return next(ctx, &c)
			}
		}},
		{"tells everybody what is for a user", "a user's message reaches that user's connections only", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				c := clone(*m)
				if strings.HasPrefix(m.Channels[0], "#") {
					c.Channels = []string{"#server-to-user-ada", "#server-to-user-grace"}
				}
				return next(ctx, &c)
			}
		}},
		{"reorders now and then", "one goroutine's messages stay in order per channel", func(next send) send {
			var held *realtime.Message
			n := 0
			return func(ctx context.Context, m *realtime.Message) error {
				if n++; n == 501 {
					c := clone(*m)
					held = &c
					return nil
				}
				err := next(ctx, m)
				if held != nil && n == 503 {
					err = errors.Join(err, next(ctx, held))
				}
				return err
			}
		}},
		{"loses one of many", "concurrent sends are neither lost nor doubled", func(next send) send {
			var mu sync.Mutex
			n := 0
			return func(ctx context.Context, m *realtime.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == 400 {
					return nil
				}
				return next(ctx, m)
			}
		}},
		{"doubles one of many", "concurrent sends are neither lost nor doubled", func(next send) send {
			var mu sync.Mutex
			n := 0
			return func(ctx context.Context, m *realtime.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == 400 {
					return errors.Join(next(ctx, m), next(ctx, m))
				}
				return next(ctx, m)
			}
		}},
		{"ignores ctx", "an ended ctx is an error, and nothing is sent", func(next send) send {
			return func(_ context.Context, m *realtime.Message) error { return next(context.Background(), m) }
		}},
		{"sends, then looks at ctx", "an ended ctx is an error, and nothing is sent", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				return errors.Join(next(context.WithoutCancel(ctx), m), ctx.Err())
			}
		}},
		{"changes the message", "the message is neither changed nor kept", func(next send) send {
			return func(ctx context.Context, m *realtime.Message) error {
				m.ID = "mine"
				return next(ctx, m)
			}
		}},
		{"keeps the message", "the message is neither changed nor kept", func(next send) send {
			var kept *realtime.Message
			return func(ctx context.Context, m *realtime.Message) error { // a queue that sends when the next comes
				previous := kept
				kept = m
				if previous == nil {
					return nil
				}
				return next(ctx, previous)
			}
		}},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			for _, c := range contract {
				if c.sentence != tt.sentence {
					continue
				}
				e := end{h: sound(false)}
				if c.needs == listeners {
					e.d, e.all = e.h.Listeners(t, users)
				} else {
					e.d, e.next = e.h.New(t)
				}
				e.d = realtime.DriverFunc(tt.wrap(e.d.Send))
				if !fails(t, func(tb testing.TB) { e.TB = tb; c.check(e) }) {
					t.Errorf("a driver that %s keeps the sentence %q", tt.fault, tt.sentence)
				}
				return
			}
			t.Fatalf("no sentence %q", tt.sentence)
		})
	}
}

// TestJavaScriptMayWriteTheDataAnew: the same value passes, and no other.
func TestJavaScriptMayWriteTheDataAnew(t *testing.T) {
	h := sound(false)
	h.JavaScript = true
	make := h.New
	anew := func(change func(data string) string) {
		h.New = func(t *testing.T) (realtime.Driver, func() realtime.Message) {
			d, next := make(t)
			return realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
				c, buf := clone(*m), new(bytes.Buffer)
				if err := json.Compact(buf, m.Data); err != nil {
					return err
				}
				c.Data = json.RawMessage(change(buf.String()))
				return d.Send(ctx, &c)
			}), next
		}
	}
	anew(strings.NewReplacer("[12345678901234567890,1.0,1e400,0.1000000000000000055511151231257827,-0]", "[12345678901234567000,1,null,0.1,0]",
		`{"b":1,"a":2,"b":3}`, `{"b":3,"a":2}`).Replace)
	Run(t, h)
	for from, to := range map[string]string{"12345678901234567890": "12345678901234560000", `"b":3`: `"b":1`, " ": " ", "null": "0", "5": `"5"`} {
		anew(func(data string) string { return strings.Replace(data, from, to, 1) })
		e := end{h: h}
		e.d, e.next = h.New(t)
		if !fails(t, func(tb testing.TB) { e.TB = tb; checkBytes(e) }) {
			t.Errorf("%s may arrive as %s", from, to)
		}
	}
}

// failing is a testing.TB that notes its failure instead of passing it on.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Logf("as it should: "+format, args...)
	f.failed = true
	runtime.Goexit()
}

func fails(t *testing.T, check func(testing.TB)) bool {
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(f)
	}()
	<-done
	return f.failed
}
