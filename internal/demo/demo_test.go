package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

const order = `{"orderId":"12345","userId":"ann","products":[{"id":"prod_1","name":"Widget","quantity":2},{"id":"prod_2","name":"Gadget","quantity":1}],` +
	`"totalAmount":99.99,"shippingAddress":{"street":"123 Main St","city":"Anytown","country":"USA","postalCode":"12345"}}`

// start runs the demo until the test ends, and returns the address it prints, without the slash at its end.
func start(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Run(ctx, "127.0.0.1:0", w)
		w.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url, ok := strings.CutSuffix(line, "/\n")
	if !ok || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("Run wrote %q, which is no address", line)
	}
	return url
}

type peer struct {
	*wsclient.Conn
	t *testing.T
}

func dial(t *testing.T, url, user string) peer {
	t.Helper()
	c, err := wsclient.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws?user="+user, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(1000, "") })
	p := peer{c, t}
	if hello := p.next(); !strings.HasPrefix(hello, `{"event":"connection_established"`) {
		t.Fatalf("greeting is %s", hello)
	}
	return p
}

func (p peer) next() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := p.ReadMessage(ctx)
	if err != nil {
		p.t.Fatalf("no further frame: %v", err)
	}
	return string(b)
}

// ask sends one command and wants one frame back.
func (p peer) ask(command, want string) {
	p.t.Helper()
	if err := p.Write(p.t.Context(), ws.OpText, []byte(command)); err != nil {
		p.t.Fatal(err)
	}
	p.want(want)
}

func (p peer) want(want string) {
	p.t.Helper()
	if got := p.next(); got != want {
		p.t.Fatalf("frame is\n%s\nand should be\n%s", got, want)
	}
}

// post sends a body to /broadcast.
func post(t *testing.T, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/broadcast", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestAnOrderReachesEachKindOfChannel(t *testing.T) {
	url := start(t)
	public, private, presence := dial(t, url, "cyd"), dial(t, url, "ann"), dial(t, url, "bob")
	public.ask(`{"event":"subscribe","channel":"notifications"}`, `{"event":"subscription_succeeded","channel":"notifications"}`)
	private.ask(`{"event":"subscribe","channel":"private-orders.12345"}`, `{"event":"subscription_succeeded","channel":"private-orders.12345"}`)
	presence.ask(`{"event":"subscribe","channel":"presence-chat-room"}`,
		`{"event":"subscription_succeeded","channel":"presence-chat-room","data":{"presence":{"count":1,"ids":["bob"],"hash":{"bob":{"id":"bob","info":{"name":"Bob"}}}},"me":{"id":"bob"}}}`)
	if status, body := post(t, url, order); status != http.StatusAccepted || body != "{\"ok\":true}\n" {
		t.Fatalf("the order is answered %d %s", status, body)
	}
	private.want(`{"event":"OrderShipped","channel":"private-orders.12345","data":` + order + `}`)
	public.want(`{"event":"OrderShipped","channel":"notifications","data":{"orderId":"12345","city":"Anytown"}}`)
	presence.want(`{"event":"OrderShipped","channel":"presence-chat-room","data":{"orderId":"12345","city":"Anytown"}}`)
}

func TestAnotherCustomersOrderIsRefused(t *testing.T) {
	ann := dial(t, start(t), "ann")
	ann.ask(`{"event":"subscribe","channel":"private-orders.54321"}`,
		`{"event":"subscription_error","channel":"private-orders.54321","data":{"code":4009,"type":"AuthError","error":"order 54321 belongs to Bob, and you are Ann","status":401}}`)
}

func TestABadOrderIsToldWhatIsWrongAndHeardByNobody(t *testing.T) {
	url := start(t)
	p := dial(t, url, "ann")
	p.ask(`{"event":"subscribe","channel":"notifications"}`, `{"event":"subscription_succeeded","channel":"notifications"}`)
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"orderId":"1"`, 422, "OrderShipped"},
		{strings.Replace(order, `"userId":"ann",`, "", 1), 422, "userId"},
		{strings.Replace(order, `"12345"`, `""`, 1), 422, "an order needs an orderId"},
		{strings.Replace(order, `"12345"`, `"a b"`, 1), 422, "orders.a b"},
		{strings.Repeat(" ", orderBytes) + order, 413, "65536 bytes"},
	} {
		status, body := post(t, url, c.body)
		var answer struct{ Error string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != c.status || !strings.Contains(answer.Error, c.says) {
			t.Errorf("order %.60s… is answered %d %s; want %d and %q", c.body, status, body, c.status, c.says)
		}
	}
	post(t, url, order)
	p.want(`{"event":"OrderShipped","channel":"notifications","data":{"orderId":"12345","city":"Anytown"}}`)
}

// Other web sites, and names that somebody else points at this machine, get nothing out of the demo.
func TestOtherSitesAreRefused(t *testing.T) {
	url := start(t)
	if status, body := post(t, url, order, "Origin", "https://evil.example"); status != http.StatusForbidden {
		t.Errorf("a cross-origin order is answered %d %s", status, body)
	}
	if status, body := post(t, url, order, "Host", "evil.example"); status != http.StatusForbidden {
		t.Errorf("an order for another host is answered %d %s", status, body)
	}
	if _, err := wsclient.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws?user=ann", &wsclient.Options{Header: http.Header{"Origin": {"https://evil.example"}}}); err == nil {
		t.Error("a WebSocket of another site is let in")
	}
}

func TestThePageIsForItsUser(t *testing.T) {
	url := start(t)
	get := func(path, cookie string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			req.AddCookie(&http.Cookie{Name: cookieName, Value: cookie})
		}
		return do(t, req)
	}
	for _, c := range []struct {
		path, cookie string
		status       int
		says         string
	}{
		{"/", "", 200, `data-user="ann" data-other-order="54321"`},
		{"/", "bob", 200, `data-user="bob" data-other-order="12345"`},
		{"/?user=cyd", "bob", 200, `data-user="cyd"`},
		{"/?user=%3Cb%3E", "", 400, "is not a name the demo takes"},
		{"/demo.js", "", 200, "new WebSocket"},
		{"/demo.css", "", 200, "color-scheme"},
		{"/health", "", 200, "ok\n"},
		{"/nothing", "", 404, "nothing is served at /nothing"},
	} {
		if status, body := get(c.path, c.cookie); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("GET %s with cookie %q is answered %d without %q:\n%.300s", c.path, c.cookie, status, c.says, body)
		}
	}
}

func TestOnlyThisMachineIsServed(t *testing.T) {
	for _, addr := range []string{":6001", "0.0.0.0:6001", "[::]:6001", "192.0.2.1:6001", "shop.example:6001"} {
		if err := Run(t.Context(), addr, io.Discard); err == nil || !strings.Contains(err.Error(), "use 127.0.0.1") {
			t.Errorf("Run on %s: %v", addr, err)
		}
	}
	if err := Run(t.Context(), "127.0.0.1", io.Discard); err == nil {
		t.Error("Run without a port is no error")
	}
}

func TestTheEndIsToldToClients(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, "127.0.0.1:0", w) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, strings.TrimSuffix(line, "/\n"), "ann")
	cancel()
	p.want(`{"event":"error","data":{"code":4200,"type":"ServerError","error":"the server is restarting: connect again","status":503}}`)
	p.Close(1000, "")
	if err := <-done; err != nil {
		t.Fatalf("Run: %v", err)
	}
}
