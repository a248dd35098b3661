package webhook

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// Endpoint is where requests go, and what it wants to know.
type Endpoint struct {
	URL string
	// Events are names of Kinds; empty means all.
	Events []string
	// Channels are patterns of wire names, '*' stands for any characters; empty means all.
	Channels []string
	// Headers are sent with every request, besides those of the protocol.
	Headers map[string]string
}

// ours are the headers that an endpoint's own must not replace.
var ours = []string{"Content-Type", "X-Pusher-Key", "X-Pusher-Signature", "Host", "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade", "Te"}

// Check reports everything that is wrong with an endpoint: a key such as "url", "events[1]" or "headers.X-Token", and
// what is wrong with its value, which is not shown where it may be a secret.
func (e *Endpoint) Check(fail func(key, format string, args ...any)) {
	u, err := url.Parse(e.URL)
	switch {
	case e.URL == "":
		fail("url", "is missing")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		fail("url", "must be a whole http or https address, such as https://shop.example/webhooks")
	case u.User != nil:
		fail("url", "must not hold a user or password: credentials belong into headers")
	}
	for i, name := range e.Events {
		if !slices.Contains(Names[:], name) {
			fail(index("events", i), "is %.60q, and must be one of %s", name, strings.Join(Names[:], ", "))
		}
	}
	for i, p := range e.Channels {
		switch {
		case p == "":
			fail(index("channels", i), "is empty: * stands for every channel")
		case strings.ContainsAny(p, "{}"):
			fail(index("channels", i), "is %.60q: parameters are for authorizers; here * stands for any characters", p)
		}
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") != "":
			fail("headers."+name, "is no name that a header can have")
		case slices.Contains(ours, canonical):
			fail("headers."+name, "cannot be set: the server sends its own %s", canonical)
		case seen[canonical]:
			fail("headers."+name, "is there twice: headers' names are the same in capitals and in small letters")
		case strings.ContainsFunc(e.Headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			fail("headers."+name, "has a control character in its value, such as a line's end")
		}
		seen[canonical] = true
	}
}

func index(list string, i int) string {
	return list + "[" + strconv.Itoa(i) + "]"
}

// Redact is a URL as it may be shown: without user, and without the query, which may hold a secret.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "***"
	}
	u.User, u.Fragment = nil, ""
	if u.RawQuery != "" {
		u.RawQuery = "***"
	}
	return u.String()
}

// wants reports whether an event is for the endpoint.
func (e *endpoint) wants(k Kind, channel string) bool {
	return e.kinds&(1<<k) != 0 &&
		(len(e.Channels) == 0 || slices.ContainsFunc(e.Channels, func(p string) bool { return channelname.Match(p, channel) }))
}
