package hub

import (
	"log/slog"
	"testing"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// TestTwoConnectionsAskForOneClient: a client that has come back is gone again before what it missed has arrived from the
// loop it was on first, and it asks over two connections at once. The newer one gets it, with all that is on its way.
func TestTwoConnectionsAskForOneClient(t *testing.T) {
	for _, newerFirst := range []bool{false, true} {
		var loops []*loop.Loop
		for i := range 2 {
			l, err := loop.New(i, loop.Config{Portable: true, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Stop()
			loops = append(loops, l)
		}
		h := New(Config{Loops: loops, Recovery: 1 << 40})
		defer h.Close()
		here, before := h.branches[0], h.branches[1]
		on := func(b *branch, f func()) { b.loop.Post(loop.Func(func(*loop.Loop) { f() }), 0) }

		gone := &Client{branch: here, id: ID{1, 1}, gone: true}
		arrive := make(chan struct{})
		on(here, func() {
			first := here.journal.reserve()
			here.saved[gone.id] = &Saved{branch: here, id: gone.id, until: h.cfg.Now().Add(1 << 40), opened: 1, from: first - 1, behind: before}
			h.away.Store(gone.id, here)
			on(before, func() {
				<-arrive
				on(here, func() { here.insert(first, []Missed{{Delivery: &Delivery{Event: &Event{Data: "1"}}}}, gone) })
			})
		})
		type answer struct {
			opened uint64
			saved  *Saved
		}
		answers := make(chan answer, 2)
		opened := []uint64{2, 3}
		if newerFirst {
			opened = []uint64{3, 2}
		}
		for _, n := range opened {
			here.claim(gone.id, n, -1, 0, func(s *Saved) { answers <- answer{n, s} })
		}
		asked := make(chan struct{})
		on(here, func() { close(asked) })
		<-asked
		close(arrive)
		for range opened {
			a := <-answers
			if a.opened == 2 {
				if a.saved != nil {
					t.Errorf("the newer first: %v: the older connection gets the client", newerFirst)
				}
				continue
			}
			missed := make(chan []Missed)
			on(here, func() {
				if a.saved == nil {
					missed <- nil
					return
				}
				missed <- a.saved.missed(nil, forever)
			})
			if got := <-missed; len(got) != 1 || got[0].Delivery.Event.Data != "1" {
				t.Errorf("the newer first: %v: the newer connection gets %v, and of what was missed %v", newerFirst, a.saved, got)
			}
		}
	}
}
