package loop

import (
	"errors"
	"io"
	"sync"
)

var errPumpsOnly = errors.New("loop: this loop takes no descriptors")

// pump moves the bytes of a connection whose socket the loop cannot poll: TLS, streams of net/http, systems
// without epoll. One goroutine reads; another exists only while there is something to write.
type pump struct {
	// static
	loop *Loop
	rw   io.ReadWriteCloser

	// owned by the loop
	conn    *Conn
	writing bool
	asked   bool // the reader has been told to read on

	// between the reader and the loop
	next chan struct{} // the loop has taken what was read
	once sync.Once
	end  chan struct{} // closed with the connection
}

// What a reader reads at once, at first and at most: what comes together is answered and sent on together, in few large
// writes; but most connections say little, and there are many. TLS gives no more than its records have, which is maxRead.
const (
	minRead = 4 << 10
	maxRead = 16 << 10
)

// AttachPump makes rw a connection of this loop, which closes it in the end. first holds bytes that arrived
// earlier.
func (l *Loop) AttachPump(c *Conn, h Handler, rw io.ReadWriteCloser, first []byte) {
	l.adopt(c, h)
	p := &pump{loop: l, rw: rw, conn: c, next: make(chan struct{}, 1), end: make(chan struct{})}
	c.extra().pump = p
	go p.read()
	c.Feed(first)
	c.owner().askMore()
}

// owner is who has the connection's slot now: a handshake may have become a session.
func (c *Conn) owner() *Conn {
	if now := c.loop.table[c.slot]; now != nil && now.gen == c.gen {
		return now
	}
	return c
}

func (c *Conn) askMore() {
	if c.x != nil && c.x.pump != nil && c.flags&(flagPaused|flagClosed) == 0 && len(c.x.unread) == 0 {
		c.x.pump.more()
	}
}

// more lets the reader read on.
func (p *pump) more() {
	if !p.asked {
		p.asked = true
		p.next <- struct{}{}
	}
}

// read runs on its own goroutine: one read at a time, the next one only when the loop has taken it.
func (p *pump) read() {
	b, spare := make([]byte, minRead), 0
	for {
		select {
		case <-p.next:
		case <-p.end:
			return
		}
		n, err := p.rw.Read(b)
		got := b[:n]
		if n > 0 {
			err = nil // it comes again with the next read, and must not overtake bytes that a paused handler leaves
		}
		if p.loop.Post(Func(func(l *Loop) { p.arrived(got, err) }), n) != nil {
			p.close() // the loop is gone
			return
		}
		if err != nil {
			return
		}
		switch {
		case n == len(b) && n < maxRead:
			b, spare = make([]byte, 4*n), 0
		case n > len(b)/8:
			spare = 0
		case len(b) > minRead:
			if spare++; spare == 16 {
				b, spare = make([]byte, minRead), 0
			}
		}
	}
}

func (p *pump) arrived(b []byte, err error) {
	c := p.conn
	if c.flags&flagClosed != 0 {
		return
	}
	p.asked = false
	c.lastRead = p.loop.wheel.now
	c.Feed(b)
	c = p.conn
	if c.flags&flagClosed != 0 {
		return
	}
	if err != nil {
		c.Abort(err)
		return
	}
	c.askMore()
}

// start hands what waits to a writer, unless one is at work.
func (p *pump) start() {
	q := &p.conn.x.queue
	if p.writing || p.conn.x.corks > 0 || q.head == len(q.items) {
		return
	}
	p.writing = true
	q.busy, q.hand = len(q.items)-q.head, q.bytes
	n := q.bytes
	var b []byte
	if q.busy == 1 {
		b = q.items[q.head].b
	} else {
		b = make([]byte, 0, n)
		for _, it := range q.items[q.head:] {
			b = append(b, it.b...)
		}
	}
	go func() {
		_, err := p.rw.Write(b)
		p.loop.Post(Func(func(l *Loop) { p.wrote(n, err) }), 0)
	}()
}

func (p *pump) wrote(n int, err error) {
	c := p.conn
	p.writing = false
	if c.flags&flagClosed != 0 {
		return
	}
	if err != nil {
		c.Abort(err)
		return
	}
	q := &c.x.queue
	q.busy, q.hand = 0, 0
	q.wrote(n)
	if q.head < len(q.items) {
		p.start()
		return
	}
	c.emptied()
}

// endWrite ends our side of the stream, and reports false where that takes the other side along. Closing both while
// the peer sends would lose what it has not read yet: TCP answers with a reset.
func (p *pump) endWrite() bool {
	w, ok := p.rw.(interface{ CloseWrite() error })
	if ok {
		go w.CloseWrite() // TLS writes an alert, which may wait; if it fails, so does the reader, or the grace ends
	}
	return ok
}

func (p *pump) close() {
	p.once.Do(func() {
		close(p.end)
		go p.rw.Close() // here, too, TLS writes an alert, which may wait
	})
}
