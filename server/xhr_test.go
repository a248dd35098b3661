package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// xhrPeer is a client of the Pusher protocol over HTTP requests.
type xhrPeer struct {
	t        testing.TB
	web      *http.Client
	header   http.Header // of every request
	first    string      // URL of the session, for its first request
	then     string      // and for those after it, once its secret is known
	secret   string
	SocketID string

	response *http.Response // the stream
	lines    *bufio.Reader
}

// xhr makes a client of a session, which does nothing yet.
func (s *live) xhr(path string) *xhrPeer {
	scheme := "http"
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	if s.tls != nil {
		scheme = "https"
		tr.TLSClientConfig = s.tls.Clone()
	}
	p := &xhrPeer{t: s.t, web: &http.Client{Transport: tr, Timeout: 60 * time.Second}, header: http.Header{}, first: scheme + "://" + s.addr + path}
	s.t.Cleanup(p.leave)
	return p
}

func (p *xhrPeer) post(url, body string) *http.Response {
	p.t.Helper()
	r, err := p.request("POST", url, body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *xhrPeer) request(method, url, body string) (*http.Response, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range p.header {
		r.Header[k] = v
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	return p.web.Do(r)
}

func (p *xhrPeer) all(r *http.Response) string {
	p.t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatalf("the response breaks off after %q: %v", b, err)
	}
	return string(b)
}

// stream asks for a streaming response.
func (p *xhrPeer) stream() {
	p.t.Helper()
	url := p.then
	if url == "" {
		url = p.first
	}
	p.response = p.post(url+"/xhr_streaming?protocol=7&client=js&version=8.6.0&t=1&n=1", "")
	p.lines = bufio.NewReader(p.response.Body)
	if p.response.StatusCode != http.StatusOK {
		p.t.Fatalf("streaming is answered with %d %s", p.response.StatusCode, p.all(p.response))
	}
}

// leave goes away for good.
func (p *xhrPeer) leave() {
	if p.response == nil && p.then != "" { // a poller: a session ends with the response that is left
		p.response, _ = p.request("POST", p.then+"/xhr_streaming", "")
	}
	if p.response != nil {
		p.response.Body.Close()
	}
	p.web.CloseIdleConnections()
}

// want reads the next lines of the stream.
func (p *xhrPeer) want(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		if got := p.next(); got != want {
			p.t.Fatalf("line is\n%s\nand should be\n%s", got, want)
		}
	}
}

