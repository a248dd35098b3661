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

// TestModel lets chance join, leave, publish with exclusions, reply, shut and abort on two loops, and compares what
// each connection receives, byte for byte, with a model that knows neither turns nor logs nor queues.
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
	t.Logf("%d connections received %d units", w.conns, w.received)
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
	case x < 95:
		l.reply(c)
	case x < 99:
		l.shut(c)
	default:
		c.fate = isAborted
		c.Abort(nil)
	}
}

func (l *side) reply(c *modelConn) {
	text := fmt.Sprintf("reply %d %s\n", len(c.want), strings.Repeat("z", l.rand.IntN(40)))
	c.want = append(c.want, text)
	c.Send([]byte(text))
}

func (l *side) shut(c *modelConn) {
	c.fate = isShut
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
		close(c.done)
	}
	var peer net.Conn
	if hasDescriptors && l.socket && l.rand.IntN(3) > 0 {
		sndbuf := 0
		if l.rand.IntN(2) == 0 {
			sndbuf = 1
		}
		var fd int
		fd, peer = socketPair(l.t, sndbuf)
		if err := l.Attach(&c.Conn, c, fd, nil); err != nil {
			l.t.Error(err)
		}
	} else {
		var here net.Conn
		here, peer = net.Pipe()
		l.AttachPump(&c.Conn, c, here, nil)
	}
	l.open = append(l.open, c)
	size := 1 + l.rand.IntN(8192)
	l.world.readers.Go(func() { c.receive(peer, size) })
}

// receive reads all and compares.
func (c *modelConn) receive(peer net.Conn, size int) {
	defer peer.Close()
	t := c.side.world.t
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
