package mount

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	chimw "github.com/go-chi/chi/v5/middleware"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/server"
)

// patience is for what never comes; nothing waits as long when it works.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	// The routers log every request.
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultWriter, gin.DefaultErrorWriter = io.Discard, io.Discard
	chimw.DefaultLogger = chimw.RequestLogger(&chimw.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)})
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	// The first listener opens what the runtime keeps.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	os.Exit(m.Run())
}

// lines is a log that can be read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// site is a web server with a realtime server mounted in it.
type site struct {
	*server.Server
	t      *testing.T
	web    *httptest.Server
	prefix string
	log    *lines // of the realtime server, from level Warn
	webLog *lines // of net/http
}

type options struct {
	cfg   server.Config
	wrap  func(http.Handler) http.Handler // what stands in front; nil for nothing
	tls   bool                            // serve HTTPS, with HTTP/2
	setup func(*httptest.Server)          // before it listens; nil for nothing
}

// everywhere runs a test for every way to mount the server.
func everywhere(t *testing.T, o options, test func(t *testing.T, s *site)) {
	for _, m := range mounts {
		t.Run(m.name, func(t *testing.T) { test(t, open(t, m.prefix, m.mount, o)) })
	}
}

// open serves until the test ends, and then checks that nothing is left over and that net/http had nothing to say.
func open(t *testing.T, prefix string, mount func(*server.Server) http.Handler, o options) *site {
	t.Helper()
	nothingLeft(t)
	s := &site{t: t, prefix: prefix, log: &lines{}, webLog: &lines{}}
	cfg := o.cfg
	cfg.Apps = []server.App{{ID: "1", Keys: []auth.Key{{Key: "key", Secret: "secret"}}}}
	cfg.DrainWindow = time.Nanosecond
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Auth = auth.New()
	cfg.Auth.Identify(func(r *http.Request) (auth.User, error) {
		id := r.URL.Query().Get("user")
		return auth.User{ID: id, Info: json.RawMessage(`{"name":"` + id + `"}`)}, nil
	})
	cfg.Auth.AllowAnonymous()
	cfg.Auth.Channel("room.{id}", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
		if u == nil {
			return auth.Grant{}, auth.Refuse("who are you?")
		}
		return auth.Grant{}, nil
	})
	var err error
	if s.Server, err = server.New(cfg); err != nil {
		t.Fatal(err)
	}
	h := mount(s.Server)
	if o.wrap != nil {
		h = o.wrap(h)
	}
	s.web = httptest.NewUnstartedServer(h)
	s.web.Config.ErrorLog = log.New(s.webLog, "", 0)
	if o.setup != nil {
		o.setup(s.web)
	}
	if o.tls {
		s.web.EnableHTTP2 = true
		s.web.StartTLS()
	} else {
		s.web.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		s.web.Close()
		if text := s.webLog.String(); text != "" {
			t.Errorf("net/http complains:\n%s", text)
		}
	})
	return s
}

