package hub

import (
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/loop"
)

// App is one application among those a server serves. Its settings may change while clients are connected.
type App struct {
	ID  string
	set atomic.Pointer[AppSettings]
}

// AppSettings are what may change about an application. They are replaced, never changed.
type AppSettings struct {
	// Auth is the authorizer's own: keys.
	Auth any
	// NoClientEvents refuses client events, whatever the channels' policies say.
	NoClientEvents bool
	// SubscriptionCounts tells a channel's subscribers how many they are, except in presence channels.
	SubscriptionCounts bool
	// Watchlists tells users who sign in with a watchlist which of the others are online. Clients that were identified
	// before it was switched on are not counted.
	Watchlists bool
	// AuthorizedWithin is how long a connection may take to sign in or to subscribe to what needs a grant; zero: for
	// ever.
	AuthorizedWithin time.Duration
}

// NewApp makes an application.
func NewApp(id string, s *AppSettings) *App {
	a := &App{ID: id}
	a.set.Store(s)
	return a
}

// Settings are those in effect.
func (a *App) Settings() *AppSettings { return a.set.Load() }

// Set replaces the settings.
func (a *App) Set(s *AppSettings) { a.set.Store(s) }

// StopApp ends all connections of an app.
func (h *Hub) StopApp(app *App, why *Error) {
	for _, b := range h.branches {
		b.loop.Post(loop.Func(func(*loop.Loop) {
			for _, c := range b.clients {
				if c != nil && c.app == app {
					c.session.Stop(why)
				}
			}
		}), 0)
	}
}
