// Package drivertest is the suite every driver runs: the sentences of realtime.Driver's contract, each a
// subtest.
package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go"
)

// Channels are all the channels the suite sends to. A far end made of clients subscribes to each of them
// before New returns.
var Channels = []string{"drivertest.a", "drivertest.b", "private-drivertest.c"}

// MaxWaiting is the most messages, counted once per channel, that the suite sends before it calls next.
const MaxWaiting = 1500

// Harness builds a driver and a way to see what came out at its far end. What it starts ends with the subtest it is
// given, by t.Cleanup.
type Harness struct {
	// New builds a fresh driver for one subtest, and next, which waits for the next message at the far end
	// and fails t when none comes. A nil next is a driver without a far end: what needs one is skipped.
	//
	// The suite looks at a message's Channels, Event, Data, ExceptSockets and ExceptUsers, and calls next on
	// the subtest's goroutine. The far end keeps up to MaxWaiting messages for it.
	New func(t *testing.T) (d realtime.Driver, next func() realtime.Message)
	// PerChannel says that a message to several channels arrives as one per channel, each with that channel
	// in Channels, and in any order: what clients see. Otherwise it arrives as one, with all its channels.
	PerChannel bool
	// NoExcept says that the messages at the far end do not tell who is left out. Where clients are the far end,
	// Listeners shows it by who hears.
	NoExcept bool
	// Listeners builds a fresh driver whose far end are clients: one for each of users, whose identity it has, "" being
	// nobody's. Each is subscribed to all of Channels before Listeners returns, and keeps up to MaxWaiting messages. Nil
	// is a driver whose clients are out of reach: what is about who hears is skipped.
	Listeners func(t *testing.T, users []string) (realtime.Driver, []Listener)
	// JavaScript says that a program in JavaScript reads the data and writes it anew on its way. It then arrives with the same
	// value in place of the same bytes, and its numbers are JavaScript's.
	JavaScript bool
	// MaxData is the most bytes of data that arrive whole. Zero is no limit the suite would reach.
	MaxData int
}

// Listener is one client at a driver's far end.
type Listener struct {
	// SocketID is its connection's, "123.456".
	SocketID string
	// Next waits for the next message it hears, with its one channel in Channels, and fails t when none comes. It is
	// called on the subtest's goroutine.
	Next func() realtime.Message
}

// users are those of the listeners the suite asks for.
var users = []string{"ada", "ada", "grace", ""}

// Run runs the suite, one subtest a sentence. What a Harness leaves out is skipped, and said.
func Run(t *testing.T, h Harness) {
	for _, c := range contract {
		t.Run(strings.ReplaceAll(c.sentence, " ", "_"), func(t *testing.T) {
			e := end{TB: t, h: h}
			if c.needs == listeners {
				if h.Listeners == nil {
					t.Skip("the driver's clients are out of reach")
				}
				e.d, e.all = h.Listeners(t, slices.Clone(users))
				if len(e.all) != len(users) {
					t.Fatalf("the harness made %d listeners for %d users", len(e.all), len(users))
				}
				c.check(e)
				return
			}
			e.d, e.next = h.New(t)
			if c.needs != nothing && e.next == nil {
				t.Skip("the driver has no far end to look at")
			}
			if c.needs == excepts && h.NoExcept {
				t.Skip("the far end's messages do not tell who is left out")
			}
			c.check(e)
		})
	}
}

// end is what a check works with. It fails by t.Fatalf, from the subtest's goroutine only.
type end struct {
	testing.TB
	h    Harness
	d    realtime.Driver
	next func() realtime.Message
	all  []Listener // one for each of users
}

// need is what a check looks at.
type need int

const (
	nothing need = iota
	farEnd
	excepts   // the far end, and who is left out
	listeners // clients
)

