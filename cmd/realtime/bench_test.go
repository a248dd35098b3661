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

func TestBenchPublishesOverHTTP(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the load generator is for Linux only")
	}
	_, live := realtimetest.Server(t, server.Config{Apps: []server.App{{ID: "7", Keys: []auth.Key{{Key: "key", Secret: "secret"}}}}}, nil)
	for _, extra := range [][]string{
		{"--channels", "10", "--subscribers", "8", "--per-conn", "4", "--batch", "7"},
		{"--subscribers", "8", "--except"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"bench", "fanout", "--protocol", "pusher", "--url", "ws://" + live.Addr + "/app/key", "--app-id", "7",
			"--key", "key", "--secret", "secret", "--publishers", "3", "--messages", "1000", "--warmup", "0s", "--json"}, extra...)
		if code := run(t.Context(), args, &out, &errs); code != exitOK {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		var r struct{ Published, Count, Lost, Doubled, OutOfOrder, NotExcepted int64 }
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		want := 8 * r.Published
		if extra[len(extra)-1] == "--except" {
			want = 7 * r.Published
		}
		if r.Published != 1000 || r.Count != want || r.Lost != 0 || r.Doubled != 0 || r.OutOfOrder != 0 || r.NotExcepted != 0 {
			t.Errorf("%v: result %+v; want %d deliveries of 1,000 messages", extra, r, want)
		}
	}
}
