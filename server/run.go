package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
func (s *Server) listen(ln net.Listener, failed chan<- error) (func(context.Context), error) {
	s.served.Store(true)
	web := &http.Server{
		Handler: s, ReadHeaderTimeout: s.cfg.Limits.Handshake, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: nil,
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
		return func(ctx context.Context) { web.Shutdown(ctx) }, nil
	}
	rest := &handedOver{addr: ln.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	for _, l := range s.loops {
		if err := l.Listen(tcp, func(l *loop.Loop, fd int, remote net.Addr) { s.accepted(l, fd, remote, rest) }); err != nil {
			return nil, err
		}
	}
	go func() { failed <- web.Serve(rest) }()
	return func(ctx context.Context) {
		for _, l := range s.loops {
			l.StopListening()
		}
		tcp.Close()
		web.Shutdown(ctx)
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

// Shutdown ends the server in order: new connections are refused, what is queued is written, and the connections
// are closed one after another over Config.DrainWindow, each told to come back. When ctx ends first, the rest is cut
// off and its error returned. It also ends a server that is only mounted: register it with
// http.Server.RegisterOnShutdown. Later calls wait for the first.
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
	var wg sync.WaitGroup
	for _, stop := range listening {
		wg.Go(func() { stop(ctx) })
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
	s.hub.WaitForHooks()
	wg.Wait()
}

func (s *Server) open() int {
	n := 0
	for _, l := range s.loops {
		n += l.Conns()
	}
	return n
}

// closeClients tells every client to come back, spread over the window.
func (s *Server) closeClients(ctx context.Context, window time.Duration) {
	const steps = 50
	why := &hub.Error{Code: hub.Shutdown, Message: "the server is restarting: connect again"}
	for left := steps; left > 0; left-- {
		for _, l := range s.loops {
			done := make(chan struct{})
			if l.Post(loop.Func(func(l *loop.Loop) { s.hub.StopSome(l, 1/float64(left), why); close(done) }), 0) == nil {
				<-done
			}
		}
		if s.open() == 0 {
			return
		}
		if left > 1 && window > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(window / steps):
			}
		}
	}
}
