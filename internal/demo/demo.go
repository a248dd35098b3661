// Package demo is the page behind "realtime serve --demo": an order form that broadcasts OrderShipped, and listeners
// of every kind of channel beside it. It runs on the machine of whoever tries it, and nowhere else.
package demo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/server"
)

//go:embed page order_shipped.go
var files embed.FS

var index = template.Must(template.ParseFS(files, "page/index.html"))

const (
	orderBytes  = 64 << 10        // the longest order /broadcast reads
	drainTime   = 5 * time.Second // for connections to end when ctx does
	drainWindow = 200 * time.Millisecond
	appKey      = "demo" // of the Pusher protocol; its secret signs for the page and is known to nobody
)

// Run serves the demo on addr ("127.0.0.1:6001"; port 0 takes a free one) until ctx ends, then closes all
// connections and returns nil. It writes one line to stdout, the page's address. Since the demo believes everybody
// who they say they are, an address that other machines can reach is an error.
func Run(ctx context.Context, addr string, stdout io.Writer) error {
	ln, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	srv, err := server.New(server.Config{
		Auth: who(), DrainWindow: drainWindow,
		Apps: []server.App{{ID: "1", Keys: []auth.Key{{Key: appKey, Secret: rand.Text()}}}},
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	// Connections of WebSockets are the server's, so both have to end.
	end := func(web *http.Server) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		return errors.Join(srv.Shutdown(ctx), web.Shutdown(ctx))
	}
	h, err := handler(srv)
	web := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	if err != nil {
		return errors.Join(err, end(web))
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(ln) }()
	_, err = fmt.Fprintf(stdout, "http://%s/\n", ln.Addr())
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	if err = errors.Join(err, end(web)); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// listen opens addr if only this machine can reach it.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("demo: address %q: %w", addr, err)
	}
	if !loopback(host) {
		return nil, fmt.Errorf("demo: %q can be reached from other machines, and the demo lets everybody in: use 127.0.0.1, ::1 or localhost", addr)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if t, ok := ln.Addr().(*net.TCPAddr); !ok || !t.IP.IsLoopback() { // localhost may be anything
		ln.Close()
		return nil, fmt.Errorf("demo: %q is %s here, which other machines can reach: use 127.0.0.1 or ::1", addr, ln.Addr())
	}
	return ln, nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// handler serves the page and its form, and leaves the rest to the server.
func handler(srv *server.Server) (http.Handler, error) {
	b, err := realtime.New(srv, events())
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page)
	for _, name := range []string{"demo.css", "demo.js", "libraries.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, files, "page/"+name)
		})
	}
	mux.HandleFunc("POST /broadcast", func(w http.ResponseWriter, r *http.Request) { broadcast(b, w, r) })
	mux.Handle("/", srv)
	return local(http.NewCrossOriginProtection().Handler(mux)), nil
}

func events() *realtime.Events {
	e := realtime.NewEvents()
	realtime.Register[OrderShipped](e)
	return e
}

// local refuses requests for other hosts: a web site can point a name of its own at this machine, and would then pass
// for the demo's own page.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !loopback(strings.Trim(host, "[]")) {
			http.Error(w, "the demo is served on this machine only: open it by 127.0.0.1 or localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// page is the demo's page for one user.
func page(w http.ResponseWriter, r *http.Request) {
	name, err := userName(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name = cmp.Or(name, "ann")
	other, mine, theirs := "bob", "12345", "54321"
	switch name {
	case "ann":
	case "bob":
		other, mine, theirs = "ann", theirs, mine
	default:
		mine = "10001"
	}
	code, err := files.ReadFile("order_shipped.go")
	if err != nil { // embedded
		panic(err)
	}
	var body bytes.Buffer
	err = index.Execute(&body, map[string]string{
		"User": name, "Name": title(name), "Other": other, "OtherName": title(other), "Order": mine, "OtherOrder": theirs, "Code": string(code), "Key": appKey,
	})
	if err != nil { // the template is ours
		panic(err)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'self'; script-src 'self' https://cdn.jsdelivr.net/npm/; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	w.Write(body.Bytes())
}

// broadcast takes an order as JSON and broadcasts it by name. What is wrong with it is the answer's error.
func broadcast(b *realtime.Broadcaster, w http.ResponseWriter, r *http.Request) {
	order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, orderBytes))
	if err != nil {
		answer(w, http.StatusRequestEntityTooLarge, fmt.Errorf("an order has at most %d bytes: %w", orderBytes, err))
		return
	}
	ctx := realtime.WithBroadcaster(r.Context(), b)
	switch err := realtime.Broadcast(ctx, "OrderShipped", json.RawMessage(order)); {
	case err == nil:
		answer(w, http.StatusAccepted, nil)
	case errors.Is(err, realtime.ErrOverloaded), errors.Is(err, realtime.ErrClosed):
		answer(w, http.StatusServiceUnavailable, err)
	default:
		answer(w, http.StatusUnprocessableEntity, err)
	}
}

func answer(w http.ResponseWriter, status int, err error) {
	body := struct {
		OK    bool   `json:"ok"`
		Error string `json:"error,omitempty"`
	}{OK: err == nil}
	if err != nil {
		body.Error = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