func (p *xhrPeer) next() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.t.Fatalf("no further line, but %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// wantEnd reads the orderly end of the stream.
func (p *xhrPeer) wantEnd() {
	p.t.Helper()
	if b, err := io.ReadAll(p.lines); err != nil || len(b) > 0 {
		p.t.Fatalf("there should be the end of the response, and is %q, %v", b, err)
	}
}

// poll asks for what waits.
func (p *xhrPeer) poll() string {
	p.t.Helper()
	url := p.then
	if url == "" {
		url = p.first
	}
	r := p.post(url+"/xhr?protocol=7&client=js&version=8.6.0&t=1&n=1", "")
	body := p.all(r)
	if r.StatusCode != http.StatusOK || r.ContentLength != int64(len(body)) {
		p.t.Fatalf("a poll is answered with %d, Content-Length %d, %s", r.StatusCode, r.ContentLength, body)
	}
	return body
}

func (p *xhrPeer) wantPoll(lines ...string) {
	p.t.Helper()
	if got, want := p.poll(), strings.Join(lines, "\n")+"\n"; got != want {
		p.t.Fatalf("the poll brings\n%sand should bring\n%s", got, want)
	}
}

// opened takes the first two lines of a session.
func (p *xhrPeer) opened(open, greeting string) {
	p.t.Helper()
	_, at, _ := strings.Cut(p.first, "://")
	host, path, _ := strings.Cut(at, "/")
	app := path[:strings.LastIndexByte(path[:strings.LastIndexByte(path, '/')], '/')] // without server and session
	m := regexp.MustCompile(`^o\{"hostname":"` + regexp.QuoteMeta(host+"/"+app) + `/([A-Z2-7]{26})"\}$`).FindStringSubmatch(open)
	if m == nil {
		p.t.Fatalf("the session opens with %s", open)
	}
	p.secret = m[1]
	p.then = replaceHost(p.first, host+"/"+app+"/"+p.secret)
	p.greeted(greeting)
}

func (p *xhrPeer) greeted(line string) {
	p.t.Helper()
	m := regexp.MustCompile(`^a\["\{\\"event\\":\\"pusher:connection_established\\",\\"data\\":\\"\{\\\\\\"socket_id\\\\\\":\\\\\\"(\d+\.\d+)\\\\\\",\\\\\\"activity_timeout\\\\\\":120\}\\"\}"\]$`).FindStringSubmatch(line)
	if m == nil {
		p.t.Fatalf("greeting is %s", line)
	}
	p.SocketID = m[1]
}

// replaceHost is that of pusher-js.
func replaceHost(url, hostname string) string {
	m := regexp.MustCompile(`(https?://)([^/:]+)((/|:)?.*)`).FindStringSubmatch(url)
	return m[1] + hostname + m[3]
}

// streaming opens a session with a stream.
func (s *live) streaming(session string) *xhrPeer {
	s.t.Helper()
	p := s.xhr("/pusher/app/" + docKey + "/7/" + session)
	p.stream()
	p.opened(p.next(), p.next())
	return p
}

// polling opens a session with a poll.
func (s *live) polling(session string) *xhrPeer {
	s.t.Helper()
	p := s.xhr("/pusher/app/" + docKey + "/7/" + session)
	open, rest, _ := strings.Cut(p.poll(), "\n")
	p.opened(open, strings.TrimSuffix(rest, "\n"))
	return p
}

// a is the line of frames.
func a(frame string) string { return "a[" + inString(frame) + "]" }

// send posts messages, and returns the status and body of the answer.
func (p *xhrPeer) send(body string) (int, string) {
	p.t.Helper()
	r := p.post(p.then+"/xhr_send?t=2&n=2", body)
	return r.StatusCode, p.all(r)
}

// say sends messages in one request.
func (p *xhrPeer) say(frames ...string) {
	p.t.Helper()
	body, err := json.Marshal(append([]string{}, frames...))
	if err != nil {
		p.t.Fatal(err)
	}
	if status, answer := p.send(string(body)); status != http.StatusNoContent || answer != "" {
		p.t.Fatalf("xhr_send is answered with %d %q", status, answer)
	}
}

// subscription is the frame that subscribes.
func (p *xhrPeer) subscription(channel, channelData string) string {
	sig := ""
	if !strings.HasPrefix(channel, "public") {
		sig = auth.SignChannel(docKey, docSecret, p.SocketID, channel, channelData)
	}
	data := `"auth":` + inString(sig) + `,"channel":` + inString(channel)
	if channelData != "" {
		data += `,"channel_data":` + inString(channelData)
	}
	return `{"event":"pusher:subscribe","data":{` + data + `}}`
}

const (
	pingFrame = `{"event":"pusher:ping","data":{}}`
	pongFrame = `{"event":"pusher:pong","data":"{}"}`
)

// quiet checks that nothing is on its way to the client's stream.
func (p *xhrPeer) quiet() {
	p.t.Helper()
	for range 2 {
		p.say(pingFrame)
		p.want(a(pongFrame))
	}
}

func pusherSucceeded(channel string) string {
	return `{"event":"pusher_internal:subscription_succeeded","channel":"` + channel + `","data":"{}"}`
}

// nothingLeft checks that every session has ended, and with it all that it held.
func (s *live) nothingLeft() {
	s.t.Helper()
	eventually(s.t, "no session, no place in the gate and no goroutine is left", func() bool {
		s.xhrs.mu.Lock()
		n := len(s.xhrs.m)
		s.xhrs.mu.Unlock()
		return n == 0 && s.entered() == 0 && len(xhrGoroutines()) == 0
	})
}

// xhrGoroutines are the stacks that are inside of sessions or their pumps.
func xhrGoroutines() (left []string) {
	for g := range strings.SplitSeq(goroutines(), "\n\n") {
		if strings.Contains(g, "pusher.(*XHR)") || strings.Contains(g, "pusher.(*wire)") {
			left = append(left, g)
		}
	}
	return left
}

// goroutines are the stacks of all.
func goroutines() string {
	b := make([]byte, 4<<20)
	return string(b[:runtime.Stack(b, true)])
}

func TestXHR(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *live)
	}{
		{"streaming", func(t *testing.T, s *live) {
			p := s.streaming("abcdefgh")
			want := http.Header{"Content-Type": {"application/javascript; charset=UTF-8"}, "Cache-Control": {"no-store, no-transform"}, "X-Accel-Buffering": {"no"}, "Vary": {"Origin"}, "Date": p.response.Header["Date"]}
			if got := fmt.Sprint(p.response.Header); got != fmt.Sprint(want) || p.response.ContentLength != -1 {
				t.Errorf("the headers are\n%s, and should be\n%s", got, fmt.Sprint(want))
			}
			p.say(p.subscription("public", ""), p.subscription("private-a", ""))
			p.want(a(pusherSucceeded("public")), a(pusherSucceeded("private-a")))
			s.send(realtime.Message{Channels: []string{"public", "private-a"}, Event: "E", Data: json.RawMessage(`{"note":"ä \"q\" \u2028\n"}`)})
			for _, ch := range []string{"public", "private-a"} {
				p.want(a(`{"event":"E","channel":"` + ch + `","data":"{\"note\":\"ä \\\"q\\\" \\u2028\\n\"}"}`))
			}
			// Asked again, it goes on where it was.
			old := *p
			p.stream()
			old.wantEnd()
			s.send(event("public", `1`))
			p.want(a(`{"event":"E","channel":"public","data":"1"}`))
			p.say(`{"event":"pusher:unsubscribe","data":{"channel":"public"}}`)
			p.quiet()
			s.send(event("public", `2`))
			p.quiet()
			p.leave()
			s.nothingLeft()
		}},
		{"polling", func(t *testing.T, s *live) {
			p := s.polling("abcdefgh")
			p.say(p.subscription("public", ""), p.subscription("private-a", ""))
			p.wantPoll(a(pusherSucceeded("public")), a(pusherSucceeded("private-a")))
			for i := range 3 {
				s.send(event("public", fmt.Sprint(i)))
				p.wantPoll(a(fmt.Sprintf(`{"event":"E","channel":"public","data":"%d"}`, i)))
			}
			// One poll takes another's place; what comes is for the later one.
			r := make(chan string)
			go func() {
				body := ""
				if resp, err := p.request("POST", p.then+"/xhr", ""); err == nil {
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					body = fmt.Sprintf("%d %s %v", resp.StatusCode, b, err)
				}
				r <- body
			}()
			sess := s.xhrs.get(xhrID{docKey, "7", "abcdefgh"})
			eventually(t, "the poll waits", func() bool { return responding(sess, "[select") })
			p.stream()
			if got := <-r; got != "200  <nil>" {
				t.Errorf("the earlier poll ends with %s", got)
			}
			p.quiet()
			p.leave()
			s.nothingLeft()
		}},
		{"presence, client events and exclusions, with WebSocket clients", func(t *testing.T, s *live) {
			p, q := s.streaming("aaaaaaaa"), s.dialPusher("")
			p.say(p.subscription("presence-room", `{"user_id":10,"user_info":{"name":"Ann"}}`))
			p.want(a(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":1,\"ids\":[\"10\"],\"hash\":{\"10\":{\"name\":\"Ann\"}}}}"}`))
			q.subscribe("presence-room", `{"user_id":"11"}`)
			q.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":2,\"ids\":[\"10\",\"11\"],\"hash\":{\"10\":{\"name\":\"Ann\"},\"11\":null}}}"}`)
			p.want(a(`{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"11\",\"user_info\":null}"}`))
			p.say(`{"event":"client-typing","channel":"presence-room","data":{"a":1}}`)
			q.want(`{"event":"client-typing","channel":"presence-room","data":"{\"a\":1}","user_id":"10"}`)
			q.say(`{"event":"client-typing","channel":"presence-room","data":{"b":1}}`)
			p.want(a(`{"event":"client-typing","channel":"presence-room","data":"{\"b\":1}","user_id":"11"}`))
			s.send(realtime.Message{Channels: []string{"presence-room"}, Event: "E", Data: json.RawMessage(`1`), ExceptSockets: []string{p.SocketID}})
			q.want(`{"event":"E","channel":"presence-room","data":"1"}`)
			s.send(realtime.Message{Channels: []string{"presence-room"}, Event: "E", Data: json.RawMessage(`2`), ExceptSockets: []string{q.SocketID}})
			p.want(a(`{"event":"E","channel":"presence-room","data":"2"}`))
			p.quiet()
			q.quiet()
			p.leave() // it leaves the room at once
			q.want(`{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"10\"}"}`)
		}},
		{"signing in, and ending a user's connections", func(t *testing.T, s *live) {
			for _, poll := range []bool{false, true} {
				var p *xhrPeer
				data := `{"id":"u1"}`
				ok := a(`{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"u1\\\"}\"}"}`)
				why := []string{a(pusherTrouble("", 4009, "You got disconnected by the app.")), `c[4009,"You got disconnected by the app."]`}
				signIn := func() {
					p.say(`{"event":"pusher:signin","data":{"auth":"` + auth.SignUser(docKey, docSecret, p.SocketID, data) + `","user_data":` + inString(data) + `}}`)
				}
				if poll {
					p = s.polling("bbbbbbbb")
					signIn()
					p.wantPoll(ok)
					s.Disconnect("", "u1", "You got disconnected by the app.")
					p.wantPoll(why...) // which comes after the end
				} else {
					p = s.streaming("bbbbbbbb")
					signIn()
					p.want(ok)
					s.Disconnect("", "u1", "You got disconnected by the app.")
					p.want(why...)
					p.wantEnd()
				}
				s.nothingLeft()
				if r := p.post(p.then+"/xhr", ""); r.StatusCode != http.StatusNotFound {
					t.Errorf("a poll after the end is answered with %d", r.StatusCode)
				}
			}
		}},
		{"faults keep the session", func(t *testing.T, s *live) {
			p := s.streaming("cccccccc")
			for _, x := range []struct {
				body   string
				status int
				answer string
			}{
				{`nonsense`, 400, `the body could not be read: it is not a JSON array of strings`},
				{`null`, 400, `the body could not be read: it is not a JSON array of strings`},
				{``, 400, `the body could not be read: it is not a JSON array of strings`},
				{`[1]`, 400, `the body could not be read: it is not a JSON array of strings`},
				{`["a"`, 400, `the body could not be read: it is not a JSON array of strings`},
			} {
				if status, answer := p.send(x.body); status != x.status || answer != string(errorBody(x.status, x.answer)) {
					t.Errorf("%s is answered with %d %s", x.body, status, answer)
				}
			}
			p.say(`nonsense`, pingFrame)
			p.want(a(pusherTrouble("", 4200, `Invalid message format: 'n' at byte 0, where '{' should be`)), a(pongFrame))
			p.quiet()
		}},
		{"messages of all lengths", func(t *testing.T, s *live) {
			p, q := s.streaming("dddddddd"), s.dialPusher("")
			p.say(p.subscription("private-a", ""))
			p.want(a(pusherSucceeded("private-a")))
			q.joined("private-a")
			for _, n := range []int{0, 1, 124, 125, 126, 127, 4000, 4096, 65_535, 65_536, 90_000} {
				text := strings.Repeat("ä", n/2) + strings.Repeat("x", n%2)
				p.say(`{"event":"client-x","channel":"private-a","data":` + inString(inString(text)) + `}`)
				want := `{"event":"client-x","channel":"private-a","data":` + inString(inString(text)) + `}`
				q.want(want)
				s.send(realtime.Message{Channels: []string{"private-a"}, Event: "E", Data: json.RawMessage(inString(text))})
				p.want(a(`{"event":"E","channel":"private-a","data":` + inString(inString(text)) + `}`))
				q.next()
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, tr transport) {
				c.do(t, startOn(t, tr, Config{Apps: []App{docApp()}, Limits: Limits{WhispersPerSecond: 1000}}))
			})
		})
	}
}

