package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// refusalBody is the body of our own refusals; net/http's are "400 Bad Request: why".
func refusalBody(code int, why string) string {
	return `{"error":"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(why) + fmt.Sprintf(`","code":%d}`+"\n", code)
}

func TestABadUpgradeRequestIsRefusedWithItsReason(t *testing.T) {
	const head = "GET /ws HTTP/1.1\r\nHost: x\r\n"
	long := "X-Long: " + strings.Repeat("x", 8<<10) + "\r\n"
	huge := "X-Huge: " + strings.Repeat("x", 2<<20) + "\r\n"
	without := func(header string) string {
		_, rest, _ := strings.Cut(upgradeHeaders, header+":")
		_, rest, _ = strings.Cut(rest, "\r\n")
		before, _, _ := strings.Cut(upgradeHeaders, header+":")
		return head + before + rest
	}
	changed := func(old, new string) string { return head + strings.Replace(upgradeHeaders, old, new, 1) }
	const badKey = "Sec-WebSocket-Key is not 16 bytes in base64"
	cases := []struct {
		name, request string
		status        int
		body          string
		header        http.Header // what must be in the answer, besides
	}{
		{"two hosts", "GET /ws HTTP/1.1\r\nHost: x\r\nHost: x\r\n" + upgradeHeaders, 400, "400 Bad Request", nil},
		{"no host", "GET /ws HTTP/1.1\r\n" + upgradeHeaders, 400, "400 Bad Request: missing required Host header", nil},
		{"an impossible host", "GET /ws HTTP/1.1\r\nHost: a b\r\n" + upgradeHeaders, 400, "400 Bad Request: malformed Host header", nil},
		{"HTTP/1.0", "GET /ws HTTP/1.0\r\nHost: x\r\n" + upgradeHeaders, 400, refusalBody(400, "a WebSocket handshake needs HTTP/1.1, this is HTTP/1.0"), nil},
		{"HTTP/3.0", "GET /ws HTTP/3.0\r\nHost: x\r\n" + upgradeHeaders, 505, "505 HTTP Version Not Supported: unsupported protocol version", nil},
		{"a POST", "POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + upgradeHeaders, 405, refusalBody(405, "a WebSocket handshake is a GET request, this is a POST"), http.Header{"Allow": {"GET"}}},
		{"a body", head + "Content-Length: 5\r\n" + upgradeHeaders + "hello", 400, refusalBody(400, "a WebSocket handshake has no body"), nil},
		{"a chunked body", head + "Transfer-Encoding: chunked\r\n" + upgradeHeaders + "0\r\n\r\n", 400, refusalBody(400, "a WebSocket handshake has no body"), nil},
		{"two lengths", head + "Content-Length: 0\r\nContent-Length: 5\r\n" + upgradeHeaders, 400, "400 Bad Request", nil},
		{"no upgrade", without("Upgrade"), 426, refusalBody(426, "this address speaks WebSocket: send Upgrade: websocket; a proxy may have removed it"), http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}}},
		{"another upgrade", changed("websocket", "h2c"), 426, refusalBody(426, "this address speaks WebSocket: send Upgrade: websocket; a proxy may have removed it"), nil},
		{"no connection", without("Connection"), 426, refusalBody(426, "the header Connection does not contain Upgrade; a proxy may have removed it"), nil},
		{"version 8", changed("Version: 13", "Version: 8"), 426, refusalBody(426, `Sec-WebSocket-Version is "8", only 13 is spoken here`), http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}}},
		{"no version", without("Sec-WebSocket-Version"), 426, refusalBody(426, `Sec-WebSocket-Version is "", only 13 is spoken here`), http.Header{"Sec-Websocket-Version": {"13"}}},
		{"a short key", changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), 400, refusalBody(400, badKey), nil},
		{"a key that is no base64", changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ*=="), 400, refusalBody(400, badKey), nil},
		{"no key", without("Sec-WebSocket-Key"), 400, refusalBody(400, "the header Sec-WebSocket-Key has to stand exactly once"), nil},
		{"two keys", head + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + upgradeHeaders, 400, refusalBody(400, "the header Sec-WebSocket-Key has to stand exactly once"), nil},
		{"another origin", head + "Origin: https://evil.example\r\n" + upgradeHeaders, 403, refusalBody(403, `origin "https://evil.example" is not allowed: add it to the server's origins`), nil},
		{"two origins", head + "Origin: http://x\r\nOrigin: http://x\r\n" + upgradeHeaders, 403, refusalBody(403, `origin "http://x" is not allowed: add it to the server's origins`), nil},
		{"an empty origin", head + "Origin:\r\n" + upgradeHeaders, 403, refusalBody(403, `origin "" is not allowed: add it to the server's origins`), nil},
		{"an unknown app", "GET /ws?app=nope HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders, 401, refusalBody(401, `there is no app with the key "nope"`), nil},
		{"another path", "GET /wss HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders, 404, refusalBody(404, "nothing is served at /wss"), nil},
		{"more than 2 MiB of headers", head + huge + upgradeHeaders, 431, "431 Request Header Fields Too Large", nil},
		{"a space before a colon", head + "Origin : http://x\r\n" + upgradeHeaders, 400, "400 Bad Request: invalid header name", nil},
		{"a control character", head + "X-A: a\x01b\r\n" + upgradeHeaders, 400, "400 Bad Request", nil},
		{"no HTTP", "hello?\r\n\r\n", 400, "400 Bad Request", nil},
		{"garbage", "\x00\xff\xfe\x80\r\n\r\n", 400, "400 Bad Request", nil},
		{"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "", nil},

		// net/http is generous here, and so are we.
		{"8 KiB of headers", head + long + upgradeHeaders, 101, "", nil},
		{"bare LF", strings.ReplaceAll(head+upgradeHeaders, "\r\n", "\n"), 101, "", nil},
		{"a folded header", head + "X-Folded: a\r\n b\r\n" + upgradeHeaders, 101, "", nil},
		{"the page's own origin", head + "Origin: http://x\r\n" + upgradeHeaders, 101, "", nil},
	}
	onEach(t, func(t *testing.T, tr transport) {
		t.Parallel() // net/http waits half a second behind some refusals
		s := startOn(t, tr, Config{})
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				p := s.connect()
				p.t = t
				go p.Write([]byte(c.request)) // who refuses may not read all of it
				status, h, body := p.response()
				if status != c.status || body != c.body {
					t.Errorf("the answer is %d %q, and should be %d %q", status, body, c.status, c.body)
				}
				if strings.HasPrefix(c.body, "{") && h.Get("Content-Type") != "application/json" {
					t.Errorf("the refusal's Content-Type is %q", h.Get("Content-Type"))
				}
				for k, v := range c.header {
					if h.Get(k) != v[0] {
						t.Errorf("header %s is %q, and should be %q", k, h.Get(k), v[0])
					}
				}
				if status == 101 {
					p.greeted()
					p.write(masked(ws.OpText, `{"event":"ping"}`))
					p.want(ws.OpText, `{"event":"pong"}`)
				}
				p.Close()
				eventually(t, "the place is given back", func() bool { return s.entered() == 0 })
			})
		}
	})
}

