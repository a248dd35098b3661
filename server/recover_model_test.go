package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/modeltest"
	sio "github.com/stacksjs/realtime-go/socketio"
)

// TestRecoveryModel lets chance cut Socket.IO clients' connections, in every way and at any time, and brings them back
// with what they last received, while everything is published that they listen to. What a client that is told it was
// recovered has heard in all, over all its connections, is compared with a model that knows no loops, journals or
// transports: every message is heard once, in its source's order, by who was there.
func TestRecoveryModel(t *testing.T) {
	first, rounds := modeltest.Seed(t), uint64(1)
	if os.Getenv("REALTIME_SOAK") != "" {
		rounds = 20
	}
	onEach(t, func(t *testing.T, tr transport) {
		for _, n := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%d loops", n), func(t *testing.T) {
				for sd := first; sd < first+rounds && !t.Failed(); sd++ {
					t.Run(fmt.Sprintf("seed %d", sd), func(t *testing.T) { newRecovery(t, tr, n, sd).run() })
				}
			})
		}
	})
}

var (
	recoveryChannels = []string{"news", "quiet", "kept", "private-chat.1", "presence-room.1"}
	recoveryRooms    = []string{"a", "b", "c"}
	recoverySpaces   = []string{"/", "/b"}
)

const recoveryBeat = 10 * time.Hour // between pings, and until they must be answered

// recovery is the model of one server.
type recovery struct {
	t     *testing.T
	s     *live
	seed  uint64
	name  string
	io    *sio.IO
	tick  atomic.Int64 // orders what was done
	beats chan struct{}
	away  sync.RWMutex // written while time goes on

	mu       sync.Mutex
	sessions []*sioSession            // guarded by mu, and the rest
	bySID    map[string]*sioSession   // the last ones
	messages map[string][]*sioMessage // by source; their numbers are their places
	conns    map[*engineConn]*sioConn

	sources sync.Map // of source to *sync.Mutex, which keeps its order

	recovered, doubted, anew atomic.Int64 // ways in which clients came back
	beaten                   atomic.Int64
}

// sioMessage is something that was sent. It does not change but in done.
type sioMessage struct {
	source        string
	n             int
	begun, done   int64
	nsp           string
	to, except    []string // memberships, such as "chan:news", "room:/:a", "id:1.2"; to any of them, but to none of these
	exceptSockets []string
	volatile      bool
	optional      bool // it may have been refused
	blob          string
}

// sioSession is who a client is, over as many connections as it has had.
type sioSession struct {
	nsp, sid, pid, user string
	echo                bool
	begun               int64

	mu    sync.Mutex
	items []sioItem // guarded by mu; what has been heard
	ops   []sioOp   // guarded by mu
	start int       // guarded by mu; the first item of this connection
	known int       // guarded by mu; the items that a pong has told of
	last  string    // guarded by mu; the last offset
	story []string  // guarded by mu; its connections, for people

	socket     *sio.Socket     // guarded by recovery.mu
	gone       chan struct{}   // guarded by recovery.mu; closed when the server has told of the end of this connection
	sure, some map[string]bool // guarded by recovery.mu; rooms that it is in, or may be
	doubt      bool            // owned by its client: a recovery was cut, and it is not known what the server makes of it
}

type sioItem struct {
	source string
	n      int
	offset string
	seq    uint64
	blob   string
}

type sioOp struct {
	at     int64
	target string
	in     int // 0 out, 1 perhaps, 2 in
}

func newRecovery(t *testing.T, tr transport, loops int, sd uint64) *recovery {
	m := &recovery{
		t: t, seed: sd, name: fmt.Sprintf("REALTIME_SEED=%d, transport %s, %d loops", sd, tr, loops), beats: make(chan struct{}, 64),
		bySID: map[string]*sioSession{}, messages: map[string][]*sioMessage{}, conns: map[*engineConn]*sioConn{},
	}
	a := byQuery()
	a.Channel("chat.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	a.Channel("room.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	m.io = sio.New(sio.Options{Logger: quiet()})
	for _, nsp := range recoverySpaces {
		ns := m.io.Namespace(nsp)
		ns.OnConnect(m.connected)
		ns.OnDisconnect(m.disconnected)
		sio.On(ns, "sync", func(context.Context, *sio.Socket, int) (int, error) { return 0, nil })
		sio.On(ns, "join", func(ctx context.Context, s *sio.Socket, room string) (int, error) {
			return 0, m.member(s, room, true, s.Join(ctx, room))
		})
		sio.On(ns, "leave", func(ctx context.Context, s *sio.Socket, room string) (int, error) {
			return 0, m.member(s, room, false, s.Leave(ctx, room))
		})
	}
	clock := newClock(time.UnixMilli(1_760_000_000_000))
	var ms atomic.Int64
	cfg := Config{
		Apps: testApps, Auth: a, Loops: loops, IO: m.io, now: clock.now, EventNamespace: "N",
		Limits:   Limits{WhispersPerSecond: -1, Handshake: 1000 * time.Hour},
		Channels: []Channel{{Pattern: "kept", History: History{Size: 1 << 20, Age: 10000 * time.Hour, Bytes: 1 << 30}}},
		SocketIO: SocketIOConfig{
			Recovery: 10000 * time.Hour, PingInterval: recoveryBeat, PingTimeout: recoveryBeat,
			ConnectTimeout: 10000 * time.Hour, UpgradeTimeout: 10000 * time.Hour,
		},
	}
	if sd%2 == 0 { // most flushes are interrupted; see TestModel
		cfg.now = func() time.Time { return clock.now().Add(time.Duration(2*ms.Add(1)) * time.Millisecond) }
	}
	m.s = startOn(t, tr, cfg)
	m.s.clock = clock
	return m
}

func (m *recovery) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf("%s: %s", m.name, fmt.Sprintf(format, args...))
}

