package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/server"
)

// These tests hold what Engine.IO 4 and Socket.IO 5 demand of a server. They speak only HTTP and WebSocket to a URL, so they can
// judge any server that runs the application which interop/socketio/conformance.mjs describes: REALTIME_CONFORMANCE_URL names it. Without, it is ours.

// What the application's server is configured with, in milliseconds and bytes. A namespace has to be joined within a second.
const (
	conformancePingInterval = 300
	conformancePingTimeout  = 200
	conformanceMaxPayload   = 1000000
)

// dialect is a path of the server, and what is said there: at /engine.io/ every message is echoed, at /socket.io/ events are answered.
type dialect struct {
	t    *testing.T
	base string // http://host:port
	path string
	join []string // packets that a session begins with
	news int      // how many packets answer them
	say  string   // a packet

	patience time.Duration // of an attempt; see conclusive
	hear     string        // and what answers it
}

func conformance(t *testing.T) (base string) {
	if base = strings.TrimSuffix(os.Getenv("REALTIME_CONFORMANCE_URL"), "/"); base != "" {
		return base
	}
	handler, stop, err := server.Conformance()
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		stop(ctx) // the clients are gone, and their sessions may not know it yet
		web.Close()
	})
	return web.URL
}

func engineIO(t *testing.T, base string) *dialect {
	return &dialect{t: t, base: base, path: "/engine.io/", say: "4hello", hear: "4hello"}
}

func socketIO(t *testing.T, base string) *dialect {
	return &dialect{
		t: t, base: base, path: "/socket.io/", join: []string{"40"}, news: 2,
		say: `42["message","hello"]`, hear: `42["message-back","hello"]`,
	}
}

func TestEngineIOConformance(t *testing.T) {
	base := conformance(t)
	for name, dialect := range map[string]func(*testing.T, string) *dialect{"engine.io": engineIO, "socket.io": socketIO} {
		for _, test := range engineTests {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				if test.waits {
					t.Parallel()
				}
				test.run(dialect(t, base))
			})
		}
	}
	for _, test := range echoTests {
		t.Run("engine.io/"+test.name, func(t *testing.T) { test.run(engineIO(t, base)) })
	}
}

func TestSocketIOConformance(t *testing.T) {
	base := conformance(t)
	for _, test := range socketTests {
		t.Run(test.name, func(t *testing.T) {
			if test.waits {
				t.Parallel()
			}
			test.run(socketIO(t, base))
		})
	}
}

type conformanceTest struct {
	name  string
	waits bool // for the heartbeat, so others may run meanwhile
	run   func(*dialect)
}

// engineTests are of the transports; they need only one message and its answer.
var engineTests = []conformanceTest{
	{"handshake/polling opens a session", false, (*dialect).pollingOpens},
	{"handshake/polling without a known EIO is refused", false, (*dialect).pollingWithoutEIO},
	{"handshake/polling without a known transport is refused", false, (*dialect).pollingWithoutTransport},
	{"handshake/another method than GET is refused", false, (*dialect).handshakeMethods},
	{"handshake/a session that there is not is refused", false, (*dialect).unknownSession},
	{"handshake/websocket opens a session", false, (*dialect).websocketOpens},
	{"handshake/websocket without a known EIO is closed", false, (*dialect).websocketWithoutEIO},
	{"handshake/websocket without a known transport is closed", false, (*dialect).websocketWithoutTransport},
	{"handshake/a plain GET for websocket is refused", false, (*dialect).websocketWithoutUpgrade},
	{"cors/every origin may read the answers", false, (*dialect).cors},
	{"message/polling", false, (*dialect).pollingMessage},
	{"message/websocket", false, (*dialect).websocketMessage},
	{"message/polling: what is no packet closes the session", false, (*dialect).pollingGarbage},
	{"message/polling: a second request while one waits closes the session", false, (*dialect).pollingTwice},
	{"message/polling: a request that is given up closes the session", false, (*dialect).pollingGivenUp},
	{"message/polling: a body beyond maxPayload is refused", false, (*dialect).pollingTooLarge},
	{"message/polling: octets are refused", false, (*dialect).pollingOctets},
	{"message/websocket: what is no packet closes the session", false, (*dialect).websocketGarbage},
	{"message/websocket: a ping of the client closes the session", false, (*dialect).websocketClientPing},
	{"message/websocket: a message beyond maxPayload closes the session", false, (*dialect).websocketTooLarge},
	{"heartbeat/polling: pings that are answered go on", true, (*dialect).pollingHeartbeat},
	{"heartbeat/polling: one that is not answered ends the session", true, (*dialect).pollingTimeout},
	{"heartbeat/polling: a session that nobody asks for ends", true, (*dialect).pollingForgotten},
	{"heartbeat/websocket: pings that are answered go on", true, (*dialect).websocketHeartbeat},
	{"heartbeat/websocket: one that is not answered ends the session", true, (*dialect).websocketTimeout},
	{"close/polling", false, (*dialect).pollingClose},
	{"close/websocket", false, (*dialect).websocketClose},
	{"upgrade/polling becomes websocket", false, (*dialect).upgrade},
	{"upgrade/a request that waits is ended", false, (*dialect).upgradeWhileWaiting},
	{"upgrade/messages meanwhile are whole and in order", false, (*dialect).upgradeUnderLoad},
	{"upgrade/the heartbeat goes on", true, (*dialect).upgradeHeartbeat},
	{"upgrade/requests for the session are refused afterwards", false, (*dialect).pollAfterUpgrade},
	{"upgrade/a websocket for the session is closed afterwards", false, (*dialect).websocketAfterUpgrade},
	{"upgrade/a second websocket meanwhile is closed", false, (*dialect).websocketDuringUpgrade},
	{"upgrade/a websocket for a session that there is not is refused", false, (*dialect).upgradeUnknown},
	{"upgrade/another first packet than the probe closes only the websocket", false, (*dialect).upgradeWithoutProbe},
	{"upgrade/a websocket that goes away leaves the session", false, (*dialect).upgradeGivenUp},
}

