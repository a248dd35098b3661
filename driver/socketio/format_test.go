package socketio

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
)

func driver(t testing.TB, cfg Config) *Driver {
	t.Helper()
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

// TestTheClassicBytes is what Socket.IO's own emitter publishes for the same call.
func TestTheClassicBytes(t *testing.T) {
	d := driver(t, Config{})
	c, err := d.emit(target{namespace: "/", rooms: []string{"r1"}}, []any{"hello", "world"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "93a7656d697474657283a47479706502a46461746192a568656c6c6fa5776f726c64a36e7370a12f83a5726f6f6d7391a27231a5666c61677380a665786365707490"
	if got := hex.EncodeToString([]byte(c.payload)); got != want || len(c.payload) != 66 || c.verb != "PUBLISH" || c.key != "socket.io#/#r1#" {
		t.Errorf("%s %s\n%s, and it should be\n%s", c.verb, c.key, got, want)
	}
}

// show is a command in one line: its payload as it is where it is text, and otherwise in hexadecimal.
func show(c command) string {
	payload := c.payload
	if !strings.HasPrefix(payload, "{") {
		payload = hex.EncodeToString([]byte(payload))
	}
	return strings.TrimSpace(c.verb + " " + c.key + " " + payload + strings.Join(c.fields, " "))
}

func TestMessagesAreThoseOfTheAdapters(t *testing.T) {
	to := func(e Emitter) target { return e.to }
	type make func(d *Driver) (command, error)
	emit := func(e func(d *Driver) Emitter, data ...any) make {
		return func(d *Driver) (command, error) { return d.emit(to(e(d)), data) }
	}
	ask := func(e func(d *Driver) Emitter, r request, what object) make {
		return func(d *Driver) (command, error) { return d.ask(to(e(d)), r, what) }
	}
	root := func(d *Driver) Emitter { return d.Namespace("/") }
	const id20 = "aaaaaaaaaaaaaaaaaaaa"
	sharded, private, static, streams := Config{Adapter: Sharded}, Config{Adapter: Sharded, Mode: DynamicPrivate}, Config{Adapter: Sharded, Mode: Static}, Config{Adapter: Streams}
	for _, tt := range []struct {
		cfg  Config
		make make
		want string
	}{
		// classic
		{Config{}, emit(root, "e"), "PUBLISH socket.io#/# 93a7656d697474657283a47479706502a46461746191a165a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490"},
		{Config{Prefix: "k"}, emit(func(d *Driver) Emitter { return d.Namespace("admin").To("a").To("b", "a").Except("c").Volatile() }, "e"),
			"PUBLISH k#/admin# 93a7656d697474657283a47479706502a46461746191a165a36e7370a62f61646d696e83a5726f6f6d7392a161a162a5666c61677381a8766f6c6174696c65c3a665786365707491a163"},
		{Config{}, emit(func(d *Driver) Emitter { return root(d).To(id20) }, "e"),
			"PUBLISH socket.io#/#" + id20 + "# 93a7656d697474657283a47479706502a46461746191a165a36e7370a12f83a5726f6f6d7391b4" + strings.Repeat("61", 20) + "a5666c61677380a665786365707490"},
		{Config{}, emit(root, "e", []byte{1, 2}, object{{"z", []byte{}}, {"a", nil}}),
			"PUBLISH socket.io#/# 93a7656d697474657283a47479706502a46461746193a165c402010282a17ac400a161c0a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490"},
		{Config{}, ask(func(d *Driver) Emitter { return root(d).To("r1") }, join, object{{"rooms", []any{"r2"}}}),
			`PUBLISH socket.io-request#/# {"type":2,"opts":{"rooms":["r1"],"except":[]},"rooms":["r2"]}`},
		{Config{}, ask(func(d *Driver) Emitter { return root(d).Except("x") }, leave, object{{"rooms", []any{"r2", "r3"}}}),
			`PUBLISH socket.io-request#/# {"type":3,"opts":{"rooms":[],"except":["x"]},"rooms":["r2","r3"]}`},
		{Config{Prefix: "k"}, ask(func(d *Driver) Emitter { return d.Namespace("/admin").To("r1") }, disconnect, object{{"close", true}}),
			`PUBLISH k-request#/admin# {"type":4,"opts":{"rooms":["r1"],"except":[]},"close":true}`},
		{Config{}, ask(root, serverSideEmit, object{{"packet", []any{"event", 1}}}), `PUBLISH socket.io-request#/# {"uid":"emitter","type":6,"data":["event",1]}`},
		{Config{}, ask(root, serverSideEmit, object{{"packet", []any{"e", []byte{7}}}}), "PUBLISH socket.io-request#/# 83a3756964a7656d6974746572a47479706506a46461746192a165c40107"},
		{Config{Encode: json.Marshal}, emit(root, "e", json.RawMessage(`{"b":1,"a":2.5}`)),
			`PUBLISH socket.io#/# ` + hex.EncodeToString([]byte(`["emitter",{"data":["e",{"a":2.5,"b":1}],"nsp":"/","type":2},{"except":[],"flags":{},"rooms":[]}]`))},

		// sharded
		{sharded, emit(root, "hello"), `SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["hello"],"nsp":"/"},"opts":{"rooms":[],"except":[],"flags":{}}}}`},
		{sharded, emit(func(d *Driver) Emitter { return root(d).To("r1").Compress(true).Volatile().Compress(false) }, "hello"),
			`SPUBLISH socket.io#/#r1# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["hello"],"nsp":"/"},"opts":{"rooms":["r1"],"except":[],"flags":{"volatile":true,"compress":false}}}}`},
		{sharded, emit(func(d *Driver) Emitter { return root(d).To("r1", "r2").Except("r3") }, "hello"),
			`SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["hello"],"nsp":"/"},"opts":{"rooms":["r1","r2"],"except":["r3"],"flags":{}}}}`},
		{sharded, emit(func(d *Driver) Emitter { return root(d).To(id20) }, "e"),
			`SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["e"],"nsp":"/"},"opts":{"rooms":["` + id20 + `"],"except":[],"flags":{}}}}`},
		{private, emit(func(d *Driver) Emitter { return root(d).To(id20) }, "e"),
			`SPUBLISH socket.io#/#` + id20 + `# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["e"],"nsp":"/"},"opts":{"rooms":["` + id20 + `"],"except":[],"flags":{}}}}`},
		{static, emit(func(d *Driver) Emitter { return root(d).To("r1") }, "e"),
			`SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["e"],"nsp":"/"},"opts":{"rooms":["r1"],"except":[],"flags":{}}}}`},
		{sharded, emit(root, "e", []byte{9}),
			"SPUBLISH socket.io#/# 84a3756964a7656d6974746572a36e7370a12fa47479706503a46461746182a67061636b657483a47479706502a46461746192a165c40109a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c61677380"},
		{sharded, ask(func(d *Driver) Emitter { return root(d).To("r1") }, join, object{{"rooms", []any{"r2"}}}),
			`SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":4,"data":{"opts":{"rooms":["r1"],"except":[],"flags":{}},"rooms":["r2"]}}`},
		{sharded, ask(root, leave, object{{"rooms", []any{"r2"}}}), `SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":5,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["r2"]}}`},
		{sharded, ask(root, disconnect, object{{"close", false}}), `SPUBLISH socket.io#/# {"uid":"emitter","nsp":"/","type":6,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"close":false}}`},
		{Config{Adapter: Sharded, Prefix: "k"}, ask(root, serverSideEmit, object{{"packet", []any{"e", 1}}}), `SPUBLISH k#/# {"uid":"emitter","nsp":"/","type":9,"data":{"packet":["e",1]}}`},

		// streams
		{streams, emit(func(d *Driver) Emitter { return d.Namespace("/admin").To("r1") }, "e"),
			`XADD socket.io uid emitter nsp /admin type 3 data {"packet":{"type":2,"data":["e"],"nsp":"/admin"},"opts":{"rooms":["r1"],"except":[],"flags":{}}}`},
		{streams, emit(root, "e", []byte{9}),
			"XADD socket.io uid emitter nsp / type 3 data " + base64.StdEncoding.EncodeToString(unhex("82a67061636b657483a47479706502a46461746192a165c40109a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c61677380"))},
		{Config{Adapter: Streams, Stream: "s"}, ask(root, join, object{{"rooms", []any{"r2"}}}), `XADD s uid emitter nsp / type 4 data {"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["r2"]}`},
		{streams, ask(root, leave, object{{"rooms", []any{"r2"}}}), `XADD socket.io uid emitter nsp / type 5 data {"opts":{"rooms":[],"except":[],"flags":{}},"rooms":["r2"]}`},
		{streams, ask(root, disconnect, object{{"close", true}}), `XADD socket.io uid emitter nsp / type 6 data {"opts":{"rooms":[],"except":[],"flags":{}},"close":true}`},
		{streams, ask(root, serverSideEmit, object{{"packet", []any{"e"}}}), `XADD socket.io uid emitter nsp / type 9 data {"packet":["e"]}`},
	} {
		c, err := tt.make(driver(t, tt.cfg))
		if got := show(c); err != nil || got != tt.want {
			t.Errorf("%v\n%s, and it should be\n%s", err, got, tt.want)
		}
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// TestWhatARoomOf20Is: the adapter counts as JavaScript does, in units of UTF-16.
func TestWhatARoomOf20Is(t *testing.T) {
	d := driver(t, Config{Adapter: Sharded})
	for room, own := range map[string]bool{
		strings.Repeat("a", 19): true, strings.Repeat("a", 20): false, strings.Repeat("a", 21): true,
		strings.Repeat("ü", 20): false, strings.Repeat("漢", 20): false, strings.Repeat("🚚", 10): false, strings.Repeat("🚚", 20): true,
	} {
		if d.ownChannel(room) != own {
			t.Errorf("a room of %d bytes, %q: own channel %t", len(room), room, !own)
		}
	}
}

// TestJSONBecomesMessagePack by the shortest form of each value, keys in their order.
func TestJSONBecomesMessagePack(t *testing.T) {
	for text, want := range map[string]string{
		`null`: "c0", `true`: "c3", `false`: "c2", `0`: "00", `127`: "7f", `128`: "cc80", `-1`: "ff", `-32`: "e0", `-33`: "d0df", `65536`: "ce00010000",
		`9007199254740991`: "cf001fffffffffffff", `18446744073709551615`: "cfffffffffffffffff", `-9223372036854775808`: "d38000000000000000",
		`18446744073709551616`: "cb43f0000000000000", `1.0`: "cb3ff0000000000000", `0.1`: "cb3fb999999999999a", `1e2`: "cb4059000000000000",
		`-0`: "cb8000000000000000", `1e400`: "cb7ff0000000000000", `-1e400`: "cbfff0000000000000", `1e-400`: "cb0000000000000000",
		`""`: "a0", `"\u00fc"`: "a2c3bc", `"` + strings.Repeat("x", 32) + `"`: "d920" + strings.Repeat("78", 32),
		`[]`: "90", `{}`: "80", ` { "z" : [ 1 , 2 ] , "a" : { } } `: "82a17a920102a16180",
		`{"b":1,"a":2,"b":3}`: "82a16203a16102", `{"":null}`: "81a0c0",
	} {
		b, err := marshalMsgpack(json.RawMessage(text))
		if got := hex.EncodeToString(b); err != nil || got != want {
			t.Errorf("%s becomes %s (%v), and should become %s", text, got, err, want)
		}
	}
}

func TestArguments(t *testing.T) {
	type inner struct {
		Raw  []byte `json:"raw"`
		HTML string `json:"html,omitempty"`
	}
	deep := any(1)
	for range maxDepth {
		deep = []any{deep}
	}
	for _, tt := range []struct {
		v    any
		want any
	}{
		{nil, nil},
		{[]byte(nil), nil},
		{[]any(nil), nil},
		{map[string]any(nil), nil},
		{json.RawMessage(`{"a": 1}`), json.RawMessage(`{"a":1}`)},
		{json.RawMessage(nil), json.RawMessage(`null`)},
		{[]byte{1}, []byte{1}},
		{"<&>", json.RawMessage(`"<&>"`)},
		{inner{[]byte{1}, "<b>"}, json.RawMessage(`{"raw":"AQ==","html":"<b>"}`)},
		{[]int{1, 2}, json.RawMessage(`[1,2]`)},
		{[]any{1, []byte{2}}, []any{json.RawMessage(`1`), []byte{2}}},
		{map[string]any{"b": []byte{1}, "a": []any{}}, object{{"a", []any{}}, {"b", []byte{1}}}},
	} {
		if got, err := argument(tt.v, 0); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%#v becomes %#v (%v), and should become %#v", tt.v, got, err, tt.want)
		}
	}
	if _, err := argument(deep, 0); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	for want, v := range map[string]any{
		"it is nested deeper than 100": []any{deep}, "json: unsupported value: NaN": []any{math.NaN()}, "json: unsupported type: chan int": map[string]any{"a": make(chan int)},
		"json: error calling MarshalJSON for type json.RawMessage: unexpected end of JSON input": json.RawMessage(`{`),
	} {
		if _, err := argument(v, 0); fmt.Sprint(err) != want {
			t.Errorf("the error is %v, and should be %s", err, want)
		}
	}
}

// TestSendMakesAMessageAChannel in the two forms.
func TestSendMakesAMessageAChannel(t *testing.T) {
	m := realtime.Message{Channels: []string{"orders", "private-orders.1", "#server-to-user-7"}, Event: "OrderShipped", Data: json.RawMessage(`{"id": 1}`), ExceptSockets: []string{"1.2"}, ExceptUsers: []string{"8"}}
	const head, middle, tail = `{"uid":"emitter","nsp":"/x","type":3,"data":{"packet":{"type":2,"data":`, `,"nsp":"/x"},"opts":{"rooms":["`, `"],"except":["1.2","user:8"],"flags":{}}}}`
	for _, tt := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, []string{
			`SPUBLISH socket.io#/x#orders# ` + head + `["OrderShipped",{"event":"OrderShipped","channel":"orders","data":{"id": 1}}]` + middle + "orders" + tail,
			`SPUBLISH socket.io#/x#private-orders.1# ` + head + `["OrderShipped",{"event":"OrderShipped","channel":"private-orders.1","data":{"id": 1}}]` + middle + "private-orders.1" + tail,
			`SPUBLISH socket.io#/x#user:7# ` + head + `["OrderShipped",{"event":"OrderShipped","channel":"#server-to-user-7","data":{"id": 1}}]` + middle + "user:7" + tail,
		}},
		{Config{Form: Echo, EventNamespace: "App.Events"}, []string{
			`SPUBLISH socket.io#/x#orders# ` + head + `["App\\Events\\OrderShipped","orders",{"id": 1}]` + middle + "orders" + tail,
			`SPUBLISH socket.io#/x#private-orders.1# ` + head + `["App\\Events\\OrderShipped","private-orders.1",{"id": 1}]` + middle + "private-orders.1" + tail,
			`SPUBLISH socket.io#/x#user:7# ` + head + `["App\\Events\\OrderShipped","#server-to-user-7",{"id": 1}]` + middle + "user:7" + tail,
		}},
	} {
		tt.cfg.Adapter, tt.cfg.UserRoom, tt.cfg.Namespace = Sharded, "user:{id}", "x"
		list, err := driver(t, tt.cfg).messages(&m)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, show(c))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("messages\n%s\nand they should be\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func TestWhatCannotBeHonouredIsRefused(t *testing.T) {
	ctx := t.Context()
	d := driver(t, Config{Redis: "127.0.0.1:1", MaxPayload: 200})
	send := func(change func(m *realtime.Message)) error {
		m := realtime.Message{Channels: []string{"a"}, Event: "E", Data: json.RawMessage(`1`)}
		change(&m)
		return d.Send(ctx, &m)
	}
	e := d.Namespace("/")
	errs := map[string]error{
		`socketio: event "E": it is for app "7", and a Socket.IO cluster has no apps: give each a driver with a Prefix or a Namespace of its own`:                      send(func(m *realtime.Message) { m.App = "7" }),
		`socketio: event "E": it leaves out users (["ada"]), and a Socket.IO cluster has rooms only: set UserRoom to the room where your servers put a user's sockets`: send(func(m *realtime.Message) { m.ExceptUsers = []string{"ada"} }),
		`socketio: event "E": it is for user "ada", and a Socket.IO cluster has rooms only: set UserRoom to the room where your servers put a user's sockets`:          send(func(m *realtime.Message) { m.Channels = []string{"a", "#server-to-user-ada"} }),
		`socketio: event "E": its data is not valid JSON: "{"`:                                                                     send(func(m *realtime.Message) { m.Data = json.RawMessage(`{`) }),
		`socketio: event "disconnect": Socket.IO keeps the name disconnect for itself`:                                             send(func(m *realtime.Message) { m.Event = "disconnect" }),
		`socketio: event "E": a room has an empty name`:                                                                            send(func(m *realtime.Message) { m.ExceptSockets = []string{""} }),
		`socketio: event "E": its message has 241 bytes, more than the 200 of MaxPayload`:                                          send(func(m *realtime.Message) { m.Data = json.RawMessage(`"` + strings.Repeat("x", 160) + `"`) }),
		`socketio: event "e": To was given no room, and that would be everybody`:                                                   e.To().Emit(ctx, "e"),
		`socketio: Join: To was given no room, and that would be everybody`:                                                        e.To([]string{}...).Join(ctx, "r"),
		`socketio: event "connect": Socket.IO keeps the name connect for itself`:                                                   e.Emit(ctx, "connect"),
		`socketio: event "": its name is empty`:                                                                                    e.Emit(ctx, ""),
		`socketio: event "\xff": its name is not valid UTF-8`:                                                                      e.Emit(ctx, "\xff"),
		`socketio: event "e": room "\xff" is not valid UTF-8`:                                                                      e.Except("\xff").Emit(ctx, "e"),
		`socketio: event "e": its argument 1 cannot be sent: json: unsupported type: func()`:                                       e.Emit(ctx, "e", 1, func() {}),
		`socketio: event "f": its message has 255 bytes, more than the 200 of MaxPayload`:                                          e.Emit(ctx, "f", make([]byte, 200)),
		`socketio: event "e": the namespace is "/a,b", and must be a name such as /admin, without a comma or a question mark`:      d.Namespace("a,b").Emit(ctx, "e"),
		`socketio: event "e": the zero Emitter selects nothing: Driver.Namespace makes one`:                                        Emitter{}.To("r").Emit(ctx, "e"),
		`socketio: Leave: it was given no room`:                                                                                    e.Leave(ctx),
		`socketio: Join: a room has an empty name`:                                                                                 e.Join(ctx, ""),
		`socketio: server-side event "e": servers are no sockets: To, Except, Volatile and Compress do not go with ServerSideEmit`: e.To("r").ServerSideEmit(ctx, "e"),
		`socketio: server-side event "disconnecting": Socket.IO keeps the name disconnecting for itself`:                           e.ServerSideEmit(ctx, "disconnecting"),
	}
	for _, want := range slices.Sorted(maps.Keys(errs)) {
		if got := fmt.Sprint(errs[want]); got != want {
			t.Errorf("the error is\n%s, and should be\n%s", got, want)
		}
	}
}

// TestASelectionIsAValue: what is derived from it does not change it.
func TestASelectionIsAValue(t *testing.T) {
	d := driver(t, Config{Adapter: Sharded})
	base := d.Namespace("/").To("a", "b").Except("x").Volatile()
	one, two := base.To("c").Except("y").Compress(true), base.To("d").Except("z").Compress(false)
	for want, e := range map[string]Emitter{
		`{"rooms":["a","b"],"except":["x"],"flags":{"volatile":true}}`:                          base,
		`{"rooms":["a","b","c"],"except":["x","y"],"flags":{"volatile":true,"compress":true}}`:  one,
		`{"rooms":["a","b","d"],"except":["x","z"],"flags":{"volatile":true,"compress":false}}`: two,
	} {
		if got := string(appendJSON(nil, e.to.options())); got != want {
			t.Errorf("the selection is %s, and should be %s", got, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Adapter: "kafka"}, `socketio: Adapter is "kafka", and must be "classic", "sharded" or "streams"`},
		{Config{Mode: "x", Adapter: Sharded}, `socketio: Mode is "x", and must be "dynamic", "dynamic-private" or "static"`},
		{Config{Stream: "s", MaxLen: 5, Mode: Static}, "socketio: Stream is for the streams adapter, and Adapter is \"classic\"\nsocketio: MaxLen is for the streams adapter, and Adapter is \"classic\"\nsocketio: Mode is for the sharded adapter, and Adapter is \"classic\""},
		{Config{Encode: json.Marshal, Adapter: Streams, Prefix: "p"}, "socketio: Encode is for the classic adapter, and Adapter is \"streams\"\nsocketio: Prefix is for the classic and the sharded adapter; the streams adapter has Stream"},
		{Config{MaxLen: -1, Adapter: Streams}, `socketio: MaxLen must not be negative`},
		{Config{Namespace: "/a,b"}, `socketio: Namespace is "/a,b", and must be a name such as /admin, without a comma or a question mark`},
		{Config{Form: "xml"}, `socketio: Form is "xml", and must be "object" or "echo"`},
		{Config{EventNamespace: "App.Events"}, `socketio: EventNamespace is for laravel-echo: it needs Form "echo"`},
		{Config{UserRoom: "user:"}, `socketio: UserRoom is "user:", and must have "{id}" where the user's id stands: user:{id}`},
		{Config{Timeout: -1}, `socketio: Timeout must not be negative`},
		{Config{Redis: "localhost"}, `socketio: Redis must be host:port, or a URL such as redis://user:password@host:6379/0`},
		{Config{Redis: "http://localhost"}, `socketio: Redis is a URL with "http", and must be one with redis:// or, for TLS, rediss://`},
		{Config{Redis: "redis://:p%zz@localhost"}, `socketio: Redis is not a URL: what is no letter or digit in a password must be percent-encoded there (or set Password instead)`},
		{Config{Redis: "redis://:secret@localhost/a"}, `socketio: Redis has a path "/a", and it must be the number of a database, such as /0`},
		{Config{Redis: "redis://:secret@localhost/-1"}, `socketio: Redis has the database -1, and there are none below 0`},
		{Config{Redis: "redis://:secret@localhost?ad=x"}, `socketio: Redis has the parameter "ad" in its URL, and there are addr and master_set`},
		{Config{Redis: "redis://:secret@"}, `socketio: Redis names no host`},
		{Config{Redis: ":6379"}, `socketio: Redis names no host`},
		{Config{Redis: "localhost:"}, `socketio: Redis has a port that is none: they go from 1 to 65535`},
		{Config{Redis: "localhost:0"}, `socketio: Redis has a port that is none: they go from 1 to 65535`},
		{Config{Redis: "redis://:secret@localhost:65536"}, `socketio: Redis has a port that is none: they go from 1 to 65535`},
		{Config{Redis: "redis://a:7000?addr=b:7001&addr=secret"}, `socketio: Redis has an addr in its URL that is not host:port`},
		{Config{Redis: "redis://a:7000?addr=:7001"}, `socketio: Redis has an addr in its URL that is not host:port`},
		{Config{Redis: "redis://a:7000?addr=b:70000"}, `socketio: Redis has an addr in its URL that is not host:port`},
	} {
		if _, err := New(tt.cfg); fmt.Sprint(err) != tt.want {
			t.Errorf("%v\nthe error is %v\nand should be %s", tt.cfg, err, tt.want)
		}
	}
}

func TestTheURLSaysHowToConnect(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "[127.0.0.1:6379] user= password= db=0 tls="},
		{Config{Redis: "redis.internal:7000"}, "[redis.internal:7000] user= password= db=0 tls="},
		{Config{Redis: "redis://localhost"}, "[localhost:6379] user= password= db=0 tls="},
		{Config{Redis: "redis://u:p%40ss@h:1/3"}, "[h:1] user=u password=p@ss db=3 tls="},
		{Config{Redis: "rediss://:p@h/", Password: "other"}, "[h:6379] user= password=other db=0 tls=h"},
		{Config{Redis: "redis://[::1]:7/2?addr=b:8&addr=c:9"}, "[[::1]:7 b:8 c:9] user= password= db=2 tls="},
	} {
		d := driver(t, tt.cfg)
		o, server := d.option, ""
		if o.TLSConfig != nil {
			server = o.TLSConfig.ServerName
		}
		if got := fmt.Sprintf("%v user=%s password=%s db=%d tls=%s", o.InitAddress, o.Username, o.Password, o.SelectDB, server); got != tt.want {
			t.Errorf("%v: %s, and it should be %s", tt.cfg, got, tt.want)
		}
	}
}

// TestSentinelsAreAskedAsRedisIs with TLS, for a limited time, and again.
func TestSentinelsAreAskedAsRedisIs(t *testing.T) {
	o := driver(t, Config{Redis: "rediss://:p@h:26379?master_set=m", Timeout: time.Second}).option
	if s := o.Sentinel; s.MasterSet != "m" || s.TLSConfig == nil || s.TLSConfig != o.TLSConfig || s.Dialer.Timeout != time.Second || s.TopologyRefreshInterval <= 0 || s.Password != "" {
		t.Errorf("they are asked with %+v", s)
	}
}

func TestNothingPrintedHasASecret(t *testing.T) {
	cfg := Config{Redis: "rediss://user:secret@h:1/2?addr=x:1", Password: "secret"}
	d := driver(t, cfg)
	for _, text := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v %#v", cfg, cfg), fmt.Sprint(d), fmt.Sprintf("%+v %#v", d, d)} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "rediss://h:1/2") {
			t.Errorf("printed: %s", text)
		}
	}
	if got := fmt.Sprint(driver(t, Config{Redis: "secret@h:1/2"})); got != "socketio.Driver{h:1/2 classic /}" {
		t.Errorf("printed: %s", got)
	}
}
