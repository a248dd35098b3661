package server

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/webhook"
)

// Webhook is an HTTP endpoint that is told what happens on an app's channels (Pusher Channels protocol, "Webhooks"):
// a POST of JSON with one or more events, signed with the app's first key. Any answer but 2xx within 5 s, and none, is
// repeated for five minutes. auth.VerifyWebhook checks a request in Go; so does every Pusher server SDK.
//
// Events of one channel arrive in order, at least once; at most 10,000 wait for an endpoint, and then the newest are
// dropped, counted (Server.WebhookStats) and logged.
type Webhook struct {
	// URL is where to, http or https. Redirects are not followed.
	URL string
	// Events are the types wanted: "channel_occupied", "channel_vacated", "member_added", "member_removed",
	// "client_event", "cache_miss" and, with App.SubscriptionCounts, "subscription_count". Empty means all.
	//
	// A channel that is vacated, or a member that is removed, and comes back within 3 s, is not told of.
	Events []string
	// Channels are patterns of the channels wanted, by their names with prefix; "*" stands for any characters. Empty
	// means all.
	Channels []string
	// Headers are sent along, such as an Authorization.
	Headers map[string]string
}

// String shows no secret: the URL without its query, and no header.
func (w Webhook) String() string { return webhook.Redact(w.URL) }

// GoString is String in Go's syntax.
func (w Webhook) GoString() string { return "server.Webhook{" + w.String() + "}" }

// WebhookStats is how deliveries to a webhook fare.
type WebhookStats struct {
	App     string
	URL     string // without its query, which may hold a secret
	Sent    int64  // events delivered
	Dropped int64  // events lost: too many waited, the endpoint failed for five minutes, or the server was shut down
	Retried int64  // requests made again
	Waiting int    // events yet to be delivered
}

// WebhookStats says how the webhooks fare, in the order of the configuration.
func (s *Server) WebhookStats() []WebhookStats {
	var all []WebhookStats
	for _, a := range s.cfg.Apps {
		w := s.hooks[a.ID]
		if w == nil {
			continue
		}
		for _, st := range w.Stats() {
			all = append(all, WebhookStats{App: a.ID, URL: st.URL, Sent: st.Sent, Dropped: st.Dropped, Retried: st.Retried, Waiting: st.Waiting})
		}
	}
	return all
}

func (w *Webhook) endpoint() webhook.Endpoint { return webhook.Endpoint(*w) }

func (s *Server) checkWebhooks(add func(format string, args ...any)) {
	for _, a := range s.cfg.Apps {
		if len(a.Webhooks) > 0 && len(a.Keys) == 0 {
			add("app %q has webhooks, and no key to sign them with", a.ID)
		}
		for i, w := range a.Webhooks {
			e := w.endpoint()
			e.Check(func(key, format string, args ...any) {
				add("webhook %d of app %q: %s "+format, append([]any{i + 1, a.ID, key}, args...)...)
			})
			if slices.Contains(w.Events, "subscription_count") && !a.SubscriptionCounts {
				add("webhook %d of app %q wants subscription_count, and SubscriptionCounts is off", i+1, a.ID)
			}
		}
	}
}

func (s *Server) startWebhooks() {
	s.hooks = map[string]*webhook.Sender{}
	for _, a := range s.cfg.Apps {
		if len(a.Webhooks) == 0 {
			continue
		}
		cfg := webhook.Config{App: a.ID, Key: a.Keys[0], Grace: s.cfg.grace, Logger: s.log}
		for _, w := range a.Webhooks {
			cfg.Endpoints = append(cfg.Endpoints, w.endpoint())
		}
		s.hooks[a.ID] = webhook.New(cfg)
	}
}

// warnOfWebhooks says which apps have other webhooks now than the server began with.
func (s *Server) warnOfWebhooks(list []App) {
	began := map[string][]Webhook{}
	for _, a := range s.cfg.Apps {
		began[a.ID] = a.Webhooks
	}
	for _, a := range list {
		if !slices.EqualFunc(began[a.ID], a.Webhooks, func(x, y Webhook) bool { return reflect.DeepEqual(x, y) }) {
			s.log.Warn("an app's webhooks are others now, and stay what they were until a restart", "app", a.ID)
		}
	}
}

// stopWebhooks delivers what waits.
func (s *Server) stopWebhooks(ctx context.Context) error {
	errs := make([]error, len(s.hooks))
	var wg sync.WaitGroup
	for i, w := range slices.Collect(maps.Values(s.hooks)) {
		wg.Go(func() { errs[i] = w.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

var webhookKinds = map[hub.HookKind]webhook.Kind{
	hub.ChannelOccupied: webhook.ChannelOccupied, hub.ChannelVacated: webhook.ChannelVacated,
	hub.MemberJoined: webhook.MemberAdded, hub.MemberLeft: webhook.MemberRemoved, hub.Whispered: webhook.ClientEvent,
	hub.CacheMissed: webhook.CacheMiss, hub.Counted: webhook.SubscriptionCount,
}

// observe adapts the hub's events to webhooks. It sees them before Config.Hook, and apart from it: a slow hook costs no
// webhook.
func (s *Server) observe() func(hub.HookEvent) {
	if len(s.hooks) == 0 {
		return nil
	}
	now := s.cfg.now
	if now == nil {
		now = time.Now
	}
	return func(ev hub.HookEvent) {
		w := s.hooks[ev.App]
		if w == nil || strings.HasPrefix(ev.Channel, channelname.UserPrefix) { // users' own channels are nobody's business
			return
		}
		if ev.Kind == hub.CacheFilled {
			w.Filled(ev.Channel)
			return
		}
		out := webhook.Event{
			Kind: webhookKinds[ev.Kind], Time: now(), Channel: ev.Channel, UserID: ev.UserID, Name: ev.Event, Data: ev.Data, Text: ev.Text, Count: ev.Count,
		}
		if ev.Kind == hub.Whispered {
			out.SocketID = ev.Sender.String()
		}
		w.Add(out)
	}
}
