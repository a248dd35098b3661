package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// The credentials of Pusher's own documentation.
var docKey = auth.Key{Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}

// request is one that arrived.
type request struct {
	at     time.Time
	header http.Header
	body   string
}

// rig is a Sender whose endpoints are functions, in a bubble of synctest.
type rig struct {
	*Sender
	t     *testing.T
	start time.Time
	log   bytes.Buffer // complete once the Sender is at rest

	mu    sync.Mutex
	hosts map[string]func(*http.Request) (int, error) // guarded by mu; nil answers 200
	got   map[string][]request                        // guarded by mu; everything that arrived
}

func newRig(t *testing.T, endpoints ...Endpoint) *rig {
	r := &rig{t: t, start: time.Now(), hosts: map[string]func(*http.Request) (int, error){}, got: map[string][]request{}}
	r.Sender = New(Config{
		App: "3", Key: docKey, Endpoints: endpoints, Transport: r,
		Logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	})
	return r
}

// RoundTrip implements http.RoundTripper.
func (r *rig) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.got[req.URL.Host] = append(r.got[req.URL.Host], request{time.Now(), req.Header.Clone(), string(body)})
	answer := r.hosts[req.URL.Host]
	r.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		if status, err = answer(req); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Body: http.NoBody, Request: req}, nil
}

