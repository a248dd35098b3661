package auth

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// The vectors are those of the Pusher documentation, "Generating auth signatures".
func TestSignatureVectors(t *testing.T) {
	for _, tc := range []struct{ channel, data, want string }{
		{"private-foobar", "", "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"},
		{"presence-foobar", `{"user_id":"10","user_info":{"name":"Mr. Pusher"}}`, "48dac51d2d7569e1e9c0f48c227d4b26f238fa68e5c0bb04222c966909c4f7c4"},
		{"presence-foobar", `{"user_id":10,"user_info":{"name":"Mr. Pusher"}}`, "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c"},
		{"presence-foobar", `{"user_id":10,"user_info":{"name":"Mr. Channels"}}`, "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"},
	} {
		auth := SignChannel(testKey, testSecret, "1234.1234", tc.channel, tc.data)
		if auth != testKey+":"+tc.want {
			t.Errorf("%s %s: %s, want %s:%s", tc.channel, tc.data, auth, testKey, tc.want)
		}
		g, decided, err := New().Decide(Request{App: testApp, Channel: tc.channel, SocketID: "1234.1234", Auth: testKey + ":" + tc.want, ChannelData: tc.data})
		if err != nil || !decided || g.Publish {
			t.Errorf("%s: %v %v %v", tc.channel, g, decided, err)
		}
		if tc.data != "" && g.MemberID != "10" {
			t.Errorf("member is %q", g.MemberID)
		}
	}
}

