package realtime_test

import (
	"context"
	"net/http"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/pagecode"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// TestPagesBuild makes programs of the pages' files, vets and tests them, and checks their configurations.
func TestPagesBuild(t *testing.T) {
	for _, tt := range []struct {
		page           string
		files, configs int // that the page has
	}{
		{"README.md", 6, 1},
		{"docs/getting-started.md", 9, 3},
		{"docs/socketio.md", 3, 0},
		{"docs/socketio-channels.md", 1, 1},
		{"docs/publish-into-node.md", 9, 6},
	} {
		t.Run(tt.page, func(t *testing.T) {
			t.Parallel()
			dir, files := pagecode.Module(t, ".", tt.page)
			if files != tt.files {
				t.Errorf("the page has %d files, not the %d that this test knows", files, tt.files)
			}
			if files > tt.configs {
				pagecode.Go(t, dir, "vet", "./...")
				pagecode.Go(t, dir, "test", "./...")
			}
			configs, err := filepath.Glob(filepath.Join(dir, "config", "*.yaml"))
			if err != nil || len(configs) != tt.configs {
				t.Errorf("the page has the configurations %q (%v), not the %d that this test knows", configs, err, tt.configs)
			}
			for _, c := range configs {
				pagecode.Go(t, ".", "run", "./cmd/realtime", "config", "check", c)
			}
		})
	}
}

// TestTheGettingStartedProgram does with the page's program what the page says, but for the browser (that is
// interop/browser's).
func TestTheGettingStartedProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no interrupt to send to the program")
	}
	t.Parallel()
	dir, _ := pagecode.Module(t, ".", "docs/getting-started.md")
	addr, interrupt := pagecode.Start(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ada, err := wsclient.Dial(ctx, "ws://"+addr+"/ws", &wsclient.Options{Header: http.Header{"Cookie": {"user=ada"}}})
	if err != nil {
		t.Fatal(err)
	}
	hear := func() string {
		t.Helper()
		_, b, err := ada.ReadMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	hear() // the greeting
	if err := ada.Write(ctx, ws.OpText, []byte(`{"event":"subscribe","channel":"private-orders.7"}`)); err != nil {
		t.Fatal(err)
	}
	if got, want := hear(), `{"event":"subscription_succeeded","channel":"private-orders.7"}`; got != want {
		t.Fatalf("the page gets %s, not %s", got, want)
	}
	res, err := http.Post("http://"+addr+"/orders/7/ship", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := hear(), `{"event":"OrderShipped","channel":"private-orders.7","data":{"orderId":"7","carrier":"DHL"}}`; got != want {
		t.Fatalf("the page gets %s, not %s", got, want)
	}

	go interrupt()
	if got, want := hear(), `{"event":"error","data":{"code":4200,"type":"ServerError","error":"the server is restarting: connect again","status":503}}`; got != want {
		t.Errorf("at its end the program says %s, not %s", got, want)
	}
	if _, b, err := ada.ReadMessage(ctx); err == nil || err.Error() != "websocket closed with 4200: the server is restarting: connect again" {
		t.Errorf("at its end the program says %s, %v", b, err)
	}
	interrupt() // returns when the first has
}

// TestTheSocketIOProgram talks to the program of docs/socketio.md as its page does.
func TestTheSocketIOProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no interrupt to send to the program")
	}
	t.Parallel()
	dir, _ := pagecode.Module(t, ".", "docs/socketio.md")
	addr, interrupt := pagecode.Start(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	connect := func() (say func(string), hear func() string) {
		c, err := wsclient.Dial(ctx, "ws://"+addr+"/socket.io/?EIO=4&transport=websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		say = func(s string) {
			t.Helper()
			if err := c.Write(ctx, ws.OpText, []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		hear = func() string {
			t.Helper()
			_, b, err := c.ReadMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		hear() // the session
		return say, hear
	}
	adaSays, adaHears := connect()
	bobSays, bobHears := connect()
	expect := func(hear func() string, want string) {
		t.Helper()
		// A last argument of events is for coming back.
		if got := regexp.MustCompile(`,"[^",]*"\]$`).ReplaceAllString(hear(), "]"); got != want {
			t.Fatalf("the page gets %s, not %s", got, want)
		}
	}
	adaSays(`40/chat,`)
	expect(adaHears, `44/chat,{"message":"say who you are"}`)
	adaSays(`40/chat,{"name":"Ada"}`)
	adaHears()
	bobSays(`40/chat,{"name":"Bob"}`)
	bobHears()
	adaSays(`42/chat,0["say",{"room":"tea","text":"Hello?"}]`)
	expect(adaHears, `43/chat,0[{"error":{"message":"join the room first"}}]`)
	adaSays(`42/chat,1["join","tea"]`)
	expect(adaHears, `43/chat,1[["Ada"]]`)
	bobSays(`42/chat,0["join","tea"]`)
	expect(bobHears, `43/chat,0[["Ada","Bob"]]`)
	expect(adaHears, `42/chat,["joined","tea","Bob"]`)
	bobSays(`42/chat,1["say",{"room":"tea","text":"Milk?"}]`)
	expect(bobHears, `43/chat,1[]`)
	expect(adaHears, `42/chat,["said","tea","Bob","Milk?"]`)
	interrupt() // fails the test if the program does not end in order
}
