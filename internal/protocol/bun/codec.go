package bun

import (
	"strconv"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// Codec writes deliveries as frames of this protocol.
type Codec struct{ Deflate bool }

// deflateFrom is the size from which compressing pays.
const deflateFrom = 512

// Append implements hub.Codec.
func (c Codec) Append(dst []byte, d *hub.Delivery) []byte {
	if c.Deflate && len(d.Event.Data) >= deflateFrom {
		return ws.AppendDeflated(dst, ws.OpText, appendDelivery(nil, d, false))
	}
	return appendFrame(dst, len(d.Event.Data)+len(d.Event.Name)+len(d.Channel())+34, func(b []byte) []byte {
		return appendDelivery(b, d, false)
	})
}

// appendFrame appends a text frame whose payload payload appends. guess is about how long that will be: the header's
// length depends on it, and a wrong guess costs a move.
func appendFrame(dst []byte, guess int, payload func([]byte) []byte) []byte {
	start := len(dst)
	var room [ws.HeaderRoom]byte
	dst = append(dst, room[:headerLen(guess)]...)
	from := len(dst)
	dst = payload(dst)
	n := len(dst) - from
	if want := headerLen(n); want != from-start {
		dst = append(dst, room[:max(0, want-(from-start))]...)
		copy(dst[start+want:], dst[from:from+n])
		dst = dst[:start+want+n]
	}
	ws.AppendHeader(dst[:start], ws.OpText, false, n)
	return dst
}

func headerLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	}
	return 10
}

func appendDelivery(b []byte, d *hub.Delivery, replayed bool) []byte {
	switch d.Kind {
	case hub.Message, hub.Whisper:
		b = append(b, `{"event":`...)
		b = appendString(b, d.Event.Name)
	case hub.MemberAdded:
		b = append(b, `{"event":"member_added"`...)
	case hub.MemberUpdated:
		b = append(b, `{"event":"member_updated"`...)
	case hub.MemberRemoved:
		b = append(b, `{"event":"member_removed"`...)
	}
	b = append(b, `,"channel":`...)
	b = appendString(b, d.Channel())
	b = append(b, `,"data":`...)
	if d.Member != nil {
		b = appendMember(b, d.Member)
		return append(b, '}')
	}
	b = append(b, d.Event.Data...)
	if d.Event.UserID != "" {
		b = append(b, `,"user_id":`...)
		b = appendString(b, d.Event.UserID)
	}
	if p, ok := d.Position(); ok {
		b = appendPosition(b, p)
		b = append(b, `,"ts":`...)
		b = strconv.AppendInt(b, d.Time.UnixMilli(), 10)
	}
	if d.Event.ID != "" {
		b = append(b, `,"mid":`...)
		b = appendString(b, d.Event.ID)
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
	b = appendString(b, m.ID)
	b = append(b, `,"info":`...)
	if m.Info == "" {
		b = append(b, "null"...)
	} else {
		b = append(b, m.Info...)
	}
	return append(b, '}')
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Nothing is escaped that need not be: escaping for HTML is the page's affair.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[from:i]...)
			b = append(b, "\ufffd"...)
			i++
			from = i
			continue
		}
		i += n
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
