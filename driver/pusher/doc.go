// Package pusher sends to hosted Pusher Channels, or to any server with the same HTTP API: this module's own, Soketi,
// Reverb and others.
//
//	d, err := pusher.New(pusher.Config{AppID: "3", Key: key, Secret: secret, Cluster: "eu"})
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
// In a configuration file that is "driver: pusher" with the section "pusher". A Driver can also ask the server who
// listens (Channels, Channel, Users) and close a user's connections, and ParseWebhook reads what the server tells.
//
// # What is sent again
//
// A failed request is repeated, Config.Retries times, if that cannot deliver an event twice:
//
//   - it was certainly not sent: there was no connection, or it broke before the request was written;
//   - the server refused it for coming too often (429);
//   - it only asks, or doing it twice is the same as doing it once;
//   - the message has an ID and the server deals with repetitions: this module's server does, and says so by
//     repeating the header X-Idempotency-Key in its answers. The driver goes by the last answer it had.
//
// After a timeout, a broken connection or a 5xx answer without any of these, the event may have been delivered, and
// the error is the caller's to judge; Config.AtLeastOnce leaves that to the driver. Error.Temporary is the same rule,
// so realtime.Retry around this driver doubles nothing either.
//
// # Batches
//
// With a Config.BatchWindow, Send puts messages into a queue in memory, and up to ten events share a request. What is
// sent to one channel stays in order. Send still refuses at once what cannot be sent; what the server says comes
// later, to Config.OnError and from Flush. Close flushes. Messages with an ID get requests of their own, since a
// batch has no place for it: realtime.Retry, which gives every message an ID, makes a BatchWindow useless.
//
// # Limits of the protocol
//
// One connection can be left out, users cannot. Data goes up to 10 KiB at hosted Pusher, and to whatever the server
// allows elsewhere.
package pusher
