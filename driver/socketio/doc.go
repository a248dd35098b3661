// Package socketio publishes into a cluster of Node servers with Socket.IO 4 (or 3) and a Redis adapter: their clients hear
// what a Go program sends, and no server changes.
//
//	d, err := socketio.New(socketio.Config{Redis: "redis://127.0.0.1:6379"})
//	if err != nil {
//		return err // everything that is wrong with the configuration
//	}
//	b, err := realtime.New(d, broadcasts.All())
//	if err != nil {
//		return err
//	}
//	defer b.Close(ctx) // closes the driver too
//	realtime.SetDefault(b)
//
// In a configuration file that is "driver: socket" with a section "socket.redis". A channel is the room of its name, and a
// client in it hears socket.on(event, ({event, channel, data}) => …); who may be in a room is for the servers to say.
//
// Namespace is for what channels cannot say, as Socket.IO's own emitter does: any room, binary arguments, sockets that join,
// leave and are disconnected.
//
//	err = d.Namespace("/admin").To("ops").Except(socketID).Emit(ctx, "reload", map[string]any{"image": png})
//
// # What is sent again
//
// A command is repeated, twice, if Redis certainly did not take it: there was no connection, or Redis was still loading or
// without a master. After a timeout or a broken connection it may have, and the error is the caller's to judge;
// Error.Temporary is the same rule. Messages with an ID may always be sent again (see Send), so realtime.Retry around this
// driver doubles nothing.
//
// # Limits
//
// Redis takes a message whether or not a server listens, and servers that are down for a moment miss it: only the streams
// adapter with Socket.IO's connection state recovery makes up for it. Nothing comes back: no acknowledgements, no members.
// JSON is read and written anew by the servers, so numbers are JavaScript's on arrival: 12345678901234567890 is rounded, and
// 1e400 is null.
package socketio