// echoTests need a server that echoes every message.
var echoTests = []conformanceTest{
	{"message/polling: several packets", false, func(d *dialect) { d.pollingEcho("4test1\x1e4test2\x1e4test3") }},
	{"message/polling: text and binary", false, func(d *dialect) { d.pollingEcho("4hello\x1ebAQIDBA==") }},
	{"message/polling: text beyond ASCII", false, func(d *dialect) { d.pollingEcho("4€ 😀\x1e4utf 8 string\x1e4") }},
	{"message/websocket: binary", false, (*dialect).websocketBinary},
	{"message/as much as maxPayload", false, (*dialect).largestMessage},
}

var socketTests = []conformanceTest{
	{"connect/main namespace", false, func(d *dialect) { d.connect("", "{}", "") }},
	{"connect/main namespace with a payload", false, func(d *dialect) { d.connect("", `{"token":"123"}`, `{"token":"123"}`) }},
	{"connect/custom namespace", false, func(d *dialect) { d.connect("/custom,", "{}", "") }},
	{"connect/custom namespace with a payload", false, func(d *dialect) { d.connect("/custom,", `{"token":"abc"}`, `{"token":"abc"}`) }},
	{"connect/over polling", false, (*dialect).connectPolling},
	{"connect/every namespace has an id of its own", false, (*dialect).connectIDs},
	{"connect/unknown namespace is refused, and costs nothing else", false, (*dialect).unknownNamespace},
	{"connect/an invalid handshake closes", false, func(d *dialect) { d.closes(false, "4abc") }},
	{"connect/no handshake in time closes", true, func(d *dialect) { d.closes(false) }},
	{"connect/a refused handshake is none", true, func(d *dialect) { d.closes(false, "40/random,") }},
	{"connect/a payload that is no object closes", false, func(d *dialect) { d.closes(false, `40"token"`) }},
	{"connect/twice closes", false, func(d *dialect) { d.closes(true, "40") }},
	{"connect/an event before it closes", false, func(d *dialect) { d.closes(false, `42["message",1]`) }},
	{"connect/an event for another namespace closes", false, func(d *dialect) { d.closes(true, `42/custom,["message",1]`) }},
	{"disconnect/from the main namespace keeps the connection", true, (*dialect).disconnectMain},
	{"disconnect/from a custom namespace", false, (*dialect).disconnectCustom},
	{"message/plain", false, (*dialect).plain},
	{"message/in a custom namespace", false, (*dialect).plainCustom},
	{"message/binary", false, (*dialect).binary},
	{"message/with an ack", false, (*dialect).withAck},
	{"message/binary with an ack", false, (*dialect).binaryWithAck},
	{"message/binary over polling", false, (*dialect).binaryPolling},
	{"message/an unknown packet type closes", false, func(d *dialect) { d.closes(true, "4abc") }},
	{"message/packet type 7 closes", false, func(d *dialect) { d.closes(true, `47["message"]`) }},
	{"message/a payload that is no array closes", false, func(d *dialect) { d.closes(true, "42{}") }},
	{"message/a payload that is no JSON closes", false, func(d *dialect) { d.closes(true, `42["message",`) }},
	{"message/an event without a name closes", false, func(d *dialect) { d.closes(true, "42[]") }},
	{"message/a reserved name closes", false, func(d *dialect) { d.closes(true, `42["disconnect"]`) }},
	{"message/an invalid ack id closes", false, func(d *dialect) { d.closes(true, `42abc["message-with-ack",1,"2",{"3":[false]}]`) }},
	{"message/an ack that is no array closes", false, func(d *dialect) { d.closes(true, "430{}") }},
	{"message/a disconnect with a payload closes", false, func(d *dialect) { d.closes(true, "41{}") }},
	{"message/an error from a client closes", false, func(d *dialect) { d.closes(true, `44{"message":"x"}`) }},
	{"message/text in place of an attachment closes", false, func(d *dialect) {
		d.closes(true, `451-["message",{"_placeholder":true,"num":0}]`, `42["message",1]`)
	}},
	{"message/an attachment that nothing announced closes", false, func(d *dialect) { d.closes(true, "binary") }},
	{"message/an attachment that there is not closes", false, func(d *dialect) {
		d.closes(true, `451-["message",{"_placeholder":true,"num":7}]`, "binary")
	}},
	{"message/no number of attachments closes", false, func(d *dialect) { d.closes(true, `45-["message",{"_placeholder":true,"num":0}]`) }},
	{"message/too many attachments close", false, func(d *dialect) { d.closes(true, `4511-["message",{"_placeholder":true,"num":0}]`) }},
}

