package auth_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// An application lets people listen to their own orders.
func Example() {
	owner := map[string]string{"5": "ann"}

	a := auth.New()
	a.Identify(func(r *http.Request) (auth.User, error) {
		id, _, _ := r.BasicAuth() // a session, in real life
		return auth.User{ID: id}, nil
	})
	a.Channel("orders.{orderId}", func(ctx context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if u == nil || owner[p["orderId"]] != u.ID {
			return auth.Grant{}, auth.Refuse("order " + p["orderId"] + " is not yours")
		}
		return auth.Grant{}, nil
	})
	if err := a.Check(); err != nil {
		log.Fatal(err)
	}

	// This is what the server does.
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth("ann", "")
	u, err := a.User(r.Context(), r, "")
	fmt.Println(u.ID, err)
	for _, channel := range []string{"private-orders.5", "private-orders.6", "private-carts.5"} {
		_, err = a.Authorize(r.Context(), auth.Request{Channel: channel, SocketID: "1.2", User: u})
		fmt.Println(channel, err)
	}
	// Output:
	// ann <nil>
	// private-orders.5 <nil>
	// private-orders.6 order 6 is not yours
	// private-carts.5 no authorizer is registered for channel "private-carts.5", and the subscription brought neither signature nor token
}

// A presence channel shows what the Grant says.
func ExampleAuth_Channel_presence() {
	a := auth.New()
	a.Channel("presence-chat.{room}", func(ctx context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		return auth.Grant{MemberID: "guest-1", MemberInfo: []byte(`{"name":"A guest"}`)}, nil
	})
	g, err := a.Authorize(context.Background(), auth.Request{Channel: "presence-chat.tea", SocketID: "1.2"})
	fmt.Println(g.MemberID, string(g.MemberInfo), err)
	// Output: guest-1 {"name":"A guest"} <nil>
}

// One token covers all channels of a page.
func ExampleAuth_JWT() {
	secret := []byte("thirty-two bytes made at random!")
	a := auth.New()
	a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: secret, Audience: "realtime"})

	token, err := auth.IssueHS256(secret, auth.Claims{
		Subject:   "ann",
		Channels:  []string{"private-orders.*", "presence-chat.{room}"},
		Audience:  "realtime",
		ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	u, err := a.Token(context.Background(), token)
	if err != nil {
		log.Fatal(err)
	}
	for _, channel := range []string{"private-orders.5", "presence-chat.tea", "presence-orders.5"} {
		_, err := a.Authorize(context.Background(), auth.Request{Channel: channel, SocketID: "1.2", User: u})
		fmt.Println(channel, err == nil)
	}
	// Output:
	// private-orders.5 true
	// presence-chat.tea true
	// presence-orders.5 false
}

// The endpoint that pusher-js and Laravel Echo ask.
func ExampleAuth_Handler() {
	a := auth.New()
	a.Channel("foobar", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	app := auth.AppKeys{ID: "3", Keys: []auth.Key{{Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}}}
	mux := http.NewServeMux()
	mux.Handle("/broadcasting/", a.Handler(app, auth.HandlerOptions{}))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/broadcasting/auth", strings.NewReader("socket_id=1234.1234&channel_name=private-foobar")))
	fmt.Println(w.Code, w.Body)
	// Output: 200 {"auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}
}

// A publisher signs its request to the HTTP API.
func ExampleSignRequest() {
	query := auth.SignRequest("GET", "/apps/102015/channels", map[string]string{"filter_by_prefix": "presence-", "info": "user_count"}, nil,
		"d41a439c438a100756f5", "4bf35003e819bb138249", time.Unix(1427034994, 0))
	fmt.Println(strings.ReplaceAll(query, "&", "\n"))
	// Output:
	// auth_key=d41a439c438a100756f5
	// auth_timestamp=1427034994
	// auth_version=1.0
	// filter_by_prefix=presence-
	// info=user_count
	// auth_signature=4d8a02edcc8a758b0162cd6da690a9a45fb8ae326a276dca1e06a0bc42796c11
}
