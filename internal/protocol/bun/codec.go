package bun

import (
	"strconv"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Codec writes deliveries as frames of this protocol.
type Codec struct{ Deflate bool }

// deflateFrom is the size from which compressing pays.
const deflateFrom = 512

// Append implements hub.Codec.
func (c Codec) Append(dst []byte, d *hub.Delivery) []byte {
	if d.Kind == hub.Subscribers {
		return dst // Pusher clients are told; here the presence command and the HTTP API say it
	}
	if c.Deflate && len(d.Event.Data) >= deflateFrom {
		return ws.AppendDeflated(dst, ws.OpText, appendDelivery(nil, d, false))
	}
	return ws.AppendText(dst, len(d.Event.Data)+len(d.Event.Name)+len(d.Channel())+34, func(b []byte) []byte {
		return appendDelivery(b, d, false)
	})
}

func appendDelivery(b []byte, d *hub.Delivery, replayed bool) []byte {
	switch d.Kind {
	case hub.Message, hub.Whisper:
		b = append(b, `{"event":`...)
		b = jsontext.AppendString(b, d.Event.Name)
	case hub.MemberAdded:
		b = append(b, `{"event":"member_added"`...)
	case hub.MemberUpdated:
		b = append(b, `{"event":"member_updated"`...)
	case hub.MemberRemoved:
		b = append(b, `{"event":"member_removed"`...)
	}
	b = append(b, `,"channel":`...)
	b = jsontext.AppendString(b, d.Channel())
	b = append(b, `,"data":`...)
	if d.Member != nil {
		b = appendMember(b, d.Member)
		return append(b, '}')
	}
	b = append(b, d.Event.Data...)
	if d.Event.UserID != "" {
		b = append(b, `,"user_id":`...)
		b = jsontext.AppendString(b, d.Event.UserID)
	}
	if p, ok := d.Position(); ok {
		b = appendPosition(b, p)
		b = append(b, `,"ts":`...)
		b = strconv.AppendInt(b, d.Time.UnixMilli(), 10)
	}
	if d.Event.ID != "" {
		b = append(b, `,"mid":`...)
		b = jsontext.AppendString(b, d.Event.ID)
	}
	if replayed {
		b = append(b, `,"replayed":true`...)
	}
	return append(b, '}')
}

func appendPosition(b []byte, p hub.Position) []byte {
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, p.Seq, 10)
	b = append(b, `,"epoch":"`...)
	b = strconv.AppendUint(b, p.Epoch, 36)
	return append(b, '"')
}

func appendMember(b []byte, m *hub.Member) []byte {
	b = append(b, `{"id":`...)
	b = jsontext.AppendString(b, m.ID)
	b = append(b, `,"info":`...)
	if m.Info == "" {
		b = append(b, "null"...)
	} else {
		b = append(b, m.Info...)
	}
	return append(b, '}')
}