// Frames that come with a handshake of net/http's arrive once and in their order, however they were read.
func TestFramesBehindAnUnusualHandshake(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		for _, n := range []int{1, 50, 300, 5000} {
			b := []byte("GET /ws HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 8<<10) + "\r\n" + upgradeHeaders)
			for i := range n {
				b = append(b, masked(ws.OpText, fmt.Sprintf(`{"event":"ping","id":%d}`, i))...)
			}
			p := s.connect()
			go p.Write(b)
			if status, _, body := p.response(); status != 101 {
				t.Fatalf("the handshake is answered with %d %s", status, body)
			}
			p.greeted()
			for i := range n {
				p.want(ws.OpText, fmt.Sprintf(`{"event":"pong","id":%d}`, i))
			}
			p.write(closing(1000, ""))
			p.wantClose(1000, "")
		}
	})
}

func TestTLSOnThePlainPortIsToldSo(t *testing.T) {
	// A ClientHello's first record, which has no line end that net/http could wait for.
	hello := append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 506)...)
	for _, early := range []int{1, 5, len(hello)} {
		s := start(t, Config{})
		p := s.connect()
		p.write(hello[:early])
		status, _, body := p.response()
		if want := refusalBody(400, "this port speaks plain HTTP, and the client began TLS: connect with ws:// or http://"); status != 400 || body != want {
			t.Errorf("the answer is %d %q, and should be 400 %q", status, body, want)
		}
		p.write(hello[early:])
		if _, err := p.r.ReadByte(); err != io.EOF {
			t.Errorf("after the refusal comes %v", err)
		}
	}
}

