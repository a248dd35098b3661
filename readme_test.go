package realtime_test

import (
	"context"
	"net/http"
	"path/filepath"
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
		{"docs/publish-into-node.md", 8, 5},
	} {
		t.Run(tt.page, func(t *testing.T) {
			t.Parallel()
			dir, files := pagecode.Module(t, ".", tt.page)
			if files != tt.files {
				t.Errorf("the page has %d files, not the %d that this test knows", files, tt.files)
			}
			pagecode.Go(t, dir, "vet", "./...")
			pagecode.Go(t, dir, "test", "./...")
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
