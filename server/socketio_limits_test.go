package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
	io "github.com/stacksjs/realtime-go/socketio"
)

// clocked serves cfg with a clock that the test moves.
func clocked(t *testing.T, tr transport, cfg Config) *live {
	clk := newClock(time.Now())
	cfg.now = clk.now
	s := startOn(t, tr, cfg)
	s.clock = clk
	return s
}

// late is by how much the loops may be late, for which their wheel has ticks.
const late = 200 * time.Millisecond

// pass moves the clock by d.
func (s *live) pass(d time.Duration) { s.at(s.clock.now().Add(d)) }

const holder = `{"_placeholder":true,"num":0}`

func TestAttachmentsThatDoNotFit(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets func(p *sioPeer)
		why     string
	}{
		{"one out of turn", func(p *sioPeer) { p.blobs("x") }, "an attachment of nothing"},
		{"one too many", func(p *sioPeer) { p.say(`451-["any",` + holder + `]`); p.blobs("x", "y") }, "an attachment of nothing"},
		{"text before it", func(p *sioPeer) { p.say(`451-["any",`+holder+`]`, `42["any"]`) }, "a packet, though attachments of the one before are missing"},
		{"eleven of them", func(p *sioPeer) { p.say(`4511-["any"]`) }, "attachments of a BINARY_EVENT: more than 10"},
		{"a million of them", func(p *sioPeer) { p.say(`451000000-["any"]`) }, "attachments of a BINARY_EVENT: more than 10"},
		{"more placeholders", func(p *sioPeer) { p.say(`451-["any",` + holder + `,` + holder + `]`) }, "placeholder 0 stands twice"},
		{"fewer placeholders", func(p *sioPeer) { p.say(`452-["any",` + holder + `]`) }, "2 attachments, but 1 placeholders"},
		{"a number that there is not", func(p *sioPeer) { p.say(`451-["any",{"_placeholder":true,"num":1}]`) }, "placeholder 1, but there are 1 attachments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Config{})
			p := s.dialSIO("")
			c.packets(p)
			for {
				op, b, err := p.read()
				if err != nil {
					t.Fatalf("no close frame: %v", err)
				}
				if op == ws.OpClose {
					if got := fmt.Sprint(closeCode(b), " ", string(b[2:])); got != "1008 "+c.why {
						t.Errorf("it is closed with %s, and should be with 1008 %s", got, c.why)
					}
					break
				}
				if !strings.HasPrefix(string(b), `42["channel_error"`) { // an event that nobody handles
					t.Errorf("packet %s", b)
				}
			}
			eventually(t, "the connection is gone", func() bool { return s.entered() == 0 })
		})
	}
}

func TestAttachmentsThatNeverCome(t *testing.T) {
	s := clocked(t, loops, Config{Loops: 1})
	p, q := s.dialSIO(""), s.dialPoller("")
	p.say(`452-["any",` + holder + `,{"_placeholder":true,"num":1}]`)
	p.blobs("x")
	q.say(`451-["any",` + holder + `]`)
	s.rounds()
	s.pass(25*time.Second + late) // the heartbeat
	p.want("2")
	q.want("2")
	p.say("3")
	q.say("3")
	s.rounds()
	s.pass(19 * time.Second)
	s.rounds()
	if n := s.entered(); n != 2 {
		t.Fatalf("%d connections are left after 44.2 s, and should be 2", n)
	}
	s.pass(time.Second)
	p.wantClose(1008, "the attachments of a packet did not come")
	q.wantGone()
	eventually(t, "nobody is counted", func() bool { return s.entered() == 0 })
}

func TestNamespacesThatThereAreNotCostNothing(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	s := start(t, Config{Loops: 1})
	p := s.dialSIO("")
	// Long names, and packets much longer than the names: neither may stay.
	name := func(i int) string { return fmt.Sprintf("/%d-%s", i, strings.Repeat("n", 100)) }
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			p.say("40" + name(i) + `,{"pad":"` + strings.Repeat("x", 4000) + `"}`)
			p.want("44" + name(i) + `,{"message":"Invalid namespace"}`)
		}
	}
	ask(0, 100)
	before := liveHeap()
	ask(100, n)
	if grown := liveHeap() - before; grown > 1<<20 {
		t.Errorf("%d namespaces that there are not hold %d bytes", n-100, grown)
	}
	p.quiet()
}

