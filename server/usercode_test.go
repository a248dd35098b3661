package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// onEach runs a test on every transport.
func onEach(t *testing.T, f func(t *testing.T, tr transport)) {
	for _, tr := range transports {
		t.Run(string(tr), func(t *testing.T) { f(t, tr) })
	}
}

// blocking authorizes channels "slow.…" when open is closed, whatever its context says; entered and left count calls.
type blocking struct {
	open          chan struct{}
	entered, left atomic.Int32
}

func (b *blocking) auth() *auth.Auth {
	b.open = make(chan struct{})
	a := byQuery()
	a.Channel("slow.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
		b.entered.Add(1)
		defer b.left.Add(1)
		<-b.open
		return auth.Grant{MemberID: "m"}, nil
	})
	a.Channel("quick.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	return a
}

func subscribe(channel string) string { return `{"event":"subscribe","channel":"` + channel + `"}` }
func succeeded(channel string) string {
	return `{"event":"subscription_succeeded","channel":"` + channel + `"}`
}

func TestASlowAuthorizerDelaysNobody(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		var b blocking
		s := startOn(t, tr, Config{Auth: b.auth(), Loops: 1})
		p := s.upgraded("/ws", masked(ws.OpText, subscribe("private-slow.1"))...)
		p.greeted()
		eventually(t, "the authorizer is asked", func() bool { return b.entered.Load() == 1 })
		// Its own commands, to other channels, and both kinds of ping.
		p.write(masked(ws.OpPing, "are you there"))
		p.want(ws.OpPong, "are you there")
		p.write(masked(ws.OpText, `{"event":"ping","id":1}`))
		p.want(ws.OpText, `{"event":"pong","id":1}`)
		p.write(masked(ws.OpText, subscribe("private-quick.1")))
		p.want(ws.OpText, succeeded("private-quick.1"))
		// And everybody else's.
		q := s.dial("")
		q.say(subscribe("private-quick.1"))
		q.want(succeeded("private-quick.1"))
		s.send(event("private-quick.1", `1`))
		q.want(`{"event":"E","channel":"private-quick.1","data":1}`)
		p.want(ws.OpText, `{"event":"E","channel":"private-quick.1","data":1}`)
		close(b.open)
		p.want(ws.OpText, succeeded("private-slow.1"))
	})
}

func TestHandlersThatWaitForTheirClientsDoNotDeadlock(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		n := 1000
		if tr != loops {
			n = 100
		}
		var answers sync.Map // socket id → chan string
		var srv *Server
		var waiting atomic.Int32
		all := make(chan struct{}) // closed when every handler waits at once
		s := startOn(t, tr, Config{Handlers: map[string]Handler{
			"ask": func(ctx context.Context, in Inbound) (any, error) {
				answer := make(chan string, 1)
				answers.Store(in.Client.SocketID, answer)
				if waiting.Add(1) == int32(n) {
					close(all)
				}
				<-all
				if err := srv.Send(ctx, &realtime.Message{Channels: []string{"to-" + in.Client.SocketID}, Event: "Question", Data: json.RawMessage(`1`)}); err != nil {
					return nil, err
				}
				select {
				case a := <-answer:
					return a, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			},
			"answer": func(_ context.Context, in Inbound) (any, error) {
				c, ok := answers.Load(in.Client.SocketID)
				if !ok {
					return nil, errors.New("nobody asked")
				}
				c.(chan string) <- string(in.Data)
				return nil, nil
			},
		}})
		srv = s.Server
		var peers []*peer
		for range n {
			p := s.dial("")
			peers = append(peers, p)
			p.say(subscribe("to-" + p.SocketID))
			p.say(`{"event":"ask","id":1}`)
		}
		for i, p := range peers {
			p.want(succeeded("to-"+p.SocketID), `{"event":"Question","channel":"to-`+p.SocketID+`","data":1}`)
			p.say(fmt.Sprintf(`{"event":"answer","data":%d}`, i))
			p.want(fmt.Sprintf(`{"event":"ack","id":1,"data":"%d"}`, i))
		}
	})
}

