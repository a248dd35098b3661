package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
)

// drainTime is what Run gives Shutdown when its context ends.
const drainTime = 30 * time.Second

// Run listens on addr ("host:port") and serves until ctx ends; then it drains, for at most 30 s, and returns nil. An
// address that cannot be listened on is an error at once.
func (s *Server) Run(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve is Run on a listener of the caller's, which it closes.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	failed := make(chan error, 1)
	// Under the mutex, so that Shutdown comes before all of it or after, and then stops it.
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		<-s.drained
		return nil
	}
	stop, err := s.listen(ln, failed)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	s.listening = append(s.listening, stop)
	s.mu.Unlock()
	select {
	case err := <-failed:
		if s.draining.Load() { // ended by Shutdown
			<-s.drained
			return nil
		}
		return fmt.Errorf("server: %w", err)
	case <-ctx.Done():
	case <-s.drained:
		return nil
	}
	end, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return s.Shutdown(end)
}

// listen serves ln: by the loops where they can, which leave to net/http what is not theirs. The function returned
// stops accepting and waits for requests under way. Under mu.
func (s *Server) listen(ln net.Listener, failed chan<- error) (func(context.Context) error, error) {
	s.served.Store(true)
	web := &http.Server{
		Handler: s, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		// For bodies that nobody reads: net/http waits for them before it answers. What waits for news has been read.
		ReadHeaderTimeout: s.cfg.Limits.Handshake, ReadTimeout: 2 * s.cfg.Limits.Handshake,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	stop := func(ctx context.Context) error {
		err := web.Shutdown(ctx)
		if err != nil {
			web.Close()
			err = fmt.Errorf("server: HTTP requests under way were cut off: %w", err)
		}
		return err
	}
	tcp, plain := ln.(*net.TCPListener)
	if s.cfg.CertFile != "" || !plain || !s.loops[0].Polls() {
		if s.cfg.CertFile != "" {
			cert, err := tls.LoadX509KeyPair(s.cfg.CertFile, s.cfg.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("server: TLS: %w", err)
			}
			// HTTP/2 has no WebSocket upgrade that clients use by default, so it is not offered.
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		}
		go func() { failed <- web.Serve(ln) }()
		return stop, nil
	}
	rest := &handedOver{addr: ln.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	for _, l := range s.loops {
		if err := l.Listen(tcp, func(l *loop.Loop, fd int, remote net.Addr) { s.accepted(l, fd, remote, rest) }); err != nil {
			return nil, err
		}
	}
	go func() { failed <- web.Serve(rest) }()
	return func(ctx context.Context) error {
		for _, l := range s.loops {
			l.StopListening()
		}
		tcp.Close()
		return stop(ctx)
	}, nil
}

// handedOver is the listener of the connections that the loops leave to net/http.
type handedOver struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handedOver) Addr() net.Addr { return h.addr }

// give hands a connection to net/http without keeping a loop waiting.
func (h *handedOver) give(c net.Conn) {
	go func() {
		select {
		case h.conns <- c:
		case <-h.closed:
			c.Close()
		}
	}()
}

// Shutdown ends the server in order: new connections are refused, as are those that have not sent a whole request; what
// is queued is written, the connections are closed one after another over Config.DrainWindow, each told to come back
// and given 5 s to read all of it, webhooks are delivered, and Config.Hook and the handlers of Config.IO have returned.
// When ctx ends first, the rest is cut off and its error returned, and they are not waited for. Later calls wait for the
// first.
//
// It also ends a server that is only mounted. http.Server.Shutdown knows nothing of WebSockets and waits for none:
// register this with http.Server.RegisterOnShutdown, so that both begin together, and call it again after
// http.Server.Shutdown, to wait.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drainOnce.Do(func() {
		s.mu.Lock()
		s.draining.Store(true)
		s.mu.Unlock()
		go s.drain(ctx)
	})
	<-s.drained
	return s.drainErr
}

func (s *Server) drain(ctx context.Context) {
	defer close(s.drained)
	s.mu.Lock()
	listening := s.listening
	s.mu.Unlock()
	stopped := make(chan error, len(listening))
	for _, stop := range listening {
		go func() { stopped <- stop(ctx) }()
	}
	for _, w := range s.hooks {
		w.Drain()
	}
	window := s.cfg.DrainWindow
	if end, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(end)/2)
	}
	s.closeClients(ctx, max(window, 0))
	for s.open() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	if n := s.open(); n > 0 {
		s.drainErr = errors.Join(fmt.Errorf("server: %d connections were cut off", n), ctx.Err())
	}
	s.hub.Close()
	s.stopLoops()
	hooked, called := s.hub.Hooked(ctx), s.socketio.Called(ctx)
	s.drainErr = errors.Join(s.drainErr, s.stopWebhooks(ctx))
	for range listening {
		s.drainErr = errors.Join(s.drainErr, <-stopped)
	}
	if !hooked && s.drainErr == nil {
		s.drainErr = fmt.Errorf("server: Config.Hook has not returned: %w", ctx.Err())
	}
	if !called && s.drainErr == nil {
		s.drainErr = fmt.Errorf("server: a Socket.IO handler of the program's has not returned: %w", ctx.Err())
	}
}

func (s *Server) open() int {
	n := 0
	for _, l := range s.loops {
		n += l.Conns()
	}
	return n
}

// restarting is what clients are told by Shutdown.
var restarting = &hub.Error{Code: hub.Shutdown, Message: "the server is restarting: connect again"}

// closeClients tells every client to come back, spread over the window, and at once those that are not connected yet.
func (s *Server) closeClients(ctx context.Context, window time.Duration) {
	const steps = 50
	after := time.After
	if s.cfg.after != nil {
		after = s.cfg.after
	}
	clients := make([]int, len(s.loops)) // at the beginning
	for left := steps - 1; left >= 0; left-- {
		for i, l := range s.loops {
			done := make(chan struct{})
			if l.Post(loop.Func(func(l *loop.Loop) {
				l.Each(func(h loop.Handler) {
					switch h := h.(type) {
					case *front:
						h.refuse(&shuttingDown)
					case interface{ Restart() }: // nobody's client yet
						h.Restart()
					}
				})
				if left == steps-1 {
					clients[i] = s.hub.Clients(l)
				}
				s.hub.StopAllBut(l, clients[i]*left/steps, restarting)
				close(done)
			}), 0) == nil {
				<-done
			}
		}
		if s.open() == 0 {
			return
		}
		if left > 0 && window > 0 {
			select {
			case <-ctx.Done():
				return
			case <-after(window / steps):
			}
		}
	}
}