var contract = []struct {
	sentence string
	needs    need
	check    func(end)
}{
	{"event, channel and data arrive byte for byte", farEnd, checkBytes},
	{"a message arrives on each of its channels", farEnd, checkChannels},
	{"exclusions arrive, or Send refuses them", excepts, checkExcept},
	{"who is left out does not hear, and everybody else does", listeners, checkHearers},
	{"the socket id of another server leaves nobody out", listeners, checkStranger},
	{"a user's message reaches that user's connections only", listeners, checkUser},
	{"one goroutine's messages stay in order per channel", farEnd, checkOrder},
	{"concurrent sends are neither lost nor doubled", farEnd, checkConcurrent},
	{"an ended ctx is an error, and nothing is sent", nothing, checkContext},
	{"the message is neither changed nor kept", nothing, checkMessage},
}

func checkBytes(e end) {
	for _, m := range []realtime.Message{
		message("plain", `{"orderId":"12345","totalAmount":99.99}`),
		message("white space", "{ \"a\" :\t[ 1,\n2 ] }"),
		message("unicode ü 漢 🚚", `{"naïve":"漢字 🚚","escaped":"\u00fc\ud83d\ude9a","separator":"`+"\u2028"+`"}`),
		message(`App\Events\OrderShipped`, `"backslash \\ and quote \""`),
		message("big numbers", `[12345678901234567890,1.0,1e400,0.1000000000000000055511151231257827,-0]`),
		message("html <>&", `"</script>&amp;<!--"`),
		message("empty string", `""`),
		message("null", `null`),
		message("number", `5`),
		message("string that looks like JSON", `"{\"a\":1}"`),
		message("order and doubles of keys", `{"b":1,"a":2,"b":3}`),
		message("9 KiB", `"`+strings.Repeat("x", 9<<10-2)+`"`),
		message(strings.Repeat("e", 200), `{}`),
	} {
		if e.h.MaxData > 0 && len(m.Data) > e.h.MaxData {
			e.Logf("event %q left out: %d bytes of data are more than %d", m.Event, len(m.Data), e.h.MaxData)
			continue
		}
		e.send(m)
		e.want(m)
	}
}

func checkChannels(e end) {
	m := message("several", `1`)
	m.Channels = slices.Clone(Channels)
	e.send(m)
	if e.h.PerChannel {
		left := slices.Clone(Channels)
		for range Channels {
			got := e.next()
			i := -1
			if len(got.Channels) == 1 {
				i = slices.Index(left, got.Channels[0])
			}
			if i < 0 {
				e.Fatalf("a message arrived on %q; still awaited on %q, one each", got.Channels, left)
			}
			want := m
			want.Channels = left[i : i+1]
			e.compare(got, want)
			left = slices.Delete(left, i, i+1)
		}
	} else {
		e.want(m)
	}
	e.wantNothing()
}

func checkExcept(e end) {
	for _, tt := range []struct{ sockets, users []string }{
		{sockets: []string{"123.456"}},
		{sockets: []string{"123.456", "7.8"}},
		{users: []string{"ada"}},
		{users: []string{"ada", "grace"}, sockets: []string{"123.456"}},
	} {
		m := message("except", `1`)
		m.ExceptSockets, m.ExceptUsers = tt.sockets, tt.users
		sent := clone(m)
		if err := e.d.Send(e.Context(), &sent); err != nil {
			e.Logf("sockets %q and users %q are refused: %v", tt.sockets, tt.users, err)
			continue
		}
		e.want(m)
	}
	e.wantNothing()
}

