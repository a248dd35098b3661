package loop

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/modeltest"
)

// TestModel lets chance join, leave, publish with exclusions, reply, cork, shut and abort on two loops, take from parked
// connections and give them a transport, and compares what each connection receives, byte for byte, with a model that
// knows neither turns nor logs nor queues.
func TestModel(t *testing.T) {
	s := modeltest.Seed(t)
	steps := 3000
	if os.Getenv("REALTIME_SOAK") != "" {
		steps = 300_000
	} else if testing.Short() {
		steps = 1000
	}
	w := &world{t: t}
	for i := range w.loops {
		cfg := Config{MaxQueued: 1 << 30}
		most := 12
		if i == 0 {
			// A crowd, and a clock that moves by more than a flush may take whenever it is looked at: most flushes
			// are interrupted, and everything else happens in their midst.
			var ms atomic.Int64
			cfg.Now = func() time.Time { return clockZero.Add(time.Duration(ms.Add(2)) * time.Millisecond) }
			most = 400
		}
		w.loops[i] = &side{world: w, rig: newRig(t, i == 0 && hasDescriptors, cfg), rand: rand.New(rand.NewPCG(s, uint64(i))), most: most}
		for j := range w.loops[i].groups {
			w.loops[i].groups[j] = &Group{}
		}
	}
	var wg sync.WaitGroup
	for p := range 2 {
		r := rand.New(rand.NewPCG(s, uint64(10+p)))
		wg.Go(func() {
			for i := range steps {
				w.publish(r)
				if i%32 == 0 {
					w.catchUp()
				}
			}
		})
	}
	for _, l := range w.loops {
		wg.Go(func() {
			for i := range steps {
				l.Post(Func(func(*Loop) { l.step() }), 0)
				if i%32 == 0 {
					w.catchUp()
				}
			}
		})
	}
	wg.Wait()
	for _, l := range w.loops {
		l.written()
		l.on(func() {
			for i, g := range l.groups {
				if len(g.young) > 0 {
					t.Errorf("%d memberships of group %d are young although nothing is on its way", len(g.young), i)
				}
			}
			for _, c := range slices.Clone(l.open) {
				for c.corks > 0 {
					l.uncork(c)
				}
				if c.young > 0 || c.mark != 0 || c.flags&flagMerge != 0 {
					t.Errorf("a connection at rest has young %d, mark %d, flags %b", c.young, c.mark, c.flags)
				}
				l.shut(c)
			}
		})
	}
	w.readers.Wait()
	for _, l := range w.loops {
		l.Stop()
	}
	t.Logf("%d connections received %d units; %d were parked, %d of them taken over, and %d corks taken back", w.conns, w.received, w.parked.Load(), w.tookOver.Load(), w.uncorked.Load())
}

const modelGroups = 6

// world is what both loops share: the home of the groups, which orders what is published.
type world struct {
	t     *testing.T
	loops [2]*side

	mu   sync.Mutex
	last [modelGroups]Stamp // published; guarded by mu

	readers         sync.WaitGroup
	resultMu        sync.Mutex
	conns, received int // guarded by resultMu

	parked, tookOver, uncorked atomic.Int64
}

// side is one loop of the world; its goroutine owns everything in it.
type side struct {
	*rig
	world  *world
	rand   *rand.Rand
	groups [modelGroups]*Group
	open   []*modelConn
	made   int
	most   int // connections
}

// catchUp lets neither loop fall far behind, so that what is done falls into many turns.
func (w *world) catchUp() {
	for _, l := range w.loops {
		l.on(func() {})
	}
}

// modelConn is a connection and what it is to receive.
type modelConn struct {
	end
	side *side
	id   int
	in   map[int]Stamp // the groups, and what it knew of them
	want []string
	fate fate
	done chan struct{} // closed when want is complete

	corks  int
	corked int     // how much of want there was when it was corked
	firsts []first // what is to go before what was held back

	parker    bool
	asks      bool            // it takes what is queued at once
	taken     strings.Builder // while it was parked
	finishing bool
	old       *end // the transport that it is about to get
	peer      net.Conn
}

type first struct {
	text   string
	before int // of want
	got    bool
}

type fate uint8

const (
	isOpen fate = iota
	isShut
	isAborted // receives a beginning of what it should have
)

