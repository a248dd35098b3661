package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/server"
)

const jwtSecret = "0123456789abcdef0123456789abcdef"

// clean takes this machine's settings out of a test, which must not be parallel.
func clean(t *testing.T) {
	t.Helper()
	for _, v := range []string{"REALTIME_DRIVER", "BROADCAST_DRIVER", "REALTIME_HOST", "REALTIME_PORT", "REALTIME_ORIGINS", "REALTIME_JWT_SECRET",
		"PUSHER_APP_ID", "PUSHER_APP_KEY", "PUSHER_APP_SECRET"} {
		if old, ok := os.LookupEnv(v); ok {
			os.Unsetenv(v)
			t.Cleanup(func() { os.Setenv(v, old) })
		}
	}
}

// live is a server on a loopback port with the app "1", key "key" and secret "secret".
type live struct {
	*server.Server
	addr string
	stop func() // ends it; more than once is fine
}

func start(t *testing.T, addr string, change func(*server.Config)) *live {
	t.Helper()
	cfg := server.Config{
		Apps:   []server.App{{ID: "1", Keys: []auth.Key{{Key: "key", Secret: "secret"}}}},
		Logger: slog.New(slog.DiscardHandler), DrainWindow: time.Nanosecond,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return &live{s, ln.Addr().String(), stop}
}

// command runs to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, bad bytes.Buffer
	code = run(ctx, args, &out, &bad)
	if ctx.Err() != nil {
		t.Errorf("realtime %q did not end by itself", args)
	}
	return code, out.String(), bad.String()
}

// running is a command that has not ended.
type running struct {
	t        *testing.T
	out, bad *bufio.Reader
	cancel   context.CancelFunc
	code     chan int
}

func launch(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, code: make(chan int, 1)}
	outR, outW := io.Pipe()
	badR, badW := io.Pipe()
	r.out, r.bad = bufio.NewReader(outR), bufio.NewReader(badR)
	ended := make(chan struct{})
	go func() {
		r.code <- run(ctx, args, outW, badW)
		outW.Close()
		badW.Close()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		outR.Close() // so that it does not wait to be read
		badR.Close()
		<-ended
	})
	return r
}

// line is the next line of stdout or stderr; a command that hangs is ended after a while.
func (r *running) line(from *bufio.Reader) string {
	r.t.Helper()
	defer time.AfterFunc(20*time.Second, r.cancel).Stop()
	l, err := from.ReadString('\n')
	if err != nil {
		r.t.Fatalf("no further line: %v", err)
	}
	return strings.TrimSuffix(l, "\n")
}

func (r *running) want(from *bufio.Reader, want string) {
	r.t.Helper()
	if got := r.line(from); got != want {
		r.t.Fatalf("the line is\n%s\nand should be\n%s", got, want)
	}
}

// end interrupts the command, which must end well.
func (r *running) end() {
	r.t.Helper()
	r.cancel()
	go io.Copy(io.Discard, r.out)
	go io.Copy(io.Discard, r.bad)
	if code := <-r.code; code != exitOK {
		r.t.Errorf("the command ended with %d", code)
	}
}

func TestWhatIsPublishedIsHeardByteForByte(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	l := launch(t, "listen", "orders", "--json", "--url", "ws://"+s.addr+"/ws")
	if hello := l.line(l.out); !strings.HasPrefix(hello, `{"event":"connection_established",`) {
		t.Fatalf("the first frame is %s", hello)
	}
	l.want(l.out, `{"event":"subscription_succeeded","channel":"orders"}`)
	const data = `{"b":1.0, "a":"<é>\u00e9 & \"q\"",  "n":12345678901234567890}`
	code, out, bad := command(t, "publish", "orders", "OrderShipped", data, "--url", "http://"+s.addr, "--key", "key", "--secret", "secret", "--id", "m1")
	if code != exitOK || out != "" || bad != "" {
		t.Fatalf("publish ends with %d and prints %q and %q", code, out, bad)
	}
	l.want(l.out, `{"event":"OrderShipped","channel":"orders","data":`+data+`,"mid":"m1"}`)
	// The same id again is not delivered, and neither is what excepts the listener; both are followed by one that is.
	command(t, "publish", "orders", "OrderShipped", data, "--url", "http://"+s.addr, "--key", "key", "--secret", "secret", "--id", "m1")
	command(t, "publish", "orders", "Last", "1", "--url", "http://"+s.addr, "--key", "key", "--secret", "secret")
	l.want(l.out, `{"event":"Last","channel":"orders","data":1}`)
	l.end()
}