func (r *rig) answer(host string, f func(*http.Request) (int, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[host] = f
}

// answers is an endpoint that gives one answer.
func answers(status int) func(*http.Request) (int, error) {
	return func(*http.Request) (int, error) { return status, nil }
}

// hangs is an endpoint that never answers.
func hangs(req *http.Request) (int, error) {
	<-req.Context().Done()
	return 0, req.Context().Err()
}

// arrived returns, and forgets, what a host was sent.
func (r *rig) arrived(host string) []request {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got[host]
	delete(r.got, host)
	return got
}

// want compares what a host was sent with a line an event, of the form "seconds since the start: name channel/user".
func (r *rig) want(host string, want ...string) {
	r.t.Helper()
	var got []string
	for _, q := range r.arrived(host) {
		var b struct{ Events []map[string]any }
		if err := json.Unmarshal([]byte(q.body), &b); err != nil {
			r.t.Fatalf("%v in %s", err, q.body)
		}
		for _, ev := range b.Events {
			line := fmt.Sprintf("%v: %v %v", q.at.Sub(r.start).Seconds(), ev["name"], ev["channel"])
			if id := ev["user_id"]; id != nil {
				line += fmt.Sprintf("/%v", id)
			}
			got = append(got, line)
		}
	}
	if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
		r.t.Fatalf("%s got\n%s\nand should have got\n%s", host, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *rig) wantStats(want ...Stats) {
	r.t.Helper()
	synctest.Wait()
	if got := r.Stats(); !reflect.DeepEqual(got, want) {
		r.t.Fatalf("the statistics are\n%+v\nand should be\n%+v", got, want)
	}
}

// end shuts down and returns the error.
func (r *rig) end(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return r.Shutdown(ctx)
}

func (r *rig) ends() {
	r.t.Helper()
	if err := r.end(time.Minute); err != nil {
		r.t.Errorf("Shutdown: %v", err)
	}
}

func (r *rig) add(k Kind, channel, user string) {
	r.Add(Event{Kind: k, Time: time.Now(), Channel: channel, UserID: user})
}

// after lets time pass.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBodiesAndSignatures(t *testing.T) {
	at := time.UnixMilli(1327078148132)
	for _, c := range []struct {
		ev         Event
		body, sign string
	}{
		{Event{Kind: ChannelOccupied, Channel: "my-channel"}, // the documentation's own
			`{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}`,
			"c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf"},
		{Event{Kind: ChannelVacated, Channel: "my-channel"}, `{"time_ms":1327078148132,"events":[{"name":"channel_vacated","channel":"my-channel"}]}`, ""},
		{Event{Kind: MemberAdded, Channel: "presence-a", UserID: `an "id"`}, `{"time_ms":1327078148132,"events":[{"name":"member_added","channel":"presence-a","user_id":"an \"id\""}]}`, ""},
		{Event{Kind: MemberRemoved, Channel: "presence-a", UserID: "10"}, `{"time_ms":1327078148132,"events":[{"name":"member_removed","channel":"presence-a","user_id":"10"}]}`, ""},
		{Event{Kind: ClientEvent, Channel: "private-a", Name: "client-typing", Data: `{"name":"<Ann> & \"ä\""}`, SocketID: "12.34"},
			`{"time_ms":1327078148132,"events":[{"name":"client_event","channel":"private-a","event":"client-typing","data":"{\"name\":\"<Ann> & \\\"ä\\\"\"}","socket_id":"12.34"}]}`, ""},
		{Event{Kind: ClientEvent, Channel: "presence-a", Name: "client-typing", Data: `"just \"text\""`, Text: true, SocketID: "12.34", UserID: "10"},
			`{"time_ms":1327078148132,"events":[{"name":"client_event","channel":"presence-a","event":"client-typing","data":"just \"text\"","socket_id":"12.34","user_id":"10"}]}`, ""},
		{Event{Kind: CacheMiss, Channel: "cache-a"}, `{"time_ms":1327078148132,"events":[{"name":"cache_miss","channel":"cache-a"}]}`, ""},
		{Event{Kind: SubscriptionCount, Channel: "a"}, `{"time_ms":1327078148132,"events":[{"name":"subscription_count","channel":"a","subscription_count":0}]}`, ""},
		{Event{Kind: SubscriptionCount, Channel: "a", Count: 123}, `{"time_ms":1327078148132,"events":[{"name":"subscription_count","channel":"a","subscription_count":123}]}`, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Endpoint{URL: "https://a/hook?token=1", Headers: map[string]string{"authorization": "Bearer x"}})
			defer r.ends()
			c.ev.Time = at
			r.Add(c.ev)
			time.Sleep(grace)
			got := r.arrived("a")
			if len(got) != 1 || got[0].body != c.body {
				t.Fatalf("arrived:\n%+v\nand should:\n%s", got, c.body)
			}
			if c.sign == "" {
				c.sign = auth.SignWebhook(docKey.Secret, []byte(c.body))
			}
			want := http.Header{
				"Content-Type": {"application/json"}, "X-Pusher-Key": {docKey.Key}, "X-Pusher-Signature": {c.sign},
				"Authorization": {"Bearer x"}, "User-Agent": {"realtime"},
			}
			if !reflect.DeepEqual(got[0].header, want) {
				t.Errorf("the headers are\n%v\nand should be\n%v", got[0].header, want)
			}
			if err := auth.VerifyWebhook(got[0].header, []byte(got[0].body), auth.AppKeys{ID: "3", Keys: []auth.Key{docKey}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAReturnWithinTheGraceIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.add(ChannelOccupied, "presence-a", "")
		r.add(MemberAdded, "presence-a", "1")
		r.after(10 * time.Second)
		r.arrived("a")
		r.add(MemberRemoved, "presence-a", "1")
		r.add(ChannelVacated, "presence-a", "")
		r.after(2999 * time.Millisecond)
		r.add(ChannelOccupied, "presence-a", "")
		r.add(MemberAdded, "presence-a", "2") // another user: the first one is still away
		r.want("a", "12.999: member_added presence-a/2")
		r.after(time.Millisecond)
		r.want("a", "13: member_removed presence-a/1")
		r.add(MemberAdded, "presence-a", "1")
		r.want("a", "13: member_added presence-a/1")
		// Away for longer, twice, with a return in between.
		r.add(MemberRemoved, "presence-a", "2")
		r.after(time.Second)
		r.add(MemberAdded, "presence-a", "2")
		r.after(time.Second)
		r.add(MemberRemoved, "presence-a", "2") // at 15
		r.add(MemberRemoved, "presence-a", "1")
		r.add(ChannelVacated, "presence-a", "")
		r.after(2999 * time.Millisecond)
		r.want("a")
		r.after(time.Millisecond)
		got := r.arrived("a")
		if len(got) == 0 || !strings.HasPrefix(got[0].body, fmt.Sprintf(`{"time_ms":%d,`, r.start.Add(15*time.Second).UnixMilli())) {
			t.Errorf("the time told is not that of the departure: %+v", got)
		}
		r.add(ChannelOccupied, "presence-a", "")
		r.want("a", "18: channel_occupied presence-a")
		r.after(time.Hour)
		r.want("a")
		r.ends()
		r.want("a")
	})
}

func TestDeparturesAreToldInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.add(MemberRemoved, "presence-a", "1")
		r.add(ChannelVacated, "presence-a", "")
		r.add(ChannelVacated, "b", "")
		r.after(time.Second)
		r.add(ChannelVacated, "c", "")
		r.add(ChannelOccupied, "b", "")
		r.after(5 * time.Second)
		r.want("a", "3: member_removed presence-a/1", "3: channel_vacated presence-a", "4: channel_vacated c")
		r.ends()
	})
}

func TestWhatQueuesGoesInOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.answer("a", func(req *http.Request) (int, error) { time.Sleep(time.Second); return 204, nil })
		var want []string
		for i := range 250 {
			r.add(ChannelOccupied, fmt.Sprint("c", i), "")
			want = append(want, fmt.Sprint("c", i))
			if i == 0 {
				synctest.Wait() // its request is under way
			}
		}
		r.wantStats(Stats{URL: "http://a", Waiting: 250})
		r.after(time.Minute)
		var sizes []int
		var got []string
		for i, q := range r.arrived("a") {
			if at := q.at.Sub(r.start); at != time.Duration(i)*time.Second {
				t.Errorf("request %d came at %v, not when the former was done", i, at)
			}
			n := strings.Count(q.body, `"name"`)
			sizes = append(sizes, n)
			for _, part := range strings.Split(q.body, `"channel":"`)[1:] {
				name, _, _ := strings.Cut(part, `"`)
				got = append(got, name)
			}
		}
		if !reflect.DeepEqual(sizes, []int{1, 100, 100, 49}) {
			t.Errorf("the requests hold %v events", sizes)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the order is %v", got)
		}
		r.wantStats(Stats{URL: "http://a", Sent: 250})
		// The time of a request is that of its earliest event.
		r.add(ChannelOccupied, "x", "")
		synctest.Wait()
		r.Add(Event{Kind: ChannelOccupied, Time: time.UnixMilli(3000), Channel: "y"})
		r.Add(Event{Kind: CacheMiss, Time: time.UnixMilli(2000), Channel: "y"})
		r.Add(Event{Kind: ChannelOccupied, Time: time.UnixMilli(4000), Channel: "z"})
		r.after(time.Minute)
		all := r.arrived("a")
		if last := all[len(all)-1].body; last != `{"time_ms":2000,"events":[{"name":"channel_occupied","channel":"y"},{"name":"cache_miss","channel":"y"},{"name":"channel_occupied","channel":"z"}]}` {
			t.Errorf("the second request is %s", last)
		}
		r.ends()
	})
}

func TestLargeEventsMakeSmallRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.answer("a", func(req *http.Request) (int, error) { time.Sleep(time.Second); return 200, nil })
		r.add(ChannelOccupied, "first", "")
		synctest.Wait()
		for _, kib := range []int{100, 100, 100, 300, 1} {
			r.Add(Event{Kind: ClientEvent, Time: time.Now(), Channel: "private-a", Name: "client-x", Data: strings.Repeat("1", kib<<10)})
		}
		r.after(time.Minute)
		var sizes []int
		for _, q := range r.arrived("a") {
			sizes = append(sizes, len(q.body)>>10)
		}
		if !reflect.DeepEqual(sizes, []int{0, 200, 100, 300, 1}) {
			t.Errorf("the requests have %v KiB", sizes)
		}
		r.ends()
	})
}

