// The program that the tests run against: what reference.mjs does with Socket.IO's own server, and channels beside it. It
// prints the ports of its servers as a JSON object, and ends with SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/server"
	"github.com/stacksjs/realtime-go/socketio"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	configs := map[string]server.Config{
		"main": {Origins: []string{"*"}, SocketIO: server.SocketIOConfig{}},
		"brief": {Origins: []string{"https://shop.example"}, SocketIO: server.SocketIOConfig{
			Recovery: 300 * time.Millisecond, PingInterval: time.Second, PingTimeout: time.Second, Cookie: "io",
		}},
		"v2": {Origins: []string{"*"}, SocketIO: server.SocketIOConfig{EIO3: true}},
	}
	ports := map[string]int{}
	ended := make(chan error, len(configs))
	for name, cfg := range configs {
		cfg.Apps = []server.App{{ID: "1001", Keys: []auth.Key{{Key: "app-key", Secret: "app-secret"}}}}
		cfg.Auth = access()
		cfg.Channels = []server.Channel{{Pattern: "private-history.*", History: server.History{Size: 10}}}
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
		cfg.IO = application()
		cfg.DrainWindow = time.Millisecond
		s, err := server.New(cfg)
		if err != nil {
			return err
		}
		b, err := realtime.New(s, events())
		if err != nil {
			return err
		}
		s.On("ship", func(ctx context.Context, in server.Inbound) (any, error) {
			return nil, b.Broadcast(ctx, "OrderShipped", in.Data)
		})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ports[name] = ln.Addr().(*net.TCPAddr).Port
		go func() { ended <- s.Serve(ctx, ln) }()
	}
	if err := json.NewEncoder(os.Stdout).Encode(ports); err != nil {
		return err
	}
	var errs []error
	for range configs {
		errs = append(errs, <-ended)
		stop()
	}
	return errors.Join(errs...)
}

// OrderShipped is the event of the examples.
type OrderShipped struct {
	OrderID string `json:"orderId"`
	UserID  string `json:"userId"`
}

func (OrderShipped) EventName() string { return "OrderShipped" }

func (e OrderShipped) Handle(ctx context.Context) error {
	if err := realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e); err != nil {
		return err
	}
	if err := realtime.Channel("notifications").Public(ctx, e.EventName(), e); err != nil {
		return err
	}
	return realtime.Channel("chat-room").Presence(ctx, e.EventName(), e)
}

func events() *realtime.Events {
	e := realtime.NewEvents()
	realtime.Register[OrderShipped](e)
	return e
}

// access believes everybody who they say they are (?user=), and keeps them out of what is called forbidden.
func access() *auth.Auth {
	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) {
		name := r.URL.Query().Get("user")
		if name == "" {
			return auth.User{}, nil
		}
		info, err := json.Marshal(map[string]string{"name": "user " + name})
		return auth.User{ID: name, Info: info}, err
	})
	a.AllowAnonymous()
	a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: []byte("the secret of the tests' tokens, 32+")})
	known := func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		switch {
		case u == nil:
			return auth.Grant{}, auth.Refuse("nobody is identified")
		case p["name"] == "forbidden":
			return auth.Grant{}, auth.Refuse("this is not yours")
		}
		return auth.Grant{}, nil
	}
	a.Channel("{name}", known)
	a.Channel("{kind}.{name}", known)
	return a
}

// state is what the sockets of all namespaces have in common.
type state struct {
	mu      sync.Mutex
	reasons map[string]string        // guarded by mu: why sockets ended, by id
	waiting map[string]chan struct{} // guarded by mu: who waits for a key to be released
	lists   map[string][]any         // guarded by mu: what was noted, by key
	calls   map[string]int           // guarded by mu: how often, by key
}

func application() *socketio.IO {
	io := socketio.New(socketio.Options{})
	s := &state{reasons: map[string]string{}, waiting: map[string]chan struct{}{}, lists: map[string][]any{}, calls: map[string]int{}}
	for _, name := range []string{"/", "/a", "/b"} {
		s.register(io.Namespace(name))
	}
	return io
}