func TestExceptIsNotTold(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	l := launch(t, "listen", "orders", "--json", "--url", "ws://"+s.addr+"/ws")
	var hello struct {
		Data struct {
			SocketID string `json:"socket_id"`
		}
	}
	if err := json.Unmarshal([]byte(l.line(l.out)), &hello); err != nil {
		t.Fatal(err)
	}
	l.line(l.out)
	for _, x := range [][]string{{"Hidden", "--except", hello.Data.SocketID}, {"Seen", "--except", "1.1"}} {
		args := append([]string{"publish", "orders", x[0], "1", "--url", "http://" + s.addr, "--key", "key", "--secret", "secret"}, x[1:]...)
		if code, _, bad := command(t, args...); code != exitOK {
			t.Fatal(bad)
		}
	}
	l.want(l.out, `{"event":"Seen","channel":"orders","data":1}`)
	l.end()
}

func TestListenForPeople(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	l := launch(t, "listen", "orders", "private-x", "--url", "ws://"+s.addr+"/ws")
	lines := map[string]bool{l.line(l.bad): true, l.line(l.bad): true}
	for _, want := range []string{"listening to orders", `private-x: refused: no authorizer is registered for channel "private-x", and the subscription brought neither signature nor token`} {
		if !lines[want] {
			t.Errorf("%q is not said, but %v", want, lines)
		}
	}
	if err := s.Send(t.Context(), &realtime.Message{Channels: []string{"orders"}, Event: "A\u202eB", Data: json.RawMessage("{\"a\": [1,\n 2], \"b\": \"\u009b\"}")}); err != nil {
		t.Fatal(err)
	}
	at, rest, _ := strings.Cut(l.line(l.out), "  ")
	if _, err := time.Parse(time.TimeOnly, at); err != nil || rest != `orders  A\u202eB  {"a":[1,2],"b":"\u009b"}` {
		t.Errorf("the event is printed as %q and %q", at, rest)
	}
	l.end()
}

