package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/server"
)

// A server that listens by itself, and is the driver of the program it is in.
func Example() {
	srv, err := server.New(server.Config{Origins: []string{"https://shop.example"}})
	check(err)
	b, err := realtime.New(srv, nil)
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ctx = realtime.WithBroadcaster(ctx, b) // or realtime.SetDefault(b)

	ln, err := net.Listen("tcp", "127.0.0.1:0") // srv.Run(ctx, ":6001") does this too
	check(err)
	ended := make(chan error)
	go func() { ended <- srv.Serve(ctx, ln) }()

	page := connect(ln.Addr().String(), "")
	page.subscribe("news")
	check(realtime.Channel("news").Public(ctx, "headline", "Hello"))
	fmt.Println(page.hear())

	page.close()
	stop() // what is queued is written, and clients are told to come back
	fmt.Println(<-ended)
	// Output:
	// subscription_succeeded news
	// headline news "Hello"
	// <nil>
}

// A server in a router of the program's own.
func ExampleServer_ServeHTTP() {
	srv, err := server.New(server.Config{Path: "/live"})
	check(err)
	mux := http.NewServeMux()
	mux.Handle("GET /live", srv)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "the program's page") })
	web := httptest.NewServer(mux) // an http.Server, in real life

	page := dial("ws://" + web.Listener.Addr().String() + "/live")
	page.subscribe("news")
	check(srv.Send(context.Background(), &realtime.Message{Channels: []string{"news"}, Event: "headline", Data: json.RawMessage(`"Hello"`)}))
	fmt.Println(page.hear())
	page.close()

	// Connections taken over are the server's, so both have to end.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(errors.Join(srv.Shutdown(ctx), web.Config.Shutdown(ctx)))
	// Output:
	// subscription_succeeded news
	// headline news "Hello"
	// <nil>
}

// A hook that keeps the list of who is here.
func ExampleConfig_hook() {
	done := make(chan bool)
	site := start(server.Config{
		Auth: who(),
		Hook: func(ctx context.Context, ev server.Event) { // the events of one client arrive in order
			switch ev.Kind {
			case server.Identified:
				fmt.Println(ev.Client.User.ID, "is here")
			case server.Refused:
				fmt.Println(ev.Client.User.ID, "may not listen to", ev.Channel+":", ev.Reason)
			case server.Disconnected:
				fmt.Println(ev.Client.User.ID, "is gone")
				close(done)
			}
		},
	})
	defer site.stop()
	page := connect(site.addr, "ada")
	page.say(`{"event":"subscribe","channel":"private-vault"}`)
	page.frame() // the refusal
	page.close()
	<-done
	// Output:
	// ada is here
	// ada may not listen to private-vault: no authorizer is registered for channel "private-vault", and the subscription brought neither signature nor token
	// ada is gone
}

// A handler of an event that clients send to the server.
func ExampleServer_On() {
	srv, err := server.New(server.Config{})
	check(err)
	srv.On("add", func(ctx context.Context, in server.Inbound) (any, error) {
		var numbers []int
		if err := json.Unmarshal(in.Data, &numbers); err != nil {
			return nil, auth.Refuse("send a list of numbers") // the client is told
		}
		sum := 0
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	})
	site := run(srv)
	defer site.stop()

	page := connect(site.addr, "")
	page.say(`{"event":"add","id":1,"data":[1,2,3]}`)
	fmt.Println(page.frame())
	page.say(`{"event":"add","id":2,"data":"1,2,3"}`)
	fmt.Println(page.frame())
	page.close()
	// Output:
	// {"event":"ack","id":1,"data":6}
	// {"event":"error","id":2,"data":{"code":4009,"type":"AuthError","error":"send a list of numbers","status":403}}
}

