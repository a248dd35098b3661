// Package channelname is the one place that knows how a channel's kind stands in its name.
//
// The prefixed name is the channel's name on every wire, in history and in metrics. Applications say
// ("orders.1", Private); everything below them sees "private-orders.1" and asks this package what that means.
package channelname

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLength is the longest channel name accepted, prefix included, in bytes. It is what Pusher's SDKs enforce.
const MaxLength = 200

// UserPrefix begins the channel that reaches every connection of one identified user.
const UserPrefix = "#server-to-user-"

// Kind says who may listen to a channel.
type Kind uint8

const (
	Public    Kind = iota // anyone
	Private               // whoever has a grant
	Presence              // whoever has a grant, and the members see each other
	Encrypted             // private, and only holders of the channel's key can read the data
	User                  // the connections of one identified user
)

var kindNames = [...]string{"public", "private", "presence", "encrypted", "user"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// prefixes holds the kinds' prefixes, longest match first.
var prefixes = []struct {
	text string
	kind Kind
}{
	{"private-encrypted-", Encrypted},
	{"private-", Private},
	{"presence-", Presence},
	{UserPrefix, User},
}

func prefixOf(k Kind) string {
	for _, p := range prefixes {
		if p.kind == k {
			return p.text
		}
	}
	return ""
}

// Split returns the kind of a wire name and the name without that kind's prefix. A cache channel's
// "cache-" belongs to the bare name: "private-cache-x" is Private and "cache-x".
func Split(wire string) (Kind, string) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(wire, p.text); ok {
			return p.kind, rest
		}
	}
	return Public, wire
}

// IsCache reports whether new subscribers of the channel get its last event.
func IsCache(wire string) bool {
	_, bare := Split(wire)
	return strings.HasPrefix(bare, "cache-")
}

// Wire returns the name under which (name, kind) is known everywhere. It may be given its own result: a
// name that already has the kind's prefix is kept. A name with another kind's prefix is an error, because
// the caller means two things at once.
func Wire(name string, kind Kind) (string, error) {
	if name == "" {
		return "", fmt.Errorf("channel name is empty")
	}
	if int(kind) >= len(kindNames) {
		return "", fmt.Errorf("channel %q was asked for as %s, which is no kind of channel", name, kind)
	}
	has, bare := Split(name)
	wire := name
	switch {
	case has == kind:
	case has == Public:
		wire = prefixOf(kind) + name
		if got, _ := Split(wire); got != kind {
			return "", fmt.Errorf("channel %q as %s would be %q, which is an %s channel: rename it, or send it as %s", name, kind, wire, got, got)
		}
	default:
		return "", fmt.Errorf("channel %q has the prefix of kind %s, but was asked for as %s: use the bare name %q, or the kind %s", name, has, kind, bare, has)
	}
	return wire, Validate(wire)
}

// Validate reports why a wire name cannot be a channel: Pusher's characters, at most MaxLength bytes, and
// '#' only as the beginning of a user's channel.
func Validate(wire string) error {
	if wire == "" {
		return fmt.Errorf("channel name is empty")
	}
	if len(wire) > MaxLength {
		return fmt.Errorf("channel name of %d bytes is longer than %d: %.40q…", len(wire), MaxLength, wire)
	}
	kind, bare := Split(wire)
	if bare == "" {
		return fmt.Errorf("channel name %q is only a prefix", wire)
	}
	if kind == User {
		// A user id is the application's own and may hold anything printable.
		if !utf8.ValidString(bare) {
			return fmt.Errorf("user id in channel %q is not valid UTF-8", wire)
		}
		for i := 0; i < len(bare); i++ {
			if bare[i] < 0x20 || bare[i] == 0x7f {
				return fmt.Errorf("user id in channel %q has a control character at byte %d", wire, i+len(UserPrefix))
			}
		}
		return nil
	}
	for i := 0; i < len(wire); i++ {
		if !allowed[wire[i]] {
			return fmt.Errorf("channel name %.60q has %q at byte %d; allowed are letters, digits and _ - = @ , . ;", wire, wire[i], i)
		}
	}
	return nil
}

// Match reports whether a pattern, in which '*' stands for any characters, matches the whole name.
func Match(pattern, name string) bool {
	head, tail, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		next, rest, more := strings.Cut(tail, "*")
		if !more {
			return strings.HasSuffix(name, tail)
		}
		i := strings.Index(name, next)
		if i < 0 {
			return false
		}
		name, tail = name[i+len(next):], rest
	}
}

var allowed = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=@,.;") {
		t[c] = true
	}
	return t
}()
