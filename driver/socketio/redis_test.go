package socketio

import (
	"bytes"
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
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/redistest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// far is a Redis, looked at by a client of the test's own.
type far struct {
	t testing.TB
	rueidis.Client
	addr     string
	messages chan string // "channel payload"
}

func lookAt(t testing.TB, addr, password string) far {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, Password: password, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return far{t, c, addr, make(chan string, 10_000)}
}

func (f far) do(args ...string) rueidis.RedisResult {
	f.t.Helper()
	r := f.Do(f.t.Context(), f.B().Arbitrary(args[0]).Args(args[1:]...).Build())
	if err := r.Error(); err != nil {
		f.t.Fatal(args, err)
	}
	return r
}

// listen subscribes as the adapters do, and returns once that has happened.
func (f far) listen(verb, what string) {
	f.t.Helper()
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(rueidis.WithOnSubscriptionHook(context.Background(), func(rueidis.PubSubSubscription) { close(ready) }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		cmd := map[string]rueidis.Completed{
			"SUBSCRIBE": f.B().Subscribe().Channel(what).Build(), "PSUBSCRIBE": f.B().Psubscribe().Pattern(what).Build(), "SSUBSCRIBE": f.B().Ssubscribe().Channel(what).Build(),
		}[verb]
		f.Receive(ctx, cmd, func(m rueidis.PubSubMessage) { f.messages <- m.Channel + " " + m.Message })
	}()
	f.t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-ready:
	case <-time.After(patience):
		f.t.Fatal("no subscription")
	}
}

func (f far) next() string {
	f.t.Helper()
	select {
	case m := <-f.messages:
		return m
	case <-time.After(patience):
		f.t.Fatal("nothing comes")
		return ""
	}
}

// entries are those of the stream, each with its fields in order.
func (f far) entries(stream string) []string {
	f.t.Helper()
	list, err := f.do("XRANGE", stream, "-", "+").ToArray()
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		pair, _ := e.ToArray()
		fields, err := pair[1].AsStrSlice()
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, strings.Join(fields, " "))
	}
	return out
}

func event(data string, channels ...string) *realtime.Message {
	return &realtime.Message{Channels: channels, Event: "E", Data: json.RawMessage(data)}
}

// shardedOf is what Send publishes with the sharded adapter.
func shardedOf(channel, data string) string {
	return `socket.io#/#` + channel + `# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["E",{"event":"E","channel":"` + channel + `","data":` + data +
		`}],"nsp":"/"},"opts":{"rooms":["` + channel + `"],"except":[],"flags":{}}}}`
}

func TestRedisGetsTheMessages(t *testing.T) {
	addr := redistest.Start(t)
	f := lookAt(t, addr, "")
	f.listen("PSUBSCRIBE", "socket.io#/#*")
	f.listen("SSUBSCRIBE", "socket.io#/#a#")
	if err := driver(t, Config{Redis: addr}).Send(t.Context(), event("1", "a", "b")); err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"a", "b"} {
		want := "socket.io#/#" + room + "# \x93\xa7emitter\x83\xa4type\x02\xa4data\x92\xa1E\x83\xa5event\xa1E\xa7channel\xa1" + room + "\xa4data\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa1" + room + "\xa5flags\x80\xa6except\x90"
		if got := f.next(); got != want {
			t.Errorf("Redis has\n%q, and should have\n%q", got, want)
		}
	}
	if err := driver(t, Config{Redis: addr, Adapter: Sharded}).Send(t.Context(), event("1", "a")); err != nil {
		t.Fatal(err)
	}
	if got := f.next(); got != shardedOf("a", "1") {
		t.Errorf("Redis has %s", got)
	}
	d := driver(t, Config{Redis: addr, Adapter: Streams, MaxLen: 100})
	if err := d.Send(t.Context(), event("1", "a")); err != nil {
		t.Fatal(err)
	}
	const want = `uid emitter nsp / type 3 data {"packet":{"type":2,"data":["E",{"event":"E","channel":"a","data":1}],"nsp":"/"},"opts":{"rooms":["a"],"except":[],"flags":{}}}`
	if got := f.entries("socket.io"); len(got) != 1 || got[0] != want {
		t.Errorf("the stream has\n%s, and should have\n%s", got, want)
	}
	for i := range 500 {
		if err := d.Send(t.Context(), event(fmt.Sprint(i), "a")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.entries("socket.io")); n < 100 || n > 200 { // Redis trims by whole nodes, of 100 entries
		t.Errorf("the stream keeps %d entries of the last 100", n)
	}
}