func TestListenSaysTokensInTheHeader(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", func(c *server.Config) {
		c.Auth = auth.New()
		c.Auth.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: []byte(jwtSecret)})
	})
	token, err := auth.IssueHS256([]byte(jwtSecret), auth.Claims{Channels: []string{"private-x"}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	l := launch(t, "listen", "private-x", "--token", token, "--url", "ws://"+s.addr+"/ws")
	l.want(l.bad, "listening to private-x")
	l.end()
	code, _, bad := command(t, "listen", "private-x", "--url", "ws://"+s.addr+"/ws")
	if code != exitFailed || bad != "realtime: the server refuses the connection (401): this server wants to know who connects, and the request brought no identity\n" {
		t.Errorf("without a token listen ends with %d and says %q", code, bad)
	}
}

func TestListenFailsWhenEveryChannelIsRefused(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	code, out, bad := command(t, "listen", "private-x", "--url", "ws://"+s.addr+"/ws")
	want := `private-x: refused: no authorizer is registered for channel "private-x", and the subscription brought neither signature nor token
realtime: no channel is left to listen to
`
	if code != exitFailed || out != "" || bad != want {
		t.Errorf("listen ends with %d and prints %q and %q", code, out, bad)
	}
}

func TestListenComesBack(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	l := launch(t, "listen", "orders", "--url", "ws://"+s.addr+"/ws")
	l.want(l.bad, "listening to orders")
	go s.stop()
	l.want(l.bad, "the server says: the server is restarting: connect again")
	if lost := l.line(l.bad); !strings.HasPrefix(lost, "the connection is lost: websocket closed with 4200: the server is restarting: connect again; connecting again in ") {
		t.Fatalf("the loss is said as %q", lost)
	}
	s.stop()
	again := start(t, s.addr, nil)
	for { // it may have tried before the port was open again
		if said := l.line(l.bad); said == "connected again" {
			break
		} else if !strings.HasPrefix(said, "the connection is lost: ") {
			t.Fatalf("it says %q", said)
		}
	}
	l.want(l.bad, "listening to orders")
	if err := again.Send(t.Context(), &realtime.Message{Channels: []string{"orders"}, Event: "E", Data: json.RawMessage("1")}); err != nil {
		t.Fatal(err)
	}
	if said := l.line(l.out); !strings.HasSuffix(said, "  orders  E  1") {
		t.Errorf("the event is printed as %q", said)
	}
	l.end()
}

// freeAddr is an address nobody listens on.
func freeAddr(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestMistakes(t *testing.T) {
	clean(t)
	s := start(t, "127.0.0.1:0", nil)
	gone := freeAddr(t)
	keys := []string{"--key", "key", "--secret", "secret"}
	publish := func(args ...string) []string { return append(append([]string{"publish"}, args...), keys...) }
	for _, tt := range []struct {
		args []string
		code int
		said string // stderr contains it
	}{
		{nil, exitUsage, "Usage: realtime <command>"},
		{[]string{"srve"}, exitUsage, "unexpected argument srve, did you mean \"serve\"?\n\"realtime help\" and"},
		{[]string{"publish", "orders", "E", "1"}, exitUsage, "missing flags: --key=KEY, --secret=SECRET"},
		{publish("orders", "E"), exitUsage, `expected "<json>"`},
		{publish("orders", "E", "hello"), exitUsage, `the data is not JSON: "hello"`},
		{publish("orders", "E", "1", "--url", "ftp://x"), exitUsage, `--url "ftp://x" is not of the form`},
		{publish("orders", "E", "1", "--url", "http://:6001"), exitUsage, `--url "http://:6001" is not of the form`},
		{publish("orders", "E", "1", "--url", "http://u:p@"+s.addr), exitUsage, `--url "http://u:xxxxx@` + s.addr + `" has a name in it`},
		{publish("orders", "E", "1", "--url", "http://"+gone), exitFailed, "http://" + gone + "/apps/1/events: dial tcp"},
		{publish("orders", "E", "1", "--url", "http://"+s.addr, "--app-id", "2"), exitFailed, `404 Not Found: there is no app "2"`},
		{append(publish("orders", "E", "1", "--url", "http://"+s.addr), "--secret", "wrong"), exitFailed, `401 Unauthorized: auth_signature is not`},
		{publish("no spaces", "E", "1", "--url", "http://"+s.addr), exitFailed, `realtime: event "E" cannot be sent: channel name "no spaces"`},
		{publish("orders", "E", "1", "--url", "http://"+s.addr, "--except", "x"), exitFailed, `socket id "x" to leave out is not of the form 123.456`},
		{[]string{"listen"}, exitUsage, `expected "<channel> ..."`},
		{[]string{"listen", "x", "--url", "http://x"}, exitUsage, `--url "http://x" is not of the form`},
		{[]string{"listen", "x", "--url", "ws://" + gone + "/ws"}, exitFailed, "cannot be reached: dial tcp"},
		{[]string{"listen", "x", "--url", "ws://" + s.addr + "/elsewhere"}, exitFailed, "the server refuses the connection (404): nothing is served at /elsewhere"},
		{[]string{"serve", "--app-key", "k"}, exitUsage, "--app-key and --app-secret belong together"},
		{[]string{"serve", "--app-id", "k"}, exitUsage, "--app-id needs --app-key and --app-secret"},
		{[]string{"serve", "--addr", s.addr}, exitFailed, "address already in use"},
		{[]string{"serve", "--config", "gone.yaml"}, exitFailed, "open gone.yaml: no such file"},
		{[]string{"serve", "--origin", "shop.example"}, exitFailed, `origin "shop.example" is not of the form`},
	} {
		code, out, bad := command(t, tt.args...)
		if code != tt.code || out != "" || !strings.Contains(bad, tt.said) {
			t.Errorf("realtime %q ends with %d and says\n%s%s\nand should end with %d and say %s", tt.args, code, out, bad, tt.code, tt.said)
		}
	}
}

func TestServe(t *testing.T) {
	clean(t)
	serves(t, "1", "--app-key", "key", "--app-secret", "secret")
}

// The secret need not be on the command line, where other users of the machine see it.
func TestServeWithASecretOfTheEnvironment(t *testing.T) {
	clean(t)
	t.Setenv("PUSHER_APP_ID", "1001")
	t.Setenv("PUSHER_APP_KEY", "key")
	t.Setenv("PUSHER_APP_SECRET", "secret")
	serves(t, "1001")
}

// serves launches a server with an app whose key is "key", publishes to it and hears that.
func serves(t *testing.T, app string, args ...string) {
	t.Helper()
	s := launch(t, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	url, ok := strings.CutPrefix(s.line(s.out), "realtime serves ")
	if !ok {
		t.Fatalf("serve says %q", url)
	}
	l := launch(t, "listen", "orders", "--url", url)
	l.want(l.bad, "listening to orders")
	if code, _, bad := command(t, "publish", "orders", "E", "1", "--url", "http"+strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "/ws"), "--app-id", app, "--key", "key", "--secret", "secret"); code != exitOK {
		t.Fatal(bad)
	}
	if said := l.line(l.out); !strings.HasSuffix(said, "  orders  E  1") {
		t.Errorf("the event is printed as %q", said)
	}
	l.end()
	s.end()
}

func inFile(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("config", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("config/realtime.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "config/realtime.yaml"
}

func TestServeAFile(t *testing.T) {
	clean(t)
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := launch(t, "serve", "--config", inFile(t, "server: {port: "+port+", path: /socket, drain: 1ns}\n"))
	s.want(s.out, "realtime serves ws://"+addr+"/socket")
	s.end()
	code, _, bad := command(t, "serve", "--config", inFile(t, "driver: log\n"))
	if code != exitFailed || bad != "realtime: driver \"log\" (config/realtime.yaml:1) has no server to run\n" {
		t.Errorf("serve of driver log ends with %d and says %q", code, bad)
	}
	code, _, bad = command(t, "serve", "--config", inFile(t, "driver: socket\nsocket:\n  redis: {}\n"))
	if code != exitFailed || bad != "realtime: with socket.redis (config/realtime.yaml:3) driver socket has no server to run: it publishes into Node servers, for programs that have events\n" {
		t.Errorf("serve of what publishes into Node servers ends with %d and says %q", code, bad)
	}
}

func TestServeForConformanceSuites(t *testing.T) {
	clean(t)
	s := launch(t, "serve", "--conformance", "socketio", "--addr", "127.0.0.1:0")
	line := s.line(s.out)
	url, ok := strings.CutSuffix(strings.TrimPrefix(line, "realtime serves "), " for conformance suites")
	if !ok {
		t.Fatalf("serve says %q", line)
	}
	for _, path := range []string{"/engine.io/", "/socket.io/"} {
		r, err := http.Get(url + path + "?EIO=4&transport=polling")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), `"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}`) {
			t.Errorf("%s answers %d %q, %v", path, r.StatusCode, body, err)
		}
	}
	s.end()
	if code, _, bad := command(t, "serve", "--conformance", "socketio", "--app-key", "k"); code != exitUsage || !strings.Contains(bad, "--conformance has settings of its own") {
		t.Errorf("with an app it ends with %d and says %q", code, bad)
	}
}

func TestServeSocketIO(t *testing.T) {
	clean(t)
	s := launch(t, "serve", "--config", inFile(t, "driver: socket\nserver: {drain: 1ns}\n"), "--addr", "127.0.0.1:0")
	line := s.line(s.out)
	if !strings.HasPrefix(line, "realtime serves http://127.0.0.1:") || !strings.HasSuffix(line, "/socket.io/") {
		t.Errorf("serve says %q", line)
	}
	s.end()
}

func TestConfigCommands(t *testing.T) {
	clean(t)
	inFile(t, "pusher: {appId: 1, key: pub, secret: hush}\nchannels:\n  - pattern: private-orders.*\n    history: {size: 5}\n    slow: drop-oldest\n")
	code, out, bad := command(t, "config", "check")
	want := `# config/realtime.yaml is correct. In effect:
driver: bun
server:
  host: 127.0.0.1
  port: 6001
pusher:
  appId: "1"
  key: pub
  secret: "***"
channels:
  - pattern: private-orders.*
    history:
      size: 5
    slow: drop-oldest
`
	if code != exitOK || out != want || bad != "" {
		t.Errorf("config check ends with %d and prints\n%s%s", code, out, bad)
	}
	code, out, bad = command(t, "config", "which", "private-orders.1")
	want = `channel      private-orders.1
pattern      private-orders.*
written in   config/realtime.yaml:3
history      5 messages, 5m, 1MiB
cache        no
whispers     true
slow         drop-oldest
payload      100KiB
subscribers  no bound
members      100
encrypted    false
`
	if code != exitOK || out != want || bad != "" {
		t.Errorf("config which ends with %d and prints\n%s%s", code, out, bad)
	}
	if code, _, _ := command(t, "config", "which", "no spaces"); code != exitUsage {
		t.Errorf("config which of no channel name ends with %d", code)
	}
	inFile(t, "drivr: bun\nserver: {port: x}\n")
	code, out, bad = command(t, "config", "check")
	if code != exitFailed || out != "" || strings.Count(bad, "config/realtime.yaml:") != 2 {
		t.Errorf("config check of a wrong file ends with %d and prints\n%s%s", code, out, bad)
	}
}

func TestEveryHelpHasAnExampleAndNoSecret(t *testing.T) {
	clean(t)
	t.Setenv("PUSHER_APP_SECRET", "hush")
	for _, c := range [][]string{{"serve"}, {"publish"}, {"listen"}, {"bench"}, {"config", "check"}, {"config", "which"}, {"version"}} {
		code, out, bad := command(t, append(c, "--help")...)
		if code != exitOK || bad != "" || !strings.Contains(out, "    realtime "+strings.Join(c, " ")) || strings.Contains(out, "hush") {
			t.Errorf("help of %q ends with %d and prints\n%s%s", c, code, out, bad)
		}
	}
}

func TestHelpSaysExitCodes(t *testing.T) {
	code, out, bad := command(t, "help")
	if want := "    0  it is done\n    1  it could not be done, and stderr says why\n    2  the command line is wrong\n"; code != exitOK || bad != "" || !strings.Contains(out, want) {
		t.Errorf("help ends with %d and prints\n%s%s", code, out, bad)
	}
	if _, same, _ := command(t, "--help"); same != out {
		t.Errorf("--help prints\n%s", same)
	}
	_, out, _ = command(t, "help", "config", "check")
	if _, want, _ := command(t, "config", "check", "--help"); out != want || !strings.HasPrefix(out, "Usage: realtime config check ") {
		t.Errorf("help of a command prints\n%s", out)
	}
}

// TestDocumentedCommandsAreCommands parses the command lines that pages and helps show.
func TestDocumentedCommandsAreCommands(t *testing.T) {
	clean(t)
	t.Setenv("PUSHER_APP_KEY", "key")
	t.Setenv("PUSHER_APP_SECRET", "secret")
	example := regexp.MustCompile("(?m)^ *(?:[A-Z_]+=[^ ]+ )*(?:go run ./cmd/)?realtime (.*)$")
	word := regexp.MustCompile(`'[^']*'|"[^"]*"|[^ ]+`)
	check := func(source, text string, lines int) {
		t.Helper()
		found := example.FindAllStringSubmatch(text, -1)
		if len(found) != lines {
			t.Errorf("%s shows %d command lines, not the %d that this test knows", source, len(found), lines)
		}
		for _, m := range found {
			line, _, _ := strings.Cut(m[1], " | ")
			line, _, _ = strings.Cut(line, "  # ")
			line = strings.ReplaceAll(line, "$(pidof realtime)", "1")
			var args []string
			for _, w := range word.FindAllString(line, -1) {
				args = append(args, strings.Trim(w, `'"`))
			}
			if _, err := parser(io.Discard, io.Discard).Parse(args); err != nil {
				t.Errorf("%s: realtime %s: %v", source, m[1], err)
			}
		}
	}
	for page, lines := range map[string]int{"../../README.md": 8, "../../docs/getting-started.md": 2, "../../docs/performance.md": 5, "../../docs/move-from-pusher.md": 1} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		check(page, string(text), lines)
	}
	for _, h := range []struct {
		help  interface{ Help() string }
		lines int
	}{{serve{}, 3}, {publish{}, 2}, {listen{}, 2}, {benchCommand{}, 4}, {configCheck{}, 1}, {configWhich{}, 1}, {version{}, 1}} {
		check(fmt.Sprintf("the help of %T", h.help), h.help.Help(), h.lines)
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := command(t, "version"); code != exitOK || !strings.HasPrefix(out, "realtime ") {
		t.Errorf("version ends with %d and prints %q", code, out)
	}
}
