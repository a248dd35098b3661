package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/echo"
	"github.com/stacksjs/realtime-go/internal/socketid"
)

// What one request may hold (Pusher HTTP API, "POST event", "POST batch events").
const (
	maxChannels = 100
	maxBatch    = 10
)

// maxID is the longest idempotency key that this module's server takes, in bytes.
const maxID = 128

// trigger is the body of POST events. The order of the fields is that of Pusher's documentation.
type trigger struct {
	Name     string   `json:"name"`
	Channels []string `json:"channels"`
	Data     string   `json:"data"`
	SocketID string   `json:"socket_id,omitempty"`
	Info     string   `json:"info,omitempty"`
}

// entry is one of the events in the body of POST batch_events.
type entry struct {
	Channel  string `json:"channel"`
	Name     string `json:"name"`
	Data     string `json:"data"`
	SocketID string `json:"socket_id,omitempty"`
	Info     string `json:"info,omitempty"`
}

// Send implements realtime.Driver. It returns nil once the server has accepted the message for all its channels or,
// with a BatchWindow, once the message is queued.
//
// More than 100 channels are sent in several requests, in their order, and each end-to-end encrypted channel in one
// of its own, as the protocol wants. An error after the first of them says how many channels have the message.
//
// The protocol can leave out one connection. A message with several ExceptSockets or with ExceptUsers is refused, so
// that nobody gets what is not for them. A message for another App than the driver's is refused too.
func (d *Driver) Send(ctx context.Context, m *realtime.Message) error {
	if d.closed.Load() {
		return realtime.ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m = withoutNode(m)
	if err := d.check(m); err != nil {
		return fmt.Errorf("pusher: event %.60q: %w", m.Event, err)
	}
	if d.queue != nil {
		return d.queue.add(ctx, m)
	}
	_, err := d.send(ctx, m, "")
	return err
}

// Trigger sends m as Send does, never queued, and returns what the server says of its channels, by name: UserCount and
// SubscriptionCount, after the event. It may overtake what Send has queued.
func (d *Driver) Trigger(ctx context.Context, m *realtime.Message, info ...Info) (map[string]ChannelInfo, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	m = withoutNode(m)
	if err := d.check(m); err != nil {
		return nil, fmt.Errorf("pusher: event %.60q: %w", m.Event, err)
	}
	return d.send(ctx, m, join(info))
}

// SendToUser sends an event to all connections of one identified user, as realtime.User(userID).Send does: data is
// made JSON, nil is null, and json.RawMessage is JSON already.
func (d *Driver) SendToUser(ctx context.Context, userID, event string, data any) error {
	return realtime.User(userID).Send(realtime.WithBroadcaster(ctx, d.self), event, data)
}

// Event is an event of a batch, for one channel.
type Event struct {
	// Channel is a wire name, its prefix included.
	Channel string
	Name    string
	// Data is the payload as JSON text.
	Data json.RawMessage
	// ExceptSocket is the socket id ("123.456") of a connection that does not get the event. Empty is none.
	ExceptSocket string
	// Info is what the server shall say of the channel: UserCount, SubscriptionCount.
	Info []Info
}

// TriggerBatch sends events in as few requests as it can, ten in each, in their order and never queued. Its result
// has one element for each event that was sent, which is empty where no Info was asked for; with an error there may be
// fewer than events.
func (d *Driver) TriggerBatch(ctx context.Context, events []Event) ([]ChannelInfo, error) {
	var errs []error
	entries := make([]entry, len(events))
	for i, e := range events {
		m := realtime.Message{Channels: []string{e.Channel}, Event: e.Name, Data: e.Data}
		if socketid.IsNode(e.ExceptSocket) {
			e.ExceptSocket = ""
		}
		if e.ExceptSocket != "" {
			m.ExceptSockets = []string{e.ExceptSocket}
		}
		err := m.Validate()
		if err == nil {
			err = d.check(&m)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pusher: event %d of the batch: %w", i, err))
		}
		entries[i] = entry{e.Channel, d.eventName(e.Name), string(e.Data), e.ExceptSocket, join(e.Info)}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	infos := make([]ChannelInfo, 0, len(entries))
	for part := range slices.Chunk(entries, maxBatch) {
		got, err := d.batch(ctx, part)
		if err != nil {
			if len(infos) > 0 {
				err = fmt.Errorf("pusher: the first %d of %d events were sent, and the next ones not: %w", len(infos), len(entries), d.halfDone(err, ""))
			}
			return infos, err
		}
		infos = append(infos, got...)
	}
	return infos, nil
}

// withoutNode returns the message without the socket ids of Node's Socket.IO, which no connection to a Pusher server
// has and which such a server refuses.
func withoutNode(m *realtime.Message) *realtime.Message {
	if !slices.ContainsFunc(m.ExceptSockets, socketid.IsNode) {
		return m
	}
	own := *m
	own.ExceptSockets = slices.DeleteFunc(slices.Clone(m.ExceptSockets), socketid.IsNode)
	return &own
}

// check says what keeps a valid message from being sent by this driver.
func (d *Driver) check(m *realtime.Message) error {
	if m.App != "" && m.App != d.cfg.AppID {
		return fmt.Errorf("it is for app %q, and this driver sends to app %q only", m.App, d.cfg.AppID)
	}
	if len(m.ExceptUsers) > 0 {
		return fmt.Errorf("the Pusher HTTP API cannot leave out users (%q): leave out a connection, or have the receivers tell", m.ExceptUsers)
	}
	if n := len(m.ExceptSockets); n > 1 {
		return fmt.Errorf("the Pusher HTTP API can leave out one connection, not %d", n)
	}
	for _, c := range m.Channels {
		if kind, _ := channelname.Split(c); kind == channelname.Encrypted && !sealed(m.Data) {
			return fmt.Errorf("channel %q is end-to-end encrypted, but the data is not: send it through the middleware of package encrypted", c)
		}
	}
	if name := d.eventName(m.Event); len(name) > realtime.MaxEventName {
		return fmt.Errorf("with the namespace its name has %d bytes, more than %d", len(name), realtime.MaxEventName)
	}
	if limit := d.cfg.MaxPayload; limit > 0 && len(m.Data) > limit {
		return fmt.Errorf("its data has %d bytes, more than the %d that the server takes", len(m.Data), limit)
	}
	if len(m.ID) > maxID {
		return fmt.Errorf("its id has %d bytes, more than %d", len(m.ID), maxID)
	}
	for i := range len(m.ID) {
		if m.ID[i] < '!' || m.ID[i] > '~' {
			return fmt.Errorf("its id %q has %q at byte %d; an id travels in a header, which takes printable ASCII without spaces", m.ID, m.ID[i], i)
		}
	}
	return nil
}

// sealed reports whether data looks like what package encrypted makes. A Broadcaster asks the same; this is for those
// who call the driver directly.
func sealed(data []byte) bool {
	var x struct{ Nonce, Ciphertext string }
	return json.Unmarshal(data, &x) == nil && x.Nonce != "" && x.Ciphertext != ""
}

// eventName is the name on the wire.
func (d *Driver) eventName(name string) string { return echo.EventName(d.cfg.EventNamespace, name) }

// send sends a message in as many requests as it takes.
func (d *Driver) send(ctx context.Context, m *realtime.Message, info string) (map[string]ChannelInfo, error) {
	body := trigger{Name: d.eventName(m.Event), Data: string(m.Data), Info: info}
	if len(m.ExceptSockets) > 0 {
		body.SocketID = m.ExceptSockets[0]
	}
	var infos map[string]ChannelInfo
	sent := 0
	for _, channels := range split(m.Channels) {
		body.Channels = channels
		text, err := encode(body)
		if err != nil {
			return infos, err
		}
		c := call{method: http.MethodPost, path: "/events", raw: "/events", body: text, id: m.ID}
		if info == "" {
			err = d.do(ctx, &c, nil)
		} else {
			var answer struct{ Channels channelInfos }
			if err = d.do(ctx, &c, &answer); err == nil {
				if infos == nil {
					infos = map[string]ChannelInfo{}
				}
				for name, in := range answer.Channels {
					infos[name] = in
				}
			}
		}
		if err != nil {
			if sent > 0 {
				err = fmt.Errorf("pusher: event %.60q was sent to %d of its %d channels, and not to the others: %w", m.Event, sent, len(m.Channels), d.halfDone(err, m.ID))
			}
			return infos, err
		}
		sent += len(channels)
	}
	return infos, nil
}

// halfDone is the error of what has been sent in part. Nobody must take it as leave to send all of it again, unless
// the server knows what it has.
func (d *Driver) halfDone(err error, id string) error {
	if e, ok := errors.AsType[*Error](err); ok && !d.safe(&call{id: id}, d.idempotent.Load()) {
		e.again = false
	}
	return err
}

// split says which channels can share a request.
func split(channels []string) [][]string {
	if len(channels) == 1 {
		return [][]string{channels}
	}
	var plain []string
	var alone [][]string
	for i, c := range channels {
		if kind, _ := channelname.Split(c); kind == channelname.Encrypted {
			alone = append(alone, channels[i:i+1])
		} else {
			plain = append(plain, c)
		}
	}
	return append(slices.Collect(slices.Chunk(plain, maxChannels)), alone...)
}

// batch sends up to maxBatch events in one request.
func (d *Driver) batch(ctx context.Context, entries []entry) ([]ChannelInfo, error) {
	text, err := encode(struct {
		Batch []entry `json:"batch"`
	}{entries})
	if err != nil {
		return nil, err
	}
	c := call{method: http.MethodPost, path: "/batch_events", raw: "/batch_events", body: text}
	if !slices.ContainsFunc(entries, func(e entry) bool { return e.Info != "" }) {
		return make([]ChannelInfo, len(entries)), d.do(ctx, &c, nil)
	}
	var answer struct{ Batch []ChannelInfo }
	if err := d.do(ctx, &c, &answer); err != nil {
		return nil, err
	}
	if len(answer.Batch) != len(entries) {
		return nil, &Error{Request: d.describe(&c), Status: http.StatusOK, Err: fmt.Errorf("the server took the request, but its answer tells of %d events, not %d", len(answer.Batch), len(entries))}
	}
	return answer.Batch, nil
}

// encode makes JSON in which the data, JSON itself, is not longer than it must be.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("pusher: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Flush sends at once what Send has queued before the call, and waits until the server has answered for all of it. It
// returns what could not be sent since the last Flush: at most 100 errors, and how many more there were. When ctx ends
// first, nothing is lost: sending goes on. Without a BatchWindow there is nothing to do.
func (d *Driver) Flush(ctx context.Context) error {
	if d.queue == nil {
		return nil
	}
	return d.queue.flush(ctx)
}

// Close makes every later call fail with realtime.ErrClosed, flushes what is queued, and lets go of the connections.
// When ctx ends first, what is left is not sent: OnError is told, and so is the error that Close returns.
func (d *Driver) Close(ctx context.Context) error {
	var err error
	if d.queue != nil {
		err = d.queue.close(ctx)
	}
	d.closed.Store(true)
	if d.transport != nil {
		d.transport.CloseIdleConnections()
	}
	return err
}
