package log_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/driver/log"
)

// farEnd is a slog.Handler that turns the driver's lines back into messages.
type farEnd chan realtime.Message

func (farEnd) Enabled(context.Context, slog.Level) bool { return true }
func (f farEnd) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f farEnd) WithGroup(string) slog.Handler          { return f }

func (f farEnd) Handle(_ context.Context, r slog.Record) error {
	var m realtime.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "event":
			m.Event = a.Value.String()
		case "channels":
			m.Channels = a.Value.Any().([]string)
		case "data":
			m.Data = json.RawMessage(a.Value.String())
		case "exceptSockets":
			m.ExceptSockets = a.Value.Any().([]string)
		case "exceptUsers":
			m.ExceptUsers = a.Value.Any().([]string)
		}
		return true
	})
	f <- m
	return nil
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		MaxData: log.MaxData,
		New: func(*testing.T) (realtime.Driver, func() realtime.Message) {
			f := make(farEnd, drivertest.MaxWaiting)
			return log.New(slog.New(f)), func() realtime.Message { return <-f }
		},
	})
}

func line(t *testing.T, m *realtime.Message) string {
	t.Helper()
	var out bytes.Buffer
	h := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	if err := log.New(slog.New(h)).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLine(t *testing.T) {
	got := line(t, &realtime.Message{
		ID: "7", App: "shop", Channels: []string{"orders", "private-orders.1"}, Event: "OrderShipped", Data: json.RawMessage(`{"id":1}`),
		ExceptSockets: []string{"1.2"}, ExceptUsers: []string{"ada"},
	})
	want := `level=INFO msg="realtime: message" event=OrderShipped channels="[orders private-orders.1]" data="{\"id\":1}" exceptSockets=[1.2] exceptUsers=[ada] app=shop id=7` + "\n"
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestLongDataIsCutBetweenCharacters(t *testing.T) {
	for _, tt := range []struct{ data, want string }{
		{`"` + strings.Repeat("x", 1022) + `"`, `data="\"` + strings.Repeat("x", 1022) + `\""` + "\n"}, // 1,024 bytes: whole
		{`"` + strings.Repeat("x", 1023) + `"`, `data="\"` + strings.Repeat("x", 1023) + `… (1025 bytes)"` + "\n"},
		{`"` + strings.Repeat("ü", 512) + `"`, `data="\"` + strings.Repeat("ü", 511) + `… (1026 bytes)"` + "\n"},
	} {
		got := line(t, &realtime.Message{Channels: []string{"a"}, Event: "e", Data: json.RawMessage(tt.data)})
		if !strings.HasSuffix(got, tt.want) {
			t.Errorf("data of %d bytes: the line ends with …%s", len(tt.data), got[max(0, len(got)-60):])
		}
	}
}

func TestNilLoggerIsTheDefaultOne(t *testing.T) {
	f := make(farEnd, 1)
	before := slog.Default()
	slog.SetDefault(slog.New(f))
	defer slog.SetDefault(before)
	if err := log.New(nil).Send(t.Context(), &realtime.Message{Channels: []string{"a"}, Event: "e", Data: json.RawMessage("1")}); err != nil {
		t.Fatal(err)
	}
	if got := (<-f).Event; got != "e" {
		t.Errorf("event %q", got)
	}
}
