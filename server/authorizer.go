package server

import (
	"context"
	"encoding/json"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/hub"
)

// authorizer puts package auth behind the hub's question.
type authorizer struct{ auth *auth.Auth }

func request(r *hub.Request) auth.Request {
	q := auth.Request{App: appKeys(r.App), Channel: r.Channel, SocketID: r.SocketID, Auth: r.Auth, ChannelData: r.ChannelData}
	if r.User != nil {
		q.User, _ = r.User.Claims.(*auth.User)
	}
	return q
}

func grant(g auth.Grant) hub.Grant {
	return hub.Grant{MemberID: g.MemberID, MemberInfo: info(g.MemberInfo), Publish: g.Publish, Expires: g.ExpiresAt}
}

func info(j json.RawMessage) string {
	if string(j) == "null" {
		return ""
	}
	return string(j)
}

func (a authorizer) Decide(r *hub.Request) (hub.Grant, bool, *hub.Error) {
	g, decided, err := a.auth.Decide(request(r))
	if err != nil {
		return hub.Grant{}, decided, refusal(err)
	}
	return grant(g), decided, nil
}

func (a authorizer) Authorize(ctx context.Context, r *hub.Request) (hub.Grant, error) {
	g, err := a.auth.Authorize(ctx, request(r))
	if err != nil {
		if _, ok := err.(*auth.Refusal); ok {
			return hub.Grant{}, refusal(err)
		}
		return hub.Grant{}, err
	}
	return grant(g), nil
}

func refusal(err error) *hub.Error {
	return &hub.Error{Code: hub.Unauthorized, Message: auth.Reason(err)}
}

func user(u *auth.User) *hub.User {
	if u == nil {
		return nil
	}
	return &hub.User{ID: u.ID, Info: info(u.Info), Expires: u.ExpiresAt, Claims: u}
}

// signIn is the identity behind a signed pusher:signin.
func signIn(app *hub.App, socketID, signature, userData string) (*hub.User, []string, *hub.Error) {
	u, watchlist, err := auth.VerifyUser(appKeys(app), socketID, signature, userData)
	if err != nil {
		return nil, nil, refusal(err)
	}
	return user(&u), watchlist, nil
}

// authenticate is the identity behind a token sent on an open connection.
func (s *Server) authenticate(ctx context.Context, token string) (*hub.User, error) {
	u, err := s.auth.Token(ctx, token)
	if err != nil {
		return nil, refusal(err)
	}
	return user(u), nil
}
