package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/stacksjs/realtime-go/config"
	"github.com/stacksjs/realtime-go/server"
)

type configCommand struct {
	Check configCheck `cmd:"" help:"Say all that is wrong with a file, or print what is in effect."`
	Which configWhich `cmd:"" help:"Print the policy of a channel, and where it is written."`
}

type configCheck struct {
	File string `arg:"" optional:"" default:"config/realtime.yaml" help:"The file (${default})."`
}

func (configCheck) Help() string {
	return `What is in effect is the file, the environment over it, and the defaults of driver and address; secrets are masked. A
file with mistakes exits with 1, and stderr has each with its line.

Example:

    realtime config check config/realtime.yaml`
}

func (c *configCheck) Run(ctx context.Context, t terminal) error {
	// Opening finds what only the server knows to be wrong; nothing listens.
	app, err := config.Open(ctx, c.File, nil, config.WithLogger(slog.New(slog.DiscardHandler)), config.WithServer(func(s *server.Config) { s.DrainWindow = time.Nanosecond }))
	if err != nil {
		return err
	}
	if err := app.Close(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "# %s is correct. In effect:\n%s", c.File, app.Config)
	return err
}

type configWhich struct {
	Channel string `arg:"" help:"A channel's name with its prefix, such as private-orders.1."`
	Config  string `default:"config/realtime.yaml" placeholder:"FILE" help:"The file (${default})."`
}

func (configWhich) Help() string {
	return "The first pattern of the file that matches holds; without one, the defaults do.\n\nExample:\n\n    realtime config which private-orders.1 --config config/realtime.yaml"
}

func (c *configWhich) Run(t terminal) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	p, err := cfg.Which(c.Channel)
	if err != nil {
		return usageError{err}
	}
	history := "none"
	if h := p.History; h.Size > 0 {
		history = fmt.Sprintf("%d messages, %v, %v", h.Size, config.Duration(h.Age), config.Size(h.Bytes))
	}
	cache := "no"
	if p.Cache > 0 {
		cache = config.Duration(p.Cache).String()
	}
	slow := string(p.Slow)
	if slow == "" {
		slow = "disconnect"
	}
	subscribers := "no bound"
	if p.Subscribers > 0 {
		subscribers = fmt.Sprint(p.Subscribers)
	}
	for _, line := range [][2]any{
		{"channel", c.Channel}, {"pattern", p.Pattern}, {"written in", p.Source}, {"history", history}, {"cache", cache}, {"whispers", !p.NoWhispers},
		{"slow", slow}, {"payload", config.Size(p.PayloadBytes)}, {"subscribers", subscribers}, {"members", p.Members}, {"encrypted", p.Encrypted},
	} {
		if _, err := fmt.Fprintf(t.stdout, "%-12s %v\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}
