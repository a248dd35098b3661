package server

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// api calls the Pusher HTTP API as an SDK does, and returns status and body.
func (s *live) api(method, path string, params map[string]string, body string) (int, string) {
	s.t.Helper()
	now := time.Now()
	if s.clock != nil {
		now = s.clock.now()
	}
	return s.apiAt(now, method, path, params, body)
}

func (s *live) apiAt(now time.Time, method, path string, params map[string]string, body string) (int, string) {
	s.t.Helper()
	return s.request(method, path+"?"+auth.SignRequest(method, path, params, []byte(body), docKey, docSecret, now), body)
}

func (s *live) request(method, target, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/json" {
		s.t.Errorf("%s %s is answered in %q", method, target, ct)
	}
	return res.StatusCode, string(b)
}

func (s *live) wantAPI(method, path string, params map[string]string, body string, status int, want string) {
	s.t.Helper()
	if got, text := s.api(method, path, params, body); got != status || strings.TrimSuffix(text, "\n") != want {
		s.t.Errorf("%s %s %v %.200s is answered\n%d %s\nand should be\n%d %s", method, path, params, body, got, text, status, want)
	}
}

func no(status int, why string) string {
	return fmt.Sprintf(`{"error":%s,"code":%d}`, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(inString(why)), status)
}

