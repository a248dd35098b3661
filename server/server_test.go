package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// live is a server that listens on a loopback port.
type live struct {
	*Server
	t     testing.TB
	addr  string
	on    transport
	tls   *tls.Config // of clients; nil where the server has none
	clock *clock      // nil: time.Now
	cut   bool        // the test makes Shutdown fail
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// transport is a way for a connection to come in.
type transport string

const (
	loops    transport = "loops"    // accepted by the loops
	mounted  transport = "mounted"  // hijacked from net/http
	overTLS  transport = "tls"      // a pump
	portable transport = "portable" // a pump, as on systems without epoll
)

var transports = []transport{loops, mounted, overTLS, portable}

// clock is a time that moves when it is told to.
type clock struct{ ms atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.ms.Store(at.UnixMilli())
	return c
}

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

// at moves the server's clock, and returns when every loop has done what is due by then.
func (s *live) at(t time.Time) {
	s.clock.ms.Store(t.UnixMilli())
	for _, l := range s.loops {
		for seen := false; ; {
			now := make(chan time.Time)
			if l.Post(loop.Func(func(l *loop.Loop) { now <- l.Now() }), 0) != nil {
				return
			}
			done := !(<-now).Before(s.clock.now())
			if done && seen { // a whole turn after the one that saw the time
				break
			}
			seen = done
		}
	}
}

// certificate is for 127.0.0.1, in PEM.
var certificate = sync.OnceValues(func() (cert, key []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		panic(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
})

// start serves cfg until the test ends.
func start(t testing.TB, cfg Config) *live { return startOn(t, loops, cfg) }

// startOn serves cfg on a transport until the test ends.
func startOn(t testing.TB, tr transport, cfg Config) *live {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if cfg.DrainWindow == 0 {
		cfg.DrainWindow = time.Nanosecond
	}
	out := &live{t: t, on: tr}
	switch tr {
	case portable:
		cfg.portable = true
	case overTLS:
		cert, key := certificate()
		dir := t.TempDir()
		cfg.CertFile, cfg.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		if err := errors.Join(os.WriteFile(cfg.CertFile, cert, 0o600), os.WriteFile(cfg.KeyFile, key, 0o600)); err != nil {
			t.Fatal(err)
		}
		out.tls = &tls.Config{RootCAs: x509.NewCertPool()}
		out.tls.RootCAs.AppendCertsFromPEM(cert)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out.Server, out.addr = s, ln.Addr().String()
	done := make(chan error, 1)
	if tr == mounted {
		web := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
		go func() { done <- web.Serve(ln) }()
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil && !out.cut {
				t.Errorf("Shutdown: %v", err)
			}
			if err := web.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown of net/http: %v", err)
			}
			<-done
		})
		return out
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return out
}

// peer is a client of the plain protocol.
type peer struct {
	*wsclient.Conn
	t        testing.TB
	SocketID string
}

func (s *live) url(query string) string {
	if s.tls != nil {
		return "wss://" + s.addr + "/ws" + query
	}
	return "ws://" + s.addr + "/ws" + query
}

func (s *live) dial(query string) *peer {
	s.t.Helper()
	return s.dialWith(query, &wsclient.Options{})
}

func (s *live) dialWith(query string, opt *wsclient.Options) *peer {
	s.t.Helper()
	opt.TLS = s.tls
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := wsclient.Dial(ctx, s.url(query), opt)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &peer{Conn: c, t: s.t}
	s.t.Cleanup(func() { c.Close(1000, "") })
	var hello struct {
		Event string
		Data  struct {
			SocketID string `json:"socket_id"`
		}
	}
	text := p.next()
	if err := json.Unmarshal([]byte(text), &hello); err != nil || hello.Event != "connection_established" {
		s.t.Fatalf("greeting is %s", text)
	}
	p.SocketID = hello.Data.SocketID
	if want := `{"event":"connection_established","data":{"socket_id":"` + p.SocketID + `","activity_timeout":120,"server":"realtime","recovery":true}}`; text != want {
		s.t.Fatalf("greeting is\n%s\nand should be\n%s", text, want)
	}
	return p
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

// wantEpoch is want for a frame with "<epoch>" in it, which it returns.
func (p *peer) wantEpoch(frame string) string {
	p.t.Helper()
	got := p.next()
	re := regexp.MustCompile("^" + strings.Replace(regexp.QuoteMeta(frame), "<epoch>", "([0-9a-z]+)", 1) + "$")
	m := re.FindStringSubmatch(got)
	if m == nil {
		p.t.Fatalf("frame is\n%s\nand should be\n%s", got, frame)
	}
	return m[1]
}

// wantClose waits for the server's close frame.
func (p *peer) wantClose(code int, reason string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	ce, ok := errors.AsType[*ws.CloseError](err)
	if !ok || ce.Code != code || ce.Reason != reason {
		p.t.Fatalf("got %q, %v, and should get close %d %q", b, err, code, reason)
	}
}

// trouble is the frame of an error. extra, such as `"id":1`, and channel may be empty.
func trouble(event, extra, channel string, code int, kind, text string, status int) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(text)
	if extra != "" {
		extra = "," + extra
	}
	if channel != "" {
		extra += `,"channel":"` + channel + `"`
	}
	return fmt.Sprintf(`{"event":"%s"%s,"data":{"code":%d,"type":"%s","error":%s,"status":%d}}`, event, extra, code, kind, strings.TrimSpace(b.String()), status)
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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

func (s *live) send(m realtime.Message) {
	s.t.Helper()
	if err := s.Send(context.Background(), &m); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnEventReachesASubscriber(t *testing.T) {
	s := start(t, Config{})
	p := s.dial("")
	p.say(`{"event":"subscribe","channel":"orders"}`)
	p.want(`{"event":"subscription_succeeded","channel":"orders"}`)
	s.send(realtime.Message{Channels: []string{"orders"}, Event: "OrderShipped", Data: json.RawMessage(`{"orderId":"1"}`)})
	p.want(`{"event":"OrderShipped","channel":"orders","data":{"orderId":"1"}}`)
}
