package socketio

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/hub"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// Target selects sockets of one namespace. It is a value that never changes: its methods To and Except return another.
// Where a server has several apps, a Target of a [Socket] selects in that socket's, and others in the first.
type Target struct {
	io   *IO            // of namespaces; it may have no room yet
	room *protocol.Room // of sockets
	t    protocol.Target
	err  error // of what was selected; calls return it
}

// To selects sockets in any of these rooms or of those selected before, each once. A socket's id is a room. It is an error
// of the calls that follow to name none, which would select everybody.
func (t Target) To(rooms ...string) Target {
	switch {
	case t.err != nil:
	case len(rooms) == 0:
		t.err = errors.New("To without rooms selects nobody")
	default:
		t.err = checkRooms(rooms)
	}
	t.t.Rooms = append(t.t.Rooms[:len(t.t.Rooms):len(t.t.Rooms)], rooms...)
	return t
}

// Except leaves out the sockets in any of these rooms; a socket's id is one.
func (t Target) Except(rooms ...string) Target {
	if t.err == nil {
		t.err = checkRooms(rooms)
	}
	t.t.Except = append(t.t.Except[:len(t.t.Except):len(t.t.Except)], rooms...)
	return t
}

// at completes the target, and returns where its sockets are.
func (t *Target) at() (*protocol.Room, error) {
	switch {
	case t.err != nil:
		return nil, t.err
	case t.room != nil:
		return t.room, nil
	case t.io == nil:
		return nil, errors.New("the zero Target selects nothing")
	}
	at := t.io.served.Load()
	if at == nil {
		return nil, errors.New("no server has the namespaces yet")
	}
	t.t.App = at.app()
	return at.room, nil
}

// checkRooms says what is wrong with names of rooms.
func checkRooms(rooms []string) error {
	for _, r := range rooms {
		if r == "" || !utf8.ValidString(r) {
			return fmt.Errorf("%q is no name of a room: it is empty, or not UTF-8", r)
		}
	}
	return nil
}

// checkMemberships says what is wrong with rooms to join or leave.
func checkMemberships(rooms []string) error {
	for _, r := range rooms {
		if _, isID := hub.ParseID(r); isID {
			return fmt.Errorf("room %q is that of one socket, which alone is in it", r)
		}
	}
	return checkRooms(rooms)
}

// Emit sends an event to the selected sockets. Nil means that it is queued for all of them; it waits for no client, and
// within ctx for the server while that is overloaded. Events of one goroutine arrive in their order. For the arguments see
// the package's documentation; at most [MaxAttachments] are attachments.
func (t Target) Emit(ctx context.Context, event string, args ...any) error {
	return t.emit(ctx, event, args)
}

// EmitVolatile is Emit for what is worth nothing later: it leaves out the sockets whose connection cannot take the event at
// once.
func (t Target) EmitVolatile(ctx context.Context, event string, args ...any) error {
	t.t.Volatile = true
	return t.emit(ctx, event, args)
}

func (t Target) emit(ctx context.Context, event string, args []any) error {
	a, err := prepare(event, args)
	if err != nil {
		return failed("emit", event, err)
	}
	r, err := t.at()
	if err == nil {
		err = r.Emit(ctx, t.t, event, a)
	}
	return failed("emit", event, err)
}

// Reply is the acknowledgement of one socket.
type Reply struct {
	Socket *Socket
	Args   Args
}

// EmitWithAck is Emit that waits for the acknowledgements of all sockets it went to, and returns those that came, in the
// order in which they came. Sockets that end meanwhile are not waited for. When ctx's deadline passes first, the error
// wraps [ErrTimeout] and says how many did not answer; the others' replies are returned with it.
func (t Target) EmitWithAck(ctx context.Context, event string, args ...any) ([]Reply, error) {
	a, err := prepare(event, args)
	if err != nil {
		return nil, failed("emit", event, err)
	}
	r, err := t.at()
	if err != nil {
		return nil, failed("emit", event, err)
	}
	got, asked, err := r.EmitAck(ctx, t.t, event, a)
	replies := make([]Reply, len(got))
	for i, g := range got {
		replies[i] = Reply{(*Socket)(g.Socket), newArgs(g.Args)}
	}
	if err = late(err); err != nil && len(got) < asked {
		err = fmt.Errorf("%d of %d clients did not answer: %w", asked-len(got), asked, err)
	}
	return replies, failed("emit", event, err)
}

// Join makes the selected sockets members of rooms; see [Socket.Join].
func (t Target) Join(ctx context.Context, rooms ...string) error {
	r, err := t.at()
	if err == nil {
		err = checkMemberships(rooms)
	}
	if err == nil {
		err = r.Change(ctx, t.t, rooms, nil)
	}
	return failed("join", "", err)
}

// Leave ends memberships of the selected sockets.
func (t Target) Leave(ctx context.Context, rooms ...string) error {
	r, err := t.at()
	if err == nil {
		err = checkMemberships(rooms)
	}
	if err == nil {
		err = r.Change(ctx, t.t, nil, rooms)
	}
	return failed("leave", "", err)
}

// Disconnect is [Socket.Disconnect] for the selected sockets.
func (t Target) Disconnect(ctx context.Context, closeConnection bool) error {
	r, err := t.at()
	if err == nil {
		err = r.Disconnect(ctx, t.t, closeConnection)
	}
	return failed("disconnect", "", err)
}

// Sockets lists the selected sockets, in no order.
func (t Target) Sockets(ctx context.Context) ([]*Socket, error) {
	r, err := t.at()
	if err != nil {
		return nil, failed("sockets", "", err)
	}
	in, err := r.Sockets(ctx, t.t)
	if err != nil {
		return nil, failed("sockets", "", err)
	}
	out := make([]*Socket, len(in))
	for i, s := range in {
		out[i] = (*Socket)(s)
	}
	return out, nil
}

// prepare checks an event's name and encodes its arguments.
func prepare(event string, args []any) (protocol.Args, error) {
	if err := protocol.CheckEvent(event); err != nil {
		return protocol.Args{}, err
	}
	return encode(args)
}
