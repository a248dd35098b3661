package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdio "io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/server"
	"github.com/stacksjs/realtime-go/socketio"
)

// site is a server that has namespaces, and page a client of it that knows nothing but packets.
type site struct {
	addr string
	ctx  context.Context // of everything that waits; for what never comes
	stop func()
}

type page struct {
	conn *wsclient.Conn
	ctx  context.Context
	id   string // of the namespace entered last
}

func serve(io *socketio.IO) *site {
	return start(server.Config{IO: io, SocketIO: server.SocketIOConfig{Recovery: -1}})
}

func start(cfg server.Config) *site {
	srv, err := server.New(cfg)
	check(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- srv.Serve(ctx, ln) }()
	patient, done := context.WithTimeout(context.Background(), 30*time.Second)
	return &site{addr: ln.Addr().String(), ctx: patient, stop: func() {
		stop()
		check(<-ended)
		done()
	}}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// open opens a connection.
func (s *site) open(query string, h http.Header) *page {
	c, err := wsclient.Dial(s.ctx, "ws://"+s.addr+"/socket.io/?EIO=4&transport=websocket"+query, &wsclient.Options{Header: h})
	check(err)
	p := &page{conn: c, ctx: s.ctx}
	p.frame() // of Engine.IO
	return p
}

// enter opens a connection and enters a namespace, which must let it in.
func (s *site) enter(nsp, auth string) *page {
	p := s.open("", nil)
	if got := p.join(nsp, auth); p.id == "" {
		panic(got)
	}
	return p
}

// join asks to be let into a namespace, and returns the answer.
func (p *page) join(nsp, auth string) string {
	head := ""
	if nsp != "/" {
		head = nsp + ","
	}
	p.say("0" + head + auth)
	got := p.hear()
	if body, ok := strings.CutPrefix(got, "0"+head); ok {
		var in struct{ SID, PID string }
		check(json.Unmarshal([]byte(body), &in))
		p.id = in.SID
	}
	return got
}

// say sends packets, and the attachments of the last.
func (p *page) say(packet string, blobs ...string) {
	check(p.conn.Write(p.ctx, ws.OpText, []byte("4"+packet)))
	for _, b := range blobs {
		check(p.conn.Write(p.ctx, ws.OpBinary, []byte(b)))
	}
}

// hear returns the next packet, or attachment.
func (p *page) hear() string {
	got := p.frame()
	if text, ok := strings.CutPrefix(got, "4"); ok {
		return text
	}
	return got
}

func (p *page) frame() string {
	op, b, err := p.conn.ReadMessage(p.ctx)
	switch {
	case err != nil:
		return err.Error()
	case op == ws.OpBinary:
		return fmt.Sprintf("blob %q", b)
	}
	return string(b)
}

func (p *page) close() { p.conn.Close(1000, "") }

func TestASocketKnowsItsClient(t *testing.T) {
	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.Header.Get("X-User")}, nil })
	a.AllowAnonymous()
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/n")
	type seen struct {
		*socketio.Socket
		h socketio.Handshake
	}
	sockets := make(chan seen, 2)
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		s.SetData("data of " + s.ID())
		sockets <- seen{s, s.Handshake()}
		return nil
	})
	site := start(server.Config{Auth: a, IO: io})
	defer site.stop()
	before := time.Now()
	ada := site.open("&lang=en", http.Header{"X-User": {"ada"}})
	defer ada.close()
	ada.join("/n", `{"a": [1]}`)
	nobody := site.open("", nil)
	defer nobody.close()
	nobody.join("/n", "")

	s := <-sockets
	if s.ID() != ada.id || s.Namespace() != "/n" || s.User() == nil || s.User().ID != "ada" || s.Recovered() || s.Data() != "data of "+ada.id {
		t.Errorf("%s in %s is %+v, recovered: %v, data %v", s.ID(), s.Namespace(), s.User(), s.Recovered(), s.Data())
	}
	h := s.h
	if h.Header.Get("X-User") != "ada" || h.Query.Get("lang") != "en" || string(h.Auth) != `{"a": [1]}` || h.Time.Before(before) || h.Time.After(time.Now()) || !strings.HasPrefix(h.Address, "127.0.0.1:") || h.URL != "/socket.io/?EIO=4&transport=websocket&lang=en" {
		t.Errorf("handshake %+v", h)
	}
	if s = <-sockets; s.ID() != nobody.id || s.User() != nil || s.h.Auth != nil {
		t.Errorf("%s is %+v with auth %s", s.ID(), s.User(), s.h.Auth)
	}
}

