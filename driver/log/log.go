// Package log is the driver that writes messages to the log instead of sending them: for development, and
// for a first look at what an application would send.
package log

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go"
)

// MaxData is how much of a message's data is written, in bytes.
const MaxData = 1 << 10

type driver struct{ logger *slog.Logger }

// New returns a driver that writes one line a message, at level info, to l; nil is slog.Default() at the
// time of sending. The line has the event, the channels and the data, of which no more than MaxData bytes
// are written, and what else the message says.
func New(l *slog.Logger) realtime.Driver { return driver{l} }

func (d driver) Send(ctx context.Context, m *realtime.Message) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l := d.logger
	if l == nil {
		l = slog.Default()
	}
	if !l.Enabled(ctx, slog.LevelInfo) {
		return nil
	}
	// A handler may keep what it is given, and the message is the sender's again after this call: copies.
	attrs := []slog.Attr{
		slog.String("event", m.Event),
		slog.Any("channels", slices.Clone(m.Channels)),
		slog.String("data", shorten(m.Data)),
	}
	if len(m.ExceptSockets) > 0 {
		attrs = append(attrs, slog.Any("exceptSockets", slices.Clone(m.ExceptSockets)))
	}
	if len(m.ExceptUsers) > 0 {
		attrs = append(attrs, slog.Any("exceptUsers", slices.Clone(m.ExceptUsers)))
	}
	if m.App != "" {
		attrs = append(attrs, slog.String("app", m.App))
	}
	if m.ID != "" {
		attrs = append(attrs, slog.String("id", m.ID))
	}
	l.LogAttrs(ctx, slog.LevelInfo, "realtime: message", attrs...)
	return nil
}

// shorten cuts between characters, so that no log gets half of one.
func shorten(data []byte) string {
	if len(data) <= MaxData {
		return string(data)
	}
	end := MaxData
	for end > 0 && !utf8.RuneStart(data[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes)", data[:end], len(data))
}
