package hub

import (
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// takings are what was lately taken from clients that have been named: those of them that are away come back without it.
type takings struct {
	mu   sync.Mutex
	list []taking // guarded by mu
	n    uint64   // guarded by mu: the number of the last one, and
	gone uint64   // of the last one that has been let go of
}

type taking struct {
	n       uint64
	at      time.Time
	from    Select
	channel string // a subscription; empty: the connection
	err     *Error
}

const takingsKept = 4096

// take takes something from clients, by f on their loops.
func (h *Hub) take(from Select, channel string, err *Error, f func(*Client)) {
	t := &h.takings
	t.mu.Lock() // which keeps the order on the loops
	defer t.mu.Unlock()
	t.n++
	n := t.n
	if h.cfg.Recovery > 0 {
		now := h.cfg.Now()
		t.list = append(t.list, taking{n, now, from, channel, err})
		for len(t.list) > takingsKept || now.Sub(t.list[0].at) > 2*h.cfg.Recovery { // when nobody who was there is away
			t.gone = t.list[0].n
			t.list = t.list[1:]
		}
	}
	for _, b := range h.branches {
		b.loop.Post(loop.Func(func(*loop.Loop) {
			b.taken = n
			b.each(from, f)
		}), 0)
	}
}

// known reports whether everything is known that was taken after the n-th.
func (t *takings) known(n uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return n >= t.gone
}

// from is what was taken from a client while it was away: all of it, or subscriptions. What is taken later finds it here
// if it has a place here.
func (t *takings) from(s *Saved) (gone *Error, channels map[string]*Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	channels = map[string]*Error{}
	for i := range t.list {
		x := &t.list[i]
		if x.n <= s.taken || !x.from.is(s) {
			continue
		}
		if x.channel == "" {
			return x.err, nil
		}
		channels[x.channel] = x.err
	}
	return nil, channels
}

func (s *Select) is(c *Saved) bool {
	if s.App != c.app.ID {
		return false
	}
	if s.Socket != "" {
		id, ok := ParseID(s.Socket)
		return ok && id == c.id
	}
	return c.user != nil && c.user.ID == s.User
}
