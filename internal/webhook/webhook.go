// Package webhook tells HTTP endpoints what happens on an application's channels (Pusher Channels protocol,
// "Webhooks"). It knows neither subscriptions nor who serves: a Sender is told through Add what has happened, puts off
// what may be undone at once, and delivers the rest in signed requests.
//
// Each endpoint has a queue of its own and one request under way at most, so that each channel's events arrive in their
// order, and an endpoint that fails delays no other. Add appends to the queues and returns. A queue's goroutine exists
// while the queue is not empty.
package webhook

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

const (
	grace       = 3 * time.Second // before a channel or a member is said to be gone
	maxLeaving  = 100_000         // that wait for the end of their grace; with more the first are told early
	maxWaiting  = 10_000          // events of one endpoint
	maxBytes    = 32 << 20        // and their size
	logInterval = time.Minute     // between two lines about lost events of one endpoint
)

// Config of a Sender.
type Config struct {
	// App is the application's id, for the log.
	App string
	// Key signs, until SetKey.
	Key auth.Key
	// Endpoints have been checked.
	Endpoints []Endpoint
	// Grace is how long a channel that was vacated, or a member that left, may take to come back without anybody being
	// told of either. Zero means 3 s.
	Grace time.Duration
	// Logger gets what is lost and what fails.
	Logger *slog.Logger
	// Transport makes the requests, for tests. Nil means one of the Sender's own.
	Transport http.RoundTripper
}

// Sender tells one application's endpoints what happens. Make it with New, and end it with Shutdown. Its methods may be
// called from any goroutine.
type Sender struct {
	cfg     Config
	client  *http.Client
	own     *http.Transport    // to be closed at the end; nil where Config has one
	ctx     context.Context    // ends when what is left is given up
	giveUp  context.CancelFunc // ends ctx
	closing chan struct{}      // closed when Shutdown begins
	working sync.WaitGroup     // goroutines

	mu        sync.Mutex
	key       auth.Key // signs
	endpoints []*endpoint
	grace     time.Duration           // 0 from Drain on
	leaving   map[place]*list.Element // what may come back in time
	byTime    *list.List              // the same, in the order in which their grace ends; of departures
	timer     *time.Timer             // while armed, fires no later than the first of byTime is due
	armed     bool
	missed    map[string]bool // cache channels told to be empty, until they are filled or vacated
	closed    bool
}

// place is what can be occupied: a channel, or, with a user, that membership.
type place struct{ channel, user string }

// departure waits for the end of its grace.
type departure struct {
	event Event
	due   time.Time
}

// endpoint is an Endpoint at work. Everything below kinds is guarded by Sender.mu.
type endpoint struct {
	Endpoint
	name   string      // the URL as it may be shown
	header http.Header // of every request, but the key and the signature
	kinds  uint8       // one bit each

	queue   []Event
	running bool // a goroutine takes from queue
	bytes   int  // of what waits
	stats   Stats
	lost    time.Time // when lost events were logged last
}

// Stats is how an endpoint fares.
type Stats struct {
	URL     string // as it may be shown
	Sent    int64  // events delivered
	Dropped int64  // events lost: the queue was full, the endpoint failed for too long, or the Sender ended
	Retried int64  // requests repeated
	Waiting int    // events in the queue, and in the request under way
}

// New makes a Sender.
func New(cfg Config) *Sender {
	s := &Sender{
		cfg: cfg, key: cfg.Key, grace: cfg.Grace, leaving: map[place]*list.Element{}, byTime: list.New(), missed: map[string]bool{},
		closing: make(chan struct{}),
	}
	if s.grace == 0 {
		s.grace = grace
	}
	s.ctx, s.giveUp = context.WithCancel(context.Background())
	transport := cfg.Transport
	if transport == nil {
		s.own = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxIdleConnsPerHost: len(cfg.Endpoints), IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		}
		transport = s.own
	}
	s.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, e := range cfg.Endpoints {
		w := &endpoint{Endpoint: e, name: Redact(e.URL), header: http.Header{"User-Agent": {"realtime"}}}
		for name, value := range e.Headers {
			w.header.Set(name, value)
		}
		w.header.Set("Content-Type", "application/json")
		for k, name := range Names {
			if len(e.Events) == 0 || slices.Contains(e.Events, name) {
				w.kinds |= 1 << k
			}
		}
		s.endpoints = append(s.endpoints, w)
	}
	return s
}

