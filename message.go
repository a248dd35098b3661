package realtime

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/stacksjs/realtime-go/internal/channelname"
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
	// App is the id of the application on a server that serves several. Empty is the default one.
	App string
	// Channels are wire names, prefixes included, each valid and none twice. A listener of two of them
	// hears the event once per channel.
	Channels []string
	// Event is the event's name, at most 200 bytes.
	Event string
	// Data is the payload as JSON text. It is not changed on its way.
	Data json.RawMessage
	// ExceptSockets are socket ids ("123.456") of connections that do not get the event.
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
