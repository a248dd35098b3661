package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
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
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// TestModel lets chance publish, subscribe, come back, whisper, join and leave, revoke and disconnect through real
// sockets, and compares what every client was told with a model. The model knows no loops and no turns: each channel
// is one list, which a witness reads from the beginning, and everybody else's subscription is a stretch of that list
// without a hole except where it was left out.
func TestModel(t *testing.T) {
	first, rounds := modeltest.Seed(t), uint64(3)
	if os.Getenv("REALTIME_SOAK") != "" {
		rounds = 20
	} else if testing.Short() || raceEnabled {
		rounds = 1
	}
	onEach(t, func(t *testing.T, tr transport) {
		for _, n := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%d loops", n), func(t *testing.T) {
				for sd := first; sd < first+rounds && !t.Failed(); sd++ {
					t.Run(fmt.Sprintf("seed %d", sd), func(t *testing.T) { newModel(t, tr, n, sd).run() })
				}
			})
		}
	})
}

// modelChannel is a channel of the model.
type modelChannel struct {
	name     string
	history  int  // messages kept
	cache    bool // the last one is
	whispers bool
	presence bool
	signed   bool // a signature opens it, not the authorizer
	apart    bool // the witness does not listen, so that it can be vacant
}

var modelChannels = []modelChannel{
	{name: "news"},
	{name: "kept", history: 1 << 20},
	{name: "kept-few", history: 8},
	{name: "cache-last", cache: true},
	{name: "private-chat.1", whispers: true},
	{name: "private-kept", history: 32, whispers: true, signed: true},
	{name: "presence-room.1", whispers: true, presence: true},
	{name: "presence-kept", history: 16, whispers: true, presence: true, signed: true},
	{name: "apart", apart: true},
	{name: "presence-apart", presence: true, whispers: true, signed: true, apart: true},
	{name: "#server-to-user-0", apart: true},
	{name: "#server-to-user-1", apart: true},
}

// modelAsked are the channels that clients ask for; the last ones come with an identity.
var modelAsked = modelChannels[:len(modelChannels)-2]

// model is one server and all that was done to it.
type model struct {
	t         *testing.T
	s         *live
	transport transport
	loops     int
	seed      uint64

	clock atomic.Int64  // orders what was done: every beginning and every end has its own
	nonce atomic.Int64  // tells one info of a member from all others
	beats chan struct{} // paces the publishers

	mu          sync.Mutex
	conns       []*modelConn    // guarded by mu
	messages    []*modelMessage // guarded by mu
	disconnects []disconnect    // guarded by mu

	hookMu sync.Mutex
	hooks  []Event // guarded by hookMu

	// of the verification
	lists map[string]*list // by channel; those the witness knows
}

const never = math.MaxInt64

// modelMessage is an event or a whisper. What it is does not change after it was made.
type modelMessage struct {
	n             int
	by            string // whose messages keep their order, even across channels
	channels      []string
	data          string
	id            string
	exceptSockets []string
	exceptUsers   []string
	whisper       string // its event
	from          *modelConn
	begun         int64
	done          int64 // when it was accepted; guarded by model.mu
}

// disconnect is a call that ends connections.
type disconnect struct{ user, socket string }

// modelConn is one connection of a client.
type modelConn struct {
	*wsclient.Conn
	m      *model
	number int
	name   string // of its actor
	user   string
	socket string
	tcp    net.Conn

	news  chan struct{} // something was answered
	ended chan struct{} // closed when nothing more will come
	err   error         // why; set before ended is closed

	mu       sync.Mutex
	dialed   int64
	log      []entry    // guarded by mu
	commands []*command // guarded by mu; their ids are 1, 2, 3, …
	answered int        // guarded by mu
	leaving  bool       // guarded by mu: we end it
}

// entry is one line of a connection's history.
type entry struct {
	at   int64
	sent *command // nil: received
	text string
	f    *frame
}

// command is what a client asked for.
type command struct {
	id       int
	event    string
	channel  string
	at       int64
	answered int64
	since    *uint64
	epoch    string
	rewind   int
	message  *modelMessage
}

// frame is any frame of the server.
type frame struct {
	Event    string
	ID       int
	Channel  string
	Data     json.RawMessage
	Seq      uint64
	Epoch    string
	TS       int64
	Replayed bool
}

type member struct {
	ID   string
	Info json.RawMessage
}

// ack is the data of subscription_succeeded.
type ack struct {
	Presence *struct {
		Count int
		IDs   []string
		Hash  map[string]member
	}
	Me        member
	Seq       uint64
	Epoch     string
	Recovered bool
}

func newModel(t *testing.T, tr transport, loops int, sd uint64) *model {
	m := &model{t: t, transport: tr, loops: loops, seed: sd, beats: make(chan struct{}, 64)}
	// Before the server starts, so that this is checked after it has ended.
	t.Cleanup(func() {
		if !t.Failed() {
			m.checkHooks()
		}
	})
	a := byQuery("*")
	hesitate := func() {
		for range m.nonce.Add(1) % 40 {
			runtime.Gosched()
		}
	}
	a.Channel("chat.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
		hesitate()
		return auth.Grant{}, nil
	})
	a.Channel("room.{id}", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
		hesitate()
		g := auth.Grant{MemberInfo: json.RawMessage(fmt.Sprintf(`{"v":%d}`, m.nonce.Add(1)))}
		if u == nil {
			g.MemberID = "nobody"
		}
		return g, nil
	})
	cfg := Config{
		Apps: testApps, Auth: a, Loops: loops, Hook: m.hook,
		Limits: Limits{WhispersPerSecond: -1, Ping: 100 * time.Hour, Handshake: 100 * time.Hour, IdempotencyWindow: 100 * time.Hour},
	}
	for _, c := range modelAsked {
		if c.history > 0 {
			cfg.Channels = append(cfg.Channels, Channel{Pattern: c.name, History: History{Size: c.history, Age: 1000 * time.Hour, Bytes: 1 << 30}})
		}
	}
	if sd%2 == 0 {
		// A clock that moves by more than a flush may take whenever it is looked at: with many connections most
		// flushes are interrupted, and everything else happens in their midst.
		var ms atomic.Int64
		cfg.now = func() time.Time { return time.UnixMilli(1_760_000_000_000 + 2*ms.Add(1)) }
	}
	m.s = startOn(t, tr, cfg)
	return m
}

func (m *model) hook(_ context.Context, e Event) {
	m.hookMu.Lock()
	m.hooks = append(m.hooks, e)
	m.hookMu.Unlock()
}

func (m *model) tick() int64 { return m.clock.Add(1) }

