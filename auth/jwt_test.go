package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var hsSecret = []byte("0123456789abcdef0123456789abcdef")

// issue returns a token signed with hsSecret that is valid for an hour unless c says otherwise.
func issue(t testing.TB, c Claims) string {
	t.Helper()
	if c.ExpiresAt.IsZero() {
		c.ExpiresAt = testTime.Add(time.Hour)
	}
	token, err := IssueHS256(hsSecret, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forge makes a token out of parts, as an attacker would.
func forge(header, payload string, secret []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func pemOf(t *testing.T, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestToken(t *testing.T) {
	a := newAuth()
	a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret, Audience: "rt", Issuer: "shop", Leeway: 10 * time.Second})
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	exp := testTime.Add(time.Hour).Truncate(time.Second)
	u, err := a.Token(t.Context(), issue(t, Claims{
		Subject: "ann", Info: json.RawMessage(`{"name": "Ann"}`), Channels: []string{"orders.*"}, Publish: []string{"orders.5"},
		Audience: "rt", Issuer: "shop", ExpiresAt: exp, NotBefore: testTime,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if u.ID != "ann" || string(u.Info) != `{"name":"Ann"}` || len(u.Channels) != 1 || len(u.Publish) != 1 || !u.ExpiresAt.Equal(exp.Add(10*time.Second)) {
		t.Errorf("user is %+v", u)
	}

	hs := `{"alg":"HS256","typ":"JWT"}`
	good := `{"sub":"ann","aud":"rt","iss":"shop","exp":1772370000` // 13:00
	if _, err := a.Token(t.Context(), forge(hs, good+"}", hsSecret)); err != nil {
		t.Fatalf("the tests' own forgery is refused: %v", err)
	}
	if u, err := a.Token(t.Context(), forge(hs, strings.Replace(good, `"ann"`, "12345678901234567890", 1)+"}", hsSecret)); err != nil || u.ID != "12345678901234567890" {
		t.Errorf("numeric sub: %v %v", u, err)
	}
	if _, err := a.Token(t.Context(), forge(hs, strings.Replace(good, `"rt"`, `["x","rt"]`, 1)+"}", hsSecret)); err != nil {
		t.Errorf("several audiences: %v", err)
	}
	tampered := strings.Split(forge(hs, good+"}", hsSecret), ".")
	tampered[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(good, "ann", "bob", 1) + "}"))
	cut := forge(hs, good+"}", hsSecret)
	// Two bits of a signature's last character mean nothing; setting one must not make a second valid token.
	last := strings.IndexByte(base64Alphabet, cut[len(cut)-1])
	alias := cut[:len(cut)-1] + base64Alphabet[last|1:last|1+1]
	hs512, err := jwt.NewWithClaims(jwt.SigningMethodHS512, jwt.MapClaims{"sub": "ann", "aud": "rt", "iss": "shop", "exp": 1772370000}).SignedString(hsSecret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, token, want string }{
		{"alg none, no signature", strings.TrimSuffix(forge(`{"alg":"none"}`, good+"}", nil), "."), `alg is "none"`},
		{"alg none, empty signature", strings.Join(strings.Split(forge(`{"alg":"none"}`, good+"}", nil), ".")[:2], ".") + ".", `alg is "none"`},
		{"alg None", forge(`{"alg":"None"}`, good+"}", hsSecret), `alg is "None"`},
		{"alg in lower case", forge(`{"alg":"hs256"}`, good+"}", hsSecret), `alg is "hs256"`},
		{"alg HS512, well signed", hs512, `alg is "HS512", and this server takes only HS256`},
		{"unused bits set", alias, "not a JWT"},
		{"alg HS512", forge(`{"alg":"HS512"}`, good+"}", hsSecret), `takes only HS256`},
		{"alg a number", forge(`{"alg":5}`, good+"}", hsSecret), ``},
		{"no alg", forge(`{}`, good+"}", hsSecret), ``},
		{"crit", forge(`{"alg":"HS256","crit":["exp"]}`, good+"}", hsSecret), "crit"},
		{"other secret", forge(hs, good+"}", []byte("fedcba9876543210fedcba9876543210")), "signature is wrong"},
		{"empty secret", forge(hs, good+"}", nil), "signature is wrong"},
		{"tampered payload", strings.Join(tampered, "."), "signature is wrong"},
		{"signature cut", cut[:len(cut)-3], "signature is wrong"},
		{"signature gone", cut[:strings.LastIndexByte(cut, '.')+1], "signature is wrong"},
		{"padding", cut + "=", "not a JWT"},
		{"wrong aud", forge(hs, strings.Replace(good, "rt", "web", 1)+"}", hsSecret), `aud is ["web"], and must contain "rt"`},
		{"missing aud", forge(hs, strings.Replace(good, `"aud":"rt",`, "", 1)+"}", hsSecret), ""},
		{"wrong iss", forge(hs, strings.Replace(good, "shop", "evil", 1)+"}", hsSecret), `iss is "evil", and must be "shop"`},
		{"missing iss", forge(hs, strings.Replace(good, `"iss":"shop",`, "", 1)+"}", hsSecret), ""},
		{"expired", issue(t, Claims{Subject: "a", Audience: "rt", Issuer: "shop", ExpiresAt: testTime.Add(-10 * time.Second)}), "expired at 2026-03-01T11:59:50Z"},
		{"missing exp", forge(hs, `{"sub":"ann","aud":"rt","iss":"shop"}`, hsSecret), "has no exp"},
		{"exp null", forge(hs, `{"sub":"ann","aud":"rt","iss":"shop","exp":null}`, hsSecret), "has no exp"},
		{"exp a word", forge(hs, `{"sub":"ann","aud":"rt","iss":"shop","exp":"never"}`, hsSecret), "not a JWT"},
		{"future nbf", issue(t, Claims{Subject: "a", Audience: "rt", Issuer: "shop", NotBefore: testTime.Add(11 * time.Second)}), "not valid before 2026-03-01T12:00:11Z"},
		{"sub an object", forge(hs, strings.Replace(good, `"ann"`, `{}`, 1)+"}", hsSecret), "token's sub is {}"},
		{"sub null", forge(hs, strings.Replace(good, `"ann"`, `null`, 1)+"}", hsSecret), "token's sub is null"},
		{"sub empty", forge(hs, strings.Replace(good, `"ann"`, `""`, 1)+"}", hsSecret), "token's sub is empty"},
		{"sub with a line break", forge(hs, strings.Replace(good, `"ann"`, `"a\nb"`, 1)+"}", hsSecret), "control character"},
		{"bad pattern", issue(t, Claims{Channels: []string{"a*"}, Audience: "rt", Issuer: "shop"}), `pattern "a*"`},
		{"says nothing", issue(t, Claims{Audience: "rt", Issuer: "shop"}), "says nothing"},
		{"too long", strings.Repeat("x", MaxToken+1), "longer than 8192"},
		{"empty", "", "not a JWT"},
		{"two parts", "a.b", "not a JWT"},
		{"four parts", "a.b.c.d", "not a JWT"},
		{"garbage", "a.b.c", "not a JWT"},
	} {
		u, err := a.Token(t.Context(), tc.token)
		if u != nil {
			t.Errorf("%s: accepted as %+v", tc.name, u)
		}
		t.Run(tc.name, func(t *testing.T) { wantRefusal(t, err, tc.want) })
	}

	within := issue(t, Claims{Subject: "a", Audience: "rt", Issuer: "shop", ExpiresAt: testTime.Add(-9 * time.Second), NotBefore: testTime.Add(9 * time.Second)})
	if u, err := a.Token(t.Context(), within); err != nil || !u.ExpiresAt.After(testTime) {
		t.Errorf("within the leeway: %v %v", u, err)
	}

	open := newAuth()
	open.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	_, err = open.Token(t.Context(), issue(t, Claims{Subject: "a", Audience: "web"}))
	wantRefusal(t, err, "is for audience")
}

// The attack that a pinned algorithm is for is here too: everybody knows the public key and can use it as a secret.
func TestPublicKeyAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := jwt.MapClaims{"sub": "ann", "exp": testTime.Add(time.Hour).Unix()}
	for _, tc := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodES256, ecKey, &ecKey.PublicKey},
		{jwt.SigningMethodEdDSA, edKey, edPublic},
	} {
		token, err := jwt.NewWithClaims(tc.method, payload).SignedString(tc.private)
		if err != nil {
			t.Fatal(err)
		}
		text := pemOf(t, tc.public)
		for _, key := range []any{tc.public, text, string(text)} {
			a := newAuth()
			a.JWT(JWTConfig{Algorithm: tc.method.Alg(), PublicKey: key})
			if err := a.Check(); err != nil {
				t.Fatal(err)
			}
			if u, err := a.Token(t.Context(), token); err != nil || u.ID != "ann" {
				t.Errorf("%s with %T: %v %v", tc.method.Alg(), key, u, err)
			}
			if k, ok := tc.private.(*rsa.PrivateKey); ok { // the same key serves another algorithm
				pss, err := jwt.NewWithClaims(jwt.SigningMethodPS256, payload).SignedString(k)
				if err != nil {
					t.Fatal(err)
				}
				_, err = a.Token(t.Context(), pss)
				wantRefusal(t, err, `alg is "PS256"`)
			}
			tampered := token[:len(token)-8] + "AAAAAAAA"
			_, err := a.Token(t.Context(), tampered)
			wantRefusal(t, err, "signature is wrong")
			for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text)))} {
				_, err := a.Token(t.Context(), forge(`{"alg":"HS256"}`, `{"sub":"root","exp":1772370000}`, secret))
				wantRefusal(t, err, `alg is "HS256", and this server takes only `+tc.method.Alg())
			}
		}
	}
}

