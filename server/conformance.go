package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	io "github.com/stacksjs/realtime-go/socketio"
)

// Conformance is what the official conformance suites of Engine.IO 4 and Socket.IO 5 run against: their handlers and
// their timings, at /engine.io/ and /socket.io/, for everybody. stop ends it.
func Conformance() (handler http.Handler, stop func(context.Context) error, err error) {
	say := io.New(io.Options{})
	for _, name := range []string{"/", "/custom"} {
		ns := say.Namespace(name)
		ns.OnConnect(func(ctx context.Context, s *io.Socket) error {
			auth := s.Handshake().Auth
			if auth == nil {
				auth = []byte("{}")
			}
			return s.Emit(ctx, "auth", auth)
		})
		io.On(ns, "message", func(ctx context.Context, s *io.Socket, args io.Args) (struct{}, error) {
			return struct{}{}, s.Emit(ctx, "message-back", args)
		})
		io.On(ns, "message-with-ack", func(_ context.Context, _ *io.Socket, args io.Args) (io.Args, error) { return args, nil })
	}
	cfg := Config{
		Protocols: []Protocol{SocketIO}, Origins: []string{"*"}, IO: say,
		SocketIO: SocketIOConfig{PingInterval: 300 * time.Millisecond, PingTimeout: 200 * time.Millisecond, ConnectTimeout: time.Second, Recovery: -1},
	}
	second, err := New(cfg)
	if err != nil {
		return nil, nil, err
	}
	cfg.IO, cfg.echo, cfg.SocketIO.Path = nil, true, "/engine.io/"
	first, err := New(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, second.Shutdown(context.Background()))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/engine.io") {
				first.ServeHTTP(w, r)
				return
			}
			second.ServeHTTP(w, r)
		}), func(ctx context.Context) error {
			return errors.Join(first.Shutdown(ctx), second.Shutdown(ctx))
		}, nil
}