// Policies of channels: who comes late gets what is kept.
func ExampleChannel() {
	site := start(server.Config{Channels: []server.Channel{
		{Pattern: "news.*", History: server.History{Size: 100, Age: time.Hour}},
		{Pattern: "prices.*", Cache: time.Minute, Slow: server.KeepLatest},
	}})
	defer site.stop()
	for _, price := range []int{99, 101, 100} {
		check(realtime.Channel("news.shares").Public(site.ctx, "price", price))
		check(realtime.Channel("prices.shares").Public(site.ctx, "price", price))
	}
	page := connect(site.addr, "")
	page.say(`{"event":"subscribe","channel":"news.shares","rewind":2}`)
	fmt.Println(page.hear(), page.hear(), page.hear())
	page.say(`{"event":"subscribe","channel":"prices.shares"}`)
	fmt.Println(page.hear(), page.hear())
	page.close()
	// Output:
	// subscription_succeeded news.shares price news.shares 101 price news.shares 100
	// subscription_succeeded prices.shares price prices.shares 100
}

// A grant is taken back from all connections of a user.
func ExampleServer_Revoke() {
	site := start(server.Config{Auth: who()})
	defer site.stop()
	page := connect(site.addr, "ada")
	page.subscribe("presence-room")
	site.srv.Revoke("", "ada", "presence-room", "the room is closed")
	fmt.Println(page.frame())
	page.close()
	// Output:
	// subscription_succeeded presence-room
	// {"event":"unsubscribed","channel":"presence-room","data":{"reason":"revoked","error":"the room is closed"}}
}

// Who is in a presence channel. A second tab is no second member.
func ExampleServer_Members() {
	site := start(server.Config{Auth: who()})
	defer site.stop()
	for _, user := range []string{"ada", "grace", "ada"} {
		page := connect(site.addr, user)
		page.subscribe("presence-room")
		defer page.close()
	}
	for _, m := range site.srv.Members("", "presence-room") {
		fmt.Println(m.ID, string(m.Info))
	}
	fmt.Println(site.srv.Subscriptions("", "presence-room"), "connections")
	// Output:
	// subscription_succeeded presence-room
	// subscription_succeeded presence-room
	// subscription_succeeded presence-room
	// ada {"name":"ada"}
	// grace {"name":"grace"}
	// 3 connections
}

// who believes that clients are who they say they are, and lets everybody into the room.
func who() *auth.Auth {
	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) {
		id := r.Header.Get("User")
		return auth.User{ID: id, Info: json.RawMessage(`{"name":"` + id + `"}`)}, nil
	})
	a.Channel("presence-room", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	return a
}

// site is a server that listens, and the context that sends through it.
type site struct {
	srv  *server.Server
	addr string
	ctx  context.Context
	stop func()
}

func start(cfg server.Config) *site {
	srv, err := server.New(cfg)
	check(err)
	return run(srv)
}

func run(srv *server.Server) *site {
	b, err := realtime.New(srv, nil)
	check(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- srv.Serve(ctx, ln) }()
	return &site{srv, ln.Addr().String(), realtime.WithBroadcaster(context.Background(), b), func() {
		cancel()
		check(<-ended)
	}}
}

// page is a client, as a browser has one.
type page struct{ *wsclient.Conn }

func connect(addr, user string) page { return dial("ws://"+addr+"/ws", "User", user) }

func dial(url string, header ...string) page {
	h := http.Header{}
	if len(header) == 2 {
		h.Set(header[0], header[1])
	}
	c, err := wsclient.Dial(context.Background(), url, &wsclient.Options{Header: h})
	check(err)
	p := page{c}
	p.frame() // the greeting
	return p
}

func (p page) say(frame string) { check(p.Write(context.Background(), ws.OpText, []byte(frame))) }

func (p page) frame() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	check(err)
	return string(b)
}

// hear is the next frame for people.
func (p page) hear() string {
	var f struct {
		Event, Channel string
		Data           json.RawMessage
	}
	check(json.Unmarshal([]byte(p.frame()), &f))
	if f.Event == "subscription_succeeded" || f.Event == "subscription_error" {
		return f.Event + " " + f.Channel
	}
	return f.Event + " " + f.Channel + " " + string(f.Data)
}

func (p page) subscribe(channel string) {
	p.say(`{"event":"subscribe","channel":"` + channel + `"}`)
	fmt.Println(p.hear())
}

func (p page) close() { p.Close(1000, "") }

func check(err error) {
	if err != nil {
		panic(err)
	}
}
