package pusher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
)

const (
	testKey    = "278d425bdf160c739803"
	testSecret = "7ad3773142a6692b25b8"
)

var testTime = time.Unix(1353088179, 0)

// request is what a server got.
type request struct {
	method, uri, host, body string
	header                  http.Header
	ctx                     context.Context
}

// far is a server's HTTP API without the network: what it answers to each request.
type far func(r request) (*http.Response, error)

func (f far) RoundTrip(r *http.Request) (*http.Response, error) {
	got := request{method: r.Method, uri: r.URL.RequestURI(), host: r.URL.Scheme + "://" + r.URL.Host, header: r.Header, ctx: r.Context()}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body.Close()
		got.body = string(b)
	}
	res, err := f(got)
	if res != nil {
		res.Request = r
	}
	return res, err
}

// answer is a response; header is names and values in turn.
func answer(status int, body string, header ...string) (*http.Response, error) {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		res.Header.Set(header[i], header[i+1])
	}
	return res, nil
}

// driver makes one that sends to f, with the documentation's credentials.
func driver(t testing.TB, cfg Config, f far) *Driver {
	t.Helper()
	if cfg.AppID == "" {
		cfg.AppID = "3"
	}
	if cfg.Key == "" {
		cfg.Key, cfg.Secret = testKey, testSecret
	}
	cfg.HTTPClient = &http.Client{Transport: f}
	cfg.now = func() time.Time { return testTime }
	d, err := New(cfg)
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

func message(event, data string, channels ...string) *realtime.Message {
	return &realtime.Message{Channels: channels, Event: event, Data: json.RawMessage(data)}
}

// TestRequestsAreThoseOfTheProtocol goes through a real connection, so that what is compared is what was on the wire.
func TestRequestsAreThoseOfTheProtocol(t *testing.T) {
	const events = "/apps/3/events"
	except := message("moved", `{"x":1}`, "a", "presence-b")
	except.ExceptSockets = []string{"123.456"}
	withID := message("paid", `1`, "a")
	withID.ID, withID.App = "order-7", "3"
	send := func(m *realtime.Message) func(*Driver, context.Context) error {
		return func(d *Driver, ctx context.Context) error { return d.Send(ctx, m) }
	}
	type want struct {
		method, path string
		params       map[string]string
		query        string // written out; empty: as auth.SignRequest has it
		body         string
		id           string // the header X-Idempotency-Key
	}
	for _, tt := range []struct {
		name  string
		cfg   Config
		call  func(*Driver, context.Context) error
		says  string
		wants []want
	}{
		{"the documentation's example", Config{}, send(message("foo", `{"some":"data"}`, "project-3")), `{}`, []want{{
			method: "POST", path: events, body: `{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`,
			query: "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
		}}},
		{
			"the documentation's list", Config{AppID: "102015", Key: "d41a439c438a100756f5", Secret: "4bf35003e819bb138249"},
			func(d *Driver, ctx context.Context) error {
				d.cfg.now = func() time.Time { return time.Unix(1427034994, 0) }
				_, err := d.Channels(ctx, "presence-", UserCount)
				return err
			},
			`{"channels":{}}`,
			[]want{{
				method: "GET", path: "/apps/102015/channels",
				query: "auth_key=d41a439c438a100756f5&auth_timestamp=1427034994&auth_version=1.0&filter_by_prefix=presence-&info=user_count&auth_signature=4d8a02edcc8a758b0162cd6da690a9a45fb8ae326a276dca1e06a0bc42796c11",
			}},
		},
		{"nothing is escaped that JSON does not ask for", Config{}, send(message("<b>&ü", "{\"a\": \"</b>\u2028\"}", "c")), `{}`, []want{{
			method: "POST", path: events, body: "{\"name\":\"<b>&ü\",\"channels\":[\"c\"],\"data\":\"{\\\"a\\\": \\\"</b>\\u2028\\\"}\"}",
		}}},
		{"one connection is left out", Config{}, send(except), `{}`, []want{{
			method: "POST", path: events, body: `{"name":"moved","channels":["a","presence-b"],"data":"{\"x\":1}","socket_id":"123.456"}`,
		}}},
		{"a message with an id", Config{}, send(withID), `{}`, []want{{
			method: "POST", path: events, id: "order-7", body: `{"name":"paid","channels":["a"],"data":"1"}`,
		}}},
		{
			"a user's connections", Config{},
			func(d *Driver, ctx context.Context) error {
				return d.SendToUser(ctx, "ada", "reminder", map[string]string{"at": "<now>"})
			},
			`{}`,
			[]want{{method: "POST", path: events, body: `{"name":"reminder","channels":["#server-to-user-ada"],"data":"{\"at\":\"<now>\"}"}`}},
		},
		{
			"to be told of the channels", Config{},
			func(d *Driver, ctx context.Context) error {
				_, err := d.Trigger(ctx, message("e", `1`, "presence-a", "b"), UserCount, SubscriptionCount)
				return err
			},
			`{"channels":{}}`,
			[]want{{method: "POST", path: events, body: `{"name":"e","channels":["presence-a","b"],"data":"1","info":"user_count,subscription_count"}`}},
		},
		{
			"a batch", Config{EventNamespace: "App.Events"},
			func(d *Driver, ctx context.Context) error {
				_, err := d.TriggerBatch(ctx, []Event{
					{Channel: "a", Name: "n", Data: json.RawMessage(`"x"`), ExceptSocket: "1.2", Info: []Info{SubscriptionCount}},
					{Channel: "b", Name: ".m", Data: json.RawMessage(`null`)},
				})
				return err
			},
			`{"batch":[{},{}]}`,
			[]want{{
				method: "POST", path: "/apps/3/batch_events",
				body: `{"batch":[{"channel":"a","name":"App\\Events\\n","data":"\"x\"","socket_id":"1.2","info":"subscription_count"},{"channel":"b","name":"m","data":"null"}]}`,
			}},
		},
		{
			"every character of a channel's name", Config{},
			func(d *Driver, ctx context.Context) error {
				_, err := d.Channel(ctx, "presence-a_b-c=d@e,f.g;h", UserCount, SubscriptionCount, Cache)
				return err
			},
			`{}`,
			[]want{{method: "GET", path: "/apps/3/channels/presence-a_b-c=d@e,f.g;h", params: map[string]string{"info": "user_count,subscription_count,cache"}}},
		},
		{"all channels", Config{}, func(d *Driver, ctx context.Context) error { _, err := d.Channels(ctx, ""); return err }, `{"channels":{}}`, []want{{method: "GET", path: "/apps/3/channels"}}},
		{"users", Config{}, func(d *Driver, ctx context.Context) error { _, err := d.Users(ctx, "presence-a"); return err }, `{}`, []want{{method: "GET", path: "/apps/3/channels/presence-a/users"}}},
		{"the end of a user's connections", Config{}, func(d *Driver, ctx context.Context) error { return d.TerminateConnections(ctx, "ada") }, `{}`, []want{{
			method: "POST", path: "/apps/3/users/ada/terminate_connections", body: `{}`,
		}}},
		{"a user id that has to be escaped", Config{}, func(d *Driver, ctx context.Context) error { return d.TerminateConnections(ctx, "a/b c?ü%2F") }, `{}`, []want{{
			method: "POST", path: "/apps/3/users/a%2Fb%20c%3F%C3%BC%252F/terminate_connections", body: `{}`,
		}}},
		{"below a path", Config{Path: "/real time/v1/"}, send(message("e", `1`, "a")), `{}`, []want{{
			method: "POST", path: "/real%20time/v1/apps/3/events", body: `{"name":"e","channels":["a"],"data":"1"}`,
		}}},
		{"end-to-end encrypted channels are apart", Config{}, send(message("e", `{"nonce":"x","ciphertext":"y"}`, "private-encrypted-a", "b", "private-encrypted-c")), `{}`, []want{
			{method: "POST", path: events, body: `{"name":"e","channels":["b"],"data":"{\"nonce\":\"x\",\"ciphertext\":\"y\"}"}`},
			{method: "POST", path: events, body: `{"name":"e","channels":["private-encrypted-a"],"data":"{\"nonce\":\"x\",\"ciphertext\":\"y\"}"}`},
			{method: "POST", path: events, body: `{"name":"e","channels":["private-encrypted-c"],"data":"{\"nonce\":\"x\",\"ciphertext\":\"y\"}"}`},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []request
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got = append(got, request{r.Method, r.RequestURI, r.Host, string(b), r.Header, nil})
				io.WriteString(w, tt.says)
			}))
			defer srv.Close()
			d := driver(t, tt.cfg, nil)
			*d.client = *srv.Client()
			d.base.Scheme, d.base.Host = "http", srv.Listener.Addr().String()
			if err := tt.call(d, t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.wants) {
				t.Fatalf("%d requests arrived, not %d: %+v", len(got), len(tt.wants), got)
			}
			for i, w := range tt.wants {
				if w.query == "" {
					w.query = auth.SignRequest(w.method, w.path, w.params, []byte(w.body), d.cfg.Key, d.cfg.Secret, testTime)
				}
				g := got[i]
				if g.method != w.method || g.uri != w.path+"?"+w.query || g.body != w.body {
					t.Errorf("the request is\n%s %s\n%s\nand should be\n%s %s?%s\n%s", g.method, g.uri, g.body, w.method, w.path, w.query, w.body)
				}
				header := map[string]string{"X-Pusher-Library": "realtime-go 1", "Content-Type": "application/json", "X-Idempotency-Key": w.id}
				if w.body == "" {
					header["Content-Type"] = ""
				}
				for name, want := range header {
					if v := g.header.Get(name); v != want {
						t.Errorf("%s is %q, and should be %q", name, v, want)
					}
				}
			}
		})
	}
}