func TestCheckReportsBadJWTConfig(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // GODEBUG rsa1024min
	}
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ec256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(ec256)
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, tc := range []struct {
		c    JWTConfig
		want string
	}{
		{JWTConfig{}, "Algorithm is not set"},
		{JWTConfig{Algorithm: "none", Secret: hsSecret}, `Algorithm "none" is none of`},
		{JWTConfig{Algorithm: "HS512", Secret: hsSecret}, "is none of"},
		{JWTConfig{Algorithm: "HS256"}, "0 bytes"},
		{JWTConfig{Algorithm: "HS256", Secret: hsSecret[:31]}, "31 bytes; it must have at least 32"},
		{JWTConfig{Algorithm: "HS256", Secret: pemOf(t, &ec256.PublicKey)}, "is a PEM block"},
		{JWTConfig{Algorithm: "HS256", Secret: hsSecret, PublicKey: &ec256.PublicKey}, "takes a Secret"},
		{JWTConfig{Algorithm: "RS256", Secret: hsSecret}, "takes a PublicKey"},
		{JWTConfig{Algorithm: "RS256"}, "it is not set"},
		{JWTConfig{Algorithm: "RS256", PublicKey: &weak.PublicKey}, "shorter than 2048"},
		{JWTConfig{Algorithm: "RS256", PublicKey: &ec256.PublicKey}, "must be an RSA key"},
		{JWTConfig{Algorithm: "RS256", PublicKey: "hello"}, "not PEM"},
		{JWTConfig{Algorithm: "ES256", PublicKey: &ec384.PublicKey}, "P-256"},
		{JWTConfig{Algorithm: "ES256", PublicKey: private}, "public half only"},
		{JWTConfig{Algorithm: "EdDSA", PublicKey: ed25519.PublicKey("short")}, "must be an Ed25519 key"},
		{JWTConfig{Algorithm: "HS256", Secret: hsSecret, Leeway: -1}, "Leeway"},
		{JWTConfig{Algorithm: "HS256", Secret: hsSecret, Leeway: 2 * time.Hour}, "Leeway"},
	} {
		a := newAuth()
		a.JWT(tc.c)
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", tc.c.Algorithm, err, tc.want)
		} else if strings.Contains(err.Error(), string(hsSecret[:16])) {
			t.Errorf("the secret is in %q", err)
		}
		// Whoever serves without Check must not be open either.
		u, err := a.Token(t.Context(), forge(`{"alg":"HS256"}`, `{"sub":"a","exp":1772370000}`, tc.c.Secret))
		if _, refusal := errors.AsType[*Refusal](err); u != nil || err == nil || refusal {
			t.Errorf("%s: %+v %v, want an error for the server's log", tc.c.Algorithm, u, err)
		}
	}
	a := newAuth()
	a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
}

