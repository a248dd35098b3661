package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/stacksjs/realtime-go/internal/bench"
)

type benchCommand struct {
	Work        string        `arg:"" enum:"fanout,echo,connect,idle" default:"fanout" help:"What the server is asked to do: fanout, echo, connect or idle."`
	URL         string        `placeholder:"URL" help:"The server's WebSocket endpoint (ws://127.0.0.1:6001 and /ws, /app/KEY or /socket.io/)."`
	Protocol    string        `enum:"ws,pusher,socketio" default:"ws" placeholder:"NAME" help:"What clients speak: ws, pusher or socketio (${default})."`
	Publish     string        `enum:"ws,socketio,http," default:"" placeholder:"NAME" help:"What publishers speak: ws (at /ws), socketio (at /socket.io/) or http, the Pusher HTTP API. Without it, http for pusher, and else what clients speak."`
	AppID       string        `default:"1" placeholder:"ID" help:"The app's id, for http (${default})."`
	Key         string        `placeholder:"KEY" help:"The app's key, for http." env:"PUSHER_APP_KEY"`
	Secret      string        `placeholder:"SECRET" help:"The key's secret, for http. Other users of this machine can see it here; in the environment they cannot." env:"PUSHER_APP_SECRET"`
	Batch       int           `default:"1" placeholder:"N" help:"Messages in one HTTP request (${default})."`
	Token       string        `placeholder:"JWT" help:"A token that lets the publisher publish, for ws and socketio: a JWT with a publish claim."`
	Insecure    bool          `help:"Accept any certificate."`
	Channels    int           `default:"1" placeholder:"N" help:"Channels of a fan-out (${default})."`
	Subscribers int           `default:"1000" placeholder:"N" help:"Subscribers of each channel (${default})."`
	PerConn     int           `default:"1" placeholder:"N" help:"Channels of each connection (${default})."`
	Publishers  int           `default:"1" placeholder:"N" help:"Publishing connections (${default})."`
	Rate        float64       `placeholder:"N" help:"Messages per second; without it, as fast as they are received."`
	Messages    int           `placeholder:"N" help:"End a fan-out after so many messages, instead of after --duration."`
	Size        int           `default:"128" placeholder:"BYTES" help:"Bytes of JSON in a message (${default})."`
	Except      bool          `help:"Leave another subscriber out of each message."`
	Connections int           `placeholder:"N" help:"Connections of echo, connect and idle (100); in a fan-out, those that ping beside it (none)."`
	Duration    time.Duration `default:"5s" placeholder:"TIME" help:"How long to measure (${default})."`
	Warmup      time.Duration `default:"1s" placeholder:"TIME" help:"How long to run before that (${default})."`
	PID         int           `placeholder:"PID" help:"The server's process on this machine, to report its CPU time and memory."`
	JSON        bool          `name:"json" help:"Print the result as JSON."`
}

func (benchCommand) Help() string {
	return `fanout publishes messages to channels with many subscribers, echo keeps one ping under way on every connection,
connect opens and subscribes connections as fast as the server takes them, and idle measures the memory that subscribed
connections hold. Every message is numbered, and every connection checks that none is lost, doubled or out of order: if
one is, the exit code is 1. Linux only.

Examples:

    realtime bench fanout --subscribers 1000 --token "$TOKEN" --pid "$(pidof realtime)"
    realtime bench echo --connections 100 --json
    realtime bench fanout --protocol pusher --key key --secret secret --publishers 8 --batch 10
    realtime bench fanout --protocol socketio --url ws://127.0.0.1:3000/socket.io/

A Socket.IO server needs an application with the events subscribe(channel) and publish({channel, event, data}), which
emits event({event, channel, data}) to the channel's subscribers, and unsubscribe(channel) for echo. Each calls its
acknowledgement with {ok: true}; unsubscribe adds the channel. "realtime serve" has them.`
}

func (c *benchCommand) Run(ctx context.Context, t terminal) error {
	if c.URL == "" {
		c.URL = "ws://127.0.0.1:6001" + map[string]string{"ws": "/ws", "pusher": "/app/" + c.Key, "socketio": "/socket.io/"}[c.Protocol]
	}
	cfg := bench.Config{
		URL: c.URL, Protocol: bench.Protocol(c.Protocol), Publish: bench.Protocol(c.Publish), App: bench.App{ID: c.AppID, Key: c.Key, Secret: c.Secret}, Batch: c.Batch, Token: c.Token, Insecure: c.Insecure, Work: bench.Work(c.Work), Channels: c.Channels,
		Subscribers: c.Subscribers, PerConn: c.PerConn, Publishers: c.Publishers, Rate: c.Rate, Messages: c.Messages,
		Size: c.Size, Except: c.Except, Connections: c.Connections, Duration: c.Duration, Warmup: c.Warmup, PID: c.PID,
	}
	if f, ok := t.stderr.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			cfg.Progress = func(line string) { fmt.Fprintf(f, "\r\x1b[K%s", line) }
			defer fmt.Fprint(f, "\r\x1b[K")
		}
	}
	r, err := bench.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(t.stdout).Encode(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(t.stdout, r)
	}
	return r.Err()
}
