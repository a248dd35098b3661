package socketio

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/stacksjs/realtime-go/internal/hub"
)

// Program is what the embedding program does in one namespace. Its methods run on goroutines of their own, for one
// socket one after another and in the order in which things happened.
type Program interface {
	// Connect decides about a client before it is told; what it sends and joins takes effect behind the answer. A
	// *Refusal is told to the client, any other error is logged and told as an internal one.
	Connect(ctx context.Context, s *Socket) error
	// Handles reports whether it has a handler of its own for an event, which then is no command of ours. It is called on
	// loops, and returns at once.
	Handles(event string) bool
	// Event takes an event. answer is nil when the client wants none, and otherwise has an effect once.
	Event(ctx context.Context, s *Socket, name string, args Args, answer func(Args))
	// Disconnect is told of the end of a socket that Connect let in; it comes last.
	Disconnect(ctx context.Context, s *Socket, reason string)
}

// Args are the arguments of an event or of an acknowledgement.
type Args struct {
	JSON  string   // an array; an attachment stands in it as {"_placeholder":true,"num":0}
	Blobs [][]byte // the attachments
}

// Refusal is why a client may not enter a namespace.
type Refusal struct {
	Message string
	Data    string // JSON, or empty
}

func (r *Refusal) Error() string { return r.Message }

var (
	// ErrDisconnected: the socket has ended.
	ErrDisconnected = errors.New("the client is disconnected")
	// ErrConnecting: the socket is not connected yet, so that it cannot answer.
	ErrConnecting = errors.New("the client is not connected before its Connect has returned")
	// ErrTooManyAcks: too many acknowledgements of the socket are outstanding.
	ErrTooManyAcks = errors.New("too many acknowledgements of the client are outstanding")
)

// Handshake is how a socket's connection came. It does not change.
type Handshake struct {
	Header http.Header
	URL    string // path and query
	Query  url.Values
	Addr   string // of the peer, "ip:port"
	Time   time.Time
	Auth   string // JSON object that the client sent with CONNECT; empty when it sent none
}

// Target selects sockets of a namespace.
type Target struct {
	App       *hub.App
	Namespace string
	Rooms     []string // sockets in any of them, each once; none: all of the namespace. A socket's id is a room.
	Except    []string // without those in any of these
	Volatile  bool     // leave out whose connection cannot take it at once
}

// Reply is one socket's acknowledgement.
type Reply struct {
	Socket *Socket
	Args   Args
}
