package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/auth"
)

// publishTime is how long the server may take to answer.
const publishTime = 30 * time.Second

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
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usagef("--url %q is not of the form http://127.0.0.1:6001", c.URL)
	}
	// The Pusher HTTP API takes data as text, so that it arrives byte for byte.
	body, err := json.Marshal(struct {
		Name     string   `json:"name"`
		Channels []string `json:"channels"`
		Data     string   `json:"data"`
		SocketID string   `json:"socket_id,omitempty"`
	}{c.Event, []string{c.Channel}, c.JSON, c.Except})
	if err != nil {
		return err
	}
	if u.Path == "" {
		u.Path = "/" // JoinPath keeps a path relative, and the signature covers the slash
	}
	u = u.JoinPath("apps", url.PathEscape(c.AppID), "events")
	u.RawQuery = auth.SignRequest(http.MethodPost, u.EscapedPath(), nil, body, c.Key, c.Secret, time.Now())
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.ID != "" {
		req.Header.Set("X-Idempotency-Key", c.ID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the signed address
		}
		return fmt.Errorf("%s cannot be reached: %w", c.URL, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if res.StatusCode == http.StatusOK {
		return err
	}
	var refusal struct{ Error string }
	if json.Unmarshal(answer, &refusal) != nil || refusal.Error == "" {
		refusal.Error = strings.TrimSpace(string(answer))
	}
	return fmt.Errorf("the server refuses (%s): %s", res.Status, refusal.Error)
}