// patience is how long something may take that has to come.
const patience = 20 * time.Second

var conformanceClient = &http.Client{Timeout: patience}

// query is the URL of a request; pairs of a name and a value, of which an empty one is left out.
func (d *dialect) query(pairs ...string) string {
	q := url.Values{}
	for p := range slices.Chunk(pairs, 2) {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	return d.base + d.path + "?" + q.Encode()
}

// request makes an HTTP request and returns its answer.
func (d *dialect) request(method, url, body string, headers ...string) (status int, h http.Header, answer string) {
	d.t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	for p := range slices.Chunk(headers, 2) {
		r.Header.Set(p[0], p[1])
	}
	resp, err := conformanceClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("the answer breaks off after %q: %v", b, err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// wantRefusal makes a request that is refused with one of Engine.IO's errors.
func (d *dialect) wantRefusal(method, url, body string, code int) {
	d.t.Helper()
	messages := []string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden", "Unsupported protocol version"}
	status, h, got := d.request(method, url, body)
	want := fmt.Sprintf(`{"code":%d,"message":%q}`, code, messages[code])
	if status != http.StatusBadRequest || got != want || h.Get("Content-Type") != "application/json" {
		d.t.Errorf("%s %s is answered with %d %s %q, and should be with 400 application/json %s", method, url, status, h.Get("Content-Type"), got, want)
	}
}

// poller is a session over HTTP requests.
type poller struct {
	*dialect
	sid string
	url string
}

// open makes a session, and joins what the dialect has to be in.
func (d *dialect) open() *poller {
	d.t.Helper()
	status, _, body := d.request("GET", d.query("EIO", "4", "transport", "polling"), "")
	if status != http.StatusOK || !strings.HasPrefix(body, "0{") {
		d.t.Fatalf("the handshake is answered with %d %q", status, body)
	}
	p := &poller{dialect: d, sid: d.wantOpen(body, "websocket")}
	p.url = d.query("EIO", "4", "transport", "polling", "sid", p.sid)
	for _, packet := range d.join {
		p.post(packet)
	}
	for n := 0; n < d.news; {
		n += len(p.receive())
	}
	return p
}

// wantOpen checks an open packet, and returns the session's id.
func (d *dialect) wantOpen(packet string, upgrades ...string) (sid string) {
	d.t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(packet, "0")), &got); err != nil {
		d.t.Fatalf("the open packet is %q: %v", packet, err)
	}
	sid, _ = got["sid"].(string)
	if upgrades == nil {
		upgrades = []string{}
	}
	want, err := json.Marshal(map[string]any{
		"sid": sid, "upgrades": upgrades,
		"pingInterval": conformancePingInterval, "pingTimeout": conformancePingTimeout, "maxPayload": conformanceMaxPayload,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if same, _ := json.Marshal(got); string(same) != string(want) || sid == "" || packet[0] != '0' {
		d.t.Fatalf("the open packet is %q, and should hold %s", packet, want)
	}
	return sid
}

// get asks for what waits.
func (p *poller) get() (status int, body string) {
	p.t.Helper()
	status, h, body := p.request("GET", p.url, "")
	if status == http.StatusOK && (!strings.EqualFold(h.Get("Content-Type"), "text/plain; charset=UTF-8") || h.Get("Cache-Control") != "no-store") {
		p.t.Errorf("%q comes with Content-Type %q and Cache-Control %q", body, h.Get("Content-Type"), h.Get("Cache-Control"))
	}
	return status, body
}

// getting asks for what waits. It returns when the request is written, and the answer is to come on the channel.
func (p *poller) getting() <-chan string {
	answer, written := make(chan string, 1), make(chan struct{})
	var once sync.Once
	wrote := func() { once.Do(func() { close(written) }) }
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { wrote() },
	})
	go func() {
		defer wrote()
		r, err := http.NewRequestWithContext(ctx, "GET", p.url, nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		resp, err := conformanceClient.Do(r)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- fmt.Sprintf("%d %s", resp.StatusCode, b)
	}()
	<-written
	return answer
}

// post brings packets.
func (p *poller) post(body string) {
	p.t.Helper()
	status, h, got := p.request("POST", p.url, body)
	if status != http.StatusOK || got != "ok" || h.Get("Content-Type") != "text/html" {
		p.t.Fatalf("%.100q is answered with %d %q, %q", body, status, h.Get("Content-Type"), got)
	}
}

// receive asks until there is more than pings, which it answers, and returns the packets of that answer.
func (p *poller) receive() []string {
	p.t.Helper()
	for {
		status, body := p.get()
		if status != http.StatusOK {
			p.t.Fatalf("a request is answered with %d %q", status, body)
		}
		packets := strings.Split(body, "\x1e")
		rest := slices.DeleteFunc(slices.Clone(packets), func(s string) bool { return s == "2" })
		if len(rest) < len(packets) {
			p.post("3")
		}
		if len(rest) > 0 {
			return rest
		}
	}
}

// want receives packets, all in one answer.
func (p *poller) want(packets ...string) {
	p.t.Helper()
	if got := p.receive(); !slices.Equal(got, packets) {
		p.t.Fatalf("packets are %.200q, and should be %.200q", got, packets)
	}
}

// wantGone checks that the session is over.
func (p *poller) wantGone() {
	p.t.Helper()
	p.wantRefusal("GET", p.url, "", 1)
}

// wantWorking checks that the session is not.
func (p *poller) wantWorking() {
	p.t.Helper()
	p.post(p.say)
	p.want(p.hear)
}

// socket is a WebSocket.
type socket struct {
	*dialect
	*wsclient.Conn
}

func (d *dialect) dial(pairs ...string) (*socket, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := wsclient.Dial(ctx, strings.Replace(d.query(pairs...), "http", "ws", 1), nil)
	if err != nil {
		return nil, err
	}
	d.t.Cleanup(func() { c.Close(1000, "") })
	return &socket{dialect: d, Conn: c}, nil
}

// websocket opens a session, and joins what the dialect has to be in.
func (d *dialect) websocket() *socket {
	d.t.Helper()
	s := d.unjoined()
	s.send(d.join...)
	for range d.news {
		s.next()
	}
	return s
}

// unjoined opens a session.
func (d *dialect) unjoined() *socket {
	d.t.Helper()
	s, err := d.dial("EIO", "4", "transport", "websocket")
	if err != nil {
		d.t.Fatal(err)
	}
	s.wantOpen(s.next())
	return s
}

// send writes text messages; "binary" stands for a binary one of three bytes.
func (s *socket) send(packets ...string) {
	s.t.Helper()
	for _, p := range packets {
		if p == "binary" {
			s.write(ws.OpBinary, "\x01\x02\x03")
		} else {
			s.write(ws.OpText, p)
		}
	}
}

func (s *socket) write(op ws.Op, payload string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Write(ctx, op, []byte(payload)); err != nil {
		s.t.Fatal(err)
	}
}

// read returns the next message, pings too.
func (s *socket) read() (ws.Op, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op, p, err := s.ReadMessage(ctx)
	return op, string(p), err
}

// message returns the next message, and answers pings meanwhile.
func (s *socket) message() (ws.Op, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		op, p, err := s.ReadMessage(ctx)
		if err == nil && op == ws.OpText && string(p) == "2" {
			s.Write(ctx, ws.OpText, []byte("3")) // if it fails, so will the next read
			continue
		}
		return op, string(p), err
	}
}

// next returns the next text message that is no ping.
func (s *socket) next() string {
	s.t.Helper()
	op, p, err := s.message()
	if err != nil || op != ws.OpText {
		s.t.Fatalf("there is no text message, but %d %q, %v", op, p, err)
	}
	return p
}

// want reads text messages.
func (s *socket) want(packets ...string) {
	s.t.Helper()
	for _, want := range packets {
		if got := s.next(); got != want {
			s.t.Fatalf("packet is %.200q, and should be %.200q", got, want)
		}
	}
}

// wantBinary reads binary messages.
func (s *socket) wantBinary(payloads ...string) {
	s.t.Helper()
	for _, want := range payloads {
		if op, got, err := s.message(); err != nil || op != ws.OpBinary || got != want {
			s.t.Fatalf("message is %d %.200q, %v, and should be binary %.200q", op, got, err, want)
		}
	}
}

// wantClosed reads the end. Pings are answered meanwhile, so that silence is not what ends the connection.
func (s *socket) wantClosed() {
	s.t.Helper()
	switch op, p, err := s.message(); {
	case err == nil:
		s.t.Fatalf("there should be the end, and is %d %.200q", op, p)
	case errors.Is(err, context.DeadlineExceeded):
		s.t.Fatal("the connection stays open")
	}
}

func (s *socket) wantWorking() {
	s.t.Helper()
	s.send(s.say)
	s.want(s.hear)
}

// wantRefused dials what is refused at once, or after the upgrade.
func (d *dialect) wantRefused(pairs ...string) {
	d.t.Helper()
	s, err := d.dial(pairs...)
	if refused, ok := errors.AsType[*wsclient.HandshakeError](err); ok {
		if refused.Status != http.StatusBadRequest {
			d.t.Errorf("%q is refused with %d", pairs, refused.Status)
		}
		return
	}
	if err != nil {
		d.t.Fatal(err)
	}
	s.wantClosed()
}

// conclusive repeats what two requests at once may make inconclusive: which of them the server sees first is not ours to say.
func (d *dialect) conclusive(try func() bool) {
	d.t.Helper()
	for i := range 20 {
		d.patience = time.Duration(i) * 5 * time.Millisecond
		if try() || d.t.Failed() {
			return
		}
	}
	d.t.Fatal("20 attempts said nothing")
}

// Handshake

func (d *dialect) pollingOpens() {
	status, h, body := d.request("GET", d.query("EIO", "4", "transport", "polling"), "")
	if status != http.StatusOK || !strings.EqualFold(h.Get("Content-Type"), "text/plain; charset=UTF-8") || h.Get("Cache-Control") != "no-store" {
		d.t.Errorf("the handshake is answered with %d, %v", status, h)
	}
	one := d.wantOpen(body, "websocket")
	_, _, body = d.request("GET", d.query("EIO", "4", "transport", "polling", "t", "x1", "mine", "yes"), "")
	if two := d.wantOpen(body, "websocket"); one == two {
		d.t.Errorf("two sessions are %q", one)
	}
}

func (d *dialect) pollingWithoutEIO() {
	d.wantRefusal("GET", d.query("transport", "polling"), "", 5)
	d.wantRefusal("GET", d.query("EIO", "abc", "transport", "polling"), "", 5)
}

func (d *dialect) pollingWithoutTransport() {
	d.wantRefusal("GET", d.query("EIO", "4"), "", 0)
	d.wantRefusal("GET", d.query("EIO", "4", "transport", "abc"), "", 0)
}

func (d *dialect) handshakeMethods() {
	d.wantRefusal("POST", d.query("EIO", "4", "transport", "polling"), "", 2)
	d.wantRefusal("PUT", d.query("EIO", "4", "transport", "polling"), "", 2)
}

func (d *dialect) unknownSession() {
	d.wantRefusal("GET", d.query("EIO", "4", "transport", "polling", "sid", "nobody"), "", 1)
	d.wantRefusal("POST", d.query("EIO", "4", "transport", "polling", "sid", "nobody"), "4hello", 1)
}

func (d *dialect) websocketOpens() {
	one, err := d.dial("EIO", "4", "transport", "websocket")
	if err != nil {
		d.t.Fatal(err)
	}
	if d.wantOpen(one.next()) == d.wantOpen(d.openPacket()) {
		d.t.Error("two sessions have one id")
	}
}

func (d *dialect) openPacket() string {
	d.t.Helper()
	s, err := d.dial("EIO", "4", "transport", "websocket", "mine", "yes")
	if err != nil {
		d.t.Fatal(err)
	}
	return s.next()
}

func (d *dialect) websocketWithoutEIO() {
	d.wantRefused("transport", "websocket")
	d.wantRefused("EIO", "abc", "transport", "websocket")
}

func (d *dialect) websocketWithoutTransport() {
	d.wantRefused("EIO", "4")
	d.wantRefused("EIO", "4", "transport", "abc")
}

func (d *dialect) websocketWithoutUpgrade() {
	d.wantRefusal("GET", d.query("EIO", "4", "transport", "websocket"), "", 3)
}

func (d *dialect) cors() {
	_, h, body := d.request("GET", d.query("EIO", "4", "transport", "polling"), "", "Origin", "https://shop.example")
	if got := h.Get("Access-Control-Allow-Origin"); got != "*" && got != "https://shop.example" {
		d.t.Errorf("the handshake allows origin %q", got)
	}
	sid := d.wantOpen(body, "websocket")
	post := d.query("EIO", "4", "transport", "polling", "sid", sid)
	status, h, body := d.request("OPTIONS", post, "", "Origin", "https://shop.example",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-mine")
	if status != http.StatusNoContent || body != "" {
		d.t.Errorf("the preflight is answered with %d %q", status, body)
	}
	if got := h.Get("Access-Control-Allow-Origin"); got != "*" && got != "https://shop.example" {
		d.t.Errorf("the preflight allows origin %q", got)
	}
	if got := h.Get("Access-Control-Allow-Methods"); !strings.Contains(got, "POST") || !strings.Contains(got, "GET") {
		d.t.Errorf("the preflight allows methods %q", got)
	}
	if got := strings.ToLower(h.Get("Access-Control-Allow-Headers")); !strings.Contains(got, "content-type") || !strings.Contains(got, "x-mine") {
		d.t.Errorf("the preflight allows headers %q", got)
	}
	_, h, _ = d.request("GET", d.query("EIO", "4", "transport", "polling", "sid", "nobody"), "", "Origin", "https://shop.example")
	if got := h.Get("Access-Control-Allow-Origin"); got != "*" && got != "https://shop.example" {
		d.t.Errorf("a refusal allows origin %q", got)
	}
}

// Messages

func (d *dialect) pollingMessage() { d.open().wantWorking() }

func (d *dialect) websocketMessage() { d.websocket().wantWorking() }

func (d *dialect) pollingEcho(payload string) {
	p := d.open()
	p.post(payload)
	p.want(strings.Split(payload, "\x1e")...)
}

func (d *dialect) pollingGarbage() {
	for _, body := range []string{"abc", "9", ""} {
		p := d.open()
		// It is refused, or the answer does not come.
		if resp, err := conformanceClient.Post(p.url, "text/plain", strings.NewReader(body)); err == nil {
			if got, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusBadRequest && string(got) != "ok" {
				d.t.Errorf("%q is answered with %d %q", body, resp.StatusCode, got)
			}
			resp.Body.Close()
		}
		p.wantGone()
	}
}

func (d *dialect) pollingTwice() {
	d.conclusive(func() bool {
		p := d.open()
		one, two := p.getting(), p.getting()
		var answers []string
		for range 2 {
			select {
			case a := <-one:
				answers = append(answers, strings.TrimSpace(a[:min(5, len(a))]))
			case a := <-two:
				answers = append(answers, strings.TrimSpace(a[:min(5, len(a))]))
			}
		}
		if slices.Contains(answers, "200 2") {
			return false // they came one after the other
		}
		first := slices.Index(answers, "200 1")
		if first < 0 {
			d.t.Fatalf("the answers are %q, and one should be 200 1", answers)
		}
		if other := answers[1-first][:3]; other != "400" && other != "500" {
			d.t.Fatalf("the answers are %q, and one should be 400", answers)
		}
		p.wantGone()
		return true
	})
}

func (d *dialect) pollingGivenUp() {
	d.conclusive(func() bool {
		clock := d.open().getting() // its first ping comes before those of later sessions
		p := d.open()
		u, err := url.Parse(p.url)
		if err != nil {
			d.t.Fatal(err)
		}
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			d.t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
		c.Close()
		for {
			status, _, body := d.request("POST", p.url, p.say)
			if status == http.StatusOK {
				select {
				case <-clock:
					d.t.Log("the session lives until its heartbeat")
					return false
				default:
					continue
				}
			}
			if want := `{"code":1,"message":"Session ID unknown"}`; status != http.StatusBadRequest || body != want {
				// The request that brought the packet may have been under way when the session ended.
				p.wantGone()
			}
			break
		}
		select {
		case <-clock:
			return false
		default:
			return true
		}
	})
}

func (d *dialect) pollingTooLarge() {
	p := d.open()
	r, err := http.NewRequest("POST", p.url, strings.NewReader("4"+strings.Repeat("x", conformanceMaxPayload)))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	resp, err := conformanceClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		d.t.Errorf("a body of %d bytes is answered with %d", conformanceMaxPayload+1, resp.StatusCode)
	}
}

func (d *dialect) pollingOctets() {
	p := d.open()
	if status, _, body := d.request("POST", p.url, p.say, "Content-Type", "application/octet-stream"); status != http.StatusBadRequest {
		d.t.Errorf("octets are answered with %d %q", status, body)
	}
}

func (d *dialect) websocketBinary() {
	s := d.websocket()
	s.send("binary")
	s.wantBinary("\x01\x02\x03")
}

func (d *dialect) largestMessage() {
	packet := "4" + strings.Repeat("x", conformanceMaxPayload-1)
	s := d.websocket()
	s.send(packet)
	s.want(packet)
	p := d.open()
	p.post(packet)
	p.want(packet)
}

func (d *dialect) websocketGarbage() {
	for _, packet := range []string{"abc", "", "9"} {
		s := d.websocket()
		s.send(packet)
		s.wantClosed()
	}
}

func (d *dialect) websocketClientPing() {
	s := d.websocket()
	s.send("2")
	s.wantClosed()
}

func (d *dialect) websocketTooLarge() {
	s := d.websocket()
	s.Write(context.Background(), ws.OpText, []byte("4"+strings.Repeat("x", conformanceMaxPayload))) // may fail half-way
	_, _, err := s.message()
	if ce, ok := errors.AsType[*ws.CloseError](err); ok && ce.Code != 1009 {
		d.t.Errorf("the close frame is %d", ce.Code)
	}
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		d.t.Errorf("a message of %d bytes: %v", conformanceMaxPayload+1, err)
	}
}