// nothingLeft checks, when the test has ended, that it left no goroutine and no descriptor.
func nothingLeft(t *testing.T) {
	goroutines, open := runtime.NumGoroutine(), descriptors()
	t.Cleanup(func() {
		end := time.Now().Add(patience)
		for runtime.NumGoroutine() > goroutines || descriptors() > open {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("there were %d goroutines and %d descriptors, and are %d and %d:\n%s", goroutines, open,
					runtime.NumGoroutine(), descriptors(), stacks[:runtime.Stack(stacks, true)])
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// descriptors is how many the process has open; always 0 where the system does not tell.
func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func (s *site) addr() string { return s.web.Listener.Addr().String() }

// trust is for clients: nil where there is no TLS.
func (s *site) trust() *tls.Config {
	if s.web.TLS == nil {
		return nil
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AddCert(s.web.Certificate())
	return cfg
}

// do makes an ordinary request below the prefix and returns the answer with all of its body.
func (s *site) do(method, path, contentType, body string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.web.URL+s.prefix+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return s.send(r)
}

func (s *site) send(r *http.Request) (*http.Response, string) {
	s.t.Helper()
	res, err := s.web.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(b)
}

// get makes a request and checks its answer.
func (s *site) get(path string, status int, body string) *http.Response {
	s.t.Helper()
	res, got := s.do("GET", path, "", "")
	if res.StatusCode != status || got != body {
		s.t.Errorf("GET %s: %d %q, and should be %d %q", path, res.StatusCode, got, status, body)
	}
	return res
}

// peer is a client.
type peer struct {
	*wsclient.Conn
	t  *testing.T
	id string // the socket id
}

// try connects as a browser would: it accepts gzip.
func (s *site) try(query string, opt wsclient.Options) (*wsclient.Conn, error) {
	opt.TLS = s.trust()
	if opt.Header == nil {
		opt.Header = http.Header{}
	}
	opt.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	scheme := "ws://"
	if opt.TLS != nil {
		scheme = "wss://"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return wsclient.Dial(ctx, scheme+s.addr()+s.prefix+"/ws"+query, &opt)
}

func (s *site) dial(query string) *peer { return s.dialWith(query, wsclient.Options{}) }

func (s *site) dialWith(query string, opt wsclient.Options) *peer {
	s.t.Helper()
	c, err := s.try(query, opt)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &peer{Conn: c, t: s.t}
	s.t.Cleanup(func() { c.Close(1000, "") })
	var hello struct {
		Data struct {
			SocketID string `json:"socket_id"`
		}
	}
	text := p.next()
	if err := json.Unmarshal([]byte(text), &hello); err != nil {
		s.t.Fatal(err)
	}
	p.id = hello.Data.SocketID
	if want := `{"event":"connection_established","data":{"socket_id":"` + p.id + `","activity_timeout":120,"server":"realtime","recovery":true}}`; text != want {
		s.t.Fatalf("greeting is\n%s\nand should be\n%s", text, want)
	}
	return p
}

// refused connects and checks the refusal.
func (s *site) refused(opt wsclient.Options, status int, why string) {
	s.t.Helper()
	c, err := s.try("", opt)
	if err == nil {
		c.Close(1000, "")
	}
	no, ok := errors.AsType[*wsclient.HandshakeError](err)
	if !ok {
		s.t.Fatalf("connecting: %v, and should be refused", err)
	}
	body := no.Body
	if no.Header.Get("Content-Encoding") == "gzip" {
		z := must(gzip.NewReader(strings.NewReader(body)))
		body = string(must(io.ReadAll(z)))
	}
	if want := refusal(status, why); no.Status != status || body != want {
		s.t.Fatalf("refused with %d %q, and should be %d %q", no.Status, body, status, want)
	}
}

func refusal(status int, why string) string {
	text, err := json.Marshal(why)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"error":%s,"code":%d}`+"\n", text, status)
}

func (p *peer) say(frame string) {
	p.t.Helper()
	if err := p.Write(context.Background(), ws.OpText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

// next is the next frame from the server.
func (p *peer) next() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	if err != nil {
		p.t.Fatalf("no further frame: %v", err)
	}
	return string(b)
}

func (p *peer) want(frames ...string) {
	p.t.Helper()
	for _, want := range frames {
		if got := p.next(); got != want {
			p.t.Fatalf("frame is\n%s\nand should be\n%s", got, want)
		}
	}
}

// quiet checks that nothing is on its way to the client. Two rounds: in the first, the pong may overtake what was
// posted to the loop while it read.
func (p *peer) quiet() {
	p.t.Helper()
	for range 2 {
		p.say(`{"event":"ping"}`)
		p.want(`{"event":"pong"}`)
	}
}

// wantRestart waits for what Shutdown tells clients, and the close frame.
func (p *peer) wantRestart() {
	p.t.Helper()
	const why = "the server is restarting: connect again"
	p.want(`{"event":"error","data":{"code":4200,"type":"ServerError","error":"` + why + `","status":503}}`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	if ce, ok := errors.AsType[*ws.CloseError](err); !ok || ce.Code != 4200 || ce.Reason != why {
		p.t.Fatalf("got %q, %v, and should get close 4200 %q", b, err, why)
	}
}

func (s *site) publish(channel, event, data string) {
	s.t.Helper()
	m := realtime.Message{Channels: []string{channel}, Event: event, Data: json.RawMessage(data)}
	if err := s.Send(context.Background(), &m); err != nil {
		s.t.Fatal(err)
	}
}

func TestClientsOfEveryRouterHearEventsMembersAndWhispers(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		ada := s.dialWith("?user=ada", wsclient.Options{Deflate: true})
		bob := s.dial("?user=bob")
		if !ada.Deflate || bob.Deflate {
			t.Errorf("compression is %v and %v, and should be as asked for", ada.Deflate, bob.Deflate)
		}

		for _, p := range []*peer{ada, bob} {
			p.say(`{"event":"subscribe","channel":"orders"}`)
			p.want(`{"event":"subscription_succeeded","channel":"orders"}`)
		}
		for _, data := range []string{
			`{"orderId":"1","n": 1e3, "text":"<é>&\u2028\/"}`, // not as encoding/json would write it
			`"` + strings.Repeat("x", 70_000) + `"`,
		} {
			s.publish("orders", "OrderShipped", data)
			for _, p := range []*peer{ada, bob} {
				p.want(`{"event":"OrderShipped","channel":"orders","data":` + data + `}`)
			}
		}

		const presence = `{"event":"subscription_succeeded","channel":"presence-room.1","data":{"presence":`
		ada.say(`{"event":"subscribe","channel":"presence-room.1"}`)
		ada.want(presence + `{"count":1,"ids":["ada"],"hash":{"ada":{"id":"ada","info":{"name":"ada"}}}},"me":{"id":"ada"}}}`)
		bob.say(`{"event":"subscribe","channel":"presence-room.1"}`)
		bob.want(presence + `{"count":2,"ids":["ada","bob"],"hash":{"ada":{"id":"ada","info":{"name":"ada"}},"bob":{"id":"bob","info":{"name":"bob"}}}},"me":{"id":"bob"}}}`)
		ada.want(`{"event":"member_added","channel":"presence-room.1","data":{"id":"bob","info":{"name":"bob"}}}`)
		bob.say(`{"event":"client-typing","channel":"presence-room.1","data":{"at": 1}}`)
		ada.want(`{"event":"client-typing","channel":"presence-room.1","data":{"at": 1},"user_id":"bob"}`)
		if err := bob.Close(1000, ""); err != nil {
			t.Error(err)
		}
		ada.want(`{"event":"member_removed","channel":"presence-room.1","data":{"id":"bob","info":{"name":"bob"}}}`)
		ada.quiet()
	})
}

// eager is a client's connection that sends before in front of the handshake, and frames behind it, all in one write.
// before is a request for /health.
type eager struct {
	net.Conn
	before, frames []byte
	in             *bufio.Reader // nil until the answer to before has been read
	wrote          bool
}

func (c *eager) Write(b []byte) (int, error) {
	if c.wrote {
		return c.Conn.Write(b)
	}
	c.wrote = true
	_, err := c.Conn.Write(slices.Concat(c.before, b, c.frames))
	return len(b), err
}

func (c *eager) Read(b []byte) (int, error) {
	if c.in == nil {
		c.in = bufio.NewReader(c.Conn)
		if len(c.before) > 0 {
			if err := healthy(c.in); err != nil {
				return 0, err
			}
		}
	}
	return c.in.Read(b)
}

// healthy reads the answer to a request for /health.
func healthy(r *bufio.Reader) error {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || string(b) != "ok\n" || res.Close {
		return fmt.Errorf("/health: %d %q, closing %v", res.StatusCode, b, res.Close)
	}
	return nil
}

func (s *site) healthRequest() []byte {
	return []byte("GET " + s.prefix + "/health HTTP/1.1\r\nHost: x\r\n\r\n")
}

func frames(texts ...string) (b []byte) {
	for _, text := range texts {
		b = ws.AppendMasked(b, ws.OpText, []byte(text), [4]byte{1, 2, 3, 4})
	}
	return b
}

func connectTo(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func TestAConnectionUpgradesAfterAnOrdinaryRequest(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		used := func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := connectTo(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			r := bufio.NewReader(c)
			for range 3 {
				if _, err := c.Write(s.healthRequest()); err != nil {
					return nil, err
				}
				if err := healthy(r); err != nil {
					return nil, err
				}
			}
			if r.Buffered() > 0 {
				return nil, errors.New("more than an answer")
			}
			return c, nil
		}
		p := s.dialWith("", wsclient.Options{NetDial: used})
		p.say(`{"event":"subscribe","channel":"a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		s.publish("a", "E", `1`)
		p.want(`{"event":"E","channel":"a","data":1}`)
	})
}

func TestFramesThatComeWithTheHandshakeAreHandled(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		// More than net/http buffers, so that a part of them is in its buffer and a part in the socket.
		many := []string{`{"event":"subscribe","channel":"a"}`}
		want := []string{`{"event":"subscription_succeeded","channel":"a"}`}
		for i := range 500 {
			many = append(many, fmt.Sprintf(`{"event":"ping","id":%d}`, i))
			want = append(want, fmt.Sprintf(`{"event":"pong","id":%d}`, i))
		}
		for _, tt := range []struct {
			name   string
			before []byte
			frames int
		}{
			{"one", nil, 1},
			{"many", nil, len(many)},
			{"one, and a request in front", s.healthRequest(), 1},
			{"many, and a request in front", s.healthRequest(), len(many)},
		} {
			p := s.dialWith("", wsclient.Options{NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := connectTo(ctx, network, addr)
				return &eager{Conn: c, before: tt.before, frames: frames(many[:tt.frames]...)}, err
			}})
			p.want(want[:tt.frames]...)
			p.quiet()
		}
	})
}

