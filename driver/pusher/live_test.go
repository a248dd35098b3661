package pusher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/driver/pusher"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/realtimetest"
	"github.com/stacksjs/realtime-go/server"
)

const key, secret = "a-key", "a-secret"

// open makes a driver for the server at an address, "host:port".
func open(t testing.TB, addr string, cfg pusher.Config) *pusher.Driver {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.AppID, cfg.Key, cfg.Secret, cfg.Scheme, cfg.Host = "1", key, secret, "http", host
	if cfg.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	d, err := pusher.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// serve is this module's server.
func serve(t testing.TB) string {
	_, s := realtimetest.Server(t, server.Config{Apps: []server.App{{ID: "1", Keys: []auth.Key{{Key: key, Secret: secret}}}}}, nil)
	return s.Addr
}

// listener is a client of the server.
type listener struct {
	*wsclient.Conn
	t  testing.TB
	id string // its socket's
}

func (l listener) read() (frame struct {
	Event, Channel string
	Data           json.RawMessage
}) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, b, err := l.ReadMessage(ctx)
	if err == nil {
		err = json.Unmarshal(b, &frame)
	}
	if err != nil {
		l.t.Fatalf("no further frame: %v", err)
	}
	return frame
}

func (l listener) next() realtime.Message {
	l.t.Helper()
	f := l.read()
	return realtime.Message{Channels: []string{f.Channel}, Event: f.Event, Data: f.Data}
}

func (l listener) say(frame string) {
	l.t.Helper()
	if err := l.Write(l.t.Context(), ws.OpText, []byte(frame)); err != nil {
		l.t.Fatal(err)
	}
}

// ended waits for the server to close the connection, whatever it says before.
func (l listener) ended() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := l.ReadMessage(ctx); err != nil {
			if _, ok := errors.AsType[*ws.CloseError](err); !ok {
				l.t.Errorf("the connection ends with %v", err)
			}
			return
		}
	}
}

func dial(t testing.TB, addr, query string) listener {
	t.Helper()
	c, err := wsclient.Dial(t.Context(), "ws://"+addr+"/ws"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(1000, "") })
	l := listener{Conn: c, t: t}
	var hello struct {
		SocketID string `json:"socket_id"`
	}
	if err := json.Unmarshal(l.read().Data, &hello); err != nil {
		t.Fatal(err)
	}
	l.id = hello.SocketID
	return l
}

// listen makes a client that listens to channels.
func listen(t testing.TB, addr string, channels ...string) listener {
	t.Helper()
	l := dial(t, addr, "")
	for _, ch := range channels {
		l.say(fmt.Sprintf(`{"event":"subscribe","channel":%q,"auth":%q}`, ch, auth.SignChannel(key, secret, l.id, ch, "")))
		if f := l.read(); f.Event != "subscription_succeeded" || f.Channel != ch {
			t.Fatalf("subscribing to %s is answered with %+v", ch, f)
		}
	}
	return l
}

// TestDriver: what a client of this module's server hears of what was sent over HTTP.
func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{PerChannel: true, NoExcept: true, Listeners: listeners, New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
		addr := serve(t)
		return open(t, addr, pusher.Config{}), listen(t, addr, drivertest.Channels...).next
	}})
}

// listeners are clients of these users at this module's server.
func listeners(t *testing.T, users []string) (realtime.Driver, []drivertest.Listener) {
	who := auth.New()
	who.AllowAnonymous()
	who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.Header.Get("User")}, nil })
	who.Channel("drivertest.c", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	_, s := realtimetest.Server(t, server.Config{Auth: who, Apps: []server.App{{ID: "1", Keys: []auth.Key{{Key: key, Secret: secret}}}}}, nil)
	var all []drivertest.Listener
	for _, u := range users {
		c, err := s.Connect(http.Header{"User": {u}})
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range drivertest.Channels {
			if err := c.Subscribe(ch); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, drivertest.Listener{SocketID: c.SocketID, Next: c.Next})
	}
	return open(t, s.Addr, pusher.Config{}), all
}

func TestDriverWithBatches(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{PerChannel: true, NoExcept: true, New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
		addr := serve(t)
		return open(t, addr, pusher.Config{BatchWindow: time.Millisecond}), listen(t, addr, drivertest.Channels...).next
	}})
}

