package server

import (
	"bufio"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestXHRSequences publishes for clients of every habit, of which some lose interest, and checks that each of those that
// stay gets every message, once and in order, however often they ask anew.
func TestXHRSequences(t *testing.T) {
	seed := maphash.String(maphash.MakeSeed(), "")
	if v := os.Getenv("REALTIME_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REALTIME_SEED=%d", seed)
	messages := 1500
	if os.Getenv("REALTIME_SOAK") != "" {
		messages = 100_000
	} else if testing.Short() {
		messages = 400
	}
	chance := rand.New(rand.NewPCG(seed, 0))
	datas := make([]string, messages)
	texts := []string{"x", "ä", "漢", "😀", `\"`, `\n`, `\u2028`}
	for i := range datas {
		n := chance.IntN(300)
		switch chance.IntN(40) {
		case 0:
			n = chance.IntN(60_000)
		case 1:
			n = 0
		}
		text := texts[chance.IntN(len(texts))]
		datas[i] = fmt.Sprintf(`[%d,"%s"]`, i, strings.Repeat(text, n/len(text)))
	}
	onEach(t, func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: []App{docApp()}, Loops: 2, Limits: Limits{QueuedBytes: 1 << 30}})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var stay, all sync.WaitGroup
		for i := range 12 {
			c := &reader{
				want: datas, habit: habit(i % 4), chance: rand.New(rand.NewPCG(seed, uint64(i+1))),
				p: s.polling(fmt.Sprintf("session%d", i)),
			}
			c.ctx, c.giveUp = context.WithCancel(ctx)
			defer c.giveUp()
			c.p.say(c.p.subscription("public", ""))
			c.p.wantPoll(a(pusherSucceeded("public")))
			run := func() {
				defer all.Done()
				if err := c.run(); err != nil {
					t.Errorf("client %d, of habit %d: %v", i, c.habit, err)
					cancel()
				}
			}
			all.Add(1)
			if c.habit == leaves {
				go run()
			} else {
				stay.Add(1)
				go func() { defer stay.Done(); run() }()
			}
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i, data := range datas {
			if i%100 > 50 { // at times as fast as it goes
				<-tick.C
			}
			s.send(event("public", data))
		}
		stay.Wait()
		all.Wait()
		s.nothingLeft()
	})
}

type habit int

const (
	likePusher habit = iota // streams, and leaves a response where pusher-js does
	polls                   // polls
	restless                // asks anew whenever it likes, by streams and polls, and reads every response to its end
	leaves                  // goes away in the middle
)

// reader is a client that reads a channel.
type reader struct {
	ctx    context.Context
	giveUp context.CancelFunc
	p      *xhrPeer
	habit  habit
	chance *rand.Rand
	want   []string
	got    int
}

// answer is a response, or why there is none.
type answer struct {
	*http.Response
	err error
}

func (c *reader) ask(verb string) answer {
	r, err := http.NewRequestWithContext(c.ctx, "POST", c.p.then+verb, nil)
	if err != nil {
		return answer{nil, err}
	}
	resp, err := c.p.web.Do(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return answer{resp, err}
}

// verb is how the client asks next.
func (c *reader) verb() string {
	if c.habit == polls || c.habit == restless && c.chance.IntN(2) == 0 {
		return "/xhr"
	}
	return "/xhr_streaming"
}

// run reads as many messages as the client is interested in.
func (c *reader) run() error {
	until := len(c.want)
	if c.habit == leaves {
		until = c.chance.IntN(until / 2)
	}
	var next chan answer // asked already
	for c.got < until {
		var r answer
		if next != nil {
			r = <-next
			next = nil
		} else {
			r = c.ask(c.verb())
		}
		if r.err != nil {
			return fmt.Errorf("after %d messages: %w", c.got, r.err)
		}
		var err error
		if next, err = c.read(r.Response, until); err != nil {
			return fmt.Errorf("after %d messages: %w", c.got, err)
		}
	}
	if next != nil {
		c.giveUp()
		if r := <-next; r.Response != nil {
			r.Body.Close()
		}
	}
	c.p.leave() // what had an end, or was never begun
	return nil
}

// read reads one response, and checks what it brings. Restless clients have then asked for the next one.
func (c *reader) read(r *http.Response, until int) (next chan answer, err error) {
	defer r.Body.Close()
	patience := c.chance.IntN(30)
	units := 0
	b := bufio.NewReader(r.Body)
	for n := 0; ; n++ {
		if c.habit == restless && n == patience { // while this one is read to its end
			next = make(chan answer, 1)
			verb := c.verb()
			go func() { next <- c.ask(verb) }()
		}
		line, err := b.ReadString('\n')
		if err == io.EOF && line == "" {
			return next, nil
		}
		if err != nil {
			return next, fmt.Errorf("the response breaks off in %.80q: %w", line, err)
		}
		if c.got == len(c.want) {
			return next, fmt.Errorf("line %.200q is too many", line)
		}
		if want := a(`{"event":"E","channel":"public","data":`+inString(c.want[c.got])+`}`) + "\n"; line != want {
			return next, fmt.Errorf("line is %.200q and should be %.200q", line, want)
		}
		c.got++
		for _, char := range line {
			units++
			if char > 0xffff {
				units++
			}
		}
		if c.habit == likePusher && units > 256<<10 || c.habit != restless && c.habit != polls && c.got == until {
			return next, nil // without its end
		}
		if c.habit == restless && c.got == until && next == nil {
			return next, nil
		}
	}
}
