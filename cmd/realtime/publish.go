package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"unicode/utf8"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/pusher"
)

type publish struct {
	Channel string `arg:"" help:"The channel's name with its prefix, such as private-orders.1."`
	Event   string `arg:"" help:"The event's name."`
	JSON    string `arg:"" name:"json" help:"Its data: JSON, so a text needs its quotes."`
	URL     string `default:"http://127.0.0.1:6001" placeholder:"URL" help:"The server (${default})."`
	AppID   string `default:"1" env:"PUSHER_APP_ID" placeholder:"ID" help:"The app's id (${default})."`
	Key     string `env:"PUSHER_APP_KEY" required:"" placeholder:"KEY" help:"The app's key."`
	Secret  string `env:"PUSHER_APP_SECRET" required:"" placeholder:"SECRET" help:"The key's secret. Other users of this machine can see it here; in the environment they cannot."`
	Except  string `placeholder:"SOCKET-ID" help:"A connection that does not get the event, such as 123.456."`
	ID      string `placeholder:"ID" help:"The message's id: what is sent twice with one id, within two minutes, is delivered once."`
}

func (publish) Help() string {
	return `Prints nothing and exits with 0 when the server has accepted the event.

Examples:

    realtime publish orders OrderShipped '{"orderId":"1"}' --key key --secret secret
    realtime publish notifications new-message '"Hello!"'  # with $PUSHER_APP_KEY and $PUSHER_APP_SECRET`
}

func (c *publish) Run(ctx context.Context) error {
	if !utf8.ValidString(c.JSON) || !json.Valid([]byte(c.JSON)) {
		return usagef("the data is not JSON: %.100q; a text needs its quotes, as in '\"hello\"'", c.JSON)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return usagef("--url %q is not of the form http://127.0.0.1:6001", c.URL)
	}
	if u.User != nil {
		return usagef("--url %q has a name in it: who publishes is said by --key and --secret", u.Redacted())
	}
	port, _ := strconv.Atoi(u.Port()) // url.Parse takes nothing but digits
	d, err := pusher.New(pusher.Config{
		AppID: c.AppID, Key: c.Key, Secret: c.Secret,
		Scheme: u.Scheme, Host: u.Hostname(), Port: port, Path: u.Path,
	})
	if err != nil {
		return err
	}
	m := &realtime.Message{Channels: []string{c.Channel}, Event: c.Event, Data: json.RawMessage(c.JSON), ID: c.ID}
	if c.Except != "" {
		m.ExceptSockets = []string{c.Except}
	}
	_, err = d.Trigger(ctx, m)
	return err
}