// TestRoomsSelect sends to every selection of four sockets, and compares who hears what.
func TestRoomsSelect(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	var mu sync.Mutex
	sockets := map[string]*socketio.Socket{}
	ns.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
		var in struct{ Name, Rooms string }
		check(json.Unmarshal(s.Handshake().Auth, &in))
		mu.Lock()
		defer mu.Unlock()
		sockets[in.Name] = s
		return s.Join(ctx, strings.Fields(in.Rooms)...)
	})
	site := serve(io)
	defer site.stop()
	ctx := site.ctx
	names := []string{"a", "b", "c", "d"}
	pages := map[string]*page{}
	for name, rooms := range map[string]string{"a": "red", "b": "red blue", "c": "blue", "d": ""} {
		pages[name] = site.enter("/", fmt.Sprintf(`{"name":%q,"rooms":%q}`, name, rooms))
		defer pages[name].close()
	}
	mu.Lock() // the handlers have ended; this sees what they did
	a, b, d := sockets["a"], sockets["b"], sockets["d"]
	mu.Unlock()
	for i, tc := range []struct {
		target socketio.Target
		want   string
	}{
		{ns.All(), "a b c d"},
		{ns.To("red"), "a b"},
		{ns.To("red", "blue"), "a b c"},
		{ns.To("red").To("blue").To(d.ID()), "a b c d"},
		{ns.To("red", "blue").Except("blue"), "a"},
		{ns.Except("red"), "c d"},
		{ns.Except("red").Except(d.ID()), "c"},
		{ns.To("nobody"), ""},
		{ns.To(a.ID()), "a"},
		{io.Of("/").To("blue"), "b c"},
		{a.All(), "a b c d"},
		{a.Broadcast(), "b c d"},
		{a.To("red"), "b"},
		{a.To("red", "blue").Except(b.ID()), "c"},
		{a.All().To("red"), "a b"},
		{d.To("red"), "a b"},
	} {
		if err := tc.target.Emit(ctx, "n", i); err != nil {
			t.Fatal(err)
		}
		if err := ns.Emit(ctx, "end"); err != nil {
			t.Fatal(err)
		}
		var heard []string
		for _, name := range names {
			got := pages[name].hear()
			if got == fmt.Sprintf(`2["n",%d]`, i) {
				heard = append(heard, name)
				got = pages[name].hear()
			}
			if got != `2["end"]` {
				t.Fatalf("%s hears %s", name, got)
			}
		}
		if got := strings.Join(heard, " "); got != tc.want {
			t.Errorf("selection %d reaches %q, not %q", i, got, tc.want)
		}
		found, err := tc.target.Sockets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		heard = heard[:0]
		for _, name := range names {
			if slices.Contains(found, sockets[name]) { // the same pointers
				heard = append(heard, name)
			}
		}
		if got := strings.Join(heard, " "); got != tc.want || len(found) != len(heard) {
			t.Errorf("selection %d has %q and %d sockets, not %q", i, got, len(found), tc.want)
		}
	}
}

func TestRoomsChange(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	sockets := make(chan *socketio.Socket, 2)
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		sockets <- s
		return nil
	})
	site := serve(io)
	defer site.stop()
	ctx := site.ctx
	one, two := site.enter("/", ""), site.enter("/", "")
	defer one.close()
	defer two.close()
	a, b := <-sockets, <-sockets
	rooms := func(s *socketio.Socket) string {
		r, err := s.Rooms(ctx)
		check(err)
		r = slices.DeleteFunc(r, func(r string) bool { return r == s.ID() })
		slices.Sort(r)
		return strings.Join(r, " ")
	}
	for i, err := range []error{
		a.Join(ctx, "x", "y"),
		a.Join(ctx, "x"),
		ns.All().Join(ctx, "all", "z"),
		a.Leave(ctx, "x", "never"),
		a.Broadcast().Leave(ctx, "all"),
		ns.To("z").Except(b.ID()).Join(ctx, "w"),
		ns.To("nobody").Join(ctx, "w"),
	} {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if a, b := rooms(a), rooms(b); a != "all w y z" || b != "z" {
		t.Errorf("%q and %q", a, b)
	}
	if r, err := a.Rooms(ctx); err != nil || !slices.Contains(r, a.ID()) {
		t.Errorf("%q, %v", r, err)
	}
}

