package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// MaxChannelData is the longest channel_data or user_data accepted, in bytes, and the longest member info.
const MaxChannelData = 8 << 10

// AppKeys is an application on the server and the keys that may sign for it. Without keys nothing can be signed or
// verified.
type AppKeys struct {
	ID string // the app_id of the HTTP API
	// Keys are all valid for verifying, so that a new one can be added before the old one is removed. The first signs.
	Keys []Key
}

// Key is a public name and the secret that signs under it. One without a secret signs and verifies nothing.
type Key struct{ Key, Secret string }

// String is the public name only, so that a key may be logged.
func (k Key) String() string { return k.Key }

// GoString is String in Go's syntax.
func (k Key) GoString() string { return fmt.Sprintf("auth.Key{Key: %q}", k.Key) }

func (a AppKeys) secret(key string) (string, bool) {
	for _, k := range a.Keys {
		if k.Key == key && k.Key != "" && k.Secret != "" {
			return k.Secret, true
		}
	}
	return "", false
}

func (a AppKeys) signing() (Key, error) {
	if len(a.Keys) == 0 || a.Keys[0].Key == "" || a.Keys[0].Secret == "" {
		return Key{}, fmt.Errorf("app %q has no key to sign with", a.ID)
	}
	return a.Keys[0], nil
}

// SignChannel returns the auth string "KEY:SIGNATURE" with which socketID may subscribe to channel, a wire name.
// channelData is the exact text that the client sends along: JSON with a user_id for presence channels, otherwise
// empty. (Pusher Channels protocol, "Generating auth signatures".)
//
// The caller has checked socketID and channel: a channel name that contains ":" could be read as something else.
func SignChannel(key, secret, socketID, channel, channelData string) string {
	return key + ":" + signature(secret, channelHead(socketID, channel, channelData), channelData)
}

// SignUser returns the auth string with which socketID may sign in as the user that userData, JSON with an id,
// describes (Pusher Channels protocol, "User authentication").
func SignUser(key, secret, socketID, userData string) string {
	return key + ":" + signature(secret, userHead(socketID), userData)
}

// channelHead is what is signed for a channel, before channelData.
func channelHead(socketID, channel, channelData string) string {
	if channelData == "" {
		return socketID + ":" + channel
	}
	return socketID + ":" + channel + ":"
}

// userHead is what is signed for a sign-in, before user_data.
func userHead(socketID string) string { return socketID + "::user::" }

