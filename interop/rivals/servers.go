package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/bench"
	"golang.org/x/sys/unix"
)

// server is one of those compared.
type server struct {
	name              string
	tls, except, http bool   // what it can do
	group             group  // takes part only in the rows for it
	token             string // for publishers
	variant           func(*bench.Config)
	// prepare finds or builds what the command needs; its error says why the server is skipped.
	prepare func(ctx context.Context, e env) error
	command func(e env, port int, tls bool) ([]string, error)
}

// group is servers that do not take part in every row.
type group string

const (
	embedded group = "embedded" // in a program that publishes
	pusher   group = "pusher"   // with Pusher's clients
	socketIO group = "socketio" // with Socket.IO's clients
)

// baseline is the server the others are compared with.
const baseline = "bun"

var servers = []server{
	{
		name: "ours", tls: true, except: true, http: true, token: ourToken(),
		prepare: buildOurs, command: serveOurs,
	},
	{
		name: "ours Pusher", group: pusher, http: true, token: ourToken(), variant: func(c *bench.Config) {
			c.URL = strings.TrimSuffix(c.URL, "/ws") + "/app/" + app.Key
			c.Protocol, c.Publish = bench.Pusher, cmp.Or(c.Publish, bench.WebSocket)
		},
		prepare: buildOurs, command: serveOurs,
	},
	{
		name: "ours embedded", group: embedded, variant: func(c *bench.Config) { c.Publishers, c.Burst, c.Window = 8, 16, 128 },
		prepare: func(ctx context.Context, e env) error {
			return goBuild(ctx, e.dir, filepath.Join(e.tmp, "embedded"), "./embedded")
		},
		command: func(e env, port int, tls bool) ([]string, error) {
			return []string{filepath.Join(e.tmp, "embedded"), "-port", strconv.Itoa(port)}, nil
		},
	},
	{
		name: "ours Socket.IO", group: socketIO, http: true, token: ourToken(), except: true, variant: speakSocketIO,
		prepare: func(ctx context.Context, e env) error {
			if err := buildOurs(ctx, e); err != nil {
				return err
			}
			// Not every binary that -ours may name has it.
			p, err := start(ctx, e, server{name: "try", command: serveOursSocketIO}, false)
			if err == nil {
				p.stop()
			}
			return err
		},
		command: serveOursSocketIO,
	},
	{
		name: "Socket.IO on Node", group: socketIO, except: true, variant: speakSocketIO,
		prepare: func(ctx context.Context, e env) error {
			if err := findSocketIO(e); err != nil {
				return err
			}
			return exec.CommandContext(ctx, "node", "--version").Run()
		},
		command: func(e env, port int, tls bool) ([]string, error) { return socketIOCommand(e, "node", port), nil },
	},
	{
		name: "Socket.IO on Bun", group: socketIO, except: true, variant: speakSocketIO,
		prepare: func(ctx context.Context, e env) error { return errors.Join(findSocketIO(e), findBun(ctx, e)) },
		command: func(e env, port int, tls bool) ([]string, error) { return socketIOCommand(e, bunBinary(e), port), nil },
	},
	{
		name: "bun", tls: true, except: true,
		prepare: findBun,
		command: func(e env, port int, tls bool) ([]string, error) { return bunCommand(e, port, tls, "json"), nil },
	},
	{
		name: "bun-raw", tls: true,
		prepare: findBun,
		command: func(e env, port int, tls bool) ([]string, error) { return bunCommand(e, port, tls, "raw"), nil },
	},
	{
		name: "gws", tls: true, except: true,
		prepare: func(ctx context.Context, e env) error {
			return goBuild(ctx, e.dir, filepath.Join(e.tmp, "gws"), "./gws")
		},
		command: func(e env, port int, tls bool) ([]string, error) {
			args := []string{filepath.Join(e.tmp, "gws"), "-port", strconv.Itoa(port)}
			if tls {
				args = append(args, "-cert", e.cert, "-key", e.key)
			}
			return args, nil
		},
	},
}

