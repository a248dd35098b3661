package socketio

import (
	"context"
	"sync"
)

// calls runs the program's code for one socket, in order, on a goroutine that exists while there is something to run.
type calls struct {
	socket  *Socket
	mu      sync.Mutex
	waiting []func(context.Context) // guarded by mu
	running bool                    // guarded by mu
	resume  func()                  // guarded by mu; set while the connection is not read: to be called on the loop
	limit   int                     // guarded by mu; of waiting, for that
}

// push adds a call; it reports false when the program is called for too many sockets already, unless the call must be.
func (c *calls) push(f func(context.Context), must bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.socket.room
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
	defer c.socket.room.running.Done()
	for {
		c.mu.Lock()
		if c.resume != nil && len(c.waiting) <= c.limit/2 {
			c.socket.onLoop(c.resume)
			c.resume = nil
		}
		if len(c.waiting) == 0 {
			c.running, c.waiting = false, nil
			c.mu.Unlock()
			c.socket.room.calls.Add(-1)
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
	cfg := &c.socket.room.cfg
	ctx, cancel := context.WithTimeout(context.Background(), cfg.CallTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			cfg.Logger.Error("the program panicked for a client", "socket", c.socket.id, "namespace", c.socket.nsp, "panic", p)
		}
	}()
	f(ctx)
}

// hold calls pause when as many calls as limit wait, and sees to it that the client's engine resumes when fewer do. On
// the loop.
func (c *calls) hold(limit int, pause func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resume == nil && len(c.waiting) >= limit {
		e := c.socket.client.e
		c.resume, c.limit = e.resume, limit
		pause()
	}
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