func checkHearers(e end) {
	const ada1, ada2, grace, nobody = 0, 1, 2, 3
	for i, tt := range []struct {
		sockets []string
		users   []string
		hear    []int
	}{
		{hear: []int{ada1, ada2, grace, nobody}},
		{sockets: []string{e.all[ada1].SocketID}, hear: []int{ada2, grace, nobody}},
		{sockets: []string{e.all[nobody].SocketID, e.all[grace].SocketID}, hear: []int{ada1, ada2}},
		{users: []string{"ada"}, hear: []int{grace, nobody}},
		{users: []string{"grace"}, sockets: []string{e.all[ada2].SocketID}, hear: []int{ada1, nobody}},
		{users: []string{"ada", "grace"}, sockets: []string{e.all[nobody].SocketID}},
		{users: []string{"nobody"}, sockets: []string{"0.0"}, hear: []int{ada1, ada2, grace, nobody}},
	} {
		m := message("left out", fmt.Sprint(i))
		m.ExceptSockets, m.ExceptUsers = tt.sockets, tt.users
		sent := clone(m)
		if err := e.d.Send(e.Context(), &sent); err != nil {
			e.Logf("sockets %q and users %q are refused: %v", tt.sockets, tt.users, err)
			continue
		}
		m.ExceptSockets, m.ExceptUsers = nil, nil
		for _, l := range tt.hear {
			e.listener(l).want(m)
		}
	}
	e.wantNothing()
}

func checkStranger(e end) {
	m := message("left out", `1`)
	m.ExceptSockets = []string{"aStrangers_Socket-Id", "4294967295.4294967295"}
	e.send(m)
	m.ExceptSockets = nil
	for i := range e.all {
		e.listener(i).want(m)
	}
	e.wantNothing()
}

func checkUser(e end) {
	for i, tt := range []struct {
		user string
		hear []int
	}{
		{"ada", []int{0, 1}},
		{"grace", []int{2}},
		{"nobody", nil},
	} {
		m := message("to a user", fmt.Sprint(i))
		m.Channels = []string{"#server-to-user-" + tt.user}
		e.send(m)
		for _, l := range tt.hear {
			e.listener(l).want(m)
		}
	}
	e.wantNothing()
}

// listener is the end of one client.
func (e end) listener(i int) end {
	e.next, e.all = e.all[i].Next, nil
	e.TB = named{e.TB, fmt.Sprintf("listener %d of user %q: ", i, users[i])}
	return e
}

// named says whose failure it is.
type named struct {
	testing.TB
	name string
}

func (n named) Fatalf(format string, args ...any) {
	n.Helper()
	n.TB.Fatalf("%s"+format, append([]any{n.name}, args...)...)
}

func checkOrder(e end) {
	const messages = 1000
	for i := range messages {
		m := message("order", fmt.Sprint(i))
		m.Channels = Channels[i%2 : i%2+1]
		e.send(m)
	}
	expect := map[string]int{Channels[0]: 0, Channels[1]: 1}
	for range messages {
		got := e.next()
		if len(got.Channels) != 1 {
			e.Fatalf("message %s arrived on %q", got.Data, got.Channels)
		}
		n, ok := expect[got.Channels[0]]
		if !ok || string(got.Data) != fmt.Sprint(n) {
			e.Fatalf("channel %q: message %s arrived where %d should", got.Channels[0], got.Data, n)
		}
		expect[got.Channels[0]] += 2
	}
}

func checkConcurrent(e end) {
	const goroutines, each = 8, 100
	ctx := e.Context()
	errs := make(chan error, goroutines*each)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				m := message("concurrent", fmt.Sprint(g*each+i))
				if err := e.d.Send(ctx, &m); err != nil {
					errs <- fmt.Errorf("message %s: %w", m.Data, err)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		e.Fatalf("%v", err)
	}
	seen := make(map[string]bool)
	for range goroutines * each {
		got := e.next()
		if seen[string(got.Data)] {
			e.Fatalf("message %s arrived twice", got.Data)
		}
		seen[string(got.Data)] = true
	}
	for i := range goroutines * each {
		if !seen[fmt.Sprint(i)] {
			e.Fatalf("message %d did not arrive", i)
		}
	}
	e.wantNothing()
}

func checkContext(e end) {
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	m := message("cancelled", `1`)
	if err := e.d.Send(ctx, &m); !errors.Is(err, context.Canceled) {
		e.Fatalf("Send with a cancelled ctx returned %v; want an error that is context.Canceled", err)
	}
	if e.next != nil {
		e.wantNothing()
	}
}

