package log_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/log"
)

// A first look at what a program would send.
func ExampleNew() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	b, err := realtime.New(log.New(logger), nil)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	err = realtime.Channel("orders.7").ExceptUsers("ada").Private(ctx, "OrderShipped", map[string]string{"carrier": "DHL"})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// level=INFO msg="realtime: message" event=OrderShipped channels=[private-orders.7] data="{\"carrier\":\"DHL\"}" exceptUsers=[ada]
}