func TestNamespacesByPatternAreLimitedAndLeaveNothing(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	say.NamespaceFunc(func(name string) bool { return strings.HasPrefix(name, "/d-") })
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	p := s.dialSIO("")
	for i := 1; i < 100; i++ {
		p.enter(fmt.Sprintf("/d-%d", i), "")
	}
	const full = `{"message":"this connection is in 100 namespaces, which is the limit"}`
	p.say("40/d-x,")
	p.want("44/d-x," + full)
	p.quiet()
	p.say("41/d-1,", "40/d-1,{}") // which makes room for one
	if got := p.next(); !welcomed.MatchString(got) {
		t.Fatalf("entering again is answered with %s", got)
	}
	p.say("40/d-x,")
	p.want("44/d-x," + full)

	n := 5000
	if testing.Short() {
		n = 1000
	}
	p.say("41/d-1,")
	visit := func(from, to int) {
		for i := from; i < to; i++ {
			nsp := fmt.Sprintf("/d-%d-%s", i, strings.Repeat("n", 100))
			p.enter(nsp, `{"pad":"`+strings.Repeat("x", 4000)+`"}`)
			p.say("41" + nsp + ",")
		}
		p.quiet()
	}
	visit(0, 100)
	settled()
	before := liveHeap()
	visit(100, n)
	eventually(t, "the namespaces are forgotten", func() bool { return liveHeap()-before < 1<<20 })
}

