package hub

import (
	"slices"
	"sync"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// watch knows which users are online and who wants to know. It is used for apps with watchlists only.
type watch struct {
	mu      sync.Mutex
	users   map[userKey]*watched // guarded by mu
	clients map[*Client][]string // guarded by mu; who has a watchlist, and which
}

type watched struct {
	conns    int // identified connections
	watchers []*watcher
}

// watcher is a client with a watchlist.
type watcher struct {
	client *Client
	tell   func(user string, online bool) // on the client's loop
}

func (w *watch) user(k userKey) *watched {
	u := w.users[k]
	if u == nil {
		if w.users == nil {
			w.users, w.clients = map[userKey]*watched{}, map[*Client][]string{}
		}
		u = &watched{}
		w.users[k] = u
	}
	return u
}

func (w *watch) forget(k userKey) {
	if u := w.users[k]; u != nil && u.conns == 0 && len(u.watchers) == 0 {
		delete(w.users, k)
	}
}

// online counts a connection of a user, or takes one away, and tells the watchers what changes by that.
func (h *Hub) online(app *App, user string, by int) {
	k := userKey{app.ID, user}
	w := &h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.user(k)
	was := u.conns > 0
	u.conns += by
	if is := u.conns > 0; is != was {
		for _, wr := range u.watchers { // under the mutex, which keeps the order of changes
			wr.client.branch.loop.Post(loop.Func(func(*loop.Loop) {
				if !wr.client.gone {
					wr.tell(user, is)
				}
			}), 0)
		}
	}
	w.forget(k)
}

// Watch begins to tell the client about users, on its loop, and returns who of them is online now. What it was told
// to watch before is forgotten.
func (c *Client) Watch(users []string, tell func(user string, online bool)) (online, offline []string) {
	h := c.hub
	if !c.watched {
		return nil, nil
	}
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.drop(c)
	wr := &watcher{c, tell}
	for _, id := range users {
		u := h.watch.user(userKey{c.app.ID, id})
		if slices.ContainsFunc(u.watchers, func(x *watcher) bool { return x == wr }) {
			continue // named twice
		}
		u.watchers = append(u.watchers, wr)
		h.watch.clients[c] = append(h.watch.clients[c], id)
		if u.conns > 0 {
			online = append(online, id)
		} else {
			offline = append(offline, id)
		}
	}
	return online, offline
}

func (h *Hub) unwatch(c *Client) {
	h.watch.mu.Lock()
	defer h.watch.mu.Unlock()
	h.watch.drop(c)
}

// drop forgets a client's watchlist. Under mu.
func (w *watch) drop(c *Client) {
	for _, id := range w.clients[c] {
		k := userKey{c.app.ID, id}
		if u := w.users[k]; u != nil {
			u.watchers = slices.DeleteFunc(u.watchers, func(x *watcher) bool { return x.client == c })
			w.forget(k)
		}
	}
	delete(w.clients, c)
}
