package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	io "github.com/stacksjs/realtime-go/socketio"
)

// TestNothingIsLeftOfSocketIO opens connections of every kind, and drops them in every way there is and at every moment.
func TestNothingIsLeftOfSocketIO(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 400
	}
	onEach(t, func(t *testing.T, tr transport) {
		if testing.Short() && tr != loops {
			t.Skip("the hub's broom takes ten seconds")
		}
		n := n
		if tr == overTLS {
			n /= 2
		}
		say := io.New(io.Options{Logger: quiet()})
		var in, out atomic.Int32
		for _, name := range []string{"/", "/a"} {
			ns := say.Namespace(name)
			ns.OnConnect(func(ctx context.Context, s *io.Socket) error {
				if s.Handshake().Query.Get("user") == "nobody" {
					return &io.Error{Message: "no"}
				}
				err := s.Join(ctx, "all", "own-"+s.ID())
				if err == nil {
					in.Add(1)
				}
				return err
			})
			ns.OnDisconnect(func(context.Context, *io.Socket, string) { out.Add(1) })
		}
		who := auth.New()
		who.AllowAnonymous()
		who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.URL.Query().Get("user")}, nil })
		who.Channel("room.{id}", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
			return auth.Grant{MemberID: u.ID}, nil
		})
		clk := newClock(time.Now())
		s := startOn(t, tr, Config{IO: say, Auth: who, Loops: 2, now: clk.now})
		s.clock = clk
		room := func(i int) string { return fmt.Sprintf("presence-room.%d", i%10) }
		user := func(i int) string { return fmt.Sprintf("&user=u%d", i) }
		joined := func(i int) *sioPeer {
			p := s.dialSIO(user(i))
			p.enter("/a", "")
			p.say(`421["subscribe","`+room(i)+`"]`, `42/a,2["subscribe","news"]`)
			for seen := 0; seen < 2; {
				if got := p.next(); strings.HasPrefix(got, "431[{\"ok\":true") || strings.HasPrefix(got, "43/a,2[{\"ok\":true") {
					seen++
				}
			}
			return p
		}
		polling := func(i int) *sioPoller {
			p := s.dialPoller(user(i))
			p.say(`421["subscribe","` + room(i) + `"]`)
			for got := ""; !strings.HasPrefix(got, "431"); {
				got = p.next()
			}
			return p
		}
		upgraded := func(i int) (*sioPoller, *sioPeer) {
			p := polling(i)
			c := p.probe()
			for got := ""; got != "6"; { // and what the channel says
				got = p.next()
			}
			c.say("5")
			return p, c
		}
		var mu sync.Mutex
		var sids []string // guarded by mu: sessions of those who polled
		quit := func(p *sioPoller) {
			p.web.CloseIdleConnections()
			mu.Lock()
			defer mu.Unlock()
			sids = append(sids, p.sid)
		}
		ways := []func(i int){
			func(i int) { joined(i).Close() },
			func(i int) { joined(i).reset() },
			func(i int) { // in order
				p := joined(i)
				p.say("41", "41/a,")
				p.write(closing(1000, ""))
				p.Close()
			},
			func(i int) { p := joined(i); p.say("1"); p.Close() },
			func(i int) { p := joined(i); p.say("garbage"); p.Close() },
			func(i int) { p := joined(i); p.say(`451-["x",` + holder + `]`); p.Close() }, // before its attachment
			func(i int) { // refused, by its namespace and by the program
				p := s.openSIO("&user=nobody")
				p.say("40/x,", "40")
				p.want(`44/x,{"message":"Invalid namespace"}`, `44{"message":"no"}`)
				p.Close()
			},
			func(i int) { s.openSIO(user(i)).Close() },
			func(i int) { p := s.openSIO(user(i)); p.say("40", "40/a,"); p.reset() }, // while the program is asked
			func(i int) { // a request that is none of the protocol's
				p := s.connect()
				p.write([]byte(upgradeRequest("/socket.io/?EIO=9&transport=websocket")))
				p.response()
				p.Close()
			},
			func(i int) { p := polling(i); p.say("1"); quit(p) },
			func(i int) { p := polling(i); p.say("41"); p.say("1"); quit(p) },
			func(i int) { p := polling(i); p.giveUp(); quit(p) },
			func(i int) { p := polling(i); p.post("garbage"); quit(p) },
			func(i int) { quit(polling(i)) }, // until the heartbeat
			func(i int) { quit(s.openPoller(user(i))) },
			func(i int) { p := polling(i); p.slowBody(100, "42").Close(); quit(p) },
			func(i int) { p, c := upgraded(i); c.Close(); quit(p) },
			func(i int) { p, c := upgraded(i); c.say("1"); c.Close(); quit(p) },
			func(i int) { p := polling(i); p.probe().Close(); p.say("1"); quit(p) },
			func(i int) { p := polling(i); c := p.probe(); p.say("1"); c.Close(); quit(p) }, // the session first
			func(i int) { // a WebSocket that is not wanted, beside one that is
				p, c := upgraded(i)
				d := &sioPeer{raw: s.upgraded(overWebSocket + "&sid=" + p.sid)}
				d.say("2probe")
				for op := ws.OpText; op != ws.OpClose; {
					op, _, _ = d.read()
				}
				d.Close()
				c.Close()
				quit(p)
			},
			func(i int) { // comes back, and goes again
				p := joined(i)
				pid := p.pid
				p.reset()
				q := s.openSIO(user(i))
				q.say(`40{"pid":"` + pid + `"}`)
				if i%2 == 0 {
					q.next()
				}
				q.Close()
			},
		}
		run := func(n int) {
			var wg sync.WaitGroup
			next := make(chan int)
			for range 16 {
				wg.Go(func() {
					for i := range next {
						ways[i%len(ways)](i)
					}
				})
			}
			for i := range n {
				next <- i
			}
			close(next)
			wg.Wait()
		}
		known := func() (n int) {
			for i := range 10 {
				if _, known := s.hub.Info(hubKey(s, room(i))); known {
					n++
				}
			}
			if _, known := s.hub.Info(hubKey(s, "news")); known {
				n++
			}
			for i := range 2000 { // users' own channels
				if _, known := s.hub.Info(hubKey(s, fmt.Sprintf("#server-to-user-u%d", i))); known {
					n++
				}
			}
			return n
		}
		gone := func() {
			t.Helper()
			for range 6 { // the heartbeat of those who do not ask, and what may come back does not
				s.pass(25*time.Second + late)
			}
			eventually(t, "no connection is counted", func() bool { return s.entered() == 0 && s.open() == 0 })
			s.pass(3 * time.Minute)
			eventually(t, "the program has heard of every end", func() bool { return in.Load() == out.Load() })
			for _, nsp := range []string{"/", "/a"} {
				if sockets, err := say.Of(nsp).Sockets(t.Context()); err != nil || len(sockets) != 0 {
					t.Fatalf("%d sockets are left in %s, %v", len(sockets), nsp, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			p := &sioPoller{t: t, s: s, web: s.web()}
			for _, sid := range sids {
				p.url = s.http() + overPolling + "&sid=" + sid
				p.wantGone()
			}
			sids = nil
			p.web.CloseIdleConnections()
		}
		run(len(ways)) // what is made once, is made
		gone()
		before := settled()
		run(n)
		gone()
		heldAgain(t, before)
		eventually(t, "no channel is known", func() bool { return known() == 0 }) // the hub's broom comes every ten seconds
		if in.Load() == 0 {
			t.Error("nobody was let in")
		}
		s.dialSIO("").quiet()
	})
}

