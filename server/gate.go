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
	apps   map[string]int      // guarded by mu; connections by app id
	ips    map[string]int      // guarded by mu; and by address, where that is limited
	places map[counted]*places // guarded by mu
}

// counted says where a connection counts.
type counted struct {
	app string
	ip  string // empty where addresses are not limited
}

// places are all connections that count in one place: they share the object, so that none needs one of its own.
type places struct {
	gate *gate
	at   counted
	n    int // guarded by gate.mu
}

func newGate(l Limits) *gate {
	return &gate{limits: l, apps: map[string]int{}, ips: map[string]int{}, places: map[counted]*places{}}
}

// Release gives a connection's place back.
func (p *places) Release() {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	g.apps[p.at.app]--
	if p.at.ip != "" {
		if g.ips[p.at.ip]--; g.ips[p.at.ip] == 0 {
			delete(g.ips, p.at.ip)
		}
	}
	if p.n--; p.n == 0 {
		delete(g.places, p.at)
		if g.apps[p.at.app] == 0 {
			delete(g.apps, p.at.app)
		}
	}
}

const noLimit = int(^uint(0) >> 1)

// enter takes a place for a connection to an app, of which at most most may be open (0: no limit), from remote, or says
// which limit is reached. remote is "ip:port", or "ip" where middleware has put in what a proxy says.
func (g *gate) enter(app string, most int, remote string) (*places, error) {
	at := counted{app: app}
	if g.limits.ConnectionsPerAddress != noLimit {
		at.ip = remote
		if host, _, err := net.SplitHostPort(remote); err == nil {
			at.ip = host
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.total >= g.limits.Connections:
		return nil, fmt.Errorf("the server has %d connections, which is its limit", g.total)
	case most > 0 && g.apps[app] >= most:
		return nil, fmt.Errorf("the app has %d connections, which is its limit", g.apps[app])
	case at.ip != "" && g.ips[at.ip] >= g.limits.ConnectionsPerAddress:
		return nil, fmt.Errorf("there are %d connections from your address, which is the limit", g.ips[at.ip])
	}
	p := g.places[at]
	if p == nil {
		p = &places{gate: g, at: at}
		g.places[at] = p
	}
	p.n++
	g.total++
	g.apps[app]++
	if at.ip != "" {
		g.ips[at.ip]++
	}
	return p, nil
}