func TestManyWaitingCommandsHoldTheConnectionAndLoseNothing(t *testing.T) {
	const n = 300
	onEach(t, func(t *testing.T, tr transport) {
		for _, packets := range []string{"one packet", "a packet each"} {
			t.Run(packets, func(t *testing.T) {
				var b blocking
				s := startOn(t, tr, Config{Auth: b.auth(), Limits: Limits{WhispersPerSecond: -1}})
				p := s.upgraded("/ws")
				id := p.greeted()
				var frames [][]byte
				say := func(f string) { frames = append(frames, masked(ws.OpText, f)) }
				say(subscribe("private-slow.1"))
				for i := 1; i <= n; i++ {
					say(fmt.Sprintf(`{"event":"client-x","channel":"private-slow.1","id":%d}`, i))
					if i == 63 || i == 64 {
						say(fmt.Sprintf(`{"event":"ping","id":"after %d"}`, i))
					}
				}
				if packets == "one packet" {
					var all []byte
					for _, f := range frames {
						all = append(all, f...)
					}
					p.write(all)
				} else {
					for _, f := range frames {
						p.write(f)
					}
				}
				// The 64th waiting command stops the reading: what is behind it is not answered.
				p.want(ws.OpText, `{"event":"pong","id":"after 63"}`)
				eventually(t, "the connection is held", func() bool {
					held := make(chan bool, 1)
					s.hub.Each(hub.Select{App: s.appID(""), Socket: id}, func(c *hub.Client) { held <- c.Held() })
					return <-held
				})
				q := s.dial("") // others go on
				q.quiet()
				close(b.open)
				p.want(ws.OpText, succeeded("private-slow.1"))
				for i, pong := 1, false; i <= n || !pong; {
					_, f, err := p.read()
					switch {
					case err != nil:
						t.Fatalf("after answer %d: %v", i-1, err)
					case string(f) == `{"event":"pong","id":"after 64"}` && !pong && i > 1:
						pong = true
					case string(f) == fmt.Sprintf(`{"event":"ack","id":%d}`, i):
						i++
					default:
						t.Fatalf("after answer %d comes %s", i-1, f)
					}
				}
			})
		}
	})
}

func TestSaturatedAuthorizersRefuseWithAReason(t *testing.T) {
	var b blocking
	s := start(t, Config{Auth: b.auth(), Limits: Limits{Authorizing: 3}})
	var ps []*peer
	for i := range 3 {
		p := s.dial("")
		p.say(subscribe(fmt.Sprintf("private-slow.%d", i)))
		ps = append(ps, p)
	}
	eventually(t, "three are asked", func() bool { return b.entered.Load() == 3 })
	p := s.dial("")
	p.say(subscribe("private-quick.1"))
	p.want(trouble("subscription_error", "", "private-quick.1", 4100, "ServerError", "the server is busy with 3 other requests; try again later", 503))
	p.say(subscribe("public")) // which asks nobody
	p.want(succeeded("public"))
	close(b.open)
	for i, p := range ps {
		p.want(succeeded(fmt.Sprintf("private-slow.%d", i)))
	}
	eventually(t, "the calls have ended", func() bool { return b.left.Load() == 3 })
	p.say(subscribe("private-quick.1"))
	p.want(succeeded("private-quick.1"))
}

func TestAnAuthorizerHasADeadline(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		var b blocking
		a := b.auth()
		a.Channel("heedful.{id}", func(ctx context.Context, _ *auth.User, _ auth.Params) (auth.Grant, error) {
			<-ctx.Done()
			return auth.Grant{}, fmt.Errorf("asking the database: %w", ctx.Err())
		})
		a.Channel("gone.{id}", func(ctx context.Context, _ *auth.User, _ auth.Params) (auth.Grant, error) {
			runtime.Goexit()
			return auth.Grant{}, nil
		})
		s := startOn(t, tr, Config{Auth: a, Limits: Limits{AuthorizeTime: 20 * time.Millisecond}})
		p := s.dial("")
		for range 5 { // whoever ends the call, the client hears the same
			for _, ch := range []string{"presence-slow.1", "private-heedful.1", "private-gone.1"} {
				p.say(subscribe(ch))
				p.want(trouble("subscription_error", "", ch, 4300, "ServerError", "no decision within 20ms", 500))
			}
		}
		close(b.open)
		eventually(t, "the late grants are given", func() bool { return b.left.Load() == 5 })
		p.quiet() // and nobody wants them any more
		if n := s.Subscriptions("", "presence-slow.1"); n != 0 || len(s.Members("", "presence-slow.1")) != 0 {
			t.Errorf("%d late grants took effect", n)
		}
	})
}