// connected looks at who comes back as a program does.
func (m *recovery) connected(ctx context.Context, s *sio.Socket) error {
	m.mu.Lock()
	ss := m.bySID[s.ID()]
	m.mu.Unlock()
	if !s.Recovered() {
		if s.Data() != nil {
			m.fail("socket %s is new and has data", s.ID())
		}
		ss = &sioSession{nsp: s.Namespace(), sid: s.ID(), sure: map[string]bool{}, some: map[string]bool{}}
		s.SetData(ss)
	}
	if s.Data() != ss {
		m.fail("socket %s came back with the data %v", s.ID(), s.Data())
		return nil
	}
	rooms, err := s.Rooms(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Recovered() && err == nil {
		for _, r := range rooms {
			if r != s.ID() && !ss.some[r] {
				m.fail("socket %s came back in room %q, in which it was not", s.ID(), r)
			}
		}
		for r := range ss.sure {
			if !slices.Contains(rooms, r) {
				m.fail("socket %s came back in the rooms %q, without %q", s.ID(), rooms, r)
			}
		}
	}
	m.bySID[s.ID()] = ss
	ss.socket, ss.gone = s, make(chan struct{})
	return nil
}

func (m *recovery) disconnected(_ context.Context, s *sio.Socket, _ string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ss := m.bySID[s.ID()]; ss.socket == s {
		close(ss.gone)
	}
}

// member remembers what became of a socket's membership in a room.
func (m *recovery) member(s *sio.Socket, room string, in bool, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ss := m.bySID[s.ID()]
	if ss.socket != s || err != nil { // it is another's turn, who may have changed it meanwhile
		ss.some[room] = true
		delete(ss.sure, room)
		return err
	}
	if in {
		ss.some[room], ss.sure[room] = true, true
	} else {
		delete(ss.sure, room)
		delete(ss.some, room)
	}
	return nil
}

func (m *recovery) run() {
	actors, steps := 6, 50
	if testing.Short() || raceEnabled {
		steps = 25
	}
	var others, publishers sync.WaitGroup
	all := make([]*sioActor, actors)
	for i := range all {
		a := &sioActor{m: m, r: rand.New(rand.NewPCG(m.seed, 100+uint64(i))), name: fmt.Sprint("client ", i)}
		if i%3 != 2 {
			a.user = strconv.Itoa(i % 2)
		}
		all[i] = a
		others.Go(func() {
			for range steps {
				m.away.RLock()
				a.step()
				m.away.RUnlock()
				select {
				case m.beats <- struct{}{}:
				default:
				}
			}
		})
	}
	for p := range 3 {
		r := rand.New(rand.NewPCG(m.seed, 10+uint64(p)))
		publishers.Go(func() {
			for range m.beats {
				for range 1 + r.IntN(6) {
					m.publish(r)
				}
				if r.IntN(2) == 0 {
					m.s.rounds()
				}
			}
		})
	}
	stop := make(chan struct{})
	var time sync.WaitGroup
	time.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 2000 {
				runtime.Gosched()
			}
			m.beat()
		}
	})
	others.Wait()
	close(m.beats)
	publishers.Wait()
	for _, a := range all {
		m.away.RLock()
		a.finish()
		m.away.RUnlock()
	}
	close(stop)
	time.Wait()
	for _, a := range all {
		if a.conn != nil {
			a.conn.close(false)
		}
	}
	if m.t.Failed() {
		return
	}
	m.verify(all)
}

// beat lets time go on: who answers a ping stays, and who does not ends.
func (m *recovery) beat() {
	m.away.Lock()
	defer m.away.Unlock()
	m.mu.Lock()
	conns := slices.Collect(maps.Keys(m.conns))
	m.mu.Unlock()
	before := map[*engineConn]int64{}
	for _, c := range conns {
		before[c] = c.pongs.Load()
	}
	m.beaten.Add(1)
	m.s.at(m.s.clock.now().Add(recoveryBeat + time.Second)) // deadlines are rounded up
	for _, c := range conns {
		if !c.deaf.Load() {
			end, again := time.Now().Add(sioTime), time.Now().Add(sioTime/20)
			for ; c.alive() && c.pongs.Load() == before[c]; runtime.Gosched() {
				if time.Now().After(again) { // the server has read its last pong so late that no ping was due
					again = time.Now().Add(sioTime / 20)
					m.s.at(m.s.clock.now().Add(recoveryBeat + time.Second))
				}
				if time.Now().After(end) {
					x := m.conns[c]
					m.fail("no ping came to the session %s (WebSocket: %v, paused: %v, %d pongs), which is in %d namespaces and waits for %d, and %d acknowledgements: %s",
						c.sid, c.ws != nil, c.paused.Load(), c.pongs.Load(), len(x.sessions), len(x.hello), len(x.asked), strings.Join(x.story, "; "))
					return
				}
			}
		}
	}
	m.s.rounds()
	m.s.rounds()
}

