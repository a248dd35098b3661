package mount

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimw "github.com/go-chi/chi/v5/middleware"
	"github.com/klauspost/compress/gzhttp"
	"github.com/labstack/echo/v4"
	echomw "github.com/labstack/echo/v4/middleware"

	"github.com/stacksjs/realtime-go/server"
)

// home is a page of the program's own.
func home(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the shop\n") }

// The functions below stand in docs/mounting.md.

func withServeMux(realtime *server.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.Handle("/realtime/", http.StripPrefix("/realtime", realtime)) // wss://HOST/realtime/ws
	return recovered(logged(gzhttp.GzipHandler(mux)))
}

func withChi(realtime *server.Server) http.Handler {
	r := chi.NewRouter()
	r.Use(chimw.RequestID, chimw.Logger, chimw.Recoverer, chimw.Compress(5), chimw.Timeout(30*time.Second))
	r.Get("/", home)
	r.Handle("/realtime/*", http.StripPrefix("/realtime", realtime))
	return r
}

func withGin(realtime *server.Server) http.Handler {
	r := gin.New()
	r.Use(gin.Logger(), gin.Recovery())
	r.GET("/", gin.WrapF(home))
	r.Any("/realtime/*path", gin.WrapH(http.StripPrefix("/realtime", realtime)))
	return r
}

func withEcho(realtime *server.Server) http.Handler {
	e := echo.New()
	e.Use(echomw.RequestID(), echomw.RequestLogger(), echomw.Recover(), echomw.Gzip(), echomw.ContextTimeout(30*time.Second))
	e.GET("/", echo.WrapHandler(http.HandlerFunc(home)))
	e.Any("/realtime/*", echo.WrapHandler(http.StripPrefix("/realtime", realtime)))
	return e
}

// statusWriter remembers the status for the access log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is how http.ResponseController, and the realtime server, find the connection under w.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		log.Print(r.Method, " ", r.URL.Path, " ", sw.status)
	})
}

// serve runs web until ctx ends.
func serve(ctx context.Context, web *http.Server, realtime *server.Server) error {
	failed := make(chan error, 1)
	go func() { failed <- web.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// ctx has ended: what is left to do needs a context of its own.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	// First the WebSockets, which web knows nothing of, then the requests under way.
	return errors.Join(realtime.Shutdown(end), web.Shutdown(end))
}

// What follows does not.

func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func withID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "7")
		next.ServeHTTP(w, r)
	})
}

// behind puts a router behind middleware that knows nothing of it. What it gets to see is a ResponseWriter with Unwrap
// and without Hijack.
func behind(router func(*server.Server) http.Handler) func(*server.Server) http.Handler {
	return func(s *server.Server) http.Handler { return withID(gzhttp.GzipHandler(logged(router(s)))) }
}

func serveMuxAtRoot(s *server.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.Handle("/", s)
	return mux
}

func chiAtRoot(s *server.Server) http.Handler {
	r := chi.NewRouter()
	r.Get("/", home)
	r.NotFound(s.ServeHTTP)
	return r
}

func ginAtRoot(s *server.Server) http.Handler {
	r := gin.New()
	r.GET("/", gin.WrapF(home))
	r.NoRoute(gin.WrapH(s)) // gin would answer 404
	return r
}

func echoAtRoot(s *server.Server) http.Handler {
	e := echo.New()
	e.GET("/", echo.WrapHandler(http.HandlerFunc(home)))
	e.RouteNotFound("/*", echo.WrapHandler(s))
	return e
}

// mounts are the ways in which the server is mounted: every test goes through all of them.
var mounts = []struct {
	name   string
	prefix string
	mount  func(*server.Server) http.Handler
}{
	{"ServeMux", "/realtime", withServeMux},
	{"chi", "/realtime", withChi},
	{"gin", "/realtime", withGin},
	{"echo", "/realtime", withEcho},
	{"ServeMux behind middleware", "/realtime", behind(withServeMux)},
	{"chi behind middleware", "/realtime", behind(withChi)},
	{"gin behind middleware", "/realtime", behind(withGin)},
	{"echo behind middleware", "/realtime", behind(withEcho)},
	{"ServeMux at the root", "", serveMuxAtRoot},
	{"chi at the root", "", chiAtRoot},
	{"gin at the root", "", ginAtRoot},
	{"echo at the root", "", echoAtRoot},
}
