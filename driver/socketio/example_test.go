package socketio_test

import (
	"context"
	"fmt"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/socketio"
)

// A program that sends to the clients of Node servers that Redis connects.
func Example() {
	ctx := context.Background()
	d, err := socketio.New(socketio.Config{Redis: "redis://127.0.0.1:6379", UserRoom: "user:{id}"})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := realtime.New(d, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(ctx)
	ctx = realtime.WithBroadcaster(ctx, b)

	order := map[string]string{"orderId": "12345"}
	if err := realtime.Channel("orders.12345").ToOthers("lv_VI97HAXpY6yYWAAAC").Private(ctx, "OrderShipped", order); err != nil {
		fmt.Println(err)
	}
	if err := realtime.User("7").Send(ctx, "OrderShipped", order); err != nil { // the room user:7
		fmt.Println(err)
	}
}

// What channels cannot say: rooms and namespaces of any name, binary, and sockets that move.
func ExampleDriver_Namespace() {
	ctx := context.Background()
	d, err := socketio.New(socketio.Config{Adapter: socketio.Sharded})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close(ctx)
	ops := d.Namespace("/admin").To("ops", "night")
	if err := ops.Except("lv_VI97HAXpY6yYWAAAC").Emit(ctx, "chart", map[string]any{"image": []byte{0x89, 'P', 'N', 'G'}}); err != nil {
		fmt.Println(err)
	}
	if err := ops.Join(ctx, "reviewers"); err != nil {
		fmt.Println(err)
	}
}

// A mistake is an error before anything is sent.
func ExampleNew() {
	_, err := socketio.New(socketio.Config{Redis: "localhost", Adapter: "cluster"})
	fmt.Println(err)
	// Output:
	// socketio: Adapter is "cluster", and must be "classic", "sharded" or "streams"
	// socketio: Redis must be host:port, or a URL such as redis://user:password@host:6379/0
}
