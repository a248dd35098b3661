package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/realtimetest"
)

// byPointer has pointer receivers and everything a payload may have.
type byPointer struct {
	Text string `json:"text"`
}

var errNoText = errors.New("text is empty")

func (*byPointer) EventName() string { return "ByPointer" }

func (p *byPointer) Handle(ctx context.Context) error {
	return realtime.Channel("p").Public(ctx, "ByPointer", p)
}

func (p *byPointer) Validate() error {
	if p.Text == "" {
		return errNoText
	}
	return nil
}

func (p *byPointer) BroadcastWhen() bool { return p.Text != "silence" }

type named string

func (n named) EventName() string            { return string(n) }
func (n named) Handle(context.Context) error { return nil }

type clash struct{}

func (clash) EventName() string            { return "OrderShipped" }
func (clash) Handle(context.Context) error { return nil }

func TestRegistrationErrorsAreJoined(t *testing.T) {
	e := All()
	realtime.Register[clash](e)
	realtime.Register[*OrderShipped](e)
	realtime.Register[named](e) // its zero value has no name
	realtime.Register[realtime.Event](e)
	nop := func(context.Context, int) error { return nil }
	realtime.HandleFunc(e, "pusher:ping", nop)
	realtime.HandleFunc(e, "pusher_internal:x", nop)
	realtime.HandleFunc(e, strings.Repeat("x", 201), nop)
	realtime.HandleFunc(e, strings.Repeat("x", 200), nop)
	realtime.HandleFunc(e, "a\xff", nop)
	realtime.HandleFunc[int](e, "nil", nil)
	realtime.HandleFunc(e, "any", func(context.Context, any) error { return nil })
	want := strings.Join([]string{
		`realtime: event "OrderShipped" is registered twice: for realtime_test.OrderShipped and for realtime_test.clash`,
		`realtime: event "OrderShipped" is registered twice: for realtime_test.OrderShipped and for realtime_test.OrderShipped`,
		`realtime: event of realtime_test.named: event name is empty`,
		`realtime: Register[realtime.Event]: an interface cannot be decoded into; register the struct`,
		`realtime: event of int: event name "pusher:ping" begins with "pusher:", which the protocol keeps for itself`,
		`realtime: event of int: event name "pusher_internal:x" begins with "pusher_internal:", which the protocol keeps for itself`,
		`realtime: event of int: event name of 201 bytes is longer than 200: "` + strings.Repeat("x", 40) + `"…`,
		`realtime: event of int: event name "a\xff" is not valid UTF-8`,
		`realtime: HandleFunc("nil"): the function is nil`,
		`realtime: HandleFunc[interface {}]("any"): an interface cannot be decoded into; use a struct, a map or json.RawMessage`,
	}, "\n")
	if got := fmt.Sprint(e.Err()); got != want {
		t.Errorf("Err:\n%s\nwant\n%s", got, want)
	}
	b, err := realtime.New(nil, e)
	if b != nil || fmt.Sprint(err) != "realtime: New: the driver is nil; driver/null sends nowhere, driver/log to the log\n"+want {
		t.Errorf("New: %v, %v", b, err)
	}
	if err := All().Err(); err != nil {
		t.Errorf("a sound table: %v", err)
	}
}

func TestWhatBroadcastTakes(t *testing.T) {
	e := realtime.NewEvents()
	realtime.Register[*byPointer](e)
	realtime.HandleFunc(e, "Func", func(ctx context.Context, p byPointer) error {
		return realtime.Channel("p").Public(ctx, "Func", p)
	})
	realtime.HandleFunc(e, "FuncPointer", func(ctx context.Context, p *byPointer) error {
		return realtime.Channel("p").Public(ctx, "FuncPointer", p)
	})
	for _, name := range []string{"ByPointer", "Func", "FuncPointer"} {
		for _, data := range []any{
			byPointer{"hi"}, &byPointer{"hi"},
			map[string]any{"text": "hi"}, map[string]string{"text": "hi"},
			json.RawMessage(`{"text":"hi"}`), []byte(` {"text" : "hi"}`),
		} {
			ctx, rec := realtimetest.Record(t, e)
			if err := realtime.Broadcast(ctx, name, data); err != nil {
				t.Errorf("Broadcast(%q, %T): %v", name, data, err)
				continue
			}
			rec.AssertCount(1)
			if got := string(rec.Messages()[0].Data); got != `{"text":"hi"}` {
				t.Errorf("Broadcast(%q, %T) sent %s", name, data, got)
			}
		}
		for _, tt := range []struct {
			data any
			want string
		}{
			{(*byPointer)(nil), `realtime: event "` + name + `" was given a nil *realtime_test.byPointer`},
			{OrderShipped{}, `realtime: event "` + name + `" takes realtime_test.byPointer, not realtime_test.OrderShipped: give it that type, a pointer to it, a map, or raw JSON`},
			{"hi", `realtime: event "` + name + `" takes realtime_test.byPointer, not string: give it that type, a pointer to it, a map, or raw JSON`},
			{map[string]any{"f": func() {}}, `realtime: data of event "` + name + `" (map[string]interface {}) cannot be made JSON: json: unsupported type: func()`},
			{nil, `realtime: data of event "` + name + `" does not fit realtime_test.byPointer: missing text`},
			{byPointer{}, `realtime: event "` + name + `" is not valid: text is empty`},
			{byPointer{"silence"}, "<nil>"},
		} {
			ctx, rec := realtimetest.Record(t, e)
			if err := realtime.Broadcast(ctx, name, tt.data); fmt.Sprint(err) != tt.want {
				t.Errorf("Broadcast(%q, %T): %v\nwant %s", name, tt.data, err, tt.want)
			}
			rec.AssertCount(0)
		}
	}
}

