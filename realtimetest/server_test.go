package realtimetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/realtimetest"
	"github.com/stacksjs/realtime-go/server"
)

// sessions lets those in whose cookie says who they are, and to their own orders only.
func sessions() *auth.Auth {
	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) {
		c, err := r.Cookie("user")
		if err != nil {
			return auth.User{}, auth.Refuse("sign in first")
		}
		return auth.User{ID: c.Value}, nil
	})
	a.Channel("orders.{user}", func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if u.ID != p["user"] {
			return auth.Grant{}, auth.Refuse("these orders are not yours")
		}
		return auth.Grant{}, nil
	})
	a.Channel("presence-shop", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	return a
}

func connect(t *testing.T, live *realtimetest.Live, user string) *realtimetest.Client {
	t.Helper()
	c, err := live.Connect(http.Header{"Cookie": {"user=" + user}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func subscribe(t *testing.T, c *realtimetest.Client, channels ...string) {
	t.Helper()
	for _, ch := range channels {
		if err := c.Subscribe(ch); err != nil {
			t.Fatal(err)
		}
	}
}

// want wants the client's next events, each as "event [channel] data".
func want(t *testing.T, c *realtimetest.Client, events ...string) {
	t.Helper()
	for _, w := range events {
		if m := c.Next(); fmt.Sprintln(m.Event, m.Channels, string(m.Data)) != w+"\n" {
			t.Fatalf("received %s %s %s, not %s", m.Event, m.Channels, m.Data, w)
		}
	}
}

func TestServerDeliversWhatItsContextSends(t *testing.T) {
	ctx, live := realtimetest.Server(t, server.Config{Path: "/live"}, nil)
	c, err := live.Connect(nil)
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, "news")
	err = errors.Join(
		realtime.Channel("news").ID("7").Public(ctx, "headline", map[string]int{"n": 1}),
		realtime.Channel("news").Except(c.SocketID).Public(ctx, "headline", 2),
		realtime.Channel("news").Public(ctx, "headline", 3),
	)
	if err != nil {
		t.Fatal(err)
	}
	if m := c.Next(); fmt.Sprintf("%+v", m) != fmt.Sprintf("%+v", realtime.Message{ID: "7", Channels: []string{"news"}, Event: "headline", Data: []byte(`{"n":1}`)}) {
		t.Errorf("received %+v", m)
	}
	want(t, c, "headline [news] 3")
}

func TestARefusalIsWhatTheClientIsTold(t *testing.T) {
	_, live := realtimetest.Server(t, server.Config{Auth: sessions()}, nil)
	var no *auth.Refusal
	if _, err := live.Connect(nil); !errors.As(err, &no) || no.Reason != "sign in first" {
		t.Errorf("without a cookie: %v", err)
	}
	if err := connect(t, live, "ada").Subscribe("private-orders.bob"); !errors.As(err, &no) || no.Reason != "these orders are not yours" {
		t.Errorf("to another's orders: %v", err)
	}
}

func TestWhatComesWhileSubscribingIsNotLost(t *testing.T) {
	ctx, live := realtimetest.Server(t, server.Config{Auth: sessions()}, nil)
	ada := connect(t, live, "ada")
	subscribe(t, ada, "private-orders.ada", "presence-shop")
	subscribe(t, connect(t, live, "bob"), "presence-shop")
	if err := realtime.Channel("orders.ada").Private(ctx, "shipped", 1); err != nil {
		t.Fatal(err)
	}
	subscribe(t, ada, "news")
	want(t, ada, `member_added [presence-shop] {"id":"bob","info":null}`, "shipped [private-orders.ada] 1")
}
