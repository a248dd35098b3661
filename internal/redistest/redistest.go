// Package redistest runs a real Redis for tests.
package redistest

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Start runs a Redis that keeps nothing, on a free port of this machine, until the test ends, and returns its address.
// args are further options of redis-server, such as "--requirepass", "x". Without redis-server the test is skipped; under
// REALTIME_CI=1 it fails.
func Start(t testing.TB, args ...string) (addr string) {
	t.Helper()
	for range 5 { // another program may take the port in between
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = l.Addr().String()
		l.Close()
		if stop := StartAt(t, addr, args...); stop != nil {
			return addr
		}
	}
	t.Fatal("redis-server does not start")
	return ""
}

// StartAt is Start at an address. stop ends the server before the test does; it is nil where no server could start.
func StartAt(t testing.TB, addr string, args ...string) (stop func()) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		const what = "redis-server is not installed: what needs a Redis is not tested"
		if os.Getenv("REALTIME_CI") == "1" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if said.WriteString(lines.Text() + "\n"); strings.Contains(lines.Text(), "Ready to accept connections") {
			copied := make(chan struct{})
			go func() {
				defer close(copied)
				io.Copy(io.Discard, out)
			}()
			var stopped bool
			stop = func() {
				if stopped {
					return
				}
				stopped = true
				c.Process.Kill()
				<-copied
				c.Wait()
			}
			t.Cleanup(stop)
			return stop
		}
	}
	c.Wait()
	t.Logf("redis-server ended:\n%s", said.String())
	return nil
}

// Again starts a Redis at an address that was free a moment ago.
func Again(t testing.TB, addr string) {
	t.Helper()
	if StartAt(t, addr) != nil {
		return
	}
	const what = "another program has taken the port of the Redis that was to come again"
	if os.Getenv("REALTIME_CI") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}