func checkMessage(e end) {
	const messages = 20
	for i := range messages {
		want := message(fmt.Sprint("kept ", i), fmt.Sprintf(`{"n":%d}`, i))
		m := clone(want)
		if err := e.d.Send(e.Context(), &m); err != nil {
			e.Fatalf("Send: %v", err)
		}
		if !slices.Equal(m.Channels, want.Channels) || m.Event != want.Event || string(m.Data) != string(want.Data) || m.ID != want.ID || m.App != want.App ||
			len(m.ExceptSockets) > 0 || len(m.ExceptUsers) > 0 {
			e.Fatalf("Send changed the message\n from %+v\n to   %+v", want, m)
		}
		// Whoever kept a part of it sees this, and the race detector sees whoever still reads it.
		for j := range m.Data {
			m.Data[j] = 'x'
		}
		m.Channels[0] = Channels[1]
		m.Event = "scribbled"
	}
	if e.next == nil {
		return
	}
	for i := range messages {
		e.want(message(fmt.Sprint("kept ", i), fmt.Sprintf(`{"n":%d}`, i)))
	}
}

func message(event, data string) realtime.Message {
	return realtime.Message{Channels: Channels[:1:1], Event: event, Data: json.RawMessage(data)}
}

func clone(m realtime.Message) realtime.Message {
	m.Channels, m.Data = slices.Clone(m.Channels), slices.Clone(m.Data)
	m.ExceptSockets, m.ExceptUsers = slices.Clone(m.ExceptSockets), slices.Clone(m.ExceptUsers)
	return m
}

// send sends a copy, so that a driver that changes its messages is caught by checkMessage only.
func (e end) send(m realtime.Message) {
	e.Helper()
	m = clone(m)
	if err := e.d.Send(e.Context(), &m); err != nil {
		e.Fatalf("Send of event %.40q: %v", m.Event, err)
	}
}

func (e end) want(m realtime.Message) {
	e.Helper()
	e.compare(e.next(), m)
}

func (e end) compare(got, want realtime.Message) {
	e.Helper()
	switch {
	case got.Event != want.Event:
		e.Fatalf("event %q arrived as %q", want.Event, got.Event)
	case !slices.Equal(got.Channels, want.Channels):
		e.Fatalf("event %q to %q arrived on %q", want.Event, want.Channels, got.Channels)
	case e.h.JavaScript && reflect.DeepEqual(javascript(e, got.Data), javascript(e, want.Data)):
	case string(got.Data) != string(want.Data):
		e.Fatalf("event %q: data arrived changed\n sent %s\n got  %s", want.Event, want.Data, got.Data)
	case e.h.NoExcept:
	case !slices.Equal(got.ExceptSockets, want.ExceptSockets):
		e.Fatalf("event %q: sockets to leave out %q arrived as %q", want.Event, want.ExceptSockets, got.ExceptSockets)
	case !slices.Equal(got.ExceptUsers, want.ExceptUsers):
		e.Fatalf("event %q: users to leave out %q arrived as %q", want.Event, want.ExceptUsers, got.ExceptUsers)
	}
}

// javascript is what JavaScript makes of JSON and JSON of that.
func javascript(e end, data []byte) any {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		e.Fatalf("data %s: %v", data, err)
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for key := range v {
				v[key] = walk(v[key])
			}
		case json.Number:
			f, _ := strconv.ParseFloat(string(v), 64)
			switch {
			case math.IsInf(f, 0):
				return nil
			case f == 0:
				return 0.0 // not -0
			}
			return f
		}
		return v
	}
	return walk(v)
}

// wantNothing sends one message to each channel and wants each to be the next on its channel: what was
// still under way there would come first.
func (e end) wantNothing() {
	e.Helper()
	for _, c := range Channels {
		last := message("last", `"last"`)
		last.Channels = []string{c}
		e.send(last)
		for i := range e.all {
			e.listener(i).want(last)
		}
		if e.all == nil {
			e.want(last)
		}
	}
}
