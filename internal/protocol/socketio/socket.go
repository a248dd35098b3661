package socketio

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// Socket is one client of a namespace, as its Program knows it. Its methods may be called from any goroutine but a
// loop's, also when the client is gone.
type Socket struct {
	// static
	room      *Room
	loop      *loop.Loop
	client    *client
	id        string
	app       *hub.App
	nsp       string
	handshake *Handshake
	recovered bool

	*life
	user atomic.Pointer[hub.User]
	gone atomic.Bool
}

// life is what a socket has in common with those that it comes back as.
type life struct {
	calls calls
	mu    sync.Mutex
	data  any // guarded by mu
}

// newSocket makes the handle of a client that has an id. was is of the socket that it was; nil if nothing is known of it.
func newSocket(c *client, p *packet, recovered bool, was *life) *Socket {
	e := c.e
	s := &Socket{room: e.room, loop: e.socket.Loop(), client: c, id: c.ID().String(), app: e.App, nsp: p.nsp, recovered: recovered}
	hs := Handshake{}
	if e.Handshake != nil {
		hs = *e.Handshake
	}
	if len(p.data) > 0 && p.data[0] == '{' {
		hs.Auth = p.data
	}
	if p.query != "" { // where Socket.IO 4 has what later ones call auth
		b := []byte{'{'}
		for k, v := range query(p.query) {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(jsontext.AppendString(b, k), ':')
			b = jsontext.AppendString(b, v[0])
		}
		hs.Auth = string(append(b, '}'))
	}
	s.handshake = &hs
	s.user.Store(c.User())
	if s.life = was; was == nil {
		s.life = &life{calls: calls{room: e.room, id: s.id, nsp: s.nsp}}
	}
	return s
}

// ID is the socket's id, "123.456".
func (s *Socket) ID() string { return s.id }

// Room is where it and all others are.
func (s *Socket) Room() *Room { return s.room }

// App is the application the socket belongs to.
func (s *Socket) App() *hub.App { return s.app }

// Namespace is the namespace's name.
func (s *Socket) Namespace() string { return s.nsp }

// User is the verified identity; nil while there is none.
func (s *Socket) User() *hub.User { return s.user.Load() }

// Handshake is how its connection came.
func (s *Socket) Handshake() *Handshake { return s.handshake }

// Recovered reports whether it is a former socket that came back: its id, rooms and Data are those it had.
func (s *Socket) Recovered() bool { return s.recovered }

// Data is what SetData kept.
func (s *Socket) Data() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// SetData keeps a value with the socket, and over a recovery.
func (s *Socket) SetData(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = v
}

func (s *Socket) onLoop(f func()) error {
	if s.loop.Post(loop.Func(func(*loop.Loop) { f() }), 0) != nil {
		return ErrDisconnected
	}
	return nil
}

