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
	_, live := realtimetest.Server(t, server.Config{Auth: a, Apps: []server.App{
		{ID: "6", Keys: []auth.Key{{Key: "other", Secret: "secret"}}}, // the first app is where clients without a key go
		{ID: "7", Keys: []auth.Key{{Key: "key", Secret: "secret"}}},
	}}, nil)
	plain, pusher, socketIO := "ws://"+live.Addr+"/ws?app=key", "ws://"+live.Addr+"/app/key", "ws://"+live.Addr+"/socket.io/?app=key"
	each4 := []string{"--channels", "10", "--subscribers", "8", "--per-conn", "4"}
	for _, tt := range []struct {
		protocol, publish, url string
		extra                  []string
		per                    int64 // deliveries of a message
	}{
		{"ws", "", plain, each4, 8},
		{"ws", "http", plain, append(each4, "--batch", "7", "--publishers", "3"), 8},
		{"ws", "http", plain, []string{"--subscribers", "8", "--except"}, 7},
		{"pusher", "", pusher, append(each4, "--batch", "7", "--publishers", "3"), 8},
		{"pusher", "", pusher, []string{"--subscribers", "8", "--except", "--publishers", "3"}, 7},
		{"pusher", "ws", pusher, append(each4, "--publishers", "3"), 8},
		{"pusher", "ws", pusher, []string{"--subscribers", "8", "--except"}, 7},
		{"socketio", "", socketIO, append(each4, "--publishers", "3"), 8},
		{"socketio", "", socketIO, []string{"--subscribers", "8", "--except"}, 7},
		{"socketio", "http", socketIO, append(each4, "--batch", "7", "--publishers", "3"), 8},
		{"socketio", "ws", socketIO, []string{"--subscribers", "8", "--except"}, 7},
		{"ws", "socketio", plain, []string{"--subscribers", "8", "--except"}, 7},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"bench", "fanout", "--protocol", tt.protocol, "--publish", tt.publish, "--url", tt.url, "--token", token,
			"--app-id", "7", "--key", "key", "--secret", "secret", "--messages", "1000", "--warmup", "0s", "--json"}, tt.extra...)
		if code := run(t.Context(), args, &out, &errs); code != exitOK {
			t.Errorf("%v: exit code %d: %s", args, code, errs.String())
			continue
		}
		var r struct{ Published, Count, Lost, Doubled, OutOfOrder, NotExcepted, Altered int64 }
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Published != 1000 || r.Count != 1000*tt.per || r.Lost+r.Doubled+r.OutOfOrder+r.NotExcepted+r.Altered != 0 {
			t.Errorf("%v: %+v; want %d deliveries of 1,000 messages", args, r, 1000*tt.per)
		}
	}
}
