package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	io "github.com/stacksjs/realtime-go/socketio"
)

// connected serves say, and tells of the sockets of clients in the order in which they connect.
func connected(say *io.IO, namespaces ...string) <-chan *io.Socket {
	sockets := make(chan *io.Socket, 1000)
	for _, name := range namespaces {
		say.Namespace(name).OnConnect(func(_ context.Context, s *io.Socket) error {
			sockets <- s
			return nil
		})
	}
	return sockets
}

// What is sent to a room reaches no channel of that name, nor the reverse, and only the program makes members.
func TestRoomsAndChannelsAreApart(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	sockets := connected(say, "/", "/a")
	who := auth.New()
	who.AllowAnonymous()
	who.Channel("{any}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
		return auth.Grant{MemberID: "m", Publish: true}, nil
	})
	s := start(t, Config{IO: say, Auth: who, Loops: 2, SocketIO: SocketIOConfig{Recovery: -1}})
	p := s.dialSIO("")
	sock := <-sockets
	ctx := t.Context()
	p.say(`422["subscribe",{"channel":"private-r"}]`)
	p.want(`432[{"ok":true,"channel":"private-r"}]`)
	// By no command does a client get into a room.
	for _, command := range []string{
		`42["join","r"]`, `42["room","r"]`, `42["subscribe","r"]`, `42["subscribe",{"channel":"r","room":"r"}]`, `42["subscribe",["r"]]`,
		`42["publish",{"channel":"private-r","event":"x","data":1}]`, `42["whisper",{"channel":"private-r","event":"x","data":1}]`,
		`42["subscribe",{"channel":"` + sock.ID() + `"}]`, `42["subscribe","/"]`, `42["subscribe",""]`,
	} {
		p.say(command)
	}
	for range 3 { // what is said to channels comes later than what is answered at once
		p.say(`421["unsubscribe","none"]`)
		for got := ""; got != `431[{"ok":true,"channel":"none"}]`; {
			got = p.next()
		}
	}
	if rooms, err := sock.Rooms(ctx); err != nil || !slices.Equal(rooms, []string{sock.ID()}) {
		t.Fatalf("the client is in %q, %v", rooms, err)
	}
	emit := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, room := range []string{"r", "private-r"} {
		emit(say.Namespace("/").To(room).Emit(ctx, "x"))
	}
	p.quiet() // it listens to channels of these names, and is in no room
	emit(sock.Join(ctx, "orders"))
	s.send(event("orders", `1`))
	p.quiet() // it is in the room, and does not listen to the channel
	emit(say.Namespace("/").To("orders").Emit(ctx, "x", 1))
	p.want(`42["x",1]`)
	emit(say.Namespace("/a").To("orders").Emit(ctx, "x", 2)) // of another namespace
	p.quiet()
	s.send(event("r", `3`))
	p.want(`42["E",{"event":"E","channel":"r","data":3}]`)
	// A socket's id is a room that nobody else gets into, and no other namespace's.
	emit(say.Namespace("/").To(sock.ID()).Emit(ctx, "x", 4))
	p.want(`42["x",4]`)
	emit(say.Namespace("/a").To(sock.ID()).Emit(ctx, "x", 5))
	emit(say.Namespace("/").To("orders").Except(sock.ID()).Emit(ctx, "x", 6))
	emit(say.Namespace("/").To(sock.ID()).Except("orders").Emit(ctx, "x", 7))
	p.quiet()
	if _, known := s.hub.Info(hubKey(s, "orders")); known {
		t.Error("a room is a channel")
	}
}

