package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/encrypted"
	"github.com/stacksjs/realtime-go/server"
)

// builds is where the npm package has those for browsers.
var builds = filepath.Join("..", "clients", "node_modules", "pusher-js", "dist", "web")

// pusherPage is an application's page. Clients on it write down what they hear.
const pusherPage = `<!doctype html><meta charset="utf-8"><title>pusher-js</title>
<pre id="ann"></pre><pre id="bob"></pre>
<script src="/builds/%s"></script>
<script>
const q = new URLSearchParams(location.search), clients = {}
function say(name, ...words) { document.getElementById(name).textContent += words.join(' ') + '\n' }
function connect(name) {
  const [host, port] = q.get('server').split(':')
  const p = clients[name] = new Pusher('app-key', {
    cluster: '', wsHost: host, wsPort: port, httpHost: host, httpPort: port, forceTLS: false,
    enabledTransports: [q.get('transport')], channelAuthorization: { endpoint: '/sign/auth', headers: { 'X-User': name } },
  })
  p.connection.bind('connected', () => say(name, 'connected by', p.connection.connection.transport.name))
  p.connection.bind('error', (e) => say(name, 'error', JSON.stringify(e)))
}
function listen(name, channel) {
  let n = 0
  clients[name].subscribe(channel).bind_global((event, data) => {
    if (event !== 'n') say(name, channel, event, JSON.stringify(data))
    else if (data.n !== n++) say(name, 'message', n - 1, 'is', data.n)
    else if (data.last) say(name, 'messages', n)
  })
}
</script>`

// pusherServer serves a page and a server for it, at an origin of its own or, mounted, at that of the page.
func pusherServer(t *testing.T, mounted bool) (send *realtime.Broadcaster, page, at string) {
	t.Helper()
	a := auth.New()
	a.AllowAnonymous()
	a.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.Header.Get("X-User")}, nil })
	for _, channel := range []string{"orders.{id}", "room", "secret"} {
		a.Channel(channel, func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	}
	masterKey := []byte("0123456789abcdef0123456789abcdef")
	app := server.App{ID: "1", Keys: []auth.Key{{Key: "app-key", Secret: "app-secret"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/page/{build}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, pusherPage, r.PathValue("build"))
	})
	mux.Handle("/builds/", http.StripPrefix("/builds/", http.FileServer(http.Dir(builds))))
	mux.Handle("/sign/", a.Handler(auth.AppKeys{ID: app.ID, Keys: app.Keys}, auth.HandlerOptions{SharedSecret: func(channel string) []byte {
		secret := encrypted.SharedSecret(masterKey, channel)
		return secret[:]
	}}))
	web := httptest.NewUnstartedServer(mux)
	page = "http://" + web.Listener.Addr().String()
	cfg := server.Config{Apps: []server.App{app}, Auth: a, Logger: slog.New(slog.DiscardHandler), DrainWindow: time.Nanosecond}
	if !mounted {
		cfg.Origins = []string{page}
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at = web.Listener.Addr().String()
	if mounted {
		mux.Handle("/", s)
	} else {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at = ln.Addr().String()
		go s.Serve(context.Background(), ln) // until Shutdown
	}
	web.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		web.CloseClientConnections()
		web.Close()
	})
	encrypt, err := encrypted.Middleware(masterKey)
	if err != nil {
		t.Fatal(err)
	}
	if send, err = realtime.New(s, nil, encrypt); err != nil {
		t.Fatal(err)
	}
	return send, page, at
}

// TestPusherJS runs the unchanged builds of pusher-js in a page, by every transport, with a server at the page's origin
// and at another.
func TestPusherJS(t *testing.T) {
	if _, err := os.Stat(builds); err != nil {
		const why = "pusher-js is missing: run npm ci in interop/clients"
		if os.Getenv("REALTIME_CI") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	ctx := browser(t)
	for _, mounted := range []bool{true, false} {
		send, page, at := pusherServer(t, mounted)
		where := "at another origin"
		if mounted {
			where = "at the page's origin"
		}
		for _, build := range []string{"pusher.min.js", "pusher-with-encryption.min.js"} {
			for _, transport := range []string{"ws", "xhr_streaming", "xhr_polling"} {
				t.Run(fmt.Sprintf("%s/%s %s", build, transport, where), func(t *testing.T) {
					tab := tab{t, ctx}
					tab.do(chromedp.Navigate(fmt.Sprintf("%s/page/%s?transport=%s&server=%s", page, build, transport, at)))
					c := conversation{tab: tab, send: send, heard: map[string]string{}}
					c.take(transport, strings.Contains(build, "encryption"))
				})
			}
		}
	}
}

// conversation is what the clients of a page have heard.
type conversation struct {
	tab
	send  *realtime.Broadcaster
	heard map[string]string
}

// hears waits until a client has heard these lines, and nothing else, after those before.
func (c *conversation) hears(name string, lines ...string) {
	c.t.Helper()
	c.heard[name] += strings.Join(lines, "\n") + "\n"
	c.becomes("#"+name, c.heard[name])
}

func (c *conversation) run(script string) {
	c.t.Helper()
	is[bool](c.tab, script+"; true")
}

func (c *conversation) broadcast(channel, event, data string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.send.Send(ctx, &realtime.Message{Channels: []string{channel}, Event: event, Data: json.RawMessage(data)}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) take(transport string, encryption bool) {
	c.run(`connect('ann')`)
	c.hears("ann", "connected by "+transport)
	channels := []string{"news", "private-orders.1"}
	if encryption {
		channels = append(channels, "private-encrypted-secret")
	}
	for _, channel := range channels {
		c.run(fmt.Sprintf(`listen('ann', %q)`, channel))
		c.hears("ann", channel+" pusher:subscription_succeeded {}")
		c.broadcast(channel, "OrderShipped", `{"orderId":"1","note":"ä \"q\" 😀 <b>"}`)
		c.hears("ann", channel+` OrderShipped {"orderId":"1","note":"ä \"q\" 😀 <b>"}`)
	}

	c.run(`listen('ann', 'presence-room')`)
	c.hears("ann", `presence-room pusher:subscription_succeeded {"members":{"ann":null},"count":1,"myID":"ann","me":{"id":"ann","info":null}}`)
	c.run(`connect('bob')`)
	c.hears("bob", "connected by "+transport)
	c.run(`listen('bob', 'presence-room')`)
	c.hears("bob", `presence-room pusher:subscription_succeeded {"members":{"ann":null,"bob":null},"count":2,"myID":"bob","me":{"id":"bob","info":null}}`)
	c.hears("ann", `presence-room pusher:member_added {"id":"bob","info":null}`)
	c.run(`clients.ann.channel('presence-room').trigger('client-typing', {who: 'ann'})`)
	c.hears("bob", `presence-room client-typing {"who":"ann"}`)
	c.run(`clients.bob.channel('presence-room').trigger('client-typing', {who: 'bob'})`)
	c.hears("ann", `presence-room client-typing {"who":"bob"}`)

	// More than one response of a streaming client takes.
	const n = 200
	text := strings.Repeat("x漢😀", 1000)
	for i := range n {
		c.broadcast("private-orders.1", "n", fmt.Sprintf(`{"n":%d,"last":%t,"text":"%s"}`, i, i == n-1, text))
	}
	c.hears("ann", fmt.Sprintf("messages %d", n))

	c.run(`clients.bob.disconnect()`)
	c.hears("ann", `presence-room pusher:member_removed {"id":"bob","info":null}`)
	c.run(`clients.ann.disconnect()`)
}
