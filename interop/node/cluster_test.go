// Package node runs Node servers with Socket.IO 4, connected by Redis, and their clients: a Go program emits, and they hear.
// npm ci installs what they need.
package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/driver/socketio"
	"github.com/stacksjs/realtime-go/internal/redistest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("REALTIME_CI") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// need skips what this machine cannot run.
func need(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "Node is not installed: its servers cannot be run")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		missing(t, "the servers' libraries are missing: run npm ci in interop/node")
	}
}

// program is a JavaScript program that says lines of JSON. It ends when its standard input does.
type program struct {
	in    io.WriteCloser
	lines *bufio.Scanner
}

func run(t *testing.T, args ...string) program {
	t.Helper()
	c := exec.Command("node", args...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	c.Stderr = &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		stop := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		defer stop.Stop()
		if err := c.Wait(); err != nil {
			t.Errorf("node %s ended with %v", strings.Join(args, " "), err)
		}
		if t.Failed() && log.Len() > 0 {
			t.Logf("node %s said\n%s", strings.Join(args, " "), log.String())
		}
	})
	p := program{in, bufio.NewScanner(out)}
	p.lines.Buffer(nil, 16<<20)
	return p
}

// heard is what a client, or a server that was told, heard.
type heard struct {
	event string
	args  string // JSON
}

// cluster is two servers, and clients of both.
type cluster struct {
	redis   string // host:port
	ports   [2]string
	told    [2]chan heard // what the servers were told; the event is the namespace
	program program

	marks atomic.Int64

	mu      sync.Mutex
	clients map[string]*client
	answers map[int]chan answer
	asked   int
}

type answer struct {
	value json.RawMessage
	err   string
}

// start runs a cluster until the test ends. adapter is the one and, sharded, its mode: the arguments of server.mjs.
func start(t *testing.T, adapter ...string) *cluster {
	t.Helper()
	need(t)
	redis := redistest.Start(t)
	c := &cluster{redis: redis, clients: map[string]*client{}, answers: map[int]chan answer{}}
	for i := range c.ports {
		p := run(t, append([]string{"server.mjs", redis}, adapter...)...)
		var first struct{ Port int }
		if !p.lines.Scan() || json.Unmarshal(p.lines.Bytes(), &first) != nil || first.Port == 0 {
			t.Fatalf("server %d says %q, and not where it listens", i, p.lines.Text())
		}
		c.ports[i] = strconv.Itoa(first.Port)
		c.told[i] = make(chan heard, 10_000)
		go func() {
			for p.lines.Scan() {
				var line struct {
					Nsp  string
					Told json.RawMessage
				}
				json.Unmarshal(p.lines.Bytes(), &line)
				c.told[i] <- heard{line.Nsp, string(line.Told)}
			}
		}()
	}
	c.program = run(t, "clients.mjs")
	go c.listen()
	return c
}

func (c *cluster) listen() {
	for c.program.lines.Scan() {
		var line struct {
			To                               int
			Answer                           json.RawMessage
			Error, Client, Event, Disconnect string
			Args                             json.RawMessage
		}
		if err := json.Unmarshal(c.program.lines.Bytes(), &line); err != nil {
			panic(err)
		}
		c.mu.Lock()
		cl, a := c.clients[line.Client], c.answers[line.To]
		c.mu.Unlock()
		switch {
		case line.To != 0:
			a <- answer{line.Answer, line.Error}
		case line.Disconnect != "":
			cl.heard <- heard{"disconnect", line.Disconnect}
		default:
			cl.heard <- heard{line.Event, string(line.Args)}
		}
	}
}