// Three namespaces of one connection are three clients: one user with three subscriptions, each of which can be left out.
func TestThreeNamespacesAreThreeClients(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	connected(say, "/", "/a", "/b")
	who := auth.New()
	who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.URL.Query().Get("user")}, nil })
	who.Channel("room", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
		return auth.Grant{MemberID: u.ID}, nil
	})
	s := start(t, Config{IO: say, Auth: who, Loops: 2, SocketIO: SocketIOConfig{Recovery: -1}})
	for i, p := range []interface {
		say(...string)
		next() string
		want(...string)
		enter(nsp, auth string) string
		quiet()
	}{s.openSIO("&user=10"), s.openPoller("&user=11")} {
		namespaces := []string{"/", "/a", "/b"}
		var ids []string
		for _, nsp := range namespaces {
			ids = append(ids, p.enter(nsp, ""))
		}
		user := []string{"10", "11"}[i]
		me := `{"id":"` + user + `"}`
		for _, nsp := range namespaces {
			p.say("42" + nspPrefix(nsp) + `1["subscribe","presence-room"]`)
			p.want("43" + nspPrefix(nsp) + `1[{"ok":true,"channel":"presence-room","presence":{"count":1,"ids":["` + user + `"],"hash":{"` + user + `":{"id":"` + user + `","info":null}}},"me":` + me + `}]`)
		}
		if ms, n := s.Members("", "presence-room"), s.Subscriptions("", "presence-room"); len(ms) != 1 || ms[0].ID != user || n != 3 {
			t.Errorf("the members are %v in %d subscriptions, and should be one in 3", ms, n)
		}
		for i, id := range ids {
			s.send(realtime.Message{Channels: []string{"presence-room"}, Event: "E", Data: []byte(`1`), ExceptSockets: []string{id}})
			var got []string
			for range 2 {
				got = append(got, p.next())
			}
			var want []string
			for j, nsp := range namespaces {
				if j != i {
					want = append(want, "42"+nspPrefix(nsp)+`["E",{"event":"E","channel":"presence-room","data":1}]`)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("without %s, %q come, and should %q", namespaces[i], got, want)
			}
			p.quiet()
		}
		// One of them goes: the user stays.
		p.say("41/a,")
		p.quiet()
		if ms, n := s.Members("", "presence-room"), s.Subscriptions("", "presence-room"); len(ms) != 1 || n != 2 {
			t.Errorf("the members are %v in %d subscriptions, and should be one in 2", ms, n)
		}
		p.say("41/b,", `421["unsubscribe","presence-room"]`)
		p.want(`431[{"ok":true,"channel":"presence-room"}]`)
		if ms, n := s.Members("", "presence-room"), s.Subscriptions("", "presence-room"); len(ms) != 0 || n != 0 {
			t.Errorf("the members are %v in %d subscriptions, and should be nobody", ms, n)
		}
	}
}

// The model of rooms is a set of clients for each.
type roomModel struct {
	t       *testing.T
	seed    uint64
	r       *rand.Rand
	s       *live
	io      *io.IO
	sockets <-chan *io.Socket
	conns   []*roomConn
	clients []*roomClient
	rooms   map[string]map[*roomClient]bool // by namespace and name
	n       int                             // events emitted
}

type roomClient struct {
	nsp  string
	sock *io.Socket
	conn *roomConn
	want []string
}

// roomConn is a connection of one client, or of two in different namespaces.
type roomConn struct {
	next    func() string
	close   func()
	clients []*roomClient
}

func (m *roomModel) room(nsp, name string) map[*roomClient]bool {
	k := nsp + " " + name
	if m.rooms[k] == nil {
		m.rooms[k] = map[*roomClient]bool{}
	}
	return m.rooms[k]
}

// selected is who is meant by some names.
func (m *roomModel) selected(nsp string, names []string) map[*roomClient]bool {
	out := map[*roomClient]bool{}
	for _, c := range m.clients {
		if c.nsp != nsp {
			continue
		}
		for _, name := range names {
			if m.room(nsp, name)[c] || name == c.sock.ID() {
				out[c] = true
			}
		}
	}
	return out
}

// names are some rooms, and sockets' ids.
func (m *roomModel) names(most int) []string {
	out := make([]string, m.r.IntN(most+1))
	for i := range out {
		if m.r.IntN(4) == 0 {
			out[i] = m.clients[m.r.IntN(len(m.clients))].sock.ID() // perhaps of the other namespace, or of nobody any more
		} else {
			out[i] = m.roomName()
		}
	}
	return out
}

func (m *roomModel) roomName() string { return fmt.Sprintf("r%d", m.r.IntN(6)) }

func (m *roomModel) check(what string, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("REALTIME_SEED=%d: %s: %v", m.seed, what, err)
	}
}

