package loop

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const hasDescriptors = true

// socketPair is a connection; sndbuf is the size of the loop's side's buffer, 0 the system's.
func socketPair(t testing.TB, sndbuf int) (fd int, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if sndbuf > 0 {
		if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, sndbuf); err != nil {
			t.Fatal(err)
		}
	}
	f := os.NewFile(uintptr(fds[1]), "peer")
	defer f.Close()
	if peer, err = net.FileConn(f); err != nil {
		t.Fatal(err)
	}
	return fds[0], peer
}

// TestAnEndInTheMiddleOfAFlush: while the turn is being written, one connection turns out to be dead, and its end
// ends others, makes others leave, and has more sent; then the flush pauses, and more of the same happens.
func TestAnEndInTheMiddleOfAFlush(t *testing.T) {
	r := newRig(t, true, Config{})
	defer r.Stop()
	const n = flushWrites + 50
	var g Group
	ends, peers := make([]*end, n), make([]net.Conn, n)
	for i := range n {
		ends[i], peers[i] = r.dial()
	}
	var closed error
	flushed := 0
	ends[3].onClose = func(err error) {
		closed, flushed = err, r.turn.pos
		ends[10].Abort(nil)
		ends[11].Leave(&g)
		ends[13].Send([]byte("reply "))
		ends[14].Shut([]byte("last"), nil, time.Minute)
		r.append(&g, Stamp{Seq: 2}, "two ")
		for _, i := range []int{12, 15, 16} {
			ends[i].Leave(&g)
			ends[i].Join(&g, Stamp{Seq: 2}, nil)
		}
		ends[15].Leave(&g)
		ends[16].Shut([]byte("last"), nil, time.Minute)
		r.Post(Func(func(*Loop) {
			if !r.turn.flushing() {
				t.Error("the flush is over")
			}
			ends[n-1].Abort(nil)
			ends[n-2].Leave(&g)
			ends[n-3].Shut([]byte("last"), nil, time.Minute)
			ends[n-4].Send([]byte("reply "))
			r.append(&g, Stamp{Seq: 3}, "three ")
		}), 0)
	}
	r.on(func() {
		for _, e := range ends {
			e.Join(&g, Stamp{}, nil)
		}
		peers[3].Close() // the loop will not look before it writes
		r.append(&g, Stamp{Seq: 1}, "one ")
	})
	r.written()
	for i, want := range map[int]string{
		0: "one two three ", 10: "", 11: "one ", 12: "one two three ", 13: "one reply two three ", 14: "one last", 15: "one two ", 16: "one two last", n - 1: "", n - 2: "one two ",
		n - 3: "one two last", n - 4: "one two reply three ", n - 5: "one two three ",
	} {
		r.Post(Func(func(*Loop) { ends[i].Shut(nil, nil, time.Minute) }), 0)
		if got := rest(t, peers[i]); got != want {
			t.Errorf("connection %d got %q, not %q", i, got, want)
		}
	}
	r.on(func() {
		if !strings.Contains(fmt.Sprint(closed), syscall.EPIPE.Error()) || flushed != 4 {
			t.Errorf("the dead one was closed with %v, as number %d", closed, flushed)
		}
		if len(g.young) > 0 || ends[12].young > 0 {
			t.Errorf("%d memberships are young still", len(g.young))
		}
	})
}