// TestClientsAnswer asks clients, which answer, do not, and go.
func TestClientsAnswer(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	sockets := make(chan *socketio.Socket, 3)
	early := make(chan error, 3)
	ns.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
		early <- s.EmitWithAck(ctx, nil, "too early")
		sockets <- s
		return nil
	})
	site := serve(io)
	defer site.stop()
	ctx := site.ctx
	pages := []*page{site.enter("/", ""), site.enter("/", ""), site.enter("/", "")}
	var all []*socketio.Socket
	for _, p := range pages {
		defer p.close()
		all = append(all, <-sockets)
		if err := <-early; !errors.Is(err, socketio.ErrConnecting) || err.Error() != `socketio: emit "too early": the client is not connected before its Connect has returned` {
			t.Error(err)
		}
	}
	// ask waits until the page has heard the question, which has the id that it returns.
	ask := func(p *page, want string) string {
		t.Helper()
		got := p.hear()
		id, rest, _ := strings.Cut(strings.TrimPrefix(got, "2"), "[")
		if "["+rest != want {
			t.Fatalf("the page is asked %s, not %s", got, want)
		}
		return id
	}
	type result struct {
		replies []socketio.Reply
		err     error
	}
	results := make(chan result, 1)

	var n int
	go func() { results <- result{err: all[0].EmitWithAck(ctx, &n, "double", 21)} }()
	pages[0].say("3" + ask(pages[0], `["double",21]`) + `[42,"more"]`)
	if r := <-results; r.err != nil || n != 42 {
		t.Errorf("%d, %v", n, r.err)
	}
	var args socketio.Args
	go func() { results <- result{err: all[0].EmitWithAck(ctx, &args, "all", socketio.Binary("?"))} }()
	pages[0].say(`61-`+strings.TrimPrefix(ask(pages[0], `["all",{"_placeholder":true,"num":0}]`), "51-")+`["a",{"_placeholder":true,"num":0}]`, "blob")
	if r := <-results; r.err != nil || args.Len() != 2 || string(args.Raw(1)) != `"YmxvYg=="` {
		t.Errorf("%+v, %v", args, r.err)
	}
	if got := pages[0].hear(); got != `blob "?"` {
		t.Errorf("the question's attachment is %s", got)
	}
	go func() { results <- result{err: all[0].EmitWithAck(ctx, nil, "whatever")} }()
	pages[0].say("3" + ask(pages[0], `["whatever"]`) + `[]`)
	if r := <-results; r.err != nil {
		t.Error(r.err)
	}
	go func() { results <- result{err: all[0].EmitWithAck(ctx, &n, "misfit")} }()
	pages[0].say("3" + ask(pages[0], `["misfit"]`) + `["x"]`)
	if r := <-results; r.err == nil || r.err.Error() != `socketio: emit "misfit": the acknowledgement: json: cannot unmarshal string into Go value of type int` {
		t.Error(r.err)
	}

	// Everybody: one answers, one does not, one goes.
	short, cancel := context.WithCancel(ctx)
	go func() {
		replies, err := ns.All().EmitWithAck(short, "who", 1)
		results <- result{replies, err}
	}()
	pages[1].say("3" + ask(pages[1], `["who",1]`) + `["me"]`)
	ask(pages[0], `["who",1]`)
	ask(pages[2], `["who",1]`)
	pages[2].close()
	for { // until it is gone and the answer there
		left, err := ns.All().Sockets(ctx)
		check(err)
		if len(left) == 2 {
			break
		}
	}
	pages[1].say(`27["is the answer there?"]`)
	pages[1].hear()
	cancel()
	r := <-results
	if r.err == nil || !errors.Is(r.err, context.Canceled) || errors.Is(r.err, socketio.ErrTimeout) || r.err.Error() != `socketio: emit "who": 2 of 3 clients did not answer: context canceled` {
		t.Error(r.err)
	}
	if len(r.replies) != 1 || r.replies[0].Socket != all[1] || string(r.replies[0].Args.Raw(0)) != `"me"` {
		t.Errorf("%+v", r.replies)
	}

	past, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := all[0].EmitWithAck(past, nil, "late"); !errors.Is(err, socketio.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"emit": all[2].Emit(ctx, "x"), "ask": all[2].EmitWithAck(ctx, nil, "x"), "join": all[2].Join(ctx, "x"), "leave": all[2].Leave(ctx, "x"),
		"rooms": func() error { _, err := all[2].Rooms(ctx); return err }(),
	} {
		if !errors.Is(err, socketio.ErrDisconnected) || !strings.HasPrefix(err.Error(), "socketio: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEventsAreAnswered is the way of an event from a client and back; TestHandlers has the many forms.
func TestEventsAreAnswered(t *testing.T) {
	log := make(lines, 100)
	io := socketio.New(socketio.Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	ns := io.Namespace("/n")
	gone := make(chan string, 1)
	ns.OnDisconnect(func(_ context.Context, s *socketio.Socket, reason string) {
		gone <- reason
		panic("oh dear")
	})
	socketio.On(ns, "echo", func(_ context.Context, _ *socketio.Socket, a socketio.Args) (socketio.Args, error) { return a, nil })
	socketio.On(ns, "fail", func(_ context.Context, _ *socketio.Socket, told bool) (any, error) {
		if told {
			return nil, &socketio.Error{Message: "no"}
		}
		return nil, errors.New("secret")
	})
	site := serve(io)
	defer site.stop()
	p := site.enter("/n", "")
	defer p.close()
	for _, step := range [][2]string{
		{`2/n,0["echo",1,"two"]`, `3/n,0[1,"two"]`},
		{`2/n,1["echo"]`, `3/n,1[]`},
		{`2/n,2["fail",true]`, `3/n,2[{"error":{"message":"no"}}]`},
		{`2/n,3["fail",false]`, `3/n,3[{"error":{"message":"internal error"}}]`},
		{`2/n,4["unknown"]`, `3/n,4[{"error":{"message":"there is no handler for the event \"unknown\""}}]`},
	} {
		p.say(step[0])
		if got := p.hear(); got != step[1] {
			t.Errorf("%s is answered %s, not %s", step[0], got, step[1])
		}
	}
	p.say(`52-/n,5["echo",[{"_placeholder":true,"num":1}],{"_placeholder":true,"num":0}]`, "a", "b")
	if got := p.hear() + " " + p.hear() + " " + p.hear(); got != `62-/n,5[[{"_placeholder":true,"num":1}],{"_placeholder":true,"num":0}] blob "a" blob "b"` {
		t.Errorf("got %s", got)
	}
	p.say(`2/n,["fail",true]`)
	p.say(`2/n,["fail",false]`)
	p.say(`1/n,`)
	if got := <-gone; got != "client namespace disconnect" {
		t.Errorf("gone: %s", got)
	}
	for _, want := range []string{
		`level=DEBUG msg="a Socket.IO event was refused" namespace=/n event=fail socket=` + p.id + ` error=no`,
		`level=WARN msg="the program's handler of a Socket.IO event failed" namespace=/n event=fail socket=` + p.id + ` error=secret`,
		`level=DEBUG msg="a Socket.IO event was refused" namespace=/n event=unknown socket=` + p.id + ` error="there is no handler for the event \"unknown\""`,
		`level=DEBUG msg="a Socket.IO event was refused" namespace=/n event=fail socket=` + p.id + ` error=no`,
		`level=WARN msg="the program's handler of a Socket.IO event failed" namespace=/n event=fail socket=` + p.id + ` error=secret`,
		`level=WARN msg="the program's OnDisconnect failed" namespace=/n socket=` + p.id + ` error="panic: oh dear`,
	} {
		if got := <-log; !strings.Contains(got, want) {
			t.Errorf("the log has %s, not %s", got, want)
		}
	}
}

// lines are those of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestWhatIsVolatileIsLeftOut sends to a client that polls, while it does not.
func TestWhatIsVolatileIsLeftOut(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	sockets := make(chan *socketio.Socket, 1)
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		sockets <- s
		return nil
	})
	site := serve(io)
	defer site.stop()
	url := "http://" + site.addr + "/socket.io/?EIO=4&transport=polling"
	poll := func(body string) string {
		t.Helper()
		method := "GET"
		if body != "" {
			method = "POST"
		}
		req, err := http.NewRequestWithContext(site.ctx, method, url, strings.NewReader(body))
		check(err)
		res, err := http.DefaultClient.Do(req)
		check(err)
		defer res.Body.Close()
		b, err := stdio.ReadAll(res.Body)
		check(err)
		return string(b)
	}
	var hello struct{ SID string }
	check(json.Unmarshal([]byte(poll("")[1:]), &hello))
	url += "&sid=" + hello.SID
	poll("40")
	poll("") // the answer
	s, ctx := <-sockets, site.ctx
	for _, err := range []error{
		s.Emit(ctx, "a"), s.EmitVolatile(ctx, "b"), ns.All().EmitVolatile(ctx, "c"), ns.Emit(ctx, "d"), s.All().To(s.ID()).EmitVolatile(ctx, "e"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	got := poll("")
	for !strings.Contains(got, "d") { // which may come with the next body
		got += "\x1e" + poll("")
	}
	if got != "42[\"a\"]\x1e42[\"d\"]" {
		t.Errorf("it gets %q", got)
	}
	poll("1")
}

func TestClientsAreRefused(t *testing.T) {
	io := socketio.New(socketio.Options{Logger: slog.New(slog.DiscardHandler)})
	ns := io.Namespace("/n")
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		switch string(s.Handshake().Auth) {
		case `{"told":1}`:
			return &socketio.Error{Message: "no", Data: map[string]int{"code": 7}}
		case `{"refused":1}`:
			return auth.Refuse("not you")
		}
		return errors.New("secret")
	})
	site := start(server.Config{IO: io, Logger: slog.New(slog.DiscardHandler)})
	defer site.stop()
	p := site.open("", nil)
	defer p.close()
	for auth, want := range map[string]string{
		`{"told":1}`:    `4/n,{"message":"no","data":{"code":7}}`,
		`{"refused":1}`: `4/n,{"message":"not you"}`,
		``:              `4/n,{"message":"internal error"}`,
	} {
		if got := p.join("/n", auth); got != want {
			t.Errorf("%s is answered %s, not %s", auth, got, want)
		}
	}
	if got := p.join("/other", ""); got != `4/other,{"message":"Invalid namespace"}` {
		t.Errorf("got %s", got)
	}
}

func TestSocketsAreDisconnected(t *testing.T) {
	io := socketio.New(socketio.Options{})
	for _, name := range []string{"/", "/n"} {
		ns := io.Namespace(name)
		socketio.On(ns, "leave", func(_ context.Context, s *socketio.Socket, closeConnection bool) (any, error) {
			s.Disconnect(closeConnection)
			return nil, nil
		})
		socketio.On(ns, "all leave", func(ctx context.Context, s *socketio.Socket, closeConnection bool) (any, error) {
			return nil, s.All().Disconnect(ctx, closeConnection)
		})
	}
	site := serve(io)
	defer site.stop()
	p := site.enter("/", "")
	defer p.close()
	p.join("/n", "")
	p.say(`2/n,["leave",false]`)
	if got := p.hear(); got != `1/n,` {
		t.Errorf("got %s", got)
	}
	p.join("/n", "")
	p.say(`2/n,["all leave",false]`)
	if got := p.hear(); got != `1/n,` {
		t.Errorf("got %s", got)
	}
	p.say(`20["leave",true]`)
	for _, want := range []string{`1`, `websocket closed with 1000`} {
		for got := p.hear(); got != want; got = p.hear() {
			if got != `30[]` { // may come before
				t.Fatalf("got %s, not %s", got, want)
			}
		}
	}
}

func TestNamespacesOfAPatternDoNotHearEachOther(t *testing.T) {
	io := socketio.New(socketio.Options{})
	tenants := io.NamespaceFunc(func(name string) bool { return strings.HasPrefix(name, "/tenant-") })
	socketio.On(tenants, "shout", func(ctx context.Context, s *socketio.Socket, text string) (string, error) {
		return s.Namespace(), s.Broadcast().Emit(ctx, "shouted", text)
	})
	site := serve(io)
	defer site.stop()
	a, b, other := site.enter("/tenant-1", ""), site.enter("/tenant-1", ""), site.enter("/tenant-2", "")
	for _, p := range []*page{a, b, other} {
		defer p.close()
	}
	a.say(`2/tenant-1,7["shout","hi"]`)
	if got := a.hear(); got != `3/tenant-1,7["/tenant-1"]` {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{"/tenant-1", "/tenant-2"} {
		if err := io.Of(name).Emit(site.ctx, "end"); err != nil {
			t.Error(err)
		}
	}
	if got := b.hear() + " " + b.hear(); got != `2/tenant-1,["shouted","hi"] 2/tenant-1,["end"]` {
		t.Errorf("got %s", got)
	}
	if got := other.hear(); got != `2/tenant-2,["end"]` {
		t.Errorf("got %s", got)
	}
}

// TestASocketComesBack drops a connection and comes back as who it was.
func TestASocketComesBack(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	sockets, gone := make(chan *socketio.Socket, 1), make(chan string, 1)
	ns.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
		defer func() { sockets <- s }()
		if s.Recovered() {
			return nil
		}
		s.SetData("kept")
		return s.Join(ctx, "room")
	})
	ns.OnDisconnect(func(_ context.Context, _ *socketio.Socket, reason string) { gone <- reason })
	site := start(server.Config{IO: io})
	defer site.stop()
	p := site.open("", nil)
	hello := p.join("/", "")
	first, id := <-sockets, p.id
	p.close()
	<-gone
	if err := ns.To("room").Emit(site.ctx, "missed", 1); err != nil {
		t.Fatal(err)
	}
	var in struct{ PID string }
	check(json.Unmarshal([]byte(hello[1:]), &in))
	p = site.open("", nil)
	defer p.close()
	if got := p.join("/", fmt.Sprintf(`{"pid":%q}`, in.PID)); got != hello {
		t.Errorf("it comes back with %s, and was %s", got, hello)
	}
	if got := p.hear(); !strings.HasPrefix(got, `2["missed",1,"`) {
		t.Errorf("it missed %s", got)
	}
	s := <-sockets
	rooms, err := s.Rooms(site.ctx)
	if s == first || s.ID() != id || !s.Recovered() || s.Data() != "kept" || err != nil || !slices.Contains(rooms, "room") {
		t.Errorf("recovered: %v, data %v, rooms %v, %v", s.Recovered(), s.Data(), rooms, err)
	}
}

