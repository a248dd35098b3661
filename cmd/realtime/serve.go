package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/internal/demo"
	"github.com/stacksjs/realtime-go/server"
)

type serve struct {
	Demo        bool     `help:"Serve the demo instead: a page, for this machine only, whose order form broadcasts to the listeners beside it."`
	Conformance string   `enum:",socketio" default:"" placeholder:"SUITE" help:"Serve what the conformance suites of a protocol run against instead: socketio, at /engine.io/ and /socket.io/."`
	Config      string   `placeholder:"FILE" help:"Serve what this file says (docs/configuration.md). Without it: public channels only, to pages of the server's own origin, on this machine."`
	Addr        string   `placeholder:"HOST:PORT" help:"Listen here, whatever the file says (without either, 127.0.0.1:6001)."`
	Origin      []string `placeholder:"ORIGIN" help:"Web pages' origins that may connect besides the file's, such as https://shop.example."`
	AppID       string   `placeholder:"ID" help:"The app whose key --app-key is (1)."`
	AppKey      string   `placeholder:"KEY" help:"The key with which programs may publish, and sign for clients."`
	AppSecret   string   `placeholder:"SECRET" help:"The key's secret. Other users of this machine can see it here, but not in $$PUSHER_APP_SECRET, which goes with $$PUSHER_APP_ID and $$PUSHER_APP_KEY in place of these flags."`
}

func (serve) Help() string {
	return `Prints the address that clients connect to, and serves until Ctrl-C or SIGTERM; then it takes at most 30 s to write what
is queued and to tell its clients to come back, and exits with 0. SIGHUP reads the file's applications again: keys
come and go, and no connection of an application that stays is dropped.

The environment is over the file: PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET, REALTIME_DRIVER, REALTIME_HOST,
REALTIME_PORT, REALTIME_ORIGINS, REALTIME_JWT_SECRET.

Examples:

    realtime serve --demo
    realtime serve --app-key key --app-secret secret
    realtime serve --config config/realtime.yaml --addr 0.0.0.0:6001`
}

func (c *serve) Run(ctx context.Context, t terminal) error {
	if c.Demo {
		if c.Config != "" || len(c.Origin) > 0 || c.AppID != "" || c.AppKey != "" || c.AppSecret != "" {
			return usagef("--demo has settings of its own: only --addr goes with it")
		}
		return demo.Run(ctx, cmp.Or(c.Addr, "127.0.0.1:6001"), t.stdout)
	}
	if c.Conformance != "" {
		if c.Config != "" || len(c.Origin) > 0 || c.AppID != "" || c.AppKey != "" || c.AppSecret != "" {
			return usagef("--conformance has settings of its own: only --addr goes with it")
		}
		return conformance(ctx, cmp.Or(c.Addr, "127.0.0.1:6001"), t.stdout)
	}
	if (c.AppKey == "") != (c.AppSecret == "") {
		return usagef("--app-key and --app-secret belong together")
	}
	if c.AppID != "" && c.AppKey == "" {
		return usagef("--app-id needs --app-key and --app-secret")
	}
	logger := slog.New(slog.NewTextHandler(t.stderr, nil))
	scheme, path := "ws", "/ws"
	app, err := config.Open(ctx, c.Config, nil, config.WithLogger(logger), config.WithServer(func(s *server.Config) {
		s.Origins = append(s.Origins, c.Origin...)
		if c.AppKey != "" {
			id := c.AppID
			if id == "" {
				id = "1"
			}
			s.Apps = append([]server.App{{ID: id, Keys: []auth.Key{{Key: c.AppKey, Secret: c.AppSecret}}}}, s.Apps...)
		}
		path = cmp.Or(s.Path, path)
		if len(s.Protocols) > 0 && !slices.Contains(s.Protocols, server.WebSocket) && slices.Contains(s.Protocols, server.SocketIO) {
			scheme, path = "http", cmp.Or(s.SocketIO.Path, "/socket.io/")
		}
		if s.CertFile != "" {
			scheme += "s"
		}
	}))
	if err != nil {
		return err
	}
	// The context has ended by then; a drain has its own time.
	defer app.Close(context.WithoutCancel(ctx))
	if app.Server == nil {
		if app.Config.Driver == "socket" {
			at := cmp.Or(app.Config.Where("socket.redis"), app.Config.Where("socket.redis.url"))
			return fmt.Errorf("with socket.redis (%s) driver socket has no server to run: it publishes into Node servers, for programs that have events", at)
		}
		return fmt.Errorf("driver %q (%s) has no server to run", app.Config.Driver, app.Config.Where("driver"))
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	addr := c.Addr
	if addr == "" {
		addr = app.Addr()
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(t.stdout, "realtime serves %s://%s%s\n", scheme, ln.Addr(), path); err != nil {
		ln.Close()
		return err
	}
	go func() { // from now on: Reload has the function above write scheme and path
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
			}
			if err := app.Reload(); err != nil {
				logger.Error("the configuration was not read again", "error", err)
			} else {
				logger.Info("the applications of the configuration are in effect")
			}
		}
	}()
	return app.Server.Serve(ctx, ln)
}

// conformance serves what the official suites run against, until ctx ends.
func conformance(ctx context.Context, addr string, out io.Writer) error {
	handler, stop, err := server.Conformance()
	if err != nil {
		return err
	}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	if _, err := fmt.Fprintf(out, "realtime serves http://%s for conformance suites\n", ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err = stop(end)
	web.Close()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // nobody's data is lost
	}
	return err
}