// TestAnIDIsTakenOnce for each channel, by all three adapters, and in a cluster too.
func TestAnIDIsTakenOnce(t *testing.T) {
	for _, place := range []string{"a single Redis", "a cluster"} {
		var args []string
		if place == "a cluster" {
			args = []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "1000"}
		}
		addr := redistest.Start(t, args...)
		if args != nil {
			formCluster(t, addr)
		}
		for _, adapter := range []Adapter{Classic, Sharded, Streams} {
			t.Run(place+"/"+string(adapter), func(t *testing.T) {
				f := lookAt(t, addr, "")
				if adapter == Streams {
					f.do("DEL", "socket.io")
				}
				d := driver(t, Config{Redis: addr, Adapter: adapter})
				for _, ch := range []string{"a", "b"} {
					verb := map[Adapter]string{Classic: "SUBSCRIBE", Sharded: "SSUBSCRIBE", Streams: ""}[adapter]
					if verb != "" {
						f.listen(verb, "socket.io#/#"+ch+"#")
					}
				}
				send := func(id, data string, channels ...string) {
					t.Helper()
					m := event(data, channels...)
					m.ID = id
					if err := d.Send(t.Context(), m); err != nil {
						t.Fatal(err)
					}
				}
				id := place + string(adapter)
				send(id, "1", "a")
				send(id, "2", "a")
				send(id, "3", "a", "b") // for b it is the first
				send(id+"2", "4", "a")
				send("", "5", "a")
				send("", "6", "a")
				send(id+"3", "7", "a", "b")
				var got []string
				if adapter == Streams {
					got = f.entries("socket.io")
				} else {
					for range 7 {
						got = append(got, f.next())
					}
				}
				var short []string
				for _, s := range got {
					for _, ch := range []string{"a", "b"} {
						for n := range 10 {
							if strings.Contains(s, fmt.Sprintf(`"channel":"%s","data":%d`, ch, n)) || strings.Contains(s, fmt.Sprintf("\xa7channel\xa1%s\xa4data%c", ch, n)) {
								short = append(short, fmt.Sprint(ch, n))
							}
						}
					}
				}
				// Two channels have no order between them.
				counts := map[string]int{}
				for _, s := range short {
					counts[s]++
				}
				want := map[string]int{"a1": 1, "b3": 1, "a4": 1, "a5": 1, "a6": 1, "a7": 1, "b7": 1}
				if fmt.Sprint(counts) != fmt.Sprint(want) || len(short) != 7 || len(f.messages) != 0 {
					t.Errorf("taken: %v, and should be %v; %d more", short, want, len(f.messages))
				}
				if adapter == Classic {
					ttl, err := f.do("PTTL", "realtime:{socket.io#/#a#}:/:a:"+id).AsInt64()
					if err != nil || ttl <= 0 || ttl > idWindow.Milliseconds() {
						t.Errorf("the id is kept for %d ms (%v)", ttl, err)
					}
				}
			})
		}
	}
}

// formCluster makes a cluster of one node.
func formCluster(t *testing.T, addr string) {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "ADDSLOTSRANGE", "0", "16383").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		info, err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
		if err == nil && strings.Contains(info, "cluster_state:ok") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the cluster does not form: %v %s", err, info)
		}
	}
}

func TestAnIDThatRedisCouldNotHonourIsForgotten(t *testing.T) {
	addr := redistest.Start(t)
	f := lookAt(t, addr, "")
	f.do("SET", "socket.io", "no stream")
	d := driver(t, Config{Redis: addr, Adapter: Streams})
	m := event("1", "a")
	m.ID = "1"
	err := d.Send(t.Context(), m)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Temporary() || !strings.HasPrefix(err.Error(), `socketio: event "E": `+addr+`: WRONGTYPE`) {
		t.Errorf("the error is %v", err)
	}
	f.do("DEL", "socket.io")
	if err := d.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := f.entries("socket.io"); len(got) != 1 {
		t.Errorf("the stream has %q", got)
	}
}

