package realtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"
)

// Middleware wraps a driver: it sees each message on its way and what became of it. The driver it returns
// keeps the contract of Driver: it is called by many goroutines and does not change the message; one that
// wants another message sends a copy.
type Middleware func(next Driver) Driver

// DriverFunc is a function as a Driver.
type DriverFunc func(ctx context.Context, m *Message) error

// Send calls f.
func (f DriverFunc) Send(ctx context.Context, m *Message) error { return f(ctx, m) }

// Logging writes one line a message to l: at level debug, or with the error at level warn. It never writes
// the data, only its size. A nil l is slog.Default() at the time of sending.
func Logging(l *slog.Logger) Middleware {
	return func(next Driver) Driver {
		return DriverFunc(func(ctx context.Context, m *Message) error {
			start := time.Now()
			err := next.Send(ctx, m)
			attrs := []slog.Attr{
				slog.String("event", m.Event),
				slog.Any("channels", m.Channels),
				slog.Int("bytes", len(m.Data)),
				slog.Duration("duration", time.Since(start)),
			}
			level, text := slog.LevelDebug, "realtime: sent"
			if err != nil {
				level, text = slog.LevelWarn, "realtime: not sent"
				attrs = append(attrs, slog.Any("error", err))
			}
			logger := l
			if logger == nil {
				logger = slog.Default()
			}
			logger.LogAttrs(ctx, level, text, attrs...)
			return err
		})
	}
}

// maxBackoff bounds the doubling of Retry's waits.
const maxBackoff = time.Minute

// Retry sends a message up to attempts times, while the error is temporary: ErrOverloaded, or one in whose
// tree an error has Temporary() bool and returns true. Before the second try it waits between half of backoff
// and all of it, then twice as long each time, at most a minute; it gives up when ctx ends. Fewer than two
// attempts are one.
//
// A message without an ID is sent as a copy with a random one, so that a server that had accepted it before
// the error does not deliver it again.
func Retry(attempts int, backoff time.Duration) Middleware {
	return func(next Driver) Driver {
		if attempts < 2 {
			return next
		}
		return DriverFunc(func(ctx context.Context, m *Message) error {
			if m.ID == "" {
				withID := *m
				withID.ID = rand.Text()
				m = &withID
			}
			wait := min(max(backoff, 0), maxBackoff)
			for attempt := 1; ; attempt++ {
				err := next.Send(ctx, m)
				if err == nil || !temporary(err) || ctx.Err() != nil {
					return err
				}
				if attempt == attempts {
					return fmt.Errorf("gave up after %d attempts: %w", attempts, err)
				}
				select {
				case <-time.After(wait/2 + mathrand.N(wait/2+1)):
				case <-ctx.Done():
					return fmt.Errorf("gave up after %d of %d attempts: %w: %w", attempt, attempts, context.Cause(ctx), err)
				}
				wait = min(2*wait, maxBackoff)
			}
		})
	}
}

func temporary(err error) bool {
	if errors.Is(err, ErrOverloaded) {
		return true
	}
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