func (m *model) run() {
	r := rand.New(rand.NewPCG(m.seed, 0))
	actors, steps := 4+r.IntN(12), 120
	if m.seed%8 == 0 { // a crowd
		actors, steps = 150, 12
	}
	if testing.Short() {
		steps /= 2
	}
	witness := m.connect("witness", "", false)
	if witness == nil {
		return
	}
	for i := range modelAsked {
		if ch := &modelAsked[i]; !ch.apart {
			witness.subscribe(ch, "", nil)
		}
	}
	if !witness.settle() {
		return
	}
	var publishers, others sync.WaitGroup
	for p := range 3 {
		r := rand.New(rand.NewPCG(m.seed, 10+uint64(p)))
		publishers.Go(func() {
			for range m.beats {
				for range 1 + r.IntN(4) {
					m.publish(r, p)
				}
				if r.IntN(2) == 0 {
					m.s.rounds()
				}
			}
		})
	}
	for i := range actors {
		a := &actor{m: m, r: rand.New(rand.NewPCG(m.seed, 100+uint64(i))), name: fmt.Sprint("actor ", i)}
		if i%4 != 3 {
			a.user = strconv.Itoa(i % 3)
		}
		others.Go(func() {
			for range steps {
				a.step()
				select {
				case m.beats <- struct{}{}:
				default:
				}
			}
			if a.conn != nil {
				a.conn.settle()
			}
		})
	}
	admin := rand.New(rand.NewPCG(m.seed, 20))
	stop := make(chan struct{})
	var power sync.WaitGroup
	power.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-m.beats:
				m.exercisePower(admin)
			}
		}
	})
	others.Wait()
	close(stop)
	power.Wait()
	close(m.beats)
	publishers.Wait()
	if m.t.Failed() {
		return
	}
	m.rest()
	if !m.t.Failed() {
		m.verify()
	}
}

// publish sends a message from the program, or an old one once more.
func (m *model) publish(r *rand.Rand, p int) {
	m.mu.Lock()
	var msg *modelMessage
	if n := len(m.messages); n > 0 && r.IntN(8) == 0 {
		if old := m.messages[n-1-r.IntN(min(n, 8))]; old.id != "" && old.from == nil {
			msg = old
		}
	}
	if msg == nil {
		msg = &modelMessage{by: fmt.Sprint("publisher ", p)}
		for _, i := range r.Perm(len(modelChannels))[:1+r.IntN(3)] {
			msg.channels = append(msg.channels, modelChannels[i].name)
		}
		if r.IntN(3) == 0 {
			msg.exceptSockets = m.someSockets(r)
		}
		if r.IntN(4) == 0 {
			msg.exceptUsers = []string{strconv.Itoa(r.IntN(3))}
		}
		if r.IntN(3) == 0 {
			msg.id = fmt.Sprint("id-", len(m.messages))
		}
		m.add(msg, r)
	}
	m.mu.Unlock()
	m.send(msg)
}

// add gives a message its number and its time. Under mu.
func (m *model) add(msg *modelMessage, r *rand.Rand) {
	msg.n, msg.begun, msg.done = len(m.messages), m.tick(), never
	pad := ""
	switch r.IntN(50) {
	case 0:
		pad = strings.Repeat("y", 20_000)
	case 1, 2, 3:
		pad = strings.Repeat("x", r.IntN(1500))
	}
	msg.data = fmt.Sprintf(`{"n":%d,"pad":"%s"}`, msg.n, pad)
	m.messages = append(m.messages, msg)
}

// someSockets are connections to leave out, some of which may have ended. Under mu.
func (m *model) someSockets(r *rand.Rand) (ids []string) {
	for i := 1 + r.IntN(3); i > 0 && len(m.conns) > 1; i-- { // but never the witness
		ids = append(ids, m.conns[len(m.conns)-1-r.IntN(min(len(m.conns)-1, 16))].socket)
	}
	return ids
}

func (m *model) send(msg *modelMessage) {
	err := m.s.Send(context.Background(), &realtime.Message{
		ID: msg.id, Channels: msg.channels, Event: "E", Data: json.RawMessage(msg.data), ExceptSockets: msg.exceptSockets, ExceptUsers: msg.exceptUsers,
	})
	if err != nil {
		m.t.Errorf("Send: %v", err)
		return
	}
	m.mu.Lock()
	msg.done = min(msg.done, m.tick())
	m.mu.Unlock()
}

// exercisePower takes subscriptions back, and ends connections.
func (m *model) exercisePower(r *rand.Rand) {
	m.mu.Lock()
	c := m.conns[len(m.conns)-1-r.IntN(min(len(m.conns), 16))]
	m.mu.Unlock()
	ch := modelAsked[r.IntN(len(modelAsked))].name
	if c.name == "witness" {
		return
	}
	switch x := r.IntN(40); {
	case x < 4:
		m.s.RevokeSocket("", c.socket, ch, "taken")
	case x < 6 && c.user != "":
		m.s.Revoke("", c.user, ch, "taken")
	case x < 8:
		m.willDisconnect("", c.socket)
		m.s.DisconnectSocket("", c.socket, "bye")
	case x < 9 && c.user != "":
		m.willDisconnect(c.user, "")
		m.s.Disconnect("", c.user, "bye")
	}
}

func (m *model) willDisconnect(user, socket string) {
	m.mu.Lock()
	m.disconnects = append(m.disconnects, disconnect{user, socket})
	m.mu.Unlock()
}

// actor is a client that connects again and again.
type actor struct {
	m    *model
	r    *rand.Rand
	name string
	user string // empty: anonymous
	conn *modelConn
}

