package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/protocol/pusher"
)

const (
	// xhrPing is the silence after which a client over requests is sent a heartbeat, or has its poll answered: proxies
	// end responses that are silent for a minute.
	xhrPing = 25 * time.Second
	// xhrPong is the most that a client may take to answer; a heartbeat may be as late as that.
	xhrPong = 30 * time.Second
	// xhrSendTime is what a request with messages may take, until the session has them.
	xhrSendTime = 10 * time.Second
	// pusherPath is where pusher-js looks for them by default.
	pusherPath = "/pusher"
)

// xhrs are the sessions of pusher-js over HTTP requests.
type xhrs struct {
	mu sync.Mutex
	m  map[xhrID]*xhr // guarded by mu
}

// xhrID is what a client calls its session. It is the client's choice, and no secret.
type xhrID struct{ key, server, session string }

type xhr struct {
	*pusher.XHR
	origin string // of the page that opened it
}

func (x *xhrs) get(id xhrID) *xhr {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.m[id]
}

// add enters a session; it reports false when there is one of the name.
func (x *xhrs) add(id xhrID, s *xhr) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m[id] != nil {
		return false
	}
	if x.m == nil {
		x.m = map[xhrID]*xhr{}
	}
	x.m[id] = s
	return true
}

func (x *xhrs) remove(id xhrID, s *xhr) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m[id] == s {
		delete(x.m, id)
	}
}

// xhrRoutes serves sessions over requests. The first one comes to {prefix}/app/{key}/{server}/{session}/xhr_streaming
// or …/xhr; the client goes on at {prefix}/app/{key}/{secret}, followed by the port, if the URL has one, and by the
// whole path of the first request. See pusher.XHR.
func (s *Server) xhrRoutes(mux *http.ServeMux) {
	mux.HandleFunc("/app/{key}/{rest...}", s.xhr)
	mux.HandleFunc(pusherPath+"/app/{key}/{rest...}", s.xhr)
	if s.cfg.Prefix != "" && s.cfg.Prefix != pusherPath {
		mux.HandleFunc(s.cfg.Prefix+"/app/{key}/{rest...}", s.xhr)
	}
}

func (s *Server) xhr(w http.ResponseWriter, r *http.Request) {
	s.served.Store(true)
	parts := strings.Split(r.PathValue("rest"), "/")
	n := len(parts)
	what := parts[n-1]
	if n < 3 || what != "xhr" && what != "xhr_streaming" && what != "xhr_send" {
		refuse(w, http.StatusNotFound, "nothing is served at "+r.URL.Path)
		return
	}
	if !s.cors(w, r) {
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		refuse(w, http.StatusMethodNotAllowed, "a session takes POST")
		return
	}
	if what != "xhr_send" { // nothing is said there; and a client's end is seen only behind its request's
		if _, err := s.body(w, r, 1<<10); err != nil {
			refuseBody(w, err)
			return
		}
	}
	id := xhrID{r.PathValue("key"), parts[n-3], parts[n-2]}
	if n == 3 && what != "xhr_send" {
		s.openXHR(w, r, id, what == "xhr")
		return
	}
	secret := ""
	if n > 3 {
		secret, _, _ = strings.Cut(parts[0], ":")
	}
	x := s.xhrs.get(id)
	switch {
	case x == nil || !x.Knows(secret) || x.origin != r.Header.Get("Origin"):
		noSession(w)
	case what == "xhr_send":
		s.sendXHR(w, r, x)
	default:
		s.serveXHR(w, r, x, what == "xhr")
	}
}

