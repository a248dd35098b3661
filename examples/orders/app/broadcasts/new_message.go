package broadcasts

import (
	"context"
	"time"

	realtime "github.com/stacksjs/realtime-go"
)

// NewMessage is something a customer wrote.
type NewMessage struct {
	Content   string    `json:"content"`
	Sender    string    `json:"sender"`
	Timestamp time.Time `json:"timestamp"`
}

// Messages keeps messages.
type Messages interface {
	Keep(ctx context.Context, m NewMessage) error
}

// registerNewMessage is the form for handlers that need something of the program, here a place to keep messages.
func registerNewMessage(e *realtime.Events, messages Messages) {
	realtime.HandleFunc(e, "NewMessage", func(ctx context.Context, m NewMessage) error {
		if err := messages.Keep(ctx, m); err != nil {
			return err
		}
		return realtime.Channel("chat."+m.Sender).Private(ctx, "NewMessage", m)
	})
}
