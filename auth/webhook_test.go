package auth

import (
	"errors"
	"testing"
)

func TestWebhookVectors(t *testing.T) {
	for _, tt := range []struct{ secret, body, want string }{
		{"secret", `{"hello":"world"}`, "2677ad3e7c090b2fa2c0fb13020d66d5420879b8316eb356a2d60fb9073bc778"},
		{
			testSecret, `{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}`,
			"c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf",
		},
	} {
		if got := SignWebhook(tt.secret, []byte(tt.body)); got != tt.want {
			t.Errorf("the signature of %s is %s, and should be %s", tt.body, got, tt.want)
		}
		keys := []Key{{"old", "x"}, {"key", tt.secret}, {"none", ""}}
		if err := VerifyWebhook(keys, "key", tt.want, []byte(tt.body)); err != nil {
			t.Errorf("VerifyWebhook: %v", err)
		}
		for _, x := range []struct{ key, signature, body, why string }{
			{"key", tt.want, tt.body + " ", "the body was changed"},
			{"old", tt.want, tt.body, "another key's secret"},
			{"none", SignWebhook("", []byte(tt.body)), tt.body, "a key without secret"},
			{"", SignWebhook("", []byte(tt.body)), tt.body, "no key"},
			{"key", "", tt.body, "no signature"},
			{"key", tt.want[:63], tt.body, "a shorter signature"},
		} {
			err := VerifyWebhook(keys, x.key, x.signature, []byte(x.body))
			if _, ok := errors.AsType[*Refusal](err); !ok {
				t.Errorf("%s: the error is %v, and should be a refusal", x.why, err)
			}
		}
	}
}
