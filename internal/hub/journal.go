package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// Recoverable is the codec of clients that may come back and get what they missed. Its units have room for a place in
// the journal, which the client remembers; the unit is encoded once for all loops, and stamped by each.
type Recoverable interface {
	Codec
	// Stamp writes the place into a unit that Append, of messages and whispers, or AppendEmission made, if it has room for
	// one.
	Stamp(unit []byte, loop int, ordinal uint64)
}

// journal is what a loop has delivered lately, in its order. Owned by the loop.
type journal struct {
	next    uint64 // ordinal of the next entry, from 1
	gone    uint64 // the last ordinal that was let go of; 0 for none
	entries []entry
	bytes   int
}

type entry struct {
	ord   uint64
	at    time.Time
	d     *Delivery // or
	e     *Emission // or
	past  any       // a savedSub or a savedRoom that has ended
	to    ID        // the only client it is for; zero for all
	bytes int
}

const (
	journalBytes = 16 << 20 // of what one loop's journal refers to
	entryBytes   = 128      // of one entry itself
	savedClients = 100_000  // of one loop: connections that come and go at once must not fill the memory
)

// enter adds what has been delivered, and returns its ordinal.
func (b *branch) enter(e entry) uint64 {
	j := &b.journal
	e.ord, e.at = j.next, b.loop.Now()
	e.bytes += entryBytes
	j.next++
	j.entries = append(j.entries, e)
	j.bytes += e.bytes
	j.trim(e.at.Add(-b.keep()))
	return e.ord
}

// keep is how long entries are kept: a client may have been silent for a time before it was missed.
func (b *branch) keep() time.Duration { return b.hub.cfg.Recovery + b.hub.cfg.Silence }

// last is the last ordinal given away, 0 before the first.
func (j *journal) last() uint64 { return j.next - 1 }

// reserve leaves room for as many entries as a loop's journal and a client's own can have, and returns the first one's ordinal.
func (j *journal) reserve() uint64 {
	first := j.next
	j.next += (journalBytes + ownBytes) / entryBytes
	return first
}

// trim lets go of what is older than a time, or too much.
func (j *journal) trim(since time.Time) {
	n := 0
	for n < len(j.entries) && (j.bytes > journalBytes || j.entries[n].at.Before(since)) {
		j.bytes -= j.entries[n].bytes
		j.gone = j.entries[n].ord
		j.entries[n] = entry{}
		n++
	}
	if j.entries = j.entries[n:]; len(j.entries) == 0 {
		j.entries = nil
	}
}

// whole reports whether everything after an ordinal is still there.
func (j *journal) whole(after uint64) bool { return j.gone <= after }

// after are the entries behind an ordinal.
func (j *journal) after(ord uint64) []entry { return after(j.entries, ord) }

func after(entries []entry, ord uint64) []entry {
	i, _ := slices.BinarySearchFunc(entries, ord+1, func(e entry, ord uint64) int { return cmp.Compare(e.ord, ord) })
	return entries[i:]
}

// note enters a delivery that somebody who listens here could miss, and returns its ordinal; 0 if nobody can.
func (lo *local) note(d *Delivery) uint64 {
	if d.Kind != Message && d.Kind != Whisper {
		return 0
	}
	there := lo.saved > 0
	for i := range lo.groups {
		there = there || lo.groups[i].rec != nil
	}
	if !there || lo.branch.hub.cfg.Recovery <= 0 {
		return 0
	}
	return lo.branch.enter(entry{d: d, bytes: len(d.Event.Data)})
}

// joined, as a membership's data, is where its channel stood when it began.
type joined uint64

func joinedAt(data any) uint64 {
	switch d := data.(type) {
	case *Sub:
		return d.joined
	case joined:
		return uint64(d)
	}
	return 0
}

// comesBack reports whether the client may.
func (c *Client) comesBack() bool {
	_, can := c.codec.(Recoverable)
	return can && c.hub.cfg.Recovery > 0
}

// data is what a subscription keeps: nothing, most of the time.
func (c *Client) data(sub *Sub, since uint64) any {
	switch {
	case sub != nil:
		sub.joined = since
		return sub
	case c.comesBack():
		return joined(since)
	}
	return nil
}

// ended enters a membership that the client has ended: it may still miss what it got by it.
func (c *Client) ended(m *loop.Membership) {
	if !c.comesBack() {
		return
	}
	e := entry{bytes: endedBytes}
	if o := m.Group.Owner.(*owner); o.room != nil {
		e.past = savedRoom{o.room.key.Name, m.Data.(*roomSub).since, c.branch.journal.next}
	} else {
		e.past = savedSub{local: o.local, since: joinedAt(m.Data), upTo: o.local.last.Seq}
	}
	c.branch.enterOwn(c.id, e)
}

// Ordinal is the last ordinal of a loop's journal. On the loop.
func (h *Hub) Ordinal(l *loop.Loop) uint64 { return h.branches[l.Index()].journal.last() }

// Has says that the client has got everything up to an ordinal of its loop's journal, as far as it was for it. On the
// loop.
func (c *Client) Has(ord uint64) {
	c.from = max(c.from, ord)
	c.branch.had(c)
}

// Replayed enters what is sent to this client once more because it asked for that, and returns its ordinal. On the loop.
func (c *Client) Replayed(d *Delivery) uint64 {
	if !c.comesBack() {
		return 0
	}
	return c.branch.enterOwn(c.id, entry{d: d, bytes: len(d.Event.Data) + entryBytes})
}

// Journal enters what is sent to this client alone, so that it is not missed, and returns its ordinal. On the loop.
func (c *Client) Journal(m Missed) uint64 {
	if !c.comesBack() {
		return 0
	}
	return c.branch.enter(entry{d: m.Delivery, e: m.Emission, to: c.id, bytes: m.bytes()})
}
