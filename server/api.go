package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/channelname"
	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
)

const (
	maxChannels = 100 // one event may go to (Pusher HTTP API, POST events)
	maxBatch    = 10  // events in one request (POST batch_events)
	maxBody     = 4 << 20
	publishWait = 5 * time.Second // for overloaded loops
)

// call is a request to the Pusher HTTP API whose signature is good.
type call struct {
	*http.Request
	app   *hub.App
	body  []byte
	query url.Values
	// key is the X-Idempotency-Key, if the handler goes by it. The answer repeats it, which tells the sender that it
	// may repeat the request.
	key string
}

// maxKey is the longest idempotency key, in bytes.
const maxKey = 128

// takeKey is for handlers that go by the X-Idempotency-Key.
func (c *call) takeKey() error {
	if c.key = c.Header.Get("X-Idempotency-Key"); len(c.key) > maxKey {
		return bad(http.StatusBadRequest, "the X-Idempotency-Key is longer than %d bytes", maxKey)
	}
	return nil
}

// apiError is why a request is refused, and the status that says so.
type apiError struct {
	status int
	why    string
}

func (e *apiError) Error() string { return e.why }

func bad(status int, format string, args ...any) error {
	return &apiError{status, fmt.Sprintf(format, args...)}
}

// apiRoutes serves the Pusher HTTP API (Pusher Channels protocol, "HTTP API"). Success is 200 and nothing else: an SDK
// takes every other status for a failure.
func (s *Server) apiRoutes(mux *http.ServeMux, prefix string) {
	handle := func(method, path string, h func(*call) (any, error)) {
		path = prefix + "/apps/{app}" + path
		mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) { s.api(w, r, h) })
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			refuse(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, and this is a %s", r.URL.Path, method, r.Method))
		})
	}
	handle("POST", "/events", s.postEvent)
	handle("POST", "/batch_events", s.postBatch)
	handle("GET", "/channels", s.getChannels)
	handle("GET", "/channels/{channel}", s.getChannel)
	handle("GET", "/channels/{channel}/users", s.getUsers)
	handle("POST", "/users/{user}/terminate_connections", s.terminate)
	// Still called by old SDKs.
	handle("POST", "/channels/{channel}/events", s.postToChannel)
	handle("GET", "/channels/{channel}/stats", s.getStats)
}

// api authenticates a request and answers what h says.
func (s *Server) api(w http.ResponseWriter, r *http.Request, h func(*call) (any, error)) {
	c, err := s.authenticated(w, s.limitBody(w, r))
	var out any
	if err == nil {
		out, err = h(c)
		if c.key != "" {
			w.Header().Set("X-Idempotency-Key", c.key)
		}
	}
	if err != nil {
		no, ok := errors.AsType[*apiError](err)
		if !ok {
			no = &apiError{http.StatusInternalServerError, err.Error()}
		}
		if no.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		refuse(w, no.status, no.why)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK) // explicitly: a router that serves us where it found no route has 404 in mind
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		panic(err) // every answer marshals
	}
	w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) (*call, error) {
	c := &call{Request: r, app: s.apps.Load().byID[r.PathValue("app")]}
	if c.app == nil {
		return nil, bad(http.StatusNotFound, "there is no app %.100q", r.PathValue("app"))
	}
	// Before a byte of the body is kept: the signature covers its MD5.
	keys, now, prefix := appKeys(c.app), s.now(), s.prefixOf(r)
	err := auth.VerifyQuery(r, keys, now, prefix)
	if err == nil {
		if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			return nil, s.badBody(err)
		}
		err = auth.VerifyRequest(r, c.body, keys, now, prefix)
	}
	if err != nil {
		return nil, bad(http.StatusUnauthorized, "%s", auth.Reason(err))
	}
	if !utf8.Valid(c.body) { // as it may not be passed on (RFC 6455 section 8.1)
		c.body = bytes.ToValidUTF8(c.body, []byte("\ufffd"))
	}
	if c.query, err = auth.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, bad(http.StatusBadRequest, "%v", err)
	}
	return c, nil
}

