package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/socketid"
)

// Target is where an event goes: channels, and who of their listeners is left out. It is an immutable
// value: each method returns a changed copy, so targets derived from one base never affect each other and
// any number of goroutines may use one. The zero Target has no channel, and sending to it is an error.
//
// The data given to its sending methods is what encoding/json makes JSON of, except that characters such as
// < are not escaped for HTML. json.RawMessage is sent byte for byte and must be valid JSON; nil is null.
type Target struct {
	names []string
	to    delivery
}

// delivery is what Target and UserTarget say about a message apart from its channels. Its slices are
// never appended to in place.
type delivery struct {
	id, app       string
	exceptSockets []string
	exceptUsers   []string
}

// Channel names the channels to send to. Several names are sent in one call, and a listener of two of them
// hears the event twice, once per channel. Names come without the prefix of a kind ("orders.1") or with the
// same one the sending method adds ("private-orders.1" for Private); another kind's prefix is an error.
func Channel(names ...string) Target { return Target{names: slices.Clone(names)} }

// ToOthers leaves out the connection with this socket id, usually the one whose request caused the event:
// Echo sends it as X-Socket-ID. The empty string and anything else that cannot be one (see Message.ExceptSockets)
// leave nobody out, because clients send such values ("undefined") before they are connected.
func (t Target) ToOthers(socketID string) Target {
	t.to = t.to.toOthers(socketID)
	return t
}

// Except leaves out connections by socket id ("123.456"). An id of another form is an error when sending.
func (t Target) Except(socketIDs ...string) Target {
	t.to.exceptSockets = slices.Concat(t.to.exceptSockets, socketIDs)
	return t
}

// ExceptUsers leaves out every connection of these identified users.
func (t Target) ExceptUsers(ids ...string) Target {
	t.to.exceptUsers = slices.Concat(t.to.exceptUsers, ids)
	return t
}

// App sends to another than the default application of a server that serves several.
func (t Target) App(id string) Target {
	t.to.app = id
	return t
}

// ID makes sending twice harmless: see Message.ID.
func (t Target) ID(id string) Target {
	t.to.id = id
	return t
}

// Public sends to channels anyone may listen to.
func (t Target) Public(ctx context.Context, event string, data any) error {
	return t.Broadcast(ctx, event, data, Public)
}

// Private sends to "private-" channels, whose listeners need a grant.
func (t Target) Private(ctx context.Context, event string, data any) error {
	return t.Broadcast(ctx, event, data, Private)
}

// Presence sends to "presence-" channels, whose listeners need a grant and see each other.
func (t Target) Presence(ctx context.Context, event string, data any) error {
	return t.Broadcast(ctx, event, data, Presence)
}

// Encrypted sends to "private-encrypted-" channels, whose data only holders of a channel's key can read.
// It needs the middleware of package encrypted; without it sending is an error.
func (t Target) Encrypted(ctx context.Context, event string, data any) error {
	return t.Broadcast(ctx, event, data, Encrypted)
}

// Broadcast sends to channels of the given kind. It returns once the driver has accepted the message for all
// of them. The Broadcaster is found as FromContext says.
func (t Target) Broadcast(ctx context.Context, event string, data any, kind Kind) error {
	return send(ctx, t.names, kind, t.to, event, data)
}

// UserTarget is the connections of identified users, whatever channels they listen to. Like Target it is an
// immutable value, and makes JSON of data in the same way.
type UserTarget struct {
	ids []string
	to  delivery
}

// User names the user whose connections get an event.
func User(id string) UserTarget { return Users(id) }

// Users names several users whose connections get an event, in one call.
func Users(ids ...string) UserTarget { return UserTarget{ids: slices.Clone(ids)} }

// ToOthers leaves out one connection of the user: see Target.ToOthers.
func (t UserTarget) ToOthers(socketID string) UserTarget {
	t.to = t.to.toOthers(socketID)
	return t
}

// App sends to another than the default application of a server that serves several.
func (t UserTarget) App(id string) UserTarget {
	t.to.app = id
	return t
}

// ID makes sending twice harmless: see Message.ID.
func (t UserTarget) ID(id string) UserTarget {
	t.to.id = id
	return t
}

// Send sends the event. A user without a connection gets nothing, which is no error.
func (t UserTarget) Send(ctx context.Context, event string, data any) error {
	names := make([]string, len(t.ids))
	for i, id := range t.ids {
		names[i] = channelname.UserPrefix + id
	}
	return send(ctx, names, channelname.User, t.to, event, data)
}

func (d delivery) toOthers(socketID string) delivery {
	if socketid.Is(socketID) || socketid.IsNode(socketID) {
		d.exceptSockets = slices.Concat(d.exceptSockets, []string{socketID})
	}
	return d
}

func send(ctx context.Context, names []string, kind Kind, to delivery, event string, data any) error {
	b, err := FromContext(ctx)
	if err != nil {
		return err
	}
	channels := make([]string, 0, len(names))
	seen := make(map[string]bool, len(names))
	var errs []error
	for _, name := range names {
		wire, err := channelname.Wire(name, kind)
		if err != nil {
			errs = append(errs, err)
		} else if !seen[wire] {
			channels = append(channels, wire)
		}
		seen[wire] = true
	}
	if len(errs) > 0 {
		return fmt.Errorf("realtime: event %.60q cannot be sent: %w", event, errors.Join(errs...))
	}
	raw, err := marshal(event, data)
	if err != nil {
		return err
	}
	return b.Send(ctx, &Message{
		ID:            to.id,
		App:           to.app,
		Channels:      channels,
		Event:         event,
		Data:          raw,
		ExceptSockets: slices.Clone(to.exceptSockets),
		ExceptUsers:   slices.Clone(to.exceptUsers),
	})
}

// marshal is the one place that makes JSON of an application's data.
func marshal(event string, data any) (json.RawMessage, error) {
	if raw, ok := data.(json.RawMessage); ok && raw != nil {
		return raw, nil // Message.Validate reads it
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil {
		return nil, fmt.Errorf("realtime: data of event %.60q (%T) cannot be made JSON: %w", event, data, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
