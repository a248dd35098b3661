package auth

import "crypto/hmac"

// SignWebhook returns what X-Pusher-Signature says of a webhook with this body (Pusher Channels protocol, "Webhooks").
func SignWebhook(secret string, body []byte) string { return signature(secret, string(body)) }

// VerifyWebhook checks that a webhook's body, exactly as received, was signed with one of the keys: key is its
// X-Pusher-Key and signature its X-Pusher-Signature. The error is a [*Refusal]; its place is a 401 response.
func VerifyWebhook(keys []Key, key, signature string, body []byte) error {
	secret, ok := AppKeys{Keys: keys}.secret(key)
	if !ok {
		return refusef("X-Pusher-Key %.60q is not one of the keys that are known here", key)
	}
	if !hmac.Equal([]byte(signature), []byte(SignWebhook(secret, body))) {
		return refusef("X-Pusher-Signature is not the HMAC-SHA256, in lower-case hex, of the %d bytes of the body with the secret of key %q", len(body), key)
	}
	return nil
}
