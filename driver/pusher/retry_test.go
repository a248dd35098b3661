package pusher

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stacksjs/realtime-go"
)

// What may become of a request.

func unsent(request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

func lost(r request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.ctx).WroteHeaders()
	return nil, io.ErrUnexpectedEOF
}

func cut(r request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.ctx)
	trace.WroteHeaders()
	trace.WroteRequest(httptrace.WroteRequestInfo{Err: errors.New("broken pipe")})
	return nil, errors.New("broken pipe")
}

func silent(r request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.ctx).WroteHeaders()
	<-r.ctx.Done()
	return nil, r.ctx.Err()
}

func unknownHost(request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: "x.example", IsNotFound: true}
}

func untrusted(request) (*http.Response, error) {
	return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
}

func status(code int, header ...string) far {
	return func(request) (*http.Response, error) { return answer(code, "", header...) }
}

// ours answers as this module's server does.
func ours(code int) far {
	return func(r request) (*http.Response, error) {
		id := ""
		for name, values := range r.header { // on the wire the case of names does not count
			if strings.EqualFold(name, "X-Idempotency-Key") {
				id = values[0]
			}
		}
		return answer(code, "{}", "X-Idempotency-Key", id)
	}
}

func brokenOff(r request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.ctx).WroteHeaders()
	res, _ := answer(200, "")
	res.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), breaks{}))
	return res, nil
}

type breaks struct{}

func (breaks) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWhatIsSentAgain(t *testing.T) {
	type kind string
	const (
		plain kind = "plain"   // a message without an id
		id    kind = "id"      // with one, to a server that has said nothing of repetitions
		known kind = "known"   // with one, to a server that has repeated an id before
		query kind = "query"   // only asks
		end   kind = "end"     // ends connections
		batch kind = "batch"   // explicit
		least kind = "atLeast" // a message without an id, and AtLeastOnce
	)
	all := []kind{plain, id, known, query, end, batch, least}
	safe := []kind{known, query, end, least} // where doing it twice harms nobody, or was asked for
	for _, tt := range []struct {
		name     string
		happens  far
		repeated []kind
	}{
		{"no connection", unsent, all},
		{"a connection that breaks while the request is written", cut, all},
		{"429", status(429), all},
		{"a connection that breaks afterwards", lost, safe},
		{"no answer in time", silent, safe},
		{"500", status(500), safe},
		{"502", status(502), safe},
		{"503", status(503), safe},
		{"504", status(504), safe},
		{"501", status(501), nil},
		{"400", status(400), nil},
		{"401", status(401), nil},
		{"403", status(403), nil},
		{"404", status(404), nil},
		{"413", status(413), nil},
		{"302", status(302), nil},
		{"an unknown host", unknownHost, nil},
		{"a certificate of somebody else", untrusted, nil},
	} {
		for _, k := range all {
			t.Run(tt.name+"/"+string(k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := 0
					var script []far
					d := driver(t, Config{AtLeastOnce: k == least}, func(r request) (*http.Response, error) {
						n++
						return script[min(n, len(script))-1](r)
					})
					m := message("e", "1", "c")
					call := func() error { return d.Send(t.Context(), m) }
					switch k {
					case id:
						m.ID = "m1"
					case known:
						m.ID = "m1"
						script = []far{ours(200)}
						if err := call(); err != nil {
							t.Fatal(err)
						}
					case query:
						call = func() error { _, err := d.Channels(t.Context(), ""); return err }
					case end:
						call = func() error { return d.TerminateConnections(t.Context(), "ada") }
					case batch:
						call = func() error { _, err := d.TriggerBatch(t.Context(), batchOf(2)); return err }
					}
					again := false
					for _, r := range tt.repeated {
						again = again || r == k
					}
					want := 1
					if again {
						want = 3
					}
					n, script = 0, []far{tt.happens}
					err := call()
					e, ok := errors.AsType[*Error](err)
					if !ok {
						t.Fatalf("the error is %v", err)
					}
					if n != want || e.Temporary() != again {
						t.Errorf("sent %d times, and should be %d times; Temporary is %t", n, want, e.Temporary())
					}
					overloaded := again && (e.Status == 429 || e.Status == 503)
					if errors.Is(err, realtime.ErrOverloaded) != overloaded {
						t.Errorf("it is ErrOverloaded: %t", !overloaded)
					}
					if strings.Contains(tt.name, "in time") && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 10s")) {
						t.Errorf("the error is %v", err)
					}

					n, script = 0, []far{tt.happens, tt.happens, status(200)}
					if k == query {
						script[2] = func(request) (*http.Response, error) { return answer(200, "{}") }
					}
					if err := call(); (err == nil) != again {
						t.Errorf("the third time it works, and the error is %v", err)
					}
				})
			})
		}
	}
}

func TestAnAnswerThatBreaksOffIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		happens := brokenOff
		d := driver(t, Config{}, func(r request) (*http.Response, error) { n++; return happens(r) })
		check := func(what string, err error, requests int, want string) {
			t.Helper()
			if n != requests || want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: sent %d times, and the error is %v", what, n, err)
			}
			n = 0
		}
		check("a message", d.Send(t.Context(), message("e", "1", "c")), 1, "")
		_, err := d.Trigger(t.Context(), message("e", "1", "c"), UserCount)
		check("a message with a question", err, 1, "200 OK: the server took the request, but its answer cannot be read: unexpected EOF")
		_, err = d.Channels(t.Context(), "")
		check("a question", err, 3, "cannot be read: unexpected EOF")
		happens = func(r request) (*http.Response, error) {
			res, _ := brokenOff(r)
			res.StatusCode = 400
			return res, nil
		}
		check("a refusal", d.Send(t.Context(), message("e", "1", "c")), 1, "400 Bad Request: {")
	})
}

func TestAServerSaysThatItDealsWithRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var happens far
		d := driver(t, Config{}, func(r request) (*http.Response, error) { n++; return happens(r) })
		send := func(f far, want int) {
			t.Helper()
			n, happens = 0, f
			m := message("e", "1", "c")
			m.ID = "m1"
			_ = d.Send(t.Context(), m)
			if n != want {
				t.Errorf("sent %d times, and should be %d times", n, want)
			}
		}
		send(lost, 1)
		send(ours(503), 3) // the refusal itself says it
		send(lost, 1)      // and a refusal is not remembered: a proxy may have made it
		send(ours(200), 1)
		send(lost, 3)
		send(status(502), 3)
		send(status(200), 1) // another server, which says nothing
		send(lost, 1)
	})
}

func TestWaitsBetweenRepetitions(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name     string
		happens  far
		deadline time.Duration
		sent     int
		min, max time.Duration
	}{
		{"growing", status(429), 0, 5, (50 + 100 + 200 + 400) * ms, (100 + 200 + 400 + 800) * ms},
		{"as the server asks", status(429, "Retry-After", "3"), 0, 5, 12 * time.Second, 12400 * ms},
		{"until a time", status(429, "Retry-After", testTime.Add(2*time.Second).UTC().Format(http.TimeFormat)), 0, 5, 8 * time.Second, 8400 * ms},
		{"until a time that has passed", status(429, "Retry-After", testTime.Add(-time.Hour).UTC().Format(http.TimeFormat)), 0, 5, 750 * ms, 1500 * ms},
		{"nonsense", status(429, "Retry-After", "soon"), 0, 5, 750 * ms, 1500 * ms},
		{"negative", status(429, "Retry-After", "-5"), 0, 5, 750 * ms, 1500 * ms},
		{"not longer than it makes sense", status(429, "Retry-After", "11"), 0, 1, 0, 0},
		{"not beyond the deadline", status(429, "Retry-After", "3"), 5 * time.Second, 2, 3 * time.Second, 3100 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				d := driver(t, Config{Retries: 4}, func(r request) (*http.Response, error) { n++; return tt.happens(r) })
				ctx, cancel := context.WithCancel(t.Context())
				if tt.deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
				}
				defer cancel()
				start := time.Now()
				err := d.Send(ctx, message("e", "1", "c"))
				took := time.Since(start)
				if !errors.Is(err, realtime.ErrOverloaded) || n != tt.sent || took < tt.min || took > tt.max {
					t.Errorf("sent %d times in %v; the error is %v", n, took, err)
				}
			})
		})
	}
}

