package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"
)

func run(ctx context.Context, c Config) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	switch c.Work {
	case Fanout:
		return runFanout(ctx, c)
	case Echo:
		return runEcho(ctx, c)
	case Connect:
		return runConnect(ctx, c)
	default:
		return runIdle(ctx, c)
	}
}

// meter measures the time and the CPU time of a piece of work.
type meter struct {
	pid         int
	at          time.Time
	server, own time.Duration
}

func startMeter(pid int) (meter, error) {
	server, err := cpuTime(pid)
	return meter{pid, time.Now(), server, ownCPU()}, err
}

// stop fills in r what count things cost.
func (m meter) stop(r *Result, count int64) error {
	server, err := cpuTime(m.pid)
	if err != nil {
		return err
	}
	elapsed := time.Since(m.at)
	r.Count, r.Seconds = count, elapsed.Seconds()
	if count > 0 {
		r.PerSecond = float64(count) / r.Seconds
		r.CPU = float64(server-m.server) / 1e3 / float64(count)
		r.OwnCPU = float64(ownCPU()-m.own) / 1e3 / float64(count)
	}
	return nil
}

// fanout is the state of one fan-out run.
type fanout struct {
	*load
	publishers []*conn
	published  []uint32 // by publisher
	limit      int      // messages in the phase, or 0
	inPhase    int      // messages published in the phase
	since      time.Duration
	dueAt      [][]time.Duration // by publisher and g, when publishing at a rate
	latency    *latencies
	batch      []byte // scratch: the events of one request
}

func runFanout(ctx context.Context, c Config) (r Result, err error) {
	r = Result{Work: c.Work, Shape: c.shape(), Connections: c.subscribing() + c.publishing() + c.Connections}
	l, err := newLoad(ctx, c, slices.Concat(slices.Repeat([]role{subscriber}, c.subscribing()), slices.Repeat([]role{publisher}, c.publishing()))...)
	if err != nil {
		return r, err
	}
	defer l.close()
	l.seq = newSequences(c)
	f := &fanout{load: l, published: make([]uint32, c.Publishers), latency: &latencies{}}
	for i := range c.publishing() {
		f.publishers = append(f.publishers, &l.conns[c.subscribing()+i])
	}
	if err := l.open(ctx); err != nil {
		return r, err
	}
	if c.Rate > 0 {
		f.dueAt = make([][]time.Duration, c.Publishers)
		l.onDelivery = f.measureLatency
	}

	var beside *besides
	if c.Connections > 0 {
		if beside, err = startBeside(ctx, c); err != nil {
			return r, err
		}
		defer beside.stop()
	}
	if c.Warmup > 0 {
		l.progress("warming up for %v", c.Warmup)
		if err := f.phase(ctx, c.Warmup, f.messagesIn(c.Warmup)); err != nil {
			return r, err
		}
		*f.latency = latencies{}
	}
	l.progress("measuring %s", r.Shape)
	if beside != nil {
		beside.mark()
	}
	before := l.seq.delivered
	m, err := startMeter(c.PID)
	if err != nil {
		return r, err
	}
	messages := c.Messages
	if messages == 0 {
		messages = f.messagesIn(c.Duration)
	}
	if err := f.phase(ctx, c.Duration, messages); err != nil {
		return r, err
	}
	if err := m.stop(&r, l.seq.delivered-before); err != nil {
		return r, err
	}
	if beside != nil {
		echo, err := beside.stop()
		if err != nil {
			return r, err
		}
		r.EchoP50, r.EchoP99, r.EchoCount = echo.quantile(.5), echo.quantile(.99), echo.count
	}
	// Whatever arrives now is one delivery too many.
	for until := l.now() + 50*time.Millisecond; l.now() < until; {
		if err := l.turn(10 * time.Millisecond); err != nil {
			return r, err
		}
	}
	r.Published = int64(f.inPhase)
	if l.seq.delivered < l.seq.expected() {
		l.seq.abandon()
	}
	r.Faults = l.seq.Faults
	r.P50, r.P99 = f.latency.quantile(.5), f.latency.quantile(.99)
	return r, nil
}

// messagesIn is how many messages a rate makes in a time, or 0 without a rate.
func (f *fanout) messagesIn(d time.Duration) int {
	if f.cfg.Rate == 0 {
		return 0
	}
	return max(1, int(f.cfg.Rate*d.Seconds()))
}

func (f *fanout) measureLatency(d *delivery, at time.Duration) {
	p := 0
	if f.cfg.Publishers > 1 {
		if !d.stream(f.scanner.dialect) || d.publisher >= f.cfg.Publishers {
			return
		}
		p = d.publisher
	}
	if int(d.g) < len(f.dueAt[p]) {
		f.latency.add(at - f.dueAt[p][d.g])
	}
}

