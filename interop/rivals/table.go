package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/bench"
)

// row is one kind of work.
type row struct {
	name        string
	tls, except bool // what a server must be able to do
	groups      []group
	config      bench.Config
	costs       []cost // what is compared
}

// cost is a figure of a result, of which less is better.
type cost struct {
	name string
	of   func(bench.Result) float64
}

var (
	cpu   = cost{"server CPU µs", func(r bench.Result) float64 { return r.CPU }}
	gap   = cost{"µs between two", func(r bench.Result) float64 { return 1e6 / r.PerSecond }}
	p50   = cost{"p50 µs", func(r bench.Result) float64 { return r.P50 }}
	p99   = cost{"p99 µs", func(r bench.Result) float64 { return r.P99 }}
	echo  = cost{"echo p99 µs", func(r bench.Result) float64 { return r.EchoP99 }}
	rss   = cost{"RSS KiB", func(r bench.Result) float64 { return r.RSS }}
	own   = cost{"generator CPU µs", func(r bench.Result) float64 { return r.OwnCPU }}
	fast  = []cost{cpu, gap, own}
	paced = []cost{cpu, p50, p99}
)

func rows(d time.Duration) []row {
	fanout := func(c bench.Config) bench.Config {
		c.Work, c.Duration, c.Warmup = bench.Fanout, d, time.Second
		return c
	}
	return []row{
		{name: "1×1000 saturate", groups: []group{embedded, pusher, socketIO}, config: fanout(bench.Config{}), costs: fast},
		{name: "1×1000, 100 publishers over HTTP by 10", groups: []group{pusher, socketIO}, config: fanout(overHTTP(100)), costs: fast},
		{name: "1×1000, 8 publishers over HTTP by 10", groups: []group{pusher, socketIO}, config: fanout(overHTTP(8)), costs: fast},
		{name: "1×10 saturate", groups: []group{socketIO}, config: fanout(bench.Config{Subscribers: 10}), costs: fast},
		{name: "1000×10 saturate", config: fanout(bench.Config{Channels: 1000, Subscribers: 10}), costs: fast},
		{name: "1×1000 at 20/s", config: fanout(bench.Config{Rate: 20}), costs: paced},
		{name: "1×1000 at 100/s", config: fanout(bench.Config{Rate: 100}), costs: paced},
		{name: "1000 connections × 8 of 100 channels", config: fanout(bench.Config{Channels: 100, Subscribers: 80, PerConn: 8}), costs: fast},
		{name: "1×1000 except one", except: true, config: fanout(bench.Config{Except: true}), costs: fast},
		{name: "1×1000 saturate, window 128", groups: []group{socketIO}, config: fanout(bench.Config{Window: 128}), costs: fast},
		{name: "1×19000 saturate, window 128", config: fanout(bench.Config{Subscribers: 19000, Window: 128}), costs: fast},
		{name: "1×18500 at 2/s with echo", config: fanout(bench.Config{Subscribers: 18500, Rate: 2, Connections: 100}), costs: []cost{cpu, p50, p99, echo}},
		{name: "echo 100", groups: []group{socketIO}, config: bench.Config{Work: bench.Echo, Duration: d, Warmup: time.Second}, costs: []cost{cpu, gap, p50, p99, own}},
		{name: "connect 5000", groups: []group{socketIO}, config: bench.Config{Work: bench.Connect, Connections: 5000}, costs: []cost{cpu, gap, own}},
		{name: "idle 10000", groups: []group{socketIO}, config: bench.Config{Work: bench.Idle, Connections: 10000}, costs: []cost{rss}},
		{name: "TLS 1×1000 saturate", tls: true, config: fanout(bench.Config{}), costs: fast},
	}
}

// overHTTP is publishers that wait for an answer to every ten messages.
func overHTTP(publishers int) bench.Config {
	return bench.Config{Publish: bench.HTTP, Publishers: publishers, Batch: 10}
}

// shortRows check exactness in a few seconds.
func shortRows() []row {
	fanout := func(c bench.Config) bench.Config {
		c.Work, c.Stall = bench.Fanout, 5*time.Second
		return c
	}
	return []row{
		{name: "1×50", groups: []group{embedded, pusher, socketIO}, config: fanout(bench.Config{Subscribers: 50, Messages: 5120})},
		{name: "1×50 over HTTP", groups: []group{pusher, socketIO}, config: fanout(bench.Config{Subscribers: 50, Messages: 5000, Publish: bench.HTTP, Publishers: 4, Batch: 10})},
		{name: "50×4, two publishers", groups: []group{socketIO}, config: fanout(bench.Config{Channels: 50, Subscribers: 4, Publishers: 2, Messages: 5000})},
		{name: "8 of 20 channels", groups: []group{socketIO}, config: fanout(bench.Config{Channels: 20, Subscribers: 16, PerConn: 8, Messages: 5000})},
		{name: "1×50 except one", groups: []group{socketIO}, except: true, config: fanout(bench.Config{Subscribers: 50, Messages: 5000, Except: true})},
		{name: "1×50 at 500/s with echo", groups: []group{socketIO}, config: fanout(bench.Config{Subscribers: 50, Rate: 500, Messages: 250, Connections: 5})},
		{name: "echo 10", groups: []group{socketIO}, config: bench.Config{Work: bench.Echo, Connections: 10, Duration: 300 * time.Millisecond}},
		{name: "connect 200", groups: []group{socketIO}, config: bench.Config{Work: bench.Connect, Connections: 200}},
		{name: "TLS 1×20", tls: true, config: fanout(bench.Config{Subscribers: 20, Messages: 2000})},
	}
}

// measurement is one result of one server.
type measurement struct {
	Row    string       `json:"row"`
	Server string       `json:"server"`
	Round  int          `json:"round"`
	Error  string       `json:"error,omitempty"`
	Result bench.Result `json:"result"`
}

type table struct {
	rows     []row
	servers  []server
	measured []measurement
}

func (t *table) add(r row, s server, round int, result bench.Result, err error) {
	m := measurement{Row: r.name, Server: s.name, Round: round + 1, Result: result}
	if err != nil {
		m.Error = err.Error()
	}
	t.measured = append(t.measured, m)
}

// values are a server's figures in a row, in order of size; runs that failed do not count.
func (t *table) values(r row, s string, c cost) []float64 {
	var v []float64
	for _, m := range t.measured {
		if m.Row == r.name && m.Server == s && m.Error == "" {
			v = append(v, c.of(m.Result))
		}
	}
	slices.Sort(v)
	return v
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// print writes the medians, with the least and the most, and their ratio to the baseline, as Markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprint(w, "| work | figure |")
	for _, s := range t.servers {
		fmt.Fprintf(w, " %s |", s.name)
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|", len(t.servers)))
	for _, r := range t.rows {
		for _, c := range r.costs {
			fmt.Fprintf(w, "| %s | %s |", r.name, c.name)
			base := t.values(r, baseline, c)
			for _, s := range t.servers {
				v := t.values(r, s.name, c)
				if len(v) == 0 {
					fmt.Fprint(w, " – |")
					continue
				}
				fmt.Fprintf(w, " %s [%s–%s]", figure(median(v)), figure(v[0]), figure(v[len(v)-1]))
				if s.name != baseline && len(base) > 0 && median(base) > 0 {
					fmt.Fprintf(w, " **%.2f×**", median(v)/median(base))
				}
				fmt.Fprint(w, " |")
			}
			fmt.Fprintln(w)
		}
	}
}

// figure shows three or more digits.
func figure(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.3f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