// slowBody is a request whose body does not end.
func (p *sioPoller) slowBody(length int, body string) *raw {
	c := p.s.connect()
	c.write(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", p.url[strings.Index(p.url, "/socket.io"):], length, body))
	return c
}

func TestABodyThatNeverEnds(t *testing.T) {
	for _, tr := range []transport{loops, mounted} {
		t.Run(string(tr), func(t *testing.T) {
			s := startOn(t, tr, Config{Limits: Limits{Handshake: time.Second}})
			before := settled()
			p := s.dialPoller("")
			c := p.slowBody(1000, `42["any"]`)
			if status, _, body := c.response(); status != http.StatusRequestTimeout || body != "the body did not arrive in time\n" {
				t.Errorf("a body that does not come is answered with %d %q", status, body)
			}
			c.Close()
			// And one that is too long, of which net/http would read the rest.
			q := s.dialPoller("")
			c = q.slowBody(1_000_100, strings.Repeat("4", 1_000_001))
			if status, _, body := c.response(); status != http.StatusRequestEntityTooLarge || body != "the body is longer than maxPayload, which is 1000000 bytes\n" {
				t.Errorf("a body that is too long is answered with %d %q", status, body)
			}
			c.Close()
			p.wantGone()
			q.quiet() // which is not over
			q.say("1")
			q.wantGone()
			p.web.CloseIdleConnections()
			q.web.CloseIdleConnections()
			heldAgain(t, before)
		})
	}
}

func TestTwoRequestsAtOnce(t *testing.T) {
	for _, tr := range []transport{loops, overTLS} {
		t.Run(string(tr), func(t *testing.T) {
			s := startOn(t, tr, Config{})
			// Two GETs: the one that waits is ended, the other refused, and the session over.
			p := s.dialPoller("")
			one, two := p.getting(t.Context()), p.getting(t.Context())
			const ended, refused = "200 1", `400 {"code":3,"message":"Bad request"}`
			if a, b := <-one, <-two; min(a, b) != ended || max(a, b) != refused {
				t.Errorf("two GETs are answered with %s and %s", a, b)
			}
			p.wantGone()
			// Two POSTs: the same.
			q := s.dialPoller("")
			c := q.slowBody(100, `42["any"]`)
			eventually(t, "the second POST is refused", func() bool {
				status, _ := q.post(`42["any"]`)
				return status == http.StatusBadRequest
			})
			q.wantGone()
			c.Close()
			eventually(t, "nobody is counted", func() bool { return s.entered() == 0 })
		})
	}
}

// giveUp makes a request for what is to be said, and goes away.
func (p *sioPoller) giveUp() {
	c := p.s.connect()
	c.write([]byte("GET " + p.url[strings.Index(p.url, "/socket.io"):] + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.Close()
}

func TestAClientComesBackAfterARequestThatIsGivenUp(t *testing.T) {
	s := start(t, Config{Loops: 1})
	p := s.dialPoller("")
	p.say(`42["subscribe","news"]`)
	p.want(`42["subscription_succeeded",{"channel":"news"}]`)
	s.send(event("news", `1`))
	m := withOffset(`42["E",{"event":"E","channel":"news","data":1}]`).FindStringSubmatch(p.next())
	if m == nil {
		t.Fatal("the event has no offset")
	}
	p.giveUp()
	eventually(t, "the session is over", func() bool { return s.entered() == 0 })
	p.wantGone()
	s.send(event("news", `2`))
	q := s.openPoller("")
	if id := q.enter("/", `{"pid":"`+p.pid+`","offset":"`+m[1]+`"}`); id != p.SocketID {
		t.Fatalf("it comes back as %s, and was %s", id, p.SocketID)
	}
	if got := q.next(); !withOffset(`42["E",{"event":"E","channel":"news","data":2}]`).MatchString(got) {
		t.Errorf("what was missed is %s", got)
	}
	q.quiet()
}

// A response that nobody reads ends the session: what is in it is lost. writer stands for such a client.
type writer struct {
	http.ResponseWriter
	header   http.Header
	deadline time.Time
	broken   bool // Flush fails
	log      []string
}

func (w *writer) Header() http.Header { return w.header }
func (w *writer) WriteHeader(int)     {}
func (w *writer) Write(b []byte) (int, error) {
	w.log = append(w.log, fmt.Sprintf("write %v", !w.deadline.IsZero()))
	return len(b), nil
}
func (w *writer) SetWriteDeadline(d time.Time) error { w.deadline = d; return nil }
func (w *writer) SetReadDeadline(time.Time) error    { return nil }
func (w *writer) FlushError() error {
	w.log = append(w.log, fmt.Sprintf("flush %v", !w.deadline.IsZero()))
	if w.broken {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func TestAResponseThatIsNotReadEndsTheSession(t *testing.T) {
	s := start(t, Config{})
	p := s.dialPoller("")
	path := p.url[strings.Index(p.url, "/socket.io"):]
	ask := func(method, body string, w *writer) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		w.header = http.Header{}
		s.ServeHTTP(w, r)
		if got := strings.Join(w.log, ", "); got != "write true, flush true" || !w.deadline.IsZero() {
			t.Errorf("%s: with a deadline there is %s, and %v is left of it", method, got, w.deadline)
		}
	}
	ask("POST", `420["unsubscribe","a"]`, &writer{})
	ask("GET", "", &writer{})
	p.say(`420["unsubscribe","a"]`)
	ask("GET", "", &writer{broken: true})
	p.wantGone()
}

func TestSlowReadersOfSocketIO(t *testing.T) {
	const queued = 1 << 20
	data := `"` + strings.Repeat("x", 16<<10) + `"`
	t.Run("a WebSocket that is not read", func(t *testing.T) {
		s := start(t, Config{Loops: 1, Limits: Limits{QueuedBytes: queued}})
		p := s.dialSIO("")
		p.subscribe("news")
		for i := 0; s.entered() > 0; i++ {
			if i > 5000 {
				t.Fatalf("it is not cut off after %d messages", i)
			}
			s.send(event("news", data))
		}
		for {
			op, b, err := p.read()
			if err != nil {
				t.Fatalf("no close frame: %v", err)
			}
			if op == ws.OpClose {
				if got, want := string(b), fmt.Sprintf("\x10\x04this connection reads too slowly: more than %d bytes waited for it", queued); got != want {
					t.Errorf("the close frame is %q, and should be %q", got, want)
				}
				break
			}
		}
	})
	t.Run("a session that does not ask", func(t *testing.T) {
		s := start(t, Config{Loops: 1, Limits: Limits{QueuedBytes: queued}, SocketIO: SocketIOConfig{Recovery: -1}})
		p := s.dialPoller("")
		p.say(`42["subscribe","news"]`)
		p.want(`42["subscription_succeeded",{"channel":"news"}]`)
		n := 0
		for ; s.entered() > 0; n++ {
			if n > 5000 {
				t.Fatalf("it is not cut off after %d messages", n)
			}
			s.send(event("news", data))
			s.rounds()
		}
		if most := queued/len(data) + 2; n > most {
			t.Errorf("it is cut off after %d messages, and should be after %d", n, most)
		}
		p.wantGone()
	})
}

func TestASessionThatNobodyAsksForEnds(t *testing.T) {
	s := clocked(t, loops, Config{Loops: 2, SocketIO: SocketIOConfig{Recovery: -1}})
	before := settled()
	for range 100 {
		s.dialPoller("").web.CloseIdleConnections()
		s.openPoller("").web.CloseIdleConnections()
	}
	s.pass(26 * time.Second) // half of them are in no namespace
	s.pass(19*time.Second + late)
	s.rounds()
	if n := s.entered(); n != 100 {
		t.Errorf("%d sessions are left after 45 s, and should be 100", n)
	}
	s.pass(2 * time.Second)
	eventually(t, "no session is left", func() bool { return s.entered() == 0 && s.open() == 0 })
	heldAgain(t, before)
}

// Garbage costs the session that brings it, and nothing else.
func TestGarbageEndsASession(t *testing.T) {
	garbage := []string{
		"", "x", "7", "9", "\x00", "0", "0{}", "2", "2probe", "5", "6x4", "4", "47", "4a", "4-1", "45", "45-", "45x-[]", "451", "451-", "451-x", "451-{}", "451-[]",
		"46", "461-", "461-[]", "4599999999999999999999-[]", "42", "42{}", "42[]", "42[null]", "42[{}]", "42[true]", "42[[]]", "42[\"a\"", "42[\"a\"]]", "42[\"a\",]", "42[\"\xff\"]", "42[\"\\u12\"]",
		`42["connect"]`, `42["connect_error"]`, `42["disconnect"]`, `42["disconnecting"]`, `42["newListener"]`, `42["removeListener"]`,
		`42-1["a"]`, `421.5["a"]`, `4299999999999999999999["a"]`, "43[]", "431", "431{}", "43x[]", "430[", "40", "40{", "40[]", `40"x"`, "401", "40/x", "41{}", "41[]", "411", "41/x,", "44", "44{}", `44{"message":"x"}`,
		"42/x,[\"a\"]", "42/x[\"a\"]", `{"event":"subscribe","channel":"a"}`, `{"event":"pusher:subscribe","data":{"channel":"a"}}`, "GET / HTTP/1.1\r\n\r\n", "ping",
		"42[" + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "]", strings.Repeat("4", 100_000),
	}
	// These end nothing: a namespace that there is not is refused, and a noop is one.
	fine := map[string]string{"40/x": `44/x,{"message":"Invalid namespace"}`, "6x4": ""}
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Loops: 1})
		q := s.dialSIO("")
		for _, g := range garbage {
			p := s.dialSIO("")
			p.say(g)
			want, isFine := fine[g]
			switch {
			case isFine && want != "":
				p.want(want)
			case isFine:
				p.quiet()
			default:
				op, b, err := p.read()
				if code := closeCode(b); err != nil || op != ws.OpClose || code != 1008 && !(code == 1007 && strings.Contains(g, "\xff")) {
					t.Errorf("%.60q is answered with %d %.100q, %v", g, op, b, err)
				}
			}
			r := s.dialPoller("")
			status, body := r.post(g)
			if _, isFine := fine[g]; isFine {
				if status != http.StatusOK {
					t.Errorf("%.60q is answered with %d %s", g, status, body)
				}
				r.quietBut(want)
				continue
			}
			r.wantGone()
		}
		for _, g := range []string{"b", "bAQ", "b!!!!", "bAQID\x1ebAQID", "b====", "4\x1e", "\x1e4", "\x1e", "42[\"a\"]\x1e\x1e42[\"a\"]", "\xff", "\xc0\x80"} {
			r := s.dialPoller("")
			r.post(g)
			r.wantGone()
		}
		q.quiet()
	})
}

