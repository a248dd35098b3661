// Package envelope is the JSON in which the protocols of our own, plain WebSocket and channels over Socket.IO, say
// things: what both write and read is the same to the byte. Their list of a presence channel's members has the form that
// Pusher's has.
package envelope

import (
	"fmt"
	"strconv"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
)

// AppendDelivery appends the object that a delivery is.
func AppendDelivery(b []byte, d *hub.Delivery, replayed bool) []byte {
	b = append(b, `{"event":`...)
	if d.Member != nil {
		b = append(b, '"')
		b = append(b, MemberEvent(d.Kind)...)
		b = append(b, '"')
	} else {
		b = jsontext.AppendString(b, d.Event.Name)
	}
	b = append(b, `,"channel":`...)
	b = jsontext.AppendString(b, d.Channel())
	b = append(b, `,"data":`...)
	if d.Member != nil {
		b = AppendMember(b, d.Member)
		return append(b, '}')
	}
	b = append(b, d.Event.Data...)
	if d.Event.UserID != "" {
		b = append(b, `,"user_id":`...)
		b = jsontext.AppendString(b, d.Event.UserID)
	}
	if p, ok := d.Position(); ok {
		b = append(b, ',')
		b = AppendPosition(b, p)
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

// MemberEvent is the name of the event that a change of the members is.
func MemberEvent(k hub.DeliveryKind) string {
	switch k {
	case hub.MemberAdded:
		return "member_added"
	case hub.MemberUpdated:
		return "member_updated"
	}
	return "member_removed"
}

// AppendPosition appends the fields of a position.
func AppendPosition(b []byte, p hub.Position) []byte {
	b = append(b, `"seq":`...)
	b = strconv.AppendUint(b, p.Seq, 10)
	b = append(b, `,"epoch":"`...)
	b = strconv.AppendUint(b, p.Epoch, 36)
	return append(b, '"')
}

// AppendMember appends a member.
func AppendMember(b []byte, m *hub.Member) []byte {
	b = append(b, `{"id":`...)
	b = jsontext.AppendString(b, m.ID)
	b = append(b, `,"info":`...)
	b = AppendInfo(b, m)
	return append(b, '}')
}

// AppendInfo appends what others see of a member.
func AppendInfo(b []byte, m *hub.Member) []byte {
	if m.Info == "" {
		return append(b, "null"...)
	}
	return append(b, m.Info...)
}

// AppendPresence appends the field with all members.
func AppendPresence(b []byte, ms []*hub.Member) []byte { return AppendMembers(b, ms, AppendMember) }

// AppendMembers is AppendPresence where each says what the hash has of a member.
func AppendMembers(b []byte, ms []*hub.Member, each func([]byte, *hub.Member) []byte) []byte {
	b = append(b, `"presence":{"count":`...)
	b = strconv.AppendInt(b, int64(len(ms)), 10)
	b = append(b, `,"ids":[`...)
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsontext.AppendString(b, m.ID)
	}
	b = append(b, `],"hash":{`...)
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsontext.AppendString(b, m.ID)
		b = append(b, ':')
		b = each(b, m)
	}
	return append(b, "}}"...)
}

// AppendState appends the fields that an answer to a subscription has about the channel, separated and without a comma
// before them: nothing where there is nothing to say.
func AppendState(b []byte, o *hub.Subscribed) []byte {
	if o.Me != nil {
		b = AppendPresence(b, o.Members)
		b = append(b, `,"me":{"id":`...)
		b = jsontext.AppendString(b, o.Me.ID)
		b = append(b, '}')
	}
	if o.History {
		if o.Me != nil {
			b = append(b, ',')
		}
		b = AppendPosition(b, o.Position)
		b = append(b, `,"recovered":`...)
		b = strconv.AppendBool(b, o.Recovered)
	}
	return b
}

func bad(format string, args ...any) *hub.Error {
	return &hub.Error{Code: hub.BadRequest, Message: fmt.Sprintf(format, args...)}
}

// From reads where a subscription is to begin: behind since of an epoch, or the last rewind messages.
func From(r *hub.Subscribe, since, epoch, rewind jsontext.Value) *hub.Error {
	if since.There() {
		s := &hub.Since{}
		var err error
		if s.Seq, err = strconv.ParseUint(string(since), 10, 64); err != nil {
			return bad("since is %.40s; it must be the seq of the last message received", since)
		}
		if e, ok := epoch.Text(); ok {
			if s.Epoch, err = strconv.ParseUint(e, 36, 64); err != nil || s.Epoch == 0 {
				s.Epoch = ^uint64(0) // never one of ours: not recoverable
			}
		}
		r.Since = s
	}
	if rewind.There() {
		n, err := strconv.Atoi(string(rewind))
		if err != nil || n < 0 {
			return bad("rewind is %.40s; it must be a number of messages", rewind)
		}
		r.Rewind = n
	}
	return nil
}

const maxMID = 128 // bytes of a message id

// Metadata reads what a published event says besides its data: its id, and whom to leave out. own makes strings that
// may be kept.
func Metadata(ev *hub.Event, mid, except jsontext.Value, own func(string) string) *hub.Error {
	id, _ := mid.Text()
	if len(id) > maxMID {
		return bad("mid is %d bytes, more than %d", len(id), maxMID)
	}
	ev.ID = own(id)
	if !except.There() {
		return nil
	}
	ids, err := except.List(100)
	if err != nil {
		return bad("except: %v", err)
	}
	for _, x := range ids {
		id, ok := hub.ParseID(x)
		if !ok {
			return bad("except: %.40q is not a socket id such as 123.456", x)
		}
		ev.ExceptSockets = append(ev.ExceptSockets, id)
	}
	return nil
}