// connect opens a connection and reads its greeting; nil when that failed.
func (m *model) connect(name, user string, deflate bool) *modelConn {
	c := &modelConn{m: m, name: name, user: user, news: make(chan struct{}, 1), ended: make(chan struct{}), dialed: m.tick()}
	query := ""
	if user != "" {
		query = "?user=" + user
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	c.Conn, err = wsclient.Dial(ctx, m.s.url(query), &wsclient.Options{TLS: m.s.tls, Deflate: deflate, NetDial: func(ctx context.Context, network, addr string) (nc net.Conn, err error) {
		c.tcp, err = new(net.Dialer).DialContext(ctx, network, addr)
		return c.tcp, err
	}})
	if err != nil {
		m.t.Errorf("%s: %v", name, err)
		return nil
	}
	f, err := c.receive(ctx)
	var hello struct {
		SocketID string `json:"socket_id"`
	}
	if err == nil {
		err = json.Unmarshal(f.Data, &hello)
	}
	if err != nil || hello.SocketID == "" {
		m.t.Errorf("%s: the greeting is %v, %v", name, f, err)
		c.tcp.Close()
		return nil
	}
	c.socket = hello.SocketID
	m.mu.Lock()
	c.number = len(m.conns)
	m.conns = append(m.conns, c)
	m.mu.Unlock()
	m.t.Cleanup(func() {
		c.tcp.Close()
		<-c.ended
	})
	go func() {
		defer close(c.ended)
		for c.err == nil {
			_, c.err = c.receive(context.Background())
		}
	}()
	return c
}

// receive reads one frame into the history.
func (c *modelConn) receive(ctx context.Context) (*frame, error) {
	_, b, err := c.ReadMessage(ctx)
	if err != nil {
		return nil, err
	}
	f := new(frame)
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("%s: %w", b, err)
	}
	c.mu.Lock()
	e := entry{at: c.m.tick(), text: string(b), f: f}
	c.log = append(c.log, e)
	answer := f.ID > 0 && f.ID <= len(c.commands)
	if answer {
		c.commands[f.ID-1].answered = e.at
		c.answered++
	}
	c.mu.Unlock()
	if answer {
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
	return f, nil
}

// ask sends a command. more is the rest of its fields.
func (c *modelConn) ask(cmd *command, more string) {
	c.mu.Lock()
	c.commands = append(c.commands, cmd)
	cmd.id, cmd.answered = len(c.commands), never
	text := fmt.Sprintf(`{"event":"%s","id":%d`, cmd.event, cmd.id)
	if cmd.channel != "" {
		text += `,"channel":"` + cmd.channel + `"`
	}
	text += more + "}"
	cmd.at = c.m.tick()
	c.log = append(c.log, entry{at: cmd.at, sent: cmd, text: text})
	c.mu.Unlock()
	c.Write(context.Background(), ws.OpText, []byte(text)) // if it fails, so does the reader
}

// settle waits until every command is answered or the connection has ended, and reports whether it lives.
func (c *modelConn) settle() bool {
	for late := time.After(time.Minute); ; {
		c.mu.Lock()
		done := c.answered >= len(c.commands)
		c.mu.Unlock()
		if done {
			return c.alive()
		}
		select {
		case <-c.news:
		case <-c.ended:
			return false
		case <-late:
			c.mu.Lock()
			for _, cmd := range c.commands {
				if cmd.answered == never {
					c.fail(len(c.log)-1, cmd.channel, "%s with id %d is not answered", cmd.event, cmd.id)
					break
				}
			}
			c.mu.Unlock()
			return false
		}
	}
}

func (c *modelConn) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// memberID is who the connection is in a presence channel.
func (c *modelConn) memberID(ch *modelChannel) string {
	switch {
	case c.user != "":
		return c.user
	case ch.signed:
		return c.name
	}
	return "nobody"
}

// subscribe asks for a channel; more is about what was missed, and part of cmd.
func (c *modelConn) subscribe(ch *modelChannel, more string, cmd *command) {
	if cmd == nil {
		cmd = &command{}
	}
	cmd.event, cmd.channel = "subscribe", ch.name
	if ch.signed {
		data := ""
		if ch.presence {
			data = fmt.Sprintf(`{"user_id":%q,"user_info":{"v":%d}}`, c.memberID(ch), c.m.nonce.Add(1))
			more += `,"channel_data":` + quote(data)
		}
		more += `,"auth":"` + auth.SignChannel("k1", "s1", c.socket, ch.name, data) + `"`
	}
	c.ask(cmd, more)
}

// step does one thing.
func (a *actor) step() {
	if a.conn == nil || !a.conn.alive() {
		if was := a.conn; was != nil && a.r.IntN(4) > 0 { // comes back, to what it had
			if a.conn = a.m.connect(a.name, a.user, a.r.IntN(4) == 0); a.conn != nil {
				for i := range modelAsked {
					if ch := &modelAsked[i]; ch.history > 0 && a.r.IntN(2) == 0 {
						a.comeBack(ch, was)
					}
				}
			}
			return
		}
		a.conn = a.m.connect(a.name, a.user, a.r.IntN(4) == 0)
		return
	}
	c, ch := a.conn, &modelAsked[a.r.IntN(len(modelAsked))]
	switch x := a.r.IntN(100); {
	case x < 25:
		c.subscribe(ch, "", nil)
	case x < 35:
		a.comeBack(ch, c)
	case x < 50:
		c.ask(&command{event: "unsubscribe", channel: ch.name}, "")
	case x < 60:
		a.whisper(ch)
	case x < 68:
		if a.user != "" {
			a.publish(ch)
		}
	case x < 72:
		c.ask(&command{event: "ping"}, "")
	case x < 77:
		if ch.presence {
			c.ask(&command{event: "presence", channel: ch.name}, "")
		}
	case x < 80:
		a.drop(true)
	case x < 83:
		a.drop(false)
	default:
		c.settle()
	}
}

// comeBack subscribes from where was stopped reading, or to something like it.
func (a *actor) comeBack(ch *modelChannel, was *modelConn) {
	if ch.history == 0 {
		a.conn.subscribe(ch, "", nil)
		return
	}
	seq, epoch := was.position(ch.name)
	cmd := &command{}
	more := ""
	switch x := a.r.IntN(10); {
	case x == 0:
		cmd.rewind = 1 + a.r.IntN(20)
		more = fmt.Sprintf(`,"rewind":%d`, cmd.rewind)
	case epoch == "":
	default:
		cmd.since = &seq
		more = fmt.Sprintf(`,"since":%d`, seq)
		switch x {
		case 1:
		case 2:
			cmd.epoch = "zz"
		default:
			cmd.epoch = epoch
		}
		if cmd.epoch != "" {
			more += `,"epoch":"` + cmd.epoch + `"`
		}
	}
	a.conn.subscribe(ch, more, cmd)
}

// position is the last one the connection was told of; epoch is empty when there was none.
func (c *modelConn) position(channel string) (seq uint64, epoch string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.log) - 1; i >= 0; i-- {
		f := c.log[i].f
		if f == nil || f.Channel != channel {
			continue
		}
		if f.Seq > 0 {
			return f.Seq, f.Epoch
		}
		if f.Event == "subscription_succeeded" {
			var k ack
			json.Unmarshal(f.Data, &k)
			if cmd := c.commands[f.ID-1]; k.Recovered { // what it missed is still to come
				k.Seq = *cmd.since
			}
			return k.Seq, k.Epoch
		}
	}
	return 0, ""
}

