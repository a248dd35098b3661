package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go/auth"
	protocol "github.com/stacksjs/realtime-go/internal/protocol/socketio"
)

// panics returns what f panics with.
func panics(f func()) (what any) {
	defer func() { what = recover() }()
	f()
	return nil
}

func TestNamesOfNamespaces(t *testing.T) {
	io := New(Options{})
	for _, name := range []string{"/", "/admin", "/a/b.c-d", "/ü", "/" + strings.Repeat("x", 199)} {
		if ns := io.Namespace(name); ns == nil || io.Namespace(name) != ns {
			t.Errorf("%q is not one namespace", name)
		}
	}
	for name, want := range map[string]string{
		"":                             `socketio: namespace "" does not begin with a slash`,
		"admin":                        `socketio: namespace "admin" does not begin with a slash`,
		"/" + strings.Repeat("x", 200): `socketio: namespace "/xxxxxxxxxxxxxxxxxxx"… has 201 bytes, and 200 are allowed`,
		"/a,b":                         `socketio: namespace "/a,b" holds a comma, a question mark, space, a control character or what is not UTF-8`,
		"/a?b":                         `socketio: namespace "/a?b" holds a comma, a question mark, space, a control character or what is not UTF-8`,
		"/a b":                         `socketio: namespace "/a b" holds a comma, a question mark, space, a control character or what is not UTF-8`,
		"/a\x00":                       `socketio: namespace "/a\x00" holds a comma, a question mark, space, a control character or what is not UTF-8`,
		"/\xff":                        `socketio: namespace "/\xff" holds a comma, a question mark, space, a control character or what is not UTF-8`,
	} {
		if got := panics(func() { io.Namespace(name) }); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestNamespacesByPattern(t *testing.T) {
	io := New(Options{})
	admin := io.Namespace("/t-admin")
	var asked []string
	first := io.NamespaceFunc(func(name string) bool {
		asked = append(asked, name)
		return strings.HasPrefix(name, "/t-")
	})
	second := io.NamespaceFunc(func(name string) bool { return strings.HasPrefix(name, "/") })
	for name, want := range map[string]*Namespace{"/t-admin": admin, "/t-1": first, "/u": second, "": nil, "/a,b": nil} {
		if got := io.find(name); got != want {
			t.Errorf("%q is %p, not %p", name, got, want)
		}
	}
	if len(asked) != 2 {
		t.Errorf("the pattern was asked about %q", asked)
	}
	ctx := t.Context()
	if err := first.Emit(ctx, "x"); err == nil || err.Error() != `socketio: emit "x": a NamespaceFunc has many names: IO.Of selects one` {
		t.Error(err)
	}
	if err := io.Of("nowhere").Emit(ctx, "x"); err == nil || err.Error() != `socketio: emit "x": there is no namespace "nowhere"` {
		t.Error(err)
	}
	if err := io.Of("/t-1").Emit(ctx, "x"); err == nil || err.Error() != `socketio: emit "x": no server has the namespaces yet` {
		t.Error(err)
	}
}

func TestWhatCannotBeRegistered(t *testing.T) {
	io := New(Options{})
	ns := io.Namespace("/")
	ok := func(context.Context, *Socket, string) (any, error) { return nil, nil }
	ns.OnConnect(func(context.Context, *Socket) error { return nil })
	ns.OnDisconnect(func(context.Context, *Socket, string) {})
	ns.OnAny(func(context.Context, *Socket, string, Args) (Args, error) { return Args{}, nil })
	On(ns, "x", ok)
	before := map[string]func(){
		`socketio: OnConnect of / was called twice`:                 func() { ns.OnConnect(func(context.Context, *Socket) error { return nil }) },
		`socketio: OnDisconnect of / was called twice`:              func() { ns.OnDisconnect(func(context.Context, *Socket, string) {}) },
		`socketio: OnAny of / was called twice`:                     func() { ns.OnAny(func(context.Context, *Socket, string, Args) (Args, error) { return Args{}, nil }) },
		`socketio: On("x") of / was called twice`:                   func() { On(ns, "x", ok) },
		`socketio: OnConnect of /n: the function is nil`:            func() { io.Namespace("/n").OnConnect(nil) },
		`socketio: OnDisconnect of /n: the function is nil`:         func() { io.Namespace("/n").OnDisconnect(nil) },
		`socketio: OnAny of /n: the function is nil`:                func() { io.Namespace("/n").OnAny(nil) },
		`socketio: On("y") of /n: the function is nil`:              func() { On[int, int](io.Namespace("/n"), "y", nil) },
		`socketio: On("y") of a NamespaceFunc: the function is nil`: func() { On[int, int](io.NamespaceFunc(func(string) bool { return true }), "y", nil) },
		`socketio: NamespaceFunc(nil)`:                              func() { io.NamespaceFunc(nil) },
		`socketio: the event name "connect" is reserved`:            func() { On(ns, "connect", ok) },
		`socketio: the event name "connect_error" is reserved`:      func() { On(ns, "connect_error", ok) },
		`socketio: the event name "disconnect" is reserved`:         func() { On(ns, "disconnect", ok) },
		`socketio: the event name "disconnecting" is reserved`:      func() { On(ns, "disconnecting", ok) },
		`socketio: the event name "newListener" is reserved`:        func() { On(ns, "newListener", ok) },
		`socketio: the event name "removeListener" is reserved`:     func() { On(ns, "removeListener", ok) },
		`socketio: the event name "\xff" is not valid UTF-8`:        func() { On(ns, "\xff", ok) },

		`socketio: On("y") of /: no argument of a client fits func(string)`:        func() { On(ns, "y", taking[func(string)]) },
		`socketio: On("y") of /: no argument of a client fits *chan int`:           func() { On(ns, "y", taking[*chan int]) },
		`socketio: On("y") of /: no argument of a client fits error`:               func() { On(ns, "y", taking[error]) },
		`socketio: On("y") of /: all arguments are an Args, and no *socketio.Args`: func() { On(ns, "y", taking[*Args]) },
	}
	for want, f := range before {
		if got := panics(f); got != want {
			t.Errorf("%v, not %s", got, want)
		}
	}

	On(ns, "any", taking[any])
	On(ns, "text", taking[*textual])
	On(ns, "file", taking[**Binary])

	if err := io.Attach(&protocol.Room{}, nil); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(){
		`socketio: OnConnect was called after a server got the namespaces`:         func() { ns.OnConnect(nil) },
		`socketio: On("z") was called after a server got the namespaces`:           func() { On(ns, "z", ok) },
		`socketio: Namespace("/new") was called after a server got the namespaces`: func() { io.Namespace("/new") },
		`socketio: NamespaceFunc was called after a server got the namespaces`:     func() { io.NamespaceFunc(func(string) bool { return true }) },
	} {
		if got := panics(f); got != want {
			t.Errorf("%v, not %s", got, want)
		}
	}
	if io.Namespace("/") != ns {
		t.Error("a namespace that exists is another one when a server has them")
	}
	if err := io.Attach(&protocol.Room{}, nil); err == nil || err.Error() != "socketio: the namespaces were given to another server already" {
		t.Errorf("attached twice: %v", err)
	}
	if p := io.Program("/"); p == nil || !p.Handles("x") || p.Handles("unknown") || io.Program("new") != nil {
		t.Error("the namespace does not handle what it has a handler for, and nothing else")
	}
}

func taking[T any](context.Context, *Socket, T) (any, error) { return nil, nil }

// textual is a chan that JSON becomes all the same.
type textual chan int

func (*textual) UnmarshalText([]byte) error { return nil }

type move struct {
	X, Y int
	To   struct {
		Name string `json:"name"`
	} `json:"to"`
}

// TestHandlers sends events to handlers and compares what would be acknowledged.
func TestHandlers(t *testing.T) {
	io := New(Options{})
	ns := io.Namespace("/")
	On(ns, "add", func(_ context.Context, _ *Socket, n []int) (int, error) { return n[0] + n[1], nil })
	On(ns, "move", func(_ context.Context, _ *Socket, m move) (move, error) { return m, nil })
	On(ns, "optional", func(_ context.Context, _ *Socket, n *int) (bool, error) { return n != nil, nil })
	On(ns, "none", func(context.Context, *Socket, struct{}) (struct{}, error) { return struct{}{}, nil })
	On(ns, "nil", func(context.Context, *Socket, any) (any, error) { return nil, nil })
	On(ns, "pointer", func(context.Context, *Socket, any) (*int, error) { return nil, nil })
	On(ns, "all", func(_ context.Context, _ *Socket, a Args) (Args, error) { return a, nil })
	On(ns, "bytes", func(_ context.Context, _ *Socket, b []byte) (Binary, error) { return Binary(string(b) + "!"), nil })
	On(ns, "two", func(_ context.Context, _ *Socket, s string) (Args, error) { return MakeArgs(s, 2) })
	On(ns, "told", func(context.Context, *Socket, struct{}) (int, error) {
		return 0, fmt.Errorf("deep down: %w", &Error{"too late", map[string]int{"by": 3}})
	})
	On(ns, "plain", func(context.Context, *Socket, struct{}) (int, error) { return 0, &Error{Message: "no"} })
	On(ns, "refused", func(context.Context, *Socket, struct{}) (int, error) { return 0, auth.Refuse("not you") })
	On(ns, "secret", func(context.Context, *Socket, struct{}) (int, error) { return 0, errors.New("password is 1234") })
	On(ns, "panic", func(context.Context, *Socket, struct{}) (int, error) { panic("password is 1234") })
	On(ns, "unfit", func(context.Context, *Socket, struct{}) (any, error) { return make(chan int), nil })
	On(ns, "bad data", func(context.Context, *Socket, struct{}) (int, error) { return 0, &Error{"no", make(chan int)} })

	for _, tc := range []struct{ event, args, want string }{
		{"add", `[[1,2],"more"]`, `[3]`},
		{"move", `[{"X":1,"to":{"name":"a"},"unknown":1}]`, `[{"X":1,"Y":0,"to":{"name":"a"}}]`},
		{"optional", `[]`, `[false]`},
		{"optional", `[null]`, `[false]`},
		{"optional", `[1]`, `[true]`},
		{"none", `["whatever"]`, `[]`},
		{"none", `[]`, `[]`},
		{"nil", `[1]`, `[]`},
		{"pointer", `[1]`, `[null]`},
		{"all", `[1,"a",null]`, `[1,"a",null]`},
		{"all", `[]`, `[]`},
		{"all", `[` + ph(0) + `]`, `[` + ph(0) + `] blob`},
		{"bytes", `[` + ph(0) + `]`, `[` + ph(0) + `] blob!`},
		{"bytes", `["aGk="]`, `[` + ph(0) + `] hi!`},
		{"two", `["a"]`, `["a",2]`},

		{"add", `[]`, `[{"error":{"message":"event \"add\": args[0] is missing"}}]`},
		{"nil", `[]`, `[{"error":{"message":"event \"nil\": args[0] is missing"}}]`},
		{"add", `["1"]`, `[{"error":{"message":"event \"add\": args[0] is a JSON string, which the server does not take"}}]`},
		{"move", `[{"to":{"name":1}}]`, `[{"error":{"message":"event \"move\": args[0] has a JSON number as \"to.name\", which the server does not take"}}]`},
		{"bytes", `["?"]`, `[{"error":{"message":"event \"bytes\": args[0] is not what the server takes"}}]`},
		{"unknown", `[]`, `[{"error":{"message":"there is no handler for the event \"unknown\""}}]`},
		{"told", `[]`, `[{"error":{"message":"too late","data":{"by":3}}}]`},
		{"plain", `[]`, `[{"error":{"message":"no"}}]`},
		{"refused", `[]`, `[{"error":{"message":"not you"}}]`},
		{"secret", `[]`, `error: password is 1234`},
		{"panic", `[]`, `error: panic: password is 1234`},
		{"unfit", `[]`, `error: args[0]: json: unsupported type: chan int`},
		{"bad data", `[]`, `[{"error":{"message":"no"}}] error: args[0]: json: unsupported type: chan int`},
	} {
		in := protocol.Args{JSON: tc.args}
		if strings.Contains(tc.args, "_placeholder") {
			in.Blobs = [][]byte{[]byte("blob")}
		}
		reply, err := ns.handle(t.Context(), nil, tc.event, newArgs(in))
		var out protocol.Args
		if err == nil {
			out, err = encode(reply)
		}
		got := ""
		if told := toldOf(err); told != nil {
			out, err = told.answer()
		}
		got = out.JSON
		for _, b := range out.Blobs {
			got += " " + string(b)
		}
		if err != nil {
			message, _, _ := strings.Cut(err.Error(), "\n")
			got = strings.TrimSpace(got + " error: " + message)
		}
		if got != tc.want {
			t.Errorf("%s%s: %s\nnot %s", tc.event, tc.args, got, tc.want)
		}
	}

	ns.OnAny(func(_ context.Context, _ *Socket, event string, a Args) (Args, error) { return MakeArgs(event, a) })
	reply, err := ns.handle(t.Context(), nil, "unknown", newArgs(protocol.Args{JSON: `[1]`}))
	if out, _ := encode(reply); err != nil || out.JSON != `["unknown",1]` {
		t.Errorf("%s, %v", out.JSON, err)
	}
}

func TestRefusalsAreTold(t *testing.T) {
	io := New(Options{Logger: slog.New(slog.DiscardHandler)})
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&Error{Message: "no"}, "no"},
		{fmt.Errorf("wrapped: %w", &Error{"no", map[string]int{"code": 4}}), `no {"code":4}`},
		{auth.Refuse("not you"), "not you"},
		{&Error{"no", Binary("x")}, "no"},
		{&Error{"no", make(chan int)}, "no"},
	} {
		var r *protocol.Refusal
		if !errors.As(io.refusal(tc.err), &r) || strings.TrimSpace(r.Message+" "+r.Data) != tc.want || r.Data != "" && !json.Valid([]byte(r.Data)) {
			t.Errorf("%v: %+v", tc.err, r)
		}
	}
	own := errors.New("own")
	if io.refusal(own) != own || io.refusal(nil) != nil {
		t.Error("other errors do not stay what they are")
	}
	p := program{io.Namespace("/")}
	if err := p.Connect(t.Context(), nil); err != nil {
		t.Error(err)
	}
	p.ns.OnConnect(func(context.Context, *Socket) error { panic("oh") })
	if err := p.Connect(t.Context(), nil); err == nil || !strings.HasPrefix(err.Error(), "panic: oh\n") {
		t.Error(err)
	}
}