// TestRepetitionsOfManyDoNotComeTogether: whatever failed for all of them at once would fail again.
func TestRepetitionsOfManyDoNotComeTogether(t *testing.T) {
	for _, header := range [][]string{nil, {"Retry-After", "3"}} {
		synctest.Test(t, func(t *testing.T) {
			took := map[time.Duration]bool{}
			for range 10 {
				start := time.Now()
				d := driver(t, Config{Retries: 1}, status(429, header...))
				if err := d.Send(t.Context(), message("e", "1", "c")); err == nil {
					t.Fatal("no error")
				}
				took[time.Since(start)] = true
			}
			if len(took) < 5 {
				t.Errorf("the waits of 10 drivers are %v", took)
			}
		})
	}
}

func TestRetryAfterIsInTheError(t *testing.T) {
	for text, want := range map[string]time.Duration{"120": 2 * time.Minute, "999999999999": 24 * time.Hour, "": 0, "x": 0} {
		d := driver(t, Config{Retries: -1}, status(429, "Retry-After", text))
		e, ok := errors.AsType[*Error](d.Send(t.Context(), message("e", "1", "c")))
		if !ok || e.RetryAfter != want {
			t.Errorf("Retry-After %q is %+v", text, e)
		}
	}
}

func TestTheContextEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the user left")
		for _, happens := range []far{silent, status(429, "Retry-After", "5")} {
			n := 0
			d := driver(t, Config{Timeout: time.Hour}, func(r request) (*http.Response, error) { n++; return happens(r) })
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			start := time.Now()
			if err := d.Send(ctx, message("e", "1", "c")); !errors.Is(err, why) || n != 1 || time.Since(start) != time.Second {
				t.Errorf("sent %d times in %v; the error is %v", n, time.Since(start), err)
			}
			if err := d.Send(ctx, message("e", "1", "c")); err != why || n != 1 {
				t.Errorf("with an ended ctx, sent %d times; the error is %v", n-1, err)
			}
		}
	})
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stamps []string
		d := driver(t, Config{}, func(r request) (*http.Response, error) {
			_, query, _ := strings.Cut(r.uri, "auth_timestamp=")
			stamp, _, _ := strings.Cut(query, "&")
			stamps = append(stamps, stamp)
			return answer(429, "", "Retry-After", "7")
		})
		begin := time.Now()
		d.cfg.now = func() time.Time { return testTime.Add(time.Since(begin).Truncate(time.Second)) }
		_ = d.Send(t.Context(), message("e", "1", "c"))
		if got := fmt.Sprint(stamps); got != "[1353088179 1353088186 1353088193]" {
			t.Errorf("signed at %s", got)
		}
	})
}

// TestRetryMiddlewareDoublesNothing: the middleware repeats what the driver says may be repeated, and no more.
func TestRetryMiddlewareDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			happens far
			want    int
		}{{status(429), 4}, {ours(503), 4}, {lost, 1}, {status(503), 1}} {
			n := 0
			d := driver(t, Config{Retries: -1}, func(r request) (*http.Response, error) { n++; return tt.happens(r) })
			if err := realtime.Retry(4, time.Second)(d).Send(t.Context(), message("e", "1", "c")); err == nil || n != tt.want {
				t.Errorf("sent %d times, and should be %d times: %v", n, tt.want, err)
			}
		}
	})
}

// raw is a server on a loopback port that is given each connection with its number.
func raw(t *testing.T, serve func(n int, c net.Conn)) (host string, port int, connections func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serve(int(n.Add(1)), c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	a := ln.Addr().(*net.TCPAddr)
	return a.IP.String(), a.Port, func() int { return int(n.Load()) }
}

func live(t *testing.T, cfg Config) *Driver {
	t.Helper()
	cfg.AppID, cfg.Key, cfg.Secret = "3", testKey, testSecret
	if cfg.Scheme == "" {
		cfg.Scheme = "http"
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(context.WithoutCancel(t.Context())) })
	return d
}

