package hub

import (
	"log/slog"
	"testing"

	"github.com/stacksjs/realtime-go/internal/loop"
)

func TestAClientsOwnJournalIsLimitedAndLetGoOf(t *testing.T) {
	l, err := loop.New(0, loop.Config{Portable: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	b := &branch{loop: l, journal: journal{next: 1}, owns: map[ID]*own{}, saved: map[ID]*Saved{}}
	a, other := &Client{branch: b, id: ID{1, 1}}, &Client{branch: b, id: ID{2, 2}}
	check := func(what string, bytes, entries int, gone uint64) {
		t.Helper()
		o := b.owns[a.id]
		if o == nil {
			o = &own{}
		}
		if b.ownsBytes != bytes || o.bytes != bytes || len(o.entries) != entries || o.gone != gone {
			t.Errorf("%s: %d bytes in all, its own are %+v; and should be %d, %d entries, gone %d", what, b.ownsBytes, *o, bytes, entries, gone)
		}
	}
	for want := uint64(1); want <= 3; want++ {
		if got := b.enterOwn(a.id, entry{bytes: 100}); got != want {
			t.Errorf("the ordinal is %d, and should be %d", got, want)
		}
	}
	check("three", 300, 3, 0)
	a.Has(2)
	check("two of which it has", 100, 1, 0)
	b.disown(a.id)
	check("gone", 0, 0, 0)
	b.enterOwn(a.id, entry{bytes: 100})
	ord := b.enterOwn(a.id, entry{bytes: ownBytes})
	check("too much", 0, 0, ord)
	a.Has(ord - 1)
	check("which it has not", 0, 0, ord)
	a.Has(ord)
	if len(b.owns) != 0 {
		t.Errorf("it has all, and there is left %+v", b.owns)
	}
	for range ownsBytes / ownBytes {
		b.enterOwn(ID{3, b.journal.next}, entry{bytes: ownBytes})
	}
	if ord := b.enterOwn(other.id, entry{bytes: 1}); b.owns[other.id].gone != ord || b.ownsBytes != ownsBytes {
		t.Errorf("beyond what all may have: %+v, %d bytes", b.owns[other.id], b.ownsBytes)
	}
}

func TestWhatWasMissedStandsBeforeTheRest(t *testing.T) {
	l, err := loop.New(0, loop.Config{Portable: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	b := &branch{loop: l, journal: journal{next: 1}, owns: map[ID]*own{}, saved: map[ID]*Saved{}}
	c := &Client{branch: b, id: ID{1, 1}}
	first := b.journal.reserve()
	later := b.enterOwn(c.id, entry{bytes: 100})
	missed := make([]Missed, 3)
	b.insert(first, missed, c)
	var got []uint64
	for _, e := range b.owns[c.id].entries {
		got = append(got, e.ord)
	}
	if len(got) != 4 || got[0] != first || got[2] != first+2 || got[3] != later || missed[2].Ordinal != first+2 {
		t.Errorf("the ordinals are %d, of what was missed %+v; the first is %d, and %d came later", got, missed, first, later)
	}
	// Of a client that is gone again they are kept with it.
	gone := &Client{branch: b, id: ID{2, 2}, gone: true}
	b.insert(b.journal.reserve(), missed, gone) // and not at all if it does not come back
	b.saved[gone.id] = &Saved{branch: b}
	b.insert(b.journal.reserve(), missed, gone)
	if s := b.saved[gone.id]; s.own == nil || len(s.own.entries) != 3 || b.owns[gone.id] != nil || b.ownsBytes != 100+6*missedBytes {
		t.Errorf("kept is %+v, %d bytes in all", s.own, b.ownsBytes)
	}
	// What there is no room for must have been seen.
	last := b.journal.reserve() + ownBytes/missedBytes - 1
	b.insert(last-(ownBytes/missedBytes-1), make([]Missed, ownBytes/missedBytes), c)
	if o := b.owns[c.id]; o.gone != last {
		t.Errorf("its own are %d entries, gone %d of %d", len(o.entries), o.gone, last)
	}
}
