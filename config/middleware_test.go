package config_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/encrypted"
)

func TestMiddlewareEncryptsWhatIsRefusedInTheClear(t *testing.T) {
	ctx := context.Background()
	mw, err := encrypted.Middleware(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		opts []config.Option
		want string // of the error
	}{
		{nil, `channel "private-encrypted-medical.7" is end-to-end encrypted, but its data is not`},
		{[]config.Option{config.WithMiddleware(mw)}, ""},
	} {
		app, err := config.Open(ctx, "testdata/open.yaml", nil, tt.opts...)
		if err != nil {
			t.Fatal(err)
		}
		err = realtime.Channel("medical.7").Encrypted(realtime.WithBroadcaster(ctx, app.Broadcaster), "result", "fine")
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("with middleware: %v", err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("without middleware: %v", err)
		}
		if err := app.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