func TestWhereTheServerIs(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "https://api-mt1.pusher.com/apps/3/events"},
		{Config{Cluster: "eu"}, "https://api-eu.pusher.com/apps/3/events"},
		{Config{Cluster: "eu", Scheme: "http", Port: 8080}, "http://api-eu.pusher.com:8080/apps/3/events"},
		{Config{Cluster: "eu", Host: "ws.shop.example"}, "https://ws.shop.example/apps/3/events"},
		{Config{Host: "127.0.0.1", Port: 6001, Scheme: "http", Path: "rt"}, "http://127.0.0.1:6001/rt/apps/3/events"},
		{Config{Host: "::1", Port: 6001}, "https://[::1]:6001/apps/3/events"},
		{Config{Host: "[::1]"}, "https://[::1]/apps/3/events"},
	} {
		got := ""
		d := driver(t, tt.cfg, func(r request) (*http.Response, error) {
			got, _, _ = strings.Cut(r.host+r.uri, "?")
			return answer(200, "{}")
		})
		if err := d.Send(t.Context(), message("e", "1", "c")); err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%+v sends to %s, and should to %s", tt.cfg, got, tt.want)
		}
	}
}

func TestEverythingWrongWithAConfigurationIsSaid(t *testing.T) {
	_, err := New(Config{Secret: "hush", Cluster: "eu.evil.example/", Host: "https://shop.example", Port: 70000, Scheme: "ftp", Path: "/a?b", Timeout: -1, BatchWindow: -1, MaxQueue: -1})
	want := `pusher: AppID is missing
pusher: Key is missing
pusher: Cluster is "eu.evil.example/", and must be a name such as mt1 or eu
pusher: Host is "https://shop.example", and must be a name or an address alone; Scheme, Port and Path are apart
pusher: Port is 70000, and must be from 1 to 65535
pusher: Scheme is "ftp", and must be "https" or "http"
pusher: Path is "/a?b", and must be a path such as /realtime
pusher: Timeout must not be negative
pusher: BatchWindow must not be negative
pusher: MaxQueue must not be negative`
	if fmt.Sprint(err) != want {
		t.Errorf("the error is\n%v\nand should be\n%s", err, want)
	}
	if _, err := New(Config{AppID: "1", Key: "k", Host: "shop.example:80"}); err == nil || !strings.Contains(err.Error(), "Secret is missing") || !strings.Contains(err.Error(), "Host is") {
		t.Errorf("the error is %v", err)
	}
}

