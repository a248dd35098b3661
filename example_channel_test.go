package realtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/stacksjs/realtime-go"
	logdriver "github.com/stacksjs/realtime-go/driver/log"
)

func ExampleChannel() {
	ctx := printing(nil)
	err := realtime.Channel("notifications").Public(ctx, "new-message", map[string]string{"message": "Hello!"})
	if err != nil {
		fmt.Println(err)
	}
	err = realtime.Channel("user-123", "user-456").Private(ctx, "status-update", map[string]string{"status": "online"})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// new-message [notifications] {"message":"Hello!"}
	// status-update [private-user-123 private-user-456] {"status":"online"}
}

// A request that changes something usually has shown its own user the change already.
func ExampleTarget_ToOthers() {
	ctx := printing(nil)
	for _, header := range []string{"123.456", "undefined"} { // X-Socket-ID; the second is not connected yet
		err := realtime.Channel("chat-room").ToOthers(header).Presence(ctx, "user-joined", map[string]string{"user": "John"})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// user-joined [presence-chat-room] {"user":"John"} except sockets [123.456]
	// user-joined [presence-chat-room] {"user":"John"}
}

// Whoever is left out is a connection, by its socket id, or all connections of a user.
func ExampleTarget_Except() {
	ctx := printing(nil)
	board := realtime.Channel("board") // an immutable value: what is derived from it does not change it
	if err := board.Except("123.456", "7.8").Public(ctx, "moved", 1); err != nil {
		fmt.Println(err)
	}
	if err := board.ExceptUsers("ada").Public(ctx, "moved", 2); err != nil {
		fmt.Println(err)
	}
	fmt.Println(board.Except("ada").Public(ctx, "moved", 3))
	// Output:
	// moved [board] 1 except sockets [123.456 7.8]
	// moved [board] 2 except users [ada]
	// realtime: event "moved" cannot be sent: socket id "ada" to leave out is not of the form 123.456 (or, of a Node server, 20 letters and digits)
}

// What is sent twice with one ID is delivered once.
func ExampleTarget_ID() {
	b, err := realtime.New(realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
		fmt.Println(m.Event, m.Channels, m.ID)
		return nil
	}), nil)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	if err := realtime.Channel("orders.7").ID("shipped-7").Private(ctx, "OrderShipped", nil); err != nil {
		fmt.Println(err)
	}
	// Output:
	// OrderShipped [private-orders.7] shipped-7
}

// A name may carry the prefix of its kind, but not another's.
func ExampleTarget_Private() {
	ctx := printing(nil)
	fmt.Println(realtime.Channel("private-orders.7").Private(ctx, "shipped", 7))
	fmt.Println(realtime.Channel("presence-orders.7").Private(ctx, "shipped", 7))
	// Output:
	// shipped [private-orders.7] 7
	// <nil>
	// realtime: event "shipped" cannot be sent: channel "presence-orders.7" has the prefix of kind presence, but was asked for as private: use the bare name "orders.7", or the kind presence
}

func ExampleUser() {
	ctx := printing(nil)
	if err := realtime.User("ada").Send(ctx, "reminder", "Tea is ready"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// reminder [#server-to-user-ada] "Tea is ready"
}

// The connections of several users, except the one that caused the event.
func ExampleUsers() {
	ctx := printing(nil)
	if err := realtime.Users("ada", "grace").ToOthers("123.456").Send(ctx, "invited", "Tea at five"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// invited [#server-to-user-ada #server-to-user-grace] "Tea at five" except sockets [123.456]
}

// A handler with something in its closure.
func ExampleHandleFunc() {
	type NewMessage struct {
		Content string `json:"content"`
		Sender  string `json:"sender"`
	}
	rooms := map[string]string{"user_123": "lobby"} // a store

	events := realtime.NewEvents()
	realtime.HandleFunc(events, "NewMessage", func(ctx context.Context, m NewMessage) error {
		return realtime.Channel("chat."+rooms[m.Sender]).Private(ctx, "NewMessage", m)
	})

	ctx := printing(events)
	err := realtime.Broadcast(ctx, "NewMessage", map[string]any{"content": "Hello!", "sender": "user_123"})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// NewMessage [private-chat.lobby] {"content":"Hello!","sender":"user_123"}
}

// What a program does at start and at its end.
func ExampleNew() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	b, err := realtime.New(logdriver.New(logger), All(), realtime.Retry(3, 100*time.Millisecond))
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b) // or realtime.SetDefault(b)

	err = realtime.Channel("news").ID("headline-1").Public(ctx, "headline", "Hello")
	if err != nil {
		fmt.Println(err)
	}
	if err := b.Close(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(realtime.Channel("news").Public(ctx, "headline", "Hello?"))
	// Output:
	// level=INFO msg="realtime: message" event=headline channels=[news] data="\"Hello\"" id=headline-1
	// realtime: closed
}