func TestTheHTTPAPIWorksThroughEveryRouter(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		s.get("/health", 200, "ok\n")
		s.get("/ready", 200, "ready\n")
		s.get("/nowhere", 404, refusal(404, "nothing is served at /nowhere"))
		s.get("/ws", 426, refusal(426, "this address speaks WebSocket: send Upgrade: websocket; a proxy may have removed it"))
		if res, body := s.send(must(http.NewRequest("GET", s.web.URL+"/", nil))); res.StatusCode != 200 || body != "the shop\n" {
			t.Errorf("the program's own page is %d %q", res.StatusCode, body)
		}

		p := s.dial("?user=ada")
		p.say(`{"event":"subscribe","channel":"orders"}`)
		p.want(`{"event":"subscription_succeeded","channel":"orders"}`)
		const event = `{"name":"OrderShipped","channel":"orders","data":"{\"orderId\": \"1\"}"}`
		// Some SDKs sign the path with the prefix, others without.
		for _, signed := range []string{s.prefix + "/apps/1/events", "/apps/1/events"} {
			q := auth.SignRequest("POST", signed, nil, []byte(event), "key", "secret", time.Now())
			if res, body := s.do("POST", "/apps/1/events?"+q, "application/json", event); res.StatusCode != 200 || body != "{}" {
				t.Errorf("publishing, %s signed: %d %q", signed, res.StatusCode, body)
			}
			p.want(`{"event":"OrderShipped","channel":"orders","data":{"orderId": "1"}}`)
		}
		q := auth.SignRequest("POST", "/other/apps/1/events", nil, []byte(event), "key", "secret", time.Now())
		if res, _ := s.do("POST", "/apps/1/events?"+q, "application/json", event); res.StatusCode != 401 {
			t.Errorf("publishing, another path signed: %d", res.StatusCode)
		}

		form := url.Values{"socket_id": {p.id}, "channel_name": {"private-room.1"}}.Encode()
		signature := auth.SignChannel("key", "secret", p.id, "private-room.1", "")
		const formType = "application/x-www-form-urlencoded"
		if res, body := s.do("POST", "/broadcasting/auth?user=ada", formType, form); res.StatusCode != 200 || body != `{"auth":"`+signature+`"}` {
			t.Errorf("authorizing: %d %q", res.StatusCode, body)
		}
		if res, body := s.do("POST", "/broadcasting/auth", formType, form); res.StatusCode != 403 || body != `{"error":"who are you?"}` {
			t.Errorf("authorizing nobody: %d %q", res.StatusCode, body)
		}
		stranger := s.dial("")
		form = url.Values{"socket_id": {stranger.id}, "channel_name": {"private-room.1"}}.Encode()
		_, body := s.do("POST", "/broadcasting/auth?user=ada", formType, form)
		stranger.say(`{"event":"subscribe","channel":"private-room.1",` + strings.TrimPrefix(body, "{"))
		stranger.want(`{"event":"subscription_succeeded","channel":"private-room.1"}`)

		preflight := must(http.NewRequest("OPTIONS", s.web.URL+s.prefix+"/broadcasting/auth", nil))
		preflight.Header.Set("Origin", s.web.URL)
		preflight.Header.Set("Access-Control-Request-Method", "POST")
		res, body := s.send(preflight)
		if got := res.Header.Get("Access-Control-Allow-Origin"); res.StatusCode != 204 || body != "" || got != s.web.URL {
			t.Errorf("preflight: %d %q, allowed origin %q", res.StatusCode, body, got)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sealed is a ResponseWriter that says nothing about the one in it.
type sealed struct{ http.ResponseWriter }

// sealing is middleware that seals requests with the header X-Sealed.
func sealing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Sealed") != "" {
			w = sealed{w}
		}
		next.ServeHTTP(w, r)
	})
}