func (a *actor) whisper(ch *modelChannel) {
	if !ch.whispers {
		return
	}
	a.m.mu.Lock()
	msg := &modelMessage{by: a.wire(ch), channels: []string{ch.name}, whisper: "client-w", from: a.conn}
	a.m.add(msg, a.r)
	a.m.mu.Unlock()
	a.conn.ask(&command{event: msg.whisper, channel: ch.name, message: msg}, `,"data":`+msg.data)
}

// wire is whose order a message from a client keeps: commands for different channels may overtake each other, while
// one waits for an authorizer.
func (a *actor) wire(ch *modelChannel) string {
	return fmt.Sprintf("connection %d on %s", a.conn.number, ch.name)
}

func (a *actor) publish(ch *modelChannel) {
	a.m.mu.Lock()
	msg := &modelMessage{by: a.wire(ch), channels: []string{ch.name}, from: a.conn}
	times := 1
	if a.r.IntN(3) == 0 {
		msg.id = fmt.Sprint("id-", len(a.m.messages))
		times += a.r.IntN(2)
	}
	if a.r.IntN(3) == 0 {
		msg.exceptSockets = append(a.m.someSockets(a.r), a.conn.socket)
	}
	a.m.add(msg, a.r)
	a.m.mu.Unlock()
	more := `,"name":"E","data":` + msg.data
	if msg.id != "" {
		more += `,"mid":"` + msg.id + `"`
	}
	if len(msg.exceptSockets) > 0 {
		more += `,"except":["` + strings.Join(msg.exceptSockets, `","`) + `"]`
	}
	for range times {
		a.conn.ask(&command{event: "publish", channel: ch.name, message: msg}, more)
	}
}

// drop ends the connection, in order or not.
func (a *actor) drop(clean bool) {
	c := a.conn
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	if clean {
		c.Write(context.Background(), ws.OpClose, []byte{1000 >> 8, 1000 & 255})
	} else {
		if tcp, ok := c.tcp.(*net.TCPConn); ok && a.r.IntN(2) == 0 {
			tcp.SetLinger(0)
		}
		c.tcp.Close()
	}
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		a.m.t.Errorf("connection %d is not closed", c.number)
		c.tcp.Close()
	}
}

// rest brings everything to rest, and lets every subscriber hear of it.
func (m *model) rest() {
	m.s.rounds() // who is to be disconnected has been
	m.s.rounds()
	alive := func() (cs []*modelConn) {
		for _, c := range m.conns {
			if c.alive() {
				cs = append(cs, c)
			}
		}
		return cs
	}
	eventually(m.t, "the server counts the connections that are left", func() bool { return m.s.entered() == len(alive()) })
	for range 2 {
		for i := range modelChannels {
			msg := &modelMessage{by: "the end", channels: []string{modelChannels[i].name}}
			m.add(msg, rand.New(rand.NewPCG(0, 0)))
			m.send(msg)
		}
	}
	// Two rounds: in the first, the answer may overtake what was posted to the loop while it read.
	for range 2 {
		for _, c := range alive() {
			c.ask(&command{event: "ping"}, "")
		}
		for _, c := range alive() {
			if !c.settle() {
				m.t.Errorf("connection %d has ended: %v", c.number, c.err)
			}
		}
	}
}

var padding = regexp.MustCompile("x{9,}|y{9,}")

// fail says what is wrong with entry at of a connection's history, and how it came to that.
func (c *modelConn) fail(at int, channel, format string, args ...any) {
	m := c.m
	m.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "REALTIME_SEED=%d, transport %s, %d loops: connection %d of %s (socket %s, user %q), entry %d, channel %s:\n%s\n\nThe connection's history of the channel, by logical time:\n",
		m.seed, m.transport, m.loops, c.number, c.name, c.socket, c.user, at, channel, fmt.Sprintf(format, args...))
	var lines []string
	for i := min(at+3, len(c.log)-1); i >= 0 && len(lines) < 25; i-- {
		e := c.log[i]
		about := ""
		switch {
		case e.sent != nil:
			about = e.sent.channel
		case e.f != nil:
			about = e.f.Channel
		}
		if about != channel && i != at && channel != "" {
			continue
		}
		mark := "<"
		if e.sent != nil {
			mark = ">"
		}
		if i == at {
			mark += " *"
		}
		lines = append(lines, fmt.Sprintf("%7d %3s %s", e.at, mark, padding.ReplaceAllString(e.text, "…")))
	}
	slices.Reverse(lines)
	b.WriteString(strings.Join(lines, "\n"))
	m.t.Error(b.String())
}

// list is all that happened on a channel, in order, as the witness was told.
type list struct {
	ch      *modelChannel
	first   string // the members at the beginning
	items   []item
	at      map[string]int // item by frame
	seqs    []int          // item of each message's position; seqs[0] is -1
	soonest []int64        // when the first of the items from each on was accepted
	latest  []int64        // when the last of the items up to each was begun
}

type item struct {
	text    string
	msg     *modelMessage // nil: a change of the members
	whisper bool
	seq     uint64 // of the last message up to here
	members string // after it
}

func (m *model) verify() {
	m.lists = map[string]*list{}
	for _, c := range m.conns { // what comes when the others go does not count
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, cmd := range c.commands { // what is not answered may have been accepted, or not
			if cmd.message != nil && cmd.answered < cmd.message.done && c.accepted(cmd) {
				cmd.message.done = cmd.answered
			}
		}
	}
	for i := range modelAsked {
		if ch := &modelAsked[i]; !ch.apart {
			if m.lists[ch.name] = m.witnessed(ch); m.t.Failed() {
				return
			}
		}
	}
	counts := map[string]int{}
	members := map[string]map[string]bool{}
	frames, resumed := 0, 0
	for _, c := range m.conns {
		k := &checker{c: c, m: m, runs: map[string]*stretch{}, last: map[string]place{}, answeredOn: map[string]int{}, taken: map[string]int64{}}
		if !k.check() {
			return
		}
		frames += len(c.log)
		resumed += k.resumed
		if !c.alive() {
			continue
		}
		for name, r := range k.runs {
			counts[name]++
			if r.ch.presence {
				if members[name] == nil {
					members[name] = map[string]bool{}
				}
				members[name][c.memberID(r.ch)] = true
				if got, want := show(m.s.Members("", name)), showMembers(r.members); got != want {
					c.fail(len(c.log)-1, name, "the server's members are %s, this client's %s", got, want)
					return
				}
			}
		}
	}
	for _, ch := range modelChannels {
		if got := m.s.Subscriptions("", ch.name); got != counts[ch.name] {
			m.t.Errorf("REALTIME_SEED=%d, transport %s, %d loops: %s has %d subscriptions, and the clients know of %d", m.seed, m.transport, m.loops, ch.name, got, counts[ch.name])
		}
		var ids []string
		for _, mb := range m.s.Members("", ch.name) {
			ids = append(ids, mb.ID)
		}
		slices.Sort(ids)
		if want := slices.Sorted(maps.Keys(members[ch.name])); !slices.Equal(ids, want) {
			m.t.Errorf("REALTIME_SEED=%d, transport %s, %d loops: %s has the members %q, and the clients are %q", m.seed, m.transport, m.loops, ch.name, ids, want)
		}
	}
	m.t.Logf("%d connections, %d messages, %d frames, %d subscriptions resumed", len(m.conns), len(m.messages), frames, resumed)
}

