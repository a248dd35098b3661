package hub

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// Policy says how channels behave whose wire name matches Pattern: '*' stands for any characters, '{x}' written by
// users is the caller's to translate.
type Policy struct {
	Pattern string
	// Source tells people where the policy was written.
	Source string

	History  History
	Cache    time.Duration // how long new subscribers get the last message; 0: they do not
	Whispers bool          // clients may send client- events to each other (private and presence channels only)
	Slow     loop.Policy   // what happens to listeners that read too slowly
	Payload  int           // bytes of one event's data; 0: the server's limit
	// Subscribers and Members bound the channel; 0: no bound on subscriptions, 100 members.
	Subscribers int
	Members     int
	// Encrypted refuses data that is not end-to-end encrypted.
	Encrypted bool
}

// History says how much of a channel is kept for those who come back: nothing when Size is 0.
type History struct {
	Size  int           // messages
	Age   time.Duration // of the oldest
	Bytes int           // of data
}

// Normal returns the policy with its zero values filled in.
func (p Policy) Normal() Policy {
	if p.History.Size > 0 {
		if p.History.Age == 0 {
			p.History.Age = 5 * time.Minute
		}
		if p.History.Bytes == 0 {
			p.History.Bytes = 1 << 20
		}
	}
	if p.Members == 0 {
		p.Members = 100
	}
	return p
}

// keeps reports whether messages are kept for subscribers yet to come.
func (p *Policy) keeps() bool { return p.History.Size > 0 || p.Cache > 0 }

var (
	normal    = Policy{Pattern: "*", Source: "default", Whispers: true}.Normal()
	cache     = Policy{Pattern: "*cache-*", Source: "default for cache channels", Whispers: true, Cache: 30 * time.Minute}.Normal()
	encrypted = Policy{Pattern: "private-encrypted-*", Source: "default for encrypted channels", Encrypted: true}.Normal()
	encCache  = Policy{Pattern: "private-encrypted-cache-*", Source: "default for encrypted cache channels", Encrypted: true, Cache: 30 * time.Minute}.Normal()
)

// Default is the policy of a channel that no configured pattern matches.
func Default(wire string) *Policy {
	isEncrypted, isCache := strings.HasPrefix(wire, "private-encrypted-"), channelname.IsCache(wire)
	switch {
	case isEncrypted && isCache:
		return &encCache
	case isEncrypted:
		return &encrypted
	case isCache:
		return &cache
	}
	return &normal
}

// Policy is what holds for a channel.
func (h *Hub) Policy(k Key) *Policy {
	for _, p := range h.cfg.Policies {
		if channelname.Match(p.Pattern, k.Name) {
			return p.Of(k.Name)
		}
	}
	return Default(k.Name)
}

// Of is what p, whose pattern matches the channel, means for it: what the channel's name promises holds also where p
// does not speak of it.
func (p *Policy) Of(name string) *Policy {
	d := Default(name)
	if (p.Cache > 0 || d.Cache == 0) && (p.Encrypted || !d.Encrypted) {
		return p
	}
	q := *p
	q.Cache, q.Encrypted = cmp.Or(p.Cache, d.Cache), p.Encrypted || d.Encrypted
	return &q
}

// Check says what is wrong with a policy.
func (p *Policy) Check() error {
	switch {
	case p.Pattern == "":
		return fmt.Errorf("a channel policy has no pattern")
	case p.History.Size < 0 || p.History.Bytes < 0 || p.History.Age < 0 || p.Cache < 0 || p.Payload < 0 || p.Subscribers < 0 || p.Members < 0:
		return fmt.Errorf("channel policy %q has a negative limit", p.Pattern)
	}
	return nil
}