// responding reports whether a session's response is at a place in its code.
func responding(x *xhr, where string) bool {
	for _, g := range xhrGoroutines() {
		if strings.Contains(g, fmt.Sprintf("pusher.(*XHR).Serve(%p", x.XHR)) && strings.Contains(g, where) {
			return true
		}
	}
	return false
}

// heard reports whether the loop has everything that the only session's client has said.
func heard() bool {
	for _, g := range xhrGoroutines() {
		head, _, _ := strings.Cut(g, "\n")
		if strings.Contains(g, "pusher.(*wire).Read(") && strings.Contains(head, "[select") {
			return true
		}
	}
	return false
}

func TestWhoIsRefusedLearnsItInTheSession(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		a1 := auth.New()
		a1.AllowAnonymous()
		a1.Identify(func(r *http.Request) (auth.User, error) {
			switch r.URL.Query().Get("user") {
			case "bad":
				return auth.User{}, auth.Refuse("you are not welcome")
			case "panic":
				panic("in the application")
			}
			return auth.User{}, nil
		})
		s := startOn(t, tr, Config{Apps: []App{docApp()}, Auth: a1, Limits: Limits{Connections: 1}})
		for _, c := range []struct {
			path, query, why string
			code             int
		}{
			{"/pusher/app/nokey/1/abcdefgh", "", `there is no app with the key "nokey"`, 4001},
			{"/pusher/app/" + docKey + "/1/abcdefgh", "?user=bad", "you are not welcome", 4009},
			{"/pusher/app/" + docKey + "/1/abcdefgh", "", "the server has 1 connections, which is its limit", 4100},
		} {
			if c.code == 4100 {
				s.streaming("firstone")
			}
			for _, verb := range []string{"/xhr", "/xhr_streaming"} {
				p := s.xhr(fmt.Sprint(c.path, c.code, len(verb))) // a session of its own
				r := p.post(p.first+verb+c.query, "")
				body := p.all(r)
				open, rest, _ := strings.Cut(body, "\n")
				want := a(pusherTrouble("", c.code, c.why)) + "\n" + fmt.Sprintf("c[%d,%s]\n", c.code, inString(c.why))
				if r.StatusCode != 200 || !strings.HasPrefix(open, `o{"hostname":"`) || rest != want {
					t.Errorf("%s%s is answered with %d\n%sand should be\n%s", c.path, verb, r.StatusCode, body, want)
				}
			}
		}
		eventually(t, "one session is left", func() bool {
			s.xhrs.mu.Lock()
			defer s.xhrs.mu.Unlock()
			return len(s.xhrs.m) == 1 && s.entered() == 1
		})
		p := s.xhr("/pusher/app/" + docKey + "/1/abcdefgh")
		if r := p.post(p.first+"/xhr?user=panic", ""); r.StatusCode != 500 || p.all(r) != string(errorBody(500, "identification failed")) {
			t.Errorf("a panic is answered with %d", r.StatusCode)
		}
	})
}

