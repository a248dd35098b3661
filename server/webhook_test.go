package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
)

// receiver is an endpoint of webhooks.
type receiver struct {
	*httptest.Server
	t      testing.TB
	clock  *clock      // the server's
	events chan string // as they stand in the bodies
}

// stopped is a clock at a time with milliseconds.
func stopped() *clock { return newClock(time.UnixMilli(1327078148132)) }

func receive(t testing.TB, clock *clock, keys ...auth.Key) *receiver {
	r := &receiver{t: t, clock: clock, events: make(chan string, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		raw, err := io.ReadAll(q.Body)
		if err == nil {
			err = auth.VerifyWebhook(q.Header, raw, auth.AppKeys{Keys: keys})
		}
		if err != nil || !reflect.DeepEqual(q.Header["Content-Type"], []string{"application/json"}) {
			t.Errorf("a request with %v, %v: %s", q.Header, err, raw)
		}
		var body struct {
			Events []json.RawMessage `json:"events"`
		}
		if err := json.Unmarshal(raw, &body); err != nil || !strings.HasPrefix(string(raw), fmt.Sprintf(`{"time_ms":%d,"events":[{`, r.clock.ms.Load())) {
			t.Errorf("the body is %s (%v)", raw, err)
		}
		for _, ev := range body.Events {
			r.events <- string(ev)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// want awaits events.
func (r *receiver) want(events ...string) {
	r.t.Helper()
	for _, want := range events {
		select {
		case got := <-r.events:
			if got != want {
				r.t.Fatalf("the event is\n%s\nand should be\n%s", got, want)
			}
		case <-time.After(20 * time.Second):
			r.t.Fatalf("no event, and there should be\n%s", want)
		}
	}
}

func TestWebhooksTellWhatHappens(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		other := auth.Key{Key: "other-key", Secret: "other-secret"}
		clock := stopped()
		all, second := receive(t, clock, docApp().Keys...), receive(t, clock, other)
		some := receive(t, clock, docApp().Keys...)
		busy := make(chan struct{})
		defer close(busy)
		s := startOn(t, tr, Config{
			Apps: []App{
				{ID: "3", Keys: append(docApp().Keys, auth.Key{Key: "rotated", Secret: "x"}), SubscriptionCounts: true, Webhooks: []Webhook{
					{URL: all.URL + "/hooks?a=b"}, {URL: some.URL, Events: []string{"member_added", "channel_vacated"}, Channels: []string{"presence-*"}},
				}},
				{ID: "4", Keys: []auth.Key{other}, Webhooks: []Webhook{{URL: second.URL}}},
				{ID: "5"},
			},
			now: clock.now, grace: 1,
			Hook: func(context.Context, Event) { <-busy }, // webhooks do not wait for it
		})
		occupied := func(ch string) string { return `{"name":"channel_occupied","channel":"` + ch + `"}` }
		vacated := func(ch string) string { return `{"name":"channel_vacated","channel":"` + ch + `"}` }
		added := func(ch, id string) string {
			return `{"name":"member_added","channel":"` + ch + `","user_id":"` + id + `"}`
		}
		removed := func(ch, id string) string {
			return `{"name":"member_removed","channel":"` + ch + `","user_id":"` + id + `"}`
		}
		count := func(ch string, n int) string {
			return fmt.Sprintf(`{"name":"subscription_count","channel":"%s","subscription_count":%d}`, ch, n)
		}

		p, q, plain := s.dialPusher(""), s.dialPusher(""), s.dial("?app="+docKey)
		// Members, by user.
		p.subscribe("presence-room", `{"user_id":10}`)
		all.want(occupied("presence-room"), added("presence-room", "10"))
		some.want(added("presence-room", "10"))
		q.subscribe("presence-room", `{"user_id":"11"}`)
		all.want(added("presence-room", "11"))
		plainData := `{"user_id":"11"}` // another connection of the same user
		plain.say(`{"event":"subscribe","channel":"presence-room","auth":"` + auth.SignChannel(docKey, docSecret, plain.SocketID, "presence-room", plainData) + `","channel_data":` + inString(plainData) + `}`)
		// Client events, as they are relayed; those refused are not told.
		for _, x := range []struct{ said, told string }{
			{`{"name":"Ann <b>"}`, `{\"name\":\"Ann <b>\"}`}, {`"just text"`, `just text`}, {`"{\"a\": 1}"`, `{\"a\": 1}`},
		} {
			q.say(`{"event":"client-typing","channel":"presence-room","data":` + x.said + `}`)
			all.want(`{"name":"client_event","channel":"presence-room","event":"client-typing","data":"` + x.told + `","socket_id":"` + q.SocketID + `","user_id":"11"}`)
		}
		p.say(`{"event":"client-typing","channel":"private-a","data":1}`) // not subscribed
		p.subscribe("private-a", "")
		p.say(`{"event":"client-typing","channel":"private-a","data":[1]}`)
		all.want(occupied("private-a"), count("private-a", 1), `{"name":"client_event","channel":"private-a","event":"client-typing","data":"[1]","socket_id":"`+p.SocketID+`"}`)
		plain.say(`{"event":"client-typing","channel":"presence-room","data":"text"}`) // JSON, in this protocol
		all.want(`{"name":"client_event","channel":"presence-room","event":"client-typing","data":"\"text\"","socket_id":"` + plain.SocketID + `","user_id":"11"}`)
		// Cache channels.
		p.subscribe("cache-news", "")
		all.want(occupied("cache-news"), count("cache-news", 1), `{"name":"cache_miss","channel":"cache-news"}`)
		q.subscribe("cache-news", "")
		all.want(count("cache-news", 2))
		s.send(realtime.Message{Channels: []string{"cache-news"}, Event: "E", Data: json.RawMessage(`1`), ExceptSockets: []string{plain.SocketID}})
		plain.say(subscribe("cache-news")) // is left out, but the channel is not empty
		all.want(count("cache-news", 3))
		// Users' own channels are nobody's business.
		data := `{"id":"10"}`
		p.say(`{"event":"pusher:signin","data":{"auth":"` + auth.SignUser(docKey, docSecret, p.SocketID, data) + `","user_data":` + inString(data) + `}}`)
		p.subscribe("#server-to-user-10", "")
		p.subscribe("orders", "")
		all.want(occupied("orders"), count("orders", 1))
		// Leaving.
		q.say(`{"event":"pusher:unsubscribe","data":{"channel":"presence-room"}}`)
		q.say(`{"event":"pusher:unsubscribe","data":{"channel":"cache-news"}}`)
		all.want(count("cache-news", 2))
		plain.say(`{"event":"unsubscribe","channel":"presence-room"}`)
		all.want(removed("presence-room", "11"))
		p.say(`{"event":"pusher:unsubscribe","data":{"channel":"orders"}}`)
		all.want(count("orders", 0), vacated("orders"))
		p.say(`{"event":"pusher:unsubscribe","data":{"channel":"presence-room"}}`)
		all.want(removed("presence-room", "10"), vacated("presence-room"))
		some.want(added("presence-room", "11"), vacated("presence-room"))
		// Another app, with a key of its own.
		plain2 := s.dial("?app=other-key")
		plain2.say(subscribe("orders"))
		second.want(occupied("orders"))

		eventually(t, "everything is answered", func() bool {
			for _, st := range s.WebhookStats() {
				if st.Waiting > 0 {
					return false
				}
			}
			return true
		})
		want := []WebhookStats{
			{App: "3", URL: all.URL + "/hooks?***", Sent: 23}, {App: "3", URL: some.URL, Sent: 3}, {App: "4", URL: second.URL, Sent: 1},
		}
		if got := s.WebhookStats(); !reflect.DeepEqual(got, want) {
			t.Errorf("the statistics are\n%+v\nand should be\n%+v", got, want)
		}
		for _, r := range []*receiver{all, some, second} {
			if n := len(r.events); n > 0 {
				t.Errorf("%d further events, such as %s", n, <-r.events)
			}
		}
	})
}

// A cache channel that has been filled, and whose message has expired, is missed anew.
func TestAnExpiredCacheIsMissedAgain(t *testing.T) {
	clock := stopped()
	all := receive(t, clock, docApp().Keys...)
	app := docApp()
	app.Webhooks = []Webhook{{URL: all.URL, Events: []string{"cache_miss"}}}
	s := start(t, Config{Apps: []App{app}, Channels: []Channel{{Pattern: "news", Cache: time.Nanosecond}}, now: clock.now, grace: 1})
	miss := `{"name":"cache_miss","channel":"news"}`
	p := s.dialPusher("")
	p.joined("news")
	p.want(`{"event":"pusher:cache_miss","channel":"news","data":"{}"}`)
	all.want(miss)
	for range 2 {
		s.send(event("news", `1`))
		clock.ms.Add(1) // it has expired
		for range 2 {
			q := s.dialPusher("")
			q.joined("news")
			q.want(`{"event":"pusher:cache_miss","channel":"news","data":"{}"}`)
		}
		all.want(miss)
	}
	eventually(t, "everything is answered", func() bool { return s.WebhookStats()[0].Waiting == 0 })
	if st := s.WebhookStats(); st[0].Sent != 3 {
		t.Errorf("the statistics are %+v", st)
	}
}

func TestAReloadIsNotTold(t *testing.T) {
	clock := stopped()
	all := receive(t, clock, docApp().Keys...)
	app := docApp()
	app.Webhooks = []Webhook{{URL: all.URL}}
	s := start(t, Config{Apps: []App{app}, now: clock.now, grace: time.Hour})
	for range 3 {
		p := s.dialPusher("")
		p.subscribe("presence-room", `{"user_id":"10"}`)
		p.next()
		p.Close(1000, "")
		eventually(t, "the page has gone", func() bool { return s.Subscriptions("", "presence-room") == 0 })
	}
	all.want(`{"name":"channel_occupied","channel":"presence-room"}`, `{"name":"member_added","channel":"presence-room","user_id":"10"}`)
	q := s.dialPusher("")
	q.joined("orders")
	all.want(`{"name":"channel_occupied","channel":"orders"}`)
	// The end of the server waits for nobody's return, and tells of those whom it sends away.
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	all.want(`{"name":"member_removed","channel":"presence-room","user_id":"10"}`, `{"name":"channel_vacated","channel":"presence-room"}`)
	q.want(pusherTrouble("", 4200, "the server is restarting: connect again"))
	q.wantClose(4200, "the server is restarting: connect again") // and answers, which ends the connection
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	all.want(`{"name":"channel_vacated","channel":"orders"}`)
	if got, want := s.WebhookStats(), (WebhookStats{App: "3", URL: all.URL, Sent: 6}); got[0] != want {
		t.Errorf("the statistics are %+v, not %+v", got[0], want)
	}
}

// A key that an app has no longer signs no webhook; and what a restart only brings is in the log.
func TestWebhooksAreSignedWithTheKeyOfNow(t *testing.T) {
	clock := stopped()
	next := auth.Key{Key: "next", Secret: "its secret"}
	before, after := receive(t, clock, docApp().Keys...), receive(t, clock, next)
	var log strings.Builder
	app := docApp()
	occupied := []string{"channel_occupied"}
	app.Webhooks = []Webhook{{URL: before.URL, Events: occupied, Channels: []string{"before"}}, {URL: after.URL, Events: occupied, Channels: []string{"after"}}}
	s := start(t, Config{Apps: []App{app}, now: clock.now, grace: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := s.dialPusher("")
	p.joined("before")
	before.want(`{"name":"channel_occupied","channel":"before"}`)
	app.Keys = []auth.Key{next, docApp().Keys[0]}
	if err := s.SetApps([]App{app}); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("the log has %s", log.String())
	}
	p.joined("after")
	after.want(`{"name":"channel_occupied","channel":"after"}`)
	app.Webhooks = app.Webhooks[1:]
	if err := s.SetApps([]App{app, {ID: "4"}}); err != nil {
		t.Fatal(err)
	}
	if want := `level=WARN msg="an app's webhooks are others now, and stay what they were until a restart" app=3`; strings.Count(log.String(), want) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("the log has %s", log.String())
	}
}

func TestShutdownSaysWhichWebhooksWereLost(t *testing.T) {
	stop := make(chan struct{})
	asked := make(chan struct{}, 100)
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-stop
	}))
	defer hanging.Close()
	defer close(stop)
	app := docApp()
	app.Webhooks = []Webhook{{URL: hanging.URL + "?token=hush"}}
	s, err := New(Config{Apps: []App{app}, Logger: quiet(), DrainWindow: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	defer web.Close()
	live := &live{Server: s, t: t, addr: web.Listener.Addr().String()}
	p := live.dialPusher("")
	p.joined("a")
	p.joined("b")
	<-asked
	p.Close(1000, "")
	eventually(t, "the client has gone", func() bool { return s.open() == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = s.Shutdown(ctx)
	want := "webhook: 4 events for " + hanging.URL + "?*** were dropped, because it did not take them in time\ncontext deadline exceeded"
	if fmt.Sprint(err) != want {
		t.Errorf("Shutdown: %v\nand should be\n%s", err, want)
	}
	if got, want := s.WebhookStats()[0], (WebhookStats{App: "3", URL: hanging.URL + "?***", Dropped: 4}); got != want {
		t.Errorf("the statistics are %+v, not %+v", got, want)
	}
}

func TestMistakesInWebhooksAreNamed(t *testing.T) {
	for _, c := range []struct {
		app  App
		want string
	}{
		{App{ID: "3", Webhooks: []Webhook{{URL: "http://a"}}}, `server: app "3" has webhooks, and no key to sign them with`},
		{App{ID: "3", Keys: docApp().Keys, Webhooks: []Webhook{{URL: "http://a"}, {URL: "ftp://me:hush@a", Events: []string{"occupied"}, Headers: map[string]string{"Content-Type": "hush"}}}}, strings.Join([]string{
			`server: webhook 2 of app "3": url must be a whole http or https address, such as https://shop.example/webhooks`,
			`server: webhook 2 of app "3": events[0] is "occupied", and must be one of channel_occupied, channel_vacated, member_added, member_removed, client_event, cache_miss, subscription_count`,
			`server: webhook 2 of app "3": headers.Content-Type cannot be set: the server sends its own Content-Type`}, "\n")},
		{App{ID: "3", Keys: docApp().Keys, Webhooks: []Webhook{{URL: "http://a", Events: []string{"subscription_count"}}}},
			`server: webhook 1 of app "3" wants subscription_count, and SubscriptionCounts is off`},
	} {
		_, err := New(Config{Apps: []App{c.app}, Logger: quiet()})
		if fmt.Sprint(err) != c.want {
			t.Errorf("the error is\n%v\nand should be\n%s", err, c.want)
		}
	}
}

func TestAPrintedWebhookShowsNoSecret(t *testing.T) {
	app := App{ID: "3", Webhooks: []Webhook{{URL: "https://a.example/x?token=hush", Headers: map[string]string{"Authorization": "hush"}}}}
	for _, text := range []string{fmt.Sprintf("%v %+v", app, app), fmt.Sprintf("%#v", app), fmt.Sprint(app.Webhooks[0])} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "https://a.example/x?***") {
			t.Errorf("printed: %s", text)
		}
	}
}
