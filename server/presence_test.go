package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/modeltest"
)

// tab is a page of a user with pusher-js in it: what it knows of the members is what it was told.
type tab struct {
	*pusherPeer
	user  string
	here  map[string]bool
	asked bool // for the channel
}

// settle reads what is on its way to the tab.
func (tb *tab) settle(t *testing.T) {
	t.Helper()
	for range 2 { // in the first round the pong may overtake what was posted to the loop while it read
		tb.say(`{"event":"pusher:ping","data":{}}`)
		for {
			var f struct{ Event, Channel, Data string }
			text := tb.next()
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if f.Event == "pusher:pong" {
				break
			}
			var member struct {
				ID string `json:"user_id"`
			}
			var whole struct {
				Presence struct {
					Count int
					IDs   []string
					Hash  map[string]json.RawMessage
				}
			}
			switch f.Event {
			case "pusher_internal:subscription_succeeded":
				if err := json.Unmarshal([]byte(f.Data), &whole); err != nil {
					t.Fatal(err)
				}
				tb.here = map[string]bool{}
				for _, id := range whole.Presence.IDs {
					tb.here[id] = true
				}
				if p := whole.Presence; p.Count != len(p.IDs) || p.Count != len(tb.here) || p.Count != len(p.Hash) || !tb.here[tb.user] {
					t.Fatalf("%s is told that here are %s", tb.user, f.Data)
				}
			case "pusher_internal:member_added", "pusher_internal:member_removed":
				if err := json.Unmarshal([]byte(f.Data), &member); err != nil {
					t.Fatal(err)
				}
				added := strings.HasSuffix(f.Event, "added")
				if tb.here == nil || tb.here[member.ID] == added {
					t.Fatalf("%s, who knows of %v, is told %s", tb.user, slices.Sorted(maps.Keys(tb.here)), text)
				}
				if added {
					tb.here[member.ID] = true
				} else {
					delete(tb.here, member.ID)
				}
			default:
				t.Fatalf("%s gets %s", tb.user, text)
			}
		}
	}
}

// TestPresenceOfTabsThatComeAndGo: two users with three tabs each come, leave, are cut off and come back at random; here,
// joining, leaving and the hooks agree with a model at every step, and the webhooks whenever they are looked at.
func TestPresenceOfTabsThatComeAndGo(t *testing.T) {
	seed := modeltest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	steps := 10_000
	if testing.Short() {
		steps = 1000
	}
	const channel = "presence-room"
	var mu sync.Mutex
	told := map[string]bool{}   // guarded by mu: who is here, as the hooks tell it
	hooked := map[string]bool{} // guarded by mu: the same, as the webhooks tell it
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Events []struct {
				Name   string
				UserID string `json:"user_id"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("a webhook's body: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range body.Events {
			if hooked[e.UserID] == (e.Name == "member_added") {
				t.Errorf("webhook %s of %s, who is here: %v", e.Name, e.UserID, hooked[e.UserID])
			}
			hooked[e.UserID] = e.Name == "member_added"
		}
	}))
	t.Cleanup(endpoint.Close) // after the server, whose last webhooks it takes
	app := docApp()
	app.Webhooks = []Webhook{{URL: endpoint.URL, Events: []string{"member_added", "member_removed"}}}
	s := start(t, Config{Apps: []App{app}, grace: time.Millisecond, Hook: func(_ context.Context, e Event) {
		if e.Kind == MemberAdded || e.Kind == MemberRemoved {
			mu.Lock()
			defer mu.Unlock()
			if told[e.UserID] == (e.Kind == MemberAdded) {
				t.Errorf("%s of %s, who is here: %v", e.Kind, e.UserID, told[e.UserID])
			}
			told[e.UserID] = e.Kind == MemberAdded
		}
	}})
	users := []string{"ann", "ben"}
	tabs := make([]*tab, 6)
	join := func(tb *tab) {
		tb.subscribe(channel, fmt.Sprintf(`{"user_id":%q,"user_info":{"tab":%d}}`, tb.user, rnd.IntN(3)))
		tb.asked = true
	}
	for step := range steps {
		i := rnd.IntN(len(tabs))
		tb := tabs[i]
		switch {
		case tb == nil:
			tb = &tab{pusherPeer: s.dialPusher(""), user: users[i%2]}
			tabs[i] = tb
			if rnd.IntN(4) > 0 {
				join(tb)
			}
		case !tb.asked:
			join(tb)
		default:
			switch rnd.IntN(4) {
			case 0:
				join(tb) // again
			case 1:
				tb.say(`{"event":"pusher:unsubscribe","data":{"channel":"` + channel + `"}}`)
				tb.settle(t)
				tb.asked, tb.here = false, nil
			case 2:
				tb.Close(1000, "")
				tabs[i] = nil
			case 3:
				tb.WriteRaw([]byte{0xff, 0xff}) // no frame at all
				tabs[i] = nil
			}
		}
		want := map[string]bool{}
		open := 0
		for _, tb := range tabs {
			if tb != nil {
				open++
				if tb.asked {
					want[tb.user] = true
					tb.settle(t)
				}
			}
		}
		eventually(t, "those who left are gone", func() bool { return s.entered() == open && len(s.Members("", channel)) == len(want) })
		for _, tb := range tabs {
			if tb == nil {
				continue
			}
			tb.settle(t)
			if tb.asked && !maps.Equal(tb.here, want) {
				t.Fatalf("step %d: a tab of %s knows of %v, and here are %v", step, tb.user, slices.Sorted(maps.Keys(tb.here)), slices.Sorted(maps.Keys(want)))
			}
		}
		eventually(t, "the hooks have told it", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return told["ann"] == want["ann"] && told["ben"] == want["ben"]
		})
		if step%100 == 99 { // webhooks have a grace for who comes back, so they are looked at now and then
			eventually(t, "the webhooks have told it", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return hooked["ann"] == want["ann"] && hooked["ben"] == want["ben"]
			})
		}
	}
}