// accepted reports whether a command was answered with an acknowledgement.
func (c *modelConn) accepted(cmd *command) bool {
	i := slices.IndexFunc(c.log, func(e entry) bool { return e.f != nil && e.f.ID == cmd.id })
	return i >= 0 && c.log[i].f.Event == "ack"
}

func showMembers(ms []member) string {
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s=%s ", m.ID, m.Info)
	}
	return b.String()
}

func show(ms []Member) string {
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s=%s ", m.ID, m.Info)
	}
	return b.String()
}

// leftOut reports whether a message is not for the connection.
func (msg *modelMessage) leftOut(c *modelConn) bool {
	return msg.whisper != "" && msg.from == c || slices.Contains(msg.exceptSockets, c.socket) || c.user != "" && slices.Contains(msg.exceptUsers, c.user)
}

// message is the one a frame carries; nil for anything else.
func (m *model) message(f *frame) *modelMessage {
	var d struct{ N *int }
	if (f.Event == "E" || f.Event == "client-w") && json.Unmarshal(f.Data, &d) == nil && d.N != nil && *d.N < len(m.messages) {
		return m.messages[*d.N]
	}
	return nil
}

// text is the frame that carries a message; what only the server knows is from f.
func (msg *modelMessage) text(ch *modelChannel, f *frame, replayed bool) string {
	name := "E"
	if msg.whisper != "" {
		name = msg.whisper
	}
	b := fmt.Sprintf(`{"event":"%s","channel":"%s","data":%s`, name, ch.name, msg.data)
	if msg.whisper != "" && ch.presence {
		b += `,"user_id":"` + msg.from.memberID(ch) + `"`
	}
	if msg.whisper == "" && ch.history > 0 {
		b += fmt.Sprintf(`,"seq":%d,"epoch":"%s","ts":%d`, f.Seq, f.Epoch, f.TS)
	}
	if msg.id != "" {
		b += `,"mid":"` + msg.id + `"`
	}
	if replayed {
		b += `,"replayed":true`
	}
	return b + "}"
}

// witnessed reads a channel's list off the witness, which must have been told of everything, once and in an order
// that agrees with the times.
func (m *model) witnessed(ch *modelChannel) *list {
	c := m.conns[0]
	l := &list{ch: ch, at: map[string]int{}, seqs: []int{-1}}
	var members []member
	seen := map[*modelMessage]bool{}
	seq, epoch := uint64(0), ""
	for at, e := range c.log {
		if e.f == nil || e.f.Channel != ch.name || e.f.ID != 0 {
			if e.f != nil && e.f.Event == "subscription_succeeded" && e.f.Channel == ch.name {
				_, members, _ = readAck(e.f)
				l.first = showMembers(members)
			}
			continue
		}
		it := item{text: e.text}
		if it.msg = m.message(e.f); it.msg != nil {
			it.whisper = it.msg.whisper != ""
			if !it.whisper {
				seq++
				l.seqs = append(l.seqs, len(l.items))
			}
			if epoch == "" {
				epoch = e.f.Epoch
			}
			switch {
			case !slices.Contains(it.msg.channels, ch.name) || e.text != it.msg.text(ch, e.f, false):
				c.fail(at, ch.name, "this is not what was published: %v", it.msg)
			case seen[it.msg]:
				c.fail(at, ch.name, "message %d comes twice", it.msg.n)
			case ch.history > 0 && !it.whisper && (e.f.Seq != seq || e.f.Epoch != epoch):
				c.fail(at, ch.name, "this should be position %d in epoch %s", seq, epoch)
			}
			seen[it.msg] = true
		} else if why := change(&members, e.f); why != "" {
			c.fail(at, ch.name, "%s", why)
		}
		if m.t.Failed() {
			return nil
		}
		it.seq, it.members = seq, showMembers(members)
		l.at[e.text] = len(l.items)
		l.items = append(l.items, it)
	}
	for _, msg := range m.messages {
		if slices.Contains(msg.channels, ch.name) && msg.done != never && !seen[msg] {
			c.fail(len(c.log)-1, ch.name, "message %d was accepted and never came", msg.n)
			return nil
		}
	}
	l.soonest, l.latest = make([]int64, len(l.items)+1), make([]int64, len(l.items))
	l.soonest[len(l.items)] = never
	for i := len(l.items) - 1; i >= 0; i-- {
		l.soonest[i] = l.soonest[i+1]
		if msg := l.items[i].msg; msg != nil {
			l.soonest[i] = min(l.soonest[i], msg.done)
		}
	}
	latest := int64(0)
	for i, it := range l.items {
		if it.msg != nil {
			latest = max(latest, it.msg.begun)
			if l.soonest[i+1] < it.msg.begun {
				c.fail(len(c.log)-1, ch.name, "message %d came before one that had been accepted before it was sent", it.msg.n)
				return nil
			}
		}
		l.latest[i] = latest
	}
	return l
}

// members are those before item i.
func (l *list) members(i int) string {
	if i == 0 {
		return l.first
	}
	return l.items[i-1].members
}

// seq is the position before item i.
func (l *list) seq(i int) uint64 {
	if i == 0 {
		return 0
	}
	return l.items[i-1].seq
}

// change applies a frame to the members, and says why it cannot be.
func change(ms *[]member, f *frame) (why string) {
	var mb member
	if err := json.Unmarshal(f.Data, &mb); err != nil {
		return err.Error()
	}
	i := slices.IndexFunc(*ms, func(m member) bool { return m.ID == mb.ID })
	switch f.Event {
	case "member_added":
		if i >= 0 {
			return fmt.Sprintf("%s is added, and is a member already: %s", mb.ID, showMembers(*ms))
		}
		*ms = append(*ms, mb)
	case "member_updated":
		if i < 0 {
			return fmt.Sprintf("%s is updated, and is no member: %s", mb.ID, showMembers(*ms))
		}
		(*ms)[i] = mb
	case "member_removed":
		if i < 0 || string((*ms)[i].Info) != string(mb.Info) {
			return fmt.Sprintf("%s is removed, and is no such member: %s", mb.ID, showMembers(*ms))
		}
		*ms = slices.Delete(*ms, i, i+1)
	default:
		return "this event is unheard of"
	}
	return ""
}

