// Package socketio is Socket.IO for programs that want more than channels: namespaces, events with typed arguments,
// acknowledgements in both directions, rooms and attachments, for the clients that exist (socket.io-client and its
// relatives in other languages).
//
// A program registers what it does, and gives it to a server, which serves it at /socket.io/ beside the channels:
//
//	io := socketio.New(socketio.Options{})
//	chat := io.Namespace("/chat")
//	chat.OnConnect(func(ctx context.Context, s *socketio.Socket) error {
//		return s.Join(ctx, "lobby")
//	})
//	socketio.On(chat, "say", func(ctx context.Context, s *socketio.Socket, text string) (any, error) {
//		return nil, s.To("lobby").Emit(ctx, "said", s.ID(), text)
//	})
//
// # Handlers
//
// For one socket they run one after another, in the order in which things happened: OnConnect, its events, OnDisconnect.
// So it is with a socket that comes back (see [Socket.Recovered]): OnConnect waits for the handlers of its former life.
// Those of different sockets run at the same time, on goroutines that exist while there is something to run. Their ctx
// ends when the server's limit for the program's code does. A handler that panics has failed, and nothing else happens.
//
// # Errors
//
// An [*Error] is told to the client, and so is an auth.Refusal; of any other error it learns "internal error", and the
// log has the rest. A client that asked for an acknowledgement gets one with the single argument
// {"error":{"message":"…","data":…}}, and one whose connection OnConnect refuses gets connect_error with message and data.
// Without an acknowledgement nobody can be told. The log has what clients are told at debug level.
//
// # Values
//
// Arguments are JSON as encoding/json makes and reads it, except that []byte as an argument and [Binary] at any depth
// travel as attachments. [Args] stands for all arguments at once, as parameter, as reply and among the arguments of Emit.
package socketio
