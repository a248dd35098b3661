package realtimetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
)

// heard is a testing.TB that keeps what it is told.
type heard struct {
	testing.TB
	text  []string
	fatal bool
}

func (h *heard) Helper() {}

func (h *heard) Errorf(format string, args ...any) {
	h.text = append(h.text, fmt.Sprintf(format, args...))
}

func (h *heard) Fatalf(format string, args ...any) {
	h.Errorf(format, args...)
	h.fatal = true
	runtime.Goexit()
}

// listen runs f with a recorder that reports to the result.
func listen(t *testing.T, f func(h *heard)) *heard {
	h := &heard{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(h)
	}()
	<-done
	return h
}

func send(ctx context.Context, t *testing.T) {
	t.Helper()
	err := errors.Join(
		realtime.Channel("orders.1", "orders").Except("1.2").ExceptUsers("ada").Private(ctx, "OrderShipped", map[string]int{"id": 1}),
		realtime.User("ada").Send(ctx, "Hello", strings.Repeat("ü", 150)),
		realtime.Channel("secret").Encrypted(ctx, "Secret", 7),
	)
	if err != nil {
		t.Fatal(err)
	}
}

var sentWas = "sent was:\n" +
	"\t\"OrderShipped\" to [\"private-orders.1\" \"private-orders\"]: {\"id\":1} except sockets [\"1.2\"] except users [\"ada\"]\n" +
	"\t\"Hello\" to [\"#server-to-user-ada\"]: \"" + strings.Repeat("ü", 99) + "…\n" +
	"\t\"Secret\" to [\"private-encrypted-secret\"]: 7"

func TestAssertions(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(*Recorder)
		want []string
	}{
		{"sent", func(r *Recorder) { r.AssertSent("OrderShipped") }, nil},
		{"sent to one", func(r *Recorder) { r.AssertSent("OrderShipped", "private-orders") }, nil},
		{"sent to both", func(r *Recorder) { r.AssertSent("OrderShipped", "private-orders", "private-orders.1") }, nil},
		{"sent to another", func(r *Recorder) { r.AssertSent("OrderShipped", "orders.1", "private-orders") },
			[]string{`event "OrderShipped" was not sent to channel "orders.1"; ` + sentWas}},
		{"another sent", func(r *Recorder) { r.AssertSent("OrderPaid", "private-orders") },
			[]string{`event "OrderPaid" was not sent; ` + sentWas}},
		{"not sent", func(r *Recorder) { r.AssertNotSent("OrderPaid") }, nil},
		{"not sent to", func(r *Recorder) { r.AssertNotSent("OrderShipped", "private-orders.2") }, nil},
		{"not sent, but was", func(r *Recorder) { r.AssertNotSent("OrderShipped") },
			[]string{`event "OrderShipped" was sent; ` + sentWas}},
		{"not sent to, but was", func(r *Recorder) { r.AssertNotSent("OrderShipped", "private-orders.1", "x") },
			[]string{`event "OrderShipped" was sent to channel "private-orders.1"; ` + sentWas}},
		{"count", func(r *Recorder) { r.AssertCount(3) }, nil},
		{"another count", func(r *Recorder) { r.AssertCount(0) }, []string{"3 messages were sent, not 0; " + sentWas}},
		{"data", func(r *Recorder) {
			if id := Data[map[string]int](r.t, r, "OrderShipped")["id"]; id != 1 {
				r.t.Errorf("id is %d", id)
			}
		}, nil},
		{"no data", func(r *Recorder) { Data[int](r.t, r, "OrderPaid") },
			[]string{`event "OrderPaid" was sent in 0 messages, not in one; ` + sentWas}},
		{"other data", func(r *Recorder) { Data[string](r.t, r, "Secret") },
			[]string{`data of event "Secret" is no string: json: cannot unmarshal number into Go value of type string; ` + sentWas}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := listen(t, func(h *heard) {
				ctx, rec := Record(h, nil)
				send(ctx, t)
				tt.run(rec)
			})
			if fmt.Sprintf("%q", h.text) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("reported\n%s\nwant\n%s", strings.Join(h.text, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestNothingWasSent(t *testing.T) {
	h := listen(t, func(h *heard) {
		_, rec := Record(h, nil)
		rec.AssertSent("OrderShipped")
	})
	if want := `["event \"OrderShipped\" was not sent; nothing was sent"]`; fmt.Sprintf("%q", h.text) != want {
		t.Errorf("reported %q\nwant %s", h.text, want)
	}
}

func TestFaultyEventsFailTheTest(t *testing.T) {
	events := realtime.NewEvents()
	realtime.HandleFunc(events, "", func(context.Context, int) error { return nil })
	h := listen(t, func(h *heard) { Record(h, events) })
	if !h.fatal || fmt.Sprint(h.text) != "[realtimetest: realtime: event of int: event name is empty]" {
		t.Errorf("fatal: %t, reported %q", h.fatal, h.text)
	}
}

func TestMessagesAreCopies(t *testing.T) {
	ctx, rec := Record(t, nil)
	send(ctx, t)
	rec.Messages()[0].Channels[0] = "scribbled"
	rec.Messages()[0].Data[0] = 'x'
	rec.AssertSent("OrderShipped", "private-orders.1")
	Data[map[string]int](t, rec, "OrderShipped")
}

func TestRecorderIsADriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
		_, rec := Record(t, nil)
		var got []realtime.Message
		n := 0
		return rec, func() realtime.Message {
			if n == len(got) {
				got = rec.Messages()
			}
			if n == len(got) {
				t.Fatalf("message %d did not arrive", n+1)
			}
			n++
			return got[n-1]
		}
	}})
}
