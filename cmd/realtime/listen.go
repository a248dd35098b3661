package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

const (
	dialTime     = 10 * time.Second
	pongTime     = 30 * time.Second
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

type listen struct {
	Channels []string `arg:"" name:"channel" help:"Channels' names with their prefixes, such as private-orders.1."`
	URL      string   `default:"ws://127.0.0.1:6001/ws" placeholder:"URL" help:"The server (${default})."`
	Token    string   `placeholder:"JWT" help:"A JSON Web Token that says who listens, and to which private channels."`
	JSON     bool     `name:"json" help:"Print the server's frames as they come, one a line."`
}

func (listen) Help() string {
	return `Prints time, channel, event and data, a line each, until Ctrl-C, and exits with 0 then. A connection that is lost is
made again; what was sent meanwhile is missed. When the server refuses the connection, or all channels, it exits with 1.

Examples:

    realtime listen orders prices
    realtime listen orders --json | jq .data`
}

// frame is what of a server's frame is looked at.
type frame struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
}

// final is the end of listening: connecting again would not help.
type final struct{ error }

func (c *listen) Run(ctx context.Context, t terminal) error {
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return usagef("--url %q is not of the form ws://127.0.0.1:6001/ws", c.URL)
	}
	wait := firstBackoff
	for first := true; ; first = false {
		connected, err := c.connection(ctx, t, first)
		if ctx.Err() != nil {
			return nil
		}
		if end, ok := errors.AsType[final](err); ok {
			return end.error
		}
		if first && !connected {
			return fmt.Errorf("%s cannot be reached: %w", c.URL, err)
		}
		if connected {
			wait = firstBackoff
		}
		pause := wait/2 + rand.N(wait/2) // clients of one server do not all come back at once
		fmt.Fprintf(t.stderr, "the connection is lost: %v; connecting again in %v\n", err, pause.Round(10*time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		wait = min(2*wait, maxBackoff)
	}
}

// connection listens over one connection until it ends, and reports whether there was one.
func (c *listen) connection(ctx context.Context, t terminal, first bool) (connected bool, err error) {
	header := http.Header{}
	if c.Token != "" {
		header.Set("Authorization", "Bearer "+c.Token) // not in the address, which servers log
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := wsclient.Dial(dialing, c.URL, &wsclient.Options{Header: header})
	cancel()
	if err != nil {
		if no, ok := errors.AsType[*wsclient.HandshakeError](err); ok && no.Status >= 400 && no.Status < 500 {
			return false, final{fmt.Errorf("the server refuses the connection (%d): %s", no.Status, words(no.Body))}
		}
		return false, err
	}
	defer conn.Close(1000, "")
	if !first {
		fmt.Fprintf(t.stderr, "connected again\n")
	}
	open := map[string]bool{} // channels listened to, or asked for
	for _, ch := range c.Channels {
		open[ch] = true
	}
	for ch := range open {
		ask, err := json.Marshal(map[string]string{"event": "subscribe", "channel": ch})
		if err != nil {
			return true, final{err}
		}
		if err := conn.Write(ctx, ws.OpText, ask); err != nil {
			return true, err
		}
	}
	alive := &life{conn: conn}
	for {
		payload, err := alive.read(ctx)
		if err != nil {
			// Codes 4000 to 4099: connecting again would end the same (Pusher Channels protocol, "Error codes").
			if ce, ok := errors.AsType[*ws.CloseError](err); ok && ce.Code >= 4000 && ce.Code < 4100 {
				return true, final{fmt.Errorf("the server ended the connection: %w", err)}
			}
			if err == io.ErrUnexpectedEOF {
				err = errors.New("the server is gone")
			}
			return true, err
		}
		var f frame
		if err := json.Unmarshal(payload, &f); err != nil {
			return true, final{fmt.Errorf("the server does not speak this protocol: %.100q", payload)}
		}
		if f.Event == "pong" {
			continue // the answer to life's ping
		}
		if c.JSON {
			if _, err := t.stdout.Write(append(payload, '\n')); err != nil {
				return true, final{err}
			}
		}
		if err := c.show(t, &f, open, alive); err != nil {
			return true, final{err}
		}
		if len(open) == 0 {
			return true, final{errors.New("no channel is left to listen to")}
		}
	}
}

// show prints an event for people, and what the server says about the connection.
func (c *listen) show(t terminal, f *frame, open map[string]bool, alive *life) error {
	var about struct {
		Error           string `json:"error"`
		Count           int    `json:"count"`
		ActivityTimeout int    `json:"activity_timeout"`
	}
	known := json.Unmarshal(f.Data, &about) == nil
	switch f.Event {
	case "connection_established":
		if known && about.ActivityTimeout > 0 {
			alive.silence = time.Duration(about.ActivityTimeout) * time.Second
		}
	case "subscription_succeeded":
		if !c.JSON {
			fmt.Fprintf(t.stderr, "listening to %s\n", printable(f.Channel))
		}
	case "subscription_error":
		delete(open, f.Channel)
		fmt.Fprintf(t.stderr, "%s: refused: %s\n", printable(f.Channel), printable(about.Error))
	case "unsubscribed":
		delete(open, f.Channel)
		fmt.Fprintf(t.stderr, "%s: ended by the server: %s\n", printable(f.Channel), printable(about.Error))
	case "error":
		fmt.Fprintf(t.stderr, "the server says: %s\n", printable(about.Error))
	case "messages_dropped":
		fmt.Fprintf(t.stderr, "%s: %d messages were left out, since they were read too slowly\n", printable(f.Channel), about.Count)
	case "token_expiring":
		fmt.Fprintf(t.stderr, "the token is about to expire\n")
	default:
		if c.JSON {
			return nil
		}
		var line bytes.Buffer
		if json.Compact(&line, f.Data) != nil {
			line.Reset()
		}
		_, err := fmt.Fprintf(t.stdout, "%s  %s  %s  %s\n", time.Now().Format(time.TimeOnly), printable(f.Channel), printable(f.Event), printable(line.String()))
		return err
	}
	return nil
}

// life tells a silent connection from a dead one.
type life struct {
	conn    *wsclient.Conn
	silence time.Duration // after which the server is asked; 0: it has not said yet
}

func (l *life) read(ctx context.Context) ([]byte, error) {
	silence := l.silence
	if silence == 0 {
		silence = pongTime
	}
	waiting, cancel := context.WithTimeout(ctx, silence)
	_, payload, err := l.conn.ReadMessage(waiting)
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return payload, err
	}
	if err := l.conn.Write(ctx, ws.OpText, []byte(`{"event":"ping"}`)); err != nil {
		return nil, err
	}
	waiting, cancel = context.WithTimeout(ctx, pongTime)
	defer cancel()
	_, payload, err = l.conn.ReadMessage(waiting)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, fmt.Errorf("the server was silent for %v and did not answer", silence+pongTime)
	}
	return payload, err
}

// words is what a server's error body says to people.
func words(body string) string {
	var e struct{ Error string }
	if json.Unmarshal([]byte(body), &e) == nil && e.Error != "" {
		return printable(e.Error)
	}
	return printable(strings.TrimSpace(body))
}

// printable keeps other people's text from steering the terminal.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
