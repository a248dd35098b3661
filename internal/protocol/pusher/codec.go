package pusher

import (
	"strconv"

	"github.com/stacksjs/realtime-go/internal/echo"
	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Codec writes deliveries as frames of this protocol.
type Codec struct {
	Deflate bool
	// Namespace stands before the names of the program's own events, as laravel-echo expects it.
	Namespace string
}

// deflateFrom is the size from which compressing pays.
const deflateFrom = 512

// Append implements hub.Codec.
func (c Codec) Append(dst []byte, d *hub.Delivery) []byte {
	if d.Kind == hub.MemberUpdated {
		return dst // the protocol cannot say it: the first connection's info stays
	}
	if c.Deflate && len(d.Event.Data) >= deflateFrom {
		return ws.AppendDeflated(dst, ws.OpText, c.appendDelivery(nil, d))
	}
	// Quotes in the data are escaped once more: an eighth of it is a fair guess.
	guess := len(d.Event.Data) + len(d.Event.Data)/8 + len(d.Event.Name) + len(d.Channel()) + 36
	return ws.AppendText(dst, guess, func(b []byte) []byte { return c.appendDelivery(b, d) })
}

func (c Codec) appendDelivery(b []byte, d *hub.Delivery) []byte {
	switch d.Kind {
	case hub.MemberAdded:
		return appendEvent(b, "pusher_internal:member_added", d.Channel(), func(b []byte) []byte {
			b = append(b, `{"user_id":`...)
			b = jsontext.AppendString(b, d.Member.ID)
			b = append(b, `,"user_info":`...)
			return append(envelope.AppendInfo(b, d.Member), '}')
		})
	case hub.MemberRemoved:
		return appendEvent(b, "pusher_internal:member_removed", d.Channel(), func(b []byte) []byte {
			b = append(b, `{"user_id":`...)
			b = jsontext.AppendString(b, d.Member.ID)
			return append(b, '}')
		})
	case hub.Subscribers:
		return appendEvent(b, "pusher_internal:subscription_count", d.Channel(), func(b []byte) []byte {
			b = append(b, `{"subscription_count":`...)
			b = strconv.AppendInt(b, int64(d.Count), 10)
			return append(b, '}')
		})
	}
	b = append(b, `{"event":`...)
	name := d.Event.Name
	if d.Event.Own {
		name = echo.EventName(c.Namespace, name)
	}
	b = jsontext.AppendString(b, name)
	b = append(b, `,"channel":`...)
	b = jsontext.AppendString(b, d.Channel())
	b = append(b, `,"data":`...)
	if d.Event.Text { // the string that was published, as it was
		b = append(b, d.Event.Data...)
	} else {
		b = jsontext.AppendString(b, d.Event.Data)
	}
	if d.Event.UserID != "" {
		b = append(b, `,"user_id":`...)
		b = jsontext.AppendString(b, d.Event.UserID)
	}
	return append(b, '}')
}

// appendEvent appends an event of the protocol itself, whose data is a string with the JSON that data appends in it.
func appendEvent(b []byte, name, channel string, data func([]byte) []byte) []byte {
	b = append(b, `{"event":"`...)
	b = append(b, name...)
	b = append(b, '"')
	if channel != "" {
		b = append(b, `,"channel":`...)
		b = jsontext.AppendString(b, channel)
	}
	b = append(b, `,"data":`...)
	b = jsontext.AppendString(b, string(data(nil)))
	return append(b, '}')
}

func empty(b []byte) []byte { return append(b, "{}"...) }