// TestASocketThatComesBackWaitsForItsFormerHandlers: otherwise who keeps a list of who is there would take out whom it has
// just put in, and what a handler found out while the client was away would be lost.
func TestASocketThatComesBackWaitsForItsFormerHandlers(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	did := make(chan string, 10)
	begun, goOn := make(chan bool), make(chan bool)
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		did <- fmt.Sprintf("OnConnect, recovered %v, data %v", s.Recovered(), s.Data())
		return nil
	})
	ns.OnDisconnect(func(context.Context, *socketio.Socket, string) { did <- "OnDisconnect" })
	socketio.On(ns, "log in", func(_ context.Context, s *socketio.Socket, name string) (any, error) {
		close(begun)
		<-goOn
		s.SetData(name)
		did <- "log in"
		return nil, nil
	})
	site := start(server.Config{IO: io})
	defer site.stop()
	p := site.open("", nil)
	hello := p.join("/", "")
	p.say(`2["log in","Ada"]`)
	<-begun
	p.close()
	var in struct{ PID string }
	check(json.Unmarshal([]byte(hello[1:]), &in))
	p = site.open("", nil)
	defer p.close()
	p.say(fmt.Sprintf(`0{"pid":%q}`, in.PID))
	site.open("", nil).close() // meanwhile the server hears that
	close(goOn)
	if got := p.hear(); got != hello {
		t.Errorf("it comes back with %s, and was %s", got, hello)
	}
	for _, want := range []string{"OnConnect, recovered false, data <nil>", "log in", "OnDisconnect", "OnConnect, recovered true, data Ada"} {
		if got := <-did; got != want {
			t.Fatalf("%s, not %s", got, want)
		}
	}
}