// send numbers a message of a source, and sends it, one after another.
func (m *recovery) send(msg *sioMessage, f func() error) {
	l, _ := m.sources.LoadOrStore(msg.source, new(sync.Mutex))
	l.(*sync.Mutex).Lock()
	defer l.(*sync.Mutex).Unlock()
	m.mu.Lock()
	msg.n, msg.begun, msg.done = len(m.messages[msg.source]), m.tick.Add(1), never
	m.messages[msg.source] = append(m.messages[msg.source], msg)
	m.mu.Unlock()
	err := f()
	if err != nil && !msg.optional {
		m.fail("%s %d: %v", msg.source, msg.n, err)
	}
	m.mu.Lock()
	msg.done = m.tick.Add(1)
	msg.optional = msg.optional && err != nil
	m.mu.Unlock()
}

// somebody is a session, or nil.
func (m *recovery) somebody(r *rand.Rand) *sioSession {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sessions) == 0 {
		return nil
	}
	return m.sessions[len(m.sessions)-1-r.IntN(min(len(m.sessions), 12))]
}

func somePad(r *rand.Rand) string {
	switch r.IntN(40) {
	case 0:
		return strings.Repeat("y", 30_000)
	case 1, 2:
		return strings.Repeat("x", r.IntN(1500))
	}
	return ""
}

func (m *recovery) publish(r *rand.Rand) {
	ctx := context.Background()
	p := somePad(r)
	if r.IntN(2) == 0 { // to a channel
		name := recoveryChannels[r.IntN(len(recoveryChannels))]
		if r.IntN(6) == 0 {
			name = "#server-to-user-" + strconv.Itoa(r.IntN(2))
		}
		msg := &sioMessage{source: name, to: []string{"chan:" + name}}
		if ss := m.somebody(r); ss != nil && r.IntN(4) == 0 && name != "kept" {
			msg.exceptSockets = []string{ss.sid}
		}
		m.send(msg, func() error {
			return m.s.Send(ctx, &realtime.Message{
				Channels: []string{name}, Event: "E", ExceptSockets: msg.exceptSockets,
				Data: json.RawMessage(fmt.Sprintf(`{"s":%q,"n":%d,"pad":%q}`, msg.source, msg.n, p)),
			})
		})
		return
	}
	nsp := recoverySpaces[r.IntN(2)]
	target := m.io.Of(nsp)
	msg := &sioMessage{nsp: nsp, source: "emit", to: []string{"all:" + nsp}}
	one := func() (name, membership string) {
		if ss := m.somebody(r); ss != nil && r.IntN(3) == 0 {
			return ss.sid, "id:" + ss.nsp + ":" + ss.sid
		}
		room := recoveryRooms[r.IntN(len(recoveryRooms))]
		return room, "room:" + nsp + ":" + room
	}
	if n := r.IntN(4); n > 0 {
		msg.to = nil
		for range n {
			name, membership := one()
			target = target.To(name)
			msg.to = append(msg.to, membership)
		}
	}
	for range r.IntN(3) {
		name, membership := one()
		target = target.Except(name)
		msg.except = append(msg.except, membership)
	}
	emit := target.Emit
	if r.IntN(6) == 0 {
		emit = target.EmitVolatile
		msg.volatile = true
	}
	if r.IntN(8) == 0 { // by its socket's own handle
		if ss := m.somebody(r); ss != nil {
			m.mu.Lock()
			socket := ss.socket
			m.mu.Unlock()
			msg = &sioMessage{nsp: ss.nsp, source: "handle " + ss.sid, to: []string{"id:" + ss.nsp + ":" + ss.sid}, optional: true}
			m.send(msg, func() error {
				if err := socket.Emit(ctx, "r", map[string]any{"s": msg.source, "n": msg.n}, p); err != nil {
					return err
				}
				_, err := socket.Rooms(ctx) // it was there when it was sent to
				return err
			})
			return
		}
	}
	if r.IntN(8) == 0 {
		msg.blob = fmt.Sprint("blob ", r.IntN(1000))
	}
	m.send(msg, func() error {
		args := []any{map[string]any{"s": msg.source, "n": msg.n}, p}
		if msg.blob != "" {
			args = append(args, sio.Binary(msg.blob))
		}
		return emit(ctx, "r", args...)
	})
}

// sioActor is a client that comes back again and again.
type sioActor struct {
	m        *recovery
	r        *rand.Rand
	name     string
	user     string
	conn     *sioConn
	sessions map[string]*sioSession // by namespace
	next     int                    // acknowledgement
}

// sioConn is one connection of it.
type sioConn struct {
	*engineConn
	m        *recovery
	sessions map[string]*sioSession
	synced   int64    // when something was asked that has been answered behind all before
	story    []string // for people

	mu      sync.Mutex
	asked   map[int]chan sioPacket    // by acknowledgement; guarded by mu, and the rest
	hello   map[string]chan sioPacket // by namespace, and
	askedAt map[string]int64
}

