package auth

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxClockDifference is how far auth_timestamp of a signed request may be from the server's clock, either way.
const MaxClockDifference = 600 * time.Second

// SignRequest returns the query string, without "?", that authenticates a request to the HTTP API (Pusher Channels
// protocol, "HTTP API: authentication"): params and the auth_ parameters, escaped. path is the one the server sees,
// e.g. "/apps/3/events", as it will stand in the request line; body is the exact body, nil for none.
func SignRequest(method, path string, params map[string]string, body []byte, key, secret string, now time.Time) string {
	query := url.Values{}
	for name, value := range params {
		query.Set(strings.ToLower(name), value)
	}
	query.Set("auth_key", key)
	query.Set("auth_timestamp", strconv.FormatInt(now.Unix(), 10))
	query.Set("auth_version", "1.0")
	if len(body) != 0 {
		query.Set("body_md5", md5Hex(body))
	}
	sig := signature(secret, requestString(method, path, query))
	return query.Encode() + "&auth_signature=" + sig
}

// requestString is what the signature of a request covers: values neither escaped nor, if there are several, kept
// apart by more than a comma.
func requestString(method, path string, query url.Values) string {
	var b strings.Builder
	b.WriteString(strings.ToUpper(method) + "\n" + path + "\n")
	first := true
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if name == "auth_signature" {
			continue
		}
		if !first {
			b.WriteByte('&')
		}
		first = false
		b.WriteString(name + "=" + strings.Join(query[name], ","))
	}
	return b.String()
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// ParseQuery reads the raw query of a request to the HTTP API as it is signed: ";" does not separate (it is legal in
// channel names), names are in lower case, and the values of name[], name[0], name[1] and repeated names stand in
// their order under the plain name.
func ParseQuery(raw string) (url.Values, error) {
	query := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, fmt.Errorf("query parameter %.60q: %w", pair, err)
		}
		value, err = url.QueryUnescape(value)
		if err != nil {
			return nil, fmt.Errorf("query parameter %.60q: %w", pair, err)
		}
		if open := strings.IndexByte(name, '['); open > 0 && strings.HasSuffix(name, "]") && isIndex(name[open+1:len(name)-1]) {
			name = name[:open]
		}
		name = strings.ToLower(name)
		query[name] = append(query[name], value)
	}
	return query, nil
}

// isIndex reports whether s is what stands between the brackets of an array's parameter.
func isIndex(s string) bool { return strings.Trim(s, "0123456789") == "" }

// VerifyRequest checks that a request to the HTTP API was signed with one of the app's keys. body is all of its body.
// prefix, if not empty, is the part of the path that a reverse proxy or a sub-path put in front of "/apps/": a
// signature over the path without it is accepted too, because SDKs differ.
//
// The error is a [*Refusal] that says which check failed and what should have been signed; it never contains a secret.
// Its place is a 401 response.
func VerifyRequest(r *http.Request, body []byte, app AppKeys, now time.Time, prefix string) error {
	query, secret, err := credentials(r, app, now)
	if err != nil {
		return err
	}
	sums := query["body_md5"]
	if len(sums) == 0 && len(body) != 0 {
		return refusef("query parameter body_md5 is missing: the body has %d bytes, and its MD5 is %s", len(body), md5Hex(body))
	}
	if len(sums) > 1 {
		return refusef("query parameter body_md5 is there %d times", len(sums))
	}
	if len(sums) == 1 && sums[0] != md5Hex(body) {
		return refusef("body_md5 is %.60q, and the MD5 of the %d bytes received is %s", sums[0], len(body), md5Hex(body))
	}
	return checkSignature(r, query, secret, prefix)
}

// VerifyQuery is VerifyRequest without the body, which is checked by VerifyRequest when it has arrived. The signature
// covers the body's MD5, so that a server need not keep the body of a request that nobody signed.
func VerifyQuery(r *http.Request, app AppKeys, now time.Time, prefix string) error {
	query, secret, err := credentials(r, app, now)
	if err != nil {
		return err
	}
	return checkSignature(r, query, secret, prefix)
}

// credentials checks who signed a request, and when.
func credentials(r *http.Request, app AppKeys, now time.Time) (query url.Values, secret string, err error) {
	if query, err = ParseQuery(r.URL.RawQuery); err != nil {
		return nil, "", Refuse(err.Error())
	}
	for _, name := range []string{"auth_key", "auth_timestamp", "auth_version", "auth_signature"} {
		switch len(query[name]) {
		case 0:
			return nil, "", refusef("query parameter %s is missing: requests to this API are signed", name)
		case 1:
		default:
			return nil, "", refusef("query parameter %s is there %d times", name, len(query[name]))
		}
	}
	key := query.Get("auth_key")
	secret, ok := app.secret(key)
	if !ok {
		return nil, "", refusef("auth_key %.60q is not a key of app %q", key, app.ID)
	}
	if v := query.Get("auth_version"); v != "1.0" {
		return nil, "", refusef(`auth_version is %.20q, and must be "1.0"`, v)
	}
	return query, secret, checkTimestamp(query.Get("auth_timestamp"), now)
}

func checkSignature(r *http.Request, query url.Values, secret, prefix string) error {
	paths := signedPaths(r, prefix)
	got := []byte(query.Get("auth_signature"))
	match := false
	for _, path := range paths {
		if hmac.Equal(got, []byte(signature(secret, requestString(r.Method, path, query)))) {
			match = true
		}
	}
	if !match {
		return refusef("auth_signature is not the HMAC-SHA256, in lower-case hex, of %q with the secret of key %q", requestString(r.Method, paths[0], query), query.Get("auth_key"))
	}
	return nil
}

func checkTimestamp(text string, now time.Time) error {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return refusef("auth_timestamp is %.30q, and must be the time in whole seconds since 1970", text)
	}
	limit := int64(MaxClockDifference / time.Second)
	if low, high := now.Unix()-limit, now.Unix()+limit; seconds < low || seconds > high {
		return refusef("auth_timestamp is %d, and the server's time %d: they may differ by %d seconds; set the clocks, or sign again", seconds, now.Unix(), limit)
	}
	return nil
}

// signedPaths returns the paths a client may have signed, without duplicates: as received, decoded (SDKs sign a
// channel's name as it is, and HTTP libraries escape it afterwards), and each without the prefix. The one named in a
// refusal comes first.
func signedPaths(r *http.Request, prefix string) []string {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(raw, "/") {
		raw = r.URL.EscapedPath() // a proxy's request with a whole URL, or one that no server received
	}
	paths := []string{raw}
	if decoded, err := url.PathUnescape(raw); err == nil {
		paths = append(paths, decoded)
	}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		for _, p := range paths {
			if short, ok := strings.CutPrefix(p, prefix); ok {
				paths = append(paths, short)
			}
		}
	}
	slices.Sort(paths[1:])
	return append(paths[:1], slices.DeleteFunc(slices.Compact(paths[1:]), func(p string) bool { return p == raw })...)
}