// sending is what is sent to whom.
type sending struct {
	From     string   `json:"from"` // "socket": it leaves itself out
	To       []string `json:"to"`
	Except   []string `json:"except"`
	Volatile bool     `json:"volatile"`
	Event    string   `json:"event"`
	Args     []any    `json:"args"`
}

type handshake struct {
	Auth      json.RawMessage `json:"auth"`
	Mine      string          `json:"mine"`
	Header    string          `json:"header"`
	Cookie    string          `json:"cookie"`
	Recovered bool            `json:"recovered"`
}

// none is the reply of those that have none.
type none = struct{}

func (st *state) register(ns *socketio.Namespace) {
	ns.OnConnect(func(_ context.Context, s *socketio.Socket) error {
		var a struct{ Refuse string }
		h := s.Handshake()
		if len(h.Auth) > 0 {
			if err := json.Unmarshal(h.Auth, &a); err != nil {
				return err
			}
		}
		if a.Refuse != "" {
			return &socketio.Error{Message: "not today", Data: map[string]string{"why": a.Refuse}}
		}
		return nil
	})
	ns.OnDisconnect(func(_ context.Context, s *socketio.Socket, reason string) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.reasons[s.ID()] = reason
	})
	socketio.On(ns, "echo", func(ctx context.Context, s *socketio.Socket, args socketio.Args) (none, error) {
		return none{}, s.Emit(ctx, "echoed", args)
	})
	socketio.On(ns, "ack", func(_ context.Context, _ *socketio.Socket, args socketio.Args) (socketio.Args, error) {
		return args, nil
	})
	socketio.On(ns, "handshake", func(_ context.Context, s *socketio.Socket, _ none) (handshake, error) {
		h := s.Handshake()
		out := handshake{h.Auth, h.Query.Get("mine"), h.Header.Get("X-Mine"), h.Header.Get("Cookie"), s.Recovered()}
		if out.Auth == nil {
			out.Auth = json.RawMessage("{}")
		}
		return out, nil
	})
	socketio.On(ns, "join", func(ctx context.Context, s *socketio.Socket, rooms json.RawMessage) (none, error) {
		var one string
		var many []string
		if json.Unmarshal(rooms, &one) == nil {
			return none{}, s.Join(ctx, one)
		}
		if err := json.Unmarshal(rooms, &many); err != nil {
			return none{}, err
		}
		return none{}, s.Join(ctx, many...)
	})
	socketio.On(ns, "leave", func(ctx context.Context, s *socketio.Socket, room string) (none, error) {
		return none{}, s.Leave(ctx, room)
	})
	socketio.On(ns, "rooms", func(ctx context.Context, s *socketio.Socket, _ none) ([]string, error) {
		rooms, err := s.Rooms(ctx)
		slices.Sort(rooms)
		return rooms, err
	})
	socketio.On(ns, "send", func(ctx context.Context, s *socketio.Socket, m sending) (none, error) {
		target := s.All()
		if m.From == "socket" {
			target = s.Broadcast()
		}
		if len(m.To) > 0 {
			target = target.To(m.To...)
		}
		if len(m.Except) > 0 {
			target = target.Except(m.Except...)
		}
		emit := target.Emit
		if m.Volatile {
			emit = target.EmitVolatile
		}
		return none{}, emit(ctx, m.Event, m.Args...)
	})
	socketio.On(ns, "broadcast", func(ctx context.Context, s *socketio.Socket, args socketio.Args) (none, error) {
		return none{}, s.All().Emit(ctx, "broadcasted", args)
	})
	socketio.On(ns, "burst", func(ctx context.Context, s *socketio.Socket, n int) (none, error) {
		for i := range n {
			if err := s.All().Emit(ctx, "n", i); err != nil {
				return none{}, err
			}
		}
		return none{}, nil
	})
	socketio.On(ns, "ticks", func(_ context.Context, s *socketio.Socket, m struct{ N, MS int }) (none, error) {
		go func() {
			every := time.NewTicker(time.Duration(m.MS) * time.Millisecond)
			defer every.Stop()
			for i := range m.N {
				<-every.C
				if s.Emit(context.Background(), "tick", i) != nil {
					return
				}
			}
		}()
		return none{}, nil
	})
	socketio.On(ns, "ask me", func(ctx context.Context, s *socketio.Socket, question json.RawMessage) (socketio.Args, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var reply socketio.Args
		return reply, s.EmitWithAck(ctx, &reply, "question", question)
	})
	socketio.On(ns, "ask", func(ctx context.Context, s *socketio.Socket, m struct {
		To, Question string
		MS           int
	}) (map[string]any, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(m.MS)*time.Millisecond)
		defer cancel()
		replies, err := s.All().To(m.To).EmitWithAck(ctx, "question", m.Question)
		if err != nil && !errors.Is(err, socketio.ErrTimeout) {
			return nil, err
		}
		texts := []string{}
		for _, r := range replies {
			texts = append(texts, string(r.Args.Raw(0)))
		}
		slices.Sort(texts)
		sorted := []json.RawMessage{}
		for _, t := range texts {
			sorted = append(sorted, json.RawMessage(t))
		}
		return map[string]any{"replies": sorted, "complete": err == nil}, nil
	})
	socketio.On(ns, "wait", func(ctx context.Context, _ *socketio.Socket, key string) (string, error) {
		released := make(chan struct{})
		st.mu.Lock()
		st.waiting[key] = released
		st.mu.Unlock()
		select {
		case <-released:
			return "released", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
	socketio.On(ns, "release", func(_ context.Context, _ *socketio.Socket, key string) (none, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		if released := st.waiting[key]; released != nil {
			close(released)
			delete(st.waiting, key)
		}
		return none{}, nil
	})
	socketio.On(ns, "note", func(_ context.Context, _ *socketio.Socket, m struct {
		Key string
		N   any
	}) (any, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.lists[m.Key] = append(st.lists[m.Key], m.N)
		return m.N, nil
	})
	socketio.On(ns, "noted", func(_ context.Context, _ *socketio.Socket, key string) ([]any, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		return append([]any{}, st.lists[key]...), nil
	})
	// slow takes a second when it is first asked, and says how often it was.
	socketio.On(ns, "slow", func(_ context.Context, _ *socketio.Socket, key string) (int, error) {
		st.mu.Lock()
		st.calls[key]++
		n := st.calls[key]
		st.mu.Unlock()
		if n == 1 {
			time.Sleep(time.Second)
		}
		return n, nil
	})
	socketio.On(ns, "drop", func(_ context.Context, s *socketio.Socket, connection bool) (none, error) {
		s.Disconnect(connection)
		return none{}, nil
	})
	socketio.On(ns, "reason", func(_ context.Context, _ *socketio.Socket, id string) (string, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.reasons[id], nil
	})
	socketio.On(ns, "sockets", func(ctx context.Context, s *socketio.Socket, room string) ([]string, error) {
		sockets, err := s.All().To(room).Sockets(ctx)
		ids := []string{}
		for _, other := range sockets {
			ids = append(ids, other.ID())
		}
		slices.Sort(ids)
		return ids, err
	})
	socketio.On(ns, "drop room", func(ctx context.Context, s *socketio.Socket, m struct {
		Room       string
		Connection bool
	}) (none, error) {
		return none{}, s.All().To(m.Room).Disconnect(ctx, m.Connection)
	})
	socketio.On(ns, "join room", func(ctx context.Context, s *socketio.Socket, m struct{ Room, To string }) (none, error) {
		return none{}, s.All().To(m.Room).Join(ctx, m.To)
	})
}
