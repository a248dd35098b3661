package server

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	io "github.com/stacksjs/realtime-go/socketio"
)

var offsetOf = regexp.MustCompile(`^4[25](?:\d+-)?(/a,)?\[.*,"([0-9a-f]{8}\.[0-9a-f]{14})"\]$`)

// returner is a client in two namespaces that goes and comes back.
type returner struct {
	ears
	s       *live
	ids     [2]string
	pids    [2]string
	offsets [2]string
	in      int // namespaces it is in again
}

// place tells the namespaces apart.
func (r *returner) place(nsp string) int {
	if nsp != "" {
		return 1
	}
	return 0
}

func (r *returner) connects() []string {
	var out []string
	for i, nsp := range []string{"", "/a,"} {
		auth := ""
		if r.pids[i] != "" {
			auth = `{"pid":"` + r.pids[i] + `"`
			if r.offsets[i] != "" {
				auth += `,"offset":"` + r.offsets[i] + `"`
			}
			auth += "}"
		}
		out = append(out, "40"+nsp+auth)
	}
	return out
}

func (r *returner) take(text string) error {
	if m := welcomed.FindStringSubmatch(text); m != nil {
		i := r.place(m[1])
		if r.ids[i] != "" && (m[2] != r.ids[i] || m[3] != r.pids[i]) {
			return fmt.Errorf("it comes back as %s, and was %s", text, r.ids[i])
		}
		if r.in&(1<<i) != 0 {
			return fmt.Errorf("it is let in twice: %s", text)
		}
		r.in |= 1 << i
		r.ids[i], r.pids[i] = m[2], m[3]
		return nil
	}
	if m := offsetOf.FindStringSubmatch(text); m != nil {
		if i := r.place(m[1]); r.in&(1<<i) == 0 {
			return fmt.Errorf("%s comes before it is let in", text)
		} else {
			r.offsets[i] = m[2]
		}
	}
	return r.packet(text)
}

// overWebSocket is in both namespaces until it has heard some more events.
func (r *returner) overWebSocket(enough int) error {
	p := r.s.openSIO("")
	p.say(r.connects()...)
	for from := r.heard; r.heard < from+enough || r.in < 3; {
		text, err := p.packet()
		if err == nil {
			err = r.take(text)
		}
		if err != nil {
			return err
		}
	}
	p.reset()
	return nil
}

func (r *returner) overPolling(enough int) error {
	p := r.s.openPoller("")
	defer p.web.CloseIdleConnections()
	p.say(r.connects()...)
	for from := r.heard; r.heard < from+enough || r.in < 3; {
		status, body, err := p.do(context.Background(), http.MethodGet, "")
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("a GET is answered with %d %s, %v", status, body, err)
		}
		for text := range strings.SplitSeq(body, "\x1e") {
			if err := r.take(text); err != nil {
				return err
			}
		}
	}
	if enough%2 == 0 { // what these are answered with, nobody gets
		p.giveUp()
		p.giveUp()
	}
	p.do(context.Background(), http.MethodPost, "1")
	return nil
}

// Two namespaces of one connection come back at the same time, under fire, on either transport: each client is who it
// was, and its events are whole and in order.
func TestTwoNamespacesComeBackUnderFire(t *testing.T) {
	times := 150
	if testing.Short() {
		times = 40
	}
	for _, tr := range []transport{loops, portable} {
		t.Run(string(tr), func(t *testing.T) {
			say := io.New(io.Options{Logger: quiet()})
			for _, name := range []string{"/", "/a"} {
				say.Namespace(name).OnConnect(func(ctx context.Context, s *io.Socket) error { return s.Join(ctx, "room") })
			}
			s := startOn(t, tr, Config{IO: say, Loops: 2})
			ctx, stop := context.WithCancel(t.Context())
			var fire sync.WaitGroup
			defer fire.Wait()
			defer stop()
			for _, name := range []string{"/", "/a"} {
				fire.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						if err := say.Of(name).To("room").Emit(ctx, "e", name, n); err != nil && ctx.Err() == nil {
							t.Error(err)
						}
						time.Sleep(200 * time.Microsecond) // the rate of fire
					}
				})
			}
			r := &returner{s: s}
			for i := range times {
				r.in = 0
				stay := r.overWebSocket
				if i%2 == 1 {
					stay = r.overPolling
				}
				if err := stay(1 + i%7); err != nil {
					t.Fatalf("stay %d: %v", i, err)
				}
				eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 0 })
			}
			t.Logf("%d events in %d stays", r.heard, times)
		})
	}
}

