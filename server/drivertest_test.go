package server

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// TestTheServerIsADriver looks at what subscribers receive.
func TestTheServerIsADriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
			s, all := driverListeners(t, []string{""})
			return s, all[0].Next
		},
		PerChannel: true,
		NoExcept:   true,
		Listeners:  driverListeners,
	})
}

func driverListeners(t *testing.T, users []string) (realtime.Driver, []drivertest.Listener) {
	who := auth.New()
	who.AllowAnonymous()
	who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.Header.Get("User")}, nil })
	who.Channel("drivertest.c", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	s := start(t, Config{Auth: who})
	var all []drivertest.Listener
	for _, u := range users {
		p := s.dialWith("", &wsclient.Options{Header: http.Header{"User": {u}}})
		for _, c := range drivertest.Channels {
			p.say(`{"event":"subscribe","channel":"` + c + `"}`)
			p.want(`{"event":"subscription_succeeded","channel":"` + c + `"}`)
		}
		all = append(all, drivertest.Listener{SocketID: p.SocketID, Next: func() realtime.Message {
			t.Helper()
			var f struct {
				Event, Channel string
				Data           json.RawMessage
			}
			if text := p.next(); json.Unmarshal([]byte(text), &f) != nil {
				t.Fatalf("frame %s", text)
			}
			return realtime.Message{Channels: []string{f.Channel}, Event: f.Event, Data: f.Data}
		}})
	}
	return s.Server, all
}

// TestTheServerIsADriverForSocketIO looks at what Socket.IO clients receive.
func TestTheServerIsADriverForSocketIO(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
			s, all := socketIOListeners(t, []string{""})
			return s, all[0].Next
		},
		PerChannel: true,
		NoExcept:   true,
		Listeners:  socketIOListeners,
	})
}

func socketIOListeners(t *testing.T, users []string) (realtime.Driver, []drivertest.Listener) {
	who := auth.New()
	who.AllowAnonymous()
	who.Identify(func(r *http.Request) (auth.User, error) { return auth.User{ID: r.URL.Query().Get("user")}, nil })
	who.Channel("drivertest.c", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
	s := start(t, Config{Auth: who})
	var all []drivertest.Listener
	for i, u := range users {
		var next func() string
		var id string
		if i%2 == 0 {
			p := s.dialSIO("&user=" + u)
			for _, c := range drivertest.Channels {
				p.subscribe(c)
			}
			id, next = p.SocketID, p.next
		} else {
			p := s.dialPoller("&user=" + u)
			for _, c := range drivertest.Channels {
				p.say(`42["subscribe","` + c + `"]`)
				p.want(`42["subscription_succeeded",{"channel":"` + c + `"}]`)
			}
			id, next = p.SocketID, p.next
		}
		all = append(all, drivertest.Listener{SocketID: id, Next: func() realtime.Message {
			t.Helper()
			var name, offset string
			var f struct {
				Event, Channel string
				Data           json.RawMessage
			}
			text := next()
			if to := []any{&name, &f, &offset}; len(text) < 2 || text[:2] != "42" || json.Unmarshal([]byte(text[2:]), &to) != nil || len(to) != 3 || name != f.Event {
				t.Fatalf("packet %s", text)
			}
			return realtime.Message{Channels: []string{f.Channel}, Event: f.Event, Data: f.Data}
		}})
	}
	return s.Server, all
}