func TestAPanicOfTheApplicationCostsOnlyItsCall(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		a := auth.New()
		a.AllowAnonymous()
		a.Identify(func(r *http.Request) (auth.User, error) {
			if r.URL.Query().Get("user") == "panic" {
				panic("in Identify")
			}
			return auth.User{}, nil
		})
		a.Channel("panic.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { panic("in the authorizer") })
		a.Channel("fine.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
		var hooked atomic.Int32
		s := startOn(t, tr, Config{
			Auth:     a,
			Hook:     func(context.Context, Event) { hooked.Add(1); panic("in the hook") },
			Handlers: map[string]Handler{"panic": func(context.Context, Inbound) (any, error) { panic("in the handler") }},
		})
		p := s.dial("")
		p.say(subscribe("private-panic.1"))
		p.want(trouble("subscription_error", "", "private-panic.1", 4300, "ServerError", "the server could not decide; its log says why", 500))
		p.say(`{"event":"panic","id":1}`)
		p.want(trouble("error", `"id":1`, "", 4300, "ServerError", "the server could not decide; its log says why", 500))
		p.say(subscribe("private-fine.1"))
		p.want(succeeded("private-fine.1"))
		eventually(t, "the hook is told of everything", func() bool { return hooked.Load() == 4 }) // connected, refused, subscribed, occupied
		_, err := wsclient.Dial(t.Context(), s.url("?user=panic"), &wsclient.Options{TLS: s.tls})
		if he, ok := errors.AsType[*wsclient.HandshakeError](err); !ok || he.Status != 500 || he.Body != `{"error":"identification failed","code":500}`+"\n" {
			t.Errorf("a panic in Identify gives %v", err)
		}
		if n := s.entered(); n != 1 {
			t.Errorf("the gate counts %d connections", n)
		}
		p.quiet()
	})
}

func TestAGrantAfterTheConnectionsEndIsDiscarded(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		var b blocking
		ended := make(chan string, 2)
		s := startOn(t, tr, Config{Auth: b.auth(), Loops: 1, Hook: func(_ context.Context, e Event) {
			if e.Kind == Disconnected {
				ended <- e.Client.SocketID
			}
		}})
		p := s.dial("")
		p.say(subscribe("presence-slow.1"))
		p.say(`{"event":"client-x","channel":"presence-slow.1","data":1}`) // waits behind it
		eventually(t, "the authorizer is asked", func() bool { return b.entered.Load() == 1 })
		p.Close(1000, "")
		if id := <-ended; id != p.SocketID {
			t.Fatalf("%s has ended, not %s", id, p.SocketID)
		}
		close(b.open)
		eventually(t, "the grant is given", func() bool { return b.left.Load() == 1 })
		q := s.dial("")
		q.quiet()
		if n := s.Subscriptions("", "presence-slow.1"); n != 0 || len(s.Members("", "presence-slow.1")) != 0 {
			t.Errorf("a connection that has ended has %d subscriptions", n)
		}
		if n := s.entered(); n != 1 {
			t.Errorf("the gate counts %d connections, not only the new one", n)
		}
	})
}

// A handler that goes on behind its deadline disturbs nobody.
func TestAHandlerThatReturnsTooLate(t *testing.T) {
	gone := make(chan struct{})
	s := start(t, Config{Loops: 1, Limits: Limits{AuthorizeTime: 10 * time.Millisecond}, Handlers: map[string]Handler{
		"ask": func(context.Context, Inbound) (any, error) {
			defer close(gone)
			time.Sleep(50 * time.Millisecond) // and waits for nobody: that would put in order what must be safe without
			return "late", nil
		},
	}})
	p := s.dialSIO("")
	p.say(`421["ask"]`)
	p.want(`431[{"ok":false,"code":4300,"message":"no decision within 10ms","status":500}]`)
	<-gone
	p.quiet()
}