// badBody is why a body could not be read.
func (s *Server) badBody(err error) error {
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return bad(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes: send several requests", maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return bad(http.StatusRequestTimeout, "the body did not arrive within %v", s.cfg.Limits.Handshake)
	}
	return bad(http.StatusBadRequest, "the body could not be read: %v", err)
}

// badJSON is why a body is not the JSON of what it should be, in words of JSON.
func badJSON(what string, err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field, want := wrong.Field, "a string"
		if field == "" {
			field = "it"
		}
		switch wrong.Type.Kind() {
		case reflect.Struct:
			want = "an object"
		case reflect.Slice:
			want = "a list"
		}
		return bad(http.StatusBadRequest, "the body is not the JSON of %s: %s is of type %s, and must be %s", what, field, wrong.Value, want)
	}
	return bad(http.StatusBadRequest, "the body is not the JSON of %s: %v", what, err)
}

// prefixOf is what stands before "/apps/" in the path of a request: what a router has stripped, and Config.Prefix. SDKs
// differ in whether they sign it.
func (s *Server) prefixOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	prefix, ok := strings.CutSuffix(path, r.URL.EscapedPath())
	if !ok {
		prefix = ""
	}
	if strings.HasPrefix(r.URL.Path, s.cfg.Prefix+"/") {
		prefix += s.cfg.Prefix
	}
	return prefix
}

// trigger is one event to publish.
type trigger struct {
	Name     string          `json:"name"`
	Data     json.RawMessage `json:"data"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	SocketID string          `json:"socket_id"`
	Info     string          `json:"info"`
}

// outgoing is a trigger that passed every check.
type outgoing struct {
	event    *hub.Event
	channels []string
	info     []string
}

func (s *Server) postEvent(c *call) (any, error) {
	var t trigger
	if err := json.Unmarshal(c.body, &t); err != nil {
		return nil, badJSON("an event", err)
	}
	if err := c.takeKey(); err != nil {
		return nil, err
	}
	t.Channels = append(t.Channels, c.query["channels"]...)
	o, err := s.outgoing(c, &t, c.key)
	if err == nil {
		err = s.publish(c, o)
	}
	if err != nil || len(o.info) == 0 {
		return struct{}{}, err
	}
	all := map[string]attributes{}
	for _, ch := range o.channels {
		all[ch] = s.attributes(c.app, ch, o.info)
	}
	return map[string]any{"channels": all}, nil
}

// postBatch publishes all events or, if one of them is wrong, none.
func (s *Server) postBatch(c *call) (any, error) {
	var body struct {
		Batch []trigger `json:"batch"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return nil, badJSON("a batch", err)
	}
	if n := len(body.Batch); n == 0 || n > maxBatch {
		return nil, bad(http.StatusBadRequest, "the batch has %d events: 1 to %d go into one request", n, maxBatch)
	}
	var all []*outgoing
	asked := false
	if err := c.takeKey(); err != nil {
		return nil, err
	}
	for i := range body.Batch {
		id := c.key
		if id != "" {
			id = fmt.Sprintf("%s.%d", c.key, i)
		}
		o, err := s.outgoing(c, &body.Batch[i], id)
		if err != nil {
			if no, ok := errors.AsType[*apiError](err); ok {
				err = bad(no.status, "event %d of the batch: %s", i+1, no.why)
			}
			return nil, err
		}
		all = append(all, o)
		asked = asked || len(o.info) > 0
	}
	if err := s.publish(c, all...); err != nil {
		return nil, err
	}
	if !asked {
		return struct{}{}, nil
	}
	var infos []attributes
	for _, o := range all {
		infos = append(infos, s.attributes(c.app, o.channels[0], o.info))
	}
	return map[string]any{"batch": infos}, nil
}

// postToChannel is the oldest way to publish: the body is the data.
func (s *Server) postToChannel(c *call) (any, error) {
	data, err := json.Marshal(string(c.body))
	if err != nil {
		return nil, err
	}
	o, err := s.outgoing(c, &trigger{Name: c.query.Get("name"), Data: data, Channel: c.PathValue("channel"), SocketID: c.query.Get("socket_id")}, "")
	if err == nil {
		err = s.publish(c, o)
	}
	return struct{}{}, err
}