func TestHTTPAPI(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}, Prefix: "/realtime"})
	p := s.dialPusher("")
	for _, ch := range []string{"a;b,c=@_-.", "orders", "cache-x"} {
		p.joined(ch)
	}
	p.want(`{"event":"pusher:cache_miss","channel":"cache-x","data":"{}"}`)
	p.subscribe("presence-room", `{"user_id":"10"}`)
	p.next()

	// POST events.
	for _, prefix := range []string{"", "/realtime"} {
		s.wantAPI("POST", prefix+"/apps/3/events", nil, `{"name":"e","channels":["orders","nobody"],"data":"{\"n\": 1}"}`, 200, `{}`)
		p.want(`{"event":"e","channel":"orders","data":"{\"n\": 1}"}`)
	}
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channel":"a;b,c=@_-.","data":"","info":"subscription_count,user_count"}`, 200, `{"channels":{"a;b,c=@_-.":{"subscription_count":1}}}`)
	p.want(`{"event":"e","channel":"a;b,c=@_-.","data":""}`)
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["orders"],"data":{"not":"a string"}}`, 200, `{}`)
	p.want(`{"event":"e","channel":"orders","data":"{\"not\":\"a string\"}"}`)
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["orders"],"data":"\"quoted\""}`, 200, `{}`)
	p.want(`{"event":"e","channel":"orders","data":"\"quoted\""}`)
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["orders","orders"],"data":"1","socket_id":"`+p.SocketID+`"}`, 200, `{}`)
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["orders","orders"],"channel":"orders","data":"1"}`, 200, `{}`) // once
	p.want(`{"event":"e","channel":"orders","data":"1"}`)
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["presence-room"],"data":"x","info":"user_count"}`, 200, `{"channels":{"presence-room":{"user_count":1}}}`)
	p.want(`{"event":"e","channel":"presence-room","data":"x"}`)
	s.wantAPI("POST", "/apps/3/events", map[string]string{"channels": "orders"}, `{"name":"e","data":"q"}`, 200, `{}`)
	p.want(`{"event":"e","channel":"orders","data":"q"}`)

	// POST batch_events: all or nothing.
	s.wantAPI("POST", "/apps/3/batch_events", nil, `{"batch":[{"name":"b1","channel":"orders","data":"1"},{"name":"b2","channels":["cache-x"],"data":"2","info":"subscription_count"}]}`, 200, `{"batch":[{},{"subscription_count":1}]}`)
	p.want(`{"event":"b1","channel":"orders","data":"1"}`, `{"event":"b2","channel":"cache-x","data":"2"}`)
	s.wantAPI("POST", "/apps/3/batch_events", nil, `{"batch":[{"name":"b3","channel":"orders","data":"3"}]}`, 200, `{}`)
	p.want(`{"event":"b3","channel":"orders","data":"3"}`)
	s.wantAPI("POST", "/apps/3/batch_events", nil, `{"batch":[{"name":"b4","channel":"orders","data":"4"},{"name":"b5","channel":"no way","data":"5"}]}`, 400,
		no(400, `event 2 of the batch: channel name "no way" has ' ' at byte 2; allowed are letters, digits and _ - = @ , . ;`))
	eleven := `{"batch":[` + strings.TrimSuffix(strings.Repeat(`{"name":"b","channel":"orders","data":"1"},`, 11), ",") + `]}`
	s.wantAPI("POST", "/apps/3/batch_events", nil, eleven, 400, no(400, "the batch has 11 events: 1 to 10 go into one request"))
	s.wantAPI("POST", "/apps/3/batch_events", nil, `{"batch":[]}`, 400, no(400, "the batch has 0 events: 1 to 10 go into one request"))

	// Queries.
	s.wantAPI("GET", "/apps/3/channels", nil, "", 200, `{"channels":{"a;b,c=@_-.":{},"cache-x":{},"orders":{},"presence-room":{}}}`)
	s.wantAPI("GET", "/apps/3/channels", map[string]string{"filter_by_prefix": "nobody"}, "", 200, `{"channels":{}}`)
	s.wantAPI("GET", "/apps/3/channels", map[string]string{"filter_by_prefix": "presence-", "info": "user_count,subscription_count"}, "", 200, `{"channels":{"presence-room":{"user_count":1,"subscription_count":1}}}`)
	s.wantAPI("GET", "/apps/3/channels/a;b,c=@_-.", map[string]string{"info": "subscription_count"}, "", 200, `{"occupied":true,"subscription_count":1}`)
	s.wantAPI("GET", "/apps/3/channels/nobody", map[string]string{"info": "subscription_count"}, "", 200, `{"occupied":false,"subscription_count":0}`)
	s.wantAPI("GET", "/apps/3/channels/orders", map[string]string{"info": "cache"}, "", 400, no(400, `cache is known of cache channels only, and "orders" is none`))
	s.wantAPI("GET", "/apps/3/channels/orders", map[string]string{"info": "user_count"}, "", 400, no(400, `user_count is known of presence channels only, and "orders" is none`))
	s.wantAPI("GET", "/apps/3/channels/orders", map[string]string{"info": "mood"}, "", 400, no(400, `info "mood" is unknown here; there are user_count, subscription_count, cache`))
	s.wantAPI("GET", "/apps/3/channels/cache-y", map[string]string{"info": "cache"}, "", 200, `{"occupied":false,"cache":null}`)
	if status, text := s.api("GET", "/apps/3/channels/cache-x", map[string]string{"info": "cache"}, ""); status != 200 || text != `{"occupied":true,"cache":{"data":"2","ttl":1799}}` && text != `{"occupied":true,"cache":{"data":"2","ttl":1800}}` {
		t.Errorf("the cache is %d %s", status, text)
	}
	s.wantAPI("GET", "/apps/3/channels/presence-room/users", nil, "", 200, `{"users":[{"id":"10"}]}`)
	s.wantAPI("GET", "/apps/3/channels/presence-empty/users", nil, "", 200, `{"users":[]}`)
	s.wantAPI("GET", "/apps/3/channels/presence-room/stats", nil, "", 200, `{"occupied":true,"user_count":1}`)
	s.wantAPI("POST", "/apps/3/channels/orders/events", map[string]string{"name": "old", "socket_id": "1.2"}, `{"plain":"body"}`, 200, `{}`)
	p.want(`{"event":"old","channel":"orders","data":"{\"plain\":\"body\"}"}`)
	p.quiet()

	// A user's own channel, which no list has.
	p.signIn(`{"id":"10"}`)
	p.next()
	p.joined("#server-to-user-10")
	s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channels":["#server-to-user-10"],"data":"1"}`, 200, `{}`)
	p.want(`{"event":"e","channel":"#server-to-user-10","data":"1"}`)
	s.wantAPI("GET", "/apps/3/channels", map[string]string{"filter_by_prefix": "#"}, "", 200, `{"channels":{}}`)

	// Termination, with the body that the SDK for Node sends.
	s.wantAPI("POST", "/apps/3/users/10/terminate_connections", nil, `{}`, 200, `{}`)
	p.want(pusherTrouble("", 4009, "You got disconnected by the app."))
	p.wantClose(4009, "You got disconnected by the app.")
	s.wantAPI("POST", "/apps/3/users/10/terminate_connections", nil, "", 200, `{}`) // nobody is left
}