func TestTokenAsGrant(t *testing.T) {
	a := newAuth()
	a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	a.Channel("room.{id}", yes)
	ann := &User{ID: "ann", Info: json.RawMessage(`{"n":1}`)}
	forty := issue(t, Claims{Subject: "ann", Channels: []string{"orders.*", "presence-room.{id}"}, Publish: []string{"orders.1"}})
	wall := issue(t, Claims{Channels: []string{"*"}})
	for _, tc := range []struct {
		name string
		r    Request
		want string
	}{
		{"listed", Request{Channel: "private-orders.40", Auth: forty}, "  false until 13:00:00"},
		{"publish", Request{Channel: "private-orders.1", Auth: forty, User: ann}, "  true until 13:00:00"},
		{"presence", Request{Channel: "presence-room.1", Auth: forty}, "ann  false until 13:00:00"},
		{"presence, info of the connection", Request{Channel: "presence-room.1", Auth: forty, User: ann}, `ann {"n":1} false until 13:00:00`},
		{"presence, token names nobody", Request{Channel: "presence-room.1", Auth: wall, User: ann}, `ann {"n":1} false until 13:00:00`},
		{"presence, nobody at all", Request{Channel: "presence-room.1", Auth: wall}, "no: nothing says who"},
		{"not listed", Request{Channel: "private-carts.1", Auth: forty}, `no: does not list channel "private-carts.1"`},
		{"not listed, though a function would allow it", Request{Channel: "private-room.1", Auth: forty}, "no: does not list"},
		{"other user", Request{Channel: "private-orders.1", Auth: forty, User: &User{ID: "bob"}}, `no: token names user "ann", but this connection belongs to "bob"`},
		{"without channels", Request{Channel: "private-orders.1", Auth: issue(t, Claims{Subject: "ann"})}, "no: does not list"},
		{"expired", Request{Channel: "private-orders.1", Auth: issue(t, Claims{Channels: []string{"*"}, ExpiresAt: testTime})}, "no: expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.r.App, tc.r.SocketID = testApp, "1.2"
			if _, decided, _ := a.Decide(tc.r); decided {
				t.Error("decided without verifying the token")
			}
			g, err := a.Authorize(t.Context(), tc.r)
			if reason, no := strings.CutPrefix(tc.want, "no: "); no {
				wantRefusal(t, err, reason)
			} else if err != nil || show(g) != tc.want {
				t.Errorf("grant %s (%v), want %s", show(g), err, tc.want)
			}
		})
	}
}