// SetKey makes k sign the requests that are yet to be made. One that is repeated keeps its signature.
func (s *Sender) SetKey(k auth.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = k
}

// Add tells what happened. It never waits.
func (s *Sender) Add(ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev.Kind {
	case ChannelVacated, MemberRemoved:
		if s.grace > 0 {
			s.depart(ev)
			return
		}
	case ChannelOccupied, MemberAdded:
		p := place{ev.Channel, ev.UserID}
		if e := s.leaving[p]; e != nil { // it was hardly away
			delete(s.leaving, p)
			s.byTime.Remove(e)
			return
		}
	case CacheMiss:
		if s.missed[ev.Channel] {
			return
		}
		s.missed[ev.Channel] = true
	}
	s.tell(ev)
}

// Filled tells that a cache channel is not empty any more: when it is again, that is news.
func (s *Sender) Filled(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.missed, channel)
}

// depart puts an event off for the time of grace.
func (s *Sender) depart(ev Event) {
	if s.byTime.Len() >= maxLeaving {
		s.leave(s.byTime.Front())
	}
	s.leaving[place{ev.Channel, ev.UserID}] = s.byTime.PushBack(departure{ev, time.Now().Add(s.grace)})
	if s.armed {
		return
	}
	s.armed = true
	if s.timer == nil {
		s.timer = time.AfterFunc(s.grace, s.expire)
	} else {
		s.timer.Reset(s.grace)
	}
}

// leave tells what was put off.
func (s *Sender) leave(e *list.Element) {
	ev := s.byTime.Remove(e).(departure).event
	delete(s.leaving, place{ev.Channel, ev.UserID})
	s.tell(ev)
}

// expire tells what has not come back.
func (s *Sender) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.byTime.Front(); e != nil; e = s.byTime.Front() {
		if left := time.Until(e.Value.(departure).due); left > 0 {
			s.timer.Reset(left)
			return
		}
		s.leave(e)
	}
	s.armed = false
}

// tell queues an event for who wants it.
func (s *Sender) tell(ev Event) {
	if ev.Kind == ChannelVacated {
		delete(s.missed, ev.Channel)
	}
	for _, e := range s.endpoints {
		if e.wants(ev.Kind, ev.Channel) {
			s.push(e, ev)
		}
	}
}

func (s *Sender) push(e *endpoint, ev Event) {
	if s.closed {
		e.stats.Dropped++
		return
	}
	if e.stats.Waiting >= maxWaiting || e.bytes+ev.size() > maxBytes {
		e.stats.Dropped++
		if now := time.Now(); now.Sub(e.lost) >= logInterval {
			e.lost = now
			waiting, dropped := e.stats.Waiting, e.stats.Dropped
			s.working.Go(func() { // a log may take its time
				s.cfg.Logger.Error("events for a webhook are lost because too many wait", "app", s.cfg.App, "url", e.name, "waiting", waiting, "lost", dropped)
			})
		}
		return
	}
	e.queue = append(e.queue, ev)
	e.bytes += ev.size()
	e.stats.Waiting++
	if !e.running {
		e.running = true
		s.working.Go(func() { s.run(e) })
	}
}

// Stats says how the endpoints fare, in the order of Config.Endpoints.
func (s *Sender) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Stats
	for _, e := range s.endpoints {
		st := e.stats
		st.URL = e.name
		all = append(all, st)
	}
	return all
}

// Drain ends all grace, since nobody will come back: what is gone is told at once.
func (s *Sender) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

func (s *Sender) drain() {
	s.grace = 0
	for e := s.byTime.Front(); e != nil; e = s.byTime.Front() {
		s.leave(e)
	}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// Shutdown drains, delivers what waits, and ends the Sender; what comes later is dropped. When ctx ends first, or after
// five minutes, the rest is dropped too; the error says how much.
func (s *Sender) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.drain()
	before := make([]int64, len(s.endpoints))
	for i, e := range s.endpoints {
		before[i] = e.stats.Dropped
	}
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	stop := context.AfterFunc(ctx, s.giveUp)
	defer stop()
	s.working.Wait()
	if s.own != nil {
		s.own.CloseIdleConnections()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i, e := range s.endpoints {
		if n := e.stats.Dropped - before[i]; n > 0 {
			errs = append(errs, fmt.Errorf("webhook: %d events for %s were dropped, because it did not take them in time", n, e.name))
		}
	}
	if errs != nil && ctx.Err() != nil {
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}