// post is a request to publish, signed as an SDK does unless the case says otherwise.
type post struct {
	body   string
	key    auth.Key
	edit   func(query string) string // of the signed query
	header string
	sent   string // another body than the signed one
	length int    // announced; 0 is that of what is sent
	end    bool   // with the end of the stream
}

func TestAPublishRequestIsRefusedWithItsReason(t *testing.T) {
	clock := newClock(time.Unix(1_760_000_000, 0))
	const (
		limit = 100 << 10
		ok    = `{"name":"E","channel":"news","data":"{}"}`
	)
	k1 := auth.Key{Key: "k1", Secret: "s1"}
	body := func(b string) post { return post{body: b, key: k1} }
	channels := func(n int) string {
		var cs []string
		for i := range n {
			cs = append(cs, fmt.Sprintf(`"c%d"`, i))
		}
		return strings.Join(cs, ",")
	}
	data := func(n int) string {
		return `{"name":"E","channel":"news","data":"` + strings.Repeat("x", n-2) + `"}` // it is no JSON, so the quotes count
	}
	unsigned := func(more string) string {
		text := "POST\n/apps/shop/events\nauth_key=k1&auth_timestamp=1760000000&auth_version=1.0&body_md5=" + md5Of(ok) + more
		return refusalBody(401, fmt.Sprintf(`auth_signature is not the HMAC-SHA256, in lower-case hex, of %q with the secret of key "k1"`, text))
	}
	cases := []struct {
		name   string
		post   post
		status int
		body   string
	}{
		{"fine", body(ok), 200, "{}"},
		{"with another of the app's keys", post{body: ok, key: auth.Key{Key: "k2", Secret: "s2"}}, 200, "{}"},
		{"100 channels", body(`{"name":"E","channels":[` + channels(100) + `],"data":"{}"}`), 200, "{}"},
		{"data at the limit", body(data(limit)), 200, "{}"},

		{"another app's key", post{body: ok, key: auth.Key{Key: "kb", Secret: "sb"}}, 401, refusalBody(401, `auth_key "kb" is not a key of app "shop"`)},
		{"a wrong secret", post{body: ok, key: auth.Key{Key: "k1", Secret: "s2"}}, 401, unsigned("")},
		{"another query than was signed", post{body: ok, key: k1, edit: func(q string) string { return q + "&channels=other" }}, 401, unsigned("&channels=other")},

		{"an array", body("[]"), 400, refusalBody(400, "the body is not the JSON of an event: it is of type array, and must be an object")},
		{"a list for a channel", body(`{"name":"E","channel":["news"],"data":"{}"}`), 400, refusalBody(400, "the body is not the JSON of an event: channel is of type array, and must be a string")},
		{"a string for the channels", body(`{"name":"E","channels":"news","data":"{}"}`), 400, refusalBody(400, "the body is not the JSON of an event: channels is of type string, and must be a list")},
		{"a number among the channels", body(`{"name":"E","channels":["news",1],"data":"{}"}`), 400, refusalBody(400, "the body is not the JSON of an event: channels is of type number, and must be a string")},
		{"a number for a name", body(`{"name":1}`), 400, refusalBody(400, "the body is not the JSON of an event: name is of type number, and must be a string")},
		{"an internal name", body(`{"name":"pusher_internal:x","channel":"news","data":"{}"}`), 400, refusalBody(400, `event name "pusher_internal:x" is reserved for the protocol`)},
		{"a long idempotency key", post{body: ok, key: k1, header: "X-Idempotency-Key: " + strings.Repeat("x", 129) + "\r\n"}, 400, refusalBody(400, "the X-Idempotency-Key is longer than 128 bytes")},
		{"an unsigned body, which is not waited for", post{sent: "{", length: 4_000_000, edit: func(string) string { return "auth_key=k1" }}, 401, refusalBody(401, "query parameter auth_timestamp is missing: requests to this API are signed")},
		{"a body that ends early", post{body: ok, key: k1, length: len(ok) + 1, end: true}, 400, refusalBody(400, "the body could not be read: unexpected EOF")},
		{"a body over 4 MiB", body(data(4<<20 + 1)), 413, refusalBody(413, "the body is longer than 4194304 bytes: send several requests")},
	}
	onEach(t, func(t *testing.T, tr transport) {
		t.Parallel() // net/http waits half a second behind some refusals
		s := startOn(t, tr, Config{Apps: testApps, now: clock.now})
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				p := s.connect()
				p.t = t
				query := auth.SignRequest("POST", "/apps/shop/events", nil, []byte(c.post.body), c.post.key.Key, c.post.key.Secret, clock.now())
				if c.post.edit != nil {
					query = c.post.edit(query)
				}
				sent := c.post.body
				if c.post.sent != "" {
					sent = c.post.sent
				}
				length := c.post.length
				if length == 0 {
					length = len(sent)
				}
				go func() {
					fmt.Fprintf(p, "POST /apps/shop/events?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s", query, length, c.post.header, sent)
					if c.post.end {
						p.Conn.(interface{ CloseWrite() error }).CloseWrite()
					}
				}()
				status, h, got := p.response()
				if status != c.status || got != c.body {
					t.Errorf("the answer is %d %q, and should be %d %q", status, got, c.status, c.body)
				}
				if h.Get("Content-Type") != "application/json" {
					t.Errorf("its Content-Type is %q", h.Get("Content-Type"))
				}
				p.Close()
			})
		}
	})
}

