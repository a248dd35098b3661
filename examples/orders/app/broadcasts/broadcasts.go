// Package broadcasts holds what the shop broadcasts, one file an event, and who may listen.
package broadcasts

import realtime "github.com/stacksjs/realtime-go"

// All is the table of contents.
func All(messages Messages) *realtime.Events {
	e := realtime.NewEvents()
	realtime.Register[OrderShipped](e)
	registerNewMessage(e, messages)
	return e
}
