package browser

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// cdn serves the packages that npm installed for the client tests in place of cdn.jsdelivr.net, which serves the same
// files: the page checks them by their hashes.
func cdn(t *testing.T) []chromedp.ExecAllocatorOption {
	t.Helper()
	at := map[string]string{}
	for pkg, module := range map[string]string{"pusher-js": "clients", "laravel-echo": "clients", "socket.io-client": "socketio"} {
		at[pkg] = filepath.Join("..", module, "node_modules", pkg)
		if _, err := os.Stat(at[pkg]); err != nil {
			why := "a client library is missing: run npm ci in interop/" + module
			if os.Getenv("REALTIME_CI") == "1" {
				t.Fatal(why)
			}
			t.Skip(why)
		}
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pkg, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/npm/"), "@") // pusher-js@8.6.0/dist/…
		_, file, _ = strings.Cut(file, "/")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		http.ServeFile(w, r, filepath.Join(at[pkg], filepath.FromSlash(file)))
	}))
	t.Cleanup(s.Close)
	return []chromedp.ExecAllocatorOption{
		chromedp.Flag("host-resolver-rules", "MAP cdn.jsdelivr.net:443 "+s.Listener.Addr().String()),
		chromedp.Flag("ignore-certificate-errors", true),
	}
}

func TestTheLibrariesHearTheSame(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ctx := browser(t, cdn(t)...)
	ann := open(t, ctx, page, "ann")
	ann.becomes("#pusher-state", "listening")
	ann.becomes("#echo-state", "listening")
	ann.becomes("#socketio-state", "listening")
	ann.becomes("#echo-events li:first-child strong", "here: Ann")
	ann.members("Ann") // the libraries' connections are Ann's too
	second, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	if err := chromedp.Do(second); err != nil {
		t.Fatal(err)
	}
	bob := open(t, second, page, "bob")
	bob.members("Ann,Bob")
	ann.becomes("#echo-events li:first-child strong", "joining: Bob")
	closeTab()
	ann.becomes("#echo-events li:first-child strong", "leaving: Bob")
	ann.do(set("order-id", "12345"), chromedp.KeyEvent("\r"))
	ann.becomes("#form-result", "Broadcast: order 12345 is on its way.")
	ann.becomes("#pusher-events li:first-child strong", "OrderShipped")
	ann.becomes("#echo-events li:first-child strong", "OrderShipped")
	ann.becomes("#socketio-events li:first-child strong", "OrderShipped")
	for _, listener := range [][2]string{{"pusher", "private"}, {"echo", "presence"}, {"socketio", "private"}} {
		want := is[string](ann, `document.querySelector("#`+listener[1]+`-events li:first-child pre").textContent`)
		ann.becomes("#"+listener[0]+"-events li:first-child pre", want)
	}
	ann.look("libraries")
}

func TestThePageDoesWithoutTheLibraries(t *testing.T) {
	page, _ := serve(t, "127.0.0.1:0")
	ann := open(t, browser(t, chromedp.Flag("host-resolver-rules", "MAP cdn.jsdelivr.net ~NOTFOUND")), page, "ann")
	for _, name := range []string{"pusher", "echo", "socketio"} {
		ann.becomes("#"+name+"-state", "refused: could not be loaded: this page has no way to cdn.jsdelivr.net")
	}
	ann.do(chromedp.Click(chromedp.CSS("#broadcast")))
	ann.becomes("#private-events li:first-child strong", "OrderShipped")
}
