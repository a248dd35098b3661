package socketio

import (
	"runtime"
	"strings"
	"sync"
	"weak"
)

// codecs are those in use: clients choose the names of namespaces, of which nothing must be left when they have gone. It
// leads to nothing of the server, which could otherwise not be let go of before its codecs, nor they before it.
type codecs struct {
	mu sync.Mutex
	m  map[codec]weak.Pointer[codec] // guarded by mu
}

// codecOf returns the one codec of a wire format, so that clients of one format share it.
func (r *Room) codecOf(c codec) *codec {
	c.namespace, c.epoch = r.cfg.EventNamespace, r.epoch
	cs := r.codecs
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if p := cs.m[c].Value(); p != nil {
		return p
	}
	c.nsp = strings.Clone(c.nsp) // it may be a piece of a client's packet
	p := &c
	key := c
	p.head()
	cs.m[key] = weak.Make(p)
	runtime.AddCleanup(p, cs.forget, key)
	return p
}

// forget is called when nobody has a codec any more.
func (cs *codecs) forget(key codec) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.m[key].Value() == nil { // there may be another one by now
		delete(cs.m, key)
	}
}