// openXHR begins a session, and answers its first request.
func (s *Server) openXHR(w http.ResponseWriter, r *http.Request, id xhrID, poll bool) {
	unavailable := func() {
		w.Header().Set("Retry-After", "1")
		refuse(w, shuttingDown.status, shuttingDown.why)
	}
	if s.draining.Load() {
		unavailable()
		return
	}
	base, ok := xhrBase(r)
	if !ok {
		refuse(w, http.StatusBadRequest, "the request does not say by which host name the server is known")
		return
	}
	h, no := s.safely(func() (*handshake, *refused) {
		h := &handshake{protocol: Pusher}
		if h.refused = s.pusherVersion(h, r.URL.Query()); h.refused != nil {
			return h, nil
		}
		if code, no := s.identify(r.Context(), r, h, id.key, r.URL.Query().Get("token")); no != nil {
			h.refused = &hub.Error{Code: code, Message: no.why} // which pusher-js learns in a session only
		}
		return h, nil
	})
	if no != nil {
		refuse(w, no.status, no.why)
		return
	}
	l := s.next()
	x := &xhr{origin: r.Header.Get("Origin")}
	x.XHR = s.pusher.NewXHR(l, base, r.RemoteAddr, func() { s.xhrs.remove(id, x) })
	if !s.xhrs.add(id, x) {
		h.release()
		refuse(w, http.StatusConflict, "there is a session of this name: choose another")
		return
	}
	if l.Post(loop.Func(func(*loop.Loop) {
		if h.refused != nil {
			x.Refuse(h.refused, h.end())
		} else {
			x.Start(h.app, h.user, h.end())
			s.stillServed(h.app, x.Stop)
		}
	}), 0) != nil { // the loops have ended
		h.release()
		x.Abandon()
		unavailable()
		return
	}
	s.serveXHR(w, r, x, poll)
}

func (s *Server) serveXHR(w http.ResponseWriter, r *http.Request, x *xhr, poll bool) {
	switch err := x.Serve(w, r, poll); {
	case errors.Is(err, pusher.ErrEnded):
		noSession(w)
	case err != nil:
		s.log.Error("a response cannot be streamed: some middleware's ResponseWriter has neither Flush nor Unwrap", "error", err)
		refuse(w, http.StatusInternalServerError, "responses cannot be streamed behind this server's middleware")
	}
}

// noSession says that a session is over, or was never there: who guesses must not be told which.
func noSession(w http.ResponseWriter) {
	refuse(w, http.StatusNotFound, "there is no such session: connect again")
}

// sendXHR takes a client's messages.
func (s *Server) sendXHR(w http.ResponseWriter, r *http.Request, x *xhr) {
	ctx, cancel := context.WithTimeout(r.Context(), xhrSendTime)
	defer cancel()
	// Every quote in a message is escaped; one more level, and it is a rare message that becomes twice as long.
	limit := 2*int64(s.cfg.Limits.MessageBytes) + 1024
	err := x.Receive(ctx, func() ([]byte, error) { return s.body(w, r, limit) })
	switch {
	case err == nil:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, pusher.ErrEnded):
		noSession(w)
	case ctx.Err() != nil:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "too many of this connection's commands are waiting")
	default:
		refuseBody(w, err)
	}
}

// body reads a request's body, of at most limit bytes, in the time that a handshake may take.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Now().Add(s.cfg.Limits.Handshake))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil { // of a body that is not whole, net/http reads the rest, for which it has no deadline of its own
		c.SetReadDeadline(noDeadline) // it, or that of the program's http.Server, would end the wait for an answer too
	}
	return b, err
}

func refuseBody(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		status = http.StatusRequestEntityTooLarge
	}
	refuse(w, status, "the body could not be read: "+err.Error())
}

// xhrBase is where the client sees the app, without the scheme: host, prefix, /app/{key}. The browser itself says so
// for pages of the same origin, else the proxy that changed the host, else the request. What a client claims here
// leads nobody but itself.
func xhrBase(r *http.Request) (base string, ok bool) {
	host := r.Host
	if first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); first != "" {
		host = strings.TrimSpace(first)
	}
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		if u, err := url.Parse(r.Header.Get("Origin")); err == nil && u.Host != "" {
			host = u.Host
		}
	}
	path, _, _ := strings.Cut(r.RequestURI, "?") // a handler may have stripped the URL's
	if !strings.HasPrefix(path, "/") {
		path = r.URL.EscapedPath()
	}
	for range 3 {
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
	if host == "" || strings.Trim(host, hostChars) != "" || !strings.Contains(path, "/app/") {
		return "", false
	}
	return host + path, true
}

// hostChars are those of a host and its port.
const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"
