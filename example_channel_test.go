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
	b, err := realtime.New(realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
		fmt.Println(m.Event, m.Channels, "except", m.ExceptSockets)
		return nil
	}), nil)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	for _, header := range []string{"123.456", "undefined"} { // X-Socket-ID; the second is not connected yet
		err := realtime.Channel("chat-room").ToOthers(header).Presence(ctx, "user-joined", map[string]string{"user": "John"})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// user-joined [presence-chat-room] except [123.456]
	// user-joined [presence-chat-room] except []
}

func ExampleUser() {
	ctx := printing(nil)
	if err := realtime.User("ada").Send(ctx, "reminder", "Tea is ready"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// reminder [#server-to-user-ada] "Tea is ready"
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
