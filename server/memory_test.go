package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// TestMain lets the test binary be a crowd of clients, so that their memory and descriptors are not the server's.
func TestMain(m *testing.M) {
	if addr := os.Getenv("REALTIME_TEST_CROWD"); addr != "" {
		var n int
		fmt.Sscan(os.Getenv("REALTIME_TEST_CROWD_SIZE"), &n)
		if err := crowd(addr, n, crowds[os.Getenv("REALTIME_TEST_CROWD_KIND")]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// greeting is how a client connects and subscribes to the channel news.
type greeting struct {
	target string
	frames []string
}

// crowds are the protocols that a crowd can speak. Three braces end what it is answered: two the greeting and one the
// acknowledgement, or one each those of the session, of the namespace and of the event.
var crowds = map[string]greeting{
	"ws":       {"/ws", []string{`{"event":"subscribe","channel":"news","id":1}`}},
	"socketio": {"/socket.io/?EIO=4&transport=websocket", []string{"40", `421["subscribe","news"]`}},
}

// crowd opens n subscribed connections, says so, and holds them until its input ends.
func crowd(addr string, n int, kind greeting) error {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = c
		b := []byte(upgradeRequest(kind.target))
		for _, f := range kind.frames {
			b = append(b, masked(ws.OpText, f)...)
		}
		c.Write(b)
	}
	for _, c := range conns {
		r := bufio.NewReader(c)
		for seen := 0; seen < 3; {
			b, err := r.ReadByte()
			if err != nil {
				return err
			}
			if b == '}' {
				seen++
			}
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	for _, c := range conns {
		c.Close()
	}
	return nil
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAnIdleConnectionHoldsAtMost450BytesOfHeap(t *testing.T) { holds(t, "ws", 450) }

// With recovery, and no program.
func TestAnIdleSocketIOClientHoldsAtMost600BytesOfHeap(t *testing.T) { holds(t, "socketio", 600) }

// holds checks how much live heap the server needs for each idle and subscribed connection.
func holds(t *testing.T, kind string, most float64) {
	if raceEnabled {
		t.Skip("the race detector's own memory would be measured")
	}
	s := start(t, Config{Loops: 2})
	if !s.loops[0].Polls() {
		t.Skip("this system has no poller: connections are goroutines")
	}
	const n = 9000
	_, stop := hold(t, s.addr, kind, 100) // what is made once
	stop()
	before := liveHeap()
	_, stop = hold(t, s.addr, kind, n)
	defer stop()
	if got := s.Subscriptions("", "news"); got != n {
		t.Fatalf("%d subscriptions, not %d", got, n)
	}
	per := float64(liveHeap()-before) / n
	t.Logf("%.0f bytes of live heap per subscribed connection", per)
	if per > most {
		t.Errorf("an idle subscribed connection holds %.0f bytes of heap, more than %.0f", per, most)
	}
}

// hold starts a crowd and returns once it is complete; stop ends it and waits.
func hold(t *testing.T, addr, kind string, n int) (*exec.Cmd, func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REALTIME_TEST_CROWD="+addr, "REALTIME_TEST_CROWD_KIND="+kind, fmt.Sprint("REALTIME_TEST_CROWD_SIZE=", n))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("the crowd says %q", line)
	}
	return cmd, func() { in.Close(); cmd.Wait() }
}
