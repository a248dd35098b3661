package broadcasts

import (
	"context"

	"github.com/stacksjs/realtime-go/auth"
)

// Orders knows whose an order is.
type Orders interface {
	Owner(ctx context.Context, orderID string) (userID string, ok bool)
}

// Channels adds to a who may listen: to an order its customer, to a customer's chat the customer, in the chat room
// everybody who is signed in. What is not here stays closed.
func Channels(a *auth.Auth, orders Orders) {
	a.Channel("orders.{orderId}", func(ctx context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if owner, ok := orders.Owner(ctx, p["orderId"]); !ok || u == nil || owner != u.ID {
			return auth.Grant{}, auth.Refuse("this is not an order of yours")
		}
		return auth.Grant{}, nil
	})
	a.Channel("chat.{userId}", func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
		if u == nil || u.ID != p["userId"] {
			return auth.Grant{}, auth.Refuse("this is not your chat")
		}
		return auth.Grant{}, nil
	})
	a.Channel("presence-chat-room", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
		if u == nil {
			return auth.Grant{}, auth.Refuse("sign in to enter the chat room")
		}
		return auth.Grant{}, nil
	})
}