func TestHTTPAPIRefusals(t *testing.T) {
	clock := newClock(time.Unix(1_800_000_000, 0))
	s := start(t, Config{Apps: []App{docApp()}, Limits: Limits{PayloadBytes: 10 << 10}, now: clock.now})
	s.clock = clock
	p := s.dialPusher("")
	p.joined("orders")
	ok := `{"name":"e","channel":"orders","data":"1"}`
	long := strings.Repeat("x", 201)
	event := func(change func(m map[string]any)) string {
		m := map[string]any{"name": "e", "channel": "orders", "data": "1"}
		change(m)
		b, _ := json.Marshal(m)
		return string(b)
	}
	hundredAndOne := make([]string, 101)
	for i := range hundredAndOne {
		hundredAndOne[i] = fmt.Sprintf("c%d", i)
	}
	for _, c := range []struct {
		body   string
		status int
		why    string
	}{
		{`{"name":"e","channel":"orders","data":"1"`, 400, "the body is not the JSON of an event: unexpected end of JSON input"},
		{event(func(m map[string]any) { m["channels"] = hundredAndOne; delete(m, "channel") }), 400, "the event goes to 101 channels, more than 100: send it in several requests"},
		{event(func(m map[string]any) { delete(m, "channel") }), 400, "the event names no channels: give channel or channels"},
		{event(func(m map[string]any) { m["channel"] = long }), 400, `channel name of 201 bytes is longer than 200: "` + long[:40] + `"…`},
		{event(func(m map[string]any) { m["name"] = long }), 400, "the event name is 201 bytes, more than 200"},
		{event(func(m map[string]any) { m["name"] = "" }), 400, "the event has no name"},
		{event(func(m map[string]any) { m["name"] = "pusher:x" }), 400, `event name "pusher:x" is reserved for the protocol`},
		{event(func(m map[string]any) { delete(m, "data") }), 400, "the event has no data; an empty string will do"},
		{event(func(m map[string]any) { m["data"] = strings.Repeat("x", 10<<10) }), 413, `the data is 10242 bytes, more than the 10240 allowed on channel "orders"`},
		{event(func(m map[string]any) { m["socket_id"] = "undefined" }), 400, `socket_id "undefined" is not of the form 123.456`},
		{event(func(m map[string]any) { m["info"] = "cache" }), 400, `info "cache" is unknown here; there are user_count, subscription_count`},
		{event(func(m map[string]any) { m["channel"] = "private-encrypted-x" }), 400, `channel "private-encrypted-x" takes only end-to-end encrypted data, and this is not: send through the encrypted package`},
	} {
		s.wantAPI("POST", "/apps/3/events", nil, c.body, c.status, no(c.status, c.why))
	}
	// 200 bytes, and the largest data, are taken.
	s.wantAPI("POST", "/apps/3/events", nil, event(func(m map[string]any) { m["channel"], m["name"] = long[:200], long[:200] }), 200, `{}`)
	s.wantAPI("POST", "/apps/3/events", nil, event(func(m map[string]any) { m["data"] = "[" + strings.Repeat(" ", 10<<10-2) + "]" }), 200, `{}`)
	p.next()

	now := clock.now()
	for _, at := range []time.Duration{-600 * time.Second, 600 * time.Second} {
		if status, text := s.apiAt(now.Add(at), "POST", "/apps/3/events", nil, ok); status != 200 {
			t.Errorf("%v from now: %d %s", at, status, text)
		}
		p.next()
	}
	for _, at := range []time.Duration{-601 * time.Second, 601 * time.Second} {
		status, text := s.apiAt(now.Add(at), "POST", "/apps/3/events", nil, ok)
		why := fmt.Sprintf("auth_timestamp is %d, and the server's time %d: they may differ by 600 seconds; set the clocks, or sign again", now.Add(at).Unix(), now.Unix())
		if want := no(401, why) + "\n"; status != 401 || text != want {
			t.Errorf("%v from now: %d %s, not %s", at, status, text, want)
		}
	}
	good := auth.SignRequest("POST", "/apps/3/events", nil, []byte(ok), docKey, docSecret, now)
	tampered := strings.Replace(ok, "1", "2", 1)
	for _, c := range []struct {
		target, body string
		status       int
		why          string
	}{
		{"/apps/9/events?" + good, ok, 404, `there is no app "9"`},
		{"/apps/3/events", ok, 401, "query parameter auth_key is missing: requests to this API are signed"},
		{"/apps/3/events?" + strings.Replace(good, docKey, "other", 1), ok, 401, `auth_key "other" is not a key of app "3"`},
		{"/apps/3/events?" + good, tampered, 401, `body_md5 is "` + md5Of(ok) + `", and the MD5 of the 42 bytes received is ` + md5Of(tampered)},
		{"/apps/3/events?" + good[:len(good)-1], ok, 401, `auth_signature is not the HMAC-SHA256, in lower-case hex, of "POST\n/apps/3/events\nauth_key=` + docKey + `&auth_timestamp=1800000000&auth_version=1.0&body_md5=` + md5Of(ok) + `" with the secret of key "` + docKey + `"`},
	} {
		if status, text := s.request("POST", c.target, c.body); status != c.status || text != no(c.status, c.why)+"\n" {
			t.Errorf("%s is answered\n%d %s\nand should be\n%d %s", c.target, status, text, c.status, no(c.status, c.why))
		}
	}
	p.quiet()
}

