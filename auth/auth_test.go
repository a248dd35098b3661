package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The credentials of the Pusher documentation's examples.
const (
	testKey    = "278d425bdf160c739803"
	testSecret = "7ad3773142a6692b25b8"
)

var testApp = AppKeys{ID: "3", Keys: []Key{{testKey, testSecret}}}

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newAuth() *Auth {
	a := New()
	a.now = func() time.Time { return testTime }
	return a
}

// wantRefusal fails unless err is a Refusal whose reason contains part.
func wantRefusal(t *testing.T, err error, part string) {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok || !strings.Contains(r.Reason, part) {
		t.Errorf("error is %T %v, want a refusal with %q", err, err, part)
	}
}

func show(g Grant) string {
	s := fmt.Sprintf("%s %s %v", g.MemberID, g.MemberInfo, g.Publish)
	if !g.ExpiresAt.IsZero() {
		s += " until " + g.ExpiresAt.UTC().Format(time.TimeOnly)
	}
	return s
}

func TestAuthorize(t *testing.T) {
	ann := &User{ID: "ann", Info: json.RawMessage(`{"n":1}`)}
	lister := &User{ID: "ann", Channels: []string{"orders.*", "presence-*"}, Publish: []string{"orders.5", "news"}, ExpiresAt: testTime.Add(time.Hour)}
	stale := &User{ID: "ann", Channels: []string{"*"}, Publish: []string{"*"}, ExpiresAt: testTime}
	wall := &User{Channels: []string{"presence-x", "private-x"}}

	sign := func(channel, data string) string {
		return SignChannel(testKey, testSecret, "1.2", channel, data)
	}
	calls := 0
	a := newAuth()
	a.Channel("room.{id}", func(ctx context.Context, u *User, p Params) (Grant, error) {
		calls++
		if u == nil {
			return Grant{}, Refuse("log in for room " + p["id"])
		}
		return Grant{Publish: p["id"] == "9"}, nil
	})
	a.Channel("alias", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{MemberID: "fox", ExpiresAt: testTime.Add(time.Minute)}, nil
	})
	a.Channel("hidden", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{MemberInfo: json.RawMessage("null")}, nil
	})
	a.Channel("broken", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{}, errors.New("pq: password is hunter2")
	})
	a.Channel("badinfo", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{MemberInfo: json.RawMessage("{")}, nil
	})
	a.Channel("over", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{ExpiresAt: testTime}, nil
	})
	a.Channel("longid", func(ctx context.Context, u *User, p Params) (Grant, error) {
		return Grant{MemberID: strings.Repeat("x", MaxMemberID+1)}, nil
	})
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}

	for _, tc := range []struct {
		name      string
		r         Request
		want      string // the grant, or "no: " and a part of the reason
		undecided bool
	}{
		{"public", Request{Channel: "news"}, "  false", false},
		{"public ignores auth", Request{Channel: "news", Auth: "garbage"}, "  false", false},
		{"public with publish claim", Request{Channel: "news", User: lister}, "  true", false},
		{"public with expired publish claim", Request{Channel: "news", User: stale}, "  false", false},
		{"bad name", Request{Channel: "private-a:b"}, `no: has ':'`, false},

		{"user", Request{Channel: "#server-to-user-ann", User: ann}, "  false", false},
		{"other user", Request{Channel: "#server-to-user-bob", User: ann}, `no: not of "ann"`, false},
		{"user, anonymous", Request{Channel: "#server-to-user-ann"}, "no: has no identity", false},
		{"user, nameless token", Request{Channel: "#server-to-user-ann", User: wall}, "no: has no identity", false},
		{"user, signature does not help", Request{Channel: "#server-to-user-bob", User: ann, Auth: sign("#server-to-user-bob", "")}, "no: not of", false},
		{"user, expired", Request{Channel: "#server-to-user-ann", User: stale}, "no: expired at 2026-03-01T12:00:00Z", false},

		{"signature", Request{Channel: "private-x", Auth: sign("private-x", "")}, "  false", false},
		{"signature, encrypted", Request{Channel: "private-encrypted-x", Auth: sign("private-encrypted-x", "")}, "  false", false},
		{"signature ignores data", Request{Channel: "private-x", Auth: sign("private-x", ""), ChannelData: `{"user_id":"1"}`}, "  false", false},
		{"signature of another socket", Request{Channel: "private-x", SocketID: "1.3", Auth: sign("private-x", "")}, `no: of "1.3:private-x"`, false},
		{"signature of another channel", Request{Channel: "private-y", Auth: sign("private-x", "")}, "no: signature in auth is not", false},
		{"signature in upper case", Request{Channel: "private-x", Auth: testKey + ":" + strings.ToUpper(sign("private-x", "")[len(testKey)+1:])}, "no: signature in auth is not", false},
		{"signature cut short", Request{Channel: "private-x", Auth: sign("private-x", "")[:60]}, "no: signature in auth is not", false},
		{"unknown key", Request{Channel: "private-x", Auth: "k:00"}, `no: key "k", which is not`, false},
		{"no key", Request{Channel: "private-x", Auth: ":00"}, `no: key "", which is not`, false},
		{"no form", Request{Channel: "private-x", Auth: "hello"}, "no: neither", false},
		{"bad signature does not fall through", Request{Channel: "private-room.1", Auth: "hello", User: ann}, "no: neither", false},
		{"signature keeps the user's right to publish", Request{Channel: "private-orders.5", Auth: sign("private-orders.5", ""), User: lister}, "  true", false},

		{"presence", Request{Channel: "presence-x", ChannelData: `{"user_id":10,"user_info":{"a": [1, 2]}}`, Auth: sign("presence-x", `{"user_id":10,"user_info":{"a": [1, 2]}}`)}, `10 {"a":[1,2]} false`, false},
		{"presence, exact bytes", Request{Channel: "presence-x", ChannelData: `{"user_id": 10}`, Auth: sign("presence-x", `{"user_id":10}`)}, "no: followed by channel_data exactly as sent", false},
		{"presence, same identity", Request{Channel: "presence-x", ChannelData: `{"user_id":"ann"}`, Auth: sign("presence-x", `{"user_id":"ann"}`), User: ann}, "ann  false", false},
		{"presence, contradiction", Request{Channel: "presence-x", ChannelData: `{"user_id":"bob"}`, Auth: sign("presence-x", `{"user_id":"bob"}`), User: ann}, `no: names user "bob", but this connection belongs to "ann"`, false},
		{"presence, signed in", Request{Channel: "presence-x", Auth: sign("presence-x", ""), User: ann}, `ann {"n":1} false`, false},
		{"presence, signed in, expired", Request{Channel: "presence-x", Auth: sign("presence-x", ""), User: stale}, "no: expired", false},
		{"presence, nobody", Request{Channel: "presence-x", Auth: sign("presence-x", "")}, "no: nothing says who", false},
		{"presence, bad data", Request{Channel: "presence-x", ChannelData: `{"user_id":true}`, Auth: sign("presence-x", `{"user_id":true}`)}, "no: user_id is true, and must be", false},

		{"claim", Request{Channel: "private-orders.6", User: lister}, "  false until 13:00:00", false},
		{"claim and publish", Request{Channel: "private-orders.5", User: lister}, "  true until 13:00:00", false},
		{"claim, presence", Request{Channel: "presence-y", User: lister}, "ann  false until 13:00:00", false},
		{"claim, expired", Request{Channel: "private-orders.5", User: stale}, "no: expired", false},
		{"claim, nameless", Request{Channel: "private-x", User: wall}, "  false", false},
		{"claim, nameless, presence", Request{Channel: "presence-x", User: wall}, "no: nothing says who", false},

		{"function", Request{Channel: "private-room.1", User: ann}, "  false", true},
		{"function, publish", Request{Channel: "private-room.9", User: ann}, "  true", true},
		{"function, presence", Request{Channel: "presence-room.1", User: ann}, `ann {"n":1} false`, true},
		{"function, anonymous", Request{Channel: "private-room.1"}, "no: log in for room 1", true},
		{"function, nameless is anonymous", Request{Channel: "private-room.1", User: wall}, "no: log in for room 1", true},
		{"function, expired identity", Request{Channel: "private-room.1", User: &User{ID: "ann", ExpiresAt: testTime.Add(-1)}}, "no: expired", false},
		{"function, alias hides the user", Request{Channel: "presence-alias", User: ann}, "fox  false until 12:01:00", true},
		{"function, guest", Request{Channel: "presence-alias"}, "fox  false until 12:01:00", true},
		{"function, no member data on private", Request{Channel: "private-alias", User: ann}, "  false until 12:01:00", true},
		{"function, hidden info", Request{Channel: "presence-hidden", User: ann}, "ann  false", true},
		{"function, already over", Request{Channel: "private-over", User: ann}, "no: already expired", true},
		{"function, long member id", Request{Channel: "presence-longid", User: ann}, "no: 129 bytes is longer than 128", true},
		{"nothing registered", Request{Channel: "private-nope", User: ann}, `no: no authorizer is registered for channel "private-nope"`, false},
		{"token, none accepted", Request{Channel: "private-x", Auth: "a.b.c"}, "no: accepts no tokens", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.r.App = testApp
			if tc.r.SocketID == "" {
				tc.r.SocketID = "1.2"
			}
			calls = 0
			g, decided, err := a.Decide(tc.r)
			if decided == tc.undecided {
				t.Errorf("decided without user code: %v", decided)
			}
			if calls != 0 {
				t.Error("Decide ran user code")
			}
			ag, aerr := a.Authorize(t.Context(), tc.r)
			if decided && (show(g) != show(ag) || fmt.Sprint(err) != fmt.Sprint(aerr)) {
				t.Errorf("Decide says %v %v, Authorize %v %v", g, err, ag, aerr)
			}
			if reason, no := strings.CutPrefix(tc.want, "no: "); no {
				wantRefusal(t, aerr, reason)
				if show(ag) != show(Grant{}) {
					t.Errorf("refused, with grant %s", show(ag))
				}
				return
			}
			if aerr != nil {
				t.Fatal(aerr)
			}
			if show(ag) != tc.want {
				t.Errorf("grant %s, want %s", show(ag), tc.want)
			}
		})
	}

	_, err := a.Authorize(t.Context(), Request{App: testApp, Channel: "private-broken", User: ann})
	if err == nil || Reason(err) != "authorization failed" || !strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v, shown as %q", err, Reason(err))
	}
	_, err = a.Authorize(t.Context(), Request{App: testApp, Channel: "presence-badinfo", User: ann})
	if err == nil || Reason(err) != "authorization failed" {
		t.Errorf("bad member info: %v", err)
	}
	if got := Reason(fmt.Errorf("wrapped: %w", Refuse("why"))); got != "why" {
		t.Errorf("reason of a wrapped refusal: %q", got)
	}
}