// TestEveryReturnIsOverBeforeTheNext, also of a client that is lost again before OnConnect has let it in.
func TestEveryReturnIsOverBeforeTheNext(t *testing.T) {
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	did := make(chan string, 10)
	begun, goOn := make(chan bool), make(chan bool)
	n := 0 // not guarded: handlers of one socket do not run at the same time
	ns.OnConnect(func(context.Context, *socketio.Socket) error {
		if n++; n == 2 {
			close(begun)
			<-goOn
		}
		did <- fmt.Sprint("OnConnect ", n)
		return nil
	})
	ns.OnDisconnect(func(context.Context, *socketio.Socket, string) { did <- fmt.Sprint("OnDisconnect ", n) })
	site := start(server.Config{IO: io})
	defer site.stop()
	p := site.open("", nil)
	hello := p.join("/", "")
	var in struct{ PID string }
	check(json.Unmarshal([]byte(hello[1:]), &in))
	comeBack := func() {
		p.close()
		p = site.open("", nil)
		p.say(fmt.Sprintf(`0{"pid":%q}`, in.PID))
	}
	comeBack()
	<-begun
	comeBack()
	site.open("", nil).close() // meanwhile the server hears that
	close(goOn)
	if got := p.hear(); got != hello {
		t.Errorf("it comes back with %s, and was %s", got, hello)
	}
	p.close()
	for i := range 3 {
		for _, what := range []string{"OnConnect", "OnDisconnect"} {
			if got, want := <-did, fmt.Sprint(what, " ", i+1); got != want {
				t.Fatalf("%s, not %s", got, want)
			}
		}
	}
}

