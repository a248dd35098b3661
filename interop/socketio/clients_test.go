// Package socketio runs Socket.IO's official clients, unchanged, against a program that serves them. The tests themselves
// are JavaScript, *.test.mjs; npm ci installs what they need.
//
// With SOCKETIO_REFERENCE=1 they run against Socket.IO's own server (reference.mjs) instead, those of channels excepted: what
// fails there is a mistake of the test.
package socketio

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reference says that Node's server is what is tested, and of which tests it can be the judge.
var (
	reference     = os.Getenv("SOCKETIO_REFERENCE") == "1"
	ofTheProtocol = []string{"socketio.test.mjs", "v2.test.mjs"}
)

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("REALTIME_CI") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// serve runs the server until the test ends, and returns what it prints: the ports it listens on.
func serve(t *testing.T, node string) (ports string) {
	t.Helper()
	server := exec.Command(node, "reference.mjs")
	if !reference {
		binary := filepath.Join(t.TempDir(), "server")
		if out, err := exec.Command("go", "build", "-o", binary, "./server").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		server = exec.Command(binary)
	}
	var log strings.Builder
	server.Stderr = &log
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !json.Valid([]byte(line)) {
		t.Fatalf("the server says %q, %v; %s", line, err, log.String())
	}
	return line
}

// TestClients runs every file of JavaScript tests.
func TestClients(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "Node is not installed: its clients cannot be run")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		missing(t, "the client libraries are missing: run npm ci in interop/socketio")
	}
	files, err := filepath.Glob("*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	target := "server"
	if reference {
		target = "reference"
		files = slices.DeleteFunc(files, func(f string) bool { return !slices.Contains(ofTheProtocol, f) })
	}
	ports := serve(t, node)
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".test.mjs"), func(t *testing.T) {
			c := exec.Command(node, "--test", "--test-reporter=spec", file)
			c.Env = append(os.Environ(), "REALTIME_PORTS="+ports, "REALTIME_TARGET="+target)
			c.WaitDelay = time.Second
			out, err := c.CombinedOutput()
			if err != nil || regexp.MustCompile(`(?m)^\s*✖`).Match(out) {
				t.Errorf("%v\n%s", err, out)
			}
			if n := len(regexp.MustCompile(`(?m)^\s*✔`).FindAll(out, -1)); n == 0 {
				t.Errorf("no test ran:\n%s", out)
			} else {
				t.Logf("%d passed", n)
			}
		})
	}
}