func md5Of(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestWhatIsNotUTF8IsReplaced: a text frame that is not UTF-8 would end the connection of every browser.
func TestWhatIsNotUTF8IsReplaced(t *testing.T) {
	s := start(t, Config{Apps: []App{docApp()}})
	p, w := s.dialPusher(""), s.dial("")
	p.joined("a")
	w.say(`{"event":"subscribe","channel":"a"}`)
	w.want(`{"event":"subscription_succeeded","channel":"a"}`)
	for _, c := range []struct{ data, pusher, plain string }{
		{"\"caf\xe9\"", `"café"`, `"café"`},
		{"\"{\\\"of\\\":\\\"caf\xe9\\\"}\"", `"{\"of\":\"café\"}"`, `{"of":"café"}`},
		{"{\"of\":\"caf\xe9\"}", `"{\"of\":\"café\"}"`, `{"of":"café"}`},
	} {
		c.pusher, c.plain = strings.ReplaceAll(c.pusher, "é", "\ufffd"), strings.ReplaceAll(c.plain, "é", "\ufffd")
		s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channel":"a","data":`+c.data+`}`, 200, `{}`)
		p.want(`{"event":"e","channel":"a","data":` + c.pusher + `}`)
		w.want(`{"event":"e","channel":"a","data":` + c.plain + `}`)
	}
	s.wantAPI("POST", "/apps/3/channels/a/events", map[string]string{"name": "e"}, "{\"of\":\"caf\xe9\"}", 200, `{}`)
	p.want(`{"event":"e","channel":"a","data":"{\"of\":\"caf` + "\ufffd" + `\"}"}`)
	w.want(`{"event":"e","channel":"a","data":{"of":"caf` + "\ufffd" + `"}}`)
	m := event("a", "\"caf\xe9\"")
	if err := s.Send(t.Context(), &m); err == nil || err.Error() != `server: the data of event "E" is not JSON` {
		t.Errorf("Send takes what is not UTF-8: %v", err)
	}
	p.quiet()
}
