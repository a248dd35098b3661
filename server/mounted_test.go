package server

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// The kinds of ResponseWriter that middleware makes.
type (
	sealed    struct{ http.ResponseWriter } // hides what it wraps
	unwrapped struct{ http.ResponseWriter } // shows it
	shallow   struct{ http.ResponseWriter } // looks for Hijack one step further, and fails where it is not
	panicky   struct{ http.ResponseWriter } // the same, and panics
	innermost struct{ http.ResponseWriter } // has the connection
)

// theConn is innermost's connection.
type theConn struct{ net.Conn }

func (w unwrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w shallow) Unwrap() http.ResponseWriter   { return w.ResponseWriter }
func (w panicky) Unwrap() http.ResponseWriter   { return w.ResponseWriter }

func (w shallow) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h, ok := w.ResponseWriter.(http.Hijacker); ok {
		return h.Hijack()
	}
	return nil, nil, errors.New("shallow")
}

func (w panicky) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.ResponseWriter.(http.Hijacker).Hijack()
}

func (innermost) Hijack() (net.Conn, *bufio.ReadWriter, error) { return theConn{}, nil, nil }

type failing struct{ innermost }

func (failing) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("taken") }

func TestHijackFindsTheConnectionUnderEveryWrapper(t *testing.T) {
	in := innermost{}
	for _, tt := range []struct {
		name string
		w    http.ResponseWriter
		err  string // empty: it is found
	}{
		{"none", in, ""},
		{"Unwrap", unwrapped{unwrapped{in}}, ""},
		{"Hijack one step further", shallow{panicky{in}}, ""},
		{"Hijack that fails over Unwrap", shallow{unwrapped{in}}, ""},
		{"Hijack that panics over Unwrap", panicky{unwrapped{in}}, ""},
		{"all of them", unwrapped{panicky{shallow{unwrapped{panicky{unwrapped{in}}}}}}, ""},
		{"a sealed one", unwrapped{sealed{in}},
			"the ResponseWriter server.sealed has neither Hijack nor Unwrap: leave its middleware out for this path, or give it a method Unwrap() http.ResponseWriter"},
		{"a sealed one over which Hijack would panic", panicky{sealed{in}},
			"the ResponseWriter server.sealed has neither Hijack nor Unwrap: leave its middleware out for this path, or give it a method Unwrap() http.ResponseWriter"},
		{"one that fails", unwrapped{shallow{failing{}}}, "server.shallow: taken\nserver.failing: taken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := hijack(tt.w)
			if tt.err == "" && (err != nil || c != theConn{}) {
				t.Errorf("%v, %v, and should be the connection", c, err)
			}
			if tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("error\n%v\nand should be\n%s", err, tt.err)
			}
		})
	}
}

func TestThePrefixThatARouterStripped(t *testing.T) {
	for _, tt := range []struct{ target, prefix, want string }{
		{"/apps/1/events?a=/apps/1/events", "", ""},
		{"/realtime/apps/1/events?a=b", "/realtime", "/realtime"},
		{"/a%20b/apps/x%2Fy/events", "/a b", "/a%20b"},
		{"/apps/apps/1/events", "/apps", "/apps"},
		{"/mounted/configured/apps/1/events", "/mounted", "/mounted/configured"},
	} {
		s := &Server{cfg: Config{Prefix: "/configured"}}
		r := httptest.NewRequest("POST", tt.target, nil)
		http.StripPrefix(tt.prefix, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := s.prefixOf(r); got != tt.want {
				t.Errorf("%s: %q was stripped, and should be %q", tt.target, got, tt.want)
			}
			r.URL.Path, r.URL.RawPath = "/rewritten", ""
			if got := s.prefixOf(r); got != "" {
				t.Errorf("%s, rewritten: %q was stripped, and should be nothing", tt.target, got)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
}

func TestAddressesAreCountedWithAndWithoutAPort(t *testing.T) {
	g := newGate(Limits{Connections: 100, ConnectionsPerAddress: 1})
	for _, ip := range []string{"192.0.2.1", "2001:db8::1"} {
		p, err := g.enter("1", 0, ip) // as middleware writes it
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.enter("2", 0, net.JoinHostPort(ip, "1234")); err == nil || err.Error() != "there are 1 connections from your address, which is the limit" {
			t.Errorf("a second connection from %s: %v", ip, err)
		}
		p.Release()
		if p, err = g.enter("2", 0, net.JoinHostPort(ip, "1234")); err != nil {
			t.Errorf("%s, released: %v", ip, err)
		}
		p.Release()
	}
	g.leftover(t)
}

func TestAnAppHasALimitOfItsOwn(t *testing.T) {
	g := newGate(Limits{Connections: 3, ConnectionsPerAddress: noLimit})
	var taken []*places
	for _, c := range []struct {
		app  string
		most int
		want string
	}{
		{"a", 2, ""}, {"a", 2, ""}, {"a", 2, "the app has 2 connections, which is its limit"},
		{"b", 0, ""}, {"b", 0, "the server has 3 connections, which is its limit"},
	} {
		p, err := g.enter(c.app, c.most, "192.0.2.1:1")
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			taken = append(taken, p)
		}
		if got != c.want {
			t.Errorf("app %s: %q, not %q", c.app, got, c.want)
		}
	}
	for _, p := range taken {
		p.Release()
	}
	g.leftover(t)
}

// leftover checks that no connection counts.
func (g *gate) leftover(t *testing.T) {
	t.Helper()
	if g.total != 0 || len(g.apps) > 0 || len(g.ips) > 0 || len(g.places) > 0 {
		t.Errorf("left over: %d connections, by app %v, by address %v, places %v", g.total, g.apps, g.ips, g.places)
	}
}
