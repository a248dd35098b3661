package socketio

import (
	"context"
	"errors"
	"fmt"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// client is one namespace on one connection, and a client of the hub. Every field is owned by the loop.
type client struct {
	hub.Client
	e     *engine
	codec *codec
	prog  *programmed // nil where no program is interested
	flags uint8
}

const (
	connected uint8 = 1 << iota
	left            // it is over
	formed          // the form of its events is settled
	returning       // it came back, and has not been sent what it missed; the connection is corked for it
)

// programmed is what only clients have that a program knows.
type programmed struct {
	Program
	socket *Socket
	early  []byte                        // units sent before it was connected
	rooms  []string                      // joined before
	acks   map[uint64]func(*Args, error) // wanted of the client
	ended  string                        // why it has; empty: it has not
}

// credentials are what a client sends with CONNECT.
type credentials struct {
	token, format, pid, offset string
}

func (p *packet) credentials() (c credentials) {
	if p.data == "" || p.data[0] != '{' {
		return c
	}
	jsontext.Object(p.data, func(key string, v jsontext.Value) {
		switch key {
		case "token":
			c.token, _ = v.Text()
		case "format":
			c.format, _ = v.Text()
		case "pid":
			c.pid, _ = v.Text()
		case "offset":
			c.offset, _ = v.Text()
		}
	})
	return c
}

// authBytes is how much a client may send with CONNECT: programs can look at it for as long as it is connected.
const authBytes = 16 << 10

// connect lets a client into a namespace, or not.
func (e *engine) connect(p packet) {
	prog := e.room.program(p.nsp)
	ask := prog == nil && e.room.match != nil
	refuse := func(message, data string) {
		c := &codec{nsp: p.nsp, eio3: e.flags&eio3 != 0}
		e.socket.Send(c.appendPacket(nil, connectError, c.refusal(message, data)))
	}
	n := 0
	e.each(func(*client) { n++ })
	switch {
	case prog == nil && !ask && p.nsp != "/":
		refuse("Invalid namespace", "")
		return
	case n >= e.room.cfg.Namespaces:
		refuse(fmt.Sprintf("this connection is in %d namespaces, which is the limit", n), "")
		return
	case len(p.data) > authBytes:
		refuse(fmt.Sprintf("auth has %d bytes, and may have %d", len(p.data), authBytes), "")
		return
	}
	creds := p.credentials()
	if creds.token == "" && p.query != "" {
		creds.token = query(p.query).Get("token")
	}
	if e.room.cfg.Authenticate == nil {
		creds.token = "" // it is the program's
	}
	c := e.place()
	if !ask {
		c.start(&p, creds, prog)
		return
	}
	c.codec = e.room.codecOf(codec{nsp: p.nsp, rec: e.recovers()}) // so that it is known by its namespace
	e.room.cfg.Hub.Ask(e.socket.Loop(), func(context.Context) error {
		prog = e.room.match(p.nsp)
		return nil
	}, func(err *hub.Error) {
		switch {
		case c.flags&left != 0:
		case err != nil:
			c.refuse(err.Message, appendError(nil, err))
		case prog == nil && p.nsp != "/":
			c.refuse("Invalid namespace", nil)
		default:
			c.start(&p, creds, prog)
		}
	})
}

// recovers reports whether the connection's clients may come back.
func (e *engine) recovers() bool { return e.room.cfg.Recovery > 0 && e.flags&eio3 == 0 }

// start makes the client who it was, if it says so, or a new one.
func (c *client) start(p *packet, creds credentials, prog Program) {
	e := c.e
	denied := creds.token == "" && e.Denied != nil // whoever it was
	if id, ok := e.room.idOf(creds.pid); ok && !denied && e.recovers() {
		c.codec = e.room.codecOf(codec{nsp: p.nsp, rec: true})
		c.comeBack(p, creds, prog, id)
		return
	}
	c.enter(p, creds, prog)
}

// place makes room for a client. What is called back later may still have the one before, so that none is used twice.
func (e *engine) place() *client {
	c := &e.first
	if e.flags&began != 0 {
		c = new(client)
		e.more = append(e.more, c)
	}
	e.flags |= began
	e.by = 0
	c.e = e
	return c
}

// enter makes a new client of the hub, and asks whoever has to decide about it.
func (c *client) enter(p *packet, creds credentials, prog Program) {
	e := c.e
	form := codec{nsp: p.nsp, eio3: e.flags&eio3 != 0, rec: e.recovers()}
	switch creds.format {
	case "echo":
		form.echo = true
		c.flags |= formed
	case "object":
		c.flags |= formed
	}
	c.codec = e.room.codecOf(form)
	e.room.cfg.Hub.Add(&c.Client, &e.socket.Conn, c, c.codec.wire(), e.App)
	if e.User != nil {
		if err := c.Identify(e.User); err != nil {
			c.refuse(err.Message, appendError(nil, err))
			return
		}
	}
	if prog != nil {
		c.prog = &programmed{Program: prog, socket: newSocket(c, p, false, nil)}
	}
	switch {
	case creds.token == "" && e.Denied != nil:
		c.refuse(e.Denied.Message, appendError(nil, e.Denied))
		return
	case creds.token == "":
		c.ask()
		return
	}
	c.Authenticate(e.room.whose(creds.token), func(u *hub.User, err *hub.Error) {
		if err != nil {
			c.refuse(err.Message, appendError(nil, err))
			return
		}
		c.ask()
	})
}

// whose asks who has a token.
func (r *Room) whose(token string) func(context.Context) (*hub.User, error) {
	return func(ctx context.Context) (*hub.User, error) { return r.cfg.Authenticate(ctx, token) }
}

// wire is the codec as the hub needs it.
func (c *codec) wire() hub.Codec {
	if c.rec {
		return recCodec{c}
	}
	return c
}

// ask lets the program decide about a new client.
func (c *client) ask() {
	if c.prog == nil {
		c.admit()
		return
	}
	c.asked(func(err error) {
		if err == nil {
			c.admit()
		}
	})
}

// asked calls the program's Connect, and then done on the loop; a client that is refused is told before.
func (c *client) asked(done func(error)) {
	s := c.prog.socket
	s.user.Store(c.User())
	ok := s.calls.push(func(ctx context.Context) {
		p := c.prog
		err := connectSafely(ctx, p.Program, s)
		ended, why := make(chan struct{}), "" // why it did, if it did meanwhile
		if s.onLoop(func() {
			defer close(ended)
			if c.flags&left != 0 {
				why = p.ended
				return
			}
			if err != nil {
				c.refuse(c.told(err))
			}
			done(err)
		}) != nil {
			why = errShutdown.Error()
		} else {
			<-ended // here, so that a client that is back again already waits for its end
		}
		if why != "" && err == nil {
			s.calls.one(func(ctx context.Context) { p.Disconnect(ctx, s, why) })
		}
	}, false)
	if !ok {
		c.refuse("the server is busy: try again later", appendError(nil, &hub.Error{Code: hub.Busy}))
		done(errors.New("busy"))
	}
}

// connectSafely takes a panic for a refusal.
func connectSafely(ctx context.Context, p Program, s *Socket) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return p.Connect(ctx, s)
}