// TestHandlersOfASocketRunInOrder sends many events, whose handlers would overtake each other if they could.
func TestHandlersOfASocketRunInOrder(t *testing.T) {
	const n = 200
	io := socketio.New(socketio.Options{})
	ns := io.Namespace("/")
	next := 0 // not guarded: handlers of one socket do not run at the same time
	wrong := make(chan int, n)
	on := func(_ context.Context, _ *socketio.Socket, i int) (int, error) {
		if i != next {
			wrong <- i
		}
		next++
		return i, nil
	}
	socketio.On(ns, "even", on)
	socketio.On(ns, "odd", on)
	site := serve(io)
	defer site.stop()
	p := site.enter("/", "")
	defer p.close()
	for i := range n {
		p.say(fmt.Sprintf(`2%d["%s",%d]`, i, []string{"even", "odd"}[i%2], i))
	}
	for i := range n {
		if got, want := p.hear(), fmt.Sprintf(`3%d[%d]`, i, i); got != want {
			t.Fatalf("got %s, not %s", got, want)
		}
	}
	if len(wrong) > 0 {
		t.Errorf("event %d is out of order", <-wrong)
	}
}

// TestShutdownWaitsForHandlers: what OnDisconnect does, it does before the program goes on and closes its database.
func TestShutdownWaitsForHandlers(t *testing.T) {
	for _, patient := range []bool{true, false} {
		io := socketio.New(socketio.Options{})
		release := make(chan struct{})
		ended := false // not guarded: Shutdown returns behind it
		io.Namespace("/").OnDisconnect(func(context.Context, *socketio.Socket, string) {
			<-release
			ended = true
		})
		srv, err := server.New(server.Config{IO: io, DrainWindow: time.Nanosecond})
		check(err)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		go srv.Serve(t.Context(), ln)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		p := (&site{addr: ln.Addr().String(), ctx: ctx}).enter("/", "")
		go func() { // close for close, so that nothing is cut off
			p.hear()
			p.close()
			if patient {
				close(release)
			}
		}()
		if patient {
			if err := srv.Shutdown(ctx); err != nil || !ended {
				t.Errorf("the handler has ended: %v, %v", ended, err)
			}
			continue
		}
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := srv.Shutdown(short); err == nil || err.Error() != "server: a Socket.IO handler of the program's has not returned: context deadline exceeded" {
			t.Error(err)
		}
		close(release)
	}
}