func (p *sioPoller) quietBut(packet string) {
	p.t.Helper()
	if packet != "" {
		p.want(packet)
	}
	p.quiet()
}

func closeCode(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return int(b[0])<<8 | int(b[1])
}

func TestRequestsThatAreNoneOfTheProtocols(t *testing.T) {
	s := start(t, Config{})
	for target, want := range map[string]string{
		"/socket.io/":                           `{"code":0,"message":"Transport unknown"}`,
		"/socket.io":                            `{"code":0,"message":"Transport unknown"}`,
		"/socket.io/?EIO=4":                     `{"code":0,"message":"Transport unknown"}`,
		"/socket.io/?EIO=4&transport=x":         `{"code":0,"message":"Transport unknown"}`,
		"/socket.io/?EIO=5&transport=websocket": `{"code":5,"message":"Unsupported protocol version"}`,
		"/socket.io/?EIO=3&transport=websocket": `{"code":5,"message":"Unsupported protocol version: this server speaks EIO=4, and EIO=3 (socket.io-client 2) is switched off"}`,
		overWebSocket + "&sid=x":                `{"code":1,"message":"Session ID unknown"}`,
		overWebSocket + "&sid=00000000-ABCDEFGHIJKLMNOPQRSTUVWXYZ": `{"code":1,"message":"Session ID unknown: it is of node 00000000, and this is ` + s.socketio.Node() + `; polling needs every request of a session at the same node"}`,
		"/socket.io/?EIO=4&transport=polling":                      `{"code":3,"message":"Bad request"}`, // with an upgrade
	} {
		c := s.connect()
		c.write(append([]byte(upgradeRequest(target)), masked(ws.OpText, `{"event":"subscribe","channel":"a"}`)...))
		if status, _, body := c.response(); status != http.StatusBadRequest || body != want {
			t.Errorf("%s is answered with %d %s, and should be with %s", target, status, body, want)
		}
	}
	// A client of the plain protocol that found the way in.
	c := s.upgraded(overWebSocket, masked(ws.OpText, `{"event":"subscribe","channel":"a"}`)...)
	if op, b, err := c.read(); err != nil || op != ws.OpText || b[0] != '0' {
		t.Fatalf("the session begins with %d %q, %v", op, b, err)
	}
	c.wantClose(1008, `a packet of type "{"`)
}