// The secret opens a session, and nothing else does.
func TestASessionIsEnteredWithItsSecretOnly(t *testing.T) {
	app2 := App{ID: "4", Keys: []auth.Key{{Key: "other", Secret: "x"}}}
	s := start(t, Config{Apps: []App{docApp(), app2}, Origins: []string{"https://a.example", "https://b.example"}})
	p := s.xhr("/pusher/app/" + docKey + "/7/abcdefgh")
	p.header.Set("Origin", "https://a.example")
	p.stream()
	p.opened(p.next(), p.next())
	base := "http://" + s.addr
	wrong := "A" + p.secret[1:]
	if wrong == p.secret {
		wrong = "B" + p.secret[1:]
	}
	path := "/pusher/app/" + docKey + "/7/abcdefgh"
	for _, c := range []struct{ what, origin, url string }{
		{"no secret", "https://a.example", base + path},
		{"another secret", "https://a.example", base + "/pusher/app/" + docKey + "/" + wrong + path},
		{"a piece of the secret", "https://a.example", base + "/pusher/app/" + docKey + "/" + p.secret[:25] + path},
		{"more than the secret", "https://a.example", base + "/pusher/app/" + docKey + "/" + p.secret + "A" + path},
		{"an empty secret", "https://a.example", base + "/pusher/app/" + docKey + "/:1" + path},
		{"another session", "https://a.example", strings.Replace(p.then, "/7/abcdefgh", "/7/abcdefgi", 1)},
		{"another server", "https://a.example", strings.Replace(p.then, "/7/abcdefgh", "/8/abcdefgh", 1)},
		{"another app", "https://a.example", strings.ReplaceAll(p.then, docKey, "other")},
		{"another origin", "https://b.example", p.then},
		{"no origin", "", p.then},
	} {
		q := *p
		q.header = http.Header{}
		if c.origin != "" {
			q.header.Set("Origin", c.origin)
		}
		for _, verb := range []string{"/xhr", "/xhr_streaming", "/xhr_send"} {
			if c.what == "no secret" && verb != "/xhr_send" {
				// The beginning of a session whose name is taken.
				if r := q.post(c.url+verb, ""); r.StatusCode != http.StatusConflict || q.all(r) != string(errorBody(409, "there is a session of this name: choose another")) {
					t.Errorf("%s, %s: %d", c.what, verb, r.StatusCode)
				}
				continue
			}
			r := q.post(c.url+verb, `["{\"event\":\"pusher:ping\"}"]`)
			if body := q.all(r); r.StatusCode != http.StatusNotFound || body != string(errorBody(404, "there is no such session: connect again")) {
				t.Errorf("%s, %s: %d %s", c.what, verb, r.StatusCode, body)
			}
		}
	}
	p.quiet() // and the session has noticed nothing
	if n := s.entered(); n != 1 {
		t.Errorf("%d connections are counted, and should be 1", n)
	}
	// The same name is free in another app.
	q := s.xhr("/pusher/app/other/7/abcdefgh")
	q.stream()
	q.opened(q.next(), q.next())
	if q.secret == p.secret {
		t.Errorf("two sessions have the secret %s", q.secret)
	}
}

