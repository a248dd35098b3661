package auth

import (
	"crypto/hmac"
	"net/http"
)

// SignWebhook returns what X-Pusher-Signature says of a webhook's body (Pusher Channels protocol, "Webhooks"): the
// HMAC-SHA256 of its bytes with the secret of the key that X-Pusher-Key names, in lower-case hex.
func SignWebhook(secret string, body []byte) string { return signature(secret, string(body)) }

// VerifyWebhook checks that a webhook was sent by somebody who has one of the app's secrets; body is all of its body,
// exactly as received. The signature has no time in it: whoever saw a webhook can send it again.
//
// The error is a [*Refusal] that says which check failed. Its place is a 401 response.
func VerifyWebhook(h http.Header, body []byte, app AppKeys) error {
	key := h.Get("X-Pusher-Key")
	secret, ok := app.secret(key)
	if !ok {
		return refusef("X-Pusher-Key is %.60q, which is not a key of app %q", key, app.ID)
	}
	if !hmac.Equal([]byte(h.Get("X-Pusher-Signature")), []byte(SignWebhook(secret, body))) {
		return refusef("X-Pusher-Signature is not the HMAC-SHA256, in lower-case hex, of the %d bytes of the body with the secret of key %q", len(body), key)
	}
	return nil
}
