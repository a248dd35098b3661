// Package loop owns connections: bytes in, bytes out.
//
// A Loop is one goroutine that owns many connections from their handshake to their end. It reads what has
// arrived, lets their handlers think, and writes once per turn whatever has piled up for each connection. It
// knows neither channels nor protocols: a Group is a list of connections that get the same bytes, and what the
// bytes mean is decided above.
//
// A turn is: poll sockets and read, run posted tasks, fire timers; then seal what was appended and write it. While
// publishers send more than it writes, little to each of many groups, it goes on reading for a while before that: a small
// write costs as much as a larger one.
// Sending never writes: it appends to the turn's log, so that a thousand messages to a thousand connections
// become a thousand writes and not a million.
//
// Everything on Conn, Group and Log belongs to the loop's goroutine. Other goroutines have Post.
package loop

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrStopped: the loop has ended and takes nothing more.
var ErrStopped = errors.New("loop: stopped")

// Config of a Loop. The zero value works.
type Config struct {
	// MaxQueued is how many bytes may wait for one connection that does not read, behind what its socket or a pump's
	// writer has taken. Zero means 4 MiB.
	MaxQueued int
	// Portable makes the loop wait on a Go channel instead of epoll, so that only pumps can be attached: what
	// systems without epoll use, and what makes a loop testable in a synctest bubble.
	Portable bool
	// Now is the loop's clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets a line when a handler panics. Nil means slog.Default.
	Logger *slog.Logger
}

const (
	inboxHigh   = 8 << 20 // bytes of waiting tasks above which publishers wait
	turnBytes   = 8 << 20 // bytes of new units after which a turn is sealed, so that memory stays bounded
	logBytes    = 1 << 20 // and bytes of one group or of replies, so that nobody gets more at once than a socket takes
	readBuffer  = 256 << 10
	readBudget  = 1 << 20 // bytes one connection may bring in one turn
	flushWrites = 256     // writes after which a flush looks at the sockets again
	flushTime   = time.Millisecond
	// A turn sees what else is coming if it has bulkBytes of new units and no group has smallWrite, for at most gatherTime.
	bulkBytes  = 64 << 10
	smallWrite = 16 << 10
	gatherTime = 50 * time.Millisecond
)

// Task is work posted to a loop from elsewhere.
type Task interface{ Run(*Loop) }

// Func is a Task made of a function.
type Func func(*Loop)

func (f Func) Run(l *Loop) { f(l) }

// Loop is one event loop. Start it with New; it ends with Stop.
type Loop struct {
	cfg   Config
	poll  poller
	index int

	// any goroutine
	inboxMu    sync.Mutex
	inbox      []posted // guarded by inboxMu
	inboxBytes atomic.Int64
	roomMu     sync.Mutex
	room       chan struct{} // guarded by roomMu; closed when the inbox has room again
	sleeping   atomic.Bool
	stopping   atomic.Bool
	done       chan struct{}
	conns      atomic.Int64

	// owned by the loop's goroutine
	batch     []posted // taken from the inbox, being run
	batchPos  int
	table     []*Conn  // by slot
	free      []uint32 // unused slots
	gen       uint32   // of the last connection adopted
	listeners []listener
	buf       []byte // what every read reads into
	resumed   []*Conn
	wheel     wheel
	turn      turn
	events    []event
	now       time.Time
}

type posted struct {
	task  Task
	bytes int
}

// New starts a loop. index tells it apart from the others of its program.
func New(index int, cfg Config) (*Loop, error) {
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = 4 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l := &Loop{cfg: cfg, index: index, done: make(chan struct{}), events: make([]event, 512)}
	var err error
	if cfg.Portable {
		l.poll = newChanPoller(cfg.Now)
	} else if l.poll, err = newPoller(cfg.Now); err != nil {
		return nil, err
	}
	l.now = cfg.Now()
	l.wheel.start(l.now)
	l.turn.init()
	go l.run()
	return l, nil
}

// Index is what New was given.
func (l *Loop) Index() int { return l.index }

// Polls reports whether descriptors can be attached, or only pumps.
func (l *Loop) Polls() bool { return l.poll.polls() }

// Conns is the number of connections the loop owns. Any goroutine.
func (l *Loop) Conns() int { return int(l.conns.Load()) }

// MaxQueued is how many bytes may wait for one connection that does not read.
func (l *Loop) MaxQueued() int { return l.cfg.MaxQueued }

// Full reports that this turn has enough to write: a handler that answers input with much more than it is leaves the
// rest of the input for the next turn. On the loop.
func (l *Loop) Full() bool { return l.turn.full() }

// Each calls f with the handler of every connection that is not over. On the loop.
func (l *Loop) Each(f func(Handler)) {
	for _, c := range l.table {
		if c != nil && !c.Closing() {
			f(c.h)
		}
	}
}

// Now is the time at which this turn began.
func (l *Loop) Now() time.Time { return l.now }

