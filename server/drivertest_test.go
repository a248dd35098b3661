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