func TestASessionKnowsWhereItsClientSeesIt(t *testing.T) {
	type header map[string]string
	for _, c := range []struct {
		what, path string
		header     header
		want       string
	}{
		{"the request's host", "/pusher/app/KEY/7/abcdefgh", header{"Host": "ws.example:6001"}, "ws.example:6001/pusher/app/KEY"},
		{"without a prefix", "/app/KEY/7/abcdefgh", header{"Host": "ws.example"}, "ws.example/app/KEY"},
		{"with ours", "/realtime/app/KEY/7/abcdefgh", header{"Host": "[::1]:80"}, "[::1]:80/realtime/app/KEY"},
		{"a proxy that changed the host", "/app/KEY/7/abcdefgh", header{"Host": "10.0.0.7:80", "X-Forwarded-Host": "ws.example:8443, inner"}, "ws.example:8443/app/KEY"},
		{"a page of the same origin", "/app/KEY/7/abcdefgh", header{"Host": "10.0.0.7", "X-Forwarded-Host": "inner", "Origin": "https://shop.example:444", "Sec-Fetch-Site": "same-origin"}, "shop.example:444/app/KEY"},
		{"a page of another origin", "/app/KEY/7/abcdefgh", header{"Host": "ws.example", "Origin": "https://shop.example:444", "Sec-Fetch-Site": "cross-site"}, "ws.example/app/KEY"},
		{"behind a handler that strips a prefix", "/mounted/pusher/app/KEY/7/abcdefgh", header{"Host": "ws.example"}, "ws.example/mounted/pusher/app/KEY"},
		{"no host", "/app/KEY/7/abcdefgh", header{"Host": "ws.example", "X-Forwarded-Host": `evil"}`}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, err := New(Config{Apps: []App{docApp()}, Prefix: "/realtime", Origins: []string{"https://shop.example:444"}, Logger: quiet(), DrainWindow: time.Nanosecond})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/mounted/", http.StripPrefix("/mounted", s))
			mux.Handle("/", s)
			web := httptest.NewServer(mux)
			defer web.Close()
			defer s.Shutdown(t.Context())
			live := &live{Server: s, t: t, addr: web.Listener.Addr().String()}
			p := live.xhr(strings.Replace(c.path, "KEY", docKey, 1))
			for k, v := range c.header {
				p.header.Set(k, v)
			}
			r := p.post(p.first+"/xhr", "")
			body := p.all(r)
			if c.want == "" {
				if want := string(errorBody(400, "the request does not say by which host name the server is known")); r.StatusCode != 400 || body != want {
					t.Fatalf("the answer is %d %s", r.StatusCode, body)
				}
				return
			}
			m := regexp.MustCompile(`^o\{"hostname":"(.*)/([A-Z2-7]{26})"\}\n`).FindStringSubmatch(body)
			if m == nil || m[1] != strings.Replace(c.want, "KEY", docKey, 1) {
				t.Fatalf("the session opens with\n%s, and should name %s", body, c.want)
			}
			// And there it is found, by whatever address the request comes in.
			_, path, _ := strings.Cut(replaceHost(p.first, m[1]+"/"+m[2]), "//")
			p.then = web.URL + path[strings.IndexByte(path, '/'):]
			p.say(pingFrame)
			p.wantPoll(a(pongFrame))
			p.leave()
		})
	}
}

func TestXHRAcrossOrigins(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}, Origins: []string{"https://shop.example"}})
	p := s.xhr("/pusher/app/" + docKey + "/7/abcdefgh")
	preflight := func(origin, url string) (int, http.Header) {
		p.header = http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"content-type"}}
		defer func() { p.header = http.Header{} }()
		r, err := p.request("OPTIONS", url, "")
		if err != nil {
			t.Fatal(err)
		}
		p.all(r)
		return r.StatusCode, r.Header
	}
	for _, verb := range []string{"/xhr", "/xhr_streaming", "/xhr_send"} {
		status, h := preflight("https://shop.example", p.first+verb)
		if status != 204 || h.Get("Access-Control-Allow-Origin") != "https://shop.example" || h.Get("Access-Control-Allow-Methods") != "GET, POST" || h.Get("Access-Control-Allow-Headers") != "content-type" || h.Get("Access-Control-Max-Age") != "600" {
			t.Errorf("the preflight of %s is answered with %d %v", verb, status, h)
		}
		if status, h := preflight("https://evil.example", p.first+verb); status != 403 || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("a stranger's preflight of %s is answered with %d %v", verb, status, h)
		}
		p.header.Set("Origin", "https://evil.example")
		r := p.post(p.first+verb, "")
		if body := p.all(r); r.StatusCode != 403 || r.Header.Get("Access-Control-Allow-Origin") != "" || body != string(errorBody(403, `origin "https://evil.example" is not allowed`)) {
			t.Errorf("a stranger's %s is answered with %d %s", verb, r.StatusCode, body)
		}
		p.header.Del("Origin")
		if r, err := p.request("GET", p.first+verb, ""); err != nil || r.StatusCode != 405 || r.Header.Get("Allow") != "POST, OPTIONS" {
			t.Errorf("GET %s is answered with %v, %v", verb, r, err)
		} else {
			p.all(r)
		}
	}
	if n := len(s.xhrs.m); n != 0 {
		t.Errorf("%d sessions have begun", n)
	}
	p.header.Set("Origin", "https://shop.example")
	p.stream()
	if got := p.response.Header.Get("Access-Control-Allow-Origin"); got != "https://shop.example" {
		t.Errorf("the stream allows origin %q", got)
	}
	p.opened(p.next(), p.next())
	p.quiet()
	for _, path := range []string{"/7/abcdefgh", "/7/abcdefgh/websocket", "/7/abcdefgh/xhr_streaming/", "/abcdefgh/xhr"} {
		r := p.post("http://"+s.addr+"/pusher/app/"+docKey+path, "")
		if body := p.all(r); r.StatusCode != 404 || body != string(errorBody(404, "nothing is served at /pusher/app/"+docKey+path)) {
			t.Errorf("%s is answered with %d %s", path, r.StatusCode, body)
		}
	}
}

// unattended waits until a session's last request has ended.
func (s *live) unattended(session string) {
	s.t.Helper()
	x := s.xhrs.get(xhrID{docKey, "7", session})
	eventually(s.t, "no request is left", func() bool { return !responding(x, "") })
}