func TestKeysRotate(t *testing.T) {
	app := AppKeys{Keys: []Key{{"new", "s1"}, {"old", "s2"}, {"empty", ""}}}
	for _, tc := range []struct {
		key, secret, want string
	}{
		{"new", "s1", ""},
		{"old", "s2", ""},
		{"old", "s1", `secret of key "old"`},
		{"empty", "", `key "empty", which is not`},
	} {
		_, _, err := New().Decide(Request{App: app, Channel: "private-x", SocketID: "1.2", Auth: SignChannel(tc.key, tc.secret, "1.2", "private-x", "")})
		if tc.want != "" {
			wantRefusal(t, err, tc.want)
		} else if err != nil {
			t.Errorf("key %s: %v", tc.key, err)
		}
	}
}

func TestUserOfRequest(t *testing.T) {
	token := issue(t, Claims{Subject: "jay"})
	withJWT := func(a *Auth) { a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret}) }
	withCookie := func(a *Auth) {
		a.Identify(func(r *http.Request) (User, error) {
			c, err := r.Cookie("session")
			switch {
			case err != nil:
				return User{}, nil
			case c.Value == "out":
				return User{}, Refuse("your session has ended")
			case c.Value == "down":
				return User{}, errors.New("redis is down")
			}
			return User{ID: c.Value}, nil
		})
	}
	anonymous := func(a *Auth) { a.AllowAnonymous() }
	type setup = []func(*Auth)
	for _, tc := range []struct {
		name                  string
		setup                 setup
		token, bearer, cookie string
		want                  string // id, "" for anonymous, or "no: " and a part of the reason
	}{
		{"nothing configured", nil, "", "", "", ""},
		{"nothing configured, token", nil, "x.y.z", "", "", "no: accepts no tokens"},
		{"nothing configured, bearer", nil, "", "opaque", "", ""},
		{"token", setup{withJWT}, token, "", "", "jay"},
		{"bearer", setup{withJWT}, "", token, "", "jay"},
		{"token before bearer", setup{withJWT}, token, "bad", "", "jay"},
		{"token before cookie", setup{withJWT, withCookie}, token, "", "ann", "jay"},
		{"cookie", setup{withJWT, withCookie}, "", "", "ann", "ann"},
		{"bad token does not fall through", setup{withJWT, withCookie, anonymous}, "", "bad", "ann", "no: not a JWT"},
		{"required", setup{withJWT}, "", "", "", "no: wants to know who connects"},
		{"required by Identify", setup{withCookie}, "", "", "", "no: wants to know who connects"},
		{"allowed", setup{withJWT, withCookie, anonymous}, "", "", "", ""},
		{"bearer left to Identify", setup{withCookie}, "", "opaque", "ann", "ann"},
		{"refused", setup{withCookie, anonymous}, "", "", "out", "no: your session has ended"},
		{"failed", setup{withCookie, anonymous}, "", "", "down", "no: authorization failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAuth()
			for _, f := range tc.setup {
				f(a)
			}
			if err := a.Check(); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			if tc.bearer != "" {
				r.Header.Set("Authorization", "bearer "+tc.bearer)
			}
			if tc.cookie != "" {
				r.AddCookie(&http.Cookie{Name: "session", Value: tc.cookie})
			}
			u, err := a.User(t.Context(), r, tc.token)
			got := ""
			switch {
			case err != nil:
				got = "no: " + Reason(err)
			case u != nil:
				got = u.ID
			}
			if reason, no := strings.CutPrefix(tc.want, "no: "); no {
				if err == nil || u != nil || !strings.Contains(got, reason) {
					t.Errorf("got %q, want refusal %q", got, reason)
				}
			} else if got != tc.want || (u == nil) != (tc.want == "") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}

	for _, u := range []User{
		{ID: "a\nb"}, {ID: strings.Repeat("x", 185)}, {ID: "a", Info: json.RawMessage("{")},
		{ID: "a", Channels: []string{"x..y"}}, {ID: "a", Publish: []string{"x{y}"}},
		{ID: "a", ExpiresAt: testTime},
	} {
		a := newAuth()
		a.Identify(func(*http.Request) (User, error) { return u, nil })
		if got, err := a.User(t.Context(), httptest.NewRequest("GET", "/", nil), ""); err == nil {
			t.Errorf("%+v accepted as %+v", u, got)
		}
	}

	type ctxKey struct{}
	a := newAuth()
	a.Identify(func(r *http.Request) (User, error) { return User{ID: r.Context().Value(ctxKey{}).(string)}, nil })
	u, err := a.User(context.WithValue(t.Context(), ctxKey{}, "ctx"), httptest.NewRequest("GET", "/", nil), "")
	if err != nil || u.ID != "ctx" {
		t.Errorf("Identify did not see the context: %v %v", u, err)
	}
}

func TestMustWait(t *testing.T) {
	plain, bearing := httptest.NewRequest("GET", "/", nil), httptest.NewRequest("GET", "/", nil)
	bearing.Header.Set("Authorization", "Bearer x.y.z")
	tokens, cookies := newAuth(), newAuth()
	tokens.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	cookies.Identify(func(*http.Request) (User, error) { return User{ID: "ann"}, nil })
	for _, tc := range []struct {
		name  string
		a     *Auth
		r     *http.Request
		token string
		want  bool
	}{
		{"nothing to ask", newAuth(), bearing, "x.y.z", false},
		{"no token", tokens, plain, "", false},
		{"a token", tokens, plain, "x.y.z", true},
		{"a bearer's token", tokens, bearing, "", true},
		{"the application", cookies, plain, "", true},
	} {
		if got := tc.a.MustWait(tc.r, tc.token); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
