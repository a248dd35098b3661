package server

import (
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// Channel is the policy of the channels whose wire name, prefix included, matches Pattern, where '*' stands for any
// characters, also none: "private-orders.*", "presence-*". Negative limits are errors of New.
type Channel struct {
	Pattern string
	// Source says where the policy was written, for people: "config/realtime.yaml:14". It may be empty.
	Source string
	// History keeps messages for clients that come back: none when its Size is 0.
	History History
	// Cache is for how long a new subscriber gets the channel's last message. Zero: not at all, except on channels
	// that are named "cache-…" behind their prefix, where it is 30 minutes.
	Cache time.Duration
	// NoWhispers refuses client events ("client-typing"), which private and presence channels otherwise relay to their
	// other subscribers.
	NoWhispers bool
	// Slow says what happens to a connection that does not read fast enough. Empty is Disconnect.
	Slow Slow
	// PayloadBytes bounds one event's data; zero means Limits.PayloadBytes.
	PayloadBytes int
	// Subscribers bounds the connections that listen; zero means no bound.
	Subscribers int
	// Members bounds the distinct users of a presence channel; zero means 100.
	Members int
	// Encrypted refuses data that is not end-to-end encrypted. It is always on for private-encrypted- channels.
	Encrypted bool
}

// History bounds what is kept of a channel's messages, in memory: whatever is over one of the bounds goes, the oldest
// first. A client asks for it with "since" or "rewind" (docs/protocol-ws.md, "Coming back").
type History struct {
	Size  int           // messages; zero keeps none
	Age   time.Duration // of a message; zero means 5 minutes
	Bytes int           // of data; zero means 1 MiB
}

// Slow is a policy for connections that read too slowly.
type Slow string

const (
	// Disconnect leaves nothing out: when more than Limits.QueuedBytes wait, the connection is closed.
	Disconnect Slow = ""
	// DropOldest leaves the channel's oldest waiting messages out when more than Limits.QueuedBytes wait, and tells the
	// client how many.
	DropOldest Slow = "drop-oldest"
	// KeepLatest keeps only the channel's newest message whenever one waits, and tells the client how many were left
	// out: for prices, positions, cursors.
	KeepLatest Slow = "keep-latest"
)

func (c Channel) policy() hub.Policy {
	p := hub.Policy{
		Pattern: c.Pattern, Source: c.Source, History: hub.History(c.History), Cache: c.Cache, Whispers: !c.NoWhispers,
		Payload: c.PayloadBytes, Subscribers: c.Subscribers, Members: c.Members, Encrypted: c.Encrypted,
	}
	switch c.Slow {
	case DropOldest:
		p.Slow = loop.DropOldest
	case KeepLatest:
		p.Slow = loop.KeepLatest
	}
	return p.Normal()
}