// Heartbeat

func (d *dialect) pollingHeartbeat() {
	p := d.open()
	for range 4 {
		if status, body := p.get(); status != http.StatusOK || body != "2" {
			d.t.Fatalf("there should be a ping, and is %d %q", status, body)
		}
		p.post("3")
	}
	p.wantWorking()
}

func (d *dialect) pollingTimeout() {
	p := d.open()
	if status, body := p.get(); status != http.StatusOK || body != "2" {
		d.t.Fatalf("there should be a ping, and is %d %q", status, body)
	}
	if status, body := p.get(); status != http.StatusOK || body != "6" && body != "1" {
		d.t.Fatalf("there should be the end, and is %d %q", status, body)
	}
	p.wantGone()
}

func (d *dialect) pollingForgotten() {
	p := d.open()
	// Another session is the clock: it begins later, and lives longer by one ping.
	clock := d.open()
	clock.get()
	clock.post("3")
	clock.get()
	clock.get()
	clock.wantGone()
	p.wantGone()
}

func (d *dialect) websocketHeartbeat() {
	s := d.websocket()
	for range 4 {
		if op, p, err := s.read(); err != nil || op != ws.OpText || p != "2" {
			d.t.Fatalf("there should be a ping, and is %d %q, %v", op, p, err)
		}
		s.send("3")
	}
	s.wantWorking()
}