// TestAConnectionThatRedisClosedCostsNoMessage: idle connections are closed by servers and proxies all the time.
func TestAConnectionThatRedisClosedCostsNoMessage(t *testing.T) {
	addr := redistest.Start(t)
	f := lookAt(t, addr, "")
	f.listen("SUBSCRIBE", "socket.io#/#a#")
	p := lossyFor(t, addr)
	before := connections()
	d := driver(t, Config{Redis: p.Addr().String()})
	for i := range 20 {
		if err := d.Send(t.Context(), event(fmt.Sprint(i), "a")); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if got, want := f.next(), fmt.Sprintf("data%c\xa3nsp", i); !strings.Contains(got, want) {
			t.Fatalf("message %d arrives as %q", i, got)
		}
		p.hangUp()
		for end := time.Now().Add(patience); connections() > before; { // the client is about to note it
			if time.Now().After(end) {
				t.Fatal("the client keeps what was closed")
			}
		}
	}
}

// connections counts those of all Redis clients of this process.
func connections() int {
	buf := make([]byte, 1<<20)
	return bytes.Count(buf[:runtime.Stack(buf, true)], []byte("rueidis.(*pipe)._background("))
}

func TestRedisThatIsNotThereIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	d := driver(t, Config{Redis: "redis://:secret@" + addr})
	for _, send := range []func() error{
		func() error { return d.Send(t.Context(), event("1", "a", "b")) },
		func() error { return d.Namespace("/").Emit(t.Context(), "E") },
	} {
		err = send()
		want := fmt.Sprintf(`socketio: event "E": redis://%s: dial tcp %s: connect: connection refused`, addr, addr)
		e, ok := errors.AsType[*Error](err)
		if runtime.GOOS == "linux" && fmt.Sprint(err) != want || !ok || !e.Temporary() {
			t.Errorf("the error is\n%v, and should be\n%s", err, want)
		}
	}
	// It comes later, and the driver with it.
	redistest.Again(t, addr)
	d = driver(t, Config{Redis: addr})
	if err := d.Send(t.Context(), event("1", "a")); err != nil {
		t.Error(err)
	}
}

// TestAProxyWithoutItsRedisIsAskedAgain: it takes connections, and ends them.
func TestAProxyWithoutItsRedisIsAskedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := lossyFor(t, addr)
	d := driver(t, Config{Redis: p.Addr().String()})
	for range 5 { // it is a matter of time whether the end comes before the greeting or behind it
		err = d.Namespace("/").Emit(t.Context(), "E")
		if e, ok := errors.AsType[*Error](err); !ok || !e.Temporary() {
			t.Fatalf("the error is %v, and must be temporary", err)
		}
	}
	redistest.Again(t, addr)
	if err := d.Namespace("/").Emit(t.Context(), "E"); err != nil {
		t.Error(err)
	}
}

// TestARestartOfRedisIsSurvived, by messages with an ID and the middleware that all drivers share.
func TestARestartOfRedisIsSurvived(t *testing.T) {
	addr := redistest.Start(t)
	d := driver(t, Config{Redis: addr, Adapter: Streams})
	if err := d.Send(t.Context(), event("1", "a")); err != nil {
		t.Fatal(err)
	}
	stop := lookAt(t, addr, "")
	stop.Do(t.Context(), stop.B().Arbitrary("SHUTDOWN", "NOSAVE").Build())
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("Redis does not end")
		}
	}
	err := d.Send(t.Context(), event("2", "a"))
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("without a Redis the error is %v", err)
	}
	redistest.Again(t, addr)
	if err := d.Send(t.Context(), event("3", "a")); err != nil {
		t.Fatal(err)
	}
	if got := lookAt(t, addr, "").entries("socket.io"); len(got) != 1 || !strings.Contains(got[0], `"data":3`) {
		t.Errorf("the stream has %q", got)
	}
}

// lossy passes commands on to Redis, and while it loses them none of the answers.
type lossy struct {
	net.Listener
	mu     sync.Mutex
	lose   int
	silent bool // passes no answers on
	conns  []lossyConn
}

type lossyConn struct {
	in, out net.Conn
	ended   chan struct{} // the client has hung up
}

// hangUp closes the client's connections, as Redis does with idle ones, and returns once the client knows.
func (p *lossy) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.in.(*net.TCPConn).CloseWrite()
		<-c.ended
	}
}

