package server

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
)

// EventKind says what happened. Its text is for logs.
type EventKind string

// What a Hook is told.
const (
	Connected       EventKind = "connected"          // a client finished its handshake
	Identified      EventKind = "identified"         // its user became known, or renewed a token
	Subscribed      EventKind = "subscribed"         // to Channel
	Refused         EventKind = "refused"            // a subscription to Channel, for Reason
	Unsubscribed    EventKind = "unsubscribed"       // from Channel, by either side; not when it disconnects
	Whispered       EventKind = "whispered"          // Event with Data on Channel
	Disconnected    EventKind = "disconnected"       // for Reason
	ChannelOccupied EventKind = "channel_occupied"   // its first subscription
	ChannelVacated  EventKind = "channel_vacated"    // its last one ended
	MemberAdded     EventKind = "member_added"       // a user's first connection to a presence channel
	MemberRemoved   EventKind = "member_removed"     // and its last one
	CacheMiss       EventKind = "cache_miss"         // a subscriber of a cache channel found it empty
	Counted         EventKind = "subscription_count" // of Channel, is Count now; for apps that want it told
)

var eventKinds = [...]EventKind{
	hub.Connected: Connected, hub.Identified: Identified, hub.SubscribedTo: Subscribed, hub.Refused: Refused,
	hub.UnsubscribedFrom: Unsubscribed, hub.Whispered: Whispered, hub.Disconnected: Disconnected,
	hub.ChannelOccupied: ChannelOccupied, hub.ChannelVacated: ChannelVacated, hub.MemberJoined: MemberAdded, hub.MemberLeft: MemberRemoved,
	hub.CacheMissed: CacheMiss, hub.Counted: Counted,
}

// Event is something that happened, for Config.Hook. Fields that its kind does not speak of are zero.
type Event struct {
	Kind    EventKind
	App     string          // the app's id
	Client  Client          // zero for events of channels and members
	Channel string          // wire name
	Event   string          // of whispers
	Data    json.RawMessage // of whispers; nil when there is none
	UserID  string          // of members, and of who whispered in a presence channel
	Count   int             // of subscriptions
	Reason  string          // of refusals and disconnections
}

// Client is a connection, as the application sees it.
type Client struct {
	SocketID string     // "123.456": a name, public, and no proof of anything
	App      string     // the app's id
	User     *auth.User // nil while anonymous; not to be changed
	Addr     string     // of the peer, "ip:port": behind a proxy, the proxy's
}

func client(in *hub.ClientInfo) Client {
	if in == nil {
		return Client{}
	}
	c := Client{SocketID: in.ID, App: in.App, Addr: in.Addr}
	if in.User != nil {
		c.User, _ = in.User.Claims.(*auth.User)
	}
	return c
}

// hook adapts Config.Hook, and writes the log's lines of connections.
func (s *Server) hook() func(context.Context, hub.HookEvent) {
	debug := s.log.Enabled(context.Background(), slog.LevelDebug)
	if s.cfg.Hook == nil && !debug {
		return nil
	}
	return func(ctx context.Context, ev hub.HookEvent) {
		e := Event{Kind: eventKinds[ev.Kind], App: ev.App, Client: client(ev.Client), Channel: ev.Channel, Event: ev.Event, UserID: ev.UserID, Count: ev.Count, Reason: ev.Reason}
		if ev.Data != "" {
			e.Data = json.RawMessage(ev.Data)
		}
		if debug && e.Kind != Whispered {
			args := []any{"app", e.App}
			for _, a := range [][2]string{{"socket", e.Client.SocketID}, {"addr", e.Client.Addr}, {"channel", e.Channel}, {"user", e.UserID}, {"reason", e.Reason}} {
				if a[1] != "" {
					args = append(args, a[0], a[1])
				}
			}
			s.log.Debug(string(e.Kind), args...)
		}
		if s.cfg.Hook != nil {
			s.cfg.Hook(ctx, e)
		}
	}
}

// Handler takes an event that a client sent to the server and that is no command (docs/protocol-ws.md, "Commands").
// What it returns is marshalled to JSON as the data of the acknowledgement, for a client that asked for one; nil is an
// acknowledgement without data. An auth.Refusal is shown to the client; of other errors it learns only that there was
// one.
//
// Handlers run on goroutines of their own, many at once: in order for one client and event name, and with a deadline
// in ctx (Limits.AuthorizeTime). Any client may send any event: what a handler does for whom is for it to check.
type Handler func(ctx context.Context, in Inbound) (reply any, err error)

// Inbound is an event from a client to the server.
type Inbound struct {
	Client  Client
	Channel string // as the client said, or empty; it need not be subscribed to it
	Event   string
	Data    json.RawMessage // as the client sent it; nil when there is none
}

// On registers a handler for an event that clients send, replacing an earlier one; Config.Handlers is the same. It
// must be called before the server serves anything, by one goroutine, and panics later.
func (s *Server) On(event string, h Handler) {
	if s.served.Load() {
		panic("server: On(" + event + ") was called after the server began to serve")
	}
	s.byEv[event] = s.handler(h)
}

func (s *Server) handler(h Handler) hub.Handler {
	return func(ctx context.Context, in *hub.Inbound) ([]byte, error) {
		out, err := h(ctx, Inbound{Client: client(&in.Client), Channel: in.Channel, Event: in.Event, Data: json.RawMessage(in.Data)})
		if err != nil {
			if r, ok := err.(*auth.Refusal); ok {
				return nil, &hub.Error{Code: hub.Forbidden, Message: r.Reason}
			}
			return nil, err
		}
		if out == nil {
			return nil, nil
		}
		return json.Marshal(out)
	}
}