func (d *dialect) websocketTimeout() {
	s := d.websocket()
	if op, p, err := s.read(); err != nil || op != ws.OpText || p != "2" {
		d.t.Fatalf("there should be a ping, and is %d %q, %v", op, p, err)
	}
	if op, p, err := s.read(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		d.t.Fatalf("there should be the end, and is %d %q, %v", op, p, err)
	}
}

// Close

func (d *dialect) pollingClose() {
	d.conclusive(func() bool {
		p := d.open()
		waiting := p.getting()
		time.Sleep(d.patience) // a written request has not arrived yet: whoever waits longer is the likelier first
		p.post("1")
		answer := <-waiting
		p.wantGone()
		if strings.HasPrefix(answer, "400") {
			return false // the packet came first
		}
		if answer != "200 6" {
			d.t.Errorf("the request that waits is answered with %q", answer)
		}
		return true
	})
}

func (d *dialect) websocketClose() {
	s := d.websocket()
	s.send("1")
	// Node's server takes this packet for the last sign of life, and closes when the next ping is not answered.
	for {
		op, p, err := s.read()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil || op != ws.OpText || p != "2" {
			d.t.Fatalf("there should be the end, and is %d %q, %v", op, p, err)
		}
	}
}

// Upgrade

// probe opens a WebSocket for the session and tries it.
func (p *poller) probe() *socket {
	p.t.Helper()
	s, err := p.dial("EIO", "4", "transport", "websocket", "sid", p.sid)
	if err != nil {
		p.t.Fatal(err)
	}
	s.send("2probe")
	if op, got, err := s.read(); err != nil || op != ws.OpText || got != "3probe" {
		p.t.Fatalf("the probe is answered with %d %q, %v", op, got, err)
	}
	return s
}