// connect opens a connection without a namespace.
func (a *sioActor) connect() *sioConn {
	c := &sioConn{m: a.m, asked: map[int]chan sioPacket{}, hello: map[string]chan sioPacket{}, askedAt: map[string]int64{}, sessions: map[string]*sioSession{}}
	query := ""
	if a.user != "" {
		query = "&user=" + a.user
	}
	ready := make(chan struct{})
	e, err := a.m.s.engine(query, a.r.IntN(2) == 0, func(text string, blobs [][]byte) { <-ready; c.heard(text, blobs) }, func() { <-ready; c.answers() })
	if err != nil {
		a.m.fail("%s: %v", a.name, err)
		return nil
	}
	c.engineConn = e
	close(ready)
	a.m.mu.Lock()
	a.m.conns[e] = c
	a.m.mu.Unlock()
	return c
}

// answers is called before the answer to a ping: the server knows then that everything before has come.
func (c *sioConn) answers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ss := range c.sessions {
		ss.mu.Lock()
		ss.known = len(ss.items)
		ss.mu.Unlock()
	}
}

// close cuts a connection.
func (c *sioConn) close(reset bool) {
	c.m.mu.Lock()
	delete(c.m.conns, c.engineConn)
	c.m.mu.Unlock()
	c.cut(reset)
}

// heard takes a packet.
func (c *sioConn) heard(text string, blobs [][]byte) {
	p := parseSIO(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch p.kind {
	case '0', '4':
		if ch := c.hello[p.nsp]; ch != nil {
			if p.kind == '0' {
				// Here, so that what follows at once has somebody to hear it.
				c.greeted(p)
			}
			ch <- p
			delete(c.hello, p.nsp)
			return
		}
	case '3', '6':
		if ch := c.asked[p.id]; ch != nil {
			ch <- p
			delete(c.asked, p.id)
			return
		}
	case '2', '5':
		if ss := c.sessions[p.nsp]; ss != nil && len(p.args) > 1 {
			c.event(ss, p, blobs)
			return
		}
	}
	c.m.fail("%s was not to be received by %v", text, c.sessions)
}

// greeted begins a session, or goes on with it. Under mu.
func (c *sioConn) greeted(p sioPacket) {
	var id struct{ SID, PID string }
	json.Unmarshal([]byte(p.data), &id)
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	ss := m.bySID[id.SID] // the program has made it
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.pid == "" {
		ss.pid, ss.begun = id.PID, c.askedAt[p.nsp]
		at := m.tick.Add(1)
		for _, target := range []string{"all:" + ss.nsp, "id:" + ss.nsp + ":" + ss.sid} {
			ss.ops = append(ss.ops, sioOp{ss.begun, target, 1}, sioOp{at, target, 2})
		}
		m.sessions = append(m.sessions, ss)
	}
	if ss.pid != id.PID {
		m.fail("socket %s has the pid %s, and had %s", ss.sid, id.PID, ss.pid)
	}
	ss.start, ss.known = len(ss.items), 0
	ss.story = append(ss.story, fmt.Sprintf("%d: connected, with %d items", m.tick.Load(), len(ss.items)))
	c.sessions[p.nsp] = ss
}

var offsetForm = regexp.MustCompile(`^"[0-9a-f]{8}\.[0-9a-f]{14}"$`)

// event takes an event. Under mu.
func (c *sioConn) event(ss *sioSession, p sioPacket, blobs [][]byte) {
	var name string
	json.Unmarshal(p.args[0], &name)
	last := string(p.args[len(p.args)-1])
	switch name {
	case "E", `N\E`, "r", "client-w":
	default:
		if last[0] == '"' {
			c.m.fail("%q ends with a text that is no offset", p.data)
		}
		return
	}
	if !offsetForm.MatchString(last) {
		c.m.fail("%q has no offset", p.data)
		return
	}
	var d struct {
		S string
		N int
	}
	item := sioItem{offset: strings.Trim(last, `"`)}
	switch data := p.args[1]; {
	case name == "r":
		json.Unmarshal(data, &d)
		if len(blobs) == 1 {
			item.blob = string(blobs[0])
		}
	case data[0] == '"': // laravel-echo's form
		json.Unmarshal(p.args[2], &d)
	default:
		var o struct {
			Data *struct {
				S string
				N int
			}
			Seq uint64
		}
		o.Data = &d
		json.Unmarshal(data, &o)
		item.seq = o.Seq
	}
	item.source, item.n = d.S, d.N
	if d.S == "" {
		c.m.fail("%.200q is nobody's", p.data)
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if n := len(ss.items); n > ss.start && item.offset[9:] < ss.items[n-1].offset[9:] {
		c.m.fail("socket %s: the offset of %s %d is %s, before that of %s %d, %s", ss.sid, item.source, item.n, item.offset, ss.items[n-1].source, ss.items[n-1].n, ss.items[n-1].offset)
	}
	ss.items, ss.last = append(ss.items, item), item.offset
}

// enter asks for a namespace, and returns what it is told.
func (c *sioConn) enter(nsp, auth string) (sioPacket, bool) {
	ch := c.ask(nsp, auth)
	if ch == nil {
		return sioPacket{}, false
	}
	return c.await(ch)
}

func (c *sioConn) ask(nsp, auth string) chan sioPacket {
	ch := make(chan sioPacket, 1)
	c.mu.Lock()
	c.hello[nsp], c.askedAt[nsp] = ch, c.m.tick.Add(1)
	c.mu.Unlock()
	if c.say("40"+prefix(nsp)+auth) != nil {
		return nil
	}
	return ch
}

func (c *sioConn) await(ch chan sioPacket) (sioPacket, bool) {
	select {
	case p := <-ch:
		return p, true
	case <-c.ended:
		select {
		case p := <-ch:
			return p, true
		default:
		}
	case <-time.After(sioTime):
		c.m.fail("no answer came")
		c.m.t.FailNow()
	}
	return sioPacket{}, false
}

// call sends an event and waits for its acknowledgement.
func (a *sioActor) call(ss *sioSession, event string, args ...any) bool {
	c := a.conn
	a.next++
	ch := make(chan sioPacket, 1)
	c.mu.Lock()
	c.asked[a.next] = ch
	c.mu.Unlock()
	b, _ := json.Marshal(append([]any{event}, args...))
	if c.say("42"+prefix(ss.nsp)+strconv.Itoa(a.next)+string(b)) != nil {
		return false
	}
	p, ok := c.await(ch)
	if ok && strings.Contains(p.data, `"ok":false`) {
		a.m.fail("%s %s is answered with %s", event, args, p.data)
	}
	return ok
}

// begin opens a connection and its sessions, anew.
func (a *sioActor) begin() {
	if a.conn = a.connect(); a.conn == nil {
		return
	}
	a.conn.story = []string{"begun"}
	a.sessions = map[string]*sioSession{}
	for _, nsp := range recoverySpaces[:1+a.r.IntN(2)] {
		a.enter(nsp)
	}
}

// enter begins a session.
func (a *sioActor) enter(nsp string) {
	if p, ok := a.conn.enter(nsp, ""); ok {
		a.entered(nsp, p)
	}
}

// entered takes a new session up.
func (a *sioActor) entered(nsp string, p sioPacket) {
	a.conn.mu.Lock()
	ss := a.conn.sessions[nsp]
	a.conn.mu.Unlock()
	if ss == nil {
		a.m.fail("%s: %s is answered with %v", a.name, nsp, p)
		return
	}
	ss.user, ss.echo = a.user, a.r.IntN(3) == 0
	a.sessions[nsp] = ss
	if a.user != "" {
		ss.op(ss.begun, "chan:#server-to-user-"+a.user, 1)
	}
	a.settle(ss)
}

func (ss *sioSession) op(at int64, target string, in int) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.ops = append(ss.ops, sioOp{at, target, in})
}

// settle returns when everything that was sent to a session before has been heard, and reports whether it lives.
func (a *sioActor) settle(ss *sioSession) bool {
	at := a.m.tick.Add(1)
	if !a.call(ss, "sync", 0) {
		return false
	}
	a.conn.synced = at
	if user := "chan:#server-to-user-" + ss.user; ss.user != "" && ss.lately(user).in == 1 {
		ss.op(a.m.tick.Add(1), user, 2)
	}
	return true
}

// lately is what last became of a session's membership in something; zero when it never had one.
func (ss *sioSession) lately(target string) (last sioOp) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, op := range ss.ops {
		if op.target == target {
			last = op
		}
	}
	return last
}

