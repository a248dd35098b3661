package loop

import (
	"math"
	"time"
)

// The wheel holds one deadline per connection in ticks, at the price of four bytes where a timer costs a
// hundred. An entry is only a reminder to look at the connection: moving a deadline later costs nothing, since
// the entry finds that out when it comes up and moves on.
const (
	wheelTick  = 64 * time.Millisecond
	wheelSlots = 1024
)

type wheel struct {
	zero    time.Time // tick 0
	now     uint32    // every tick up to this one has come up
	entries int
	slots   [wheelSlots][]uint32 // connection slots
}

func (w *wheel) start(now time.Time) { w.zero = now }

// tick is the first tick not before t; 0 is never a deadline.
func (w *wheel) tick(t time.Time) uint32 {
	d := t.Sub(w.zero)
	if d <= 0 {
		return 1
	}
	return uint32(min((d-1)/wheelTick+2, math.MaxUint32))
}

func (w *wheel) time(tick uint32) time.Time {
	return w.zero.Add(time.Duration(tick) * wheelTick)
}

func (w *wheel) remind(slot, tick uint32) {
	tick = max(tick, w.now+1)
	s := &w.slots[tick%wheelSlots]
	*s = append(*s, slot)
	w.entries++
}

// next is when advance has something to do; zero means never.
func (w *wheel) next() time.Time {
	if w.entries == 0 {
		return time.Time{}
	}
	for t := w.now + 1; ; t++ {
		if len(w.slots[t%wheelSlots]) > 0 {
			return w.time(t)
		}
	}
}

func (w *wheel) advance(l *Loop) {
	for to := uint32(l.now.Sub(w.zero) / wheelTick); w.now < to; {
		if w.entries == 0 {
			w.now = to
			return
		}
		w.now++
		due := w.slots[w.now%wheelSlots]
		if len(due) == 0 {
			continue
		}
		w.slots[w.now%wheelSlots] = nil
		w.entries -= len(due)
		keep := due[:0]
		for _, slot := range due {
			c := l.table[slot]
			if c == nil {
				continue
			}
			if c.armed > w.now { // a later round of the wheel, or superseded
				if c.armed%wheelSlots == w.now%wheelSlots {
					keep = append(keep, slot)
				}
				continue
			}
			if c.armed == 0 {
				continue
			}
			c.armed = 0
			switch {
			case c.deadline == 0:
			case c.deadline > w.now:
				c.arm()
			default:
				c.deadline = 0
				c.timeout()
			}
		}
		if len(keep) > 0 {
			s := &w.slots[w.now%wheelSlots]
			*s = append(keep, *s...)
			w.entries += len(keep)
		}
	}
}