// api is a server's HTTP API, without clients: what it takes, it puts into far.
type api struct {
	t   testing.TB
	far chan realtime.Message
}

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if err := auth.VerifyRequest(r, body, auth.AppKeys{ID: "1", Keys: []auth.Key{{Key: key, Secret: secret}}}, time.Now(), ""); err != nil {
		a.t.Errorf("the request is not authentic: %v", err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	type event struct {
		Name, Channel, Data string
		Channels            []string
		SocketID            string `json:"socket_id"`
	}
	var one event
	var several struct{ Batch []event }
	err := json.Unmarshal(body, &one)
	switch r.URL.Path {
	case "/apps/1/events":
		several.Batch = []event{one}
	case "/apps/1/batch_events":
		err = errors.Join(err, json.Unmarshal(body, &several))
	default:
		err = errors.Join(err, fmt.Errorf("there is no %s", r.URL.Path))
	}
	if err != nil {
		a.t.Error(err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, e := range several.Batch {
		if e.Channel != "" {
			e.Channels = append(e.Channels, e.Channel)
		}
		for _, c := range e.Channels {
			m := realtime.Message{Channels: []string{c}, Event: e.Name, Data: json.RawMessage(e.Data)}
			if e.SocketID != "" {
				m.ExceptSockets = []string{e.SocketID}
			}
			a.far <- m
		}
	}
	io.WriteString(w, "{}")
}

func TestDriverAtTheAPI(t *testing.T) {
	for name, window := range map[string]time.Duration{"sending": 0, "queueing": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, drivertest.Harness{PerChannel: true, New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
				a := api{t, make(chan realtime.Message, drivertest.MaxWaiting)}
				srv := httptest.NewServer(a)
				t.Cleanup(srv.Close)
				d := open(t, srv.Listener.Addr().String(), pusher.Config{BatchWindow: window})
				return d, func() realtime.Message {
					select {
					case m := <-a.far:
						return m
					case <-time.After(20 * time.Second):
						t.Fatal("nothing came")
						return realtime.Message{}
					}
				}
			}})
		})
	}
}

// broken is a connection that loses answers.
type broken struct {
	http.Transport
	lose, requests atomic.Int64
}

