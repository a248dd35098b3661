package bench

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// socketIOServer speaks what the load generator needs of Socket.IO, and makes the mistakes it is told to make.
type socketIOServer struct {
	t   *testing.T
	url string
	// open, connected and subscribed are the server's packets; by default the right ones.
	open, connected, subscribed string
	// deliver returns the packets that a subscriber, by its number, gets for message n.
	deliver func(subscriber, n int, packet string) []string
	pong    string

	conns       sync.WaitGroup
	mu          sync.Mutex
	last        int
	messages    int
	subscribers []*socketIOConn
	heard       map[string][]string // by request: what its connection said
}

type socketIOConn struct {
	s   *socketIOServer
	net net.Conn
	id  string
	uri string
}

func startSocketIO(t *testing.T, s *socketIOServer) *socketIOServer {
	s.t, s.heard = t, map[string][]string{}
	for p, right := range map[*string]string{
		&s.open:       `0{"sid":"e1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`,
		&s.connected:  `40{"sid":"ID"}`,
		&s.subscribed: `430[{"ok":true,"channel":"bench.0"}]`,
		&s.pong:       `430[{"ok":true,"channel":"bench.echo"}]`,
	} {
		if *p == "" {
			*p = right
		}
	}
	if s.deliver == nil {
		s.deliver = func(_, _ int, packet string) []string { return []string{packet} }
	}
	h := httptest.NewServer(s)
	s.url = "ws" + strings.TrimPrefix(h.URL, "http") + "/socket.io/"
	t.Cleanup(func() {
		h.Close()
		s.conns.Wait()
	})
	return s
}

func (s *socketIOServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := ws.CheckUpgrade(r); err != nil {
		http.Error(w, err.Reason, err.Status)
		return
	}
	s.conns.Add(1) // before the connection is no longer its server's, which Close waits for
	defer s.conns.Done()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	conn.Write(ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), ws.Upgrade{}))
	s.mu.Lock()
	s.last++
	c := &socketIOConn{s: s, net: conn, id: fmt.Sprintf("id%d", s.last), uri: r.URL.RequestURI()}
	s.mu.Unlock()
	c.say(s.open)
	var reader ws.Reader
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err == nil {
			_, err = reader.Feed(&ws.Config{MaxMessage: 1 << 20}, buf[:n], c)
		}
		if err != nil {
			return
		}
	}
}

func (c *socketIOConn) say(packet string) {
	c.net.Write(ws.AppendFrame(nil, ws.OpText, []byte(packet)))
}

func (c *socketIOConn) Control(ws.Op, []byte) bool { return true }

