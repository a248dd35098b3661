package pusher

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go"
)

// maxShown is how much of a server's words stands in an error's text, and maxKept how much of them in its Body.
const (
	maxShown = 400
	maxKept  = 4 << 10
)

// Error is a request that did not come to a good end. It is realtime.ErrOverloaded (errors.Is) where the server said
// that it has too much to do and took nothing.
type Error struct {
	// Request is the method and address, without the query, which is signed.
	Request string
	// Status is the HTTP status. Zero means that there was no answer; Err says why.
	Status int
	// Body is what the server said, at most its first 4 KiB.
	Body string
	// RetryAfter is how long the server asks to wait. Zero means that it did not ask.
	RetryAfter time.Duration
	// Err is what went wrong without an answer, or with reading it.
	Err error

	hint  string
	again bool
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("pusher: " + e.Request + ": ")
	if e.Status != 0 {
		b.WriteString(strings.TrimSpace(strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)))
		if said := e.said(); said != "" {
			b.WriteString(": " + said)
		}
		if e.Err != nil {
			b.WriteString(": ")
		}
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	}
	if e.hint != "" {
		b.WriteString(" (" + e.hint + ")")
	}
	return b.String()
}

// said is the server's words in one line: those of {"error": …}, or all of them.
func (e *Error) said() string {
	text := e.Body
	var refusal struct{ Error string }
	if json.Unmarshal([]byte(text), &refusal) == nil && refusal.Error != "" {
		text = refusal.Error
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether sending again may succeed and cannot deliver an event twice. realtime.Retry goes by it.
func (e *Error) Temporary() bool { return e.again }

// Is makes refusals for want of capacity realtime.ErrOverloaded, which promises that sending again is safe.
func (e *Error) Is(target error) bool {
	return target == realtime.ErrOverloaded && e.again && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable)
}

// refused makes the error of an answer that is not a success.
func (d *Driver) refused(res *http.Response, body []byte, sent int) *Error {
	e := &Error{Status: res.StatusCode, Body: strings.ReplaceAll(string(body[:min(len(body), maxKept)]), d.cfg.Secret, "***")}
	switch res.StatusCode {
	case http.StatusUnauthorized:
		e.hint = "check app id, key and secret, and this machine's clock"
		if d.cfg.Path != "" {
			e.hint += fmt.Sprintf("; the path that was signed is %q: a proxy that changes it must not", res.Request.URL.EscapedPath())
		}
	case http.StatusForbidden:
		e.hint = "the app is disabled or over its quota, or may not do this"
	case http.StatusNotFound:
		e.hint = "the server does not know app " + strconv.Quote(d.cfg.AppID) + " or this call: check app id, cluster or host, port and path"
	case http.StatusRequestEntityTooLarge:
		e.hint = fmt.Sprintf("the request has %d bytes; MaxPayload refuses what is too large before it is sent", sent)
	}
	if res.StatusCode/100 == 3 {
		where := "elsewhere"
		if to, err := res.Location(); err == nil {
			where = "to " + (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
		}
		e.hint = "the server redirects " + where + ", which is not followed: set Scheme, Host, Port and Path to the right ones"
	}
	if text := res.Header.Get("Retry-After"); text != "" {
		if seconds, err := strconv.Atoi(text); err == nil {
			e.RetryAfter = max(0, min(time.Duration(seconds), 24*3600)) * time.Second
		} else if at, err := http.ParseTime(text); err == nil {
			e.RetryAfter = max(0, at.Sub(d.cfg.now()))
		}
	}
	return e
}

// permanent reports whether a failure to connect will be the same next time, and why people meet it.
func permanent(err error) (hint string, ok bool) {
	if dns, is := errors.AsType[*net.DNSError](err); is && dns.IsNotFound {
		return "check cluster or host", true
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return "the server's certificate is not one for this host that this machine trusts", true
	}
	if _, is := errors.AsType[tls.RecordHeaderError](err); is || errors.Is(err, http.ErrSchemeMismatch) {
		return `the server speaks no TLS at this port: set Scheme to "http", or another port`, true
	}
	return "", false
}