func (b *broken) RoundTrip(r *http.Request) (*http.Response, error) {
	b.requests.Add(1)
	res, err := b.Transport.RoundTrip(r)
	if err == nil && b.lose.Add(-1) >= 0 {
		res.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return res, err
}

func TestALostAnswerDoublesNothingAtOurServer(t *testing.T) {
	addr := serve(t)
	l := listen(t, addr, "orders", "private-orders")
	net := &broken{}
	defer net.CloseIdleConnections()
	d := open(t, addr, pusher.Config{HTTPClient: &http.Client{Transport: net}})
	send := func(id, data string) error {
		return d.Send(t.Context(), &realtime.Message{ID: id, Channels: []string{"orders", "private-orders"}, Event: "e", Data: json.RawMessage(data)})
	}
	want := func(data string) {
		t.Helper()
		for range 2 {
			if f := l.read(); string(f.Data) != data {
				t.Fatalf("data %s arrives, and should be %s", f.Data, data)
			}
		}
	}
	net.lose.Store(1)
	if err := send("m1", "1"); err == nil {
		t.Error("the driver does not know yet that the server deals with repetitions, and repeats")
	}
	want("1")
	if err := send("m1", "1"); err != nil { // the application's own repetition
		t.Error(err)
	}
	net.lose.Store(2)
	net.requests.Store(0)
	if err := send("m2", "2"); err != nil || net.requests.Load() != 3 {
		t.Errorf("sent %d times: %v", net.requests.Load(), err)
	}
	want("2")
	net.lose.Store(1)
	if err := send("", "3"); err == nil {
		t.Error("a message without an id is repeated")
	}
	want("3")
	if err := send("", "4"); err != nil {
		t.Error(err)
	}
	want("4")
}

// jsonOf is for comparing.
func jsonOf(v any, err error) string {
	b, _ := json.Marshal(v)
	if err != nil {
		return string(b) + " " + err.Error()
	}
	return string(b)
}

func TestOurServerIsUnderstood(t *testing.T) {
	who := auth.New()
	who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.URL.Query().Get("user")}, nil })
	who.Channel("presence-room.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	_, s := realtimetest.Server(t, server.Config{Apps: []server.App{{ID: "1", Keys: []auth.Key{{Key: key, Secret: secret}}}}, Auth: who}, nil)
	addr := s.Addr
	ada := dial(t, addr, "?user=ada/b")
	ada.say(`{"event":"subscribe","channel":"presence-room.a;b,c=d@e"}`)
	if f := ada.read(); f.Event != "subscription_succeeded" {
		t.Fatalf("the answer is %+v", f)
	}
	ada.say(`{"event":"subscribe","channel":"cache-x"}`)
	if f := ada.read(); f.Event != "subscription_succeeded" {
		t.Fatalf("the answer is %+v", f)
	}
	d := open(t, addr, pusher.Config{})
	ctx := t.Context()
	message := func(data string, channels ...string) *realtime.Message {
		return &realtime.Message{Channels: channels, Event: "e", Data: json.RawMessage(data)}
	}
	const room = "presence-room.a;b,c=d@e"
	for _, tt := range []struct{ what, got, want string }{
		{
			"Trigger", jsonOf(d.Trigger(ctx, message("1", room, "cache-x"), pusher.UserCount, pusher.SubscriptionCount)),
			`{"cache-x":{"occupied":false,"user_count":null,"subscription_count":1,"cache":null},"presence-room.a;b,c=d@e":{"occupied":false,"user_count":1,"subscription_count":1,"cache":null}}`,
		},
		{
			"TriggerBatch", jsonOf(d.TriggerBatch(ctx, []pusher.Event{{Channel: "a", Name: "n", Data: json.RawMessage("1")}, {Channel: room, Name: "n", Data: json.RawMessage("2"), Info: []pusher.Info{pusher.UserCount}}})),
			`[{"occupied":false,"user_count":null,"subscription_count":null,"cache":null},{"occupied":false,"user_count":1,"subscription_count":null,"cache":null}]`,
		},
		{"Channels", jsonOf(d.Channels(ctx, "")), `{"cache-x":{"occupied":true,"user_count":null,"subscription_count":null,"cache":null},"presence-room.a;b,c=d@e":{"occupied":true,"user_count":null,"subscription_count":null,"cache":null}}`},
		{"Channels with a prefix", jsonOf(d.Channels(ctx, "presence-room.a;", pusher.UserCount)), `{"presence-room.a;b,c=d@e":{"occupied":true,"user_count":1,"subscription_count":null,"cache":null}}`},
		{"no Channels", jsonOf(d.Channels(ctx, "nobody")), `{}`},
		{"Channel", jsonOf(d.Channel(ctx, room, pusher.UserCount, pusher.SubscriptionCount)), `{"occupied":true,"user_count":1,"subscription_count":1,"cache":null}`},
		{"an empty Channel", jsonOf(d.Channel(ctx, "nobody", pusher.SubscriptionCount)), `{"occupied":false,"user_count":null,"subscription_count":0,"cache":null}`},
		{"Users", jsonOf(d.Users(ctx, room)), `["ada/b"]`},
		{"no Users", jsonOf(d.Users(ctx, "presence-nobody")), `[]`},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is\n%s\nand should be\n%s", tt.what, tt.got, tt.want)
		}
	}
	in, err := d.Channel(ctx, "cache-x", pusher.Cache)
	if err != nil || in.Cache == nil || in.Cache.Data != "1" || in.Cache.TTL <= 29*time.Minute || in.Cache.TTL > 30*time.Minute {
		t.Errorf("the cache is %+v (%v)", in.Cache, err)
	}
	if err := d.TerminateConnections(ctx, "ada/b"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"1", "1", "2"} {
		if f := ada.read(); string(f.Data) != want {
			t.Errorf("ada reads %+v, and should read %s", f, want)
		}
	}
	ada.ended()
	err = d.Send(ctx, message(`"`+strings.Repeat("x", 200<<10)+`"`, "orders"))
	if e, ok := errors.AsType[*pusher.Error](err); !ok || e.Status != http.StatusRequestEntityTooLarge || e.Temporary() {
		t.Errorf("the error is %v", err)
	}
	wrong, err := pusher.New(pusher.Config{AppID: "1", Key: key, Secret: "wrong", Scheme: "http", Host: "127.0.0.1", Port: portOf(t, addr)})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close(t.Context())
	err = wrong.Send(ctx, message("1", "orders"))
	if e, ok := errors.AsType[*pusher.Error](err); !ok || e.Status != http.StatusUnauthorized {
		t.Errorf("the error is %v", err)
	}
}

func portOf(t testing.TB, addr string) int {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

func order(channel string) *realtime.Message {
	return &realtime.Message{Channels: []string{channel}, Event: "OrderShipped", Data: json.RawMessage(`{"orderId":"12345","totalAmount":99.99}`)}
}

// BenchmarkSend is one request after the other.
func BenchmarkSend(b *testing.B) {
	d := open(b, serve(b), pusher.Config{})
	for b.Loop() {
		if err := d.Send(b.Context(), order("orders")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkSendParallel is sixteen requests at a time on two processors.
func BenchmarkSendParallel(b *testing.B) {
	d := open(b, serve(b), pusher.Config{})
	b.SetParallelism(8)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := d.Send(b.Context(), order("orders")); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkQueue is batches of ten, over eight channels.
func BenchmarkQueue(b *testing.B) {
	d := open(b, serve(b), pusher.Config{BatchWindow: 10 * time.Millisecond})
	n := 0
	for b.Loop() {
		n++
		if err := d.Send(b.Context(), order(fmt.Sprint("orders", n/10%8))); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
