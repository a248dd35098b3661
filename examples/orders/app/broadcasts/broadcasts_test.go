package broadcasts_test

import (
	"context"
	"errors"
	"testing"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/examples/orders/app/broadcasts"
	"github.com/stacksjs/realtime-go/realtimetest"
)

type messages struct{ err error }

func (m messages) Keep(context.Context, broadcasts.NewMessage) error { return m.err }

func TestAnOrderGoesToItsOwnChannel(t *testing.T) {
	ctx, rec := realtimetest.Record(t, broadcasts.All(messages{}))
	if err := realtime.Dispatch(ctx, broadcasts.OrderShipped{OrderID: "12345"}); err != nil {
		t.Fatal(err)
	}
	rec.AssertSent("OrderShipped", "private-orders.12345")
}

func TestAMessageIsKeptBeforeItIsSent(t *testing.T) {
	data := map[string]any{"content": "Hello!", "sender": "ann", "timestamp": "2026-01-02T03:04:05Z"}
	ctx, rec := realtimetest.Record(t, broadcasts.All(messages{}))
	if err := realtime.Broadcast(ctx, "NewMessage", data); err != nil {
		t.Fatal(err)
	}
	rec.AssertSent("NewMessage", "private-chat.ann")

	full := errors.New("the disk is full")
	ctx, rec = realtimetest.Record(t, broadcasts.All(messages{full}))
	if err := realtime.Broadcast(ctx, "NewMessage", data); !errors.Is(err, full) {
		t.Fatalf("Broadcast: %v", err)
	}
	rec.AssertNotSent("NewMessage")
}
