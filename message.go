package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/socketid"
)

// Kind says who may listen to a channel. The zero value is Public.
type Kind = channelname.Kind

// The kinds of channel an application can send to.
const (
	Public    = channelname.Public    // anyone may listen
	Private   = channelname.Private   // "private-": listeners need a grant
	Presence  = channelname.Presence  // "presence-": listeners need a grant and see each other
	Encrypted = channelname.Encrypted // "private-encrypted-": private, and end-to-end encrypted (package encrypted)
)

// Message is one event on its way to the listeners of one or more channels: what a Driver sends.
type Message struct {
	// ID makes sending twice harmless: a server delivers a second message with the same ID to the same
	// channel only once within its window (two minutes by default). Empty means no such protection.
	ID string
	// App is the id of the application on a server that serves several. Empty is the default one; one the server does
	// not have is an error of Send.
	App string
	// Channels are wire names, prefixes included, each valid and none twice. A listener of two of them
	// hears the event once per channel.
	Channels []string
	// Event is the event's name, at most 200 bytes.
	Event string
	// Data is the payload as JSON text. It is not changed on its way. Servers bound it: 100 KiB unless configured
	// otherwise (Pusher Channels: 10 KB).
	Data json.RawMessage
	// ExceptSockets are socket ids of connections that do not get the event: "123.456", or behind the driver for Node's
	// Socket.IO 20 characters such as "lv_VI97HAXpY6yYWAAAC". Where no connection can have an id it leaves nobody out.
	ExceptSockets []string
	// ExceptUsers are ids of identified users none of whose connections get the event.
	ExceptUsers []string
}

// Driver sends messages: to a server in this process, to a remote one, or to a log.
//
// Send returns nil once the message is accepted for every channel; it does not wait for listeners. It honours
// ctx, may be called from many goroutines, keeps the order of one goroutine's messages per channel, and
// neither changes the message nor keeps it after returning.
type Driver interface {
	Send(ctx context.Context, m *Message) error
}

var (
	// ErrNoBroadcaster: neither the context nor SetDefault named a Broadcaster to send with.
	ErrNoBroadcaster = errors.New("realtime: no Broadcaster: call realtime.SetDefault at start, or pass one with realtime.WithBroadcaster")
	// ErrClosed: the Broadcaster, driver or server was closed before the call.
	ErrClosed = errors.New("realtime: closed")
	// ErrOverloaded: the server could not take the message before ctx ended. Nothing was sent; trying again later is safe.
	ErrOverloaded = errors.New("realtime: overloaded: the server takes messages more slowly than they are sent")
)

// MaxEventName is the longest event name accepted, in bytes. It is what Pusher's SDKs enforce.
const MaxEventName = 200

// Validate reports everything that keeps the message from being sent, in one error: no channel, a channel
// or event name that cannot be one, a channel named twice, data that is not JSON in UTF-8, a socket id of
// another form than "123.456" and Socket.IO's, an empty user id. Broadcaster.Send calls it, so drivers need not.
func (m *Message) Validate() error {
	var errs []error
	if len(m.Channels) == 0 {
		errs = append(errs, errors.New("no channel to send to"))
	}
	seen := make(map[string]bool, len(m.Channels))
	for _, c := range m.Channels {
		if err := channelname.Validate(c); err != nil {
			errs = append(errs, err)
		} else if seen[c] {
			errs = append(errs, fmt.Errorf("channel %q is named twice", c))
		}
		seen[c] = true
	}
	if err := validateEventName(m.Event); err != nil {
		errs = append(errs, err)
	}
	if !json.Valid(m.Data) {
		errs = append(errs, fmt.Errorf("data is not valid JSON: %.40q", m.Data))
	} else if !utf8.Valid(m.Data) {
		errs = append(errs, errors.New("data is not valid UTF-8, which every wire format asks for"))
	}
	for _, id := range m.ExceptSockets {
		if !socketid.Is(id) && !socketid.IsNode(id) {
			errs = append(errs, fmt.Errorf("socket id %.40q to leave out is not of the form 123.456 (or, of a Node server, 20 letters and digits)", id))
		}
	}
	for _, id := range m.ExceptUsers {
		if id == "" {
			errs = append(errs, errors.New("id of a user to leave out is empty"))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("realtime: event %.60q cannot be sent: %w", m.Event, errors.Join(errs...))
}

// reservedEvents are the prefixes of the Pusher protocol's own events, which no application may send.
var reservedEvents = []string{"pusher:", "pusher_internal:"}

func validateEventName(name string) error {
	switch {
	case name == "":
		return errors.New("event name is empty")
	case len(name) > MaxEventName:
		return fmt.Errorf("event name of %d bytes is longer than %d: %.40q…", len(name), MaxEventName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("event name %q is not valid UTF-8", name)
	}
	for _, p := range reservedEvents {
		if strings.HasPrefix(name, p) {
			return fmt.Errorf("event name %q begins with %q, which the protocol keeps for itself", name, p)
		}
	}
	return nil
}