// change begins or ends a membership.
func (a *sioActor) change(ss *sioSession, target string, in bool, f func() bool) {
	was := ss.lately(target).in
	if in && was == 0 {
		ss.op(a.m.tick.Add(1), target, 1)
	} else if !in {
		// What was sent to it before may be overtaken, unless it has been heard.
		ss.op(max(a.conn.synced, ss.lately(target).at+1), target, 1)
	}
	if f() {
		to := 0
		if in {
			to = 2
		}
		ss.op(a.m.tick.Add(1), target, to)
	}
}

func (a *sioActor) step() {
	if a.conn == nil {
		a.begin()
		return
	}
	if !a.conn.alive() {
		a.comeBack()
		return
	}
	names := slices.Sorted(maps.Keys(a.sessions))
	if len(names) == 0 {
		a.leave()
		return
	}
	ss := a.sessions[names[a.r.IntN(len(names))]]
	switch x := a.r.IntN(100); {
	case x < 20:
		name := recoveryChannels[a.r.IntN(len(recoveryChannels))]
		if name == "presence-room.1" && ss.user == "" {
			return
		}
		var arg any = name
		switch {
		case ss.echo:
			arg = map[string]any{"channel": name, "auth": map[string]any{"headers": map[string]any{}}}
		case name == "kept" && a.r.IntN(2) == 0 && ss.lately("chan:kept").at == 0:
			arg = map[string]any{"channel": name, "rewind": 1 + a.r.IntN(20)}
		}
		a.change(ss, "chan:"+name, true, func() bool { return a.call(ss, "subscribe", arg) })
	case x < 25:
		name := recoveryChannels[a.r.IntN(len(recoveryChannels))]
		a.change(ss, "chan:"+name, false, func() bool { return a.call(ss, "unsubscribe", name) })
	case x < 38:
		room := recoveryRooms[a.r.IntN(len(recoveryRooms))]
		a.m.perhaps(ss, room)
		a.change(ss, "room:"+ss.nsp+":"+room, true, func() bool { return a.call(ss, "join", room) })
	case x < 43:
		room := recoveryRooms[a.r.IntN(len(recoveryRooms))]
		a.m.perhaps(ss, room)
		a.change(ss, "room:"+ss.nsp+":"+room, false, func() bool { return a.call(ss, "leave", room) })
	case x < 50:
		name := recoveryChannels[3+a.r.IntN(2)]
		if ss.lately("chan:"+name).in == 2 {
			a.whisper(ss, name)
		}
	case x < 60:
		a.settle(ss)
	case x < 66:
		if a.conn.ws == nil {
			steps := 1 + a.r.IntN(5)
			err := a.conn.upgrade(steps)
			a.conn.story = append(a.conn.story, fmt.Sprintf("upgraded by %d steps: %v", steps, err))
			if steps < 4 {
				a.leave()
			} else if err != nil && a.conn.alive() {
				a.m.fail("%s: %v", a.name, err)
			}
		}
	case x < 70:
		a.drop(ss)
	case x < 85:
		a.leave()
	default:
		runtime.Gosched()
	}
}