// What a client asked over a connection that it has given up may be read behind what it asks over the next one. It must not
// take the client away from there, and what the client has heard since is not to be sent again.
func TestAClientIsNotTakenOverByAnOlderConnection(t *testing.T) {
	for _, tr := range []transport{loops, portable} {
		t.Run(string(tr), func(t *testing.T) {
			say := io.New(io.Options{Logger: quiet()})
			say.Namespace("/")
			say.Namespace("/a")
			s := startOn(t, tr, Config{IO: say, Loops: 2})
			first := s.dialSIO("")
			sid, back := first.SocketID, `{"pid":"`+first.pid+`"}`
			late, later := s.openSIO(""), s.openSIO("")
			second := s.openSIO("")
			if got := second.enter("/", back); got != sid { // first's loss has not been noticed
				t.Fatalf("%s came back as %s", sid, got)
			}
			if _, _, err := first.read(); err == nil {
				t.Fatal("the former connection is still there")
			}
			if got := late.enter("/", back); got == sid {
				t.Fatal("an older connection took the client over")
			}
			if got := second.enter("/a", back); got == sid {
				t.Fatal("the client came back while it was there")
			}
			second.quiet()
			second.reset()
			eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 2 })
			if got := later.enter("/", back); got == sid {
				t.Fatal("an older connection took the client that is away")
			}
			if got := s.openSIO("").enter("/", back); got != sid {
				t.Fatalf("%s came back as %s", sid, got)
			}
		})
	}
}

// A client that comes back with a new token goes on by that, also if the one by which it came has expired meanwhile.
func TestAClientComesBackWithANewToken(t *testing.T) {
	for _, where := range []string{"CONNECT", "query"} {
		t.Run(where, func(t *testing.T) {
			clk := newClock(time.Now())
			a := auth.New()
			a.AllowAnonymous()
			a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
			s := start(t, Config{Auth: a, Loops: 1, now: clk.now})
			s.clock = clk
			come := func(user, back string, expires time.Time) (p *sioPeer, answer string) {
				token := issue(t, auth.Claims{Subject: user, ExpiresAt: expires})
				if where == "query" {
					p = s.openSIO("&token=" + token)
					p.say("40{" + strings.TrimPrefix(back, ",") + "}")
				} else {
					p = s.openSIO("")
					p.say(`40{"token":"` + token + `"` + back + "}")
				}
				return p, p.next()
			}
			p, answer := come("10", "", clk.now().Add(time.Minute))
			m := welcomed.FindStringSubmatch(answer)
			if m == nil {
				t.Fatalf("it is answered with %s", answer)
			}
			back := `,"pid":"` + m[3] + `"`
			p.Close()
			eventually(t, "its loss is seen", func() bool { return s.entered() == 0 })
			s.at(clk.now().Add(time.Minute + late))
			p, again := come("10", back, clk.now().Add(time.Hour))
			if again != answer {
				t.Errorf("it comes back as %s, and was %s", again, answer)
			}
			p.quiet()
			// Somebody else does not come back as who it was.
			p.Close()
			eventually(t, "its loss is seen", func() bool { return s.entered() == 0 })
			_, other := come("11", back, clk.now().Add(time.Hour))
			if m := welcomed.FindStringSubmatch(other); m == nil || other == answer {
				t.Errorf("another user is answered with %s", other)
			}
			// And who is not let in is not, whoever it was.
			p = s.openSIO("&token=nonsense")
			p.say("40{" + back[1:] + "}")
			if got := p.next(); !strings.HasPrefix(got, `44{"message":"token is not a JWT`) {
				t.Errorf("who is not let in is answered with %s", got)
			}
			p, answer = come("10", back, clk.now().Add(time.Hour))
			if answer != again {
				t.Errorf("it comes back as %s, and was %s", answer, again)
			}
			p.quiet()
		})
	}
}

// A client that is refused when it comes back gets nothing of what came meanwhile, and takes nothing away from others on its
// connection.
func TestAClientThatIsRefusedWhenItComesBackHearsNothing(t *testing.T) {
	for _, tr := range []transport{loops, portable} {
		t.Run(string(tr), func(t *testing.T) {
			for _, polling := range []bool{false, true} {
				decide, asked := make(chan struct{}), make(chan struct{}, 10)
				say := io.New(io.Options{Logger: quiet()})
				say.Namespace("/a").OnConnect(func(_ context.Context, s *io.Socket) error {
					asked <- struct{}{}
					if _, again := s.Data().(string); again {
						<-decide
						return &io.Error{Message: "banned"}
					}
					s.SetData("seen")
					return nil
				})
				s := startOn(t, tr, Config{IO: say, Loops: 2})
				p := s.dialSIO("")
				p.say("40/a,")
				in := welcomed.FindStringSubmatch(p.next())
				<-asked
				p.Close()
				eventually(t, "its loss is seen", func() bool { return s.entered() == 0 })
				connects := []string{`40/a,{"pid":"` + in[3] + `"}`, `40{"pid":"` + p.pid + `"}`}
				var hear func() string // what comes until it is refused, or the connection ends
				if polling {
					q := s.openPoller("")
					q.say(connects...)
					hear = func() (all string) {
						for !strings.Contains(all, "banned") {
							status, body := q.get()
							if status != http.StatusOK {
								return all
							}
							all += body
						}
						return all
					}
				} else {
					q := s.openSIO("")
					q.say(connects...)
					hear = func() (all string) {
						for !strings.Contains(all, "banned") {
							_, b, err := q.read()
							if err != nil {
								return all
							}
							all += string(b)
						}
						return all
					}
				}
				<-asked
				for _, nsp := range []string{"/a", "/"} {
					if err := say.Of(nsp).Emit(t.Context(), "to "+nsp, 1); err != nil {
						t.Fatal(err)
					}
				}
				close(decide)
				if all := hear(); strings.Contains(all, "to /") {
					t.Errorf("it hears %s", all)
				}
				q := s.openSIO("")
				if id := q.enter("/", strings.TrimPrefix(connects[1], "40")); id != p.SocketID {
					t.Errorf("%s came back as %s", p.SocketID, id)
				}
				if got := q.next(); !withOffset(`42["to /",1]`).MatchString(got) {
					t.Errorf("what it missed is %s", got)
				}
				q.say(connects[0])
				if got := q.next(); !strings.HasPrefix(got, "40/a,") || strings.Contains(got, in[2]) {
					t.Errorf("the other, who begins anew, is answered with %s", got)
				}
				q.quiet()
			}
		})
	}
}

