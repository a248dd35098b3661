package hub

import (
	"slices"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// Above countFew subscriptions a channel's subscribers are told their number every countEvery at most: otherwise each
// newcomer to a large channel would cost a message to everybody. (Pusher Channels, "Subscription count events".)
const (
	countFew   = 100
	countEvery = 5 * time.Second
)

// count tells a channel's subscribers how many they are, at once or later. Under the home's mutex.
func (h *Hub) count(hm *home, ch *channel, app *App) {
	if !app.Settings().SubscriptionCounts || strings.HasPrefix(ch.key.Name, "presence-") || strings.HasPrefix(ch.key.Name, channelname.UserPrefix) {
		return
	}
	now := h.cfg.Now()
	if ch.count > countFew && now.Sub(ch.toldAt) < countEvery {
		if !slices.Contains(hm.counts, ch) {
			hm.counts = append(hm.counts, ch)
		}
		return
	}
	h.tellCount(ch, now)
}

func (h *Hub) tellCount(ch *channel, now time.Time) {
	ch.told, ch.toldAt = ch.count, now
	h.happened(ch, HookEvent{Kind: Counted, Count: ch.count})
	if ch.count == 0 {
		return
	}
	ch.sent++
	h.deliver(ch, &Delivery{Kind: Subscribers, Event: &noEvent, Count: ch.count, ch: ch, stamp: loop.Stamp{Seq: ch.sent}})
}

// tellCounts tells what was put off.
func (h *Hub) tellCounts(now time.Time) {
	for i := range h.homes {
		hm := &h.homes[i]
		hm.mu.Lock()
		hm.counts = slices.DeleteFunc(hm.counts, func(ch *channel) bool {
			if ch.count != ch.told && now.Sub(ch.toldAt) < countEvery {
				return false
			}
			if ch.count != ch.told {
				h.tellCount(ch, now)
			}
			return true
		})
		hm.mu.Unlock()
	}
}