// perhaps remembers that a socket's membership in a room is about to change.
func (m *recovery) perhaps(ss *sioSession, room string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ss.some[room] = true
	delete(ss.sure, room)
}

func (a *sioActor) whisper(ss *sioSession, channel string) {
	msg := &sioMessage{source: "whispers of " + ss.sid + " on " + channel, to: []string{"chan:" + channel}, exceptSockets: []string{ss.sid}, optional: true}
	a.m.send(msg, func() error {
		data := map[string]any{"s": msg.source, "n": msg.n}
		if !a.call(ss, "whisper", map[string]any{"channel": channel, "event": "w", "data": data}) {
			return context.Canceled
		}
		return nil
	})
}

// drop leaves a namespace, for good.
func (a *sioActor) drop(ss *sioSession) {
	delete(a.sessions, ss.nsp)
	a.conn.say("41" + prefix(ss.nsp))
	select {
	case <-a.m.goneOf(ss):
	case <-a.conn.ended:
		return
	case <-time.After(sioTime):
		a.m.fail("%s is not told of the end", ss.sid)
	}
	if a.r.IntN(2) == 0 { // and is not to come back
		ss.mu.Lock()
		last := ss.last
		ss.mu.Unlock()
		p, ok := a.conn.enter(ss.nsp, fmt.Sprintf(`{"pid":%q,"offset":%q}`, ss.pid, last))
		if ok && strings.Contains(p.data, ss.pid) {
			a.m.fail("%s came back although it had left", ss.sid)
		}
		if ok {
			a.entered(ss.nsp, p)
		}
	}
}

func (m *recovery) goneOf(ss *sioSession) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ss.gone
}

// leave ends the connection in one way or another, and comes back.
func (a *sioActor) leave() {
	c := a.conn
	switch x := a.r.IntN(10); {
	case x < 4:
		c.close(true)
		c.note("cut")
	case x < 6:
		c.note("closed")
		c.close(false)
	case x < 8:
		c.note(fmt.Sprintf("says 1: %v", c.say("1")))
		c.close(false)
	default: // until the server notices it
		c.mute()
		c.note("is mute")
		for _, ss := range a.sessions {
			if !ss.doubt {
				a.m.awaitEnd(ss)
			}
		}
		c.close(a.r.IntN(2) == 0)
	}
	a.comeBack()
}

// note tells the stories of a connection's sessions.
func (c *sioConn) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ss := range c.sessions {
		ss.mu.Lock()
		ss.story = append(ss.story, fmt.Sprintf("%d: %s (WebSocket: %v, paused: %v, %d pongs; %s)", c.m.tick.Load(), text, c.ws != nil, c.paused.Load(), c.pongs.Load(), strings.Join(c.story, "; ")))
		ss.mu.Unlock()
	}
}