func TestSignIn(t *testing.T) {
	const data = `{"id":"12345"}`
	const auth = testKey + ":4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"
	if got := SignUser(testKey, testSecret, "1234.1234", data); got != auth {
		t.Errorf("signed %s, want %s", got, auth)
	}
	if u, watch, err := VerifyUser(testApp, "1234.1234", auth, data); err != nil || u.ID != "12345" || watch != nil {
		t.Errorf("%+v %v %v", u, watch, err)
	}
	full := `{"id":"7","user_info":{"n": 1},"watchlist":["a","b"],"ID":"8"}`
	u, watch, err := VerifyUser(testApp, "1.2", SignUser(testKey, testSecret, "1.2", full), full)
	if err != nil || u.ID != "7" || string(u.Info) != `{"n":1}` || !slices.Equal(watch, []string{"a", "b"}) {
		t.Errorf("%+v %v %v", u, watch, err)
	}
	for _, tc := range []struct{ socket, auth, data, want string }{
		{"1234.1235", auth, data, `"1234.1235::user::" followed by user_data`},
		{"1234.1234", auth, data + " ", "signature in auth is not"},
		{"1234.1234", "other" + auth, data, "not one of this app's"},
		{"1234.1234", "", data, "neither"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{}`), `{}`, "id must be a string"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{"id":""}`), `{"id":""}`, "id must be a string"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{"id":7}`), `{"id":7}`, "id must be a string"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{"ID":"7"}`), `{"ID":"7"}`, "id must be a string"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `null`), `null`, "id must be a string"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `[`), `[`, "not a JSON object"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{"id":"a\nb"}`), `{"id":"a\nb"}`, "control character"},
		{"1.2", SignUser(testKey, testSecret, "1.2", `{"id":"a","watchlist":"b"}`), `{"id":"a","watchlist":"b"}`, "watchlist must be"},
		{"1.2", "x", strings.Repeat("x", MaxChannelData+1), "longer than 8192"},
		// A channel's signature is not a sign-in, though both are over "socket:…".
		{"1.2", SignChannel(testKey, testSecret, "1.2", "private-x", data), data, "signature in auth is not"},
	} {
		_, _, err := VerifyUser(testApp, tc.socket, tc.auth, tc.data)
		wantRefusal(t, err, tc.want)
	}
}

func TestKeysMayBeLogged(t *testing.T) {
	if s := fmt.Sprintf("%v %+v %#v %s", testApp, testApp, testApp, testApp); strings.Contains(s, testSecret) {
		t.Errorf("the secret is in %s", s)
	}
}

func TestChannelData(t *testing.T) {
	for _, tc := range []struct{ data, id, info string }{
		{`{"user_id":"10"}`, "10", ""},
		{`{"user_id":10}`, "10", ""},
		{`{"user_id":10.0,"user_info":null}`, "10", "null"},
		{`{"user_id":1e3}`, "1000", ""},
		{`{"user_id":1.5E+1}`, "15", ""},
		{`{"user_id":150e-1}`, "15", ""},
		{`{"user_id":15e-3}`, "0.015", ""},
		{`{"user_id":-0.0}`, "0", ""},
		{`{"user_id":0e5}`, "0", ""},
		{`{"user_id":-7.50}`, "-7.5", ""},
		{`{"user_id":12345678901234567890}`, "12345678901234567890", ""},
		{`{"user_info":[1],"user_id":"a\u00e9"}`, "aé", "[1]"},
		{`{"user_id":"a","USER_ID":"b","x":{}}`, "a", ""},
	} {
		id, info, err := parseChannelData(tc.data)
		if err != nil || id != tc.id || string(info) != tc.info {
			t.Errorf("%s: %q %s %v, want %q %s", tc.data, id, info, err, tc.id, tc.info)
		}
	}
	for data, want := range map[string]string{
		`{}`:                     "user_id is missing",
		`null`:                   "user_id is missing",
		`{"USER_ID":"1"}`:        "user_id is missing",
		`{"user_id":null}`:       "user_id is null",
		`{"user_id":true}`:       "user_id is true",
		`{"user_id":[1]}`:        "user_id is [1]",
		`{"user_id":""}`:         "user_id is empty",
		`{"user_id":1e129}`:      "exponent is out of range",
		`{"user_id":1e99999999}`: "exponent is out of range",
		`{"user_id":1e128}`:      "129 bytes is longer than 128",
		`{"user_id":"` + strings.Repeat("x", 129) + `"}`: "129 bytes is longer than 128",
		`[]`:                     "not a JSON object",
		`"x"`:                    "not a JSON object",
		`{"user_id":1} x`:        "not a JSON object",
		``:                       "not a JSON object",
		"{\"user_id\":\"\xff\"}": "not valid UTF-8",
	} {
		if id, _, err := parseChannelData(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %q %v, want %q", data, id, err, want)
		}
	}
	long := `{"user_id":"1","x":"` + strings.Repeat("x", MaxChannelData) + `"}`
	_, _, err := New().Decide(Request{App: testApp, Channel: "presence-x", SocketID: "1.2", ChannelData: long, Auth: SignChannel(testKey, testSecret, "1.2", "presence-x", long)})
	wantRefusal(t, err, "longer than 8192")
}

func FuzzChannelData(f *testing.F) {
	for _, s := range []string{`{"user_id":"10","user_info":{"name":"Mr. Pusher"}}`, `{"user_id":10}`, `{"user_id":-1.50e-2}`, `{"user_id":1e128}`, `{"user_id":null}`, `[`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		id, info, err := parseChannelData(data)
		if err != nil {
			return
		}
		if id == "" || len(id) > MaxMemberID {
			t.Errorf("id %q", id)
		}
		if info != nil && !json.Valid(info) {
			t.Errorf("info %q", info)
		}
		// What is sent on is read as the same member.
		again, err := identityJSON("user_id", id, info)
		if err != nil {
			return // too long together
		}
		if id2, _, err := parseChannelData(again); err != nil || id2 != id {
			t.Errorf("%q became %q (%v)", id, id2, err)
		}
	})
}

// TestSignaturesAreComparedInConstantTime reads the source: a MAC that was computed may only meet hmac.Equal.
func TestSignaturesAreComparedInConstantTime(t *testing.T) {
	compared := 0
	for _, file := range []string{"auth.go", "handler.go", "jwt.go", "pusher.go", "sign.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		calls := func(n ast.Node, name string) (found int) {
			ast.Inspect(n, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok {
					if id, ok := c.Fun.(*ast.Ident); ok && id.Name == name {
						found++
					}
				}
				return true
			})
			return found
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && calls(n, "signature") > 0 {
					t.Errorf("%s: a signature is compared with %s", file, n.Op)
				}
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Equal" && calls(n, "signature") > 0 {
					if x, ok := s.X.(*ast.Ident); !ok || x.Name != "hmac" {
						t.Errorf("%s: a signature is compared with something else than hmac.Equal", file)
					}
					compared++
				}
			}
			return true
		})
	}
	if compared != 2 {
		t.Errorf("signatures are compared at %d places, known are 2", compared)
	}
}

func BenchmarkDecideSignature(b *testing.B) {
	a := New()
	for name, r := range map[string]Request{
		"private":  {Channel: "private-orders.5"},
		"presence": {Channel: "presence-orders.5", ChannelData: `{"user_id":10,"user_info":{"name":"Mr. Pusher"}}`},
	} {
		r.App, r.SocketID = testApp, "1234.1234"
		r.Auth = SignChannel(testKey, testSecret, r.SocketID, r.Channel, r.ChannelData)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := a.Decide(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