// do runs f on the loop, and returns when it has run.
func (s *Socket) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	if err := s.onLoop(func() { done <- f() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Rooms are the rooms it is in, its own id among them.
func (s *Socket) Rooms(ctx context.Context) ([]string, error) {
	var rooms []string
	if err := s.do(ctx, func() error {
		c := s.client
		if c.flags&left != 0 {
			return ErrDisconnected
		}
		rooms = append(append([]string{s.id}, c.Rooms()...), c.prog.rooms...)
		return nil
	}); err != nil {
		return nil, err // the loop may come to it still
	}
	return rooms, nil
}

// Join makes it a member of rooms; it is one when Join returns. Before it is connected, it becomes one when it is.
func (s *Socket) Join(ctx context.Context, rooms ...string) error {
	return s.do(ctx, func() error { return s.client.change(rooms, nil) })
}

// Leave ends memberships.
func (s *Socket) Leave(ctx context.Context, rooms ...string) error {
	return s.do(ctx, func() error { return s.client.change(nil, rooms) })
}

// change joins and leaves rooms. A socket's own room, and that of all, cannot be left or joined.
func (c *client) change(join, leave []string) error {
	if c.flags&left != 0 {
		return ErrDisconnected
	}
	for _, name := range join {
		if _, id := hub.ParseID(name); id || name == "" {
			continue
		}
		if c.flags&(connected|returning) == 0 {
			c.prog.rooms = append(c.prog.rooms, name)
			continue
		}
		c.JoinRoom(name)
	}
	for _, name := range leave {
		if name == "" {
			continue
		}
		if c.flags&(connected|returning) == 0 {
			kept := c.prog.rooms[:0]
			for _, r := range c.prog.rooms {
				if r != name {
					kept = append(kept, r)
				}
			}
			c.prog.rooms = kept
		}
		c.LeaveRoom(name)
	}
	return nil
}

// Emit sends an event; it waits for no client, but, within ctx, while the loop is overloaded. volatile leaves it out
// unless the connection can take it at once.
func (s *Socket) Emit(ctx context.Context, event string, args Args, volatile bool) error {
	if s.gone.Load() {
		return ErrDisconnected
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	e := &hub.Emission{Payload: &emitted{name: event, args: args}, Bytes: args.size(event)}
	return s.post(e.Bytes, func() {
		c := s.client
		if c.flags&left != 0 || volatile && !c.Ready() {
			return
		}
		ordinal := s.room.cfg.Hub.Ordinal(s.loop)
		if !volatile && c.codec.rec {
			ordinal = c.Journal(hub.Missed{Emission: e})
		}
		unit := c.codec.AppendEmission(nil, e)
		if c.codec.rec {
			recCodec{c.codec}.Stamp(unit, s.loop.Index(), ordinal)
		}
		c.Send(unit)
	})
}

func (s *Socket) post(bytes int, f func()) error {
	if s.loop.Post(loop.Func(func(*loop.Loop) { f() }), bytes) != nil {
		return ErrDisconnected
	}
	return nil
}

// wait returns when the loop takes more.
func (s *Socket) wait(ctx context.Context) error {
	for {
		full := s.loop.Overloaded()
		if full == nil {
			return ctx.Err()
		}
		select {
		case <-full:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *Args) size(event string) int {
	n := len(event) + len(a.JSON)
	for _, b := range a.Blobs {
		n += len(b)
	}
	return n
}

// EmitAck sends an event and waits for its acknowledgement, until ctx ends.
func (s *Socket) EmitAck(ctx context.Context, event string, args Args) (Args, error) {
	if err := s.wait(ctx); err != nil {
		return Args{}, err
	}
	type answer struct {
		args *Args
		err  error
	}
	id := s.room.ackIDs.Add(1)
	got := make(chan answer, 1)
	if err := s.post(args.size(event), func() {
		c := s.client
		if c.flags&returning != 0 { // in its Connect, which is waited for, it would wait for itself
			got <- answer{err: ErrConnecting}
			return
		}
		refused := false
		c.await(id, func(a *Args, err error) {
			refused = err != nil
			got <- answer{a, err}
		})
		if !refused {
			c.Send(c.codec.appendEmitted(nil, &emitted{name: event, args: args, id: id, hasID: true}))
		}
	}); err != nil {
		return Args{}, err
	}
	select {
	case a := <-got:
		if a.err != nil {
			return Args{}, a.err
		}
		return *a.args, nil
	case <-ctx.Done():
		s.onLoop(func() {
			if s.client.prog != nil {
				delete(s.client.prog.acks, id)
			}
		})
		return Args{}, ctx.Err()
	}
}

// Disconnect takes the client out of the namespace, or closes its whole connection.
func (s *Socket) Disconnect(connection bool) {
	s.onLoop(func() { s.client.expel(connection) })
}

func (c *client) expel(connection bool) {
	switch {
	case c.flags&left != 0:
	case connection:
		e := c.e
		e.each(func(c *client) { // they do not come back
			e.socket.Send(c.codec.appendPacket(nil, disconnect, ""))
			c.out("server namespace disconnect")
		})
		e.close(closeNormal, "", errForced)
	case c.flags&connected == 0:
		c.refuse("disconnected", nil)
	default:
		c.kick()
	}
}

// Emit sends an event to the target's sockets, in the order of the calls of one goroutine. It waits, within ctx, while
// a loop is overloaded, and never for a client.
func (r *Room) Emit(ctx context.Context, t Target, event string, args Args) error {
	e := t.emission()
	e.Payload, e.Bytes, e.Keep = &emitted{name: event, args: args, forNow: t.Volatile}, args.size(event), !t.Volatile
	return r.cfg.Hub.Emit(ctx, e)
}

func (t *Target) emission() *hub.Emission {
	return &hub.Emission{App: t.App, Space: t.Namespace, Rooms: t.Rooms, Except: t.Except, Volatile: t.Volatile}
}

// EmitAck is Emit that waits, until ctx ends, for the acknowledgements of all sockets it went to, and says how many those
// were. Sockets that end meanwhile are not waited for; if one cannot be asked for another reason, that is the error.
func (r *Room) EmitAck(ctx context.Context, t Target, event string, args Args) (replies []Reply, asked int, err error) {
	id := r.ackIDs.Add(1)
	var mu sync.Mutex // guards the results, and what follows
	open, loops := 0, len(r.cfg.Loops)
	var waiting []*client
	var unasked error
	all := make(chan struct{})
	check := func() {
		if open == 0 && loops == 0 {
			close(all)
			loops = -1
		}
	}
	e := t.emission()
	e.Payload, e.Bytes = &emitted{name: event, args: args, id: id, hasID: true}, args.size(event)
	e.Reached = func(cs []*hub.Client) {
		mine := programmedOnly(cs)
		mu.Lock()
		if loops < 0 { // given up: nobody would take back what is awaited
			mu.Unlock()
			return
		}
		asked += len(mine)
		open += len(mine)
		waiting = append(waiting, mine...)
		mu.Unlock()
		for _, c := range mine {
			c.await(id, func(a *Args, err error) {
				mu.Lock()
				defer mu.Unlock()
				open--
				switch {
				case err == nil:
					replies = append(replies, Reply{c.prog.socket, *a})
				case err != ErrDisconnected:
					unasked = err
				}
				check()
			})
		}
		mu.Lock()
		defer mu.Unlock()
		loops--
		check()
	}
	if err := r.cfg.Hub.Emit(ctx, e); err != nil {
		return nil, 0, err
	}
	select {
	case <-all:
	case <-ctx.Done():
		err = ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		loops = -1 // nobody is told any more
		for _, c := range waiting {
			c.prog.socket.onLoop(func() { delete(c.prog.acks, id) })
		}
	}
	if err == nil {
		err = unasked
	}
	return append([]Reply(nil), replies...), asked, err
}

// programmedOnly are the clients that a program knows.
func programmedOnly(cs []*hub.Client) []*client {
	out := make([]*client, 0, len(cs))
	for _, hc := range cs {
		if c, ok := hc.Session().(*client); ok && c.prog != nil {
			out = append(out, c)
		}
	}
	return out
}

// visit calls f with the target's clients in namespaces that have a Program, on their loops, and returns when all have
// been.
func (r *Room) visit(ctx context.Context, t Target, f func(*client)) error {
	var open atomic.Int32
	open.Store(int32(len(r.cfg.Loops)))
	all := make(chan struct{})
	e := t.emission()
	e.Reached = func(cs []*hub.Client) {
		for _, c := range programmedOnly(cs) {
			f(c)
		}
		if open.Add(-1) == 0 {
			close(all)
		}
	}
	if err := r.cfg.Hub.Emit(ctx, e); err != nil {
		return err
	}
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sockets lists the target's sockets in namespaces that have a Program.
func (r *Room) Sockets(ctx context.Context, t Target) ([]*Socket, error) {
	var mu sync.Mutex
	var sockets []*Socket
	err := r.visit(ctx, t, func(c *client) {
		mu.Lock()
		defer mu.Unlock()
		sockets = append(sockets, c.prog.socket)
	})
	mu.Lock()
	defer mu.Unlock()
	return append([]*Socket(nil), sockets...), err
}

// Change makes the target's sockets join and leave rooms.
func (r *Room) Change(ctx context.Context, t Target, join, leave []string) error {
	return r.visit(ctx, t, func(c *client) { c.change(join, leave) })
}

// Disconnect takes the target's sockets out of the namespace, or closes their connections.
func (r *Room) Disconnect(ctx context.Context, t Target, connection bool) error {
	return r.visit(ctx, t, func(c *client) { c.expel(connection) })
}