// signature is lower-case hex of the HMAC-SHA256 of the parts in a row.
func signature(secret string, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		mac.Write([]byte(p))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// verifySignature checks that auth is "KEY:SIGNATURE" over head and data. dataName is what the client calls data.
func verifySignature(app AppKeys, auth, head, data, dataName string) error {
	key, sig, ok := strings.Cut(auth, ":")
	if !ok {
		return Refuse(`auth is neither "KEY:SIGNATURE" nor a token`)
	}
	secret, ok := app.secret(key)
	if !ok {
		return refusef("auth was signed with key %.60q, which is not one of this app's", key)
	}
	if !hmac.Equal([]byte(sig), []byte(signature(secret, head, data))) {
		what := fmt.Sprintf("%q", head)
		if data != "" {
			what += " followed by " + dataName + " exactly as sent"
		}
		return refusef("the signature in auth is not the HMAC-SHA256, in lower-case hex, of %s with the secret of key %q", what, key)
	}
	return nil
}

// signedGrant decides a subscription that came with a Pusher signature.
func signedGrant(kind channelname.Kind, r Request) (Grant, error) {
	data := r.ChannelData
	if kind != channelname.Presence {
		data = "" // not signed on other channels, so neither believed
	}
	if len(data) > MaxChannelData {
		return Grant{}, refusef("channel_data of %d bytes is longer than %d", len(data), MaxChannelData)
	}
	if err := verifySignature(r.App, r.Auth, channelHead(r.SocketID, r.Channel, data), data, "channel_data"); err != nil {
		return Grant{}, err
	}
	if data == "" {
		return Grant{}, nil // a member, if it takes one, is the signed-in user
	}
	id, info, err := parseChannelData(data)
	if err != nil {
		return Grant{}, refusef("channel_data: %v", err)
	}
	if err := sameUser(r.User, id, "channel_data"); err != nil {
		return Grant{}, err
	}
	if info == nil {
		info = json.RawMessage("null") // said to be nothing: the user's own does not take its place
	}
	return Grant{MemberID: id, MemberInfo: info}, nil
}

// sameUser refuses a subscription that names another user than the connection's.
func sameUser(u *User, id, source string) error {
	if u == nil || u.ID == "" || id == "" || u.ID == id {
		return nil
	}
	return refusef("%s names user %q, but this connection belongs to %q", source, id, u.ID)
}

// parseChannelData reads {"user_id": string|number, "user_info"?: any} (Pusher Channels protocol, "Presence channels").
func parseChannelData(data string) (id string, info json.RawMessage, err error) {
	fields, err := jsonObject(data)
	if err != nil {
		return "", nil, err
	}
	raw, ok := fields["user_id"]
	if !ok {
		return "", nil, errors.New("user_id is missing")
	}
	if id, err = idText(raw); err != nil {
		return "", nil, fmt.Errorf("user_id %w", err)
	}
	if len(id) > MaxMemberID {
		return "", nil, fmt.Errorf("user_id of %d bytes is longer than %d", len(id), MaxMemberID)
	}
	return id, fields["user_info"], nil
}

// VerifyUser checks a sign-in: auth is "KEY:SIGNATURE" over userData exactly as received, which is
// {"id": string, "user_info"?: any, "watchlist"?: [string, …]} (Pusher Channels protocol, "User authentication"). The
// watchlist is as long as the client sent it. The error is a [*Refusal].
func VerifyUser(app AppKeys, socketID, auth, userData string) (u User, watchlist []string, err error) {
	if len(userData) > MaxChannelData {
		return User{}, nil, refusef("user_data of %d bytes is longer than %d", len(userData), MaxChannelData)
	}
	if err := verifySignature(app, auth, userHead(socketID), userData, "user_data"); err != nil {
		return User{}, nil, err
	}
	fields, err := jsonObject(userData)
	if err != nil {
		return User{}, nil, refusef("user_data: %v", err)
	}
	u.Info = fields["user_info"]
	if err := json.Unmarshal(fields["id"], &u.ID); err != nil || u.ID == "" {
		return User{}, nil, Refuse("user_data: id must be a string that is not empty")
	}
	if list, ok := fields["watchlist"]; ok {
		if err := json.Unmarshal(list, &watchlist); err != nil {
			return User{}, nil, Refuse("user_data: watchlist must be an array of strings")
		}
	}
	if err := u.check(); err != nil {
		return User{}, nil, refusef("user_data: %v", err)
	}
	return u, watchlist, nil
}

// jsonObject is one level of JSON, with keys compared exactly (encoding/json ignores case in struct fields).
func jsonObject(text string) (map[string]json.RawMessage, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not valid UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return nil, fmt.Errorf("it is not a JSON object: %v", err)
	}
	return fields, nil
}

// idText returns an id as text. Laravel signs whole numbers, and on the wire ids are strings.
func idText(raw json.RawMessage) (string, error) {
	switch c := raw[0]; {
	case c == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", err
		}
		if s == "" {
			return "", errors.New("is empty")
		}
		return s, nil
	case c == '-' || '0' <= c && c <= '9':
		return decimalText(string(raw))
	}
	return "", fmt.Errorf("is %.20s, and must be a string or a number", raw)
}

// decimalText writes a JSON number without exponent and without zeros after the decimal point. It works on the
// digits, because a float64 would change ids beyond 2^53.
func decimalText(number string) (string, error) {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(number), "e")
	shift := 0
	if hasExponent {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil || shift < -MaxMemberID || shift > MaxMemberID {
			return "", fmt.Errorf("is %.40s, whose exponent is out of range", number)
		}
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits, point := whole+fraction, len(whole)+shift
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole = strings.TrimLeft(digits[:point], "0")
	fraction = strings.TrimRight(digits[point:], "0")
	if whole == "" {
		whole = "0"
	}
	text := whole
	if fraction != "" {
		text += "." + fraction
	}
	if negative && text != "0" {
		text = "-" + text
	}
	return text, nil
}
