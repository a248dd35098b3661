package bun

import (
	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
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
		return ws.AppendDeflated(dst, ws.OpText, envelope.AppendDelivery(nil, d, false))
	}
	return ws.AppendText(dst, len(d.Event.Data)+len(d.Event.Name)+len(d.Channel())+34, func(b []byte) []byte {
		return envelope.AppendDelivery(b, d, false)
	})
}