func TestNamesAreWhatEchoListensTo(t *testing.T) {
	for _, tt := range [][3]string{
		// namespace, name, on the wire
		{"", "OrderShipped", "OrderShipped"},
		{"", ".order.shipped", ".order.shipped"},
		{`App\Events`, "OrderShipped", `App\Events\OrderShipped`},
		{`App\Events\`, "OrderShipped", `App\Events\OrderShipped`},
		{"App.Events", "OrderShipped", `App\Events\OrderShipped`},
		{"App.Events", "Orders.Shipped", `App\Events\Orders\Shipped`},
		{"App.Events", ".order.shipped", "order.shipped"},
		{"App.Events", `\Illuminate\Notifications\Sent`, `Illuminate\Notifications\Sent`},
	} {
		d := driver(t, Config{EventNamespace: tt[0]}, nil)
		if got := d.eventName(tt[1]); got != tt[2] {
			t.Errorf("with namespace %q, %q is sent as %q, and should be as %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestWhatTheProtocolCannotDoIsRefusedBeforeSending(t *testing.T) {
	with := func(change func(*realtime.Message)) *realtime.Message {
		m := message("e", "1", "c")
		change(m)
		return m
	}
	for _, tt := range []struct {
		cfg  Config
		m    *realtime.Message
		want string
	}{
		{Config{}, with(func(m *realtime.Message) { m.ExceptUsers = []string{"ada"} }), `the Pusher HTTP API cannot leave out users (["ada"])`},
		{Config{Host: "x"}, with(func(m *realtime.Message) { m.ExceptSockets = []string{"1.2", "3.4"} }), `can leave out one connection, not 2`},
		{Config{}, with(func(m *realtime.Message) { m.Channels = []string{"a", "private-encrypted-a"} }), `channel "private-encrypted-a" is end-to-end encrypted, but the data is not`},
		{Config{}, with(func(m *realtime.Message) { m.App = "4" }), `it is for app "4", and this driver sends to app "3" only`},
		{Config{}, with(func(m *realtime.Message) { m.Data = make([]byte, 10241) }), `its data has 10241 bytes, more than the 10240 that the server takes`},
		{Config{Host: "api-eu.pusher.com"}, with(func(m *realtime.Message) { m.Data = make([]byte, 10241) }), `10241 bytes`},
		{Config{Host: "x", MaxPayload: 4}, with(func(m *realtime.Message) { m.Data = make([]byte, 5) }), `its data has 5 bytes, more than the 4 that the server takes`},
		{Config{EventNamespace: "App"}, with(func(m *realtime.Message) { m.Event = strings.Repeat("e", 197) }), `its name has 201 bytes, more than 200`},
		{Config{}, with(func(m *realtime.Message) { m.ID = strings.Repeat("i", 129) }), `its id has 129 bytes, more than 128`},
		{Config{}, with(func(m *realtime.Message) { m.ID = "a\nb" }), `its id "a\nb" has '\n' at byte 1`},
	} {
		for _, window := range []time.Duration{0, time.Hour} {
			tt.cfg.BatchWindow = window
			d := driver(t, tt.cfg, func(request) (*http.Response, error) {
				t.Errorf("%s: something was sent", tt.want)
				return answer(200, "{}")
			})
			if err := d.Send(t.Context(), tt.m); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, and should have %q", err, tt.want)
			}
		}
	}
	for _, cfg := range []Config{{}, {Host: "x"}, {MaxPayload: -1}} {
		n := map[string]int{"": 10240, "x": 1 << 20}[cfg.Host]
		if cfg.MaxPayload < 0 {
			n = 1 << 20
		}
		d := driver(t, cfg, func(request) (*http.Response, error) { return answer(200, "{}") })
		if err := d.Send(t.Context(), message("e", strings.Repeat("1", n), "c")); err != nil {
			t.Errorf("%d bytes to %q: %v", n, cfg.Host, err)
		}
	}
}

func TestInvalidEventsAreRefusedByNumber(t *testing.T) {
	d := driver(t, Config{MaxPayload: 3}, func(request) (*http.Response, error) {
		t.Error("something was sent")
		return answer(200, "{}")
	})
	_, err := d.TriggerBatch(t.Context(), []Event{
		{Channel: "a", Name: "n", Data: json.RawMessage(`1`)}, {Channel: "no spaces", Name: "n", Data: json.RawMessage(`1`)},
		{Channel: "a", Name: "n", Data: json.RawMessage(`1`), ExceptSocket: "x"}, {Channel: "a", Name: "n", Data: json.RawMessage(`1234`)},
	})
	for _, want := range []string{`event 1 of the batch: realtime: event "n" cannot be sent: channel name "no spaces"`, `event 2 of the batch: `, `event 3 of the batch: its data has 4 bytes`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is\n%v\nand should have %q", err, want)
		}
	}
	if _, err := d.TriggerBatch(t.Context(), []Event{{Channel: "private-encrypted-a", Name: "n", Data: json.RawMessage(`1`)}}); err == nil || !strings.Contains(err.Error(), "but the data is not") {
		t.Errorf("the error is %v", err)
	}
	if _, err := d.Trigger(t.Context(), message("n", `1`, "private-encrypted-a")); err == nil || !strings.Contains(err.Error(), "but the data is not") {
		t.Errorf("the error is %v", err)
	}
	if _, err := d.Trigger(t.Context(), message("pusher:x", `1`, "a")); err == nil || !strings.Contains(err.Error(), "keeps for itself") {
		t.Errorf("the error is %v", err)
	}
	if err := d.SendToUser(t.Context(), "", "e", nil); err == nil {
		t.Error("a user without an id is sent to")
	}
}

// channels are n names.
func channels(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("c%d", i)
	}
	return out
}

func TestManyChannelsAreSentInSeveralRequestsInOrder(t *testing.T) {
	var got []string
	var sizes []int
	d := driver(t, Config{}, func(r request) (*http.Response, error) {
		var body trigger
		if err := json.Unmarshal([]byte(r.body), &body); err != nil {
			t.Error(err)
		}
		got, sizes = append(got, body.Channels...), append(sizes, len(body.Channels))
		infos := map[string]any{}
		for i, c := range body.Channels {
			infos[c] = map[string]int{"subscription_count": i}
		}
		b, _ := json.Marshal(map[string]any{"channels": infos})
		return answer(200, string(b))
	})
	infos, err := d.Trigger(t.Context(), message("e", "1", channels(250)...), SubscriptionCount)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, channels(250)) || fmt.Sprint(sizes) != "[100 100 50]" {
		t.Errorf("requests of %v channels: %v", sizes, got)
	}
	if len(infos) != 250 || *infos["c249"].SubscriptionCount != 49 || infos["c249"].UserCount != nil {
		t.Errorf("%d infos; the last is %+v", len(infos), infos["c249"])
	}
}

func TestAnErrorAfterAPartSaysHowMuchWasSent(t *testing.T) {
	n := 0
	d := driver(t, Config{Retries: -1}, func(request) (*http.Response, error) {
		if n++; n%2 == 0 {
			return answer(429, "slowly")
		}
		return answer(200, "{}")
	})
	err := d.Send(t.Context(), message("e", "1", channels(101)...))
	want := `pusher: event "e" was sent to 100 of its 101 channels, and not to the others: pusher: POST https://api-mt1.pusher.com/apps/3/events: 429 Too Many Requests: slowly`
	if fmt.Sprint(err) != want {
		t.Errorf("the error is\n%v\nand should be\n%s", err, want)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() || errors.Is(err, realtime.ErrOverloaded) {
		t.Error("the error lets realtime.Retry send to the first 100 again")
	}
	infos, err := d.TriggerBatch(t.Context(), batchOf(11))
	if len(infos) != 10 || err == nil || !strings.HasPrefix(err.Error(), "pusher: the first 10 of 11 events were sent, and the next ones not: ") || errors.Is(err, realtime.ErrOverloaded) {
		t.Errorf("%d infos and the error\n%v", len(infos), err)
	}
}

func batchOf(n int) []Event {
	out := make([]Event, n)
	for i := range out {
		out[i] = Event{Channel: fmt.Sprintf("c%d", i), Name: "n", Data: json.RawMessage(fmt.Sprint(i))}
	}
	return out
}

func TestABatchKeepsTheOrderOfItsInfos(t *testing.T) {
	var sizes []int
	d := driver(t, Config{}, func(r request) (*http.Response, error) {
		var body struct{ Batch []entry }
		if err := json.Unmarshal([]byte(r.body), &body); err != nil {
			t.Error(err)
		}
		sizes = append(sizes, len(body.Batch))
		infos, asked := []map[string]json.RawMessage{}, false
		for _, e := range body.Batch {
			in := map[string]json.RawMessage{}
			if e.Info != "" {
				asked = true
				in["subscription_count"] = json.RawMessage(e.Data) // its number
			}
			infos = append(infos, in)
		}
		if !asked {
			return answer(200, "{}")
		}
		b, _ := json.Marshal(map[string]any{"batch": infos})
		return answer(200, string(b))
	})
	events := batchOf(25)
	for _, i := range []int{3, 20, 24} {
		events[i].Info = []Info{SubscriptionCount}
	}
	infos, err := d.TriggerBatch(t.Context(), events)
	if err != nil || len(infos) != 25 || fmt.Sprint(sizes) != "[10 10 5]" {
		t.Fatalf("requests of %v events, %d infos, %v", sizes, len(infos), err)
	}
	for i, in := range infos {
		asked := len(events[i].Info) > 0
		if asked != (in.SubscriptionCount != nil) || asked && *in.SubscriptionCount != i {
			t.Errorf("info %d is %+v", i, in)
		}
	}
}

func TestAnswersAreRead(t *testing.T) {
	says := ""
	d := driver(t, Config{}, func(request) (*http.Response, error) { return answer(200, says) })
	ctx := t.Context()
	check := func(got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v (%v), and should be as %+v", says, got, err, want)
		}
	}
	says = `{"channels":{"presence-a":{"user_count":2,"subscription_count":3},"b":{}}}`
	all, err := d.Channels(ctx, "")
	check(all, err, map[string]ChannelInfo{"presence-a": {Occupied: true, UserCount: new(2), SubscriptionCount: new(3)}, "b": {Occupied: true}})
	says = `{"channels":[ ]}` // as PHP writes an empty map
	all, err = d.Channels(ctx, "")
	check(all, err, map[string]ChannelInfo{})
	says = `{"occupied":true,"subscription_count":42,"cache":{"data":"{\"a\":1}","ttl":60}}`
	one, err := d.Channel(ctx, "cache-x")
	check(one, err, ChannelInfo{Occupied: true, SubscriptionCount: new(42), Cache: &Cached{Data: `{"a":1}`, TTL: time.Minute}})
	says = `{"occupied":false,"user_count":0,"cache":null}`
	one, err = d.Channel(ctx, "presence-cache-x")
	check(one, err, ChannelInfo{UserCount: new(0)})
	says = `{"users":[{"id":"1"},{"id":2},{"id":"ada","user_info":{}}]}`
	users, err := d.Users(ctx, "presence-x")
	check(users, err, []string{"1", "2", "ada"})
	says = `{"users":[]}`
	users, err = d.Users(ctx, "presence-x")
	check(users, err, []string{})

	says = "<html>"
	_, err = d.Users(ctx, "presence-x")
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 200 || e.Body != says || e.Temporary() || !strings.Contains(err.Error(), "the server took the request, but its answer cannot be read") {
		t.Errorf("the error is %v", err)
	}
	says = `{"batch":[{}]}`
	if _, err = d.TriggerBatch(ctx, []Event{{Channel: "a", Name: "n", Data: json.RawMessage("1"), Info: []Info{UserCount}}, {Channel: "a", Name: "n", Data: json.RawMessage("1")}}); err == nil || !strings.Contains(err.Error(), "its answer tells of 1 events, not 2") {
		t.Errorf("the error is %v", err)
	}
}

func TestQuestionsThatHaveNoAnswer(t *testing.T) {
	d := driver(t, Config{}, func(request) (*http.Response, error) {
		t.Error("something was sent")
		return answer(200, "{}")
	})
	ctx := t.Context()
	_, err1 := d.Users(ctx, "private-a")
	_, err2 := d.Users(ctx, "presence-a b")
	_, err3 := d.Channel(ctx, "a/b")
	_, err4 := d.Channel(ctx, "#server-to-user-ada")
	err5 := d.TerminateConnections(ctx, "")
	for i, x := range []struct {
		err  error
		want string
	}{
		{err1, `pusher: channel "private-a" is private, and only presence channels have users`}, {err2, `pusher: channel name "presence-a b" has ' ' at byte 10`},
		{err3, `pusher: channel name "a/b" has '/' at byte 1`}, {err4, `pusher: channel "#server-to-user-ada" is a user's`}, {err5, "the user id is empty"},
	} {
		if x.err == nil || !strings.Contains(x.err.Error(), x.want) {
			t.Errorf("%d: the error is %v, and should have %q", i, x.err, x.want)
		}
	}
}

func TestAnErrorSaysWhatTheServerSaid(t *testing.T) {
	const at = "pusher: POST https://api-mt1.pusher.com/apps/3/events: "
	for _, tt := range []struct {
		status int
		body   string
		header []string
		want   string
	}{
		{400, `{"error":"event name is empty","code":400}`, nil, at + "400 Bad Request: event name is empty"},
		{401, "Unknown auth_key", nil, at + "401 Unauthorized: Unknown auth_key (check app id, key and secret, and this machine's clock)"},
		{403, "Over quota\n", nil, at + "403 Forbidden: Over quota (the app is disabled or over its quota, or may not do this)"},
		{404, "", nil, at + `404 Not Found (the server does not know app "3" or this call: check app id, cluster or host, port and path)`},
		{413, "Too long", nil, at + "413 Request Entity Too Large: Too long (the request has 42 bytes; MaxPayload refuses what is too large before it is sent)"},
		{301, "", []string{"Location", "https://x.example/apps/3/events?auth_signature=1"}, at + "301 Moved Permanently (the server redirects to https://x.example/apps/3/events, which is not followed: set Scheme, Host, Port and Path to the right ones)"},
		{307, "", nil, at + "307 Temporary Redirect (the server redirects elsewhere, which is not followed: set Scheme, Host, Port and Path to the right ones)"},
		{599, "a\x00 \t\r\n b", nil, at + "599: a b"},
		{500, strings.Repeat("ü", 300), nil, at + "500 Internal Server Error: " + strings.Repeat("ü", 200) + "…"},
		{400, "you sign with " + testSecret, nil, at + "400 Bad Request: you sign with ***"},
	} {
		d := driver(t, Config{Retries: -1}, func(request) (*http.Response, error) { return answer(tt.status, tt.body, tt.header...) })
		err := d.Send(t.Context(), message("e", "123", "c"))
		if fmt.Sprint(err) != tt.want {
			t.Errorf("the error is\n%v\nand should be\n%s", err, tt.want)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != tt.status || e.Body != strings.ReplaceAll(tt.body, testSecret, "***") {
			t.Errorf("it is %+v", e)
		}
	}
	d := driver(t, Config{Path: "/v1"}, func(request) (*http.Response, error) { return answer(401, "") })
	if err := d.Send(t.Context(), message("e", "1", "c")); err == nil || !strings.HasSuffix(err.Error(), `; the path that was signed is "/v1/apps/3/events": a proxy that changes it must not)`) {
		t.Errorf("the error is %v", err)
	}
	d = driver(t, Config{}, func(request) (*http.Response, error) { return answer(400, strings.Repeat("x", 1<<20)) })
	if e, ok := errors.AsType[*Error](d.Send(t.Context(), message("e", "1", "c"))); !ok || len(e.Body) != 4096 {
		t.Errorf("the body kept has %d bytes", len(e.Body))
	}
}

func TestNothingPrintsTheSecret(t *testing.T) {
	d := driver(t, Config{Host: "127.0.0.1"}, func(request) (*http.Response, error) { return nil, errors.New("gone") })
	err := d.Send(t.Context(), message("e", "1", "c"))
	for _, x := range []any{d, d.cfg, err} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			text := fmt.Sprintf(format, x)
			if strings.Contains(text, testSecret) || strings.Contains(text, "auth_signature") {
				t.Errorf("%s prints %s", format, text)
			}
		}
	}
	if d.cfg.Secret != testSecret {
		t.Error("printing has changed the configuration")
	}
}

func TestTheCallersClientIsNotChanged(t *testing.T) {
	c := &http.Client{Transport: far(func(request) (*http.Response, error) { return answer(302, "", "Location", "/") })}
	d, err := New(Config{AppID: "3", Key: "k", Secret: "s", HTTPClient: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), message("e", "1", "c")); err == nil || c.CheckRedirect != nil {
		t.Errorf("Send returns %v, CheckRedirect is set: %t", err, c.CheckRedirect != nil)
	}
}

func TestAClosedDriverSendsNothing(t *testing.T) {
	for _, window := range []time.Duration{0, time.Hour} {
		d := driver(t, Config{BatchWindow: window}, func(request) (*http.Response, error) {
			t.Error("something was sent")
			return answer(200, "{}")
		})
		ctx := t.Context()
		if err := d.Close(ctx); err != nil {
			t.Fatal(err)
		}
		_, err1 := d.Trigger(ctx, message("e", "1", "c"))
		_, err2 := d.TriggerBatch(ctx, batchOf(1))
		_, err3 := d.Channels(ctx, "")
		for i, err := range []error{d.Send(ctx, message("e", "1", "c")), err1, err2, err3, d.SendToUser(ctx, "ada", "e", 1), d.TerminateConnections(ctx, "ada")} {
			if !errors.Is(err, realtime.ErrClosed) {
				t.Errorf("call %d returns %v", i, err)
			}
		}
		if err := errors.Join(d.Flush(ctx), d.Close(ctx)); err != nil {
			t.Errorf("Flush and Close after Close: %v", err)
		}
	}
}