func timingOut(next http.Handler) http.Handler {
	return http.TimeoutHandler(next, patience, "too late")
}

const behindMiddleware = "the connection cannot be upgraded behind this server's middleware; its log names the cause"

func TestAWriterThatHidesTheConnectionIsNamed(t *testing.T) {
	everywhere(t, options{cfg: server.Config{Limits: server.Limits{Connections: 1}}, wrap: sealing}, func(t *testing.T, s *site) {
		for range 3 { // a place that is not given back would be missed
			s.refused(wsclient.Options{Header: http.Header{"X-Sealed": {"1"}}}, 500, behindMiddleware)
		}
		s.dial("").quiet()
		logged := strings.Split(strings.TrimSuffix(s.log.String(), "\n"), "\n")
		const want = ` level=ERROR msg="a WebSocket cannot be taken over from net/http" path=/ws error="the ResponseWriter mount.sealed has neither Hijack nor Unwrap: leave its middleware out for this path, or give it a method Unwrap() http.ResponseWriter"`
		for _, line := range logged {
			if !strings.HasSuffix(line, want) {
				t.Errorf("the log says\n%s\nand should say\n%s", line, want)
			}
		}
		if len(logged) != 3 {
			t.Errorf("the log has %d lines, and should have 3:\n%s", len(logged), s.log)
		}
	})
}