func TestValidateErrorIsWrapped(t *testing.T) {
	ctx, _ := realtimetest.Record(t, nil)
	if err := realtime.Dispatch(ctx, &byPointer{}); !errors.Is(err, errNoText) {
		t.Errorf("error %v", err)
	}
}

func TestRawPayloads(t *testing.T) {
	e := realtime.NewEvents()
	realtime.HandleFunc(e, "Raw", func(ctx context.Context, raw json.RawMessage) error {
		return realtime.Channel("r").Public(ctx, "Raw", raw)
	})
	realtime.HandleFunc(e, "Ping", func(ctx context.Context, _ struct{}) error {
		return realtime.Channel("r").Public(ctx, "Ping", nil)
	})
	ctx, rec := realtimetest.Record(t, e)
	for _, err := range []error{
		realtime.Broadcast(ctx, "Raw", json.RawMessage(`{"b": 1, "a":12345678901234567890}`)),
		realtime.Broadcast(ctx, "Ping", nil),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	rec.AssertCount(2)
	for i, want := range []string{`{"b": 1, "a":12345678901234567890}`, `null`} {
		if got := string(rec.Messages()[i].Data); got != want {
			t.Errorf("message %d: %s, want %s", i, got, want)
		}
	}
}

func TestDispatch(t *testing.T) {
	ctx, rec := realtimetest.Record(t, All())
	if err := realtime.Dispatch(ctx, &OrderShipped{OrderID: "1"}); err != nil {
		t.Error(err)
	}
	if err := realtime.Dispatch(ctx, &byPointer{"not registered"}); err != nil {
		t.Error(err)
	}
	rec.AssertCount(2)
	rec.AssertSent("OrderShipped", "private-orders.1")
	rec.AssertSent("ByPointer", "p")
	for _, tt := range []struct {
		event realtime.Event
		want  string
	}{
		{nil, "realtime: Dispatch was given a nil event (<nil>)"},
		{(*byPointer)(nil), "realtime: Dispatch was given a nil event (*realtime_test.byPointer)"},
		{clash{}, `realtime: event "OrderShipped" takes realtime_test.OrderShipped, not realtime_test.clash: give it that type, a pointer to it, a map, or raw JSON`},
	} {
		if err := realtime.Dispatch(ctx, tt.event); fmt.Sprint(err) != tt.want {
			t.Errorf("Dispatch(%T): %v\nwant %s", tt.event, err, tt.want)
		}
	}
	rec.AssertCount(2)
}

func TestDispatchRunsTheRegisteredHandler(t *testing.T) {
	e := realtime.NewEvents()
	var got OrderShipped
	realtime.HandleFunc(e, "OrderShipped", func(_ context.Context, o OrderShipped) error {
		got = o
		return nil
	})
	ctx, rec := realtimetest.Record(t, e)
	if err := realtime.Dispatch(ctx, OrderShipped{OrderID: "7"}); err != nil || got.OrderID != "7" {
		t.Errorf("handler got %+v; error %v", got, err)
	}
	rec.AssertCount(0)
}

func TestUnknownEvents(t *testing.T) {
	e := realtime.NewEvents()
	for _, name := range []string{"OrderShipped", "OrderPaid", "OrderPlaced", "UserJoined"} {
		realtime.HandleFunc(e, name, func(context.Context, struct{}) error { return nil })
	}
	for _, tt := range []struct {
		events     *realtime.Events
		name, want string
	}{
		{e, "ordershiped", `realtime: event "ordershiped" is unknown: nearest of 4 registered: "OrderShipped", "OrderPaid", "OrderPlaced"`},
		{e, "Joined", `realtime: event "Joined" is unknown: nearest of 4 registered: "UserJoined", "OrderPaid", "OrderPlaced"`},
		{e, "", `realtime: event "" is unknown: nearest of 4 registered: "OrderPaid", "UserJoined", "OrderPlaced"`},
		{e, strings.Repeat("x", 201), `realtime: event "` + strings.Repeat("x", 60) + `"… is unknown: names have at most 200 bytes`},
		{nil, "X", `realtime: event "X" is unknown: no events are registered`},
	} {
		ctx, _ := realtimetest.Record(t, tt.events)
		if err := realtime.Broadcast(ctx, tt.name, nil); fmt.Sprint(err) != tt.want {
			t.Errorf("Broadcast(%.20q): %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

func TestEventsMayBeUsedWhileTheyGrow(t *testing.T) {
	e := All()
	ctx, _ := realtimetest.Record(t, e)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			realtime.HandleFunc(e, fmt.Sprint("Event", i), func(context.Context, struct{}) error { return nil })
			if err := realtime.Broadcast(ctx, fmt.Sprint("Event", i), nil); err != nil {
				t.Error(err)
			}
			_ = realtime.Broadcast(ctx, "unknown", nil)
		})
	}
	wg.Wait()
	if err := e.Err(); err != nil {
		t.Error(err)
	}
}
