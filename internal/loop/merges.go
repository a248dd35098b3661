package loop

import "slices"

// Connections that are in the same groups get the same bytes: visitors of one page listen to the same channels. What
// was merged for the first of them in a flush is kept for the others.
type merges struct {
	byHash map[uint64]merged
	keys   []uint32 // the groups' places of all that is kept
	buf    []byte   // their bytes
	key    []uint32 // scratch
	misses int      // since the last hit
}

// merged is where one merge lies in keys and buf.
type merged struct{ key, keyEnd, from, to int }

const (
	mergedBytes = 4 << 20 // kept in one flush
	hopeless    = 64      // merges kept in vain after which no more are
)

// worthwhile reports whether merges are still being kept in this flush.
func (m *merges) worthwhile() bool { return m.misses < hopeless && len(m.buf) < mergedBytes }

func (m *merges) forget() {
	if len(m.byHash) > 0 {
		clear(m.byHash)
	}
	m.keys, m.misses = m.keys[:0], 0
	if m.buf = m.buf[:0]; cap(m.buf) > 2*mergedBytes {
		m.buf = nil
	}
}

// writeMerged is the fast path of connections in several groups: one write of bytes that may have been merged for
// another connection already.
func (c *Conn) writeMerged() {
	t := &c.loop.turn
	m := &t.merges
	m.key = append(m.key[:0], c.first.place)
	for i := c.chain; i >= 0; i = t.chain[i].next {
		m.key = append(m.key, t.chain[i].group.place)
	}
	if m.byHash == nil {
		m.byHash = map[uint64]merged{}
	}
	h := uint64(14695981039346656037) // FNV-1a; a collision costs a merge and nothing else
	for _, place := range m.key {
		h = (h ^ uint64(place)) * 1099511628211
	}
	e, ok := m.byHash[h]
	if !ok || !slices.Equal(m.keys[e.key:e.keyEnd], m.key) {
		m.misses++
		e = merged{key: len(m.keys), from: len(m.buf)}
		for _, r := range t.merge(c) {
			m.buf = append(m.buf, r.b...)
		}
		m.keys = append(m.keys, m.key...)
		e.keyEnd, e.to = len(m.keys), len(m.buf)
		m.byHash[h] = e
	} else {
		m.misses = 0
	}
	b := m.buf[e.from:e.to]
	if len(b) == 0 {
		return
	}
	n, err := writeFD(int(c.fd), b)
	if err != nil && err != errAgain {
		c.Abort(err)
		return
	}
	if n < len(b) {
		c.enqueue(t.merge(c), n) // the queue needs to know the units
	}
}
