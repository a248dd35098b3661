package socketio

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// Socket is one client in one namespace. Its methods may be called from many goroutines, also when the client is gone;
// those that can fail then say [ErrDisconnected]. The same socket is the same pointer.
type Socket protocol.Socket

func (s *Socket) p() *protocol.Socket { return (*protocol.Socket)(s) }

// ID is the socket's id, such as "123.456". It is public and nobody's authority. Channels of all protocols know it: a
// message can leave it out ("to others").
func (s *Socket) ID() string { return s.p().ID() }

// Namespace is the name of the socket's namespace.
func (s *Socket) Namespace() string { return s.p().Namespace() }

// User is the verified identity of who holds the connection; nil while nobody is identified. It is not to be changed.
func (s *Socket) User() *auth.User {
	if u := s.p().User(); u != nil {
		user, _ := u.Claims.(*auth.User)
		return user
	}
	return nil
}

// Handshake is how a socket came. Its maps are shared, and not to be changed.
type Handshake struct {
	Header  http.Header
	URL     string // path and query of the request
	Query   url.Values
	Address string // of the peer, "ip:port"
	Time    time.Time
	Auth    json.RawMessage // what the client gave as auth, an object; nil when it gave nothing
}

// Handshake returns how the socket came.
func (s *Socket) Handshake() Handshake {
	h := s.p().Handshake()
	out := Handshake{Header: h.Header, URL: h.URL, Query: h.Query, Address: h.Addr, Time: h.Time}
	if h.Auth != "" {
		out.Auth = json.RawMessage(h.Auth)
	}
	return out
}

// Recovered reports whether the client came back in time: the socket has the id, the rooms and the data it had, and was
// sent what it missed.
func (s *Socket) Recovered() bool { return s.p().Recovered() }

// Data is what SetData kept; nil if nothing was.
func (s *Socket) Data() any { return s.p().Data() }

// SetData keeps a value with the socket, also when it comes back and is recovered. Who changes the value itself sees to
// it that nobody else does.
func (s *Socket) SetData(v any) { s.p().SetData(v) }

// Rooms are the rooms the socket is in; its own id is one of them.
func (s *Socket) Rooms(ctx context.Context) ([]string, error) {
	rooms, err := s.p().Rooms(ctx)
	return rooms, failed("rooms", "", err)
}

// Join makes the socket a member of rooms: what is sent to one of them from now on reaches it. Rooms belong to one
// namespace, and exist while somebody is in them. A name is any text but the empty one and what looks like a socket's id.
func (s *Socket) Join(ctx context.Context, rooms ...string) error {
	err := checkMemberships(rooms)
	if err == nil {
		err = s.p().Join(ctx, rooms...)
	}
	return failed("join", "", err)
}

// Leave ends memberships; rooms in which the socket is not are no error.
func (s *Socket) Leave(ctx context.Context, rooms ...string) error {
	err := checkMemberships(rooms)
	if err == nil {
		err = s.p().Leave(ctx, rooms...)
	}
	return failed("leave", "", err)
}

// Emit sends an event to the client. It does not wait for it: nil means that the event is queued behind the earlier
// ones. For its arguments see the package's documentation; at most [MaxAttachments] are attachments.
func (s *Socket) Emit(ctx context.Context, event string, args ...any) error {
	return s.emit(ctx, event, args, false)
}

// EmitVolatile is Emit for what is worth nothing later: the event is left out if the connection cannot take it at once.
func (s *Socket) EmitVolatile(ctx context.Context, event string, args ...any) error {
	return s.emit(ctx, event, args, true)
}

func (s *Socket) emit(ctx context.Context, event string, args []any, volatile bool) error {
	a, err := prepare(event, args)
	if err == nil {
		err = s.p().Emit(ctx, event, a, volatile)
	}
	return failed("emit", event, err)
}

// EmitWithAck sends an event and waits for the client's acknowledgement, whose first argument is decoded into reply as
// [Args.Decode] does. reply is a pointer, which may be an *Args, for all arguments, or nil. When ctx's deadline passes first the error wraps
// [ErrTimeout]; without a deadline it waits for as long as the client is connected. In OnConnect nobody can answer yet,
// which is an error too.
func (s *Socket) EmitWithAck(ctx context.Context, reply any, event string, args ...any) error {
	// A text in reply's place is the event, forgotten to stand behind it: the client would be sent the argument.
	if v := reflect.ValueOf(reply); reply != nil && (v.Kind() != reflect.Pointer || v.IsNil()) {
		return failed("emit", event, fmt.Errorf("the reply is to be a pointer, or nil, and is a %T", reply))
	}
	a, err := prepare(event, args)
	if err != nil {
		return failed("emit", event, err)
	}
	in, err := s.p().EmitAck(ctx, event, a)
	if err == nil {
		err = decodeReply(newArgs(in), reply)
	}
	return failed("emit", event, late(err))
}

func decodeReply(in Args, reply any) error {
	switch r := reply.(type) {
	case nil:
		return nil
	case *Args:
		*r = in
		return nil
	}
	if err := in.Decode(0, reply); err != nil {
		return fmt.Errorf("the acknowledgement: %w", err)
	}
	return nil
}

// Disconnect takes the client out of the namespace, or closes its whole connection with all its namespaces. Clients do
// not come back by themselves from either.
func (s *Socket) Disconnect(closeConnection bool) { s.p().Disconnect(closeConnection) }

// All selects all sockets of the socket's namespace, itself included.
func (s *Socket) All() Target {
	return Target{room: s.p().Room(), t: protocol.Target{App: s.p().App(), Namespace: s.Namespace()}}
}

// Broadcast selects all sockets of the socket's namespace but itself.
func (s *Socket) Broadcast() Target { return s.All().Except(s.ID()) }

// To selects the sockets that are in any of the rooms, each once, without the socket itself.
func (s *Socket) To(rooms ...string) Target { return s.Broadcast().To(rooms...) }