// comeBack connects again, as who it was if it may.
func (a *sioActor) comeBack() {
	was, old := a.sessions, a.conn
	old.close(false)
	<-old.ended // what it has read is heard: the server may not know yet that it is gone
	old.note("is over")
	a.sessions, a.conn = map[string]*sioSession{}, nil
	patient := a.r.IntN(6) > 0
	if patient { // the server knows that it is gone
		for _, ss := range was {
			if !ss.doubt {
				a.m.awaitEnd(ss)
			}
		}
	}
	var all []*sioReturn
	for _, nsp := range slices.Sorted(maps.Keys(was)) {
		x := &sioReturn{ss: was[nsp]}
		x.must = patient && !x.ss.doubt
		all = append(all, x)
	}
	for a.r.IntN(6) == 0 { // a return that is itself cut, of which the server may hear at any time
		a.comeBackInVain(all)
	}
	c := a.connect()
	if c == nil {
		return
	}
	a.conn = c
	for _, x := range all {
		ss := x.ss
		offset, pid := a.seen(ss), ss.pid
		switch y := a.r.IntN(24); {
		case y == 0:
			pid, x.must, x.mustNot = "1.2.abc", false, true
		case y == 1:
			pid, x.must, x.mustNot = ss.pid[:len(ss.pid)-1]+"_", false, true
		case y == 2 && len(all) > 1: // another namespace's: nobody is recovered by it
			for _, other := range all {
				if other.must = false; other != x {
					pid = other.ss.pid
				}
			}
			x.mustNot = true
		}
		c.story = append(c.story, fmt.Sprintf("asked for %s with %s%s, must %v, must not %v", ss.nsp, pid, offset, x.must, x.mustNot))
		x.answer = c.ask(ss.nsp, fmt.Sprintf(`{"pid":%q%s,"more":1}`, pid, offset))
		if a.r.IntN(3) == 0 {
			a.answered(c, x)
		}
	}
	for _, x := range all {
		a.answered(c, x)
	}
}

// comeBackInVain is a connection that is cut while its sessions come back.
func (a *sioActor) comeBackInVain(all []*sioReturn) {
	c := a.connect()
	if c == nil {
		return
	}
	for _, x := range all {
		c.story = append(c.story, "asked for "+x.ss.nsp+", to be cut")
		x.must = false
		c.ask(x.ss.nsp, fmt.Sprintf(`{"pid":%q%s}`, x.ss.pid, a.seen(x.ss)))
		for range a.r.IntN(200) {
			runtime.Gosched()
		}
	}
	c.close(a.r.IntN(2) == 0)
	<-c.ended // what it has read is heard: the server may not know yet that it is gone
	c.note("was in vain")
}

// sioReturn is a session's attempt to come back.
type sioReturn struct {
	ss            *sioSession
	must, mustNot bool
	answer        chan sioPacket // nil when it could not be asked, or has been answered
	done          bool
}

// awaitEnd waits until the server knows that a session's connection has ended, for which time may have to go on.
func (m *recovery) awaitEnd(ss *sioSession) {
	m.away.RUnlock()
	defer m.away.RLock()
	select {
	case <-m.goneOf(ss):
	case <-time.After(sioTime):
		m.fail("%s is gone, and the program is not told; at beat %d\n%s", ss.sid, m.beaten.Load(), strings.Join(ss.story, "\n"))
	}
}

// answered looks at what a client that comes back is told.
func (a *sioActor) answered(c *sioConn, x *sioReturn) {
	if x.done {
		return
	}
	x.done = true
	ss := x.ss
	back := func(c *sioConn, ch chan sioPacket) (p sioPacket, same, ok bool) {
		if ch == nil {
			return p, false, false
		}
		if p, ok = c.await(ch); !ok {
			return p, false, false
		}
		same = strings.Contains(p.data, `"`+ss.pid+`"`)
		if same != strings.Contains(p.data, `"`+ss.sid+`"`) {
			a.m.fail("%s and %s came back with %s", ss.sid, ss.pid, p.data)
		}
		return p, same, true
	}
	p, same, ok := back(c, x.answer)
	switch {
	case !ok:
		a.m.doubted.Add(1)
		ss.doubt = true
		a.sessions[ss.nsp] = ss
	case x.must && !same:
		a.m.fail("%s did not come back: %s", ss.sid, p.data)
	case x.mustNot && same:
		a.m.fail("%s came back", ss.sid)
	case same:
		a.m.recovered.Add(1)
		ss.doubt = false
		a.sessions[ss.nsp] = ss
	default:
		a.m.anew.Add(1)
		a.entered(ss.nsp, p)
	}
}

// seen chooses what a client that comes back has received last, and forgets what came after.
func (a *sioActor) seen(ss *sioSession) string {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if a.r.IntN(3) == 0 { // what follows has been lost
		n := max(len(ss.items)-1-a.r.IntN(8), ss.start, ss.known)
		if n < len(ss.items) {
			ss.items = ss.items[:n]
			ss.last = ""
			if n > 0 {
				ss.last = ss.items[n-1].offset
			}
		}
	}
	ss.story = append(ss.story, fmt.Sprintf("%d: comes back from %q, with %d items, of which %d are of this connection's, and %d known", a.m.tick.Load(), ss.last, len(ss.items), len(ss.items)-ss.start, ss.known))
	ss.known = len(ss.items) // the server is told
	if ss.last == "" {
		return ""
	}
	return fmt.Sprintf(`,"offset":%q`, ss.last)
}

// finish brings a client to rest.
func (a *sioActor) finish() {
	if a.conn == nil {
		a.begin()
	}
	for range 10 {
		if a.conn.alive() {
			break
		}
		a.comeBack()
	}
	if a.conn == nil || !a.conn.alive() {
		a.m.fail("%s does not come to rest", a.name)
		return
	}
	for _, ss := range a.sessions {
		if !a.settle(ss) {
			a.m.fail("%s does not settle", ss.sid)
		}
	}
}