// readAck reads a list of members, and what else an acknowledgement says.
func readAck(f *frame) (k ack, ms []member, err error) {
	if len(f.Data) > 0 {
		err = json.Unmarshal(f.Data, &k)
	}
	if p := k.Presence; err == nil && p != nil {
		for _, id := range p.IDs {
			if p.Hash[id].ID != id {
				err = fmt.Errorf("hash lacks %q", id)
			}
			ms = append(ms, p.Hash[id])
		}
		if p.Count != len(p.IDs) || p.Count != len(p.Hash) {
			err = errors.New("count, ids and hash do not agree")
		}
	}
	return k, ms, err
}

// checker walks through one connection's history.
type checker struct {
	c          *modelConn
	m          *model
	at         int
	runs       map[string]*stretch // of the channels it is subscribed to now
	last       map[string]place    // message, by publisher
	answeredOn map[string]int      // the last command's id, by channel
	taken      map[string]int64    // when a subscription was taken back last, by channel
	resumed    int
}

// place is where a message stands among its publisher's.
type place struct{ n, channel int }

// stretch is one subscription.
type stretch struct {
	ch      *modelChannel
	asked   int64
	acked   int64
	seq     uint64 // in the acknowledgement
	members []member
	update  *member // must be what comes next

	// where the witness knows the channel
	list   *list
	lo, hi int  // it began before an item from lo to hi
	missed bool // and there was nothing in the cache for it
	next   int  // item; -1 before the first one
	// where it does not
	got map[*modelMessage]bool
}

func (k *checker) fail(channel, format string, args ...any) bool {
	k.m.t.Helper()
	k.c.fail(k.at, channel, format, args...)
	return false
}

func (k *checker) check() bool {
	c := k.c
	if c.user != "" {
		for i, ch := range modelChannels {
			if ch.name == "#server-to-user-"+c.user {
				k.runs[ch.name] = &stretch{ch: &modelChannels[i], asked: c.dialed, acked: c.log[0].at, got: map[*modelMessage]bool{}}
			}
		}
	}
	for k.at = 1; k.at < len(c.log); k.at++ {
		e := &c.log[k.at]
		if e.sent != nil {
			continue
		}
		ok := false
		switch {
		case e.f.ID > 0:
			ok = k.answer(e)
		case e.f.Event == "unsubscribed":
			ok = k.revoked(e)
		case e.f.Event == "error":
			ok = k.lastWords(e)
		default:
			ok = k.event(e)
		}
		if !ok {
			return false
		}
	}
	k.at = len(c.log) - 1
	if !c.alive() {
		return k.end()
	}
	for _, r := range k.runs {
		if !k.complete(r) {
			return false
		}
	}
	return true
}

// end checks that the connection was meant to end.
func (k *checker) end() bool {
	c := k.c
	if c.leaving {
		return true
	}
	meant := slices.ContainsFunc(k.m.disconnects, func(d disconnect) bool {
		return d.socket == c.socket || d.user == c.user && d.user != ""
	})
	if ce, ok := errors.AsType[*ws.CloseError](c.err); !meant || !ok || ce.Code != 4009 || ce.Reason != "bye" {
		return k.fail("", "the connection ended: %v", c.err)
	}
	return true
}

func (k *checker) lastWords(e *entry) bool {
	if e.text != trouble("error", "", "", 4009, "AuthError", "bye", 403) {
		return k.fail(e.f.Channel, "an error that nobody can have caused")
	}
	for _, later := range k.c.log[k.at+1:] {
		if later.f != nil {
			return k.fail("", "after its end the connection is told %s", later.text)
		}
	}
	return true
}

func (k *checker) revoked(e *entry) bool {
	if want := `{"event":"unsubscribed","channel":"` + e.f.Channel + `","data":{"reason":"revoked","error":"taken"}}`; e.text != want || k.runs[e.f.Channel] == nil {
		return k.fail(e.f.Channel, "nothing was there to take back")
	}
	delete(k.runs, e.f.Channel)
	k.taken[e.f.Channel] = e.at
	return true
}

// answer checks the answer to a command.
func (k *checker) answer(e *entry) bool {
	c := k.c
	if e.f.ID > len(c.commands) || c.commands[e.f.ID-1].at > e.at {
		return k.fail(e.f.Channel, "the answer to nothing")
	}
	cmd := c.commands[e.f.ID-1]
	id := fmt.Sprintf(`"id":%d`, cmd.id)
	if cmd.answered != e.at {
		return k.fail(cmd.channel, "answered twice")
	}
	if cmd.channel != "" {
		if was := k.answeredOn[cmd.channel]; was > cmd.id {
			return k.fail(cmd.channel, "answered after command %d", was)
		}
		k.answeredOn[cmd.channel] = cmd.id
	}
	r := k.runs[cmd.channel]
	none := trouble("error", id, cmd.channel, 4301, "ValidationError", "subscribe to "+strconv.Quote(cmd.channel)+" to see its members", 409)
	switch cmd.event {
	case "ping":
		if e.text != `{"event":"pong",`+id+`}` {
			return k.fail("", "no answer to a ping")
		}
	case "unsubscribe":
		if e.text != `{"event":"unsubscribed",`+id+`,"channel":"`+cmd.channel+`"}` {
			return k.fail(cmd.channel, "no answer to unsubscribe")
		}
		delete(k.runs, cmd.channel)
	case "subscribe":
		if e.f.Event == "subscription_error" {
			return k.refused(e, cmd)
		}
		return k.subscribed(e, cmd)
	case "presence":
		if r == nil {
			if e.text != none {
				return k.fail(cmd.channel, "the answer should be %s", none)
			}
			return true
		}
		_, ms, err := readAck(e.f)
		if err != nil || showMembers(ms) != showMembers(r.members) {
			return k.fail(cmd.channel, "the members are %s, %v, and should be %s", showMembers(ms), err, showMembers(r.members))
		}
	case "client-w":
		want := `{"event":"ack",` + id + `}`
		if r == nil {
			want = trouble("error", id, cmd.channel, 4301, "ValidationError", "subscribe to "+strconv.Quote(cmd.channel)+" before sending client events to it", 409)
		}
		if e.text != want {
			return k.fail(cmd.channel, "the answer should be %s", want)
		}
	case "publish":
		return k.published(e, cmd)
	}
	return true
}

