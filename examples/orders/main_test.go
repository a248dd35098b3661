package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/examples/orders/app/shop"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// visitor is a browser: one cookie jar for its requests and its WebSocket.
type visitor struct {
	t    *testing.T
	http http.Client
	base string
	ws   *wsclient.Conn
}

func start(t *testing.T) string {
	t.Helper()
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	app, handler, err := open(t.Context(), shop.New(func() time.Time { return noon }))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.BaseContext = func(net.Listener) context.Context {
		return realtime.WithBroadcaster(context.Background(), app.Broadcaster)
	}
	srv.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := app.Close(ctx); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return srv.URL
}

// visit signs a user in and connects.
func visit(t *testing.T, base, user string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, base: base, http: http.Client{Jar: jar}}
	v.post("/sign-in", "application/x-www-form-urlencoded", "user="+user, http.StatusOK)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Origin": {base}}
	for _, c := range jar.Cookies(u) {
		header.Add("Cookie", c.String())
	}
	if v.ws, err = wsclient.Dial(t.Context(), "ws://"+u.Host+"/ws", &wsclient.Options{Header: header}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.ws.Close(1000, "") })
	if hello := v.hear(); !strings.HasPrefix(hello, `{"event":"connection_established"`) {
		t.Fatalf("greeting is %s", hello)
	}
	return v
}

func (v *visitor) post(path, kind, body string, status int) string {
	v.t.Helper()
	res, err := v.http.Post(v.base+path, kind, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		v.t.Fatalf("POST %s is answered %d %s (%v), and should be %d", path, res.StatusCode, b, err, status)
	}
	return string(b)
}

func (v *visitor) say(frame string) {
	v.t.Helper()
	if err := v.ws.Write(v.t.Context(), ws.OpText, []byte(frame)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitor) hear() string {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := v.ws.ReadMessage(ctx)
	if err != nil {
		v.t.Fatalf("no further frame: %v", err)
	}
	return string(b)
}

func (v *visitor) hears(want string) {
	v.t.Helper()
	if got := v.hear(); got != want {
		v.t.Fatalf("frame is\n%s\nand should be\n%s", got, want)
	}
}

func TestFromAnOrderToTheFrameABrowserGets(t *testing.T) {
	base := start(t)
	ann, bob := visit(t, base, "user_123"), visit(t, base, "user_456")

	const order = `{"products":[{"id":"prod_1","name":"Widget","quantity":2},{"id":"prod_2","name":"Gadget","quantity":1}],"totalAmount":99.99,` +
		`"shippingAddress":{"street":"123 Main St","city":"Anytown","country":"USA","postalCode":"12345"}}`
	if got := ann.post("/orders", "application/json", order, http.StatusCreated); got != "{\"orderId\":\"12345\"}\n" {
		t.Fatalf("the order is answered %s", got)
	}
	bob.say(`{"event":"subscribe","channel":"private-orders.12345"}`)
	bob.hears(`{"event":"subscription_error","channel":"private-orders.12345","data":{"code":4009,"type":"AuthError","error":"this is not an order of yours","status":401}}`)
	bob.post("/orders/12345/ship", "", "", http.StatusNotFound)

	ann.say(`{"event":"subscribe","channel":"private-orders.12345"}`)
	ann.hears(`{"event":"subscription_succeeded","channel":"private-orders.12345"}`)
	ann.post("/orders/12345/ship", "", "", http.StatusNoContent)
	ann.hears(`{"event":"OrderShipped","channel":"private-orders.12345","data":{"orderId":"12345","userId":"user_123",` +
		`"products":[{"id":"prod_1","name":"Widget","quantity":2},{"id":"prod_2","name":"Gadget","quantity":1}],"totalAmount":99.99,` +
		`"shippingAddress":{"street":"123 Main St","city":"Anytown","country":"USA","postalCode":"12345"},"shippedAt":"2026-01-02T12:00:00Z"}}`)
}

func TestAMessageReachesItsSenderOnly(t *testing.T) {
	base := start(t)
	ann, bob := visit(t, base, "ann"), visit(t, base, "bob")
	bob.say(`{"event":"subscribe","channel":"private-chat.ann"}`)
	bob.hears(`{"event":"subscription_error","channel":"private-chat.ann","data":{"code":4009,"type":"AuthError","error":"this is not your chat","status":401}}`)
	ann.say(`{"event":"subscribe","channel":"private-chat.ann"}`)
	ann.hears(`{"event":"subscription_succeeded","channel":"private-chat.ann"}`)
	ann.post("/messages", "application/x-www-form-urlencoded", "content=Hello%21", http.StatusNoContent)
	ann.hears(`{"event":"NewMessage","channel":"private-chat.ann","data":{"content":"Hello!","sender":"ann","timestamp":"2026-01-02T12:00:00Z"}}`)
}