func TestXHRHeartbeats(t *testing.T) {
	clock := newClock(time.Now())
	s := start(t, Config{Apps: []App{docApp()}, now: clock.now})
	s.clock = clock
	begin := clock.now()
	p, silent := s.streaming("aaaaaaaa"), s.streaming("bbbbbbbb")
	s.at(begin.Add(24 * time.Second))
	p.quiet() // no heartbeat yet; and a sign of life
	s.at(begin.Add(26 * time.Second))
	silent.want("h")
	s.at(begin.Add(50 * time.Second))
	p.want("h")
	p.say() // the answer
	p.say() // and one that wants to hear something
	p.want("a[]")
	s.at(begin.Add(56 * time.Second))
	silent.want(`c[4201,"no sign of life"]`)
	silent.wantEnd()
	s.at(begin.Add(79*time.Second + rounding)) // when it would be closed without the answer
	p.want("h")
	p.leave()
	s.nothingLeft()
}

// A poll waits for a bounded time, and the next one is a sign of life.
func TestAPollIsAnsweredInTime(t *testing.T) {
	clock := newClock(time.Now())
	s := start(t, Config{Apps: []App{docApp()}, now: clock.now})
	s.clock = clock
	now := clock.now()
	p := s.polling("aaaaaaaa")
	x := s.xhrs.get(xhrID{docKey, "7", "aaaaaaaa"})
	waiting := func() chan string {
		got := make(chan string)
		go func() {
			r, err := p.request("POST", p.then+"/xhr", "")
			if err != nil {
				got <- err.Error()
				return
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			got <- string(b)
		}()
		eventually(t, "the poll waits, and its sign of life has arrived", func() bool { return responding(x, "[select") && heard() })
		return got
	}
	for range 5 {
		got := waiting()
		s.at(now.Add(24 * time.Second))
		s.at(now.Add(26 * time.Second))
		if b := <-got; b != "h\n" {
			t.Fatalf("the poll brings %q", b)
		}
		now = now.Add(26 * time.Second)
	}
	got := waiting() // which has answered the heartbeat
	p.say()
	if b := <-got; b != "a[]\n" {
		t.Fatalf("the poll brings %q", b)
	}
	s.unattended("aaaaaaaa")
	s.at(now.Add(5*time.Second + rounding))
	s.nothingLeft()
}

// rounding is what the loops' clock may be late.
const rounding = 200 * time.Millisecond

func TestASessionWithoutRequestsEnds(t *testing.T) {
	clock := newClock(time.Now())
	reasons := make(chan string, 10)
	s := start(t, Config{Apps: []App{docApp()}, now: clock.now, Hook: func(_ context.Context, e Event) {
		if e.Kind == Disconnected {
			reasons <- e.Reason
		}
	}})
	s.clock = clock
	now := clock.now()
	q := s.dialPusher("")
	q.subscribe("presence-room", `{"user_id":"11"}`)
	q.next()
	p := s.polling("aaaaaaaa")
	p.say(p.subscription("presence-room", `{"user_id":"10"}`))
	p.poll()
	q.want(`{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"10\",\"user_info\":null}"}`)
	for range 3 { // each poll begins the time anew
		s.unattended("aaaaaaaa")
		now = now.Add(5*time.Second - rounding)
		s.at(now)
		p.say(pingFrame)
		p.wantPoll(a(pongFrame))
	}
	s.unattended("aaaaaaaa")
	p.say(pingFrame) // messages alone do not keep it
	s.at(now.Add(5*time.Second + rounding))
	q.want(`{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"10\"}"}`)
	if got := <-reasons; got != "no request came for 5s" {
		t.Errorf("it ended because: %s", got)
	}
	if r := p.post(p.then+"/xhr", ""); r.StatusCode != 404 {
		t.Errorf("a poll after the end is answered with %d", r.StatusCode)
	}
	if status, _ := p.send(`[]`); status != 404 {
		t.Errorf("a message after the end is answered with %d", status)
	}
	// A client that goes away from its response ends the session at once, in a poll too.
	r := s.polling("bbbbbbbb")
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", r.then+"/xhr", nil)
	gone := make(chan error)
	go func() {
		_, err := r.web.Do(req)
		gone <- err
	}()
	x := s.xhrs.get(xhrID{docKey, "7", "bbbbbbbb"})
	eventually(t, "the poll waits", func() bool { return responding(x, "[select") })
	cancel()
	<-gone
	if got := <-reasons; got != "the client went away without closing" {
		t.Errorf("it ended because: %s", got)
	}
	q.Close(1000, "")
	s.nothingLeft()
}

// pusher-js leaves a response behind 256 Ki of UTF-16 units, at the end of a line; a streaming client takes an earlier end
// for the end of the session. So a response ends exactly there.
func TestAResponseEndsWhereTheClientLeavesIt(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}, Limits: Limits{PayloadBytes: 1 << 20}})
	units := func(line string) (n int) {
		for _, r := range line {
			n++
			if r > 0xffff {
				n++
			}
		}
		return n + 1
	}
	rounds := 25
	if testing.Short() {
		rounds = 12
	}
	for _, text := range []string{"x", "漢", "😀", `"ä`} {
		p := s.polling("aaaaaaaa")
		p.say(p.subscription("public", ""))
		p.poll()
		p.stream() // which begins with nothing
		sizes := []int{1000, 300_000, 1, 100_000, 10_000}
		line := func(i, n int) string {
			return a(fmt.Sprintf(`{"event":"E","channel":"public","data":%s}`, inString(fmt.Sprintf(`[%d,%s]`, i, quoteJSON(strings.Repeat(text, n/len(text)))))))
		}
		total, responses := 0, 1
		for i := range rounds {
			n := sizes[i%len(sizes)]
			s.send(realtime.Message{Channels: []string{"public"}, Event: "E", Data: json.RawMessage(fmt.Sprintf(`[%d,%s]`, i, quoteJSON(strings.Repeat(text, n/len(text)))))})
			want := line(i, n)
			p.want(want)
			if total += units(want); total > 256<<10 {
				p.wantEnd()
				p.stream()
				total = 0
				responses++
			}
		}
		p.quiet()
		if responses < 2 {
			t.Errorf("%s: %d responses", text, responses)
		}
		p.leave()
		s.nothingLeft()
	}
}