// Whoever is there when the server goes is told, on whatever transport and at whatever moment, and it ends in time.
func TestShutdownTellsSocketIOClients(t *testing.T) {
	for _, tr := range []transport{loops, mounted, overTLS, portable} {
		t.Run(string(tr), func(t *testing.T) {
			before := settled()
			t.Run("server", func(t *testing.T) {
				say := io.New(io.Options{Logger: quiet()})
				asked := make(chan struct{}, 1)
				decide := make(chan struct{})
				say.Namespace("/slow").OnConnect(func(context.Context, *io.Socket) error {
					asked <- struct{}{}
					<-decide
					return nil
				})
				s := startOn(t, tr, Config{IO: say, Loops: 2})
				const n = 20
				var told sync.WaitGroup
				expect := func(who string, hear func() (string, error), last ...string) {
					told.Go(func() {
						var all []string
						for {
							got, err := hear()
							if err != nil {
								t.Errorf("%s hears %q, and then %v", who, all, err)
								return
							}
							if all = append(all, got); got == last[len(last)-1] {
								break
							}
						}
						if strings.Join(all, "|") != strings.Join(last, "|") {
							t.Errorf("%s hears %q, and should %q", who, all, last)
						}
					})
				}
				overWS := func(p *sioPeer) func() (string, error) {
					return func() (string, error) {
						op, b, err := p.read()
						if err == nil && op == ws.OpClose {
							p.Close()
							return fmt.Sprintf("close %d %s", closeCode(b), b[2:]), nil
						}
						return string(b), err
					}
				}
				const closed = "close 4200 " + restarts
				for range n {
					expect("a WebSocket", overWS(s.dialSIO("")), closed)
					expect("a WebSocket in no namespace", overWS(s.openSIO("")), closed)
					for _, p := range []*sioPoller{s.dialPoller(""), s.openPoller("")} {
						answer := p.getting(t.Context())
						expect("who polls", func() (string, error) {
							select {
							case got := <-answer:
								return got, nil
							case <-time.After(2 * time.Minute): // it has had another one
								return "", errors.New("no further answer")
							}
						}, "200 1")
						t.Cleanup(p.web.CloseIdleConnections)
					}
					p := s.dialPoller("")
					c := p.probe()
					p.want("6")
					upgrade := sync.OnceFunc(func() { // in the midst of which the server goes
						eventually(t, "it goes", s.draining.Load)
						c.say("5")
					})
					expect("who has heard the probe", func() (string, error) {
						upgrade()
						got, err := overWS(c)()
						return got[:min(len(got), 5)], err // without its code: it is that of the session, or of the server
					}, "close")
				}
				p := s.openSIO("")
				p.say("40/slow,")
				<-asked
				expect("who is asked about", overWS(p), closed)
				// A connection may be closed while a request is on its way over it, and who asks then over a new one is not heard.
				eventually(t, "all requests wait", func() bool {
					return strings.Count(goroutines(), "socketio.(*engine).speak(") == 2*n
				})
				s.rounds()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.Shutdown(ctx) }()
				told.Wait()
				close(decide)
				if err := <-done; err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
			heldAgain(t, before)
		})
	}
}

// Whom OnConnect lets in has an OnDisconnect, also if it is gone by then.
func TestEveryConnectOfAProgramHasItsDisconnect(t *testing.T) {
	for name, leave := range map[string]func(*live, *sioPeer){
		"the client goes": func(s *live, p *sioPeer) {
			p.Close()
			eventually(t, "that is seen", func() bool { return s.entered() == 0 })
		},
		"the connection is closed": func(s *live, p *sioPeer) {
			p.say("garbage")
			eventually(t, "that is seen", func() bool { return s.entered() == 0 })
		},
		"it comes too late": func(s *live, p *sioPeer) {},
	} {
		t.Run(name, func(t *testing.T) {
			asked, decide := make(chan struct{}), make(chan error)
			ended := make(chan string, 2)
			say := io.New(io.Options{Logger: quiet()})
			ns := say.Namespace("/")
			ns.OnConnect(func(context.Context, *io.Socket) error {
				asked <- struct{}{}
				return <-decide
			})
			ns.OnDisconnect(func(_ context.Context, s *io.Socket, reason string) { ended <- reason })
			s := start(t, Config{IO: say, Loops: 1})
			p := s.openSIO("")
			p.say("40")
			<-asked
			leave(s, p)
			decide <- nil
			if name == "it comes too late" {
				p.next()
				p.Close()
			}
			eventually(t, "the program hears of the end", func() bool { return len(ended) > 0 })
			switch got := <-ended; got {
			case "transport close", "parse error":
			default:
				t.Errorf("it ends for %q", got)
			}
			// Whom it does not let in has none.
			q := s.openSIO("")
			q.say("40")
			<-asked
			decide <- &io.Error{Message: "no"}
			q.want(`44{"message":"no"}`)
			select {
			case got := <-ended:
				t.Errorf("and once more, for %q", got)
			default:
			}
		})
	}
}

// A server that has ended is let go of, also if clients of it could have come back.
func TestNothingIsLeftOfAServer(t *testing.T) {
	var left atomic.Int64
	for _, tr := range []transport{loops, portable} {
		t.Run(string(tr), func(t *testing.T) {
			s := startOn(t, tr, Config{Loops: 2})
			left.Add(1)
			runtime.AddCleanup(s.Server, func(int) { left.Add(-1) }, 0)
			gone := s.dialSIO("")
			gone.subscribe("news")
			gone.reset()
			s.dialSIO("").subscribe("news")
			s.dial("")
			eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 2 })
		})
	}
	eventually(t, "the servers are let go of", func() bool {
		runtime.GC()
		return left.Load() == 0
	})
}
