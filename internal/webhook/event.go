package webhook

import (
	"strconv"
	"time"

	"github.com/stacksjs/realtime-go/internal/jsontext"
)

// Kind says what happened.
type Kind uint8

const (
	ChannelOccupied   Kind = iota // its first subscription
	ChannelVacated                // its last one ended
	MemberAdded                   // a user's first connection to a presence channel
	MemberRemoved                 // and its last one
	ClientEvent                   // relayed from one client to the others
	CacheMiss                     // a subscriber found a cache channel empty
	SubscriptionCount             // is Count now
)

// Names are the kinds' names on the wire.
var Names = [...]string{
	"channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss", "subscription_count",
}

// Event is something that happened on a channel.
type Event struct {
	Kind    Kind
	Time    time.Time
	Channel string
	UserID  string // of members, and of who sent a client event in a presence channel

	// Of client events. Data is JSON, which goes out as a string with that JSON in it; or, where Text is set, the JSON
	// string that goes out as it is.
	Name, Data string
	Text       bool
	SocketID   string

	Count int // of SubscriptionCount
}

// size is about what the event takes while it waits.
func (ev *Event) size() int {
	return 150 + len(ev.Channel) + len(ev.UserID) + len(ev.Name) + len(ev.Data) + len(ev.SocketID)
}

// appendBody appends a request's body (Pusher Channels protocol, "Webhooks"). Its time is that of its earliest event.
func appendBody(b []byte, batch []Event) []byte {
	first := batch[0].Time
	for i := range batch {
		if batch[i].Time.Before(first) {
			first = batch[i].Time
		}
	}
	b = append(b, `{"time_ms":`...)
	b = strconv.AppendInt(b, first.UnixMilli(), 10)
	b = append(b, `,"events":[`...)
	for i := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = batch[i].append(b)
	}
	return append(b, "]}"...)
}

func (ev *Event) append(b []byte) []byte {
	b = append(b, `{"name":"`...)
	b = append(b, Names[ev.Kind]...)
	b = append(b, `","channel":`...)
	b = jsontext.AppendString(b, ev.Channel)
	switch ev.Kind {
	case MemberAdded, MemberRemoved:
		b = appendField(b, "user_id", ev.UserID)
	case ClientEvent:
		b = appendField(b, "event", ev.Name)
		if ev.Text {
			b = append(append(b, `,"data":`...), ev.Data...)
		} else {
			b = appendField(b, "data", ev.Data)
		}
		b = appendField(b, "socket_id", ev.SocketID)
		if ev.UserID != "" {
			b = appendField(b, "user_id", ev.UserID)
		}
	case SubscriptionCount:
		b = append(b, `,"subscription_count":`...)
		b = strconv.AppendInt(b, int64(ev.Count), 10)
	}
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return jsontext.AppendString(b, value)
}