// quoteJSON is text as this protocol's data quotes it: without escapes for HTML.
func quoteJSON(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestXHRBodiesAreBounded(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}, Limits: Limits{MessageBytes: 1000}})
	p := s.xhr("/pusher/app/" + docKey + "/7/aaaaaaaa")
	for _, verb := range []string{"/xhr", "/xhr_streaming"} {
		r := p.post(p.first+verb, strings.Repeat("x", 1025))
		if body := p.all(r); r.StatusCode != 413 || body != string(errorBody(413, "the body could not be read: http: request body too large")) {
			t.Errorf("%s with a long body is answered with %d %s", verb, r.StatusCode, body)
		}
	}
	r := p.post(p.first+"/xhr_streaming", strings.Repeat("x", 1024))
	if r.StatusCode != 200 {
		t.Errorf("a short body is answered with %d", r.StatusCode)
	}
	r.Body.Close() // which is noticed, behind the body
	s.nothingLeft()
	// One message of the longest length, with every quote escaped.
	q := s.streaming("bbbbbbbb")
	longest := `{"event":"pusher:ping","data":{"x":[` + strings.Repeat(`"",`, 319) + `"12"]}}`
	if len(longest) != 1000 {
		t.Fatal(len(longest))
	}
	q.say(longest)
	q.want(a(pongFrame))
	q.say(longest + " ")
	q.want(`c[1009,"message longer than the limit of 1000 bytes"]`)
	q.wantEnd()
	// A body that is longer than any message.
	q = s.streaming("bbbbbbbb")
	if status, answer := q.send(`["` + strings.Repeat("x", 3100) + `"]`); status != 413 || answer != string(errorBody(413, "the body could not be read: http: request body too large")) {
		t.Errorf("it is answered with %d %s", status, answer)
	}
	q.want(a(pusherTrouble("", 4301, "a request with messages is longer than 3024 bytes")), `c[4100,"a request with messages is longer than 3024 bytes"]`)
	q.wantEnd()
}

// What a client says waits while its commands do, and is not dropped in silence when that takes too long.
func TestMessagesWaitForTheSession(t *testing.T) {
	b := &blocking{}
	s := start(t, Config{Apps: []App{docApp()}, Auth: b.auth()})
	defer func() {
		eventually(t, "the authorizer returns", func() bool { return b.left.Load() == b.entered.Load() })
	}()
	defer close(b.open)
	p := s.streaming("aaaaaaaa")
	held := []string{`{"event":"pusher:subscribe","data":{"channel":"private-slow.1"}}`}
	for range 64 {
		held = append(held, `{"event":"pusher:unsubscribe","data":{"channel":"private-slow.1"}}`)
	}
	p.say(append([]string{pingFrame}, held...)...)
	p.want(a(pongFrame))
	eventually(t, "the session takes nothing", func() bool { return b.entered.Load() == 1 })
	x := s.xhrs.get(xhrID{docKey, "7", "aaaaaaaa"})
	// One body is in the pump's hands, the others wait; of those, 16 are held.
	results := make(chan error, 40)
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{}, 40)
	for range 40 {
		go func() {
			results <- x.Receive(ctx, func() ([]byte, error) {
				read <- struct{}{}
				return []byte(`["` + strings.Repeat(" ", 5000) + `"]`), nil
			})
		}()
	}
	taken := 0
	eventually(t, "16 bodies wait", func() bool {
		for len(results) > 0 {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
			taken++
		}
		return len(read) == 16+taken
	})
	if taken > 2 {
		t.Errorf("%d bodies were taken by a session that takes nothing", taken)
	}
	cancel()
	for range 40 - taken {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Fatalf("a wait that was given up ends with %v", err)
		}
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := x.Receive(late, func() ([]byte, error) { return []byte(`["x"]`), nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait that takes too long ends with %v", err)
	}
	const why = "too many of this connection's commands are waiting"
	p.want(a(pusherTrouble("", 4100, why)), `c[4100,"`+why+`"]`)
	p.wantEnd()
}

func TestDrainEndsSessions(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: []App{docApp()}})
		p, q := s.streaming("aaaaaaaa"), s.polling("bbbbbbbb")
		got := make(chan string)
		go func() {
			r, err := q.request("POST", q.then+"/xhr", "")
			if err != nil {
				got <- err.Error()
				return
			}
			b, err := io.ReadAll(r.Body)
			r.Body.Close()
			got <- fmt.Sprintf("%s%v", b, err)
		}()
		x := s.xhrs.get(xhrID{docKey, "7", "bbbbbbbb"})
		eventually(t, "the poll waits", func() bool { return responding(x, "[select") })
		r := s.xhr("/pusher/app/" + docKey + "/7/cccccccc")
		r.all(r.post(r.first+"/nothing", "")) // so that it has a connection: new ones are told before they ask
		s.draining.Store(true)                // and no session begins
		resp := r.post(r.first+"/xhr", "")
		if body := r.all(resp); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || body != string(errorBody(503, "the server is shutting down: connect again")) {
			t.Errorf("a new session is answered with %d %s", resp.StatusCode, body)
		}
		done := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			done <- s.Shutdown(ctx)
		}()
		const why = "the server is restarting: connect again"
		lines := []string{a(pusherTrouble("", 4200, why)), `c[4200,"` + why + `"]`}
		p.want(lines...)
		p.wantEnd()
		if b := <-got; b != strings.Join(lines, "\n")+"\n<nil>" {
			t.Errorf("the poll brings %s", b)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.nothingLeft()
	})
}

