package server

import (
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// Channel is the policy of the channels whose wire name matches Pattern, where '*' stands for any characters:
// "private-orders.*", "presence-*".
type Channel struct {
	Pattern string
	// Source says where the policy was written, for people: "config/realtime.yaml:14". It may be empty.
	Source string
	// History keeps messages for clients that come back: none when its Size is 0.
	History History
	// Cache is for how long a new subscriber gets the channel's last message. Zero: not at all, except on cache-
	// channels, where it is 30 minutes unless a policy says otherwise.
	Cache time.Duration
	// NoWhispers refuses client events, which private and presence channels otherwise relay to members.
	NoWhispers bool
	// Slow says what happens to a connection that does not read fast enough.
	Slow Slow
	// PayloadBytes bounds one event's data; zero means Limits.PayloadBytes.
	PayloadBytes int
	// Subscribers bounds the channel; zero means no bound.
	Subscribers int
	// Members bounds the distinct users of a presence channel; zero means 100.
	Members int
	// Encrypted refuses data that is not end-to-end encrypted. It is always on for private-encrypted- channels.
	Encrypted bool
}

// History bounds what is kept of a channel's messages.
type History struct {
	Size  int           // messages
	Age   time.Duration // zero means 5 minutes
	Bytes int           // zero means 1 MiB
}

// Slow is a policy for connections that read too slowly.
type Slow string

const (
	Disconnect Slow = ""            // nothing is left out: the connection is closed
	DropOldest Slow = "drop-oldest" // the channel's oldest waiting messages are left out, and the client told how many
	KeepLatest Slow = "keep-latest" // only the channel's newest waiting message is kept: for prices, positions, cursors
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
