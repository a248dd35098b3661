package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/driver/socketio"
)

// clusters are the adapters and the driver that goes with each.
var clusters = []struct {
	name   string
	server []string // the arguments of server.mjs
	driver socketio.Config
	json   bool // its parser knows no binary
}{
	{"classic", []string{"classic"}, socketio.Config{}, false},
	{"classic with a parser of its own", []string{"classic-json"}, socketio.Config{Encode: json.Marshal}, true},
	{"sharded", []string{"sharded"}, socketio.Config{Adapter: socketio.Sharded}, false},
	{"sharded, dynamic-private", []string{"sharded", "dynamic-private"}, socketio.Config{Adapter: socketio.Sharded, Mode: socketio.DynamicPrivate}, false},
	{"sharded, static", []string{"sharded", "static"}, socketio.Config{Adapter: socketio.Sharded, Mode: socketio.Static}, false},
	{"sharded, static for dynamic", []string{"sharded", "dynamic"}, socketio.Config{Adapter: socketio.Sharded, Mode: socketio.Static}, false},
	{"streams", []string{"streams"}, socketio.Config{Adapter: socketio.Streams}, false},
}

// twenty is a room that looks like a socket's id.
const twenty = "a-room-of-20-letters"

func TestClientsHearWhatIsEmitted(t *testing.T) {
	for _, tt := range clusters {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, tt.server...)
			d := c.open(t, tt.driver)
			ctx := t.Context()
			a := c.connect(t, 0, "/", "", "r1", "r2", twenty)
			b := c.connect(t, 0, "/", "polling", "räume #1")
			x := c.connect(t, 1, "/", "", "r2", "r3", "42", twenty)
			y := c.connect(t, 1, "/", "ada", "r1")
			admin := c.connect(t, 0, "/admin", "", "r1")
			other := c.connect(t, 1, "/admin", "")
			both := y.beside("/admin") // y's connection
			everybody := []*client{a, b, x, y, admin, other, both}
			names := map[*client]string{a: "a", b: "b", x: "x", y: "y", admin: "admin", other: "other", both: "both"}

			// hear wants that these clients hear this once, and the others nothing.
			fences := 0
			hear := func(what, event, args string, err error, who ...*client) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				fences++
				for _, nsp := range []string{"/", "/admin"} {
					if err := d.Namespace(nsp).Emit(ctx, "fence", fences); err != nil {
						t.Fatal(err)
					}
				}
				fence := heard{"fence", fmt.Sprintf("[%d]", fences)}
				for _, cl := range everybody {
					want := []heard{fence}
					if slices.Contains(who, cl) {
						want = []heard{{event, args}, fence}
					}
					for _, w := range want {
						if got := cl.next(); got != w {
							t.Fatalf("%s: %s hears %v, and should hear %v", what, names[cl], got, w)
						}
					}
				}
			}
			root, adm := d.Namespace("/"), d.Namespace("admin")

			hear("to all", "e", `[1,"two",null,{"Three":3.5}]`, root.Emit(ctx, "e", 1, "two", nil, struct{ Three float64 }{3.5}), a, b, x, y)
			hear("without arguments", "e", `[]`, root.Emit(ctx, "e"), a, b, x, y)
			hear("to a room", "e", `[1]`, root.To("r1").Emit(ctx, "e", 1), a, y)
			hear("to a room of one server", "e", `[2]`, root.To("r3").Emit(ctx, "e", 2), x)
			hear("to a room of the other", "e", `[3]`, root.To("räume #1").Emit(ctx, "e", 3), b)
			hear("to a room whose name is a number", "e", `[3]`, root.To("42").Emit(ctx, "e", 3), x)
			hear("to a room of 20 letters", "e", `[4]`, root.To(twenty).Emit(ctx, "e", 4), a, x)
			hear("to nobody's room", "e", `[5]`, root.To("nobody's").Emit(ctx, "e", 5))
			hear("to a socket", "e", `[6]`, root.To(b.id).Emit(ctx, "e", 6), b)
			hear("to several rooms", "e", `[7]`, root.To("r1", "r2").To("r3").Emit(ctx, "e", 7), a, x, y)
			hear("to the same room twice", "e", `[8]`, root.To("r1", "r1").Emit(ctx, "e", 8), a, y)
			hear("to several sockets", "e", `[9]`, root.To(b.id, x.id).Emit(ctx, "e", 9), b, x)
			hear("to all but a room", "e", `[10]`, root.Except("r1").Emit(ctx, "e", 10), b, x)
			hear("to all but a socket", "e", `[11]`, root.Except(a.id).Emit(ctx, "e", 11), b, x, y)
			hear("to a room but a socket", "e", `[12]`, root.To("r1").Except(a.id).Emit(ctx, "e", 12), y)
			hear("to a room but a room", "e", `[13]`, root.To("r1").Except("r2").Emit(ctx, "e", 13), y)
			hear("to rooms but rooms", "e", `[14]`, root.To("r1", "r2", "räume #1").Except("r3", a.id).Emit(ctx, "e", 14), b, y)
			hear("to another namespace", "e", `[15]`, adm.Emit(ctx, "e", 15), admin, other, both)
			hear("to another namespace's room", "e", `[16]`, adm.To("r1").Emit(ctx, "e", 16), admin)
			hear("volatile", "e", `[17]`, root.Except(b.id).Volatile().Emit(ctx, "e", 17), a, x, y)
			hear("volatile, to a room", "e", `[18]`, root.To("r1").Volatile().Compress(false).Emit(ctx, "e", 18), a, y)
			hear("values", "e", `[9007199254740991,-9007199254740991,-1,300,70000,5000000000,0.1,"漢字 🚚 <>&",true,false,[],{},{"a":[null,{"b":2}],"z":1}]`,
				root.Emit(ctx, "e", 9007199254740991, -9007199254740991, -1, 300, 70000, 5000000000, 0.1, "漢字 🚚 <>&", true, false, []int{}, map[string]any{}, json.RawMessage(`{"a": [null,{"b":2}], "z":1}`)),
				a, b, x, y)
			hear("long", "e", `["`+strings.Repeat("x", 300_000)+`"]`, root.To("r2").Emit(ctx, "e", strings.Repeat("x", 300_000)), a, x)

			if !tt.json {
				hear("binary", "e", `[{"bin":"AQID"}]`, root.Emit(ctx, "e", []byte{1, 2, 3}), a, b, x, y)
				hear("binary, to a room", "e", `[{"bin":"AQID"},{"bin":""}]`, root.To("r1").Emit(ctx, "e", []byte{1, 2, 3}, []byte{}), a, y)
				hear("nested binary", "e", `["x",{"image":{"bin":"/w=="},"list":[1,[{"bin":"AA=="}],null],"plain":{"A":1.5}}]`,
					root.To("r1", "r3").Emit(ctx, "e", "x", map[string]any{"image": []byte{255}, "list": []any{1, []any{[]byte{0}}, nil}, "plain": struct{ A float64 }{1.5}}), a, x, y)
				long := make([]byte, 70_000)
				hear("long binary", "e", `[{"bin":"`+strings.Repeat("A", 93_334)+`=="}]`, adm.Emit(ctx, "e", long), admin, other, both)
			}

			if err := root.To("r3").Join(ctx, "new", "newer"); err != nil {
				t.Fatal(err)
			}
			x.becomes("r2", "r3", "42", twenty, "new", "newer")
			hear("to a room that was joined", "e", `[20]`, root.To("new").Emit(ctx, "e", 20), x)
			if err := root.To("r1").Except(a.id).Join(ctx, "new"); err != nil {
				t.Fatal(err)
			}
			y.becomes("user:ada", "r1", "new")
			hear("to a room that was joined by another", "e", `[21]`, root.To("new").Emit(ctx, "e", 21), x, y)
			if err := root.To(x.id).Leave(ctx, "new"); err != nil {
				t.Fatal(err)
			}
			x.becomes("r2", "r3", "42", twenty, "newer")
			hear("to a room that was left", "e", `[22]`, root.To("new").Emit(ctx, "e", 22), y)
			if err := adm.Join(ctx, "all"); err != nil {
				t.Fatal(err)
			}
			admin.becomes("r1", "all")
			other.becomes("all")
			both.becomes("all")
			hear("to a room that all joined", "e", `[23]`, adm.To("all").Emit(ctx, "e", 23), admin, other, both)

			tell := func(nsp, want string, args ...any) {
				t.Helper()
				if err := d.Namespace(nsp).ServerSideEmit(ctx, "told", args...); err != nil {
					t.Fatal(err)
				}
				for i := range c.told {
					if got := <-c.told[i]; got != (heard{nsp, want}) {
						t.Errorf("server %d is told %v, and should be told %s of %s", i, got, want, nsp)
					}
				}
			}
			tell("/", `[1,{"a":[2]}]`, 1, map[string]any{"a": []int{2}})
			tell("/admin", `[2]`, 2)
			if !tt.json {
				tell("/", `[{"bin":"AQI="}]`, []byte{1, 2})
			}
			tell("/", `[]`)

			gone := func(reason string, who ...*client) {
				t.Helper()
				for _, cl := range who {
					if got := cl.next(); got != (heard{"disconnect", reason}) {
						t.Fatalf("%s hears %v, and should be disconnected", names[cl], got)
					}
				}
				everybody = slices.DeleteFunc(everybody, func(cl *client) bool { return slices.Contains(who, cl) })
			}
			if err := root.To("r1").Except("r2").Disconnect(ctx, false); err != nil {
				t.Fatal(err)
			}
			gone("io server disconnect", y)
			hear("on the connection that is left", "e", `[30]`, adm.Emit(ctx, "e", 30), admin, other, both)
			both2 := a.beside("/admin")
			names[both2] = "both2"
			if err := root.To(a.id).Disconnect(ctx, true); err != nil {
				t.Fatal(err)
			}
			gone("io server disconnect", a, both2)
			if err := adm.Disconnect(ctx, false); err != nil {
				t.Fatal(err)
			}
			gone("io server disconnect", admin, other, both)
			hear("after disconnects", "e", `[31]`, root.Emit(ctx, "e", 31), b, x)
		})
	}
}