func (c *socketIOConn) Message(_ ws.Op, payload []byte) bool {
	s, packet := c.s, string(payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[c.uri] = append(s.heard[c.uri], packet)
	var args []json.RawMessage
	if at := strings.IndexByte(packet, '['); at > 0 {
		if err := json.Unmarshal(payload[at:], &args); err != nil {
			s.t.Errorf("%s: %v", packet, err)
		}
	}
	switch {
	case packet == "40":
		c.say("2")
	case packet == "3":
		c.say(strings.ReplaceAll(s.connected, "ID", c.id))
	case strings.HasPrefix(packet, `420["subscribe",`):
		s.subscribers = append(s.subscribers, c)
		c.say(s.subscribed)
	case strings.HasPrefix(packet, `420["unsubscribe",`):
		c.say(s.pong)
	case strings.HasPrefix(packet, `420["publish",`):
		c.say(`430[{"ok":true}]`)
	case strings.HasPrefix(packet, `42["publish",`):
		var m struct {
			Channel, Event string
			Data           json.RawMessage
			Except         []string
		}
		if err := json.Unmarshal(args[1], &m); err != nil {
			s.t.Errorf("%s: %v", packet, err)
		}
		delivery := fmt.Sprintf(`42["%s",{"event":"%s","channel":"%s","data":%s}]`, m.Event, m.Event, m.Channel, m.Data)
		for i, to := range s.subscribers {
			if slices.Contains(m.Except, to.id) {
				continue
			}
			for _, packet := range s.deliver(i, s.messages, delivery) {
				to.say(packet)
			}
		}
		s.messages++
	default:
		s.t.Errorf("the load generator says %s", packet)
	}
	return true
}

func (s *socketIOServer) said(uri string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[uri]
}

func TestSocketIOClientsSayWhatTheProtocolAsks(t *testing.T) {
	s := startSocketIO(t, &socketIOServer{})
	r, err := Run(t.Context(), Config{URL: s.url, Protocol: SocketIO, Token: "t", Work: Fanout, Subscribers: 1, Messages: 2, Size: 80})
	if err != nil || r.Err() != nil || r.Count != 2 {
		t.Fatalf("%v: %+v", err, r)
	}
	data := func(n int) string {
		return fmt.Sprintf(`{"n":%d,"g":%d,"p":0,"c":"bench.0","pad":"%s"}`, n, n, strings.Repeat("x", 30))
	}
	for uri, want := range map[string][]string{
		"/socket.io/?EIO=4&transport=websocket": {"40", "3", `420["subscribe","bench.0"]`},
		"/socket.io/?EIO=4&token=t&transport=websocket": {"40", "3", `420["publish",{"channel":"bench.ready","event":"ready","data":{}}]`,
			`42["publish",{"channel":"bench.0","event":"m","data":` + data(0) + `}]`, `42["publish",{"channel":"bench.0","event":"m","data":` + data(1) + `}]`},
	} {
		if got := s.said(uri); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, and should be\n%q", uri, got, want)
		}
	}
}

func TestSocketIORoundTrips(t *testing.T) {
	for _, pong := range []string{"", `430[{"channel":"bench.echo","ok":true,"other":1}]`} {
		s := startSocketIO(t, &socketIOServer{pong: pong})
		r, err := Run(t.Context(), Config{URL: s.url, Protocol: SocketIO, Work: Echo, Connections: 1, Duration: time.Millisecond})
		if err != nil || r.Count == 0 {
			t.Errorf("%v: %+v", err, r)
		}
		heard := s.said("/socket.io/?EIO=4&transport=websocket")
		for _, ping := range heard[2:] {
			if ping != `420["unsubscribe","bench.echo"]` {
				t.Errorf("the ping is %s", ping)
			}
		}
	}
}

// TestSocketIODeliveriesAreCounted: one subscriber of two gets message 50, which every fault is about, as the server sends it.
func TestSocketIODeliveriesAreCounted(t *testing.T) {
	const messages = 128
	var held string
	for name, c := range map[string]struct {
		deliver func(n int, packet string) []string
		except  bool
		count   int64
		want    Faults
	}{
		"nothing wrong": {func(_ int, packet string) []string { return []string{packet} }, false, 256, Faults{}},
		"with the offset of recovery": {func(_ int, packet string) []string {
			return []string{packet[:len(packet)-1] + `,"MzUPkW0"]`}
		}, false, 256, Faults{}},
		"written in another way": {func(_ int, packet string) []string {
			var args []any
			json.Unmarshal([]byte(packet[2:]), &args)
			b, _ := json.MarshalIndent(args, "", " ")
			return []string{"42" + string(b)}
		}, false, 256, Faults{}},
		"other events": {func(_ int, packet string) []string {
			return []string{`42["presence"]`, packet, `42["member_added",{"event":"member_added","channel":"bench.0","data":{"id":"1"}},"a"]`, "6"}
		}, false, 256, Faults{}},
		"lost": {func(n int, packet string) []string {
			if n == 50 {
				return nil
			}
			return []string{packet}
		}, false, 255, Faults{Lost: 1}},
		"doubled": {func(n int, packet string) []string {
			if n == 50 {
				return []string{packet, packet}
			}
			return []string{packet}
		}, false, 256, Faults{Doubled: 1}},
		"out of order": {func(n int, packet string) []string {
			switch n {
			case 50:
				held = packet
				return nil
			case 51:
				return []string{packet, held}
			}
			return []string{packet}
		}, false, 256, Faults{OutOfOrder: 1}},
		"altered": {func(n int, packet string) []string {
			if n == 50 {
				packet = strings.Replace(packet, "xx", "xy", 1)
			}
			return []string{packet}
		}, false, 255, Faults{Altered: 1, Lost: 1}},
		"without data": {func(n int, packet string) []string {
			if n == 50 {
				packet = `42["m"]`
			}
			return []string{packet}
		}, false, 255, Faults{Altered: 1, Lost: 1}},
		"another event inside": {func(n int, packet string) []string {
			if n == 50 {
				packet = strings.Replace(packet, `{"event":"m",`, `{"event" : "other",`, 1)
				packet = strings.Replace(packet, `"data":{"n"`, `"data": {"n"`, 1)
			}
			return []string{packet}
		}, false, 255, Faults{Altered: 1, Lost: 1}},
		"one left out": {func(_ int, packet string) []string { return []string{packet} }, true, 128, Faults{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSocketIO(t, &socketIOServer{deliver: func(subscriber, n int, packet string) []string {
				if subscriber == 0 {
					return c.deliver(n, packet)
				}
				return []string{packet}
			}})
			cfg := Config{URL: s.url, Protocol: SocketIO, Work: Fanout, Subscribers: 2, Messages: messages, Except: c.except}
			if c.want.Lost > 0 {
				cfg.Stall = 500 * time.Millisecond
			}
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Published != messages || r.Count != c.count || r.Faults != c.want {
				t.Errorf("%d published, %d delivered, %+v; want %d, %d, %+v", r.Published, r.Count, r.Faults, messages, c.count, c.want)
			}
		})
	}
}

func TestSocketIOServersThatRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		s    *socketIOServer
		want string
	}{
		"no session":            {&socketIOServer{open: `0{}`}, `bench: subscriber 0: the server sent "0{}": want 0{"sid":…}, once`},
		"no handshake":          {&socketIOServer{open: `{"event":"connection_established"}`}, `bench: subscriber 0: the server sent "{\"event\":\"connection_established\"}", before its greeting`},
		"an older protocol":     {&socketIOServer{connected: `40`}, `bench: subscriber 0: the server sent "40": want 40{"sid":…}, once`},
		"no id":                 {&socketIOServer{connected: `40{}`}, `bench: subscriber 0: the server sent "40{}": want 40{"sid":…}, once`},
		"not authorized":        {&socketIOServer{connected: `44{"message":"no"}`}, `bench: subscriber 0: the server sent "44{\"message\":\"no\"}", before its greeting`},
		"a channel refused":     {&socketIOServer{subscribed: `430[{"ok":false,"code":4009}]`}, `bench: subscriber 0: the server answered 430[{"ok":false,"code":4009}]`},
		"an event of refusal":   {&socketIOServer{subscribed: `42["subscription_error",{"code":4009}]`}, `bench: subscriber 0: the server answered 42["subscription_error",{"code":4009}]`},
		"no acknowledgement":    {&socketIOServer{subscribed: `43[]`}, `bench: subscriber 0: the server answered 43[]`},
		"a packet in two parts": {&socketIOServer{subscribed: `451-["m",{"_placeholder":true,"num":0}]`}, `bench: subscriber 0: the server sent "451-[\"m\",{\"_placeholder\":true,\"num\":0}]", before it was subscribed`},
		"no event":              {&socketIOServer{subscribed: `42[]`}, `bench: subscriber 0: the server sent "42[]": want an event without acknowledgement`},
		"disconnected":          {&socketIOServer{subscribed: `41`}, `bench: subscriber 0: the server sent "41", before it was subscribed`},
		"an empty packet":       {&socketIOServer{subscribed: " "}, `bench: subscriber 0: the server sent " ", before it was subscribed`},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSocketIO(t, c.s)
			if _, err := Run(t.Context(), Config{URL: s.url, Protocol: SocketIO, Work: Connect, Connections: 1}); err == nil || err.Error() != c.want {
				t.Errorf("the error is\n%v\nand should be\n%s", err, c.want)
			}
		})
	}
}