// told is what a client is told of the program's error, and data with it.
func (c *client) told(err error) (message string, data []byte) {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Message, []byte(r.Data)
	}
	c.e.room.cfg.Logger.Warn("the program failed for a client", "socket", c.ID().String(), "namespace", c.codec.nsp, "error", err)
	return "internal error", nil
}

// refuse ends a client that is not let in. What is held back for one that comes back is not for it, and cannot be told from
// what is held back for others on its connection: that ends, and they get it when they come back. The client comes as a new
// one then, and is told.
func (c *client) refuse(message string, data []byte) {
	if c.flags&returning != 0 {
		c.flags &^= returning // it stays held back
		c.out("refused")
		c.e.socket.Abort(errReturn)
		return
	}
	c.e.socket.Send(c.codec.appendPacket(nil, connectError, c.codec.refusal(message, string(data))))
	c.leave("refused")
}

// refusal is the content of CONNECT_ERROR. (Socket.IO protocol, "Connection to a namespace"; 4 has the data alone, or a
// mere string.)
func (c *codec) refusal(message, data string) string {
	if c.eio3 && data != "" {
		return data
	}
	if c.eio3 {
		return string(jsontext.AppendString(nil, message))
	}
	b := jsontext.AppendString([]byte(`{"message":`), message)
	if data != "" {
		b = append(append(b, `,"data":`...), data...)
	}
	return string(append(b, '}'))
}

// admit tells a client that it is in, and sends what was waiting for that.
func (c *client) admit() {
	c.e.socket.Send(c.codec.appendPacket(nil, connect, c.welcome()))
	c.begin()
}

