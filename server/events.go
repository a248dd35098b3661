package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
)

const (
	maxChannels = 100 // one request may publish to (Pusher HTTP API, POST events)
	maxBody     = 4 << 20
	publishWait = 5 * time.Second // for overloaded loops
)

// trigger is the body of POST /apps/{id}/events.
type trigger struct {
	Name     string          `json:"name"`
	Data     json.RawMessage `json:"data"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	SocketID string          `json:"socket_id"`
	Info     string          `json:"info"`
}

// badRequest is an error with the status to answer.
type badRequest struct {
	status int
	why    string
}

func (e *badRequest) Error() string { return e.why }

func bad(status int, format string, args ...any) error {
	return &badRequest{status, fmt.Sprintf(format, args...)}
}

// publishHTTP is POST /apps/{id}/events of the Pusher HTTP API.
func (s *Server) publishHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := s.trigger(r)
	if err != nil {
		var b *badRequest
		if !errors.As(err, &b) {
			b = &badRequest{http.StatusInternalServerError, err.Error()}
		}
		if b.status == http.StatusServiceUnavailable || b.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "1")
		}
		refuse(w, b.status, b.why)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK) // explicitly: a router that serves us where it found no route has 404 in mind
	w.Write(out)
}

// mountedAt is the part of a request's path that a router has stripped before it came here; empty where none was.
func mountedAt(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if prefix, ok := strings.CutSuffix(path, r.URL.EscapedPath()); ok {
		return prefix
	}
	return ""
}

func (s *Server) trigger(r *http.Request) ([]byte, error) {
	app := s.apps["id:"+r.PathValue("app")]
	if app == nil {
		return nil, bad(http.StatusNotFound, "there is no app %.100q", r.PathValue("app"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return nil, bad(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", maxBody)
		}
		return nil, bad(http.StatusBadRequest, "the body could not be read: %v", err)
	}
	if err := auth.VerifyRequest(r, body, app.Auth.(auth.AppKeys), time.Now(), mountedAt(r)); err != nil {
		return nil, bad(http.StatusUnauthorized, "%s", auth.Reason(err))
	}
	var t trigger
	if err := json.Unmarshal(body, &t); err != nil {
		return nil, bad(http.StatusBadRequest, "the body is not the JSON of an event: %v", err)
	}
	ev, channels, err := s.event(r, app, &t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishWait)
	defer cancel()
	for _, ch := range channels {
		if _, err := s.hub.Publish(ctx, hub.Key{App: app.ID, Name: ch}, ev); err != nil {
			if errors.Is(err, hub.ErrOverloaded) {
				return nil, bad(http.StatusServiceUnavailable, "overloaded: the server takes events more slowly than they come")
			}
			return nil, bad(http.StatusServiceUnavailable, "the server is shutting down")
		}
	}
	return s.infoOf(app, channels, t.Info)
}

// event checks a trigger and makes the event of it.
func (s *Server) event(r *http.Request, app *hub.App, t *trigger) (*hub.Event, []string, error) {
	if err := hub.CheckEventName(t.Name, 200); err != nil {
		return nil, nil, bad(http.StatusBadRequest, "%s", err.Message)
	}
	channels := t.Channels
	if t.Channel != "" {
		channels = append(channels, t.Channel)
	}
	if q, err := auth.ParseQuery(r.URL.RawQuery); err == nil {
		channels = append(channels, q["channels"]...)
	}
	if len(channels) == 0 {
		return nil, nil, bad(http.StatusBadRequest, "the event names no channels")
	}
	if len(channels) > maxChannels {
		return nil, nil, bad(http.StatusBadRequest, "the event goes to %d channels, more than %d: send it in several requests", len(channels), maxChannels)
	}
	data, err := jsonData(t.Data)
	if err != nil {
		return nil, nil, err
	}
	ev := &hub.Event{Name: t.Name, Data: data, ID: r.Header.Get("X-Idempotency-Key")}
	if len(ev.ID) > 128 {
		return nil, nil, bad(http.StatusBadRequest, "the X-Idempotency-Key is longer than 128 bytes")
	}
	if t.SocketID != "" {
		id, ok := hub.ParseID(t.SocketID)
		if !ok {
			return nil, nil, bad(http.StatusBadRequest, "socket_id %.60q is not of the form 123.456", t.SocketID)
		}
		ev.ExceptSockets = []hub.ID{id}
	}
	var distinct []string
	seen := map[string]bool{}
	for _, ch := range channels {
		if err := channelname.Validate(ch); err != nil {
			return nil, nil, bad(http.StatusBadRequest, "%v", err)
		}
		if err := s.hub.CheckData(hub.Key{App: app.ID, Name: ch}, data); err != nil {
			status := http.StatusBadRequest
			if err.Code == hub.TooLarge {
				status = http.StatusRequestEntityTooLarge
			}
			return nil, nil, bad(status, "%s", err.Message)
		}
		if !seen[ch] {
			seen[ch] = true
			distinct = append(distinct, ch)
		}
	}
	return ev, distinct, nil
}

// jsonData turns the API's data, which is a string, into the JSON that clients get: what the string holds if that
// is JSON, and else the string itself.
func jsonData(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", bad(http.StatusBadRequest, "the event has no data; an empty string will do")
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", bad(http.StatusBadRequest, "data: %v", err)
	}
	if json.Valid([]byte(text)) {
		return text, nil
	}
	return string(raw), nil
}

// infoOf answers what a request asked to know about its channels.
func (s *Server) infoOf(app *hub.App, channels []string, info string) ([]byte, error) {
	if info == "" {
		return []byte("{}"), nil
	}
	type counts struct {
		Users         *int `json:"user_count,omitempty"`
		Subscriptions *int `json:"subscription_count,omitempty"`
	}
	all := map[string]counts{}
	for _, ch := range channels {
		in, _ := s.hub.Info(hub.Key{App: app.ID, Name: ch})
		var c counts
		for what := range strings.SplitSeq(info, ",") {
			switch strings.TrimSpace(what) {
			case "user_count":
				if strings.HasPrefix(ch, "presence-") {
					n := len(in.Members)
					c.Users = &n
				}
			case "subscription_count":
				c.Subscriptions = &in.Subscriptions
			default:
				return nil, bad(http.StatusBadRequest, "info %.60q is unknown; there are user_count and subscription_count", what)
			}
		}
		all[ch] = c
	}
	return json.Marshal(map[string]any{"channels": all})
}