func TestAuthIsLimited(t *testing.T) {
	s := start(t, Config{})
	p := s.openSIO("")
	p.say(`40{"more":"` + strings.Repeat("x", 16<<10-10) + `"}`)
	p.want(`44{"message":"auth has 16385 bytes, and may have 16384"}`)
	if p.enter("/", `{"more":"`+strings.Repeat("x", 16<<10-11)+`"}`) == "" {
		t.Error("it is not let in")
	}
}

// A <script> says no origin: with JSONP any page could read what the list of origins keeps from it.
func TestJSONPIsRefused(t *testing.T) {
	s := start(t, Config{SocketIO: SocketIOConfig{EIO3: true}})
	c := s.connect()
	c.write([]byte("GET /socket.io/?EIO=3&transport=polling&j=0 HTTP/1.1\r\nHost: x\r\n\r\n"))
	const want = `{"code":3,"message":"Bad request: JSONP is not served, because any page could read it, whatever its origin; leave forceJSONP out"}`
	if status, _, body := c.response(); status != http.StatusBadRequest || body != want {
		t.Errorf("JSONP is answered with %d %s, and should be with %s", status, body, want)
	}
}

func TestManyClientsThatAreRefusedLeaveNothing(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 300
	}
	say := io.New(io.Options{Logger: quiet()})
	var in atomic.Int32
	say.Namespace("/no").OnConnect(func(context.Context, *io.Socket) error {
		in.Add(1)
		return &io.Error{Message: "no", Data: 1}
	})
	s := start(t, Config{IO: say, Loops: 1})
	p := s.dialSIO("")
	for range n {
		p.say("40/no,")
		p.want(`44/no,{"message":"no","data":1}`)
	}
	if int(in.Load()) != n {
		t.Errorf("%d were asked about, not %d", in.Load(), n)
	}
	p.quiet()
	sockets, err := say.Of("/no").Sockets(t.Context())
	if err != nil || len(sockets) != 0 {
		t.Errorf("%d sockets are left, %v", len(sockets), err)
	}
}