func TestAFailedRequestIsRepeatedForFiveMinutes(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*http.Request) (int, error)
		takes  time.Duration // an attempt
		says   string
	}{
		"500":          {answers(500), 0, `error="the answer is \"500 Internal Server Error\""`},
		"a redirect":   {answers(302), 0, `error="the answer is \"302 Found\""`},
		"404":          {answers(404), 0, `error="the answer is \"404 Not Found\""`},
		"no network":   {func(*http.Request) (int, error) { return 0, errors.New("connection refused") }, 0, `error="connection refused"`},
		"no answer":    {hangs, 5 * time.Second, `error="no answer within 5s"`},
		"a late error": {func(*http.Request) (int, error) { time.Sleep(4 * time.Second); return 503, nil }, 4 * time.Second, `error="the answer is \"503 Service Unavailable\""`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Endpoint{URL: "http://a/x?token=hush"})
				r.answer("a", c.answer)
				r.add(ChannelOccupied, "a", "")
				time.Sleep(5*time.Minute - 1)
				got := r.arrived("a")
				if n := r.Stats()[0]; n.Waiting != 1 || n.Dropped != 0 || int(n.Retried) != len(got)-1 {
					t.Fatalf("the statistics are %+v after %d attempts", n, len(got))
				}
				if len(got) < 10 {
					t.Errorf("only %d attempts", len(got))
				}
				backoff := firstBackoff
				for i, q := range got {
					if q.body != got[0].body || !reflect.DeepEqual(q.header, got[0].header) {
						t.Errorf("attempt %d is not as the first", i+1)
					}
					if i == 0 {
						continue
					}
					if wait := q.at.Sub(got[i-1].at) - c.takes; wait < backoff/2 || wait > backoff*3/2 {
						t.Errorf("attempt %d comes %v after the former, and should after about %v", i+1, wait, backoff)
					}
					backoff = min(2*backoff, 30*time.Second)
				}
				// A last attempt, and it is given up; the next event has five minutes of its own.
				r.after(1)
				if last := r.arrived("a"); len(last) != 1 || last[0].at != r.start.Add(5*time.Minute) {
					if !(c.takes > 0 && len(last) == 0) { // one was under way when the time ended
						t.Errorf("the last attempts are %+v", last)
					}
				}
				r.after(10 * time.Second)
				if n := r.Stats()[0]; n.Waiting != 0 || n.Dropped != 1 || n.Sent != 0 {
					t.Errorf("the statistics are %+v", n)
				}
				r.arrived("a")
				r.add(ChannelOccupied, "b", "")
				r.after(time.Minute)
				if n := r.Stats()[0]; n.Waiting != 1 || n.Dropped != 1 {
					t.Errorf("the statistics are %+v", n)
				}
				r.answer("a", nil)
				r.ends()
				if n := r.Stats()[0]; n.Waiting != 0 || n.Dropped != 1 || n.Sent != 1 {
					t.Errorf("the statistics are %+v", n)
				}
				lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
				want := "level=WARN msg=\"a webhook failed, and is tried again for five minutes\" app=3 url=http://a/x?*** events=1 attempts=1 " + c.says
				if len(lines) != 3 || lines[0] != want || lines[2] != want || !strings.HasPrefix(lines[1], "level=ERROR msg=\"events for a webhook are lost because it failed for five minutes\" app=3 url=http://a/x?*** events=1 attempts=") {
					t.Errorf("the log is\n%s", r.log.String())
				}
				if strings.Contains(r.log.String(), "hush") {
					t.Error("the log shows the URL's query")
				}
			})
		})
	}
}

func TestAnotherKeySignsWhatIsYetToBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.answer("a", answers(500))
		r.add(ChannelOccupied, "a", "")
		synctest.Wait()
		next := auth.Key{Key: "next", Secret: "its secret"}
		r.SetKey(next)
		r.add(ChannelOccupied, "b", "")
		r.after(5 * time.Second)
		r.answer("a", nil)
		r.after(time.Minute)
		keys := map[string]bool{}
		for _, q := range r.arrived("a") {
			key := docKey // a request that is repeated stays what it was
			if strings.Contains(q.body, `"b"`) {
				key = next
			}
			if err := auth.VerifyWebhook(q.header, []byte(q.body), auth.AppKeys{Keys: []auth.Key{key}}); err != nil {
				t.Errorf("%s: %v", q.body, err)
			}
			keys[key.Key] = true
		}
		if len(keys) != 2 {
			t.Errorf("the keys are %v", keys)
		}
		r.ends()
	})
}

func TestAnEndpointThatRecoversLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"}, Endpoint{URL: "http://b"})
		r.answer("a", hangs)
		for i := range 290 {
			r.add(ChannelOccupied, fmt.Sprint("c", i), "")
			r.after(time.Second)
			r.want("b", fmt.Sprintf("%d: channel_occupied c%d", i, i)) // at once: nobody waits for another
		}
		r.answer("a", nil)
		r.after(time.Minute)
		if n := r.Stats(); n[0].Sent != 290 || n[0].Dropped != 0 || n[1] != (Stats{URL: "http://b", Sent: 290}) {
			t.Errorf("the statistics are %+v", n)
		}
		r.ends()
	})
}

func TestAFullQueueDropsTheNewestAndCountsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"}, Endpoint{URL: "http://b"})
		r.answer("a", answers(500))
		for i := range maxWaiting + 7 {
			r.add(ChannelOccupied, fmt.Sprint("c", i), "")
			if i%1000 == 0 {
				synctest.Wait() // the other endpoint takes what it got
			}
		}
		if n := r.Stats()[0]; n.Waiting != maxWaiting || n.Dropped != 7 || n.Sent != 0 {
			t.Errorf("the statistics are %+v", n)
		}
		r.after(59 * time.Second)
		r.add(ChannelOccupied, "x", "")
		r.after(2 * time.Second)
		r.add(ChannelOccupied, "y", "") // the log is told again
		r.add(ChannelOccupied, "z", "")
		r.answer("a", nil)
		r.after(time.Hour)
		synctest.Wait()
		n := r.Stats()
		n[0].Retried = 0
		want := []Stats{{URL: "http://a", Sent: maxWaiting, Dropped: 10}, {URL: "http://b", Sent: maxWaiting + 10}}
		if !reflect.DeepEqual(n, want) {
			t.Errorf("the statistics are %+v", n)
		}
		var names int
		for _, q := range r.arrived("a") {
			if q.at.Sub(r.start) > 61*time.Second {
				names += strings.Count(q.body, `"name"`)
			}
			if strings.Contains(q.body, `"x"`) {
				t.Error("an event arrived that was counted as lost")
			}
		}
		if names != maxWaiting {
			t.Errorf("%d events arrived", names)
		}
		r.ends()
		want2 := "level=ERROR msg=\"events for a webhook are lost because too many wait\" app=3 url=http://a waiting=10000 lost="
		if got := strings.Count(r.log.String(), "too many wait"); got != 2 || !strings.Contains(r.log.String(), want2+"1\n") || !strings.Contains(r.log.String(), want2+"9\n") {
			t.Errorf("the log is\n%s", r.log.String())
		}
	})
}

func TestTheQueueIsBoundInBytesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.answer("a", answers(500))
		ev := Event{Kind: ClientEvent, Time: time.Now(), Channel: "private-a", Name: "client-x", Data: `"` + strings.Repeat("1", 1<<20) + `"`, Text: true}
		for range 40 {
			r.Add(ev)
		}
		r.add(ChannelOccupied, "small", "")
		if n := r.Stats()[0]; n.Waiting != 32 || n.Dropped != 9 { // 31 large ones and the small one
			t.Errorf("the statistics are %+v", n)
		}
		r.answer("a", nil)
		r.after(time.Minute)
		r.Add(ev)
		r.after(time.Minute)
		if n := r.Stats()[0]; n.Waiting != 0 || n.Sent != 33 {
			t.Errorf("the statistics are %+v", n)
		}
		r.ends()
	})
}

func TestAnEmptyCacheIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a", Events: []string{"cache_miss"}})
		for range 3 {
			r.add(CacheMiss, "cache-a", "")
		}
		r.add(CacheMiss, "cache-b", "")
		r.want("a", "0: cache_miss cache-a", "0: cache_miss cache-b")
		// A short absence changes nothing.
		r.add(ChannelVacated, "cache-a", "")
		r.after(time.Second)
		r.add(ChannelOccupied, "cache-a", "")
		r.add(CacheMiss, "cache-a", "")
		r.after(10 * time.Second)
		r.want("a")
		// Filled, and empty again.
		r.Filled("cache-a")
		r.add(CacheMiss, "cache-a", "")
		r.add(CacheMiss, "cache-a", "")
		r.add(CacheMiss, "cache-b", "")
		r.want("a", "11: cache_miss cache-a")
		// Nobody there any more, for good.
		r.add(ChannelVacated, "cache-a", "")
		r.after(10 * time.Second)
		r.add(ChannelOccupied, "cache-a", "")
		r.add(CacheMiss, "cache-a", "")
		r.want("a", "21: cache_miss cache-a")
		r.ends()
	})
}

func TestEndpointsGetWhatTheyWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t,
			Endpoint{URL: "http://all"},
			Endpoint{URL: "http://members", Events: []string{"member_added", "member_removed"}},
			Endpoint{URL: "http://orders", Channels: []string{"private-orders.*", "*-news"}},
			Endpoint{URL: "http://both", Events: []string{"channel_occupied", "client_event"}, Channels: []string{"presence-*"}},
		)
		for _, host := range []string{"all", "members", "orders", "both"} {
			r.answer(host, func(*http.Request) (int, error) { time.Sleep(time.Second); return 200, nil })
		}
		r.add(ChannelOccupied, "a", "")
		r.add(ChannelOccupied, "presence-a", "")
		r.add(MemberAdded, "presence-a", "1")
		r.add(ChannelOccupied, "private-orders.1", "")
		r.add(ChannelOccupied, "the-news", "")
		r.add(ChannelOccupied, "the-news-2", "")
		r.Add(Event{Kind: ClientEvent, Time: time.Now(), Channel: "presence-a", UserID: "1", Name: "client-x", Data: "1"})
		r.after(time.Minute)
		bodies := map[string]string{}
		for _, host := range []string{"all", "members", "orders", "both"} {
			for _, q := range r.arrived(host) {
				bodies[host] += q.body
				if err := auth.VerifyWebhook(q.header, []byte(q.body), auth.AppKeys{ID: "3", Keys: []auth.Key{docKey}}); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
		}
		for host, want := range map[string]string{
			"all":     "a presence-a presence-a private-orders.1 the-news the-news-2 presence-a",
			"members": "presence-a",
			"orders":  "private-orders.1 the-news",
			"both":    "presence-a presence-a",
		} {
			var got []string
			for _, part := range strings.Split(bodies[host], `"channel":"`)[1:] {
				name, _, _ := strings.Cut(part, `"`)
				got = append(got, name)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s got %v", host, got)
			}
		}
		r.ends()
	})
}

func TestShutdownDeliversWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"}, Endpoint{URL: "http://b"})
		r.answer("a", answers(500))
		r.add(ChannelOccupied, "a", "")
		r.after(100 * time.Second) // the next attempt is far away
		r.arrived("a")
		r.arrived("b")
		r.answer("a", nil)
		r.add(MemberRemoved, "presence-a", "1") // within its grace
		r.add(ChannelVacated, "presence-a", "")
		r.ends()
		if now := time.Since(r.start); now != 100*time.Second {
			t.Errorf("it took until %v", now)
		}
		r.want("a", "100: channel_occupied a", "100: member_removed presence-a/1", "100: channel_vacated presence-a")
		n := r.Stats()
		n[0].Retried = 0
		if !reflect.DeepEqual(n, []Stats{{URL: "http://a", Sent: 3}, {URL: "http://b", Sent: 3}}) {
			t.Errorf("the statistics are %+v", n)
		}
		// Later events are lost, and counted.
		r.add(ChannelOccupied, "late", "")
		r.add(ChannelVacated, "late", "")
		r.after(time.Hour)
		if n := r.Stats(); n[0].Dropped != 2 || n[1].Dropped != 2 {
			t.Errorf("the statistics are %+v", n)
		}
		r.ends()
	})
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) (int, error){"fails": answers(500), "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Endpoint{URL: "http://a?hush"}, Endpoint{URL: "http://b"})
				r.answer("a", answer)
				for i := range 150 {
					r.add(ChannelOccupied, fmt.Sprint("c", i), "")
				}
				r.add(ChannelVacated, "c1", "")
				begin := time.Now()
				err := r.end(20 * time.Second)
				if fmt.Sprint(err) != "webhook: 151 events for http://a?*** were dropped, because it did not take them in time\ncontext deadline exceeded" || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown: %v", err)
				}
				if took := time.Since(begin); took != 20*time.Second {
					t.Errorf("it took %v", took)
				}
				n := r.Stats()
				n[0].Retried = 0
				if !reflect.DeepEqual(n, []Stats{{URL: "http://a?***", Dropped: 151}, {URL: "http://b", Sent: 151}}) {
					t.Errorf("the statistics are %+v", n)
				}
				r.ends() // again
			})
		})
	}
	t.Run("after five minutes at the latest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Endpoint{URL: "http://a"})
			r.answer("a", answers(500))
			r.add(ChannelOccupied, "a", "")
			r.after(time.Second)
			for i := range 250 {
				r.add(ChannelOccupied, fmt.Sprint("c", i), "")
			}
			begin := time.Now()
			if err := r.Shutdown(context.Background()); err == nil {
				t.Error("Shutdown says nothing of the events lost")
			}
			if took := time.Since(begin); took > 5*time.Minute {
				t.Errorf("it took %v", took)
			}
			if n := r.Stats()[0]; n.Dropped != 251 || n.Waiting != 0 {
				t.Errorf("the statistics are %+v", n)
			}
		})
	})
}

func TestDrainingEndsTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a"})
		r.add(ChannelVacated, "a", "")
		r.after(time.Second)
		r.want("a")
		r.Drain()
		r.want("a", "1: channel_vacated a")
		r.add(ChannelVacated, "b", "")
		r.want("a", "1: channel_vacated b")
		r.after(time.Hour)
		r.want("a")
		r.ends()
	})
}

func TestTheNumberOfDeparturesPutOffIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Endpoint{URL: "http://a", Channels: []string{"c0", "c1", "c2", "c3"}})
		for i := range maxLeaving + 3 {
			r.add(ChannelVacated, fmt.Sprint("c", i), "")
		}
		r.want("a", "0: channel_vacated c0", "0: channel_vacated c1", "0: channel_vacated c2") // early, and not lost
		r.add(ChannelOccupied, "c0", "")
		r.add(ChannelOccupied, "c3", "") // still in time
		r.want("a", "0: channel_occupied c0")
		r.after(time.Minute)
		r.want("a")
		if len(r.leaving) != 0 || r.byTime.Len() != 0 || r.armed {
			t.Errorf("%d departures are left", len(r.leaving))
		}
		r.ends()
	})
}

