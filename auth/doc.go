// Package auth decides who may listen to what.
//
// Public channels are open to everybody. A private, presence or encrypted channel needs a yes from one of these,
// and without one the answer is no:
//
//   - a Pusher signature, made by the application's own auth endpoint or by [Auth.Handler] (Pusher Channels
//     protocol, "Generating auth signatures");
//   - a JWT whose "channels" claim lists the channel, given at the connection or with the subscription;
//   - a function registered for the channel's pattern, which runs in this process.
//
// An application registers what it needs before the server starts, and the server calls [Auth.Check]:
//
//	a := auth.New()
//	a.Identify(func(r *http.Request) (auth.User, error) {
//		s, err := sessions.Get(r)
//		if err != nil {
//			return auth.User{}, err
//		}
//		return auth.User{ID: s.UserID}, nil
//	})
//	a.Channel("orders.{orderId}", func(ctx context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
//		if u == nil || !store.Owns(ctx, u.ID, p["orderId"]) {
//			return auth.Grant{}, auth.Refuse("this order is not yours")
//		}
//		return auth.Grant{}, nil
//	})
//
// # Patterns
//
// A pattern is matched against a channel's whole name without its private-, presence- or private-encrypted-
// prefix. It consists of segments separated by dots: text that must be equal, {name} for exactly one segment,
// and, as the last one, {name...} for one or more. orders.{id} matches orders.5, and neither orders.5.items nor
// ordersX5. A name with an empty segment (a..b) matches nothing. "cache-" is part of the name: cache-orders.{id}.
//
// A pattern that begins with a prefix (presence-chat.{room}) is for channels of that kind only.
//
// When several patterns match, the most specific wins: segment by segment from the left, text beats {name} beats
// {name...}; at the same shape a pattern with a prefix beats one without. Two patterns that differ in nothing but
// the names of their parameters are an error that Check reports.
package auth