// A POST whose packets wait behind the program is given up: they are taken all the same, and nothing takes their place.
func TestAPostThatIsGivenUpWhileItsPacketsWait(t *testing.T) {
	const n = 200 // more than may wait
	open := make(chan struct{})
	heard := make(chan int, n+1)
	say := io.New(io.Options{Logger: quiet()})
	begun := make(chan struct{}, 2*n)
	io.On(say.Namespace("/"), "e", func(_ context.Context, s *io.Socket, i int) (struct{}, error) {
		begun <- struct{}{}
		<-open
		if s.Handshake().Query.Get("who") == "p" {
			heard <- i
		}
		return struct{}{}, nil
	})
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	p := s.dialPoller("&who=p")
	var packets []string
	for i := range n {
		packets = append(packets, fmt.Sprintf(`42["e",%d]`, i))
	}
	body := strings.Join(packets, "\x1e")
	p.slowBody(len(body), body).Close()
	q := s.dialPoller("") // the same, and another POST meanwhile: that is one too many
	q.slowBody(len(body), body).Close()
	<-begun
	<-begun
	if status, answer := q.post(`42["e",0]`); status != http.StatusBadRequest || answer != `{"code":3,"message":"Bad request"}` {
		t.Errorf("the next POST is answered with %d %s", status, answer)
	}
	q.wantGone()
	// The WebSocket that the session gets meanwhile comes behind them.
	c := p.probe()
	p.want("6")
	c.say("5", fmt.Sprintf(`427["e",%d]`, n))
	s.rounds()
	close(open)
	c.want("437[]")
	for i := range n + 1 {
		if got := <-heard; got != i {
			t.Fatalf("event %d is %d", i, got)
		}
	}
}

// What a program sends a client before it lets it in waits; not without end.
func TestEventsBeforeTheConnectionAreLimited(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	ended := make(chan string, 1)
	pad := strings.Repeat("x", 1000)
	ns := say.Namespace("/full")
	ns.OnConnect(func(ctx context.Context, s *io.Socket) error {
		for s.Emit(ctx, "e", pad) == nil { // until it has ended
		}
		return nil
	})
	ns.OnDisconnect(func(_ context.Context, _ *io.Socket, reason string) { ended <- reason })
	s := start(t, Config{IO: say, Limits: Limits{QueuedBytes: 16 << 10}})
	p := s.dialSIO("")
	p.say("40/full,")
	p.want(`44/full,{"message":"more than 16384 bytes were sent to this client before it was connected","data":{"code":4100,"status":429}}`)
	if got := <-ended; got != "refused" {
		t.Errorf("the program is told %q", got)
	}
	p.quiet()
}

