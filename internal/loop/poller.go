package loop

import "time"

// poller tells a loop which of its descriptors can be read or written.
type poller interface {
	// wait fills events with what is ready. With block it waits for something to become ready, for wake, or for
	// until (zero: for ever).
	wait(events []event, block bool, until time.Time) int
	wake() // any goroutine
	polls() bool
	add(fd int, slot, gen uint32) error
	mod(fd int, slot, gen uint32, read, write bool)
	del(fd int)
	close()
}

type event struct {
	slot, gen                  uint32
	readable, writable, hangup bool
}

// chanPoller watches no descriptors: a loop with only pumps waits for tasks and the clock.
type chanPoller struct {
	woken chan struct{}
	now   func() time.Time
}

func newChanPoller(now func() time.Time) *chanPoller {
	return &chanPoller{woken: make(chan struct{}, 1), now: now}
}

func (p *chanPoller) wait(_ []event, block bool, until time.Time) int {
	if !block {
		return 0
	}
	if until.IsZero() {
		<-p.woken
		return 0
	}
	t := time.NewTimer(until.Sub(p.now()))
	defer t.Stop()
	select {
	case <-p.woken:
	case <-t.C:
	}
	return 0
}

func (p *chanPoller) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *chanPoller) polls() bool                         { return false }
func (p *chanPoller) add(int, uint32, uint32) error       { return errPumpsOnly }
func (p *chanPoller) mod(int, uint32, uint32, bool, bool) {}
func (p *chanPoller) del(int)                             {}
func (p *chanPoller) close()                              {}