// TestNetHTTPRepeatsNothingByItself: net/http takes the header X-Idempotency-Key as leave to send a POST again when a
// connection that was in use before ends without an answer. Most Pusher servers know nothing of that header.
func TestNetHTTPRepeatsNothingByItself(t *testing.T) {
	requests := 0 // touched by the server only, and read when it has ended
	host, port, connections := raw(t, func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			requests++
			if i == 0 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			} // and the second one gets no answer
		}
	})
	d := live(t, Config{Host: host, Port: port})
	m := message("e", "1", "c")
	m.ID = "m1"
	if err := d.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	err := d.Send(t.Context(), m)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 0 || e.Temporary() {
		t.Errorf("the error is %v", err)
	}
	if connections() != 1 {
		t.Errorf("%d connections were made: the message was sent again", connections())
	}
}

func TestAClosedPortIsTriedAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := ln.Addr().(*net.TCPAddr)
	ln.Close()
	d := live(t, Config{Host: "127.0.0.1", Port: a.Port, Retries: -1})
	err = d.Send(t.Context(), message("e", "1", "c"))
	want := fmt.Sprintf("pusher: POST http://127.0.0.1:%d/apps/3/events: dial tcp 127.0.0.1:%d: connect: connection refused", a.Port, a.Port)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Temporary() || err.Error() != want {
		t.Errorf("the error is\n%v\nand should be\n%s", err, want)
	}
}

func TestTheWrongSchemeIsSaid(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	secure.StartTLS()
	defer secure.Close()
	for _, tt := range []struct{ scheme, addr, want string }{
		{"https", plain.Listener.Addr().String(), `(the server speaks no TLS at this port: set Scheme to "http", or another port)`},
		{"http", secure.Listener.Addr().String(), "400 Bad Request: Client sent an HTTP request to an HTTPS server."},
		{"https", secure.Listener.Addr().String(), "(the server's certificate is not one for this host that this machine trusts)"},
	} {
		a, err := net.ResolveTCPAddr("tcp", tt.addr)
		if err != nil {
			t.Fatal(err)
		}
		d := live(t, Config{Host: "127.0.0.1", Port: a.Port, Scheme: tt.scheme})
		err = d.Send(t.Context(), message("e", "1", "c"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the error is %v", tt.scheme, err)
		}
	}
}

func TestOneConnectionServesManyRequests(t *testing.T) {
	var connections atomic.Int64
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a request came over %s", r.Proto)
		}
		w.WriteHeader(400)
		io.WriteString(w, strings.Repeat("x", 100<<10)) // more than an error shows: it is read all the same
	}))
	h2.EnableHTTP2 = true
	h2.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	h2.StartTLS()
	defer h2.Close()
	a := h2.Listener.Addr().(*net.TCPAddr)
	d := live(t, Config{Host: "127.0.0.1", Port: a.Port, Scheme: "https"})
	d.transport.TLSClientConfig = h2.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	for range 10 {
		if err := d.Send(t.Context(), message("e", "1", "c")); err == nil {
			t.Fatal("no error")
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestManyRequestsShareAPoolOfConnections(t *testing.T) {
	var connections, busy atomic.Int64
	full, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy.Add(1) == maxConns {
			close(full)
		}
		<-release
		io.WriteString(w, "{}")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	d := live(t, Config{Host: "127.0.0.1", Port: srv.Listener.Addr().(*net.TCPAddr).Port, Scheme: "http"})
	const requests = maxConns + 20
	sent := make(chan error, requests)
	for range requests {
		go func() { sent <- d.Send(t.Context(), message("e", "1", "c")) }()
	}
	<-full
	close(release)
	for range requests {
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	if err := d.Send(t.Context(), message("e", "1", "c")); err != nil { // over one that was kept
		t.Error(err)
	}
	if n := connections.Load(); n != maxConns {
		t.Errorf("%d connections were made, not %d", n, maxConns)
	}
}
