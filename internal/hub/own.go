package hub

import (
	"cmp"
	"slices"
)

// own is the journal of one client: what it alone could miss, by what it did itself. It is apart from the loop's, and
// limited by itself, so that nobody who asks for much, and no crowd that comes back, takes from others what they missed. Its
// ordinals are the loop's. Owned by the loop.
type own struct {
	gone    uint64 // the last ordinal that there was no room for; what was before is of no use
	entries []entry
	bytes   int
}

const (
	ownBytes    = 4 << 20    // of one client's
	ownsBytes   = 16 << 20   // of all on one loop
	endedBytes  = 512        // of an entry of what has ended, with the channel that is kept for it
	missedBytes = entryBytes // of an entry of what was missed: others keep what it refers to, too, or it is gone with the next pong
)

// enterOwn adds what only this client could miss, and returns its ordinal.
func (b *branch) enterOwn(id ID, e entry) uint64 {
	e.ord, e.to = b.journal.next, id
	b.journal.next++
	o := b.ownOf(id)
	if b.fits(o, e.bytes) {
		o.entries = append(o.entries, e)
		return e.ord
	}
	b.empty(o)
	o.gone = e.ord
	return e.ord
}

// ownOf is a client's, made if it is not there.
func (b *branch) ownOf(id ID) *own {
	o := b.owns[id]
	if o == nil {
		o = &own{}
		b.owns[id] = o
	}
	return o
}

// fits makes room, if there is any.
func (b *branch) fits(o *own, bytes int) bool {
	if o.bytes+bytes > ownBytes || b.ownsBytes+bytes > ownsBytes {
		return false
	}
	o.bytes += bytes
	b.ownsBytes += bytes
	return true
}

// empty lets go of what a client's has.
func (b *branch) empty(o *own) {
	b.ownsBytes -= o.bytes
	o.entries, o.bytes = nil, 0
}

// insert adds what a client missed where room was reserved for it, before all of its own since, and fills in its places.
func (b *branch) insert(first uint64, missed []Missed, c *Client) {
	if len(missed) == 0 {
		return
	}
	for i := range missed {
		missed[i].Ordinal = first + uint64(i)
	}
	last := missed[len(missed)-1].Ordinal
	var o *own
	if !c.gone {
		o = b.ownOf(c.id)
	} else if s := b.saved[c.id]; s == nil {
		return
	} else if o = s.own; o == nil { // it is gone again
		o = &own{}
		s.own = o
	}
	if o.gone > last {
		return
	}
	if !b.fits(o, len(missed)*missedBytes) {
		o.gone = last
		return
	}
	es := make([]entry, len(missed))
	for i, m := range missed {
		es[i] = entry{ord: m.Ordinal, d: m.Delivery, e: m.Emission, to: c.id, bytes: missedBytes}
	}
	o.entries = slices.Insert(o.entries, 0, es...)
}

// had lets go of what a client has got, as is known now.
func (b *branch) had(c *Client) {
	o := b.owns[c.id]
	if o == nil {
		return
	}
	n := 0
	for n < len(o.entries) && o.entries[n].ord <= c.from {
		o.bytes -= o.entries[n].bytes
		b.ownsBytes -= o.entries[n].bytes
		n++
	}
	if o.entries = slices.Delete(o.entries, 0, n); len(o.entries) == 0 && o.gone <= c.from {
		delete(b.owns, c.id)
	}
}

// disown lets go of a client's.
func (b *branch) disown(id ID) {
	if o := b.owns[id]; o != nil {
		b.empty(o)
		delete(b.owns, id)
	}
}

// since are the loop's entries behind an ordinal and the client's own, in their order.
func (s *Saved) since(ord uint64) []entry {
	all := s.branch.journal.after(ord)
	if s.own == nil || len(s.own.entries) == 0 {
		return all
	}
	all = slices.Concat(all, after(s.own.entries, ord))
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.ord, b.ord) })
	return all
}
