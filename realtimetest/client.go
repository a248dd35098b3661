package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// patience bounds what never comes; nothing waits as long where it works.
const patience = 20 * time.Second

// Client is a client of a Live server: a WebSocket like a page's, which ends with the test. Its methods are for the
// goroutine of the test.
type Client struct {
	// SocketID names the connection, for ToOthers and Except: "123.456".
	SocketID string

	t     testing.TB
	conn  *wsclient.Conn
	early []realtime.Message // came while Subscribe waited for its answer
}

// Connect connects a client that sends header, such as a cookie or a bearer token, with its request; nil is none. A
// refusal is an *auth.Refusal with what the client is told.
func (l *Live) Connect(header http.Header) (*Client, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := wsclient.Dial(ctx, l.URL, &wsclient.Options{Header: header})
	if err != nil {
		if no, ok := errors.AsType[*wsclient.HandshakeError](err); ok {
			var body struct{ Error string }
			if json.Unmarshal([]byte(no.Body), &body) == nil && body.Error != "" {
				return nil, auth.Refuse(body.Error)
			}
		}
		return nil, err
	}
	l.t.Cleanup(func() { conn.Close(1000, "") })
	c := &Client{t: l.t, conn: conn}
	var hello struct {
		SocketID string `json:"socket_id"`
	}
	if err := json.Unmarshal(c.read().Data, &hello); err != nil {
		l.t.Fatalf("realtimetest: the server's greeting: %v", err)
	}
	c.SocketID = hello.SocketID
	return c, nil
}

// Subscribe subscribes to a channel by its wire name ("private-orders.7") and waits for the answer. A refusal is an
// *auth.Refusal with what the client is told.
func (c *Client) Subscribe(channel string) error {
	c.t.Helper()
	ask, err := json.Marshal(map[string]string{"event": "subscribe", "channel": channel})
	if err != nil {
		return err
	}
	if err := c.conn.Write(context.Background(), ws.OpText, ask); err != nil {
		return err
	}
	for {
		m := c.read()
		if len(m.Channels) == 1 && m.Channels[0] == channel {
			switch m.Event {
			case "subscription_succeeded":
				return nil
			case "subscription_error":
				var data struct{ Error string }
				if err := json.Unmarshal(m.Data, &data); err != nil {
					c.t.Fatalf("realtimetest: the server's refusal %s: %v", m.Data, err)
				}
				return auth.Refuse(data.Error)
			}
		}
		c.early = append(c.early, m)
	}
}

// Next returns the next event the client receives, with its one channel, and those the server sends by itself, such as
// member_added, too. It fails t when none comes for 20 s. That something does not come is seen by sending something
// behind it: a connection receives what one goroutine sent in its order.
func (c *Client) Next() realtime.Message {
	c.t.Helper()
	if len(c.early) > 0 {
		m := c.early[0]
		c.early = c.early[1:]
		return m
	}
	return c.read()
}

func (c *Client) read() realtime.Message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, text, err := c.conn.ReadMessage(ctx)
	if err != nil {
		c.t.Fatalf("realtimetest: the client receives nothing more: %v", err)
	}
	var frame struct {
		Event, Channel, Mid string
		Data                json.RawMessage
	}
	if err := json.Unmarshal(text, &frame); err != nil {
		c.t.Fatalf("realtimetest: frame %s: %v", text, err)
	}
	m := realtime.Message{ID: frame.Mid, Event: frame.Event, Data: frame.Data}
	if frame.Channel != "" {
		m.Channels = []string{frame.Channel}
	}
	return m
}