// publish orders one unit, as a home does, and hands it to both loops.
func (w *world) publish(r *rand.Rand) {
	i := r.IntN(modelGroups)
	if r.IntN(2) == 0 {
		i = 0 // the busy one
	}
	pad := strings.Repeat("x", int(r.ExpFloat64()*60))
	if r.IntN(200) == 0 {
		pad = strings.Repeat("y", 50_000)
	}
	exclude, versions := r.IntN(3) == 0, r.IntN(4) == 0
	pick := r.Uint64()
	w.mu.Lock()
	defer w.mu.Unlock()
	var s Stamp
	if versions {
		w.last[i].Ver++
		s.Ver = w.last[i].Ver
	} else {
		w.last[i].Seq++
		s.Seq = w.last[i].Seq
	}
	text := fmt.Sprintf("%d/%d/%d %s\n", i, s.Seq, s.Ver, pad)
	for _, l := range w.loops {
		l.Post(Func(func(*Loop) {
			var except []*Conn
			out := map[*modelConn]bool{}
			if exclude {
				for _, c := range l.open {
					if (pick>>(c.id%64))&1 == 1 {
						except = append(except, &c.Conn)
						out[c] = true
					}
				}
			}
			for _, c := range l.open {
				if since, in := c.in[i]; in && !out[c] && (s.Seq > since.Seq || s.Ver > since.Ver) {
					c.want = append(c.want, text)
				}
			}
			l.append(l.groups[i], s, text, except...)
		}), len(text))
	}
}

// step does one thing to one connection.
func (l *side) step() {
	if len(l.open) < l.most/2 || len(l.open) < l.most && l.rand.IntN(20) == 0 {
		l.connect()
		return
	}
	c := l.open[l.rand.IntN(len(l.open))]
	i := l.rand.IntN(modelGroups)
	switch x := l.rand.IntN(100); {
	case x < 40:
		if _, in := c.in[i]; in {
			delete(c.in, i)
			c.Leave(l.groups[i])
		}
		if x < 30 { // at once, or for the first time
			l.world.mu.Lock()
			since := l.world.last[i]
			l.world.mu.Unlock()
			c.Join(l.groups[i], since, nil)
			c.in[i] = since
			l.reply(c)
		}
	case x < 74:
		l.reply(c)
	case x < 80:
		if c.Cork() {
			if c.corks++; c.corks == 1 {
				c.corked = len(c.want)
			}
		}
	case x < 86:
		if c.corks > 0 {
			l.uncork(c)
		}
	case x < 95:
		switch {
		case !c.parker:
			l.reply(c)
		case c.old != nil || x < 90:
			l.takeOver(c)
		default:
			c.taken.Write(c.Take())
		}
	case x < 99:
		l.shut(c)
	default:
		c.fate = isAborted
		c.Abort(nil)
	}
}

func (l *side) uncork(c *modelConn) {
	c.corks--
	f := first{before: c.corked}
	if l.rand.IntN(4) > 0 {
		f.text = fmt.Sprintf("first %d %s\n", len(c.firsts), strings.Repeat("f", l.rand.IntN(40)))
		c.firsts = append(c.firsts, f)
	}
	l.world.uncorked.Add(1)
	c.Uncork([]byte(f.text))
}

// takeOver gives a parked connection a transport, or begins to.
func (l *side) takeOver(c *modelConn) {
	if c.old == nil {
		c.old = &end{closed: make(chan error, 2)}
		c.peer = l.transport(&c.old.Conn, c.old)
		if l.rand.IntN(2) == 0 {
			c.old.Send([]byte("hello\n"))
			return
		}
	}
	if !c.TakeOver(&c.old.Conn, c) {
		if l.rand.IntN(8) == 0 { // it waits for its peer, who does not read before
			c.old.Abort(nil)
			c.peer.Close()
			c.old = nil
		}
		return
	}
	c.parker, c.old = false, nil
	l.world.tookOver.Add(1)
	l.listen(c, c.peer)
}

// over is the end: nothing more is taken.
func (c *modelConn) over() {
	if c.parker {
		c.side.world.readers.Go(func() { c.compare(nil) })
	}
	close(c.done)
}

// Queued implements Parker.
func (c *modelConn) Queued(*Conn) {
	if c.asks {
		c.taken.Write(c.Take())
	}
}