func TestOnlyPOSTPublishes(t *testing.T) {
	s := start(t, Config{Apps: testApps})
	p := s.connect()
	p.write([]byte("GET /apps/shop/events HTTP/1.1\r\nHost: x\r\n\r\n"))
	if status, h, body := p.response(); status != 405 || h.Get("Allow") != "POST" || body != refusalBody(405, "/apps/shop/events takes POST, and this is a GET") {
		t.Errorf("a GET is answered with %d %q, Allow %q", status, body, h.Get("Allow"))
	}
}

// A body that does not arrive is given up, and does not hold its connection.
func TestABodyHasTheTimeOfAHandshake(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: testApps, Limits: Limits{Handshake: 50 * time.Millisecond}})
		body := []byte(`{"name":"E","channel":"news","data":"{}"}`)
		p := s.connect()
		query := auth.SignRequest("POST", "/apps/shop/events", nil, body, "k1", "s1", time.Now())
		p.write(fmt.Appendf(nil, "POST /apps/shop/events?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", query, len(body), body[:10]))
		if status, _, got := p.response(); status != 408 || got != refusalBody(408, "the body did not arrive within 50ms") {
			t.Errorf("the answer is %d %q", status, got)
		}
		if _, err := p.r.ReadByte(); err != io.EOF {
			t.Errorf("after the refusal comes %v", err)
		}
		q := s.connect()
		q.write([]byte("POST /broadcasting/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nsocket"))
		if status, _, got := q.response(); status != 400 || got != `{"error":"the body could not be read"}` {
			t.Errorf("the answer is %d %q", status, got)
		}
		// A handler that takes longer than its body may is not interrupted.
		r := s.connect()
		r.write(fmt.Appendf(nil, "POST /apps/shop/events?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", query, len(body), body))
		if status, _, got := r.response(); status != 200 || got != "{}" {
			t.Errorf("the answer is %d %q", status, got)
		}
	})
}

// Nor does a body that nobody reads.
func TestABodyThatNobodyReadsHasThatTime(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, tr := range []transport{loops, overTLS, portable} { // where the program serves, it is the program's
		t.Run(string(tr), func(t *testing.T) {
			s := startOn(t, tr, Config{Limits: Limits{Handshake: limit}})
			for path, want := range map[string]int{"/health": 200, "/nowhere": 404, overPolling: 200, "/socket.io/?EIO=9": 400} {
				p := s.connect()
				p.SetReadDeadline(time.Now().Add(5 * time.Second))
				p.write(fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", path))
				if status, _, _ := p.response(); status != want {
					t.Errorf("%s is answered with %d", path, status)
				}
				if _, err := p.r.ReadByte(); err != io.EOF {
					t.Errorf("after the answer to %s comes %v", path, err)
				}
			}
			// What waits for longer than that, with nothing to be read, goes on.
			p := s.dialPoller("")
			answer := p.getting(t.Context())
			time.Sleep(5 * limit) // net/http's deadlines are by the real clock
			p.say(`4299["unsubscribe","nothing"]`)
			if got := <-answer; got != `200 4399[{"ok":true,"channel":"nothing"}]` {
				t.Errorf("a request that waited is answered with %s", got)
			}
		})
	}
}
