package auth

import (
	"fmt"
	"net/http"
	"testing"
)

// The vectors are over the raw body alone.
func TestWebhookVectors(t *testing.T) {
	for _, tc := range []struct{ secret, body, want string }{
		{"secret", `{"hello":"world"}`, "2677ad3e7c090b2fa2c0fb13020d66d5420879b8316eb356a2d60fb9073bc778"},
		{testSecret, `{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}`, "c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf"},
	} {
		if got := SignWebhook(tc.secret, []byte(tc.body)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.body, got, tc.want)
		}
		app := AppKeys{ID: "3", Keys: []Key{{"new", "other"}, {"old", tc.secret}}}
		if err := VerifyWebhook(http.Header{"X-Pusher-Key": {"old"}, "X-Pusher-Signature": {tc.want}}, []byte(tc.body), app); err != nil {
			t.Errorf("%s: %v", tc.body, err)
		}
	}
}

func TestVerifyWebhook(t *testing.T) {
	const body = `{"time_ms":1,"events":[]}`
	sig := SignWebhook(testSecret, []byte(body))
	wrong := fmt.Sprintf("X-Pusher-Signature is not the HMAC-SHA256, in lower-case hex, of the 25 bytes of the body with the secret of key %q", testKey)
	for _, tc := range []struct{ name, key, sig, body, want string }{
		{"as sent", testKey, sig, body, "<nil>"},
		{"no key", "", sig, body, `X-Pusher-Key is "", which is not a key of app "3"`},
		{"a stranger's key", "nokey", sig, body, `X-Pusher-Key is "nokey", which is not a key of app "3"`},
		{"no signature", testKey, "", body, wrong},
		{"the signature of something else", testKey, SignWebhook(testSecret, []byte("{}")), body, wrong},
		{"another secret", testKey, SignWebhook("other", []byte(body)), body, wrong},
		{"another body", testKey, sig, `{"time_ms":2,"events":[]}`, wrong},
		{"a prefix of the signature", testKey, sig[:63], body, wrong},
	} {
		h := http.Header{}
		h.Set("X-Pusher-Key", tc.key)
		h.Set("X-Pusher-Signature", tc.sig)
		if err := VerifyWebhook(h, []byte(tc.body), testApp); fmt.Sprint(err) != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
	if err := VerifyWebhook(http.Header{"X-Pusher-Signature": {SignWebhook("", []byte(body))}}, []byte(body), AppKeys{ID: "1", Keys: []Key{{}}}); err == nil {
		t.Error("an app without keys believes a webhook")
	}
}
