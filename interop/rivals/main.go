// Command rivals measures our server beside others, one after another on the same core with the same work, and prints
// what each costs in comparison with Bun. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stacksjs/realtime-go/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rivals:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ours := flag.String("ours", "", "our `binary`; without it one is built from this repository")
	short := flag.Bool("short", false, "check exactness with small sizes and measure nothing")
	rounds := flag.Int("rounds", 3, "how often each server does each work")
	only := flag.String("rows", "", "only rows whose name contains one of these words, `a,b`")
	peers := flag.String("servers", "", "only servers of these names, `a,b`")
	seconds := flag.Float64("seconds", 3, "how long each work is measured")
	out := flag.String("json", "", "write all results to this `file`")
	dir := flag.String("dir", ".", "where bun.js and node_modules are")
	flag.Parse()

	tmp, err := os.MkdirTemp("", "rivals")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	e := env{dir: *dir, tmp: tmp, ours: *ours}
	e.cert, e.key, err = writeCertificate(tmp)
	if err != nil {
		return err
	}
	if !*short {
		if err := pinToCore(1); err != nil {
			fmt.Fprintln(os.Stderr, "not pinned to a core:", err)
		}
	}

	var running []server
	for _, s := range servers {
		if *peers != "" && !slices.Contains(strings.Split(*peers, ","), s.name) {
			continue
		}
		if err := s.prepare(ctx, e); err != nil {
			fmt.Fprintf(os.Stderr, "skipping %s: %v\n", s.name, err)
			continue
		}
		running = append(running, s)
	}
	if len(running) == 0 {
		return errors.New("no server can be run")
	}
	work := rows(time.Duration(*seconds * float64(time.Second)))
	if *short {
		work, *rounds = shortRows(), 1
	}
	if *only != "" {
		work = slices.DeleteFunc(work, func(r row) bool {
			return !slices.ContainsFunc(strings.Split(*only, ","), func(w string) bool { return strings.Contains(r.name, w) })
		})
	}

	t := table{rows: work, servers: running}
	var failed []error
	for _, r := range work {
		for round := range *rounds {
			for _, s := range running {
				if r.tls && !s.tls || r.except && !s.except || r.config.Publish == bench.HTTP && !s.http || s.group != "" && !slices.Contains(r.groups, s.group) {
					continue
				}
				result, err := measure(ctx, e, s, r)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err = errors.Join(err, result.Err()); err != nil {
					err = fmt.Errorf("%s, %s: %w", r.name, s.name, err)
					fmt.Fprintln(os.Stderr, err)
					failed = append(failed, err)
					t.add(r, s, round, result, err)
					continue
				}
				fmt.Fprintf(os.Stderr, "%d %-10s %v\n", round+1, s.name, result)
				t.add(r, s, round, result, nil)
			}
		}
	}
	if *out != "" {
		b, err := json.MarshalIndent(t.measured, "", "  ")
		if err == nil {
			err = os.WriteFile(*out, append(b, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if !*short {
		t.print(os.Stdout)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of the runs failed", len(failed))
	}
	return nil
}

// measure starts a server, gives it one kind of work and stops it. The bench is bounded, so that a server that hangs
// costs a row and not the table.
func measure(ctx context.Context, e env, s server, r row) (result bench.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := start(ctx, e, s, r.tls)
	if err != nil {
		return result, err
	}
	defer p.stop()
	c := r.config
	c.URL = p.url
	c.Insecure = r.tls
	c.Token, c.App = s.token, app
	if s.variant != nil {
		s.variant(&c)
	}
	c.PID = p.cmd.Process.Pid
	if result, err = bench.Run(ctx, c); err != nil {
		return result, fmt.Errorf("%w\nthe server's last words: %s", err, p.words())
	}
	return result, nil
}

// env is what the commands of servers are made from.
type env struct{ dir, tmp, ours, cert, key string }

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	url  string
	log  string
	done chan struct{}
}

func start(ctx context.Context, e env, s server, tls bool) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := s.command(e, port, tls)
	if err != nil {
		return nil, err
	}
	if path, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		args = append([]string{path, "-c", "0"}, args...) // taskset becomes the server: the process id stays
	}
	log, err := os.Create(filepath.Join(e.tmp, s.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(args[0], args[1:]...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// Our own interrupt must reach us first, and the server must not outlive us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.url = fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	if tls {
		p.url = "wss" + strings.TrimPrefix(p.url, "ws")
	}
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that started the process, so this one stays until it has ended.
		runtime.LockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := p.listening(ctx, port); err != nil {
		p.stop()
		return nil, fmt.Errorf("%w; its last words: %s", err, p.words())
	}
	return p, nil
}

// stop ends the process and waits until it has ended.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// words is the end of what the server wrote.
func (p *process) words() string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 1000 {
		f.Seek(-1000, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return strings.TrimSpace(string(b))
}