func TestBehindTimeoutHandlerAWebSocketIsRefused(t *testing.T) {
	everywhere(t, options{wrap: timingOut}, func(t *testing.T, s *site) {
		s.refused(wsclient.Options{}, 500, behindMiddleware)
		if text := s.log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "the ResponseWriter *http.timeoutWriter has neither Hijack nor Unwrap") {
			t.Errorf("the log says\n%s", text)
		}
		s.get("/health", 200, "ok\n")
	})
}

// stubborn is a ResponseWriter whose Hijack does not work, as that of a wrapper around something of another kind.
type stubborn struct{ sealed }

func (stubborn) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic("not today") }

func TestAHijackThatPanicsGivesThePlaceBack(t *testing.T) {
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(stubborn{sealed{w}}, r) })
	}
	s := open(t, "/realtime", withServeMux, options{cfg: server.Config{Limits: server.Limits{Connections: 1}}, wrap: wrap})
	s.refused(wsclient.Options{}, 500, behindMiddleware)
	s.refused(wsclient.Options{}, 500, behindMiddleware) // and not 503
	if text := s.log.String(); strings.Count(text, "mount.stubborn: panic in Hijack: not today") != 2 {
		t.Errorf("the log says\n%s", text)
	}
}

// late is a client's connection from which everything up to its end can be read at once, for later.
type late struct {
	net.Conn
	rest *bytes.Reader
}

