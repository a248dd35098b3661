package socketio

import (
	"strconv"

	"github.com/stacksjs/realtime-go/internal/echo"
	"github.com/stacksjs/realtime-go/internal/envelope"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// codec writes for the clients of one namespace that want the same form.
type codec struct {
	nsp  string
	echo bool // events have the arguments that laravel-echo expects: channel, data
	eio3 bool
	rec  bool // events end with an offset, with which the client may come back

	event     string // how every event begins: `42/nsp,[`
	namespace string // of events, for laravel-echo
	epoch     string // of offsets
}

func (c *codec) head() {
	c.event = string(append(appendHead([]byte{message}, event, 0, c.nsp, 0, false), '['))
}

// message is the type of Engine.IO packets that carry Socket.IO's.
const message = '4'

// An offset is epoch.ordinal, with the loop before the ordinal, always of the same length: every loop writes its own into
// a unit that was encoded once for all.
const (
	epochLen   = 8
	placeLen   = 14
	placeBits  = 48 // of the ordinal
	offsetTail = `,"` + "\x00\x00\x00\x00\x00\x00\x00\x00.\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + `"]`
)

// Append implements hub.Codec.
func (c *codec) Append(dst []byte, d *hub.Delivery) []byte {
	if d.Kind == hub.Subscribers {
		return dst // the presence command and the HTTP API say it
	}
	if c.echo && d.Kind == hub.MemberUpdated {
		return dst // laravel-echo has no word for it
	}
	guess := len(d.Event.Data) + 2*len(d.Event.Name) + len(d.Channel()) + 70
	return ws.AppendText(dst, guess, func(b []byte) []byte { return c.appendDelivery(b, d, false, c.rec) })
}

// appendDelivery appends the packet of a delivery; with room for an offset, if offset is set and it is an event of the
// kinds that are journaled.
func (c *codec) appendDelivery(b []byte, d *hub.Delivery, replayed, offset bool) []byte {
	b = append(b, c.event...)
	if c.echo {
		b = c.appendEcho(b, d)
	} else {
		if d.Member != nil {
			b = append(b, '"')
			b = append(b, envelope.MemberEvent(d.Kind)...)
			b = append(b, `",`...)
		} else {
			b = jsontext.AppendString(b, d.Event.Name)
			b = append(b, ',')
		}
		b = envelope.AppendDelivery(b, d, replayed)
	}
	if offset && d.Member == nil {
		return append(b, offsetTail...)
	}
	return append(b, ']')
}

// appendEcho appends name, channel and data.
func (c *codec) appendEcho(b []byte, d *hub.Delivery) []byte {
	switch {
	case d.Kind == hub.MemberAdded:
		b = append(b, `"presence:joining"`...)
	case d.Kind == hub.MemberRemoved:
		b = append(b, `"presence:leaving"`...)
	case d.Event.Own:
		b = jsontext.AppendString(b, echo.EventName(c.namespace, d.Event.Name))
	default:
		b = jsontext.AppendString(b, d.Event.Name)
	}
	b = append(b, ',')
	b = jsontext.AppendString(b, d.Channel())
	b = append(b, ',')
	if d.Member != nil {
		return appendEchoMember(b, d.Member)
	}
	return append(b, d.Event.Data...)
}

func appendEchoMember(b []byte, m *hub.Member) []byte {
	b = append(b, `{"user_id":`...)
	b = jsontext.AppendString(b, m.ID)
	b = append(b, `,"user_info":`...)
	b = envelope.AppendInfo(b, m)
	return append(b, '}')
}

// Space implements hub.RoomCodec.
func (c *codec) Space() string { return c.nsp }

// emitted is an event that the program sends. It does not change.
type emitted struct {
	name   string
	args   Args
	id     uint64 // of the acknowledgement wanted
	hasID  bool
	forNow bool // volatile
}

// AppendEmission implements hub.RoomCodec.
func (c *codec) AppendEmission(dst []byte, e *hub.Emission) []byte {
	return c.appendEmitted(dst, e.Payload.(*emitted))
}

func (c *codec) appendEmitted(dst []byte, e *emitted) []byte {
	k := event
	if len(e.args.Blobs) > 0 {
		k = binaryEvent
	}
	dst = ws.AppendText(dst, len(e.args.JSON)+len(e.name)+len(c.nsp)+40, func(b []byte) []byte {
		b = appendHead(append(b, message), k, len(e.args.Blobs), c.nsp, e.id, e.hasID)
		b = append(b, '[')
		b = jsontext.AppendString(b, e.name)
		if more := e.args.JSON; len(more) > 2 {
			b = append(b, ',')
			b = append(b, more[1:len(more)-1]...)
		}
		if c.rec && !e.hasID {
			return append(b, offsetTail...)
		}
		return append(b, ']')
	})
	return c.appendBlobs(dst, e.args.Blobs)
}

// appendBlobs appends what belongs to the packet before.
func (c *codec) appendBlobs(dst []byte, blobs [][]byte) []byte {
	for _, blob := range blobs {
		if c.eio3 { // Engine.IO 3 has the type before binary messages, too
			dst = append(ws.AppendHeader(dst, ws.OpBinary, false, len(blob)+1), message-'0')
			dst = append(dst, blob...)
			continue
		}
		dst = ws.AppendFrame(dst, ws.OpBinary, blob)
	}
	return dst
}

// appendAck appends the answer to an event.
func (c *codec) appendAck(dst []byte, id uint64, args Args) []byte {
	k := ack
	if len(args.Blobs) > 0 {
		k = binaryAck
	}
	dst = ws.AppendText(dst, len(args.JSON)+len(c.nsp)+20, func(b []byte) []byte {
		return append(appendHead(append(b, message), k, len(args.Blobs), c.nsp, id, true), args.JSON...)
	})
	return c.appendBlobs(dst, args.Blobs)
}

// appendPacket appends a packet without attachments.
func (c *codec) appendPacket(dst []byte, k kind, data string) []byte {
	return ws.AppendText(dst, len(data)+len(c.nsp)+8, func(b []byte) []byte {
		return append(appendHead(append(b, message), k, 0, c.nsp, 0, false), data...)
	})
}

// recCodec is a codec whose clients may come back.
type recCodec struct{ *codec }

// Stamp implements hub.Recoverable. JSON has no NUL: only our own room for an offset does.
func (c recCodec) Stamp(unit []byte, loop int, ordinal uint64) {
	_, first, _, err := ws.CutFrame(unit)
	if err != nil {
		return
	}
	at := len(first) - 2 - epochLen - 1 - placeLen
	if at < 0 || first[at] != 0 {
		return
	}
	copy(first[at:], c.epoch)
	at += epochLen + 1
	place := uint64(loop)<<placeBits | ordinal
	const digits = "0123456789abcdef"
	for i := placeLen - 1; i >= 0; i-- {
		first[at+i] = digits[place&15]
		place >>= 4
	}
}

// parseOffset reads an offset; ok is false for one that is not of this server.
func (r *Room) parseOffset(s string) (loop int, ordinal uint64, ok bool) {
	if len(s) != epochLen+1+placeLen || s[:epochLen] != r.epoch || s[epochLen] != '.' {
		return 0, 0, false
	}
	place, err := strconv.ParseUint(s[epochLen+1:], 16, 64)
	return int(place >> placeBits), place & (1<<placeBits - 1), err == nil
}
