package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

const (
	overWebSocket = "/socket.io/?EIO=4&transport=websocket"
	overPolling   = "/socket.io/?EIO=4&transport=polling"
)

// sioPeer is a Socket.IO client over WebSocket.
type sioPeer struct {
	*raw
	SocketID, pid string
}

// openSIO opens a session that is in no namespace yet.
func (s *live) openSIO(query string) *sioPeer {
	s.t.Helper()
	p := &sioPeer{raw: s.upgraded(overWebSocket + query)}
	p.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if got := p.next(); !strings.HasPrefix(got, `0{"sid":"`) || !strings.HasSuffix(got, `"upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`) {
		s.t.Fatalf("the session begins with %s", got)
	}
	return p
}

// dialSIO opens a session that is in "/".
func (s *live) dialSIO(query string) *sioPeer {
	s.t.Helper()
	p := s.openSIO(query)
	p.enter("/", "")
	return p
}

// nspPrefix is how a namespace stands in packets.
func nspPrefix(nsp string) string {
	if nsp == "/" {
		return ""
	}
	return nsp + ","
}

var welcomed = regexp.MustCompile(`^40(/[^,]*,)?\{"sid":"(\d+\.\d+)"(?:,"pid":"([^"]+)")?\}$`)

// enter connects to a namespace, and returns the socket id there.
func (p *sioPeer) enter(nsp, auth string) string {
	p.t.Helper()
	p.say("40" + nspPrefix(nsp) + auth)
	text := p.next()
	m := welcomed.FindStringSubmatch(text)
	if m == nil || m[1] != nspPrefix(nsp) {
		p.t.Fatalf("entering %s is answered with %s", nsp, text)
	}
	if nsp == "/" {
		p.SocketID, p.pid = m[2], m[3]
	}
	return m[2]
}

func (p *sioPeer) say(packets ...string) {
	p.t.Helper()
	var b []byte
	for _, x := range packets {
		b = append(b, masked(ws.OpText, x)...)
	}
	p.write(b)
}

func (p *sioPeer) blobs(payloads ...string) {
	p.t.Helper()
	for _, x := range payloads {
		p.write(masked(ws.OpBinary, x))
	}
}

// next is the next packet; what is binary begins with b.
func (p *sioPeer) next() string {
	p.t.Helper()
	op, b, err := p.read()
	switch {
	case err != nil:
		p.t.Fatalf("no further packet: %v", err)
	case op == ws.OpBinary:
		return "b" + string(b)
	case op != ws.OpText:
		p.t.Fatalf("there should be a packet, and is %d %q", op, b)
	}
	return string(b)
}

func (p *sioPeer) want(packets ...string) {
	p.t.Helper()
	for _, want := range packets {
		if got := p.next(); got != want {
			p.t.Fatalf("packet is\n%s\nand should be\n%s", got, want)
		}
	}
}

// quiet checks that nothing is on its way to the client, which is in "/". Two rounds: in the first, the answer may
// overtake what was posted to the loop while it read.
func (p *sioPeer) quiet() {
	p.t.Helper()
	for range 2 {
		p.say(`4299["unsubscribe","nothing"]`)
		p.want(`4399[{"ok":true,"channel":"nothing"}]`)
	}
}

// subscribe asks for a channel without state, and awaits the answer.
func (p *sioPeer) subscribe(channel string) {
	p.t.Helper()
	p.say(`427["subscribe","` + channel + `"]`)
	p.want(`437[{"ok":true,"channel":"` + channel + `"}]`)
}

// withOffset is an event's packet with the offset that ends events where clients can come back.
func withOffset(packet string) *regexp.Regexp {
	return regexp.MustCompile("^" + regexp.QuoteMeta(strings.TrimSuffix(packet, "]")) + `,"([0-9a-f]{8}\.[0-9a-f]{14})"\]$`)
}

// sioPoller is a Socket.IO client over HTTP requests.
type sioPoller struct {
	t             testing.TB
	s             *live
	web           *http.Client
	url, sid      string
	SocketID, pid string
	got           []string // packets that came and were not asked for yet
}

