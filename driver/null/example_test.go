package null_test

import (
	"context"
	"fmt"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/null"
)

// A program that runs where nobody listens still finds its mistakes.
func ExampleNew() {
	b, err := realtime.New(null.New(), nil)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	fmt.Println(realtime.Channel("orders.7").Private(ctx, "OrderShipped", nil))
	fmt.Println(realtime.Channel("orders 7").Private(ctx, "OrderShipped", nil))
	// Output:
	// <nil>
	// realtime: event "OrderShipped" cannot be sent: channel name "private-orders 7" has ' ' at byte 14; allowed are letters, digits and _ - = @ , . ;
}
