package server

import (
	"fmt"
	"net"
	"sync"
)

// gate counts connections against the limits.
type gate struct {
	limits Limits
	mu     sync.Mutex
	total  int                 // guarded by mu
	addrs  map[string]*address // guarded by mu; only where addresses are limited
}

// address is one IP address that has connections, or, with no limit on addresses, all of them.
type address struct {
	gate *gate
	ip   string
	n    int // guarded by gate.mu
}

// Release gives a connection's place back.
func (a *address) Release() {
	a.gate.mu.Lock()
	defer a.gate.mu.Unlock()
	a.gate.total--
	if a.n--; a.n == 0 && a.ip != "" {
		delete(a.gate.addrs, a.ip)
	}
}

const noLimit = int(^uint(0) >> 1)

// enter takes a place for a connection from remote, or says which limit is reached. remote is "ip:port", or "ip" where
// middleware has put in what a proxy says.
func (g *gate) enter(remote string) (*address, error) {
	ip := ""
	if g.limits.ConnectionsPerAddress != noLimit {
		ip = remote
		if host, _, err := net.SplitHostPort(remote); err == nil {
			ip = host
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.limits.Connections {
		return nil, fmt.Errorf("the server has %d connections, which is its limit", g.total)
	}
	a := g.addrs[ip]
	if a == nil {
		a = &address{gate: g, ip: ip}
		g.addrs[ip] = a
	}
	if ip != "" && a.n >= g.limits.ConnectionsPerAddress {
		return nil, fmt.Errorf("there are %d connections from your address, which is the limit", a.n)
	}
	a.n++
	g.total++
	return a, nil
}
