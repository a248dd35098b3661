// Package realtime sends events to everybody who may hear them: browsers, phones and scripts, through the
// client library they already have.
//
// # Events
//
// An event is a struct that names itself and knows where it goes:
//
//	type OrderShipped struct {
//		OrderID string `json:"orderId"`
//	}
//
//	func (OrderShipped) EventName() string { return "OrderShipped" }
//
//	func (e OrderShipped) Handle(ctx context.Context) error {
//		return realtime.Channel("orders."+e.OrderID).Private(ctx, e.EventName(), e)
//	}
//
// [Events] is the table of them. [Register] adds such a struct; [HandleFunc] adds a function, for handlers
// that need a store or a mailer. A duplicate or invalid name is an error of [New], so it is found when the
// program starts.
//
// [Broadcast] sends an event by name, with the struct, a map or raw JSON. Maps and raw JSON are decoded
// strictly: a [DataError] lists every field that is missing, unknown or of the wrong type. [Dispatch] sends an
// event the compiler has checked.
//
// # Channels
//
// [Channel] sends without an event's struct, and is what handlers use:
//
//	realtime.Channel("news").Public(ctx, "headline", text)           // anyone may listen
//	realtime.Channel("orders.1").Private(ctx, "shipped", order)      // listeners need a grant
//	realtime.Channel("chat").Presence(ctx, "joined", user)           // and see each other
//	realtime.Channel("medical.7").Encrypted(ctx, "result", result)   // and only they can read it
//	realtime.User("ada").Send(ctx, "reminder", text)                 // all connections of one user
//
// The kind stands in the channel's name: clients subscribe to "private-orders.1". ToOthers, Except and
// ExceptUsers leave listeners out, and ID makes sending twice harmless.
//
// # Broadcasters and drivers
//
// A [Broadcaster] sends through a [Driver], with [Middleware] such as [Logging] and [Retry] around it. The
// functions above look for it in the context ([WithBroadcaster]), then for the default ([SetDefault]), then
// fail with [ErrNoBroadcaster]; nothing is dropped in silence. A program calls SetDefault once; a test uses
// the context that package realtimetest gives it, so tests run in parallel.
//
// # The other packages
//
//   - [github.com/stacksjs/realtime-go/config] opens the driver that a file names, and the server behind it: what
//     most programs begin with.
//   - [github.com/stacksjs/realtime-go/server] is that server, for programs that configure it in Go.
//   - [github.com/stacksjs/realtime-go/auth] says who may listen.
//   - [github.com/stacksjs/realtime-go/encrypted] encrypts data end to end.
//   - [github.com/stacksjs/realtime-go/realtimetest] is for the tests of applications.
//   - [github.com/stacksjs/realtime-go/driver/pusher] sends to servers elsewhere.
//   - [github.com/stacksjs/realtime-go/driver/log] and [github.com/stacksjs/realtime-go/driver/null] send nowhere;
//     [github.com/stacksjs/realtime-go/driver/drivertest] is the suite that drivers run.
//
// This package links no server and needs nothing but the standard library.
package realtime
