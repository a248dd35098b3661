// Package clients runs official client libraries, unchanged, against the binary. The tests themselves are JavaScript,
// *.test.mjs; npm ci installs what they need.
package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// configuration is of the server that the tests run against; they know its keys. WEBHOOKS stands for the relay's URL.
const configuration = `driver: bun
protocols: [ws, pusher]
server: {host: 127.0.0.1, prefix: /realtime, origins: ["*"]}
apps:
  - {id: "1001", key: app-key, secret: app-secret, keys: [{key: rotated-key, secret: rotated-secret}]}
  - {id: "1002", key: second-key, secret: second-secret, subscriptionCounts: true, watchlists: true}
  - {id: "1003", key: third-key, secret: third-secret, clientEvents: false, authorizedWithin: 1s}
  - {id: "1004", key: fourth-key, secret: fourth-secret, subscriptionCounts: true, webhooks: [{url: "WEBHOOKS/hooks?of=fourth", headers: {X-Tenant: 7}}]}
auth:
  anonymous: true
  jwt: {algorithm: HS256, secret: "the secret of the tests' tokens, 32+"}
channels:
  - {pattern: private-history.*, history: {size: 10}}
`

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("REALTIME_CI") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// relay is an endpoint of webhooks that keeps the requests, in their order, until the tests ask for them: GET answers
// the next one in JSON, and waits for it. The first request of all is refused.
func relay(t *testing.T) string {
	type request struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"` // names in small letters, as Node has them
		Body    string            `json:"body"`
	}
	kept := make(chan request, 1000)
	var refused atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			select {
			case q := <-kept:
				json.NewEncoder(w).Encode(q)
			case <-r.Context().Done():
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !refused.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		q := request{URL: r.RequestURI, Headers: map[string]string{}, Body: string(body)}
		for name := range r.Header {
			q.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
		kept <- q
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// serve builds the binary and runs it until the test ends.
func serve(t *testing.T, webhooks string) (port string) {
	t.Helper()
	dir := t.TempDir()
	binary, config := filepath.Join(dir, "realtime"), filepath.Join(dir, "realtime.yaml")
	build := exec.Command("go", "build", "-o", binary, "./cmd/realtime")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(configuration, "WEBHOOKS", webhooks)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(binary, "serve", "--config", config, "--addr", "127.0.0.1:0")
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
	m := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(line)
	if err != nil || m == nil {
		t.Fatalf("the server says %q, %v; %s", line, err, log.String())
	}
	return m[1]
}

// TestClients runs every file of JavaScript tests.
func TestClients(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "Node is not installed: its clients cannot be run")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		missing(t, "the client libraries are missing: run npm ci in interop/clients")
	}
	webhooks := relay(t)
	port := serve(t, webhooks)
	if r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%s/ready", port)); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("ready: %v, %v", r, err)
	} else {
		r.Body.Close()
	}
	files, err := filepath.Glob("*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".test.mjs"), func(t *testing.T) {
			c := exec.Command(node, "--test", "--test-reporter=spec", file)
			c.Env = append(os.Environ(), "REALTIME_PORT="+port, "REALTIME_WEBHOOKS="+webhooks)
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