func TestOnTheWire(t *testing.T) {
	got := make(chan request, 10)
	status := make(chan int, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != "POST" || q.RequestURI != "/hooks?token=a%20b" || q.ContentLength < 0 {
			t.Errorf("the request is %s %s, %d bytes", q.Method, q.RequestURI, q.ContentLength)
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		got <- request{header: q.Header, body: string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(<-status)
	}))
	defer srv.Close()
	s := New(Config{App: "3", Key: docKey, Endpoints: []Endpoint{{URL: srv.URL + "/hooks?token=a%20b", Headers: map[string]string{"X-Tenant": "7"}}}, Logger: slog.New(slog.DiscardHandler)})
	status <- 307
	status <- 200
	s.Add(Event{Kind: ChannelOccupied, Time: time.UnixMilli(1327078148132), Channel: "my-channel"})
	<-got
	q := <-got // at the same address
	if q.body != `{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}` {
		t.Errorf("the body is %s", q.body)
	}
	want := http.Header{
		"Content-Length": {"87"}, "Content-Type": {"application/json"}, "User-Agent": {"realtime"}, "X-Tenant": {"7"},
		"X-Pusher-Key": {docKey.Key}, "X-Pusher-Signature": {"c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf"},
	}
	if !reflect.DeepEqual(q.header, want) {
		t.Errorf("the headers are\n%v\nand should be\n%v", q.header, want)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.Stats()[0]; n.Sent != 1 || n.Retried != 1 || n.Waiting != 0 {
		t.Errorf("the statistics are %+v", n)
	}
}

func TestCheck(t *testing.T) {
	const address = "url must be a whole http or https address, such as https://shop.example/webhooks"
	const types = "channel_occupied, channel_vacated, member_added, member_removed, client_event, cache_miss, subscription_count"
	for _, c := range []struct {
		e    Endpoint
		want []string
	}{
		{Endpoint{URL: "https://shop.example:8443/hooks?x=1", Events: Names[:], Channels: []string{"*"}, Headers: map[string]string{"X-Token": "a\tb", "Authorization": ""}}, nil},
		{Endpoint{}, []string{"url is missing"}},
		{Endpoint{URL: "shop.example/hooks"}, []string{address}},
		{Endpoint{URL: "/hooks"}, []string{address}},
		{Endpoint{URL: "ftp://shop.example"}, []string{address}},
		{Endpoint{URL: "http://"}, []string{address}},
		{Endpoint{URL: "http://a b"}, []string{address}},
		{Endpoint{URL: "https://me:hush@shop.example"}, []string{"url must not hold a user or password: credentials belong into headers"}},
		{Endpoint{URL: "http://a", Events: []string{"member_added", "member-added"}, Channels: []string{"a", "", "orders.{id}"}}, []string{
			`events[1] is "member-added", and must be one of ` + types,
			"channels[1] is empty: * stands for every channel",
			`channels[2] is "orders.{id}": parameters are for authorizers; here * stands for any characters`,
		}},
		{Endpoint{URL: "http://a", Headers: map[string]string{"": "1", "a b": "1", "content-type": "x", "X-Pusher-Signature": "x", "X-A": "1", "x-a": "2", "X-B": "1\r\nX: 2"}}, []string{
			"headers. is no name that a header can have",
			"headers.X-B has a control character in its value, such as a line's end",
			"headers.X-Pusher-Signature cannot be set: the server sends its own X-Pusher-Signature",
			"headers.a b is no name that a header can have",
			"headers.content-type cannot be set: the server sends its own Content-Type",
			"headers.x-a is there twice: headers' names are the same in capitals and in small letters",
		}},
	} {
		var got []string
		c.e.Check(func(key, format string, args ...any) { got = append(got, key+" "+fmt.Sprintf(format, args...)) })
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v:\n%s\nand should be\n%s", c.e, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestARedactedURLShowsNoSecret(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/x":                    "https://a.example/x",
		"https://a.example/x?token=hush":         "https://a.example/x?***",
		"https://me:hush@a.example/x?a=1#hush":   "https://a.example/x?***",
		"https://me:hush@a.example:port/x?a=b c": "***",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s is shown as %s", in, got)
		}
	}
}
