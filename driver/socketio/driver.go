package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stacksjs/realtime-go"
)

// Send implements realtime.Driver: each channel is the room of its name in the Config's namespace, and a socket in several
// of them hears the event once for each. It returns nil once Redis has the message for all channels, whoever may hear it.
//
// A message with an ID is taken once for each channel within two minutes, whatever happens to the connection in between:
// Redis keeps the ID as a key. That needs Lua scripts and the right to write.
//
// Refused is what the Node servers could not honour: a message for an App, for a user or without some users where there is no
// UserRoom, and an event with one of the names that Socket.IO keeps for itself.
func (d *Driver) Send(ctx context.Context, m *realtime.Message) error {
	list, err := d.messages(m)
	if err != nil {
		return fmt.Errorf("socketio: event %.60q: %w", m.Event, err)
	}
	sent, err := d.send(ctx, list)
	switch {
	case err == nil || err == realtime.ErrClosed:
		return err
	case sent > 0:
		if e, ok := errors.AsType[*Error](err); ok && m.ID == "" {
			e.again = false // not for those that have it
		}
		return fmt.Errorf("socketio: event %.60q was sent to %d of its %d channels: %w", m.Event, sent, len(m.Channels), err)
	}
	return fmt.Errorf("socketio: event %.60q: %w", m.Event, err)
}

// messages makes a command for each of the message's channels.
func (d *Driver) messages(m *realtime.Message) ([]command, error) {
	if m.App != "" {
		return nil, fmt.Errorf("it is for app %q, and a Socket.IO cluster has no apps: give each a driver with a Prefix or a Namespace of its own", m.App)
	}
	if len(m.ExceptUsers) > 0 && d.cfg.UserRoom == "" {
		return nil, fmt.Errorf("it leaves out users (%q), and a Socket.IO cluster has rooms only: set UserRoom to the room where your servers put a user's sockets", m.ExceptUsers)
	}
	if !json.Valid(m.Data) {
		return nil, fmt.Errorf("its data is not valid JSON: %.40q", m.Data)
	}
	event := d.eventName(m.Event)
	if err := checkEvent(event); err != nil {
		return nil, err
	}
	to := target{namespace: d.cfg.Namespace}
	to.except = append(to.except, m.ExceptSockets...)
	for _, id := range m.ExceptUsers {
		to.except = append(to.except, d.userRoom(id))
	}
	for _, r := range to.except {
		if err := checkRoom(r); err != nil {
			return nil, err
		}
	}
	list := make([]command, 0, len(m.Channels))
	for _, channel := range m.Channels {
		room, err := d.room(channel)
		if err == nil {
			err = checkRoom(room)
		}
		if err != nil {
			return nil, err
		}
		to.rooms = []string{room}
		data := []any{event, object{{"event", event}, {"channel", channel}, {"data", m.Data}}}
		if d.cfg.Form == Echo {
			data = []any{event, channel, m.Data}
		}
		c, err := d.emit(to, data)
		if err == nil {
			err = d.fits(&c)
		}
		if err != nil {
			return nil, err
		}
		if m.ID != "" {
			c.once = "realtime:" + slotOf(c.key) + ":" + to.namespace + ":" + channel + ":" + m.ID
		}
		list = append(list, c)
	}
	return list, nil
}