// connectSmall opens a connection that takes little before it is read.
func (s *live) connectSmall() *raw {
	s.t.Helper()
	c := s.connect()
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A client that does not read costs the bytes that it may have waiting, and then its session.
func TestASlowStreamEnds(t *testing.T) {
	reasons := make(chan string, 10)
	s := start(t, Config{Apps: []App{docApp()}, Limits: Limits{PayloadBytes: 64 << 20, QueuedBytes: 1 << 20}, Hook: func(_ context.Context, e Event) {
		if e.Kind == Disconnected {
			reasons <- e.Reason
		}
	}})
	p := s.polling("aaaaaaaa")
	p.say(p.subscription("public", ""))
	p.poll()
	_, path, _ := strings.Cut(p.then, s.addr)
	c := s.connectSmall()
	c.write([]byte("POST " + path + "/xhr_streaming HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))
	x := s.xhrs.get(xhrID{docKey, "7", "aaaaaaaa"})
	eventually(t, "the stream waits", func() bool { return responding(x, "[select") })
	s.send(event("public", `"`+strings.Repeat("x", 8<<20)+`"`)) // one line, more than sockets take
	eventually(t, "the stream writes", func() bool { return responding(x, "Write") })
	s.send(event("public", `"`+strings.Repeat("y", 2<<20)+`"`)) // waits: what one turn brings may be more than the limit
	s.send(event("public", `1`))
	if got := <-reasons; got != "the client read too slowly" {
		t.Errorf("it ended because: %s", got)
	}
	s.nothingLeft()
}

// What a client asks anew while it does not read would come behind a gap: the session ends instead.
func TestAResponseThatIsStuckIsNotReplaced(t *testing.T) {
	reasons := make(chan string, 10)
	s := start(t, Config{Apps: []App{docApp()}, Loops: 1, Limits: Limits{PayloadBytes: 64 << 20}, Hook: func(_ context.Context, e Event) {
		if e.Kind == Disconnected {
			reasons <- e.Reason
		}
	}})
	p := s.polling("aaaaaaaa")
	p.say(p.subscription("public", ""))
	p.poll()
	_, path, _ := strings.Cut(p.then, s.addr)
	ask := func(verb string) *raw {
		c := s.connectSmall()
		c.write([]byte("POST " + path + verb + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))
		return c
	}
	x := s.xhrs.get(xhrID{docKey, "7", "aaaaaaaa"})
	polled := ask("/xhr")
	eventually(t, "the poll waits", func() bool { return responding(x, "[select") })
	ask("/xhr_streaming")
	if status, _, body := polled.response(); status != 200 || body != "" {
		t.Fatalf("the poll that was replaced ends with %d %q", status, body)
	}
	s.send(event("public", `"`+strings.Repeat("x", 8<<20)+`"`)) // one line, more than sockets take
	eventually(t, "the stream writes", func() bool { return responding(x, "Write") })
	busy, release := make(chan struct{}), make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	s.loops[0].Post(loop.Func(func(*loop.Loop) { close(busy); <-release }), 0) // which ends the session
	<-busy
	if r := p.post(p.then+"/xhr", ""); r.StatusCode != 404 || p.all(r) != string(errorBody(404, "there is no such session: connect again")) {
		t.Errorf("the next poll is answered with %d", r.StatusCode)
	}
	free()
	if got := <-reasons; !strings.Contains(got, "i/o timeout") {
		t.Errorf("it ended because: %s", got)
	}
	s.nothingLeft()
	// The connection of the response that was replaced in order carries on.
	polled.write([]byte("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
	if status, _, body := polled.response(); status != 200 || body != "ok\n" {
		t.Errorf("the connection of the poll that was replaced answers %d %q", status, body)
	}
}

// hidden is a middleware's ResponseWriter that hides everything but its methods.
type hidden struct{ http.ResponseWriter }

func TestAMiddlewareThatCannotFlush(t *testing.T) {
	s, err := New(Config{Apps: []App{docApp()}, Logger: quiet(), DrainWindow: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(hidden{w}, r) }))
	defer web.Close()
	defer s.Shutdown(t.Context())
	live := &live{Server: s, t: t, addr: web.Listener.Addr().String()}
	p := live.xhr("/pusher/app/" + docKey + "/7/aaaaaaaa")
	r := p.post(p.first+"/xhr_streaming", "")
	if body := p.all(r); r.StatusCode != 500 || body != string(errorBody(500, "responses cannot be streamed behind this server's middleware")) {
		t.Errorf("streaming is answered with %d %s", r.StatusCode, body)
	}
	live.nothingLeft()
	q := live.polling("aaaaaaaa") // which needs no flush
	q.say(pingFrame)
	q.wantPoll(a(pongFrame))
	q.leave()
}

// The program's http.Server may have timeouts for its own handlers: they do not end sessions.
func TestTimeoutsOfTheProgramsServer(t *testing.T) {
	const timeout = 100 * time.Millisecond
	s, err := New(Config{Apps: []App{docApp()}, Limits: Limits{Handshake: timeout}, Logger: quiet(), DrainWindow: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s)
	web.Config.ReadTimeout, web.Config.WriteTimeout, web.Config.IdleTimeout = timeout, timeout, time.Minute
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.Start()
	defer web.Close()
	defer s.Shutdown(t.Context())
	live := &live{Server: s, t: t, addr: web.Listener.Addr().String()}
	p := live.streaming("aaaaaaaa")
	for end := time.Now().Add(3 * timeout); time.Now().Before(end); {
		p.quiet()
	}
	p.quiet()
}
