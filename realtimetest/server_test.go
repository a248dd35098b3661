package realtimetest_test

import (
	"context"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
	"github.com/stacksjs/realtime-go/realtimetest"
	"github.com/stacksjs/realtime-go/server"
)

func TestServerDeliversWhatItsContextSends(t *testing.T) {
	ctx, live := realtimetest.Server(t, server.Config{}, nil)
	c, err := wsclient.Dial(ctx, live.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(1000, "")
	read := func() string {
		_, b, err := c.ReadMessage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	read() // the greeting
	if err := c.Write(ctx, ws.OpText, []byte(`{"event":"subscribe","channel":"news"}`)); err != nil {
		t.Fatal(err)
	}
	if got, want := read(), `{"event":"subscription_succeeded","channel":"news"}`; got != want {
		t.Fatalf("frame %s, not %s", got, want)
	}
	if err := realtime.Channel("news").Public(ctx, "headline", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	if got, want := read(), `{"event":"headline","channel":"news","data":{"n":1}}`; got != want {
		t.Fatalf("frame %s, not %s", got, want)
	}
}
