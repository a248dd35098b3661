package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stacksjs/realtime-go/internal/modeltest"
)

// world is what really happens: who is in which channel.
type world struct {
	rand    *rand.Rand
	rig     *rig
	members map[string][]string // a channel's connections, by their users
	changes map[place][]change  // of each place, in their order
}

// change is a place's becoming occupied, or not.
type change struct {
	at       time.Time
	occupied bool
}

func (w *world) tell(k Kind, channel, user string) {
	p := place{channel, user}
	w.changes[p] = append(w.changes[p], change{time.Now(), k == ChannelOccupied || k == MemberAdded})
	w.rig.add(k, channel, user)
}

// step lets somebody join or leave, in the hub's order of events.
func (w *world) step() {
	channel := fmt.Sprintf("presence-%c", 'a'+w.rand.IntN(6))
	user := strconv.Itoa(w.rand.IntN(3))
	in := w.members[channel]
	here := 0
	for _, u := range in {
		if u == user {
			here++
		}
	}
	if len(in) == 0 || w.rand.IntN(2) == 0 && len(in) < 4 {
		if len(in) == 0 {
			w.tell(ChannelOccupied, channel, "")
		}
		if here == 0 {
			w.tell(MemberAdded, channel, user)
		}
		w.members[channel] = append(in, user)
		return
	}
	i := w.rand.IntN(len(in))
	user = in[i]
	in = append(in[:i:i], in[i+1:]...)
	w.members[channel] = in
	if !strings.Contains(strings.Join(in, " "), user) {
		w.tell(MemberRemoved, channel, user)
	}
	if len(in) == 0 {
		w.tell(ChannelVacated, channel, "")
	}
}

// told is what should be told of a place: its changes, but absences shorter than the grace.
func told(changes []change) (out []change) {
	for _, c := range changes {
		if n := len(out); n > 0 && c.occupied && c.at.Sub(out[n-1].at) < grace {
			out = out[:n-1]
			continue
		}
		out = append(out, c)
	}
	return out
}

// occurrence is an event that arrived.
type occurrence struct {
	Name    string
	Channel string
	UserID  string `json:"user_id"`
}

func (o occurrence) occupies() bool { return o.Name == "channel_occupied" || o.Name == "member_added" }