// do has the clients' program do something, and waits for its answer.
func (c *cluster) do(t *testing.T, op string, what map[string]any) json.RawMessage {
	t.Helper()
	c.mu.Lock()
	c.asked++
	id, a := c.asked, make(chan answer, 1)
	c.answers[id] = a
	what["op"], what["id"] = op, id
	b, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.program.in.Write(append(b, '\n'))
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-a:
		if r.err != "" {
			t.Fatalf("%s: %s", b, r.err)
		}
		return r.value
	case <-time.After(patience):
		t.Fatalf("%s: no answer", b)
		return nil
	}
}

// client is a client of one of the servers.
type client struct {
	c     *cluster
	t     *testing.T
	name  string
	id    string // its socket's
	heard chan heard
}

// connect makes a client of server 0 or 1, in a namespace, that joins rooms. It leaves with the test.
func (c *cluster) connect(t *testing.T, server int, nsp, user string, rooms ...string) *client {
	t.Helper()
	transports := []string{"websocket"}
	if user == "polling" {
		transports = []string{"polling"}
	}
	return c.add(t, map[string]any{"port": c.ports[server], "nsp": nsp, "transports": transports, "auth": map[string]string{"user": user}}, rooms)
}

// beside is the same connection in another namespace.
func (cl *client) beside(nsp string, rooms ...string) *client {
	cl.t.Helper()
	return cl.c.add(cl.t, map[string]any{"beside": cl.name, "nsp": nsp}, rooms)
}

func (c *cluster) add(t *testing.T, what map[string]any, rooms []string) *client {
	t.Helper()
	cl := &client{c: c, t: t, heard: make(chan heard, 10_000)}
	c.mu.Lock()
	cl.name = fmt.Sprint("client-", len(c.clients))
	c.clients[cl.name] = cl
	c.mu.Unlock()
	what["client"] = cl.name
	if err := json.Unmarshal(c.do(t, "connect", what), &cl.id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.do(t, "close", map[string]any{"client": cl.name}) })
	cl.ask("join", append([]string{}, rooms...))
	return cl
}

func (cl *client) ask(event string, args ...any) json.RawMessage {
	cl.t.Helper()
	if args == nil {
		args = []any{}
	}
	return cl.c.do(cl.t, "ask", map[string]any{"client": cl.name, "event": event, "args": args})
}

// next is what it hears next.
func (cl *client) next() heard {
	cl.t.Helper()
	select {
	case h := <-cl.heard:
		return h
	case <-time.After(patience):
		cl.t.Fatalf("%s hears nothing", cl.name)
		return heard{}
	}
}

// becomes waits until the client is in exactly these rooms.
func (cl *client) becomes(rooms ...string) {
	cl.t.Helper()
	want, _ := json.Marshal(slices.Sorted(slices.Values(rooms)))
	end := time.Now().Add(patience)
	for {
		got := cl.ask("rooms")
		if string(got) == string(want) {
			return
		}
		if time.Now().After(end) {
			cl.t.Fatalf("%s is in %s, not in %s", cl.name, got, want)
		}
	}
}

// open makes a driver for the cluster, once all servers hear it: until then what is sent is nobody's loss.
func (c *cluster) open(t *testing.T, cfg socketio.Config) *socketio.Driver {
	t.Helper()
	cfg.Redis = c.redis
	d, err := socketio.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, nsp := range []string{"/", "/admin"} {
		mark := fmt.Sprint(t.Name(), nsp, c.marks.Add(1))
		waiting := []int{0, 1}
		for tries := 0; len(waiting) > 0; tries++ {
			if tries == 600 {
				t.Fatalf("servers %v do not hear the driver", waiting)
			}
			if err := d.Namespace(nsp).ServerSideEmit(t.Context(), "told", mark); err != nil {
				t.Fatal(err)
			}
			wait := time.After(50 * time.Millisecond)
			for waited := false; !waited && len(waiting) > 0; {
				select {
				case h := <-c.told[waiting[0]]:
					if h.event == nsp && h.args == fmt.Sprintf("[%q]", mark) {
						waiting = waiting[1:]
					}
				case <-wait:
					waited = true
				}
			}
		}
	}
	return d
}