func buildOurs(ctx context.Context, e env) error {
	if e.ours != "" {
		_, err := os.Stat(e.ours)
		return err
	}
	return goBuild(ctx, filepath.Join(e.dir, "..", ".."), filepath.Join(e.tmp, "realtime"), "./cmd/realtime")
}

func serveOurs(e env, port int, tls bool) ([]string, error) {
	config := "driver: bun\nprotocols: [ws, pusher]\n"
	if tls {
		config += fmt.Sprintf("server:\n  tls:\n    cert: %s\n    key: %s\n", e.cert, e.key)
	}
	return serveWith(e, port, config)
}

func serveOursSocketIO(e env, port int, tls bool) ([]string, error) {
	return serveWith(e, port, "driver: bun\nprotocols: [ws, pusher, socketio]\n")
}

func serveWith(e env, port int, config string) ([]string, error) {
	file := filepath.Join(e.tmp, "realtime.yaml")
	err := os.WriteFile(file, []byte(config+ourConfig()), 0o600)
	program := e.ours
	if program == "" {
		program = filepath.Join(e.tmp, "realtime")
	}
	return []string{program, "serve", "--config", file, "--addr", fmt.Sprintf("127.0.0.1:%d", port)}, err
}

func speakSocketIO(c *bench.Config) {
	c.URL = strings.TrimSuffix(c.URL, "/ws") + "/socket.io/"
	c.Protocol = bench.SocketIO
}

func socketIOCommand(e env, program string, port int) []string {
	return []string{program, filepath.Join(e.dir, "socketio.js"), "--port", strconv.Itoa(port)}
}

// app signs what is published over HTTP.
var app = bench.App{ID: "1", Key: "rivals", Secret: "the rivals' app secret"}

// secret signs ourToken. It guards a server that lives for one measurement on loopback.
const secret = "the rivals' secret of at least 32 bytes"

// ourConfig lets publishers sign, or have a token. All else is as it is by default.
func ourConfig() string {
	config := fmt.Sprintf("apps:\n  - {id: %q, key: %q, secret: %q}\n", app.ID, app.Key, app.Secret)
	return config + fmt.Sprintf("auth:\n  anonymous: true\n  jwt:\n    algorithm: HS256\n    secret: %q\n", secret)
}

// ourToken lets the load generator publish.
func ourToken() string {
	t, err := auth.IssueHS256([]byte(secret), auth.Claims{Subject: "bench", Publish: []string{"*"}, ExpiresAt: time.Now().Add(24 * time.Hour)})
	if err != nil {
		panic(err) // the claims above are fine
	}
	return t
}

func goBuild(ctx context.Context, dir, to, pkg string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", to, pkg)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// bunBinary is the program itself: what npm puts on the path may be a script, whose process is not the server's.
func bunBinary(e env) string { return filepath.Join(e.dir, "node_modules", "bun", "bin", "bun.exe") }

func findSocketIO(e env) error {
	if _, err := os.Stat(filepath.Join(e.dir, "node_modules", "socket.io")); err != nil {
		return fmt.Errorf("%w (npm ci installs it)", err)
	}
	return nil
}

func findBun(ctx context.Context, e env) error {
	if err := exec.CommandContext(ctx, bunBinary(e), "--version").Run(); err != nil {
		return fmt.Errorf("%w (npm ci installs Bun)", err)
	}
	return nil
}

func bunCommand(e env, port int, tls bool, mode string) []string {
	args := []string{bunBinary(e), filepath.Join(e.dir, "bun.js"), "--port", strconv.Itoa(port), "--mode", mode}
	if tls {
		args = append(args, "--cert", e.cert, "--key", e.key)
	}
	return args
}

// freePort finds a port nobody listens on. Another process may take it before the server does; then the server fails
// and says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// listening waits until the server takes connections.
func (p *process) listening(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var dialer net.Dialer
	for {
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server does not listen on port %d: %w", port, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pinToCore keeps all threads of this process, and those they start, on one core.
func pinToCore(core int) error {
	var set unix.CPUSet
	set.Set(core)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}

// writeCertificate makes a certificate for 127.0.0.1 that is good for a day.
func writeCertificate(dir string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "rivals"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}
