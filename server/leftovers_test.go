package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// holdings are what a process has open.
type holdings struct{ goroutines, descriptors int }

func nowHeld() holdings {
	h := holdings{goroutines: runtime.NumGoroutine(), descriptors: -1}
	if d, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.descriptors = len(d)
	}
	return h
}

// heldAgain waits until no more is held than before.
func heldAgain(t *testing.T, before holdings) {
	t.Helper()
	var now holdings
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now = nowHeld(); now.goroutines <= before.goroutines && now.descriptors <= before.descriptors {
			return
		}
	}
	stacks := make([]byte, 1<<20)
	t.Fatalf("%+v are held, and before it were %+v\n%.20000s", now, before, stacks[:runtime.Stack(stacks, true)])
}

// TestNothingIsLeftOfConnections opens connections, subscribes, and drops them in every way there is and at every moment.
func TestNothingIsLeftOfConnections(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 1000
	}
	onEach(t, func(t *testing.T, tr transport) {
		n := n
		if tr == overTLS {
			n /= 2 // whose handshakes are most of the work
		}
		var asked atomic.Int32
		var open atomic.Pointer[chan struct{}] // what the application's code waits for
		closed := make(chan struct{})
		close(closed)
		open.Store(&closed)
		a := auth.New()
		a.AllowAnonymous()
		a.Identify(func(r *http.Request) (auth.User, error) {
			u := auth.User{ID: r.URL.Query().Get("user")}
			if u.ID == "slow" {
				asked.Add(1)
				<-*open.Load()
			}
			return u, nil
		})
		a.Channel("slow.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
			asked.Add(1)
			<-*open.Load()
			return auth.Grant{MemberID: "m"}, nil
		})
		a.Channel("room.{id}", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
			return auth.Grant{MemberID: u.ID}, nil
		})
		s := startOn(t, tr, Config{Auth: a, Loops: 2, Limits: Limits{AuthorizeTime: forever, Handshake: time.Minute}})

		// joined is a connection that listens to some channels and is a member of one.
		joined := func(i int) *raw {
			room := fmt.Sprintf("presence-room.%d", i%10)
			p := s.upgraded(fmt.Sprintf("/ws?user=u%d", i), join(masked(ws.OpText, subscribe("news")), masked(ws.OpText, subscribe(fmt.Sprintf("own-%d", i))), masked(ws.OpText, subscribe(room)))...)
			p.greeted()
			for seen := 0; seen < 3; {
				_, f, err := p.read()
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(f), "subscription_succeeded") {
					seen++
				}
			}
			return p
		}
		ways := []struct {
			name string
			drop func(i int)
		}{
			{"a close handshake", func(i int) {
				p := joined(i)
				p.write(closing(1000, "bye"))
				for op := ws.OpText; op != ws.OpClose; {
					var err error
					if op, _, err = p.read(); err != nil {
						t.Errorf("no close frame: %v", err)
						return
					}
				}
				if _, _, err := p.read(); err != io.EOF {
					t.Errorf("after the close frame comes %v", err)
				}
				p.Close()
			}},
			{"the end of the stream", func(i int) { joined(i).Close() }},
			{"a reset", func(i int) { joined(i).reset() }},
			{"a broken frame, and no look at the answer", func(i int) {
				p := joined(i)
				p.write([]byte{0xff, 0xff})
				p.Close()
			}},
			{"half a frame", func(i int) {
				p := joined(i)
				p.write(masked(ws.OpText, subscribe("late"))[:20])
				p.reset()
			}},
			{"nothing at all", func(i int) { s.connect().Close() }},
			{"half a request", func(i int) {
				p := s.connect()
				p.write([]byte(upgradeRequest("/ws")[:60]))
				p.Close()
			}},
			{"half of another request", func(i int) {
				p := s.connect()
				p.write([]byte("POST /apps/1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"))
				p.reset()
			}},
			{"a whole request, and no look at the answer", func(i int) {
				p := s.connect()
				p.write([]byte(upgradeRequest("/ws")))
				p.Close()
			}},
			{"a subscription, and no look at the answer", func(i int) {
				p := s.connect()
				p.write(append([]byte(upgradeRequest("/ws")), masked(ws.OpText, subscribe("news"))...))
				p.reset()
			}},
			{"while it is identified", func(i int) {
				p := s.connect()
				p.write([]byte(upgradeRequest("/ws?user=slow")))
				eventually(t, "somebody is asked", func() bool { return asked.Load() > 0 })
				p.Close()
			}},
			{"while an authorizer decides", func(i int) {
				p := s.upgraded("/ws", masked(ws.OpText, subscribe(fmt.Sprintf("presence-slow.%d", i)))...)
				p.greeted()
				eventually(t, "somebody is asked", func() bool { return asked.Load() > 0 })
				if i%2 == 0 {
					p.Close()
				} else {
					p.reset()
				}
			}},
			{"half of a TLS handshake", func(i int) {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc})
				c.Close()
			}},
		}
		run := func(n int) {
			var wg sync.WaitGroup
			next := make(chan int)
			for range 16 {
				wg.Go(func() {
					for i := range next {
						ways[i%len(ways)].drop(i)
					}
				})
			}
			for i := range n {
				next <- i
			}
			close(next)
			wg.Wait()
		}
		channels := func() int {
			n := 0
			for i := range 2000 {
				for _, name := range []string{"news", "late", fmt.Sprintf("own-%d", i), fmt.Sprintf("presence-room.%d", i), fmt.Sprintf("presence-slow.%d", i)} {
					if _, known := s.hub.Info(hub.Key{App: s.appID(""), Name: name}); known {
						n++
					}
				}
			}
			return n
		}
		run(len(ways)) // what is made once, is made
		eventually(t, "the warm-up is over", func() bool { return s.entered() == 0 && s.open() == 0 && channels() == 0 })
		later := make(chan struct{})
		open.Store(&later)
		asked.Store(0)
		before := settled()
		run(n)
		close(later)
		eventually(t, "no connection is counted", func() bool { return s.entered() == 0 && s.open() == 0 })
		eventually(t, "no channel is known", func() bool { return channels() == 0 })
		heldAgain(t, before)
		s.dial("").quiet()
	})
}

// settled is what is held when it has stopped changing.
func settled() holdings {
	h := nowHeld()
	for same := 0; same < 20; time.Sleep(time.Millisecond) {
		if now := nowHeld(); now == h {
			same++
		} else {
			h, same = now, 0
		}
	}
	return h
}