func (c *late) readAll(t *testing.T) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c.Conn)
	if err != nil {
		t.Fatal(err)
	}
	c.rest = bytes.NewReader(b)
}

func (c *late) Read(b []byte) (int, error) {
	if c.rest != nil {
		return c.rest.Read(b)
	}
	return c.Conn.Read(b)
}

func TestDrainWithTheWebServer(t *testing.T) {
	everywhere(t, options{cfg: server.Config{Limits: server.Limits{QueuedBytes: 64 << 20}}}, func(t *testing.T, s *site) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		web := s.web.Config
		web.RegisterOnShutdown(func() { s.Shutdown(ctx) })

		// 5.4 MB: more than the sockets take, so that the rest waits in the server.
		const messages = 60
		data := `"` + strings.Repeat("x", 90_000) + `"`
		var conn *late
		slow := s.dialWith("", wsclient.Options{NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := connectTo(ctx, network, addr)
			conn = &late{Conn: c}
			return conn, err
		}})
		idle := s.dial("")
		slow.say(`{"event":"subscribe","channel":"a"}`)
		slow.want(`{"event":"subscription_succeeded","channel":"a"}`)
		for i := range messages {
			s.publish("a", fmt.Sprint("E", i), data)
		}
		if err := web.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		eventually(t, "the server drains", func() bool {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/ready", nil))
			return w.Code == http.StatusServiceUnavailable
		})
		conn.readAll(t)
		for i := range messages {
			slow.want(fmt.Sprintf(`{"event":"E%d","channel":"a","data":%s}`, i, data))
		}
		slow.wantRestart()
		idle.wantRestart()
		if err := s.Shutdown(ctx); err != nil { // waits for the one that web has begun
			t.Error(err)
		}
		if c, err := net.Dial("tcp", s.addr()); err == nil {
			c.Close()
			t.Error("the address is still listened on")
		}
	})
}

func TestServeClosesTheClientsAndThenTheWebServer(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		addr, done := make(chan string, 1), make(chan error, 1)
		web := &http.Server{Addr: "127.0.0.1:0", Handler: s.web.Config.Handler, BaseContext: func(ln net.Listener) context.Context {
			addr <- ln.Addr().String()
			return context.Background()
		}}
		go func() { done <- serve(ctx, web, s.Server) }()
		at := <-addr
		p := s.dialWith("", wsclient.Options{NetDial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return connectTo(ctx, network, at)
		}})
		p.quiet()
		cancel()
		p.wantRestart()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if c, err := net.Dial("tcp", at); err == nil {
			c.Close()
			t.Error("the address is still listened on")
		}
	})
}