// http is where the server is found.
func (s *live) http() string {
	if s.tls != nil {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// web is a client of its own connections.
func (s *live) web() *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 4}
	if s.tls != nil {
		tr.TLSClientConfig = s.tls.Clone()
	}
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// openPoller opens a session that is in no namespace yet.
func (s *live) openPoller(query string) *sioPoller {
	s.t.Helper()
	p := &sioPoller{t: s.t, s: s, web: s.web(), url: s.http() + overPolling + query}
	s.t.Cleanup(p.web.CloseIdleConnections)
	status, body := p.get()
	var open struct{ SID string }
	if status != http.StatusOK || !strings.HasPrefix(body, "0{") || json.Unmarshal([]byte(body[1:]), &open) != nil ||
		body != `0{"sid":"`+open.SID+`","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}` {
		s.t.Fatalf("the session begins with %d %s", status, body)
	}
	p.sid = open.SID
	p.url += "&sid=" + p.sid
	return p
}

// dialPoller opens a session that is in "/".
func (s *live) dialPoller(query string) *sioPoller {
	s.t.Helper()
	p := s.openPoller(query)
	p.enter("/", "")
	return p
}

func (p *sioPoller) enter(nsp, auth string) string {
	p.t.Helper()
	p.say("40" + nspPrefix(nsp) + auth)
	text := p.next()
	m := welcomed.FindStringSubmatch(text)
	if m == nil || m[1] != nspPrefix(nsp) {
		p.t.Fatalf("entering %s is answered with %s", nsp, text)
	}
	if nsp == "/" {
		p.SocketID, p.pid = m[2], m[3]
	}
	return m[2]
}

// do makes a request.
func (p *sioPoller) do(ctx context.Context, method, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, p.url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	resp, err := p.web.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (p *sioPoller) get() (status int, body string) {
	p.t.Helper()
	status, body, err := p.do(context.Background(), http.MethodGet, "")
	if err != nil {
		p.t.Fatal(err)
	}
	return status, body
}

// getting makes a request that waits; it returns when the request is written.
func (p *sioPoller) getting(ctx context.Context) <-chan string {
	answer, written := make(chan string, 1), make(chan struct{})
	wrote := sync.OnceFunc(func() { close(written) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { wrote() }})
	go func() {
		defer wrote()
		status, body, err := p.do(ctx, http.MethodGet, "")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- fmt.Sprintf("%d %s", status, body)
	}()
	<-written
	return answer
}

func (p *sioPoller) post(body string) (status int, answer string) {
	p.t.Helper()
	status, answer, err := p.do(context.Background(), http.MethodPost, body)
	if err != nil {
		p.t.Fatal(err)
	}
	return status, answer
}

// say brings packets, all in one request.
func (p *sioPoller) say(packets ...string) {
	p.t.Helper()
	body := strings.Join(packets, "\x1e")
	if status, answer := p.post(body); status != http.StatusOK || answer != "ok" {
		p.t.Fatalf("%.100q is answered with %d %s", body, status, answer)
	}
}

// next is the next packet; what is binary is b and base64.
func (p *sioPoller) next() string {
	p.t.Helper()
	if len(p.got) == 0 {
		status, body := p.get()
		if status != http.StatusOK {
			p.t.Fatalf("no further packet, but %d %s", status, body)
		}
		p.got = strings.Split(body, "\x1e")
	}
	packet := p.got[0]
	p.got = p.got[1:]
	return packet
}

func (p *sioPoller) want(packets ...string) {
	p.t.Helper()
	for _, want := range packets {
		if got := p.next(); got != want {
			p.t.Fatalf("packet is\n%s\nand should be\n%s", got, want)
		}
	}
}

func (p *sioPoller) quiet() {
	p.t.Helper()
	for range 2 {
		p.say(`4299["unsubscribe","nothing"]`)
		p.want(`4399[{"ok":true,"channel":"nothing"}]`)
	}
}

// wantGone checks that the session is over.
func (p *sioPoller) wantGone() {
	p.t.Helper()
	if status, body := p.get(); status != http.StatusBadRequest || body != `{"code":1,"message":"Session ID unknown"}` {
		p.t.Fatalf("the session is not over: %d %s", status, body)
	}
}

// probe opens a WebSocket for the session, and tries it.
func (p *sioPoller) probe() *sioPeer {
	p.t.Helper()
	c := &sioPeer{raw: p.s.upgraded(overWebSocket + "&sid=" + p.sid)}
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	c.say("2probe")
	c.want("3probe")
	return c
}

// packet is next with what it fails for.
func (p *sioPeer) packet() (string, error) {
	op, b, err := p.read()
	if err == nil && op != ws.OpText {
		err = fmt.Errorf("a frame %d %q", op, b)
	}
	return string(b), err
}