// upgraded makes a session that began with polling, and is on a WebSocket.
func (d *dialect) upgraded() (*poller, *socket) {
	d.t.Helper()
	p := d.open()
	s := p.probe()
	p.want("6")
	s.send("5")
	return p, s
}

func (d *dialect) upgrade() {
	_, s := d.upgraded()
	s.wantWorking()
}

func (d *dialect) upgradeWhileWaiting() {
	p := d.open()
	waiting := p.getting()
	s := p.probe()
	switch answer := <-waiting; answer {
	case "200 6":
	case "200 2": // the heartbeat was due
		p.post("3")
		p.want("6")
	default:
		d.t.Fatalf("the request that waits is answered with %q", answer)
	}
	s.send("5")
	s.wantWorking()
}

func (d *dialect) upgradeUnderLoad() {
	n := 0
	packet := func() string { // with its number; what answers it ends in the same
		n++
		return fmt.Sprintf(strings.Replace(d.say, "hello", "hello %d", 1), n)
	}
	p := d.open()
	p.post(packet() + "\x1e" + packet())
	s := p.probe()
	p.post(packet())
	var got []string
	for !slices.Contains(got, "6") {
		got = append(got, p.receive()...)
	}
	p.post(packet()) // nothing is asked for any more, so this answer is to come on the WebSocket
	s.send("5", packet(), packet())
	for range n - len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s == "6" })) {
		got = append(got, s.next())
	}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "6" })
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf(strings.Replace(d.hear, "hello", "hello %d", 1), i+1))
	}
	if !slices.Equal(got, want) {
		d.t.Errorf("answers are %q, and should be %q", got, want)
	}
}

