package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// TestAnswersRepeatTheIdempotencyKey: where a sender may repeat its request, the answer says so.
func TestAnswersRepeatTheIdempotencyKey(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}})
	p := s.dial("")
	p.say(`{"event":"subscribe","channel":"a"}`)
	p.want(`{"event":"subscription_succeeded","channel":"a"}`)
	long := strings.Repeat("k", 129)
	for _, tt := range []struct {
		path, params, body, key, want string
		status                        int
	}{
		{"/events", "", `{"name":"E","channel":"a","data":"1"}`, "k1", "k1", 200},
		{"/events", "", `{"name":"E","channel":"a","data":"1"}`, "k1", "k1", 200},
		{"/batch_events", "", `{"batch":[{"name":"E","channel":"a","data":"2"},{"name":"E","channel":"a","data":"3"}]}`, "k2", "k2", 200},
		{"/batch_events", "", `{"batch":[{"name":"E","channel":"a","data":"2"},{"name":"E","channel":"a","data":"3"}]}`, "k2", "k2", 200},
		{"/events", "", `{"name":"","channel":"a","data":"1"}`, "k3", "k3", 400},
		{"/batch_events", "", `{"batch":[{"name":"E","channel":"a","data":"0"}]}`, long[:128], long[:128], 200},
		{"/batch_events", "", `{"batch":[{"name":"E","channel":"a","data":"0"}]}`, long, long, 400},
		{"/events", "", `{"name":"E","channel":"a","data":"4"}`, "", "", 200},
		{"/channels/a/events", "E", `5`, "k4", "", 200}, // knows nothing of keys
	} {
		params := map[string]string{}
		if tt.params != "" {
			params["name"] = tt.params
		}
		path := "/apps/3" + tt.path
		req, err := http.NewRequest("POST", "http://"+s.addr+path+"?"+auth.SignRequest("POST", path, params, []byte(tt.body), docKey, docSecret, time.Now()), strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.key != "" {
			req.Header.Set("X-Idempotency-Key", tt.key)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("X-Idempotency-Key"); res.StatusCode != tt.status || got != tt.want {
			t.Errorf("%s with key %q: %d with key %q, and should be %d with key %q", tt.path, tt.key, res.StatusCode, got, tt.status, tt.want)
		}
	}
	p.want(`{"event":"E","channel":"a","data":1,"mid":"k1"}`, `{"event":"E","channel":"a","data":2,"mid":"k2.0"}`, `{"event":"E","channel":"a","data":3,"mid":"k2.1"}`, `{"event":"E","channel":"a","data":0,"mid":"`+long[:128]+`.0"}`,
		`{"event":"E","channel":"a","data":4}`, `{"event":"E","channel":"a","data":5}`)
	p.quiet()
}