// welcome is the content of CONNECT.
func (c *client) welcome() string {
	if c.codec.eio3 {
		return ""
	}
	b := append([]byte(`{"sid":"`), c.ID().String()...)
	if c.codec.rec {
		b = append(append(b, `","pid":"`...), c.e.room.pid(c.ID())...)
	}
	return string(append(b, `"}`...))
}

// begin makes an admitted client hear and be heard.
func (c *client) begin() {
	c.flags |= connected
	c.e.sent = 0 // the ping under way was sent before what is sent now
	if p := c.prog; p != nil {
		c.JoinRoom("")
		for _, name := range p.rooms {
			c.JoinRoom(name)
		}
		if len(p.early) > 0 {
			c.e.socket.Send(p.early)
		}
		p.rooms, p.early = nil, nil
	}
	c.hearUser()
	c.e.schedule()
}

// hearUser subscribes to the user's own channel, so that what is sent to the user arrives without being asked for.
func (c *client) hearUser() {
	u := c.User()
	if u == nil || u.ID == "" {
		return
	}
	if name := channelname.UserPrefix + u.ID; !c.Client.Subscribed(name) {
		c.Subscribe(hub.Subscribe{Channel: name, Tag: silent})
	}
}

// leave ends the client by itself; the connection stays.
func (c *client) leave(reason string) {
	c.out(reason)
	c.e.awaited()
}

// out ends the client, which does not come back.
func (c *client) out(reason string) {
	if c.flags&left != 0 {
		return
	}
	was := c.flags
	c.flags = c.flags&^connected | left
	e := c.e
	for i, x := range e.more {
		if x == c {
			e.more = append(e.more[:i:i], e.more[i+1:]...)
			break
		}
	}
	held := c.Held() // for commands that nobody ends any more
	c.Remove(reason)
	c.over(was, reason)
	if was&returning != 0 {
		e.socket.Uncork(nil)
	}
	if held {
		e.onLoop(e.socket.Loop(), e.resume) // not in the midst of whatever ends it
	}
}

// over tells the program, and who waits for the client.
func (c *client) over(was uint8, reason string) {
	p := c.prog
	if p == nil {
		return
	}
	acks := p.acks
	p.acks, p.early = nil, nil
	for _, f := range acks {
		f(nil, ErrDisconnected)
	}
	p.ended = reason
	if p.socket.gone.Store(true); was&connected != 0 {
		c.farewell(reason)
	}
}

// farewell tells the program of the end of a client that it let in.
func (c *client) farewell(reason string) {
	p := c.prog
	p.socket.calls.push(func(ctx context.Context) { p.Disconnect(ctx, p.socket, reason) }, true)
}

// gone is the end of the connection.
func (c *client) gone(reason error) {
	was := c.flags
	c.flags = c.flags&^connected | left
	text := why(reason)
	if was&(connected|returning) != 0 && c.codec.rec {
		k := &kept{codec: c.codec, flags: was & formed}
		if c.prog != nil {
			k.life = c.prog.socket.life
			k.life.calls.gone()
		}
		c.Save(k)
	}
	c.Remove(text)
	c.over(was, text)
}

// Send sends a unit to this client alone, behind its CONNECT.
func (c *client) Send(unit []byte) {
	switch {
	case c.flags&(connected|returning) != 0:
		c.e.socket.Send(unit)
	case c.flags&left == 0 && c.prog != nil:
		limit, was := c.e.socket.Loop().MaxQueued(), len(c.prog.early)
		if was > limit {
			return // it ends for it
		}
		c.prog.early = append(c.prog.early, unit...)
		if len(c.prog.early) > limit {
			c.prog.socket.onLoop(func() { // not in the midst of whatever sends
				if c.flags&(connected|left) == 0 {
					err := &hub.Error{Code: hub.SlowConsumer, Message: fmt.Sprintf("more than %d bytes were sent to this client before it was connected", limit)}
					c.refuse(err.Message, appendError(nil, err))
				}
			})
		}
	}
}

// Ready implements hub.RoomSession.
func (c *client) Ready() bool {
	e := c.e
	return c.flags&connected != 0 && e.socket.Queued() == 0 && (!e.polling() || e.poll.get != nil)
}

