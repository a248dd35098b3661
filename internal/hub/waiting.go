package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// User code never runs on a loop. While it decides about one channel of a client, that client's later commands for
// the same channel wait in the channel's lane, and all others go on. A lane exists while something is in it.
type waiting struct {
	lanes map[string]*lane
	n     int  // commands waiting in all lanes
	full  bool // so many, or so many lanes, that the connection is not read
	holds int  // reasons not to read it
}

type lane struct {
	busy  bool
	queue []command
}

type command struct {
	unsubscribe bool
	run         func()
}

// inLane runs f now, or after the commands before it in its lane.
func (c *Client) inLane(name string, unsubscribe bool, f func()) {
	if c.waiting != nil {
		if ln := c.waiting.lanes[name]; ln != nil && ln.busy {
			ln.queue = append(ln.queue, command{unsubscribe, f})
			c.waiting.n++
			c.fill()
			return
		}
	}
	f()
}

func (c *Client) lane(name string) *lane {
	if c.waiting == nil {
		c.waiting = &waiting{}
	}
	if c.waiting.lanes == nil {
		c.waiting.lanes = map[string]*lane{}
	}
	ln := c.waiting.lanes[name]
	if ln == nil {
		ln = &lane{}
		c.waiting.lanes[name] = ln
	}
	return ln
}

// fill stops reading the connection once too many of its commands wait, or too many calls are under way for it.
func (c *Client) fill() {
	w, limit := c.waiting, c.hub.cfg.Limits.Waiting
	if !w.full && (w.n >= limit || len(w.lanes) >= limit) {
		w.full = true
		c.hold()
	}
}

// hold stops reading the connection until as many releases.
func (c *Client) hold() {
	if c.waiting == nil {
		c.waiting = &waiting{}
	}
	if c.waiting.holds++; c.waiting.holds == 1 {
		c.session.Pause()
	}
}

func (c *Client) release() {
	if c.waiting.holds--; c.waiting.holds == 0 {
		c.session.Resume()
	}
}

// Held reports whether the connection is not to be read: the session stops decoding what it has.
func (c *Client) Held() bool { return c.waiting != nil && c.waiting.holds > 0 }

// call runs work off the loop, with a deadline, and then done on the loop; late is what done gets when the deadline
// has passed: with that work may be going on, and what it writes must be left alone. unsubscribed tells whether the client
// has asked to leave the lane's channel meanwhile. If the client is gone by then, done is not called.
func (c *Client) call(name string, late *Error, work func(context.Context) error, done func(unsubscribed bool, err *Error)) {
	var ln *lane
	if busy := c.hub.call(c.branch.loop, late, work, func(err error) {
		if c.gone {
			return
		}
		unsubscribed := false
		for _, q := range ln.queue {
			unsubscribed = unsubscribed || q.unsubscribe
		}
		ln.busy = false
		done(unsubscribed, c.told(err))
		c.next(name, ln)
	}); busy != nil {
		done(false, busy)
		return
	}
	ln = c.lane(name)
	ln.busy = true
	c.fill()
}

// call runs work off the loops, with a deadline, and then done on l, unless too many calls are under way.
func (h *Hub) call(l *loop.Loop, late *Error, work func(context.Context) error, done func(error)) (busy *Error) {
	if n := h.calls.Add(1); n > int64(h.cfg.Limits.Calls) {
		h.calls.Add(-1)
		return errf(Busy, "the server is busy with %d other requests; try again later", n-1)
	}
	over := false // owned by the loop
	finish := func(err error) loop.Task {
		return loop.Func(func(*loop.Loop) {
			if !over {
				over = true
				done(err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.Limits.CallTime)
	stop := context.AfterFunc(ctx, func() { // the work may not heed its context
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			l.Post(finish(late), 0)
		}
	})
	go func() {
		defer h.calls.Add(-1)
		err := protect(ctx, work)
		if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) { // it did: the client hears the same
			err = late
		}
		stop()
		cancel()
		l.Post(finish(err), 0)
	}()
	return nil
}

// undecided is what the client is told when the application's code takes too long.
func (h *Hub) undecided() *Error {
	return errf(Failed, "no decision within %v", h.cfg.Limits.CallTime)
}

// protect turns a panic of user code into its error.
func protect(ctx context.Context, work func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return work(ctx)
}

// told is what the client is told of an error.
func (c *Client) told(err error) *Error {
	if err == nil {
		return nil
	}
	return c.hub.told(err, "socket", c.id.String(), "app", c.app.ID)
}

// told is what a client is told of an error: reasons meant for it, and of all others only that something failed. The log
// says more, with what is known of the client.
func (h *Hub) told(err error, client ...any) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	h.cfg.Logger.Warn("the application's code failed for a client", append(client, "error", err)...)
	return errf(Failed, "the server could not decide; its log says why")
}

// next runs the commands of a lane until one has to wait again, if the lane does not wait already.
func (c *Client) next(name string, ln *lane) {
	for len(ln.queue) > 0 && !ln.busy && !c.gone {
		q := ln.queue[0]
		ln.queue = ln.queue[1:]
		c.waiting.n--
		q.run()
	}
	if c.gone {
		return
	}
	w := c.waiting
	if !ln.busy {
		delete(w.lanes, name)
	}
	if most := c.hub.cfg.Limits.Waiting / 2; w.full && w.n <= most && len(w.lanes) <= most {
		w.full = false
		c.release()
	}
	if len(w.lanes) == 0 && w.holds == 0 {
		c.waiting = nil
	}
}

// Authenticate runs who, which may wait, and gives the client the identity it found.
func (c *Client) Authenticate(who func(context.Context) (*User, error), done func(*User, *Error)) {
	const lane = "\x00auth"
	c.inLane(lane, false, func() {
		var u *User
		c.call(lane, c.hub.undecided(), func(ctx context.Context) (err error) {
			u, err = who(ctx)
			return err
		}, func(_ bool, err *Error) {
			if err == nil {
				err = c.Identify(u)
			}
			if err != nil {
				done(nil, err)
				return
			}
			done(u, nil)
		})
	})
}

// Ask runs user code, which may wait, for somebody who is no client yet; done is called on l. With an error the code may be
// going on, and what it writes must be left alone. On l.
func (h *Hub) Ask(l *loop.Loop, work func(context.Context) error, done func(*Error)) {
	if busy := h.call(l, h.undecided(), work, func(err error) {
		if err != nil {
			done(h.told(err))
			return
		}
		done(nil)
	}); busy != nil {
		done(busy)
	}
}
