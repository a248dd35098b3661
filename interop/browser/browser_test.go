// Package browser drives pages in a real browser: the demo's, and one of pusher-js's builds for browsers.
package browser

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/stacksjs/realtime-go/internal/demo"
)

// patience is for what never comes; nothing waits as long when it works.
const patience = 30 * time.Second

// browser starts a headless Chromium with a profile of its own. Where there is none the test is skipped, except where
// REALTIME_CI=1 says that there has to be one.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		const why = "no Chromium found: install chromium to test pages in a browser"
		if os.Getenv("REALTIME_CI") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	flag := chromedp.Flag
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		flag("headless", true), flag("no-sandbox", true), flag("disable-gpu", true), flag("disable-quic", true),
		flag("no-first-run", true), flag("disable-background-networking", true), flag("disable-component-update", true),
		flag("disable-sync", true), flag("disable-dev-shm-usage", true), chromedp.WindowSize(1280, 1100),
	}, more...)...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits for the browser, which still writes its profile
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%s does not start: %v", path, err)
	}
	return ctx
}

// serve runs the demo on addr until the function returned is called, or the test ends.
func serve(t *testing.T, addr string) (page string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := demo.Run(ctx, addr, w)
		w.CloseWithError(err)
		done <- err
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), stop
}

// tab is one page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (b tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open opens the page as a user and waits until all its listeners listen.
func open(t *testing.T, ctx context.Context, page, user string) tab {
	t.Helper()
	b := tab{t, ctx}
	b.do(chromedp.Navigate(page + "?user=" + user))
	b.listening()
	return b
}

func (b tab) listening() {
	b.t.Helper()
	for _, kind := range []string{"public", "private", "presence"} {
		b.becomes("#"+kind+"-state", "listening")
	}
}

// becomes waits until an element's text is exactly want.
func (b tab) becomes(selector, want string) {
	b.t.Helper()
	b.holds(fmt.Sprintf("document.querySelector(%q)?.textContent", selector), want)
}

// holds waits until a JavaScript expression is the text want. It looks at each change of the page, because tabs in the
// background are not painted.
func (b tab) holds(expression, want string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](fmt.Sprintf("%s === %q", expression, want), chromedp.WithPollingMutation(), chromedp.WithPollingTimeout(0))); err != nil {
		got, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression+" ?? '(nothing)'"))
		b.t.Fatalf("%s is\n%s\nand should become\n%s\n(%v)", expression, got, want, err)
	}
}

