package main

import (
	"bytes"
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/realtimetest"
	"github.com/stacksjs/realtime-go/server"
)

func TestBenchCountsEveryDelivery(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the load generator is for Linux only")
	}
	secret := []byte("a secret of at least thirty-two bytes")
	a := auth.New()
	a.AllowAnonymous()
	a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: secret})
	token, err := auth.IssueHS256(secret, auth.Claims{Subject: "bench", Publish: []string{"*"}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	_, live := realtimetest.Server(t, server.Config{Auth: a}, nil)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"bench", "fanout", "--url", live.URL, "--token", token, "--channels", "10",
		"--subscribers", "8", "--per-conn", "4", "--messages", "1000", "--warmup", "0s", "--json"}, &out, &errs)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var r struct{ Count, Lost, Doubled, OutOfOrder int64 }
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Count != 8000 || r.Lost != 0 || r.Doubled != 0 || r.OutOfOrder != 0 {
		t.Errorf("result %+v; 1,000 messages to 8 subscribers each are 8,000 deliveries", r)
	}
}