// Post hands a task to the loop; bytes is what it holds in memory. It never waits: whoever can wait asks
// Overloaded first. Tasks of one goroutine run in the order they were posted. Any goroutine, under any lock.
func (l *Loop) Post(t Task, bytes int) error {
	l.inboxMu.Lock()
	if l.stopping.Load() {
		l.inboxMu.Unlock()
		return ErrStopped
	}
	l.inbox = append(l.inbox, posted{t, bytes})
	l.inboxBytes.Add(int64(bytes))
	l.inboxMu.Unlock()
	if l.sleeping.Load() && l.sleeping.CompareAndSwap(true, false) {
		l.poll.wake()
	}
	return nil
}

// Overloaded returns nil when the loop takes tasks, and otherwise a channel that is closed once it may. Any
// goroutine.
func (l *Loop) Overloaded() <-chan struct{} {
	if l.inboxBytes.Load() <= inboxHigh {
		return nil
	}
	l.roomMu.Lock()
	defer l.roomMu.Unlock()
	if l.inboxBytes.Load() <= inboxHigh || l.stopping.Load() { // it may have made room, and told nobody, meanwhile
		return nil
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}

// Stop ends the loop after the tasks already posted: every connection left is closed with ErrStopped. It
// returns when the loop's goroutine has ended. Not from the loop itself.
func (l *Loop) Stop() {
	l.inboxMu.Lock()
	first := l.stopping.CompareAndSwap(false, true)
	l.inboxMu.Unlock()
	if first {
		l.sleeping.Store(false)
		l.poll.wake()
	}
	<-l.done
}

func (l *Loop) run() {
	defer close(l.done)
	for {
		stop := l.stopping.Load()
		l.step(!stop)
		if stop && l.turn.idle() && l.inboxEmpty() {
			break
		}
	}
	for _, ln := range l.listeners {
		l.closeListener(ln)
	}
	for _, c := range l.table {
		if c != nil {
			c.Abort(ErrStopped)
		}
	}
	l.runInbox() // what the ends above posted to itself
	l.releaseRoom()
	l.poll.close()
}

// step is one turn, or one piece of it while a long flush is under way.
func (l *Loop) step(mayBlock bool) {
	block := mayBlock && l.turn.idle() && len(l.resumed) == 0 && l.inboxEmpty()
	n := l.wait(block)
	l.now = l.cfg.Now()
	for i := range n {
		l.ready(&l.events[i])
	}
	if len(l.resumed) > 0 {
		rs := l.resumed
		l.resumed = nil
		for _, c := range rs {
			c.replayUnread()
		}
	}
	l.runInbox()
	l.wheel.advance(l)
	switch {
	case l.turn.flushing():
		l.express()
	case n > 0 && l.gathers():
		l.express()
		runtime.Gosched()
		return
	default:
		l.seal()
	}
	if l.flush() && !block {
		runtime.Gosched() // a busy loop leaves the processor to those who feed it
	}
}

func (l *Loop) wait(block bool) int {
	n := l.poll.wait(l.events, false, time.Time{})
	if n > 0 || !block {
		return n
	}
	// Let whoever is runnable post first: waking a parked loop costs a system call.
	runtime.Gosched()
	if n = l.poll.wait(l.events, false, time.Time{}); n > 0 || !l.inboxEmpty() {
		return n
	}
	l.sleeping.Store(true)
	if !l.inboxEmpty() || l.stopping.Load() { // posted before it could see us asleep
		l.sleeping.Store(false)
		return 0
	}
	n = l.poll.wait(l.events, true, l.wheel.next())
	l.sleeping.Store(false)
	return n
}

func (l *Loop) inboxEmpty() bool {
	if l.batchPos < len(l.batch) {
		return false
	}
	l.inboxMu.Lock()
	defer l.inboxMu.Unlock()
	return len(l.inbox) == 0
}

// runInbox runs posted tasks until the turn has enough to write.
func (l *Loop) runInbox() {
	for !l.turn.full() {
		if l.batchPos == len(l.batch) && !l.nextBatch() {
			return
		}
		bytes := 0
		for l.batchPos < len(l.batch) && !l.turn.full() {
			p := &l.batch[l.batchPos]
			l.batchPos++
			p.task.Run(l)
			bytes += p.bytes
			*p = posted{}
		}
		if l.inboxBytes.Add(-int64(bytes)) <= inboxHigh {
			l.releaseRoom()
		}
	}
}

// nextBatch trades the finished batch for what was posted meanwhile.
func (l *Loop) nextBatch() bool {
	used := l.batch[:0]
	if cap(used) > 64<<10 {
		used = nil
	}
	l.inboxMu.Lock()
	l.batch, l.inbox = l.inbox, used
	l.inboxMu.Unlock()
	l.batchPos = 0
	return len(l.batch) > 0
}

func (l *Loop) releaseRoom() {
	l.roomMu.Lock()
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	l.roomMu.Unlock()
}