func (s *Server) publish(c *call, all ...*outgoing) error {
	ctx, cancel := context.WithTimeout(c.Context(), publishWait)
	defer cancel()
	for _, o := range all {
		for _, ch := range o.channels {
			if _, err := s.hub.Publish(ctx, hub.Key{App: c.app.ID, Name: ch}, o.event); err != nil {
				if errors.Is(err, hub.ErrOverloaded) {
					return bad(http.StatusServiceUnavailable, "overloaded: the server takes events more slowly than they come")
				}
				return bad(http.StatusServiceUnavailable, "the server is shutting down")
			}
		}
	}
	return nil
}

// outgoing checks a trigger; id is what repetitions are known by, or empty.
func (s *Server) outgoing(c *call, t *trigger, id string) (*outgoing, error) {
	if err := hub.CheckEventName(t.Name, 200); err != nil {
		return nil, bad(http.StatusBadRequest, "%s", err.Message)
	}
	channels := t.Channels
	if t.Channel != "" {
		channels = append(channels, t.Channel)
	}
	if len(channels) == 0 {
		return nil, bad(http.StatusBadRequest, "the event names no channels: give channel or channels")
	}
	if len(channels) > maxChannels {
		return nil, bad(http.StatusBadRequest, "the event goes to %d channels, more than %d: send it in several requests", len(channels), maxChannels)
	}
	data, isText, err := jsonData(t.Data)
	if err != nil {
		return nil, err
	}
	o := &outgoing{event: &hub.Event{Name: t.Name, Data: data, Text: isText, ID: id}}
	if t.SocketID != "" {
		id, ok := hub.ParseID(t.SocketID)
		if !ok {
			return nil, bad(http.StatusBadRequest, "socket_id %.60q is not of the form 123.456", t.SocketID)
		}
		o.event.ExceptSockets = []hub.ID{id}
	}
	for _, ch := range channels {
		if err := channelname.Validate(ch); err != nil {
			return nil, bad(http.StatusBadRequest, "%v", err)
		}
		if err := s.hub.CheckData(hub.Key{App: c.app.ID, Name: ch}, data); err != nil {
			status := http.StatusBadRequest
			if err.Code == hub.TooLarge {
				status = http.StatusRequestEntityTooLarge
			}
			return nil, bad(status, "%s", err.Message)
		}
		if !slices.Contains(o.channels, ch) {
			o.channels = append(o.channels, ch)
		}
	}
	o.info, err = infoNames(t.Info, "user_count", "subscription_count")
	return o, err
}

// jsonData turns the API's data, which is a string, into the JSON that clients get: what the string holds if that
// is JSON, and else the string itself.
func jsonData(raw json.RawMessage) (data string, isText bool, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", false, bad(http.StatusBadRequest, "the event has no data; an empty string will do")
	}
	data = string(raw)
	text, ok := jsontext.Value(data).Text()
	switch {
	case !ok:
		return data, false, nil
	case jsontext.Valid(text) || json.Valid([]byte(text)): // which reads deeper
		return text, false, nil
	}
	return data, true, nil
}

// infoNames reads a list of attributes asked for.
func infoNames(info string, known ...string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(info, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(known, name) {
			return nil, bad(http.StatusBadRequest, "info %.60q is unknown here; there are %s", name, strings.Join(known, ", "))
		}
		names = append(names, name)
	}
	return names, nil
}

// attributes are what can be asked about a channel.
type attributes struct {
	Occupied      *bool            `json:"occupied,omitempty"`
	Users         *int             `json:"user_count,omitempty"`
	Subscriptions *int             `json:"subscription_count,omitempty"`
	Cache         *json.RawMessage `json:"cache,omitempty"`
}