// verify compares what all sessions have heard with what was sent.
func (m *recovery) verify(all []*sioActor) {
	alive := map[*sioSession]bool{}
	for _, a := range all {
		for _, ss := range a.sessions {
			alive[ss] = true
		}
	}
	heard, due := 0, 0
	for _, ss := range m.sessions {
		m.check(ss, alive[ss], &heard, &due)
		if m.t.Failed() {
			return
		}
	}
	messages := 0
	for _, l := range m.messages {
		messages += len(l)
	}
	m.t.Logf("%d messages, heard %d times, of which %d were due; %d sessions, %d times recovered, %d anew, %d cut in the midst",
		messages, heard, due, len(m.sessions), m.recovered.Load(), m.anew.Load(), m.doubted.Load())
}

// between is the least and the most that a session was a member of something in a time.
func (ss *sioSession) between(target string, from, to int64) (least, most int) {
	in := 0
	set := false
	for _, op := range ss.ops {
		if op.target != target {
			continue
		}
		if op.at > to {
			break
		}
		if op.at >= from {
			if !set {
				least, most, set = in, in, true
			}
			least, most = min(least, op.in), max(most, op.in)
		}
		in = op.in
	}
	if !set {
		return in, in
	}
	return least, most
}

func (m *recovery) check(ss *sioSession, alive bool, heard, due *int) {
	slices.SortStableFunc(ss.ops, func(a, b sioOp) int { return int(a.at - b.at) })
	at := map[string]int{} // the last number of each source
	got := map[string]map[int]bool{}
	var seq uint64
	for i, item := range ss.items {
		list := m.messages[item.source]
		if item.n >= len(list) {
			m.fail("%s heard %s %d, which there is not", ss.sid, item.source, item.n)
			return
		}
		msg := list[item.n]
		if last, ok := at[item.source]; ok && item.n <= last {
			m.fail("%s heard %s %d behind %d: %s\n%s", ss.sid, item.source, item.n, last, m.story(ss, i), strings.Join(ss.story, "\n"))
			return
		}
		at[item.source] = item.n
		if got[item.source] == nil {
			got[item.source] = map[int]bool{}
		}
		got[item.source][item.n] = true
		if _, may := m.for_(ss, msg); !may {
			m.fail("%s heard %s %d, which was not for it (to %q but %q %q, from %d to %d; memberships %v): %s",
				ss.sid, item.source, item.n, msg.to, msg.except, msg.exceptSockets, msg.begun, msg.done, ss.ops, m.story(ss, i))
			return
		}
		if item.blob != msg.blob {
			m.fail("%s heard %s %d with the attachment %q, not %q", ss.sid, item.source, item.n, item.blob, msg.blob)
		}
		if item.seq > 0 && item.seq <= seq {
			m.fail("%s heard the position %d behind %d", ss.sid, item.seq, seq)
		}
		seq = max(seq, item.seq)
		*heard++
	}
	for source, list := range m.messages {
		for _, msg := range list {
			must, _ := m.for_(ss, msg)
			if !must || got[source][msg.n] || !alive && msg.n > at[source] {
				continue
			}
			if _, any := at[source]; !any && !alive {
				continue
			}
			next := slices.IndexFunc(ss.items, func(x sioItem) bool { return x.source == source && x.n > msg.n })
			m.fail("%s did not hear %s %d (to %q but %q %q, from %d to %d); memberships %v; the next is item %d, alive %v\n%s\n%s",
				ss.sid, source, msg.n, msg.to, msg.except, msg.exceptSockets, msg.begun, msg.done, ss.ops, next, alive, strings.Join(ss.story, "\n"), m.story(ss, next))
			return
		}
		for _, msg := range list {
			if must, _ := m.for_(ss, msg); must && got[source][msg.n] {
				*due++
			}
		}
	}
}

// for_ reports whether a message was for a session, or may have been.
func (m *recovery) for_(ss *sioSession, msg *sioMessage) (must, may bool) {
	if slices.Contains(msg.exceptSockets, ss.sid) || msg.nsp != "" && msg.nsp != ss.nsp {
		return false, false
	}
	least, most := 0, 0
	for _, to := range msg.to {
		l, u := ss.between(to, msg.begun, msg.done)
		least, most = max(least, l), max(most, u)
	}
	for _, x := range msg.except {
		l, u := ss.between(x, msg.begun, msg.done)
		if l == 2 {
			return false, false
		}
		if u > 0 {
			least = 0
		}
	}
	if msg.source == "kept" && msg.begun < ss.firstOf("chan:kept") { // by rewind
		return false, true
	}
	return least == 2 && !msg.volatile && !msg.optional, most > 0
}

func (ss *sioSession) firstOf(target string) int64 {
	for _, op := range ss.ops {
		if op.target == target {
			return op.at
		}
	}
	return 0
}

// story is what a session heard around an item.
func (m *recovery) story(ss *sioSession, at int) string {
	var b strings.Builder
	for i := max(0, at-12); i < min(len(ss.items), at+6); i++ {
		mark := ""
		if i == at {
			mark = "*"
		}
		fmt.Fprintf(&b, " %s%s:%d(%s)", mark, ss.items[i].source, ss.items[i].n, ss.items[i].offset[9:])
	}
	return b.String()
}
