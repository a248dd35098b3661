package socketio

import (
	"context"

	"github.com/stacksjs/realtime-go/internal/hub"
)

// Socket is one client of a namespace, as its Program knows it. Its methods may be called from any goroutine but a
// loop's, also when the client is gone.
type Socket struct{}

// ID is the socket's id, "123.456".
func (s *Socket) ID() string { panic("not yet") }

// App is the application the socket belongs to.
func (s *Socket) App() *hub.App { panic("not yet") }

// Namespace is the namespace's name.
func (s *Socket) Namespace() string { panic("not yet") }

// User is the verified identity; nil while there is none.
func (s *Socket) User() *hub.User { panic("not yet") }

// Handshake is how its connection came.
func (s *Socket) Handshake() *Handshake { panic("not yet") }

// Recovered reports whether it is a former socket that came back: its id, rooms and Data are those it had.
func (s *Socket) Recovered() bool { panic("not yet") }

// Data is what SetData kept.
func (s *Socket) Data() any { panic("not yet") }

// SetData keeps a value with the socket, and over a recovery.
func (s *Socket) SetData(v any) { panic("not yet") }

// Rooms are the rooms it is in, its own id among them.
func (s *Socket) Rooms(ctx context.Context) ([]string, error) { panic("not yet") }

// Join makes it a member of rooms; it is one when Join returns.
func (s *Socket) Join(ctx context.Context, rooms ...string) error { panic("not yet") }

// Leave ends memberships.
func (s *Socket) Leave(ctx context.Context, rooms ...string) error { panic("not yet") }

// Emit sends an event; it waits for no client. volatile leaves it out unless the connection can take it at once.
func (s *Socket) Emit(ctx context.Context, event string, args Args, volatile bool) error {
	panic("not yet")
}

// EmitAck sends an event and waits for its acknowledgement, until ctx ends.
func (s *Socket) EmitAck(ctx context.Context, event string, args Args) (Args, error) {
	panic("not yet")
}

// Disconnect takes the client out of the namespace, or closes its whole connection.
func (s *Socket) Disconnect(connection bool) { panic("not yet") }

// Room holds what all sessions of this protocol share.
type Room struct{}

// Emit sends an event to the target's sockets, in the order of the calls of one goroutine. It waits, within ctx, while
// a loop is overloaded, and never for a client.
func (r *Room) Emit(ctx context.Context, t Target, event string, args Args) error { panic("not yet") }

// EmitAck is Emit that waits, until ctx ends, for the acknowledgements of all sockets it went to, and says how many those
// were. Sockets that end meanwhile are not waited for.
func (r *Room) EmitAck(ctx context.Context, t Target, event string, args Args) (replies []Reply, asked int, err error) {
	panic("not yet")
}

// Sockets lists the target's sockets in namespaces that have a Program.
func (r *Room) Sockets(ctx context.Context, t Target) ([]*Socket, error) { panic("not yet") }

// Change makes the target's sockets join and leave rooms.
func (r *Room) Change(ctx context.Context, t Target, join, leave []string) error { panic("not yet") }

// Disconnect takes the target's sockets out of the namespace, or closes their connections.
func (r *Room) Disconnect(ctx context.Context, t Target, connection bool) error { panic("not yet") }