// expect notes that an event goes to some.
func (m *roomModel) expect(to map[*roomClient]bool) (event string) {
	m.n++
	event = fmt.Sprintf("e%d", m.n)
	for c := range to {
		c.want = append(c.want, "42"+nspPrefix(c.nsp)+`["`+event+`"]`)
	}
	return event
}

func (m *roomModel) step() {
	ctx := m.t.Context()
	nsp := []string{"/", "/a"}[m.r.IntN(2)]
	c := m.clients[m.r.IntN(len(m.clients))]
	switch what := m.r.IntN(12); what {
	case 0, 1:
		name := m.roomName()
		m.check("join", c.sock.Join(ctx, name))
		m.room(c.nsp, name)[c] = true
	case 2:
		name := m.roomName()
		m.check("leave", c.sock.Leave(ctx, name))
		delete(m.room(c.nsp, name), c)
	case 3: // the members of some rooms join or leave another
		from, name, join := m.names(2), m.roomName(), m.r.IntN(2) == 0
		if len(from) == 0 {
			return
		}
		to := m.io.Of(nsp).To(from...)
		if join {
			m.check("join", to.Join(ctx, name))
		} else {
			m.check("leave", to.Leave(ctx, name))
		}
		for x := range m.selected(nsp, from) {
			if join {
				m.room(nsp, name)[x] = true
			} else {
				delete(m.room(nsp, name), x)
			}
		}
	case 4:
		m.check("emit", c.sock.Emit(ctx, m.expect(map[*roomClient]bool{c: true})))
	case 5: // a socket to others
		names := m.names(3)
		to, meant := c.sock.Broadcast(), m.all(c.nsp)
		if len(names) > 0 {
			to, meant = c.sock.To(names...), m.selected(c.nsp, names)
		}
		delete(meant, c)
		m.check("emit", to.Emit(ctx, m.expect(meant)))
	case 6:
		rooms, err := c.sock.Rooms(ctx)
		m.check("rooms", err)
		want := []string{c.sock.ID()}
		for k, in := range m.rooms {
			if name, mine := strings.CutPrefix(k, c.nsp+" "); mine && in[c] {
				want = append(want, name)
			}
		}
		slices.Sort(rooms)
		slices.Sort(want)
		if !slices.Equal(rooms, want) {
			m.t.Fatalf("REALTIME_SEED=%d: a socket is in %q, and should be in %q", m.seed, rooms, want)
		}
	default:
		names, except := m.names(3), m.names(2)
		to, meant := m.io.Of(nsp), m.all(nsp)
		if len(names) > 0 {
			to, meant = to.To(names...), m.selected(nsp, names)
		}
		if len(except) > 0 {
			to = to.Except(except...)
			for x := range m.selected(nsp, except) {
				delete(meant, x)
			}
		}
		m.check("emit", to.Emit(ctx, m.expect(meant)))
		sockets, err := to.Sockets(ctx)
		m.check("sockets", err)
		if len(sockets) != len(meant) {
			m.t.Fatalf("REALTIME_SEED=%d: %q but %q in %s select %d sockets, and should %d", m.seed, names, except, nsp, len(sockets), len(meant))
		}
	}
}

func (m *roomModel) all(nsp string) map[*roomClient]bool {
	out := map[*roomClient]bool{}
	for _, c := range m.clients {
		if c.nsp == nsp {
			out[c] = true
		}
	}
	return out
}

// comes is one more connection.
func (m *roomModel) comes() {
	conn := &roomConn{}
	var enter func(nsp, auth string) string
	if m.r.IntN(3) == 0 {
		p := m.s.openPoller("")
		conn.next, enter = p.next, p.enter
		conn.close = func() {
			p.say("1")
			p.web.CloseIdleConnections()
		}
	} else {
		p := m.s.openSIO("")
		conn.next, enter, conn.close = p.next, p.enter, func() { p.Close() }
	}
	namespaces := []string{"/", "/a"}
	if one := m.r.IntN(3); one < 2 {
		namespaces = namespaces[one : one+1]
	}
	for _, nsp := range namespaces {
		id := enter(nsp, "")
		c := &roomClient{nsp: nsp, conn: conn, sock: <-m.sockets}
		if c.sock.ID() != id || c.sock.Namespace() != nsp {
			m.t.Fatalf("REALTIME_SEED=%d: socket %s of %s was let in as %s in %s", m.seed, c.sock.ID(), c.sock.Namespace(), id, nsp)
		}
		conn.clients = append(conn.clients, c)
		m.clients = append(m.clients, c)
	}
	m.conns = append(m.conns, conn)
}