func (d *dialect) upgradeHeartbeat() {
	_, s := d.upgraded()
	for range 3 {
		if op, p, err := s.read(); err != nil || op != ws.OpText || p != "2" {
			d.t.Fatalf("there should be a ping, and is %d %q, %v", op, p, err)
		}
		s.send("3")
	}
	s.wantWorking()
}

func (d *dialect) pollAfterUpgrade() {
	p, s := d.upgraded()
	s.wantWorking()
	d.wantRefusal("GET", p.url, "", 3)
	d.wantRefusal("POST", p.url, p.say, 3)
	s.wantWorking()
}

func (d *dialect) websocketAfterUpgrade() {
	p, s := d.upgraded()
	s.wantWorking()
	d.wantRefused("EIO", "4", "transport", "websocket", "sid", p.sid)
	s.wantWorking()
}

func (d *dialect) websocketDuringUpgrade() {
	p := d.open()
	s := p.probe()
	d.wantRefused("EIO", "4", "transport", "websocket", "sid", p.sid)
	p.want("6")
	s.send("5")
	s.wantWorking()
}

func (d *dialect) upgradeUnknown() {
	d.wantRefused("EIO", "4", "transport", "websocket", "sid", "nobody")
}

func (d *dialect) upgradeWithoutProbe() {
	p := d.open()
	s, err := d.dial("EIO", "4", "transport", "websocket", "sid", p.sid)
	if err != nil {
		d.t.Fatal(err)
	}
	s.send("4hello")
	s.wantClosed()
	p.wantWorking()
}

func (d *dialect) upgradeGivenUp() {
	p := d.open()
	s := p.probe()
	s.Close(1000, "")
	// The answer to a request may be the noop of the upgrade.
	p.post(p.say)
	got := p.receive()
	for slices.Equal(got, []string{"6"}) {
		got = p.receive()
	}
	if got = slices.DeleteFunc(got, func(s string) bool { return s == "6" }); !slices.Equal(got, []string{p.hear}) {
		d.t.Errorf("packets are %q", got)
	}
	_, s = d.upgraded()
	s.wantWorking()
}

// Socket.IO

// wantConnect checks the answer to a CONNECT, and returns the socket's id.
func (d *dialect) wantConnect(packet, namespace string) string {
	d.t.Helper()
	var got map[string]any
	payload, ok := strings.CutPrefix(packet, "40"+namespace)
	if !ok || json.Unmarshal([]byte(payload), &got) != nil {
		d.t.Fatalf("CONNECT is answered with %q", packet)
	}
	sid, _ := got["sid"].(string)
	if len(got) != 1 || sid == "" {
		d.t.Fatalf("CONNECT is answered with %q, and there should be a sid only", packet)
	}
	return sid
}

func (d *dialect) connect(namespace, auth, payload string) {
	s := d.unjoined()
	s.send("40" + namespace + payload)
	d.wantConnect(s.next(), namespace)
	s.want("42" + namespace + `["auth",` + auth + "]")
}

func (d *dialect) connectPolling() {
	d.join, d.news = nil, 0
	p := d.open()
	p.post(`40{"token":"123"}`)
	got := p.receive()
	if len(got) == 1 {
		got = append(got, p.receive()...)
	}
	d.wantConnect(got[0], "")
	if want := `42["auth",{"token":"123"}]`; len(got) != 2 || got[1] != want {
		d.t.Errorf("packets are %q, and the second should be %s", got, want)
	}
}