func TestIssueRefusesWhatServersRefuse(t *testing.T) {
	if _, err := IssueHS256(hsSecret[:20], Claims{Subject: "a", ExpiresAt: testTime}); err == nil {
		t.Error("weak secret accepted")
	}
	if _, err := IssueHS256(hsSecret, Claims{Subject: "a"}); err == nil {
		t.Error("no ExpiresAt accepted")
	}
}

func FuzzAuthString(f *testing.F) {
	a := newAuth()
	a.JWT(JWTConfig{Algorithm: "HS256", Secret: hsSecret})
	f.Add(SignChannel(testKey, testSecret, "1.2", "private-x", ""), "private-x", "")
	f.Add(SignChannel(testKey, testSecret, "1.2", "presence-x", `{"user_id":1}`), "presence-x", `{"user_id":1}`)
	f.Add(issue(f, Claims{Subject: "a", Channels: []string{"*"}}), "private-x", "")
	f.Add(forge(`{"alg":"none"}`, `{"channels":["*"],"exp":1772370000}`, nil), "private-x", "")
	f.Add(testKey+":", "private-x", "")
	f.Fuzz(func(t *testing.T, auth, channel, data string) {
		g, err := a.Authorize(t.Context(), Request{App: testApp, Channel: channel, SocketID: "1.2", Auth: auth, ChannelData: data})
		if err != nil {
			if _, ok := errors.AsType[*Refusal](err); !ok {
				t.Errorf("not a refusal: %v", err)
			}
			if show(g) != show(Grant{}) {
				t.Errorf("refused with %s", show(g))
			}
			if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), string(hsSecret)) {
				t.Errorf("a secret in %q", err)
			}
			return
		}
		if g.Publish || strings.HasPrefix(channel, "presence-") && g.MemberID == "" {
			t.Errorf("%s granted %s", channel, show(g))
		}
	})
}