// say sends an event of ours that no offset belongs to: its last argument is an object, or is to be a number.
func (c *client) say(name string, args func([]byte) []byte) {
	c.Send(ws.AppendText(make([]byte, 0, 256), 200, func(b []byte) []byte {
		b = append(b, c.codec.event...)
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `",`...)
		return append(args(b), ']')
	}))
}

// event takes an event of the client.
func (c *client) event(p *packet, blobs [][]byte) {
	name, ok := p.name.Text()
	if !ok {
		name = string(p.name) // a number
	}
	switch {
	case c.prog != nil && c.prog.Handles(name):
		c.toProgram(name, p, blobs)
	case len(blobs) == 0 && c.command(name, p.arg, request{id: p.id, wanted: p.hasID}):
	case c.Deliver("", name, orNull(p.arg), request{id: p.id, wanted: p.hasID, handler: true}):
	case c.prog != nil:
		c.toProgram(name, p, blobs)
	default:
		c.fail(request{id: p.id, wanted: p.hasID}, "", &hub.Error{Code: hub.Unknown, Message: fmt.Sprintf("nobody handles the event %.100q", name)})
	}
}

// orNull is a value, or null where there is none.
func orNull(v jsontext.Value) string {
	if v == "" {
		return "null"
	}
	return string(v)
}

// toProgram gives an event to the program, behind the client's earlier ones.
func (c *client) toProgram(name string, p *packet, blobs [][]byte) {
	_, args := splitEvent(p.data)
	s := c.prog.socket
	var answer func(Args)
	if p.hasID {
		id, done := p.id, false
		answer = func(a Args) {
			s.onLoop(func() {
				if !done && c.flags&connected != 0 {
					done = true
					c.e.socket.Send(c.codec.appendAck(nil, id, a))
				}
			})
		}
	}
	prog := c.prog
	if !s.calls.push(func(ctx context.Context) { prog.Event(ctx, s, name, Args{args, blobs}, answer) }, false) {
		c.fail(request{id: p.id, wanted: p.hasID}, "", &hub.Error{Code: hub.Busy, Message: "the server is busy: try again later"})
		return
	}
	c.slowDown()
}

// slowDown stops reading a client whose events come faster than the program takes them. A program that waits for an
// answer over the connection must get it, so that more may wait meanwhile.
func (c *client) slowDown() {
	limit := c.e.room.cfg.Waiting
	asked := false
	c.e.each(func(c *client) { asked = asked || c.prog != nil && len(c.prog.acks) > 0 })
	if asked {
		limit *= 16
	}
	c.prog.socket.calls.hold(limit, c.prog.socket)
}

// acked takes an acknowledgement.
func (c *client) acked(id uint64, args Args) {
	if c.prog == nil {
		return
	}
	if f := c.prog.acks[id]; f != nil { // otherwise it comes too late, or twice
		delete(c.prog.acks, id)
		f(&args, nil)
	}
}

// await registers for the acknowledgement of an event that is about to be sent.
func (c *client) await(id uint64, f func(*Args, error)) {
	switch {
	case c.flags&left != 0:
		f(nil, ErrDisconnected)
	case c.flags&(connected|returning) == 0:
		f(nil, ErrConnecting)
	case len(c.prog.acks) >= c.e.room.cfg.Acks:
		f(nil, ErrTooManyAcks)
	default:
		if c.prog.acks == nil {
			c.prog.acks = map[uint64]func(*Args, error){}
		}
		c.prog.acks[id] = f
		e := c.e
		e.each(func(c *client) {
			if c.prog != nil {
				c.prog.socket.calls.letGo(e.room.cfg.Waiting*16, e.resume)
			}
		})
	}
}

// Stop implements hub.Session.
func (c *client) Stop(err *hub.Error) {
	if err.Code == hub.Shutdown {
		c.e.stop(err)
		return
	}
	if c.flags&connected == 0 {
		c.refuse(err.Message, appendError(nil, err))
		return
	}
	c.fail(request{}, "", err)
	c.kick()
}

// kick takes the client out of the namespace. It does not reconnect by itself.
func (c *client) kick() {
	c.e.socket.Send(c.codec.appendPacket(nil, disconnect, ""))
	c.leave("server namespace disconnect")
}

// Addr implements hub.Session.
func (c *client) Addr() string { return c.e.addr() }

// Opened implements hub.Returner.
func (c *client) Opened() uint64 { return c.e.opened }

// Pause implements hub.Session.
func (c *client) Pause() { c.e.pause() }

// Resume implements hub.Session.
func (c *client) Resume() { c.e.resume() }