// phase publishes limit messages, or for duration when limit is 0, and returns when all have arrived or nothing has
// arrived for long enough.
func (f *fanout) phase(ctx context.Context, duration time.Duration, limit int) error {
	f.limit, f.inPhase, f.since = limit, 0, f.now()
	heard, moved := f.seq.delivered, f.since
	for turn := 0; ; turn++ {
		now := f.now()
		publishing := f.inPhase < limit || limit == 0 && now-f.since < duration
		wait := 100 * time.Millisecond
		if publishing {
			next, err := f.publish(now)
			if err != nil {
				return err
			}
			wait = min(wait, next)
		} else if f.seq.delivered >= f.seq.expected() {
			return nil
		}
		if err := f.turn(wait); err != nil {
			return err
		}
		if f.seq.delivered != heard {
			heard, moved = f.seq.delivered, now
		} else if now-moved > f.cfg.Stall && f.seq.delivered < f.seq.expected() {
			return nil // what is missing now is lost
		}
		if turn%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// maxUnwritten bounds what a publisher writes at once.
const maxUnwritten = 64 << 10

// publish sends what the rate or the windows allow and returns how long to wait for the next message at most.
func (f *fanout) publish(now time.Duration) (time.Duration, error) {
	wait := time.Second
	if f.cfg.Burst > 0 {
		return wait, f.bursts(f.publishers[0])
	}
	for p := 0; p < len(f.publishers); p++ {
		c := f.publishers[p]
		if len(c.out) > 0 || c.await > 0 {
			continue // epoll tells when it is written, or answered
		}
		f.batch = f.batch[:0]
		events := 0
		for len(c.out) < maxUnwritten && (f.limit == 0 || f.inPhase < f.limit) {
			g := f.published[p]
			channel := int(g) % f.cfg.Channels
			id := p*f.cfg.Channels + channel
			if f.cfg.Rate > 0 {
				due := f.since + time.Duration(float64(f.inPhase)/f.cfg.Rate*1e9)
				if due > now {
					wait = min(wait, due-now)
					break
				}
				f.dueAt[p] = append(f.dueAt[p], due)
			} else if !f.seq.open(id) {
				break
			}
			st := &f.seq.streams[id]
			b := append(f.frame[:0], st.head...)
			b = strconv.AppendUint(b, uint64(st.published), 10)
			b = append(b, c.words.beforeG...)
			b = strconv.AppendUint(b, uint64(g), 10)
			b = append(b, st.sent...)
			if f.cfg.Except {
				b = fmt.Appendf(b, c.words.exclude, f.conns[f.seq.leftOut(channel, st.published)].socketID)
			}
			b = append(b, c.words.afterAll...)
			f.frame = b
			st.published++
			f.published[p]++
			f.inPhase++
			if c.words == &httpAPI {
				if events > 0 {
					f.batch = append(f.batch, ',')
				}
				f.batch = append(f.batch, b...)
				if events++; events == f.cfg.Batch {
					break
				}
				continue
			}
			c.out = appendFrame(c.out, opText, b, f.key)
			if f.cfg.Rate > 0 && len(f.publishers) > 1 {
				break // the publishers take turns
			}
		}
		switch {
		case events == 1 && f.cfg.Batch == 1:
			f.post(c, "events", f.batch)
		case events > 0:
			f.post(c, "batch_events", fmt.Appendf(nil, `{"batch":[%s]}`, f.batch))
		}
		full := len(c.out) >= maxUnwritten
		if err := f.flush(c); err != nil {
			return 0, err
		}
		if full && len(c.out) == 0 { // its socket takes more
			p--
		}
	}
	return wait, nil
}

// bursts asks the server's program for all that the windows allow, once that is a burst: a publishing connection, too,
// sends all of it at once.
func (f *fanout) bursts(c *conn) error {
	if len(c.out) > 0 {
		return nil // epoll tells when it is written
	}
	count, least := f.seq.window(), uint32(f.cfg.Burst)
	for id := range f.seq.streams {
		st := &f.seq.streams[id]
		count = min(count, f.seq.window()-(st.published-st.received))
	}
	if f.limit > 0 {
		rest := uint32((f.limit - f.inPhase + f.cfg.Publishers - 1) / f.cfg.Publishers)
		count, least = min(count, rest), min(least, rest)
	}
	if count < least {
		return nil
	}
	f.frame = fmt.Appendf(f.frame[:0], `{"event":"%s","data":{"from":%d,"count":%d,"publishers":%d,"size":%d}}`,
		BurstEvent, f.seq.streams[0].published, count, f.cfg.Publishers, f.cfg.Size)
	c.out = appendFrame(c.out, opText, f.frame, f.key)
	for id := range f.seq.streams {
		f.seq.streams[id].published += count
		f.inPhase += int(count)
	}
	return f.flush(c)
}

// besides is an echo load that runs on a thread of its own during a fan-out.
type besides struct {
	cancel context.CancelFunc
	marked chan struct{}
	done   chan struct{}
	l      *load
	err    error
	procs  int
}

func startBeside(ctx context.Context, c Config) (*besides, error) {
	c.Work = Echo
	l, err := newLoad(ctx, c, slices.Repeat([]role{pinger}, c.Connections)...)
	if err != nil {
		return nil, err
	}
	if err := l.open(ctx); err != nil {
		l.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	// Two loops must not wait for one another inside the Go scheduler.
	b := &besides{cancel, make(chan struct{}, 1), make(chan struct{}), l, nil, runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))}
	go func() {
		defer close(b.done)
		runtime.LockOSThread()
		b.err = l.echo(ctx, func() bool {
			select {
			case <-b.marked:
				l.roundTrips = latencies{}
			default:
			}
			return ctx.Err() == nil
		})
	}()
	return b, nil
}

// mark begins the measurement.
func (b *besides) mark() { b.marked <- struct{}{} }

// stop ends the load; further calls do nothing more.
func (b *besides) stop() (latencies, error) {
	b.cancel()
	<-b.done
	if b.procs != 0 {
		b.l.close()
		runtime.GOMAXPROCS(b.procs)
		b.procs = 0
	}
	return b.l.roundTrips, b.err
}

// echo keeps one ping under way on every connection while more returns true.
func (l *load) echo(ctx context.Context, more func() bool) error {
	l.pinging = true
	defer func() { l.pinging = false }()
	for i := range l.conns {
		if err := l.sendPing(&l.conns[i], l.now()); err != nil {
			return err
		}
	}
	heard, moved := l.roundTrips.count, l.now()
	for more() {
		if err := l.turn(10 * time.Millisecond); err != nil {
			return err
		}
		if now := l.now(); l.roundTrips.count != heard {
			heard, moved = l.roundTrips.count, now
		} else if now-moved > l.cfg.Stall {
			return errors.New("no ping was answered for " + l.cfg.Stall.String())
		}
	}
	return nil
}

func runEcho(ctx context.Context, c Config) (Result, error) {
	r := Result{Work: c.Work, Shape: c.shape(), Connections: c.Connections}
	l, err := newLoad(ctx, c, slices.Repeat([]role{pinger}, c.Connections)...)
	if err != nil {
		return r, err
	}
	defer l.close()
	if err := l.open(ctx); err != nil {
		return r, err
	}
	l.progress("measuring round trips on %d connections", c.Connections)
	m, err := startMeter(c.PID)
	if err != nil {
		return r, err
	}
	end, warm := time.Now().Add(c.Warmup+c.Duration), c.Warmup == 0
	err = l.echo(ctx, func() bool {
		now := time.Now()
		if !warm && now.Sub(end) > -c.Duration {
			warm = true
			l.roundTrips = latencies{}
			m, _ = startMeter(c.PID)
		}
		return now.Before(end) && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return r, err
	}
	r.P50, r.P99 = l.roundTrips.quantile(.5), l.roundTrips.quantile(.99)
	return r, m.stop(&r, l.roundTrips.count)
}

func runConnect(ctx context.Context, c Config) (Result, error) {
	r := Result{Work: c.Work, Shape: c.shape(), Connections: c.Connections}
	l, err := newLoad(ctx, c, slices.Repeat([]role{subscriber}, c.Connections)...)
	if err != nil {
		return r, err
	}
	defer l.close()
	m, err := startMeter(c.PID)
	if err != nil {
		return r, err
	}
	if err := l.open(ctx); err != nil {
		return r, err
	}
	return r, m.stop(&r, int64(c.Connections))
}

func runIdle(ctx context.Context, c Config) (Result, error) {
	r := Result{Work: c.Work, Shape: c.shape(), Connections: c.Connections}
	if c.PID == 0 {
		return r, errors.New("measuring memory needs the process id of the server")
	}
	before, err := residentKiB(c.PID)
	if err != nil {
		return r, err
	}
	if r, err = openIdle(ctx, c, r, before); err != nil {
		return r, err
	}
	return r, nil
}

// openIdle opens the connections and waits, for ten seconds at most, until the server uses less than 1 % of a core.
func openIdle(ctx context.Context, c Config, r Result, before float64) (Result, error) {
	l, err := newLoad(ctx, c, slices.Repeat([]role{subscriber}, c.Connections)...)
	if err != nil {
		return r, err
	}
	defer l.close()
	m, err := startMeter(c.PID)
	if err != nil {
		return r, err
	}
	if err := l.open(ctx); err != nil {
		return r, err
	}
	if err := m.stop(&r, int64(c.Connections)); err != nil {
		return r, err
	}
	const look = 500 * time.Millisecond
	for range 20 {
		busy, err := cpuTime(c.PID)
		if err != nil {
			return r, err
		}
		for until := l.now() + look; l.now() < until; {
			if err := l.turn(50 * time.Millisecond); err != nil {
				return r, err
			}
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		used, err := cpuTime(c.PID)
		if err != nil {
			return r, err
		}
		if used-busy < look/100 {
			break
		}
	}
	after, err := residentKiB(c.PID)
	r.RSS = (after - before) / float64(c.Connections)
	return r, err
}
