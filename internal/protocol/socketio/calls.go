package socketio

import (
	"context"
	"sync"
)

// calls runs the program's code for one socket and those that it comes back as, in order, on a goroutine that exists while
// there is something to run. They are kept while the socket is away, and so keep nothing of its connection.
type calls struct {
	// static
	room    *Room
	id, nsp string // of the socket

	mu      sync.Mutex
	waiting []func(context.Context) // guarded by mu
	running bool                    // guarded by mu
	resume  func()                  // guarded by mu; set while the connection is not read
	limit   int                     // guarded by mu; of waiting, for that
}

// push adds a call; it reports false when the program is called for too many sockets already, unless the call must be.
func (c *calls) push(f func(context.Context), must bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.room
	if len(c.waiting) >= 32*r.cfg.Waiting && !must { // not for a client's events, which are held before: it comes back again and again
		return false
	}
	if !c.running {
		if n := r.calls.Add(1); n > int64(r.cfg.Calls) && !must {
			r.calls.Add(-1)
			return false
		}
		c.running = true
		r.running.Add(1)
		go c.run()
	}
	c.waiting = append(c.waiting, f)
	return true
}

func (c *calls) run() {
	defer c.room.running.Done()
	for {
		c.mu.Lock()
		if c.resume != nil && len(c.waiting) <= c.limit/2 {
			c.resume()
			c.resume = nil
		}
		if len(c.waiting) == 0 {
			c.running, c.waiting = false, nil
			c.mu.Unlock()
			c.room.calls.Add(-1)
			return
		}
		f := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		c.one(f)
	}
}

func (c *calls) one(f func(context.Context)) {
	cfg := &c.room.cfg
	ctx, cancel := context.WithTimeout(context.Background(), cfg.CallTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			cfg.Logger.Error("the program panicked for a client", "socket", c.id, "namespace", c.nsp, "panic", p)
		}
	}()
	f(ctx)
}

// hold pauses a socket's engine when as many calls as limit wait, and sees to it that it resumes when fewer do. On the loop.
func (c *calls) hold(limit int, s *Socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resume == nil && len(c.waiting) >= limit {
		e := s.client.e
		c.resume, c.limit = func() { s.onLoop(e.resume) }, limit
		e.pause()
	}
}

// gone forgets an engine that is held and has ended. On the loop.
func (c *calls) gone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume = nil
}

// letGo resumes a client that is held though fewer calls than limit wait. On the loop.
func (c *calls) letGo(limit int, resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resume != nil && len(c.waiting) < limit {
		c.resume = nil
		resume()
	}
}

// Called returns when no code of the program runs any more, or ctx ends: with false. It is for a room whose loops have
// ended, since they are what starts it.
func (r *Room) Called(ctx context.Context) bool {
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return r.calls.Load() == 0
	}
}
