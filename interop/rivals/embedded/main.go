// Command embedded is a program with our server in it that publishes by itself, from several goroutines, through the
// application API. The load generator asks for bursts of messages.
//
//	embedded -port 9003
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"sync"
	"syscall"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/internal/bench"
	"github.com/stacksjs/realtime-go/server"
)

func main() {
	port := flag.Int("port", 9003, "where to listen on loopback")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var p program
	srv, err := server.New(server.Config{Handlers: map[string]server.Handler{bench.BurstEvent: p.burst}})
	if err != nil {
		log.Fatal(err)
	}
	b, err := realtime.New(srv, realtime.NewEvents())
	if err != nil {
		log.Fatal(err)
	}
	p.ctx = realtime.WithBroadcaster(ctx, b)
	if err := srv.Run(ctx, fmt.Sprintf("127.0.0.1:%d", *port)); err != nil {
		log.Fatal(err)
	}
}

// program is the publishers: a goroutine each.
type program struct {
	ctx   context.Context
	once  sync.Once
	tasks []chan bench.Burst
}

// burst hands a burst to all publishers. Calls for one client come one after another, and there is one client.
func (p *program) burst(_ context.Context, in server.Inbound) (any, error) {
	var b bench.Burst
	if err := json.Unmarshal(in.Data, &b); err != nil {
		return nil, err
	}
	p.once.Do(func() {
		for i := range b.Publishers {
			tasks := make(chan bench.Burst, 1024)
			p.tasks = append(p.tasks, tasks)
			go p.publish(i, tasks)
		}
	})
	for _, t := range p.tasks {
		t <- b
	}
	return nil, nil
}

func (p *program) publish(publisher int, tasks <-chan bench.Burst) {
	for b := range tasks {
		for n := b.From; n < b.From+b.Count; n++ {
			data := json.RawMessage(b.Data(nil, publisher, n))
			if err := realtime.Channel(bench.BurstChannel).Public(p.ctx, bench.BurstMessage, data); err != nil {
				log.Fatal(err)
			}
		}
	}
}
