package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// endpointAuth knows the user by the header X-User; rooms are for whoever is known.
func endpointAuth(t *testing.T) *Auth {
	a := newAuth()
	a.AllowAnonymous()
	a.Identify(func(r *http.Request) (User, error) {
		switch id := r.Header.Get("X-User"); id {
		case "crash":
			return User{}, errors.New("database: password hunter2")
		case "banned":
			return User{}, Refuse("you are banned")
		default:
			return User{ID: id, Info: json.RawMessage(`{"name": "<Mr. Pusher>"}`)}, nil
		}
	})
	a.Channel("foobar", func(_ context.Context, u *User, _ Params) (Grant, error) {
		if u == nil {
			return Grant{}, Refuse("log in first")
		}
		return Grant{}, nil
	})
	a.Channel("vector", func(context.Context, *User, Params) (Grant, error) {
		return Grant{MemberID: "10", MemberInfo: json.RawMessage(`{"name":"Mr. Pusher"}`)}, nil
	})
	a.Channel("orders.{id}", func(_ context.Context, u *User, p Params) (Grant, error) {
		if p["id"] != "7" {
			return Grant{}, Refuse("not your order")
		}
		return Grant{}, nil
	})
	a.Channel("broken", func(context.Context, *User, Params) (Grant, error) { return Grant{}, errors.New("hunter2") })
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestEndpoint(t *testing.T) {
	var log bytes.Buffer
	master := make([]byte, 32)
	h := endpointAuth(t).Handler(testApp, HandlerOptions{
		SharedSecret: func(channel string) []byte {
			if channel == "private-encrypted-vector" {
				return nil
			}
			return append(master[:31:31], byte(len(channel)))
		},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	const form, js = "application/x-www-form-urlencoded", "application/json; charset=utf-8"
	presence := `{"user_id":"10","user_info":{"name":"<Mr. Pusher>"}}`
	sign := func(channel, data string) string {
		return SignChannel(testKey, testSecret, "1234.1234", channel, data)
	}
	const private = `{"auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}`
	for _, tc := range []struct {
		name, path, user, contentType, body string
		status                              int
		want                                string
	}{
		{"private", "/broadcasting/auth", "10", form, "socket_id=1234.1234&channel_name=private-foobar", 200, private},
		{"private, other params", "/pusher/auth", "10", form, "_token=x&socket_id=1234.1234&channel_name=private-foobar", 200, private},
		{"private, no content type", "/auth", "10", "", "socket_id=1234.1234&channel_name=private-foobar", 200, private},
		{"private, JSON", "/auth", "10", js, `{"socket_id":"1234.1234","channel_name":"private-foobar","x":1}`, 200, private},
		{"presence", "/auth", "10", form, "socket_id=1234.1234&channel_name=presence-foobar", 200,
			`{"auth":"` + sign("presence-foobar", presence) + `","channel_data":"{\"user_id\":\"10\",\"user_info\":{\"name\":\"<Mr. Pusher>\"}}"}`},
		{"presence of the function's choice", "/auth", "", form, "socket_id=1234.1234&channel_name=presence-vector", 200,
			`{"auth":"` + sign("presence-vector", `{"user_id":"10","user_info":{"name":"Mr. Pusher"}}`) + `","channel_data":"{\"user_id\":\"10\",\"user_info\":{\"name\":\"Mr. Pusher\"}}"}`},
		{"encrypted", "/auth", "10", form, "socket_id=1234.1234&channel_name=private-encrypted-foobar", 200,
			`{"auth":"` + sign("private-encrypted-foobar", "") + `","shared_secret":"` + base64.StdEncoding.EncodeToString(append(make([]byte, 31), 24)) + `"}`},
		{"user", "/broadcasting/user-auth", "10", form, "socket_id=1234.1234", 200,
			`{"auth":"` + SignUser(testKey, testSecret, "1234.1234", `{"id":"10","user_info":{"name":"<Mr. Pusher>"}}`) + `","user_data":"{\"id\":\"10\",\"user_info\":{\"name\":\"<Mr. Pusher>\"}}"}`},
		{"several", "/auth", "10", form, "socket_id=1234.1234&channel_name%5B%5D=private-foobar&channel_name[]=private-orders.8", 200,
			`{"private-foobar":` + private + `,"private-orders.8":{"error":"not your order"}}`},
		{"a list of one", "/auth", "10", form, "socket_id=1234.1234&channel_name[0]=private-foobar", 200, `{"private-foobar":` + private + `}`},
		{"several, JSON", "/auth", "10", js, `{"socket_id":"1234.1234","channel_name":["private-foobar","news"]}`, 200,
			`{"news":{"error":"channel \"news\" is public and needs no signature; private channels begin with private-, presence- or private-encrypted-"},"private-foobar":` + private + `}`},

		{"refused", "/auth", "10", form, "socket_id=1234.1234&channel_name=private-orders.8", 403, `{"error":"not your order"}`},
		{"anonymous", "/auth", "", form, "socket_id=1234.1234&channel_name=private-foobar", 403, `{"error":"log in first"}`},
		{"anonymous member", "/auth", "", form, "socket_id=1234.1234&channel_name=presence-orders.7", 403,
			`{"error":"presence channel \"presence-orders.7\" shows its members, and nothing says who this one is: identify the connection, or send channel_data with a user_id"}`},
		{"anonymous user", "/user-auth", "", form, "socket_id=1234.1234", 403, `{"error":"nobody is logged in: there is no user to sign in as"}`},
		{"banned", "/auth", "banned", form, "socket_id=1234.1234&channel_name=private-foobar", 403, `{"error":"you are banned"}`},
		{"unknown channel", "/auth", "10", form, "socket_id=1234.1234&channel_name=private-x", 403,
			`{"error":"no authorizer is registered for channel \"private-x\", and the subscription brought neither signature nor token"}`},
		{"user channel", "/auth", "10", form, "socket_id=1234.1234&channel_name=%23server-to-user-10", 403, `{"error":"channel \"#server-to-user-10\" needs no signature: sign in as that user"}`},
		{"function fails", "/auth", "10", form, "socket_id=1234.1234&channel_name=private-broken", 500, `{"error":"authorization failed"}`},
		{"Identify fails", "/auth", "crash", form, "socket_id=1234.1234&channel_name=private-foobar", 500, `{"error":"authorization failed"}`},
		{"no key for the channel", "/auth", "10", form, "socket_id=1234.1234&channel_name=private-encrypted-vector", 500, `{"error":"authorization failed"}`},

		// A name with ":" could make the signature of another channel or of a sign-in.
		{"forged presence", "/auth", "10", form, `socket_id=1234.1234&channel_name=presence-foobar:{"user_id":"1"}`, 400, `{"error":"channel name \"presence-foobar:{\\\"user_id\\\":\\\"1\\\"}\" has ':' at byte 15; allowed are letters, digits and _ - = @ , . ;"}`},
		{"bad socket id", "/auth", "10", form, "socket_id=undefined&channel_name=private-foobar", 400, `{"error":"socket_id is \"undefined\", and must be the connection's, like \"123.456\""}`},
		{"socket id with a tail", "/auth", "10", form, "socket_id=1.2:x&channel_name=private-foobar", 400, `{"error":"socket_id is \"1.2:x\", and must be the connection's, like \"123.456\""}`},
		{"no socket id", "/user-auth", "10", form, "", 400, `{"error":"socket_id is \"\", and must be the connection's, like \"123.456\""}`},
		{"no channel", "/auth", "10", form, "socket_id=1.2", 400, `{"error":"channel_name is missing"}`},
		{"no channels", "/auth", "10", js, `{"socket_id":"1.2","channel_name":[]}`, 400, `{"error":"channel_name is missing"}`},
		{"channel a number", "/auth", "10", js, `{"socket_id":"1.2","channel_name":5}`, 400, `{"error":"channel_name must be a string or an array of strings"}`},
		{"socket id a number", "/auth", "10", js, `{"socket_id":1.2,"channel_name":"x"}`, 400, `{"error":"socket_id must be a string"}`},
		{"bad JSON", "/auth", "10", js, `{`, 400, `{"error":"the body: it is not a JSON object: unexpected end of JSON input"}`},
		{"too many channels", "/auth", "10", form, "socket_id=1.2" + strings.Repeat("&channel_name[]=private-x", 101), 400, `{"error":"more than 100 channels in one request"}`},
		{"too long", "/auth", "10", form, strings.Repeat("x", maxAuthBody+1), 413, `{"error":"the body is longer than 65536 bytes"}`},
		{"other type", "/auth", "10", "text/plain", "x", 415, `{"error":"Content-Type is \"text/plain\", and must be application/x-www-form-urlencoded or application/json"}`},
		{"other path", "/broadcasting", "10", form, "", 404, `{"error":"the path must end in /auth or /user-auth"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log.Reset()
			r := httptest.NewRequest("POST", tc.path, strings.NewReader(tc.body))
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			r.Header.Set("X-User", tc.user)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.status || w.Body.String() != tc.want {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, tc.status, tc.want)
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
			if got := w.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q", got)
			}
			if logged := log.Len() > 0; logged != (tc.status == 500) {
				t.Errorf("logged: %q", log.String())
			}
		})
	}

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/auth?callback=cb&socket_id=1.2&channel_name=private-foobar", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET without JSONP: %d %v", w.Code, w.Header())
	}
}

// What the endpoint answers is accepted as a subscription and as a sign-in, byte for byte.
func TestEndpointAnswersAreAccepted(t *testing.T) {
	a := endpointAuth(t)
	h := a.Handler(testApp, HandlerOptions{})
	ask := func(path, body string) (out answer) {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("X-User", `a"<&>é`)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return out
	}
	out := ask("/auth", "socket_id=1.2&channel_name=presence-foobar")
	g, decided, err := a.Decide(Request{App: testApp, Channel: "presence-foobar", SocketID: "1.2", Auth: out.Auth, ChannelData: out.ChannelData})
	if err != nil || !decided || show(g) != `a"<&>é {"name":"<Mr. Pusher>"} false` {
		t.Errorf("%s %v", show(g), err)
	}
	out = ask("/user-auth", "socket_id=1.2")
	if u, _, err := VerifyUser(testApp, "1.2", out.Auth, out.UserData); err != nil || u.ID != `a"<&>é` {
		t.Errorf("%+v %v", u, err)
	}
}

func TestEndpointWithoutKeys(t *testing.T) {
	a := endpointAuth(t)
	for _, tc := range []struct {
		app     AppKeys
		channel string
		status  int
	}{
		{AppKeys{}, "private-foobar", 500},
		{AppKeys{Keys: []Key{{"k", ""}}}, "private-foobar", 500},
		{testApp, "private-encrypted-foobar", 403}, // no SharedSecret
	} {
		r := httptest.NewRequest("POST", "/auth", strings.NewReader("socket_id=1.2&channel_name="+tc.channel))
		r.Header.Set("X-User", "10")
		w := httptest.NewRecorder()
		a.Handler(tc.app, HandlerOptions{Logger: slog.New(slog.DiscardHandler)}).ServeHTTP(w, r)
		if w.Code != tc.status || strings.Contains(w.Body.String(), `"auth"`) {
			t.Errorf("%v %s: %d %s", tc.app, tc.channel, w.Code, w.Body)
		}
	}
}

func TestJSONP(t *testing.T) {
	h := endpointAuth(t).Handler(testApp, HandlerOptions{JSONP: true})
	get := func(callback string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/pusher/auth", nil)
		r.URL.RawQuery = "callback=" + callback + "&socket_id=1234.1234&channel_name=private-foobar"
		r.Header.Set("X-User", "10")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := get("Pusher.auth_callbacks%5B%271%27%5D")
	want := `Pusher.auth_callbacks['1']({"auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"});`
	if w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	if h := w.Header(); h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
	for _, bad := range []string{"", "alert(1)//", "a%3Bb", "a%0Ab", "<script>", "a['b\\']", "1a", "a..b", strings.Repeat("a", 101)} {
		if w := get(bad); w.Code != 400 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("callback %q: %d %s", bad, w.Code, w.Body)
		}
	}
}