// refused checks the refusals there can be: the subscription was given up before its grant came, or taken back before
// its renewal was answered.
func (k *checker) refused(e *entry, cmd *command) bool {
	id := fmt.Sprintf(`"id":%d`, cmd.id)
	if e.text == trouble("subscription_error", id, cmd.channel, 4301, "ValidationError", "unsubscribed from "+strconv.Quote(cmd.channel)+" before the grant came", 409) {
		for _, later := range k.c.commands[cmd.id:] {
			if later.event == "unsubscribe" && later.channel == cmd.channel && later.at < e.at {
				return true
			}
		}
	}
	if e.text == trouble("subscription_error", id, cmd.channel, 4301, "ValidationError", "the subscription to "+strconv.Quote(cmd.channel)+" was taken back", 409) && k.taken[cmd.channel] > cmd.at {
		return true
	}
	return k.fail(cmd.channel, "a subscription is refused that should not be")
}

// published checks where a message was accepted.
func (k *checker) published(e *entry, cmd *command) bool {
	var at struct {
		Seq   uint64
		Epoch string
	}
	if e.f.Event != "ack" || len(e.f.Data) > 0 && json.Unmarshal(e.f.Data, &at) != nil {
		return k.fail(cmd.channel, "a message is refused that should not be")
	}
	if l := k.m.lists[cmd.channel]; l != nil {
		if at.Seq == 0 || at.Seq >= uint64(len(l.seqs)) || l.items[l.seqs[at.Seq]].msg != cmd.message {
			return k.fail(cmd.channel, "message %d is not at position %d", cmd.message.n, at.Seq)
		}
	}
	return true
}

// subscribed checks an acknowledgement, and the replay behind it.
func (k *checker) subscribed(e *entry, cmd *command) bool {
	c := k.c
	i := slices.IndexFunc(modelAsked, func(ch modelChannel) bool { return ch.name == cmd.channel })
	ch := &modelAsked[i]
	data, ms, err := readAck(e.f)
	me := c.memberID(ch)
	mine := slices.IndexFunc(ms, func(m member) bool { return m.ID == me })
	if err != nil || e.f.Channel != ch.name || ch.presence && (data.Me.ID != me || mine < 0) || !ch.presence && ms != nil || ch.history > 0 && data.Epoch == "" {
		return k.fail(ch.name, "this is no acknowledgement: %v", err)
	}
	if r := k.runs[ch.name]; r != nil {
		return k.again(r, &data, ms, me)
	}
	r := &stretch{ch: ch, asked: cmd.at, acked: e.at, seq: data.Seq, members: ms, list: k.m.lists[ch.name], next: -1, got: map[*modelMessage]bool{}}
	k.runs[ch.name] = r
	if r.list == nil {
		return true
	}
	// What was accepted before the subscription was sent is before it, and what was sent after its answer is behind.
	l := r.list
	for r.lo = 0; l.soonest[r.lo] < r.asked; r.lo++ {
	}
	for r.hi = 0; r.hi < len(l.items) && l.latest[r.hi] <= r.acked; r.hi++ {
	}
	var replay []int // items
	recovered := false
	if ch.history > 0 {
		s := int(data.Seq)
		if s >= len(l.seqs) {
			return k.fail(ch.name, "there are only %d messages", len(l.seqs)-1)
		}
		r.lo = max(r.lo, l.seqs[s]+1)
		if s+1 < len(l.seqs) {
			r.hi = min(r.hi, l.seqs[s+1])
		}
		kept := min(ch.history, s)
		n := 0
		switch {
		case cmd.since != nil && cmd.epoch != "zz" && int(*cmd.since) <= s:
			if n = s - int(*cmd.since); n <= kept {
				recovered = true
			} else if n = 0; cmd.epoch == "" {
				n = kept
			}
		case cmd.since == nil && cmd.rewind > 0:
			n = min(cmd.rewind, kept)
		}
		replay = l.seqs[s+1-n : s+1]
	}
	if data.Recovered != recovered {
		return k.fail(ch.name, "recovered is %v", data.Recovered)
	}
	if recovered {
		k.resumed++
	}
	if ch.cache {
		// The one that is replayed is the last one, and tells where the subscription begins.
		if next := k.following(); next != nil && next.f.Channel == ch.name && next.f.Replayed {
			j, ok := l.at[strings.TrimSuffix(next.text, `,"replayed":true}`)+"}"]
			if !ok {
				return k.fail(ch.name, "what is replayed was never sent: %.200s", next.text)
			}
			replay = []int{j}
			r.lo, r.hi = max(r.lo, j+1), min(r.hi, j+1)
		} else if next != nil {
			r.missed = true
			for r.hi >= r.lo && r.hi > 0 && !l.items[r.hi-1].msg.leftOut(c) {
				r.hi--
			}
		}
	}
	if r.lo > r.hi {
		return k.fail(ch.name, "the subscription begins before item %d and after item %d", r.hi, r.lo)
	}
	for _, j := range replay {
		if l.items[j].msg.leftOut(c) {
			continue
		}
		want := strings.TrimSuffix(l.items[j].text, "}") + `,"replayed":true}`
		next := k.following()
		if next == nil && !c.alive() {
			return true
		}
		if next == nil || next.text != want {
			return k.fail(ch.name, "after this should come the replay of %s", want)
		}
		for k.at++; &c.log[k.at] != next; k.at++ {
		}
	}
	return true
}

// following is the next that was received; nil when there is nothing.
func (k *checker) following() *entry {
	for i := k.at + 1; i < len(k.c.log); i++ {
		if e := &k.c.log[i]; e.f != nil {
			return e
		}
	}
	return nil
}

// again checks the answer to a subscription to what is subscribed to already: it fits in where it comes.
func (k *checker) again(r *stretch, data *ack, ms []member, me string) bool {
	if r.update != nil {
		return k.fail(r.ch.name, "before this %s should be updated", me)
	}
	if data.Recovered {
		return k.fail(r.ch.name, "nothing can have been recovered")
	}
	if r.ch.presence {
		i := slices.IndexFunc(ms, func(m member) bool { return m.ID == me })
		j := slices.IndexFunc(r.members, func(m member) bool { return m.ID == me })
		if j >= 0 && string(r.members[j].Info) != string(ms[i].Info) {
			r.update = &ms[i]
			r.members = slices.Clone(r.members)
			r.members[j] = ms[i]
		}
		if showMembers(ms) != showMembers(r.members) {
			return k.fail(r.ch.name, "the members are %s, and should be %s", showMembers(ms), showMembers(r.members))
		}
	}
	if r.ch.history > 0 {
		now := r.seq
		if r.next >= 0 {
			now = max(now, r.list.seq(r.next))
		}
		if data.Seq < now || data.Seq >= uint64(len(r.list.seqs)) {
			return k.fail(r.ch.name, "position %d, after position %d", data.Seq, now)
		}
		for s := now + 1; s <= data.Seq; s++ {
			if it := r.list.items[r.list.seqs[s]]; !it.msg.leftOut(k.c) {
				return k.fail(r.ch.name, "position %d, and message %d at position %d has not come", data.Seq, it.msg.n, s)
			}
		}
	}
	return true
}

