package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/socketid"
)

// Send implements realtime.Driver: the message is accepted once every channel has it, and never waits for clients.
// While the event loops are behind by more than 8 MiB it waits, and returns realtime.ErrOverloaded when ctx ends
// first; channels that were served before that are named in the error, and with a Message.ID repeating is safe. After
// Shutdown it returns realtime.ErrClosed. An unknown app, data longer than Limits.PayloadBytes or the channel's policy
// allow, and readable data for a channel that takes only encrypted data are errors, and nothing is sent.
func (s *Server) Send(ctx context.Context, m *realtime.Message) error {
	app := s.apps.Load().first
	if m.App != "" {
		if app = s.apps.Load().byID[m.App]; app == nil {
			return fmt.Errorf("server: there is no app %q", m.App)
		}
	}
	if err := hub.CheckEventName(m.Event, 200); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if !json.Valid(m.Data) || !utf8.Valid(m.Data) { // encoding/json overlooks bytes that are not UTF-8
		return fmt.Errorf("server: the data of event %q is not JSON", m.Event)
	}
	ev := &hub.Event{Name: m.Event, Data: string(m.Data), ID: m.ID, ExceptUsers: append([]string(nil), m.ExceptUsers...), Own: true}
	for _, x := range m.ExceptSockets {
		id, ok := hub.ParseID(x)
		if !ok && socketid.IsNode(x) {
			continue // a connection of another server
		}
		if !ok {
			return fmt.Errorf("server: %q is not a socket id such as 123.456", x)
		}
		ev.ExceptSockets = append(ev.ExceptSockets, id)
	}
	for _, ch := range m.Channels {
		if err := channelname.Validate(ch); err != nil {
			return fmt.Errorf("server: %w", err)
		}
		if err := s.hub.CheckData(hub.Key{App: app.ID, Name: ch}, ev.Data); err != nil {
			return fmt.Errorf("server: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, ch := range m.Channels {
		if _, err := s.hub.Publish(ctx, hub.Key{App: app.ID, Name: ch}, ev); err != nil {
			err = sendError(err)
			if i > 0 {
				err = fmt.Errorf("server: sent to %q, but not to %q: %w", m.Channels[:i], m.Channels[i:], err)
			}
			return err
		}
	}
	return nil
}

func sendError(err error) error {
	switch {
	case errors.Is(err, hub.ErrOverloaded):
		return fmt.Errorf("%w (%w)", realtime.ErrOverloaded, err)
	case errors.Is(err, hub.ErrClosed):
		return realtime.ErrClosed
	}
	return err
}

// Revoke takes a user's subscriptions to a channel (wire name) back, on all its connections; the clients are told why.
// It stops no new subscription: that is the authorizer's. app is the app's id, empty for the default one.
//
// Like RevokeSocket, Disconnect and DisconnectSocket it does not wait until it is done, and where there is no such app,
// user, connection or subscription there is nothing to do.
func (s *Server) Revoke(app, userID, channel, why string) {
	s.hub.Revoke(hub.Select{App: s.appID(app), User: userID}, channel, why)
}

// RevokeSocket is Revoke for one connection, by its socket id ("123.456").
func (s *Server) RevokeSocket(app, socketID, channel, why string) {
	s.hub.Revoke(hub.Select{App: s.appID(app), Socket: socketID}, channel, why)
}

// Disconnect ends all connections of a user, which are told why and that coming back is of no use (close code 4009).
func (s *Server) Disconnect(app, userID, why string) {
	s.hub.Disconnect(hub.Select{App: s.appID(app), User: userID}, why)
}

// DisconnectSocket is Disconnect for one connection, by its socket id.
func (s *Server) DisconnectSocket(app, socketID, why string) {
	s.hub.Disconnect(hub.Select{App: s.appID(app), Socket: socketID}, why)
}

func (s *Server) appID(id string) string {
	if id == "" {
		return s.apps.Load().first.ID
	}
	return id
}

// Member is a user in a presence channel, however many connections it has there.
type Member struct {
	ID   string
	Info json.RawMessage // what the other members see; nil when there is nothing
}

// Members lists a presence channel's members in the order in which they joined; nil where there are none. app is the
// app's id, empty for the default one; channel is a wire name.
func (s *Server) Members(app, channel string) []Member {
	in, _ := s.hub.Info(hub.Key{App: s.appID(app), Name: channel})
	var out []Member
	for _, m := range in.Members {
		x := Member{ID: m.ID}
		if m.Info != "" {
			x.Info = json.RawMessage(m.Info)
		}
		out = append(out, x)
	}
	return out
}

// Subscriptions is how many connections listen to a channel. app is the app's id, empty for the default one.
func (s *Server) Subscriptions(app, channel string) int {
	in, _ := s.hub.Info(hub.Key{App: s.appID(app), Name: channel})
	return in.Subscriptions
}