// TestModel lets chance move users in and out of channels, while endpoints answer, dawdle, fail and hang, and compares
// what each is told with a model that knows neither timers nor queues.
func TestModel(t *testing.T) {
	s := modeltest.Seed(t)
	steps := 5000
	if os.Getenv("REALTIME_SOAK") != "" {
		steps = 200_000
	} else if testing.Short() {
		steps = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		names := []string{"quick", "slow", "flaky", "some", "dead"}
		var endpoints []Endpoint
		for _, n := range names {
			endpoints = append(endpoints, Endpoint{URL: "http://" + n})
		}
		endpoints[3].Events, endpoints[3].Channels = []string{"member_added", "member_removed"}, []string{"presence-a", "*-d"}
		r := newRig(t, endpoints...)
		r.cfg.Logger = slog.New(slog.DiscardHandler)
		var chance [2]*rand.Rand // of each endpoint's own
		for i := range chance {
			chance[i] = rand.New(rand.NewPCG(s, uint64(i)+1))
		}
		r.answer("slow", func(*http.Request) (int, error) {
			time.Sleep(time.Duration(chance[0].IntN(4900)) * time.Millisecond)
			return 200, nil
		})
		r.answer("dead", answers(500))
		// The flaky one is away for up to four minutes, and between that fails, but not twice: each request has its chance
		// within five minutes.
		var away, here time.Time
		failed := false
		r.answer("flaky", func(q *http.Request) (int, error) {
			now := time.Now()
			if now.After(here) {
				away = now.Add(time.Duration(chance[1].IntN(240)) * time.Second)
				here = away.Add(time.Minute + time.Duration(chance[1].IntN(240))*time.Second)
			}
			failed = now.Before(away) || !failed && chance[1].IntN(3) == 0
			if !failed {
				return 201, nil
			}
			if chance[1].IntN(2) == 0 {
				return hangs(q)
			}
			return 429, nil
		})

		w := &world{rand: rand.New(rand.NewPCG(s, 0)), rig: r, members: map[string][]string{}, changes: map[place][]change{}}
		for range steps {
			pause := time.Duration(w.rand.IntN(400_000)) * time.Microsecond
			if w.rand.IntN(10) == 0 {
				pause *= 20
			}
			time.Sleep(pause + 1) // one more, so that no absence lasts exactly as long as the grace
			w.step()
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()

		stats := map[string]Stats{}
		for i, st := range r.Stats() {
			stats[names[i]] = st
		}
		// What each was told, but for requests that it refused. Those it took, and did not say so, there are none of.
		all := map[string][]occurrence{}
		r.mu.Lock()
		for _, name := range names {
			last := ""
			for _, q := range r.got[name] {
				if q.body == last && name == "flaky" {
					continue // repeated
				}
				last = q.body
				var b struct {
					TimeMS int64 `json:"time_ms"`
					Events []occurrence
				}
				if err := json.Unmarshal([]byte(q.body), &b); err != nil {
					t.Fatalf("%v in %s", err, q.body)
				}
				all[name] = append(all[name], b.Events...)
				if name == "quick" {
					// Others' troubles do not reach it: at once, or at the end of the grace.
					want := time.Duration(0)
					if !b.Events[0].occupies() {
						want = grace
					}
					if late := q.at.Sub(time.UnixMilli(b.TimeMS)); late < want || late >= want+time.Millisecond {
						t.Errorf("an event arrived after %v, not %v: %s", late, want, q.body)
					}
				}
			}
		}
		r.mu.Unlock()
		check := func(name string, wanted func(place) bool) {
			got := map[place][]bool{}
			for _, o := range all[name] {
				p := place{o.Channel, o.UserID}
				got[p] = append(got[p], o.occupies())
			}
			want, n := map[place][]bool{}, 0
			for p, changes := range w.changes {
				for _, c := range told(changes) {
					if wanted(p) {
						want[p] = append(want[p], c.occupied)
						n++
					}
				}
			}
			for p, seq := range got {
				for i, occupied := range seq {
					if occupied != (i%2 == 0) {
						t.Errorf("%s: %v is %v twice", name, p, occupied)
						break
					}
				}
				user := p.user
				is := len(w.members[p.channel]) > 0
				if user != "" {
					is = strings.Contains(strings.Join(w.members[p.channel], " "), user)
				}
				if seq[len(seq)-1] != is {
					t.Errorf("%s: %v is %v at rest, and was told to be %v", name, p, is, !is)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s was told other changes than there were", name)
			}
			if st := stats[name]; st.Sent != int64(n) || st.Dropped != 0 || st.Waiting != 0 {
				t.Errorf("%s: %d events, and the statistics are %+v", name, n, st)
			}
			if n < steps/40 {
				t.Errorf("%s: only %d events", name, n)
			}
		}
		every := func(place) bool { return true }
		for _, name := range names[:3] {
			check(name, every)
			if !reflect.DeepEqual(all[name], all["quick"]) {
				t.Errorf("%s was told in another order", name)
			}
		}
		check("some", func(p place) bool { return p.user != "" && (p.channel == "presence-a" || p.channel == "presence-d") })
		if st := stats["dead"]; st.Sent != 0 || st.Dropped == 0 || int(st.Dropped)+st.Waiting != len(all["quick"]) {
			t.Errorf("dead: %d events, and the statistics are %+v", len(all["quick"]), st)
		}
		if stats["flaky"].Retried == 0 || stats["quick"].Retried != 0 {
			t.Errorf("the statistics are %+v", stats)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err, waiting := r.Shutdown(ctx), stats["dead"].Waiting; (err != nil) != (waiting > 0) {
			t.Errorf("%d events of the dead endpoint wait, and Shutdown says %v", waiting, err)
		}
		if st := r.Stats()[4]; st.Waiting != 0 || int(st.Dropped) != len(all["quick"]) {
			t.Errorf("dead: the statistics are %+v", st)
		}
	})
}
