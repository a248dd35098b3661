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
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// TestMain lets the test binary be a crowd of clients, so that their memory and descriptors are not the server's.
func TestMain(m *testing.M) {
	if addr := os.Getenv("REALTIME_TEST_CROWD"); addr != "" {
		var n int
		fmt.Sscan(os.Getenv("REALTIME_TEST_CROWD_SIZE"), &n)
		if err := crowd(addr, n, os.Getenv("REALTIME_TEST_CROWD_PROTOCOL") == string(SocketIO)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// crowd opens n subscribed connections, says so, and holds them until its input ends.
func crowd(addr string, n int, socketIO bool) error {
	path, say := "/ws", []string{`{"event":"subscribe","channel":"news","id":1}`}
	if socketIO {
		path, say = "/socket.io/?EIO=4&transport=websocket", []string{"40", `420["subscribe","news"]`}
	}
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = c
		b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, addr)
		for _, s := range say {
			b = ws.AppendMasked(b, ws.OpText, []byte(s), [4]byte{1, 2, 3, 4})
		}
		c.Write(b)
	}
	for _, c := range conns {
		r := bufio.NewReader(c)
		// Two braces end the greeting, or one the handshake and one CONNECT; one ends the acknowledgement.
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

func TestAnIdleConnectionHoldsAtMost450BytesOfHeap(t *testing.T) {
	holdsAtMost(t, 450, WebSocket)
}

func TestAnIdleSocketIOClientHoldsAtMost550BytesOfHeap(t *testing.T) {
	holdsAtMost(t, 550, SocketIO)
}

func holdsAtMost(t *testing.T, most float64, protocol Protocol) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector's own memory would be measured")
	}
	s := start(t, Config{Loops: 2, SocketIO: SocketIOConfig{PingInterval: time.Hour}}) // nobody answers pings here
	if !s.loops[0].Polls() {
		t.Skip("this system has no poller: connections are goroutines")
	}
	const n = 9000
	hold(t, s.addr, 100, protocol)() // what is made once
	before := liveHeap()
	stop := hold(t, s.addr, n, protocol)
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
func hold(t *testing.T, addr string, n int, protocol Protocol) (stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REALTIME_TEST_CROWD="+addr, fmt.Sprint("REALTIME_TEST_CROWD_SIZE=", n), "REALTIME_TEST_CROWD_PROTOCOL="+string(protocol))
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
	return func() { in.Close(); cmd.Wait() }
}