// is says what a JavaScript expression is worth.
func is[T any](b tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// look keeps pictures of the page, light and dark, in the directory that REALTIME_SCREENSHOTS names: for people.
func (b tab) look(name string) {
	dir := os.Getenv("REALTIME_SCREENSHOTS")
	if dir == "" {
		return
	}
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		is[bool](b, fmt.Sprintf("document.documentElement.style.colorScheme = %q, document.getAnimations().forEach(a => a.finish()), true", scheme))
		png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

const members = `[...document.querySelectorAll("#members li")].map(m => m.textContent).join()`

func (b tab) members(want string) {
	b.t.Helper()
	b.holds(members, want)
}

// set fills a field as somebody does who types over what was there.
func set(id, value string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.Focus(chromedp.CSS("#"+id)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf("document.getElementById(%q).select()", id)),
		chromedp.KeyEvent(value),
	)
}

func TestAnOrderArrivesOnEveryKindOfChannel(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ann := open(t, browser(t), page, "ann")
	ann.becomes("#connection-text", "Connected")
	ann.members("Ann")
	ann.do(
		set("order-id", "777"), set("user-id", "user_123"), set("product-1-name", "Lamp"), set("product-1-quantity", "3"),
		set("street", "Zürichstraße 1 <b>"), set("city", "Wien"), set("country", "Austria"), set("postal-code", "1010"), set("total-amount", "12.5"),
		chromedp.KeyEvent("\r"),
	)
	const notice = "{\n  \"orderId\": \"777\",\n  \"city\": \"Wien\"\n}"
	ann.becomes("#form-result", "Broadcast: order 777 is on its way.")
	ann.becomes("#private-channel", "private-orders.777")
	ann.becomes("#private-events li:first-child strong", "OrderShipped")
	ann.becomes("#private-events li:first-child pre", `{
  "orderId": "777",
  "userId": "user_123",
  "products": [
    {
      "id": "prod_1",
      "name": "Lamp",
      "quantity": 3
    },
    {
      "id": "prod_2",
      "name": "Gadget",
      "quantity": 1
    }
  ],
  "totalAmount": 12.5,
  "shippingAddress": {
    "street": "Zürichstraße 1 <b>",
    "city": "Wien",
    "country": "Austria",
    "postalCode": "1010"
  }
}`)
	ann.becomes("#public-events li:first-child strong", "OrderShipped")
	ann.becomes("#public-events li:first-child pre", notice)
	ann.becomes("#presence-events li:first-child strong", "OrderShipped")
	ann.becomes("#presence-events li:first-child pre", notice)
	for _, kind := range []string{"public", "private", "presence"} {
		if n := is[int](ann, fmt.Sprintf(`document.querySelectorAll("#%s-events li").length`, kind)); n != 1 {
			t.Errorf("the %s listener shows %d events, and should show 1", kind, n)
		}
	}
	ann.look("order")
}

// An order is shipped only when its listener is there, however long the subscription takes.
func TestAnOrderWaitsForItsListener(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ann := open(t, browser(t), page, "ann")
	is[bool](ann, `(send => WebSocket.prototype.send = function (frame) { setTimeout(() => send.call(this, frame), 300) })(WebSocket.prototype.send), true`)
	ann.do(set("order-id", "888"), chromedp.KeyEvent("\r"))
	ann.becomes("#form-result", "Broadcast: order 888 is on its way.")
	ann.becomes("#private-events li:first-child strong", "OrderShipped")
}

func TestARefusedChannelShowsWhy(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ann := open(t, browser(t), page, "ann")
	ann.do(chromedp.Focus(chromedp.CSS("#refuse")), chromedp.KeyEvent(" "))
	ann.becomes("#refused", "Refused: order 54321 belongs to Bob, and you are Ann")
	ann.do(set("order-id", "54321"), chromedp.KeyEvent("\t"))
	ann.becomes("#private-state", "refused: order 54321 belongs to Bob, and you are Ann")
	ann.do(set("order-id", "not a name"), chromedp.KeyEvent("\r"))
	ann.holds(`document.querySelector("#form-result").dataset.state`, "no")
	if got := is[string](ann, `document.querySelector("#form-result").textContent`); !strings.Contains(got, "orders.not a name") {
		t.Errorf("a bad order is answered %q", got)
	}
	if got := is[int](ann, `document.querySelectorAll(".events li").length`); got != 0 {
		t.Errorf("%d events arrived of an order that was refused", got)
	}
	ann.look("refused")
}

func TestMembersComeAndGo(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ctx := browser(t)
	ann := open(t, ctx, page, "ann")
	ann.members("Ann")
	second, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	if err := chromedp.Do(second); err != nil { // a tab lives as long as the context of its first call
		t.Fatal(err)
	}
	bob := open(t, second, page, "bob")
	bob.members("Ann,Bob")
	ann.members("Ann,Bob")
	ann.becomes("#member-count", "2")
	ann.becomes("#presence-events li:first-child strong", "Bob joined")
	ann.look("members")
	closeTab()
	ann.members("Ann")
	ann.becomes("#member-count", "1")
	ann.becomes("#presence-events li:first-child strong", "Bob left")
}

func TestThePageComesBackAfterARestart(t *testing.T) {
	page, stop := serve(t, "127.0.0.1:0")
	ann := open(t, browser(t), page, "ann")
	before := is[string](ann, `document.querySelector("#socket-id").textContent`)
	stop()
	ann.becomes("#connection-text", "Connection lost. Reconnecting…")
	ann.becomes("#private-state", "waiting")
	ann.members("")
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, u.Host)
	ann.becomes("#connection-text", "Connected")
	ann.listening()
	ann.members("Ann")
	if after := is[string](ann, `document.querySelector("#socket-id").textContent`); after == before {
		t.Errorf("the socket id is still %s", after)
	}
	ann.do(chromedp.Click(chromedp.CSS("#broadcast")))
	ann.becomes("#private-events li:first-child strong", "OrderShipped")
}