func lossyFor(t testing.TB, addr string) *lossy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{Listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			c := lossyConn{in, out, make(chan struct{})}
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			all.Go(func() {
				io.Copy(out, in)
				out.Close()
				close(c.ended)
			})
			all.Go(func() {
				defer in.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := out.Read(buf)
					p.mu.Lock()
					// An answer to EVAL, PUBLISH or XADD; the greeting's are longer or begin otherwise.
					lost := p.lose > 0 && n > 0 && (buf[0] == ':' || buf[0] == '$')
					if lost {
						p.lose--
					}
					silent := p.silent
					p.mu.Unlock()
					if err != nil || lost {
						return
					}
					if silent {
						continue
					}
					in.Write(buf[:n])
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.in.Close()
			c.out.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

func TestALostAnswerDoublesNothing(t *testing.T) {
	for _, adapter := range []Adapter{Classic, Streams} {
		t.Run(string(adapter), func(t *testing.T) {
			addr := redistest.Start(t)
			f := lookAt(t, addr, "")
			f.listen("SUBSCRIBE", "socket.io#/#a#")
			p := lossyFor(t, addr)
			d := driver(t, Config{Redis: p.Addr().String(), Adapter: adapter})
			taken := 0
			send := func(m *realtime.Message, driver realtime.Driver, lose int) error {
				t.Helper()
				p.mu.Lock()
				p.lose = lose
				p.mu.Unlock()
				err := driver.Send(t.Context(), m)
				taken++
				if adapter == Classic {
					if got := f.next(); !strings.Contains(got, "data"+string(rune(m.Data[0]-'0'))) {
						t.Errorf("message %s arrives as %q", m.Data, got)
					}
				} else if got := f.entries("socket.io"); len(got) != taken {
					t.Errorf("after message %s the stream has %q", m.Data, got)
				}
				return err
			}
			if err := send(event("1", "a"), d, 0); err != nil {
				t.Fatal(err)
			}
			err := send(event("2", "a"), d, 1)
			if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() {
				t.Errorf("without an ID the error is %v, and it must not be sent again", err)
			}
			withID := event("3", "a")
			withID.ID = "3"
			if err := send(withID, d, 2); err != nil {
				t.Errorf("with an ID the driver sends again by itself, and the error is %v", err)
			}
			if err := send(event("4", "a"), realtime.Retry(5, time.Millisecond)(d), 5); err != nil {
				t.Errorf("with realtime.Retry the error is %v", err)
			}
			if err := send(event("5", "a"), d, 0); err != nil {
				t.Error(err)
			}
			if len(f.messages) > 0 {
				t.Errorf("arrived too: %q", f.next())
			}
		})
	}
}

// TestASilentRedisIsNotWaitedForByAllWhoSend: what was given up leaves nothing behind that grows with its number.
func TestASilentRedisIsNotWaitedForByAllWhoSend(t *testing.T) {
	p := lossyFor(t, redistest.Start(t))
	d := driver(t, Config{Redis: p.Addr().String(), Timeout: 5 * time.Second})
	if err := d.Send(t.Context(), event("1", "a")); err != nil {
		t.Fatal(err)
	}
	silent := func(yes bool) {
		p.mu.Lock()
		p.silent = yes
		p.mu.Unlock()
	}
	silent(true)
	before := runtime.NumGoroutine()
	for range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := d.Send(ctx, event("2", "a")); !errors.Is(err, context.Canceled) {
					t.Errorf("the error is %v", err)
				}
			})
		}
		time.AfterFunc(50*time.Millisecond, cancel)
		all.Wait()
	}
	if n := runtime.NumGoroutine() - before; n > 2*maxUnderWay {
		t.Errorf("6,000 messages that were given up left %d goroutines", n)
	}
	silent(false)
	p.hangUp()
	if err := d.Send(t.Context(), event("3", "a")); err != nil {
		t.Error(err)
	}
	short := driver(t, Config{Redis: p.Addr().String(), Timeout: 50 * time.Millisecond})
	if err := short.Send(t.Context(), event("4", "a")); err != nil {
		t.Error(err)
	}
	silent(true)
	for range 10 {
		err := short.Send(t.Context(), event("5", "a"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Err.Error() != "it did not answer within 50ms: context deadline exceeded" {
			t.Fatalf("the error is %v", err)
		}
	}
	silent(false)
	p.hangUp()
}

// TestSendEndsWithItsContext whatever Redis does: here it answers nothing, ever.
func TestSendEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	d := driver(t, Config{Redis: l.Addr().String(), Timeout: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for range 2 { // the second waits for the first's connection
		go func() { errs <- d.Send(ctx, event("1", "a")) }()
	}
	c := <-accepted
	defer c.Close()
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("the error is %v", err)
		}
	}
	err = d.Send(t.Context(), event("1", "a"))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("the error is %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.Send(ended, event("1", "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestCloseEndsIt(t *testing.T) {
	addr := redistest.Start(t)
	f := lookAt(t, addr, "")
	d := driver(t, Config{Redis: addr})
	if err := d.Send(t.Context(), event("1", "a")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, _ := f.do("CLIENT", "LIST").ToString(); strings.Contains(list, "name=realtime ") {
		t.Errorf("connections are left:\n%s", list)
	}
	if err := d.Send(t.Context(), event("1", "a")); err != realtime.ErrClosed {
		t.Errorf("Send returns %v", err)
	}
	if err := d.Namespace("/").Join(t.Context(), "a"); err != realtime.ErrClosed {
		t.Errorf("Join returns %v", err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Errorf("the second Close returns %v", err)
	}
}

func TestPasswordsAndDatabases(t *testing.T) {
	addr := redistest.Start(t, "--requirepass", "s3cret")
	f := lookAt(t, addr, "s3cret")
	f.do("SELECT", "0")
	for _, cfg := range []Config{{Redis: "redis://:s3cret@" + addr + "/2"}, {Redis: addr, Password: "s3cret"}, {Redis: "redis://default:wrong@" + addr, Password: "s3cret"}} {
		cfg.Adapter = Streams
		if err := driver(t, cfg).Send(t.Context(), event("1", "a")); err != nil {
			t.Errorf("%v: %v", cfg, err)
		}
	}
	if n := len(f.entries("socket.io")); n != 2 {
		t.Errorf("database 0 has %d messages, not 2", n)
	}
	for _, cfg := range []Config{{Redis: addr}, {Redis: "redis://:wr0ng@" + addr}} {
		err := driver(t, cfg).Send(t.Context(), event("1", "a"))
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Temporary() || strings.Contains(err.Error(), "wr0ng") || !strings.Contains(err.Error(), "NOAUTH") && !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("%v: %v", cfg, err)
		}
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile := write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no")
	roots := x509.NewCertPool()
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(own)
	if err := driver(t, Config{Redis: "rediss://" + addr, TLS: &tls.Config{RootCAs: roots}}).Send(t.Context(), event("1", "a")); err != nil {
		t.Error(err)
	}
	err = driver(t, Config{Redis: "rediss://" + addr}).Send(t.Context(), event("1", "a"))
	if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody's is %v", err)
	}
}

// TestNobodyListeningIsTold once, until somebody did.
func TestNobodyListeningIsTold(t *testing.T) {
	addr := redistest.Start(t)
	var log bytes.Buffer
	var mu sync.Mutex
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	told := func(want string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if got := log.String(); got != want {
			t.Errorf("the log is\n%s, and should be\n%s", got, want)
		}
		log.Reset()
	}
	const text = "level=WARN msg=\"socketio: no Socket.IO server listens: none runs, or its adapter, its key or channelPrefix, its Redis or its namespaces are not what the driver's are\" redis="
	d := driver(t, Config{Redis: addr, Logger: logger})
	send := func(d *Driver, channels ...string) {
		t.Helper()
		if err := d.Send(t.Context(), event("1", channels...)); err != nil {
			t.Fatal(err)
		}
	}
	send(d, "a")
	send(d, "a")
	told(text + addr + " adapter=classic channel=socket.io#/#a#\n")
	f := lookAt(t, addr, "")
	f.listen("PSUBSCRIBE", "socket.io#/#*")
	send(d, "a")
	told("")

	d = driver(t, Config{Redis: addr, Logger: logger, Adapter: Sharded})
	send(d, "a") // nobody need be in the room
	told("")
	if err := d.Namespace("/").Emit(t.Context(), "E"); err != nil {
		t.Fatal(err)
	}
	told(text + addr + " adapter=sharded channel=socket.io#/#\n")
	d = driver(t, Config{Redis: addr, Logger: logger, Adapter: Streams})
	send(d, "a")
	told("")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// BenchmarkSend is one message after the other to a Redis on this machine.
func BenchmarkSend(b *testing.B) {
	for _, adapter := range []Adapter{Classic, Sharded, Streams} {
		b.Run(string(adapter), func(b *testing.B) {
			d := driver(b, Config{Redis: redistest.Start(b), Adapter: adapter, Logger: slog.New(slog.DiscardHandler)})
			m := event(`{"orderId":"12345","totalAmount":99.99}`, "private-orders.12345")
			for b.Loop() {
				if err := d.Send(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