func TestOverHTTP2AWebSocketIsRefusedAndOverHTTP1OnTheSamePortItIsNot(t *testing.T) {
	everywhere(t, options{tls: true}, func(t *testing.T, s *site) {
		res := s.get("/ws", 505, refusal(505, "this address speaks WebSocket over HTTP/1.1 only, this is HTTP/2.0: connect with HTTP/1.1, in ALPN http/1.1"))
		if res.ProtoMajor != 2 || res.Header["Upgrade"] != nil || res.Header["Connection"] != nil {
			t.Errorf("answer in %s with the header %v", res.Proto, res.Header)
		}
		s.get("/health", 200, "ok\n")

		if s.offersExtendedConnect() {
			t.Error("WebSockets over HTTP/2 are offered")
		}

		p := s.dial("")
		p.say(`{"event":"subscribe","channel":"a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		s.publish("a", "E", `1`)
		p.want(`{"event":"E","channel":"a","data":1}`)
		go s.Shutdown(context.Background())
		p.wantRestart()
	})
}

// offersExtendedConnect reports whether the server's first HTTP/2 frame has SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441
// section 3), without which a client must not try to open a WebSocket over HTTP/2.
func (s *site) offersExtendedConnect() bool {
	s.t.Helper()
	cfg := s.trust()
	cfg.NextProtos = []string{"h2"}
	c := must(tls.Dial("tcp", s.addr(), cfg))
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	// Preface and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
	must(io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	head := make([]byte, 9)
	must(io.ReadFull(c, head))
	if head[3] != 4 {
		s.t.Fatalf("the first frame is of type %d, and should be SETTINGS", head[3])
	}
	settings := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	must(io.ReadFull(c, settings))
	for setting := range slices.Chunk(settings, 6) {
		if id := binary.BigEndian.Uint16(setting); id == 8 {
			return true
		}
	}
	return len(settings) == 0 // Go's server always has some
}

// timed is a listener whose connections know their deadlines.
type timed struct {
	net.Listener
	mu    sync.Mutex
	conns []*timedConn
}

type timedConn struct {
	net.Conn
	mu          sync.Mutex
	read, write time.Time
}

func (l *timed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tc := &timedConn{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, tc)
	return tc, nil
}

func (c *timedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *timedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

func (c *timedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

func TestTheWebServersTimeoutsEndWithTheHandshake(t *testing.T) {
	for _, m := range mounts {
		t.Run(m.name, func(t *testing.T) {
			var ln *timed
			s := open(t, m.prefix, m.mount, options{setup: func(web *httptest.Server) {
				web.Config.ReadTimeout, web.Config.WriteTimeout, web.Config.IdleTimeout = patience, patience, patience
				ln = &timed{Listener: web.Listener}
				web.Listener = ln
			}})
			s.dial("").quiet()
			ln.mu.Lock()
			defer ln.mu.Unlock()
			if len(ln.conns) != 1 {
				t.Fatalf("%d connections", len(ln.conns))
			}
			c := ln.conns[0]
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.read.IsZero() || !c.write.IsZero() {
				t.Errorf("the connection still ends at %v and %v", c.read, c.write)
			}
		})
	}
}

func TestConnectionsAreCountedByTheAddressThatMiddlewareFound(t *testing.T) {
	wrap := func(next http.Handler) http.Handler { // as gorilla's ProxyHeaders and chi's old RealIP
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = r.Header.Get("X-Real-Ip")
			next.ServeHTTP(w, r)
		})
	}
	everywhere(t, options{cfg: server.Config{Limits: server.Limits{ConnectionsPerAddress: 1}}, wrap: wrap}, func(t *testing.T, s *site) {
		for _, ip := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"} {
			from := func() wsclient.Options { return wsclient.Options{Header: http.Header{"X-Real-Ip": {ip}}} }
			s.dialWith("", from())
			s.refused(from(), 503, "there are 1 connections from your address, which is the limit")
		}
	})
}

func TestBehindGosReverseProxy(t *testing.T) {
	everywhere(t, options{}, func(t *testing.T, s *site) {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(must(url.Parse(s.web.URL))) },
			Transport: transport,
		})
		defer proxy.Close()
		p := s.dialWith("", wsclient.Options{NetDial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := connectTo(ctx, network, proxy.Listener.Addr().String())
			return &eager{Conn: c, before: s.healthRequest()}, err // frames in front of the 101 it would lose
		}})
		p.say(`{"event":"subscribe","channel":"a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		s.publish("a", "E", `1`)
		p.want(`{"event":"E","channel":"a","data":1}`)
		go s.Shutdown(context.Background())
		p.wantRestart()
		p.Close(1000, "")
	})
}