// What clients ask for is bounded like everything else in a turn: nobody is read while a turn has enough to write.
func TestAFullTurnReadsNobody(t *testing.T) {
	r := newRig(t, true, Config{MaxQueued: 1 << 30})
	defer r.Stop()
	const n = 10
	peers := make([]net.Conn, n)
	most, read := 0, 0
	for i := range peers {
		_, peers[i] = r.dial(func(e *end, b []byte) int {
			read++
			most = max(most, r.turn.bytes)
			e.Send(make([]byte, turnBytes))
			return len(b)
		})
	}
	r.on(func() { // all of them come with one poll
		for _, p := range peers {
			p.Write([]byte("x"))
		}
	})
	for i, p := range peers {
		if _, err := io.ReadFull(p, make([]byte, turnBytes)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	r.on(func() {
		if read != n || most >= turnBytes {
			t.Errorf("%d connections were read, and one of them while %d bytes were to be written", read, most)
		}
	})
}

// A membership that ends while a flush of others is under way must not leave its mark on the connection.
func TestAYoungMembershipOfAForgottenGroup(t *testing.T) {
	r := newRig(t, true, Config{})
	defer r.Stop()
	var busy, g Group
	dead, deadPeer := r.dial()
	e, peer := r.dial()
	dead.onClose = func(error) { e.Leave(&g) } // in mid-flush; g has nothing in it and never will again
	r.on(func() {
		dead.Join(&busy, Stamp{}, nil)
		e.Join(&busy, Stamp{}, nil)
		e.Join(&g, Stamp{Seq: 9}, nil) // knows what has not come yet
		deadPeer.Close()
		r.append(&busy, Stamp{Seq: 1}, "one ")
	})
	r.written()
	r.on(func() {
		if e.young != 0 {
			t.Error("the connection will never take the fast path again")
		}
	})
	r.wantRest(e, peer, "one ")
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

func TestNoDescriptorIsLeft(t *testing.T) {
	fd, peer := socketPair(t, 0) // whatever the runtime opens once
	peer.Close()
	unix.Close(fd)
	before := openDescriptors(t)
	r := newRig(t, true, Config{})
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{}, 10)
	if err := r.Listen(ln, func(l *Loop, fd int, _ net.Addr) {
		e := &end{closed: make(chan error, 2)}
		if err := l.Attach(&e.Conn, e, fd, nil); err != nil {
			t.Error(err)
		}
		accepted <- struct{}{}
	}); err != nil {
		t.Fatal(err)
	}
	var peers []net.Conn
	for range 10 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, c)
		<-accepted
	}
	for range 10 {
		_, p := r.dial()
		peers = append(peers, p)
	}
	if got := openDescriptors(t) - before; got < 41 {
		t.Errorf("%d descriptors are open, which cannot be", got)
	}
	ln.Close()
	r.Stop()
	for _, p := range peers {
		p.Close()
	}
	if got := openDescriptors(t); got != before {
		t.Errorf("%d descriptors are open, and %d were before", got, before)
	}
}

// TestATurnSeesWhatElseHasArrived: publishers that send more than the loop writes find their messages in fewer writes,
// unless those are large as it is. Nobody waits for more than half of what writing took, and answers do not wait at all.
func TestATurnSeesWhatElseHasArrived(t *testing.T) {
	var now, tick time.Duration // what the clock says, and by how much it moves each time
	r := newRig(t, true, Config{MaxQueued: 1 << 30, Now: func() time.Time { now += tick; return clockZero.Add(now) }})
	defer r.Stop()
	var groups [16]Group
	const size = bulkBytes / len(groups) / 2
	unit := strings.Repeat("u", size)
	asker, asks := r.dial(func(e *end, b []byte) int { e.Send([]byte("pong")); return len(b) })
	publisher, publishes := r.dial(func(e *end, b []byte) int {
		for _, what := range b {
			for i := range groups {
				if what == 'd' { // all of it is for one
					i = 0
				}
				r.append(&groups[i], Stamp{}, unit)
			}
		}
		return len(b)
	})
	subscriber, hears := r.dial()
	defer func() {
		for _, e := range []*end{asker, publisher, subscriber} {
			r.on(func() { e.Abort(nil) })
		}
	}()
	raw, err := hears.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r.on(func() { // the loop's own turn stands still, and the test takes others
		for i := range groups {
			subscriber.Join(&groups[i], Stamp{}, nil)
		}
		said := func(c net.Conn, s string) {
			if _, err := c.Write([]byte(s)); err != nil {
				t.Error(err)
			}
		}
		turn := func(what string, want int) {
			t.Helper()
			r.step(false)
			n := 0
			raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
			if err != nil || n != want*size*len(groups) {
				t.Errorf("%s: %d bytes were written, not %d, %v", what, n, want*size*len(groups), err)
			}
			if _, err := io.CopyN(io.Discard, hears, int64(n)); err != nil {
				t.Error(err)
			}
		}
		said(publishes, "xxx")
		turn("nothing was written lately", 3)
		said(publishes, "x")
		tick = 4 * time.Millisecond // writing this takes as long
		turn("little", 1)
		tick = 0

		said(publishes, "dd")
		turn("much for one", 2)
		tick = 4 * time.Millisecond
		said(publishes, "x")
		turn("little again", 1)
		tick = 0

		said(publishes, "xx")
		turn("much, and perhaps more", 0)
		said(asks, "?")
		turn("a question is no end of it", 0)
		asks.SetReadDeadline(time.Now().Add(20 * time.Second))
		pong := make([]byte, 4)
		if _, err := io.ReadFull(asks, pong); err != nil || string(pong) != "pong" {
			t.Errorf("the answer is %q, %v", pong, err)
		}
		said(publishes, "x")
		turn("more", 0)
		turn("no more", 3)

		tick = 4 * time.Millisecond
		said(publishes, "x")
		turn("writing takes 4 ms once more", 1)
		tick = 0
		said(publishes, "xx")
		turn("much", 0)
		now += 2 * time.Millisecond
		said(publishes, "x")
		turn("half of that time is over", 3)
	})
}
