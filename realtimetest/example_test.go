package realtimetest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/realtimetest"
	"github.com/stacksjs/realtime-go/server"
)

type OrderShipped struct {
	OrderID string `json:"orderId"`
}

func (OrderShipped) EventName() string { return "OrderShipped" }

func (e OrderShipped) Handle(ctx context.Context) error {
	return realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e)
}

// All is the application's table of events.
func All() *realtime.Events {
	e := realtime.NewEvents()
	realtime.Register[OrderShipped](e)
	return e
}

// A test of what an application sends.
func ExampleRecord() {
	t := newT() // the *testing.T of the test
	defer t.end()

	ctx, rec := realtimetest.Record(t, All())
	if err := realtime.Dispatch(ctx, OrderShipped{OrderID: "7"}); err != nil { // the code under test
		t.Fatalf("Dispatch: %v", err)
	}

	rec.AssertSent("OrderShipped", "private-orders.7")
	rec.AssertCount(1)
	fmt.Println(realtimetest.Data[OrderShipped](t, rec, "OrderShipped").OrderID)

	rec.AssertSent("OrderPaid") // which it was not
	// Output:
	// 7
	// event "OrderPaid" was not sent; sent was:
	// 	"OrderShipped" to ["private-orders.7"]: {"orderId":"7"}
}

// A test of what a client receives, from a real server.
func ExampleServer() {
	t := newT() // the *testing.T of the test
	defer t.end()

	ctx, live := realtimetest.Server(t, server.Config{}, All())
	client, err := live.Connect(nil)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	fmt.Println(client.Subscribe("news"))
	fmt.Println(client.Subscribe("private-orders.7"))

	if err := realtime.Channel("news").Public(ctx, "headline", "Hello"); err != nil {
		t.Fatalf("Public: %v", err)
	}
	m := client.Next()
	fmt.Println(m.Event, m.Channels, string(m.Data))
	// Output:
	// <nil>
	// no authorizer is registered for channel "private-orders.7", and the subscription brought neither signature nor token
	// headline [news] "Hello"
}

// printingT stands for a *testing.T, which examples have not.
type printingT struct {
	testing.TB
	cleanups []func()
}

func newT() *printingT { return &printingT{} }

func (t *printingT) Helper()                           {}
func (t *printingT) Context() context.Context          { return context.Background() }
func (t *printingT) Cleanup(f func())                  { t.cleanups = append([]func(){f}, t.cleanups...) }
func (t *printingT) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (t *printingT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *printingT) end() {
	for _, f := range t.cleanups {
		f()
	}
}