func (l *side) reply(c *modelConn) {
	text := fmt.Sprintf("reply %d %s\n", len(c.want), strings.Repeat("z", l.rand.IntN(40)))
	c.want = append(c.want, text)
	c.Send([]byte(text))
}

func (l *side) shut(c *modelConn) {
	c.fate = isShut
	if c.parker {
		c.finishing = true
		c.taken.Write(c.Finish(nil))
		c.over()
		return
	}
	c.want = append(c.want, "last\n")
	c.Shut([]byte("last\n"), nil, 1000*time.Hour)
}

func (l *side) connect() {
	c := &modelConn{side: l, id: l.made, in: map[int]Stamp{}, done: make(chan struct{})}
	l.made++
	c.closed = make(chan error, 2)
	c.onClose = func(err error) {
		l.open = slices.DeleteFunc(l.open, func(o *modelConn) bool { return o == c })
		if c.fate == isOpen {
			l.t.Errorf("connection %d ended: %v", c.id, err)
		}
		if c.old != nil {
			c.old.Abort(nil)
			c.peer.Close()
		}
		if !c.finishing {
			c.over()
		}
	}
	l.open = append(l.open, c)
	if l.rand.IntN(4) == 0 {
		l.world.parked.Add(1)
		c.parker, c.asks = true, l.rand.IntN(2) == 0
		l.AttachParked(&c.Conn, c)
		return
	}
	l.listen(c, l.transport(&c.Conn, c))
}

// transport attaches a connection, and returns its peer.
func (l *side) transport(c *Conn, h Handler) (peer net.Conn) {
	if hasDescriptors && l.socket && l.rand.IntN(3) > 0 {
		sndbuf := 0
		if l.rand.IntN(2) == 0 {
			sndbuf = 1
		}
		var fd int
		fd, peer = socketPair(l.t, sndbuf)
		if err := l.Attach(c, h, fd, nil); err != nil {
			l.t.Error(err)
		}
		return peer
	}
	here, peer := net.Pipe()
	l.AttachPump(c, h, here, nil)
	return peer
}

func (l *side) listen(c *modelConn, peer net.Conn) {
	size := 1 + l.rand.IntN(8192)
	l.world.readers.Go(func() { c.receive(peer, size) })
}

// receive reads all and compares.
func (c *modelConn) receive(peer net.Conn, size int) {
	defer peer.Close()
	peer.SetReadDeadline(time.Now().Add(5 * time.Minute))
	r := bufio.NewReaderSize(peer, size)
	var got []string
	slow := c.id%4 == 0
	for {
		if slow {
			for range 100 {
				runtime.Gosched()
			}
		}
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		got = append(got, line)
	}
	<-c.done
	if len(got) > 0 && got[0] == "hello\n" { // said before the connection was taken over
		got = got[1:]
	}
	c.compare(got)
}

// compare looks at what was taken and what was received then.
func (c *modelConn) compare(got []string) {
	t := c.side.world.t
	lines := strings.SplitAfter(c.taken.String(), "\n")
	got = append(lines[:len(lines)-1], got...)
	var rest []string
	n := 0
	for _, text := range got {
		if !strings.HasPrefix(text, "first ") {
			rest = append(rest, text)
			continue
		}
		n++
		i := slices.IndexFunc(c.firsts, func(f first) bool { return f.text == text })
		if i < 0 || len(rest) > c.firsts[i].before || c.firsts[i].got {
			t.Errorf("connection %d got %.60q behind %d units: %v", c.id, text, len(rest), c.firsts)
			return
		}
		c.firsts[i].got = true
	}
	if n < len(c.firsts) && c.fate != isAborted {
		t.Errorf("connection %d got %d of %v", c.id, n, c.firsts)
	}
	got = rest
	want := c.want
	if c.fate == isAborted {
		want = want[:min(len(want), len(got))]
	}
	for i, text := range want {
		if i == len(got) || got[i] != text {
			where := "nothing"
			if i < len(got) {
				where = got[i]
			}
			t.Errorf("connection %d got %.60q as number %d of %d, where %.60q should be", c.id, where, i, len(want), text)
			return
		}
	}
	if len(got) > len(want) {
		t.Errorf("connection %d got %.60q as number %d, which it should not", c.id, got[len(want)], len(want))
	}
	w := c.side.world
	w.resultMu.Lock()
	defer w.resultMu.Unlock()
	w.conns++
	w.received += len(got)
}