// A client that the program takes out of a namespace while its commands wait there goes on in the others.
func TestANamespaceThatIsLeftWhileCommandsWait(t *testing.T) {
	for _, polling := range []bool{false, true} {
		t.Run(fmt.Sprintf("polling=%v", polling), func(t *testing.T) {
			var b blocking
			say := io.New(io.Options{Logger: quiet()})
			in := connected(say, "/", "/a")
			s := start(t, Config{Auth: b.auth(), IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
			var p interface {
				enter(nsp, auth string) string
				want(...string)
				quiet()
			}
			var ask []string
			for i := range 64 {
				ask = append(ask, fmt.Sprintf(`42/a,["subscribe","private-slow.%d"]`, i))
			}
			if polling {
				q := s.dialPoller("")
				q.enter("/a", "")
				go q.do(t.Context(), http.MethodPost, strings.Join(ask, "\x1e")) // which is answered when all are taken
				p = q
			} else {
				q := s.dialSIO("")
				q.enter("/a", "")
				q.say(ask...)
				p = q
			}
			<-in
			sock := <-in
			eventually(t, "the connection is not read", func() bool { return s.held(sock.ID()) })
			sock.Disconnect(false)
			p.want("41/a,")
			close(b.open)
			p.quiet()
		})
	}
}

// One body of a request asks for much more than it is: no more of it is taken than a turn can write.
func TestOneBodyThatAsksForMuch(t *testing.T) {
	s := start(t, Config{Loops: 1, Channels: []Channel{{Pattern: "kept", History: History{Size: 100, Bytes: 2 << 20}}}})
	for range 100 {
		s.send(event("kept", `"`+strings.Repeat("x", 10_000)+`"`))
	}
	p := s.dialPoller("")
	var ask []string
	for range 100 { // 1 MB each
		ask = append(ask, `42["subscribe",{"channel":"kept","rewind":100}]`, `42["unsubscribe","kept"]`)
	}
	before := liveHeap()
	status, answer := p.post(strings.Join(ask, "\x1e"))
	if grown := liveHeap() - before; grown > 20<<20 {
		t.Errorf("a body of %d bytes makes the server hold %d MiB", len(strings.Join(ask, "\x1e")), grown>>20)
	}
	if status != http.StatusOK || answer != "ok" {
		t.Errorf("it is answered with %d %s", status, answer)
	}
	eventually(t, "the session is over, as its client does not read", func() bool { return s.entered() == 0 })
}

// A request that comes to nothing behind the upgrade ends nothing.
func TestABodyThatNeverEndsBehindTheUpgrade(t *testing.T) {
	s := start(t, Config{Limits: Limits{Handshake: time.Second}})
	p := s.dialPoller("")
	c := p.slowBody(1000, `42["any"]`)
	q := p.probe()
	q.say("5")
	q.quiet()
	if status, _, body := c.response(); status != http.StatusRequestTimeout || body != "the body did not arrive in time\n" {
		t.Errorf("a body that does not come is answered with %d %q", status, body)
	}
	c.Close()
	q.quiet()
}

// The program's match runs beside the loops: a panic of it costs nobody but who asked, and its waiting nobody else's time.
func TestAMatchMayPanicAndWait(t *testing.T) {
	say := io.New(io.Options{Logger: quiet()})
	asked, decide := make(chan struct{}), make(chan bool)
	say.NamespaceFunc(func(name string) bool {
		if name == "/slow" {
			asked <- struct{}{}
			return <-decide
		}
		return name[5] == 'x'
	})
	s := start(t, Config{IO: say, Loops: 1})
	p, q := s.dialSIO(""), s.dialPoller("")
	const undecided = `44/abc,{"message":"the server could not decide; its log says why","data":{"code":4300,"status":500}}`
	p.say("40/abc,")
	p.want(undecided)
	q.say("40/abc,")
	q.want(undecided)
	for _, yes := range []bool{true, false} {
		p.say("40/slow,")
		<-asked
		p.quiet()
		q.quiet()
		decide <- yes
		if got := p.next(); yes != welcomed.MatchString(got) || !yes && got != `44/slow,{"message":"Invalid namespace"}` {
			t.Errorf("match says %v, and the client is told %s", yes, got)
		}
		p.say("41/slow,")
		if !yes {
			p.wantClose(1008, `a packet to namespace "/slow", which the client is not connected to`)
		}
	}
	gone := s.dialSIO("")
	gone.say("40/slow,")
	<-asked
	gone.reset()
	eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 1 })
	decide <- true
	q.quiet()
}