func TestATargetDoesNotChange(t *testing.T) {
	all := New(Options{}).Namespace("/").All()
	a := all.To("1", "2").To("3").Except("u", "v").Except("w") // with room behind them
	b, c := a.To("4").Except("x"), a.To("5").Except("y").Except("z")
	for _, tc := range []struct {
		t    Target
		want string
	}{
		{all, "[] []"},
		{a, "[1 2 3] [u v w]"},
		{b, "[1 2 3 4] [u v w x]"},
		{c, "[1 2 3 5] [u v w y z]"},
	} {
		if got := fmt.Sprint(tc.t.t.Rooms, tc.t.t.Except); got != tc.want || tc.t.t.Namespace != "/" {
			t.Errorf("%s, not %s", got, tc.want)
		}
	}
}

func TestCallsThatCannotBe(t *testing.T) {
	ctx := t.Context()
	all := New(Options{}).Namespace("/").All()
	served := func(t Target) Target {
		t.room = &protocol.Room{}
		return t
	}
	for want, err := range map[string]error{
		`socketio: emit "connect": the event name "connect" is reserved`:             all.Emit(ctx, "connect"),
		`socketio: emit "x": args[0]: json: unsupported type: chan int`:              all.Emit(ctx, "x", make(chan int)),
		`socketio: emit "x": To without rooms selects nobody`:                        all.To().Emit(ctx, "x"),
		`socketio: emit "x": no server has the namespaces yet`:                       all.Emit(ctx, "x"),
		`socketio: emit "y": the zero Target selects nothing`:                        second(Target{}.EmitWithAck(ctx, "y")),
		`socketio: emit "newListener": the event name "newListener" is reserved`:     second(all.EmitWithAck(ctx, "newListener")),
		`socketio: join: no server has the namespaces yet`:                           all.Join(ctx, "r"),
		`socketio: leave: To without rooms selects nobody`:                           all.To().To("a").Leave(ctx, "r"),
		`socketio: disconnect: the zero Target selects nothing`:                      Target{}.Disconnect(ctx, true),
		`socketio: emit "x": "" is no name of a room: it is empty, or not UTF-8`:     all.To("").Emit(ctx, "x"),
		`socketio: emit "x": "\xff" is no name of a room: it is empty, or not UTF-8`: all.Except("\xff").Emit(ctx, "x"),
		`socketio: sockets: no server has the namespaces yet`:                        second(all.Sockets(ctx)),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
	for _, f := range []func(...string) error{
		func(rooms ...string) error { return (&Socket{}).Join(ctx, rooms...) },
		func(rooms ...string) error { return (&Socket{}).Leave(ctx, rooms...) },
		func(rooms ...string) error { return served(all).Join(ctx, rooms...) },
		func(rooms ...string) error { return served(all).Leave(ctx, rooms...) },
	} {
		if err := f("a", "1.2"); err == nil || !strings.HasSuffix(err.Error(), `: room "1.2" is that of one socket, which alone is in it`) {
			t.Error(err)
		}
		if err := f(""); err == nil || !strings.HasSuffix(err.Error(), `: "" is no name of a room: it is empty, or not UTF-8`) {
			t.Error(err)
		}
	}
	for _, reply := range []any{"are you sure", 1, (*int)(nil)} { // the first is the event's name, where reply was forgotten
		want := fmt.Sprintf(`socketio: emit "tea": the reply is to be a pointer, or nil, and is a %T`, reply)
		if err := (&Socket{}).EmitWithAck(ctx, reply, "tea"); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
	if err := decodeReply(newArgs(protocol.Args{JSON: `[]`}), new(int)); err == nil || err.Error() != "the acknowledgement: args[0] is missing: there are 0 arguments" {
		t.Error(err)
	}
	if err := late(context.DeadlineExceeded); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if late(context.Canceled) != context.Canceled {
		t.Error("being cancelled is not being late")
	}
}

func second[T any](_ T, err error) error { return err }