// goes checks what a connection has heard, and ends it.
func (m *roomModel) goes(conn *roomConn) {
	for _, c := range conn.clients {
		m.check("emit", c.sock.Emit(m.t.Context(), m.expect(map[*roomClient]bool{c: true})))
	}
	for left := len(conn.clients); left > 0; {
		got := conn.next()
		i := slices.IndexFunc(conn.clients, func(c *roomClient) bool { return strings.HasPrefix(got, "42"+nspPrefix(c.nsp)+"[") })
		if i < 0 || len(conn.clients[i].want) == 0 || conn.clients[i].want[0] != got {
			m.t.Fatalf("REALTIME_SEED=%d: a client hears %s, of %d", m.seed, got, m.n)
		}
		if c := conn.clients[i]; len(c.want) == 1 {
			left--
		} else {
			c.want = c.want[1:]
		}
	}
	conn.close()
	mine := func(c *roomClient) bool { return c.conn == conn }
	m.clients = slices.DeleteFunc(m.clients, mine)
	m.conns = slices.DeleteFunc(m.conns, func(c *roomConn) bool { return c == conn })
	for _, in := range m.rooms {
		for c := range in {
			if mine(c) {
				delete(in, c)
			}
		}
	}
	// The model has no time at which the server does not know it yet.
	for _, c := range conn.clients {
		eventually(m.t, "the socket is gone", func() bool { _, err := c.sock.Rooms(m.t.Context()); return err != nil })
	}
}

func TestRoomsAreAsTheModelHasThem(t *testing.T) {
	steps := 3000
	if testing.Short() {
		steps = 600
	}
	for _, c := range []struct {
		tr    transport
		loops int
	}{{loops, 1}, {loops, 3}, {portable, 2}} {
		t.Run(fmt.Sprintf("%s/%d", c.tr, c.loops), func(t *testing.T) {
			seed := rand.Uint64()
			if v := os.Getenv("REALTIME_SEED"); v != "" {
				fmt.Sscan(v, &seed)
			}
			t.Logf("REALTIME_SEED=%d", seed)
			say := io.New(io.Options{Logger: quiet()})
			m := &roomModel{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), io: say, sockets: connected(say, "/", "/a"), rooms: map[string]map[*roomClient]bool{}}
			m.s = startOn(t, c.tr, Config{IO: say, Loops: c.loops, SocketIO: SocketIOConfig{Recovery: -1}, Limits: Limits{QueuedBytes: 64 << 20}})
			for range steps {
				switch {
				case len(m.conns) < 6 || len(m.conns) < 16 && m.r.IntN(40) == 0:
					m.comes()
				case m.r.IntN(80) == 0:
					m.goes(m.conns[m.r.IntN(len(m.conns))])
				default:
					m.step()
				}
			}
			for len(m.conns) > 0 {
				m.goes(m.conns[0])
			}
			for _, nsp := range []string{"/", "/a"} {
				if sockets, err := say.Of(nsp).Sockets(t.Context()); err != nil || len(sockets) != 0 {
					t.Errorf("REALTIME_SEED=%d: %d sockets are left in %s, %v", seed, len(sockets), nsp, err)
				}
			}
			t.Logf("%d events", m.n)
		})
	}
}

// hubKey is the key of a channel of the first app.
func hubKey(s *live, channel string) hub.Key { return hub.Key{App: s.appID(""), Name: channel} }

// Who stops waiting for an answer of a loop is not disturbed by it.
func TestRoomsThatNobodyWaitsForAnyMore(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	in := connected(say, "/")
	s := start(t, Config{IO: say, Loops: 1})
	p := s.dialSIO("")
	sock := <-in
	time.AfterFunc(20*time.Millisecond, s.block(0))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if rooms, err := sock.Rooms(ctx); rooms != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the rooms are %v, %v", rooms, err)
	}
	p.quiet()
}
