package realtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/null"
)

// A middleware of one's own: one that counts.
func ExampleMiddleware() {
	sent := map[string]int{}
	count := func(next realtime.Driver) realtime.Driver {
		return realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
			err := next.Send(ctx, m)
			if err == nil {
				sent[m.Event]++ // a real one takes a lock: messages are sent by many goroutines
			}
			return err
		})
	}
	b, err := realtime.New(null.New(), nil, count)
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	for range 3 {
		if err := realtime.Channel("news").Public(ctx, "headline", "Hello"); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(sent)
	// Output: map[headline:3]
}

// Sizes and errors in the log, but never data.
func ExampleLogging() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{} // other ones each time
			}
			return a
		},
	}))
	b, err := realtime.New(null.New(), nil, realtime.Logging(logger))
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	if err := realtime.Channel("news").Public(ctx, "headline", "Hello"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// level=DEBUG msg="realtime: sent" event=headline channels=[news] bytes=7
}

// A server that is overloaded for a moment.
func ExampleRetry() {
	tries := 0
	busy := realtime.DriverFunc(func(_ context.Context, m *realtime.Message) error {
		if tries++; tries < 3 {
			return realtime.ErrOverloaded
		}
		fmt.Println(m.Event, "sent at try", tries)
		return nil
	})
	b, err := realtime.New(busy, nil, realtime.Retry(5, time.Millisecond))
	if err != nil {
		panic(err)
	}
	ctx := realtime.WithBroadcaster(context.Background(), b)
	if err := realtime.Channel("news").Public(ctx, "headline", "Hello"); err != nil {
		fmt.Println(err)
	}
	// Output: headline sent at try 3
}