// After a network has been away all clients come back at once, and have all missed much: none at the cost of another.
func TestManyComeBackAtOnce(t *testing.T) {
	const messages = 200
	clients := 300
	if testing.Short() {
		clients = 150
	}
	s := start(t, Config{Loops: 1})
	pad := strings.Repeat("x", 1000)
	peers := make([]*sioPeer, clients)
	for i := range peers {
		peers[i] = s.dialSIO("")
		peers[i].subscribe("news")
	}
	for _, p := range peers {
		p.reset()
	}
	eventually(t, "it is seen that all have gone", func() bool { return s.entered() == 0 })
	for n := range messages {
		if err := s.Send(t.Context(), &realtime.Message{Channels: []string{"news"}, Event: "e", Data: fmt.Appendf(nil, `"%d %s"`, n, pad)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, was := range peers {
		p := s.openSIO("")
		if got := p.enter("/", `{"pid":"`+was.pid+`"}`); got != was.SocketID {
			t.Fatalf("client %d of %d does not come back", i, clients)
		}
		for n := range messages {
			if text, want := p.next(), fmt.Sprintf(`42["e",{"event":"e","channel":"news","data":"%d %s"`, n, pad); !strings.HasPrefix(text, want) {
				t.Fatalf("client %d missed %.80s, and is sent %.80s", i, want, text)
			}
		}
	}
}

// What a client asks for, again and again, is kept for it alone, while it is not known to have it.
func TestNobodyCostsAnotherTheReturn(t *testing.T) {
	s := start(t, Config{Loops: 1, Channels: []Channel{{Pattern: "kept", History: History{Size: 100, Age: time.Hour, Bytes: 4 << 20}}}})
	send := func(channel, data string) {
		t.Helper()
		if err := s.Send(t.Context(), &realtime.Message{Channels: []string{channel}, Event: "e", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		send("kept", `"`+strings.Repeat("x", 10_000)+`"`)
	}
	p := s.dialSIO("")
	p.subscribe("news")
	p.reset()
	eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 0 })
	send("news", "1")
	stranger := s.dialSIO("")
	for range 30 { // of 1 MB
		stranger.say(`421["subscribe",{"channel":"kept","rewind":100}]`)
		for range 101 {
			stranger.next()
		}
		stranger.say(`422["unsubscribe","kept"]`)
		stranger.next()
	}
	for n := range 20_000 { // each of which it may have heard of until it left
		stranger.say(fmt.Sprintf(`42["subscribe","c%d"]`, n), fmt.Sprintf(`422["unsubscribe","c%d"]`, n))
		stranger.next()
	}
	back := s.openSIO("")
	if got := back.enter("/", `{"pid":"`+p.pid+`"}`); got != p.SocketID {
		t.Fatal("the client does not come back")
	}
	if got, want := back.next(), `42["e",{"event":"e","channel":"news","data":1`; !strings.HasPrefix(got, want) {
		t.Errorf("it missed %s, and is sent %s", want, got)
	}
}

// A client is sent all that it missed at once: if that is more than may wait for a connection, it comes back as a new one.
func TestWhoMissedTooMuchIsNew(t *testing.T) {
	s := start(t, Config{Loops: 1, Limits: Limits{QueuedBytes: 1 << 20}})
	pad := strings.Repeat("x", 100_000)
	for messages, same := range map[int]bool{10: true, 11: false} {
		p := s.dialSIO("")
		p.subscribe("news")
		p.reset()
		eventually(t, "it is seen that the client has gone", func() bool { return s.entered() == 0 })
		for range messages {
			if err := s.Send(t.Context(), &realtime.Message{Channels: []string{"news"}, Event: "e", Data: []byte(`"` + pad + `"`)}); err != nil {
				t.Fatal(err)
			}
		}
		back := s.openSIO("")
		if got := back.enter("/", `{"pid":"`+p.pid+`"}`); (got == p.SocketID) != same {
			t.Errorf("who missed %d messages of 100 kB comes back as %s, and was %s", messages, got, p.SocketID)
		}
		back.reset()
		eventually(t, "it has gone again", func() bool { return s.entered() == 0 })
	}
}