func (s *Server) attributes(app *hub.App, channel string, names []string) (a attributes) {
	if len(names) == 0 {
		return a
	}
	k := hub.Key{App: app.ID, Name: channel}
	in, _ := s.hub.Info(k)
	for _, name := range names {
		switch name {
		case "occupied":
			occupied := in.Subscriptions > 0
			a.Occupied = &occupied
		case "user_count":
			if isPresence(channel) {
				n := len(in.Members)
				a.Users = &n
			}
		case "subscription_count":
			a.Subscriptions = &in.Subscriptions
		case "cache":
			cache := json.RawMessage("null")
			if d := in.Cached; d != nil {
				cache = cached(d, s.hub.Policy(k).Cache-s.now().Sub(d.Time))
			}
			a.Cache = &cache
		}
	}
	return a
}

// cached is a channel's last event as the API shows it: the data as the string it was, and the seconds it is kept.
func cached(d *hub.Delivery, left time.Duration) json.RawMessage {
	data := json.RawMessage(d.Event.Data)
	if !d.Event.Text {
		data, _ = json.Marshal(d.Event.Data)
	}
	return fmt.Appendf(nil, `{"data":%s,"ttl":%d}`, data, max(0, int(left/time.Second)))
}

func isPresence(channel string) bool { return strings.HasPrefix(channel, "presence-") }

// getChannels lists the channels that somebody is subscribed to.
func (s *Server) getChannels(c *call) (any, error) {
	names, err := infoNames(c.query.Get("info"), "user_count", "subscription_count")
	if err != nil {
		return nil, err
	}
	prefix := c.query.Get("filter_by_prefix")
	if slices.Contains(names, "user_count") && !isPresence(prefix) {
		return nil, bad(http.StatusBadRequest, "user_count is known of presence channels only: ask with filter_by_prefix=presence-")
	}
	all := map[string]attributes{}
	for _, ch := range s.hub.Occupied(c.app.ID, prefix) {
		all[ch] = s.attributes(c.app, ch, names)
	}
	return map[string]any{"channels": all}, nil
}

func (s *Server) getChannel(c *call) (any, error) {
	ch := c.PathValue("channel")
	names, err := infoNames(c.query.Get("info"), "user_count", "subscription_count", "cache")
	if err == nil {
		err = checkChannel(ch)
	}
	switch {
	case err != nil:
		return nil, err
	case slices.Contains(names, "user_count") && !isPresence(ch):
		return nil, bad(http.StatusBadRequest, "user_count is known of presence channels only, and %q is none", ch)
	case slices.Contains(names, "cache") && !channelname.IsCache(ch):
		return nil, bad(http.StatusBadRequest, "cache is known of cache channels only, and %q is none", ch)
	}
	return s.attributes(c.app, ch, append(names, "occupied")), nil
}

func (s *Server) getStats(c *call) (any, error) {
	ch := c.PathValue("channel")
	if err := checkChannel(ch); err != nil {
		return nil, err
	}
	return s.attributes(c.app, ch, []string{"occupied", "user_count"}), nil
}

func checkChannel(name string) error {
	if err := channelname.Validate(name); err != nil {
		return bad(http.StatusBadRequest, "%v", err)
	}
	return nil
}

// getUsers lists a presence channel's members, without what others see of them, as Pusher does.
func (s *Server) getUsers(c *call) (any, error) {
	ch := c.PathValue("channel")
	if err := checkChannel(ch); err != nil {
		return nil, err
	}
	if !isPresence(ch) {
		return nil, bad(http.StatusBadRequest, "users are known of presence channels only, and %q is none", ch)
	}
	type user struct {
		ID string `json:"id"`
	}
	users := []user{}
	in, _ := s.hub.Info(hub.Key{App: c.app.ID, Name: ch})
	for _, m := range in.Members {
		users = append(users, user{m.ID})
	}
	return map[string]any{"users": users}, nil
}

// terminate ends all connections of a signed-in user.
func (s *Server) terminate(c *call) (any, error) {
	s.hub.Disconnect(hub.Select{App: c.app.ID, User: c.PathValue("user")}, "You got disconnected by the app.")
	return struct{}{}, nil
}

// now is the server's clock.
func (s *Server) now() time.Time {
	if s.cfg.now != nil {
		return s.cfg.now()
	}
	return time.Now()
}
