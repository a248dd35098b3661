package server

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
)

// App is an application among those a server serves: apart from the others in everything.
type App struct {
	// ID is the app_id of the HTTP API and Message.App of senders. It may not be empty.
	ID string
	// Keys sign for the app: channel authorizations of clients, and HTTP requests of its backend. All are valid, so
	// that a new one can be added before the old one goes.
	Keys []auth.Key
	// Connections is how many may be open at once. Zero means no limit but the server's.
	Connections int
	// NoClientEvents refuses client events, whatever the policies of channels say.
	NoClientEvents bool
	// SubscriptionCounts tells Pusher clients how many subscriptions a channel has, at every change, and above 100
	// every 5 s at most.
	SubscriptionCounts bool
	// Watchlists tells Pusher clients that sign in with a watchlist which of those users are online.
	Watchlists bool
	// AuthorizedWithin closes Pusher connections that neither sign in nor subscribe to a private or presence channel
	// within this time, and at once those that have done neither and fail to sign in. Zero: they need not.
	AuthorizedWithin time.Duration
	// Webhooks are told over HTTP what happens on the app's channels. They need a key; the first one signs.
	Webhooks []Webhook
}

// apps are the applications served. The table is replaced, never changed; an application that stays keeps its *hub.App,
// which its connections hold.
type apps struct {
	first       *hub.App
	byID, byKey map[string]*hub.App
	sign        map[string]http.Handler // auth endpoints, by id
	settings    map[string]*hub.AppSettings
	most        map[string]int // connections, by id; 0 is no limit
}

// appTable checks applications and makes the table of them, with those of the present table where they stay.
func (s *Server) appTable(list []App) (*apps, error) {
	if len(list) == 0 {
		list = []App{{ID: "1"}}
	}
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf("server: "+format, args...)) }
	now := s.apps.Load()
	t := &apps{byID: map[string]*hub.App{}, byKey: map[string]*hub.App{}, sign: map[string]http.Handler{}, settings: map[string]*hub.AppSettings{}, most: map[string]int{}}
	for i, a := range list {
		if a.ID == "" {
			add("app %d has no id", i+1)
			continue
		}
		if t.byID[a.ID] != nil {
			add("app %q is configured twice", a.ID)
		}
		if a.Connections < 0 {
			add("app %q may have %d connections: 0 means no limit of its own", a.ID, a.Connections)
		}
		t.most[a.ID] = a.Connections
		keys := auth.AppKeys{ID: a.ID, Keys: a.Keys}
		set := &hub.AppSettings{
			Auth: keys, NoClientEvents: a.NoClientEvents, SubscriptionCounts: a.SubscriptionCounts, Watchlists: a.Watchlists,
			AuthorizedWithin: a.AuthorizedWithin,
		}
		app := hub.NewApp(a.ID, set)
		if now != nil && now.byID[a.ID] != nil {
			app = now.byID[a.ID]
		}
		if t.first == nil {
			t.first = app
		}
		t.byID[a.ID], t.settings[a.ID] = app, set
		t.sign[a.ID] = s.auth.Handler(keys, auth.HandlerOptions{Logger: s.log})
		for j, k := range a.Keys {
			switch {
			case k.Key == "" || k.Secret == "":
				add("key %d of app %q lacks its key or its secret", j+1, a.ID)
			case t.byKey[k.Key] != nil:
				add("key %q belongs to two apps", k.Key)
			}
			t.byKey[k.Key] = app
		}
	}
	return t, errors.Join(errs...)
}

// SetApps replaces the applications while the server runs: keys come and go, switches are turned, and no connection of
// an application that stays is dropped. Connections of one that is gone are closed, and their clients told not to come
// back. What is wrong is an error, and then nothing changes.
//
// Webhooks stay as New got them, and the log says so where list has others; but what they are told from now on is
// signed with the app's first key of now.
func (s *Server) SetApps(list []App) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.appTable(list)
	if err != nil {
		return err
	}
	s.warnOfWebhooks(list)
	before := s.apps.Load()
	for id, set := range t.settings {
		t.byID[id].Set(set)
		if hooks, keys := s.hooks[id], appKeys(t.byID[id]).Keys; hooks != nil && len(keys) > 0 {
			hooks.SetKey(keys[0])
		}
	}
	s.apps.Store(t)
	for id, app := range before.byID {
		if t.byID[id] == nil {
			s.hub.StopApp(app, gone(id))
		}
	}
	return nil
}

func gone(id string) *hub.Error {
	return &hub.Error{Code: hub.UnknownApp, Message: fmt.Sprintf("app %q is served no longer", id)}
}

// stillServed stops a connection that came while its app, or the whole server, went: those who close connections may
// have been here already. On the loop.
func (s *Server) stillServed(app *hub.App, stop func(*hub.Error)) {
	switch {
	case s.draining.Load():
		stop(restarting)
	case s.apps.Load().byID[app.ID] != app:
		stop(gone(app.ID))
	}
}

func appKeys(a *hub.App) auth.AppKeys { return a.Settings().Auth.(auth.AppKeys) }

// app finds an application by key; empty means the default one.
func (s *Server) app(key string) *hub.App {
	if key == "" {
		return s.apps.Load().first
	}
	return s.apps.Load().byKey[key]
}
