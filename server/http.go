package server

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

var noDeadline time.Time

// lingerTime is how long a refused client may take to read why.
const lingerTime = 2 * time.Second

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	if s.speaks(WebSocket) {
		mux.HandleFunc(s.cfg.Path, s.socket)
		if s.cfg.Path != "/app" {
			mux.HandleFunc("/app", s.socket)
		}
	}
	if s.speaks(Pusher) {
		mux.HandleFunc("/app/{key}", s.socket)
		if s.cfg.Prefix != "" {
			mux.HandleFunc(s.cfg.Prefix+"/app/{key}", s.socket)
		}
		s.xhrRoutes(mux)
	}
	if s.speaks(SocketIO) {
		for _, p := range []string{"", s.cfg.Prefix} {
			path := p + s.cfg.SocketIO.Path
			mux.HandleFunc(path+"{$}", s.polling)
			mux.HandleFunc(path[:len(path)-1], s.polling)
			if s.cfg.Prefix == "" {
				break
			}
		}
	}
	s.apiRoutes(mux, "")
	if s.cfg.Prefix != "" {
		s.apiRoutes(mux, s.cfg.Prefix)
	}
	for _, p := range authPaths {
		mux.HandleFunc(p, s.authorizeHTTP)
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Retry-After", "1")
			text(w, http.StatusServiceUnavailable, "draining\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "nothing is served at "+r.URL.Path)
	})
	return mux
}

// authPaths are where browsers ask for signatures.
var authPaths = []string{"/broadcasting/auth", "/broadcasting/user-auth", "/pusher/auth", "/pusher/user-auth"}

// ownPath reports whether a path, with or without a slash at its end, is one of those above that are not configured.
func ownPath(p string) bool {
	p = strings.TrimSuffix(p, "/")
	return slices.Contains(authPaths, p) || p == "/health" || p == "/ready" || strings.HasPrefix(p+"/", "/apps/") || strings.HasPrefix(p, "/app/")
}

func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	s.served.Store(true)
	s.upgrade(w, r)
}

// authorizeHTTP is the endpoint that browsers ask for signatures.
func (s *Server) authorizeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.cors(w, r) {
		return
	}
	app := s.app(r.URL.Query().Get("app"))
	if app == nil {
		refuse(w, http.StatusUnauthorized, "there is no app with this key")
		return
	}
	s.apps.Load().sign[app.ID].ServeHTTP(w, s.limitBody(w, r))
}

// limitBody returns a request whose body has as long to arrive as the request itself had.
func (s *Server) limitBody(w http.ResponseWriter, r *http.Request) *http.Request {
	c := http.NewResponseController(w)
	if r.Body == http.NoBody || c.SetReadDeadline(time.Now().Add(s.cfg.Limits.Handshake)) != nil {
		return r // some middleware hides the connection: limiting it is left to whoever serves it
	}
	r = r.WithContext(r.Context()) // the original's body is how net/http knows what is left to read
	r.Body = &limitedBody{r.Body, c}
	return r
}

type limitedBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { // what follows is net/http's, which cancels the request's context when reading fails
		b.conn.SetReadDeadline(noDeadline)
	}
	return n, err
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write([]byte(body))
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(errorBody(status, why))
}