// TestManyAreNeitherLostNorDoubled: what several goroutines send at once, to a room and to all.
func TestManyAreNeitherLostNorDoubled(t *testing.T) {
	const goroutines, each = 4, 250
	for _, adapter := range []socketio.Adapter{socketio.Classic, socketio.Sharded, socketio.Streams} {
		t.Run(string(adapter), func(t *testing.T) {
			c := start(t, string(adapter))
			d := c.open(t, socketio.Config{Adapter: adapter})
			var all []*client
			for i := range 6 {
				all = append(all, c.connect(t, i%2, "/", "", "orders", fmt.Sprint("other-", i)))
			}
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for i := range each {
						m := realtime.Message{Channels: []string{"orders"}, Event: "E", Data: json.RawMessage(fmt.Sprintf("[%d,%d]", g, i))}
						if err := d.Send(t.Context(), &m); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if err := d.Namespace("/").Emit(t.Context(), "end"); err != nil {
				t.Fatal(err)
			}
			for _, cl := range all {
				var next [goroutines]int
				for h := cl.next(); h.event != "end"; h = cl.next() {
					var got []struct{ Data [2]int }
					if err := json.Unmarshal([]byte(h.args), &got); err != nil || len(got) != 1 {
						t.Fatalf("%v: %v", h, err)
					}
					if g := got[0].Data[0]; got[0].Data[1] != next[g] {
						t.Fatalf("%s hears message %d of goroutine %d, and should hear %d", cl.name, got[0].Data[1], g, next[g])
					} else {
						next[g]++
					}
				}
				if next != [goroutines]int{each, each, each, each} {
					t.Errorf("%s heard %v of %d each", cl.name, next, each)
				}
			}
		})
	}
}

// TestDriver runs the suite of all drivers: what clients of Node servers hear.
func TestDriver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server string
		driver socketio.Config
	}{
		{"classic", "classic", socketio.Config{}},
		{"sharded", "sharded", socketio.Config{Adapter: socketio.Sharded}},
		{"streams", "streams", socketio.Config{Adapter: socketio.Streams}},
		{"echo", "classic", socketio.Config{Form: socketio.Echo}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, tt.server)
			tt.driver.UserRoom = "user:{id}"
			next := func(cl *client) func() realtime.Message {
				return func() realtime.Message { return cl.message(tt.driver.Form) }
			}
			drivertest.Run(t, drivertest.Harness{
				PerChannel: true, NoExcept: true, JavaScript: true,
				New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
					d := c.open(t, tt.driver)
					return d, next(c.connect(t, 0, "/", "", drivertest.Channels...))
				},
				Listeners: func(t *testing.T, users []string) (realtime.Driver, []drivertest.Listener) {
					d := c.open(t, tt.driver)
					var all []drivertest.Listener
					for i, u := range users {
						cl := c.connect(t, i%2, "/", u, drivertest.Channels...)
						all = append(all, drivertest.Listener{SocketID: cl.id, Next: next(cl)})
					}
					return d, all
				},
			})
		})
	}
}

// message is the next one that the client hears.
func (cl *client) message(form socketio.Form) realtime.Message {
	cl.t.Helper()
	h := cl.next()
	if form == socketio.Echo {
		var args []json.RawMessage
		var channel string
		if err := json.Unmarshal([]byte(h.args), &args); err != nil || len(args) != 2 || json.Unmarshal(args[0], &channel) != nil {
			cl.t.Fatalf("%v is not of Echo's form", h)
		}
		return realtime.Message{Channels: []string{channel}, Event: h.event, Data: args[1]}
	}
	var args []struct {
		Event, Channel string
		Data           json.RawMessage
	}
	if err := json.Unmarshal([]byte(h.args), &args); err != nil || len(args) != 1 || args[0].Event != h.event {
		cl.t.Fatalf("%v is not of the object form", h)
	}
	return realtime.Message{Channels: []string{args[0].Channel}, Event: h.event, Data: args[0].Data}
}
