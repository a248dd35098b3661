package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

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
// joining and leaving agree with a model at every step.
func TestPresenceOfTabsThatComeAndGo(t *testing.T) {
	seed := modeltest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	steps := 10_000
	if testing.Short() {
		steps = 1000
	}
	const channel = "presence-room"
	var mu sync.Mutex
	told := map[string]bool{} // guarded by mu: who is here, as the hooks tell it
	s := start(t, Config{Apps: []App{docApp()}, Hook: func(_ context.Context, e Event) {
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
	}
}