func (d *dialect) connectIDs() {
	s, err := d.dial("EIO", "4", "transport", "websocket")
	if err != nil {
		d.t.Fatal(err)
	}
	ids := []string{s.wantOpen(s.next())}
	for _, namespace := range []string{"", "/custom,"} {
		s.send("40" + namespace)
		ids = append(ids, d.wantConnect(s.next(), namespace))
		s.want("42" + namespace + `["auth",{}]`)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 3 {
		d.t.Errorf("the ids are %q", ids)
	}
}

func (d *dialect) unknownNamespace() {
	s := d.unjoined()
	s.send("40/random")
	s.want(`44/random,{"message":"Invalid namespace"}`)
	s.send("40/random,{}")
	s.want(`44/random,{"message":"Invalid namespace"}`)
	s.send("40")
	d.wantConnect(s.next(), "")
	s.want(`42["auth",{}]`)
	s.wantWorking()
}

// closes sends what ends the connection. What answers the packets before it does not matter.
func (d *dialect) closes(joined bool, packets ...string) {
	d.t.Helper()
	s := d.unjoined()
	if joined {
		s.send("40")
		d.wantConnect(s.next(), "")
		s.want(`42["auth",{}]`)
	}
	s.send(packets...)
	if len(packets) == 1 && strings.HasPrefix(packets[0], "40/random") {
		s.want(`44/random,{"message":"Invalid namespace"}`)
	}
	s.wantClosed()
}

func (d *dialect) disconnectMain() {
	s := d.websocket()
	s.send("41")
	if op, p, err := s.read(); err != nil || op != ws.OpText || p != "2" {
		d.t.Fatalf("there should be a ping, and is %d %q, %v", op, p, err)
	}
	s.send("3", "40")
	d.wantConnect(s.next(), "")
	s.want(`42["auth",{}]`)
	s.wantWorking()
}

func (d *dialect) disconnectCustom() {
	s := d.websocket()
	for _, end := range []string{"41/custom", "41/custom,"} {
		s.send("40/custom")
		d.wantConnect(s.next(), "/custom,")
		s.want(`42/custom,["auth",{}]`)
		s.send(end)
		s.send(`42["message","message to main namespace"]`)
		s.want(`42["message-back","message to main namespace"]`)
	}
	// And the other way round.
	s.send("40/custom,")
	d.wantConnect(s.next(), "/custom,")
	s.want(`42/custom,["auth",{}]`)
	s.send("41", `42/custom,["message",1]`)
	s.want(`42/custom,["message-back",1]`)
}

func (d *dialect) plain() {
	s := d.websocket()
	s.send(`42["message",1,"2",{"3":[true]}]`)
	s.want(`42["message-back",1,"2",{"3":[true]}]`)
	s.send(`42["message"]`, `42["message",null,"42[\"x\"]","\u001e ü 😀"]`)
	s.want(`42["message-back"]`)
	if got := s.next(); got != `42["message-back",null,"42[\"x\"]","\u001e ü 😀"]` {
		d.t.Errorf("packet is %q", got)
	}
}

func (d *dialect) plainCustom() {
	s := d.websocket()
	s.send("40/custom,")
	d.wantConnect(s.next(), "/custom,")
	s.want(`42/custom,["auth",{}]`)
	for _, x := range [][2]string{ // one after the other: namespaces do not wait for each other
		{`42/custom,["message",1]`, `42/custom,["message-back",1]`}, {`42["message",2]`, `42["message-back",2]`},
		{`42/custom,7["message-with-ack",3]`, "43/custom,7[3]"},
	} {
		s.send(x[0])
		s.want(x[1])
	}
}

const twoAttachments = `{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}`

func (d *dialect) binary() {
	s := d.websocket()
	s.send(`452-["message",` + twoAttachments + "]")
	s.write(ws.OpBinary, "\x01\x02\x03")
	s.write(ws.OpBinary, "\x04\x05\x06")
	s.want(`452-["message-back",` + twoAttachments + "]")
	s.wantBinary("\x01\x02\x03", "\x04\x05\x06")
}

func (d *dialect) withAck() {
	s := d.websocket()
	s.send(`42456["message-with-ack",1,"2",{"3":[false]}]`, `420["message-with-ack"]`)
	s.want(`43456[1,"2",{"3":[false]}]`, "430[]")
}

func (d *dialect) binaryWithAck() {
	s := d.websocket()
	s.send(`452-789["message-with-ack",` + twoAttachments + "]")
	s.write(ws.OpBinary, "\x01\x02\x03")
	s.write(ws.OpBinary, "\x04\x05\x06")
	s.want("462-789[" + twoAttachments + "]")
	s.wantBinary("\x01\x02\x03", "\x04\x05\x06")
}

func (d *dialect) binaryPolling() {
	p := d.open()
	p.post(`452-["message",` + twoAttachments + "]\x1ebAQID\x1ebBAUG")
	p.want(`452-["message-back",`+twoAttachments+"]", "bAQID", "bBAUG")
	p.post(`461-0[{"_placeholder":true,"num":0}]`) // nobody asked for it, and the attachment comes with another request
	p.post("bAQID")
	p.wantWorking()
}