// event checks what came by itself.
func (k *checker) event(e *entry) bool {
	c, f := k.c, e.f
	r := k.runs[f.Channel]
	if r == nil {
		return k.fail(f.Channel, "the connection is not subscribed to this")
	}
	msg := k.m.message(f)
	if msg != nil {
		if msg.leftOut(c) {
			return k.fail(f.Channel, "message %d is not for this connection", msg.n)
		}
		at := place{msg.n, slices.Index(msg.channels, f.Channel)}
		if was, ok := k.last[msg.by]; ok && (was.n > at.n || was.n == at.n && was.channel >= at.channel) {
			return k.fail(f.Channel, "message %d of %s comes after its message %d", at.n, msg.by, was.n)
		}
		k.last[msg.by] = at
	}
	if r.list != nil {
		i, ok := r.list.at[e.text]
		if !ok {
			return k.fail(f.Channel, "the witness was not told of this")
		}
		if !k.place(r, i) {
			return false
		}
	}
	switch u := r.update; {
	case u != nil:
		if want := fmt.Sprintf(`{"event":"member_updated","channel":"%s","data":{"id":"%s","info":%s}}`, f.Channel, u.ID, u.Info); e.text != want {
			return k.fail(f.Channel, "this should be %s", want)
		}
		r.update = nil
	case msg == nil:
		if why := change(&r.members, f); why != "" {
			return k.fail(f.Channel, "%s", why)
		}
	case r.list != nil:
	case !slices.Contains(msg.channels, f.Channel) || e.text != msg.text(r.ch, f, false):
		return k.fail(f.Channel, "this is not what was published")
	case msg.done < r.asked:
		return k.fail(f.Channel, "message %d was accepted before the subscription", msg.n)
	case r.got[msg]:
		return k.fail(f.Channel, "message %d comes twice", msg.n)
	default:
		r.got[msg] = true
	}
	return true
}

// place checks that item i is the next one for the connection; the number of all items stands for the end.
func (k *checker) place(r *stretch, i int) bool {
	l := r.list
	from := r.next
	if from < 0 {
		if from = min(i, r.hi); from < r.lo {
			return k.fail(r.ch.name, "this is item %d, and the subscription began after item %d", i, r.lo-1)
		}
		if r.missed && from > 0 && !l.items[from-1].msg.leftOut(k.c) {
			return k.fail(r.ch.name, "there was a message in the cache for this subscription: %.200s", l.items[from-1].text)
		}
		want := l.members(i)
		if r.update != nil && i < len(l.items) {
			want = l.items[i].members
		}
		if got := showMembers(r.members); got != want {
			return k.fail(r.ch.name, "the members before this are %s, and the acknowledgement brought %s", want, got)
		}
	}
	if i < from {
		return k.fail(r.ch.name, "this is item %d, and item %d is the next", i, from)
	}
	for j := from; j < i; j++ {
		if it := l.items[j]; it.msg == nil || !it.msg.leftOut(k.c) {
			return k.fail(r.ch.name, "before this lacks item %d: %.200s", j, it.text)
		}
	}
	r.next = i + 1
	return true
}

// complete checks that nothing is missing at the end of a subscription that lasts.
func (k *checker) complete(r *stretch) bool {
	if r.update != nil {
		return k.fail(r.ch.name, "the update of %s never came", r.update.ID)
	}
	if r.list != nil {
		return k.place(r, len(r.list.items))
	}
	for _, msg := range k.m.messages {
		if slices.Contains(msg.channels, r.ch.name) && msg.begun > r.acked && msg.done != never && !msg.leftOut(k.c) && !r.got[msg] {
			return k.fail(r.ch.name, "message %d, sent after the acknowledgement, never came", msg.n)
		}
	}
	return true
}

// checkHooks checks, after the server has ended, that everything the application was told of began and ended in turn.
func (m *model) checkHooks() {
	if n := m.s.hub.Stats().HooksDropped.Load(); n > 0 {
		m.t.Errorf("%d hooks were dropped", n)
	}
	on := map[string]bool{}
	turn := func(i int, what string, begins bool) {
		if on[what] == begins {
			m.t.Fatalf("REALTIME_SEED=%d, transport %s, %d loops: hook %d: %v, while %q is %v", m.seed, m.transport, m.loops, i, m.hooks[i], what, on[what])
		}
		on[what] = begins
	}
	told := map[EventKind]int{}
	for i, e := range m.hooks {
		told[e.Kind]++
		socket := "connection " + e.Client.SocketID
		within := "" // what must have begun, and not ended
		switch e.Kind {
		case Connected, Disconnected:
			turn(i, socket, e.Kind == Connected)
		case Subscribed, Unsubscribed:
			within = socket
			turn(i, socket+" on "+e.Channel, e.Kind == Subscribed)
		case Refused, Identified, Whispered:
			within = socket
		case ChannelOccupied, ChannelVacated:
			turn(i, e.Channel, e.Kind == ChannelOccupied)
		case MemberAdded, MemberRemoved:
			within = e.Channel
			turn(i, "member "+e.UserID+" of "+e.Channel, e.Kind == MemberAdded)
		}
		if within != "" && !on[within] {
			m.t.Fatalf("REALTIME_SEED=%d, transport %s, %d loops: hook %d: %v, without %q", m.seed, m.transport, m.loops, i, e, within)
		}
	}
	for what, is := range on {
		if is && !strings.Contains(what, " on ") { // a subscription may end with its connection
			m.t.Errorf("REALTIME_SEED=%d, transport %s, %d loops: %q has never ended", m.seed, m.transport, m.loops, what)
		}
	}
	if told[Connected] != len(m.conns) || told[Connected] != told[Disconnected] {
		m.t.Errorf("%d connections were made, and the hook was told of %d and of the end of %d", len(m.conns), told[Connected], told[Disconnected])
	}
}