// What is kept for clients that come back is kept once, and not for every namespace that clients have made up.
func TestNamespacesDoNotMultiplyWhatIsKept(t *testing.T) {
	const each, messages = 50, 40
	say := io.New(io.Options{Logger: quiet()})
	say.NamespaceFunc(func(name string) bool { return strings.HasPrefix(name, "/d-") })
	s := start(t, Config{IO: say, Loops: 2})
	var peers []*sioPeer
	for len(peers) < 4 || s.loops[0].Conns() == 0 || s.loops[1].Conns() == 0 {
		p := s.openSIO("")
		for i := range each {
			nsp := fmt.Sprintf("/d-%d-%d", len(peers), i)
			p.enter(nsp, "")
			p.say("42" + nsp + `,1["subscribe","news"]`)
			p.want("43" + nsp + `,1[{"ok":true,"channel":"news"}]`)
		}
		peers = append(peers, p)
	}
	send := func(n int) {
		for range n {
			s.send(event("news", `"`+strings.Repeat("x", 10_000)+`"`))
			for _, p := range peers {
				for range each {
					p.next()
				}
			}
		}
	}
	send(5) // into buffers that are used again
	before := liveHeap()
	send(messages)
	if grown := liveHeap() - before; grown > 10<<20 {
		t.Errorf("%d messages of 10 kB hold %d kB", messages, grown>>10)
	}
}

// Two namespaces of one connection are each told how much of theirs was left out.
func TestEachNamespaceIsToldWhatItDidNotGet(t *testing.T) {
	const messages = 40
	say := io.New(io.Options{Logger: quiet()})
	say.Namespace("/a")
	s := start(t, Config{
		IO: say, Loops: 1, Limits: Limits{QueuedBytes: 100_000}, Channels: []Channel{{Pattern: "news", Slow: DropOldest}}, SocketIO: SocketIOConfig{Recovery: -1},
	})
	p := s.dialPoller("")
	p.enter("/a", "")
	for _, nsp := range []string{"", "/a,"} {
		p.say("42" + nsp + `1["subscribe","news"]`)
		p.want("43" + nsp + `1[{"ok":true,"channel":"news"}]`)
	}
	for range messages {
		s.send(event("news", `"`+strings.Repeat("x", 10_000)+`"`))
		s.rounds()
	}
	got, left := map[string]int{}, map[string]int{}
	for text := p.next(); text != `432[{"ok":true,"channel":"nothing"}]`; text = p.next() {
		if len(got) == 0 { // what waited has been taken, and its gaps are known
			p.say(`422["unsubscribe","nothing"]`)
		}
		var n int
		switch nsp := strings.TrimPrefix(text[:strings.IndexByte(text, '[')], "42"); {
		case parsed(text, "42"+nsp+`["messages_dropped",{"channel":"news","count":%d}]`, &n):
			left[nsp] += n
		default:
			got[nsp]++
		}
	}
	for _, nsp := range []string{"", "/a,"} {
		if got[nsp]+left[nsp] != messages || left[nsp] == 0 {
			t.Errorf("namespace %q got %d of %d messages, and was told that %d were left out", nsp, got[nsp], messages, left[nsp])
		}
	}
}

// A body of very many packets that wait behind the program is not more than a body.
func TestABodyOfManyPacketsThatWait(t *testing.T) {
	const sessions = 10
	gate := make(chan struct{})
	var called atomic.Int32
	say := io.New(io.Options{Logger: quiet()})
	io.On(say.Namespace("/"), "slow", func(context.Context, *io.Socket, struct{}) (any, error) {
		called.Add(1)
		<-gate
		return nil, nil
	})
	s := start(t, Config{IO: say, Loops: 1, SocketIO: SocketIOConfig{Recovery: -1}})
	body := strings.Repeat("42[\"slow\"]\x1e", 65) + strings.Repeat("6\x1e", 499_000) + "6"
	before := liveHeap()
	answers := make(chan string, sessions)
	var ps []*sioPoller
	for range sessions {
		p := s.dialPoller("")
		ps = append(ps, p)
		go func() {
			status, answer, err := p.do(t.Context(), http.MethodPost, body)
			answers <- fmt.Sprint(status, answer, err)
		}()
	}
	eventually(t, "all wait", func() bool { return called.Load() == sessions })
	if grown := liveHeap() - before; grown > 40<<20 {
		t.Errorf("%d bodies of %d kB hold %d MB", sessions, len(body)>>10, grown>>20)
	}
	close(gate)
	for range sessions {
		if got := <-answers; got != "200ok<nil>" {
			t.Errorf("a body is answered with %s", got)
		}
	}
	for _, p := range ps {
		p.quiet()
	}
}
