// Package socketio speaks Socket.IO 5 over Engine.IO 4, as socket.io-client 3 and 4 do, over WebSocket and HTTP polling;
// and, where that is switched on, Socket.IO 4 over Engine.IO 3, as socket.io-client 2 does.
//
// An engine is one connection, whatever its transport; a client is one namespace on it, and a client of the hub. Both are
// owned by the connection's loop. What a client is sent is queued as WebSocket frames, which polling turns into bodies.
package socketio

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/jsontext"
	"github.com/stacksjs/realtime-go/internal/loop"
	"github.com/stacksjs/realtime-go/internal/socket"
)

// Config of a Room. Every field must be set but those that say what their zero value means.
type Config struct {
	Hub    *hub.Hub
	Loops  []*loop.Loop
	Logger *slog.Logger
	// Echo makes it bare Engine.IO, without Socket.IO: every message is sent back. For conformance tests.
	Echo bool
	// Authenticate turns a token into an identity. Nil: there are no tokens.
	Authenticate func(ctx context.Context, token string) (*hub.User, error)
	// EventNamespace stands before the names of the program's own events in Echo's form.
	EventNamespace string
	// Recovery is how long a client may be away and get what it missed; zero: it cannot.
	Recovery time.Duration
	// EIO3 lets clients of Engine.IO 3 in.
	EIO3 bool
	// Cookie names a cookie with the session id, for load balancers; empty: there is none.
	Cookie string
	// PingInterval and PingTimeout are the heartbeat. (Engine.IO protocol, "Heartbeat".)
	PingInterval, PingTimeout time.Duration
	ConnectTimeout            time.Duration // until the first namespace
	UpgradeTimeout            time.Duration // of a probe
	MaxPayload                int           // bytes of one message, or of one polling body
	Attachments               int           // of one packet
	Namespaces                int           // of one connection
	Acks                      int           // outstanding of one client
	Waiting                   int           // events of one client that wait for the program before it is not read
	CallTime                  time.Duration // one call of the program
	Calls                     int           // clients whose program is being called
}

// Room holds what all sessions of this protocol share.
type Room struct {
	cfg     Config
	socket  *socket.Config
	node    string // names this server in session ids
	epoch   string // of the offsets
	secret  []byte // of the ids with which clients come back
	ackIDs  atomic.Uint64
	calls   atomic.Int64
	running sync.WaitGroup // of what calls counts
	// programs are the namespaces that the embedding program has; nil: there is only "/", for channels. match is the program's
	// code that says which others it has, and never runs on a loop; nil where there is none.
	programs, match func(namespace string) Program

	mu       sync.Mutex
	sessions map[string]*engine // guarded by mu: those that began with polling, by session id

	codecs *codecs
}

// NewRoom makes a room.
func NewRoom(cfg Config) *Room {
	b := make([]byte, 8)
	rand.Read(b)
	r := &Room{cfg: cfg, node: hex.EncodeToString(b[:4]), epoch: hex.EncodeToString(b[4:]), secret: []byte(rand.Text()), sessions: map[string]*engine{}, codecs: &codecs{m: map[codec]weak.Pointer[codec]{}}}
	const never = 365 * 24 * time.Hour // the heartbeat is Engine.IO's own
	r.socket = socket.NewConfig(cfg.MaxPayload, never, never, closeGrace)
	return r
}

// Serve gives the room the namespaces of the embedding program, which finds them by name, and others by code of its own,
// which may take its time and may be nil: both return nil where there is none. Without, there is only "/", for channels. Before
// anybody connects.
func (r *Room) Serve(programs, match func(namespace string) Program) {
	r.programs, r.match = programs, match
}

// closeGrace is how long the peer may take to close its side once we have.
const closeGrace = 5 * time.Second

// newSID makes a session id: whoever knows it is the client, while it polls.
func (r *Room) newSID() string { return r.node + "-" + rand.Text() }

// ForeignNode reports whether a session id is of another server, and of which.
func (r *Room) ForeignNode(sid string) (node string, foreign bool) {
	node, rest, ok := strings.Cut(sid, "-")
	return node, ok && len(node) == len(r.node) && len(rest) == 26 && node != r.node
}

// Node names this server in session ids.
func (r *Room) Node() string { return r.node }

// session finds the session that began with polling.
func (r *Room) session(sid string) *engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[sid]
}

// pid is what a client may come back with: its id, and what only it and we know.
func (r *Room) pid(id hub.ID) string {
	text := id.String()
	m := hmac.New(sha256.New, r.secret)
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// idOf reads a pid; ok is false for one that is not of this server.
func (r *Room) idOf(pid string) (id hub.ID, ok bool) {
	i := strings.LastIndexByte(pid, '.')
	if i < 0 {
		return hub.ID{}, false
	}
	if id, ok = hub.ParseID(pid[:i]); !ok {
		return id, false
	}
	return id, hmac.Equal([]byte(r.pid(id)), []byte(pid))
}

// program is the embedding program's part of a namespace; nil where there is none, unless match knows one.
func (r *Room) program(nsp string) Program {
	if r.programs == nil {
		return nil
	}
	return r.programs(nsp)
}

// Query is what a handshake says of itself.
type Query struct {
	EIO3      bool
	Transport string
	SID       string
	Base64    bool // EIO 3: the client cannot take binary bodies
}

// Error is a reason of Engine.IO why a request is refused. (Engine.IO protocol; the reference's lib/server.ts.)
type Error struct {
	Code    int
	Message string
}

var (
	errTransport = &Error{0, "Transport unknown"}
	errSID       = &Error{1, "Session ID unknown"}
	// ErrMethod: a handshake that is not GET.
	ErrMethod = &Error{2, "Bad handshake method"}
	// ErrRequest: the request does not fit the session, or is none of the protocol's.
	ErrRequest = &Error{3, "Bad request"}
	errJSONP   = &Error{3, "Bad request: JSONP is not served, because any page could read it, whatever its origin; leave forceJSONP out"}
	errVersion = &Error{5, "Unsupported protocol version"}
)

func (e *Error) Error() string { return e.Message }

// Status is that of the response with the error.
func (e *Error) Status() int {
	if e.Code == 4 {
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// Body is the content of the response with the error.
func (e *Error) Body() []byte {
	b := strconv.AppendInt([]byte(`{"code":`), int64(e.Code), 10)
	return append(jsontext.AppendString(append(b, `,"message":`...), e.Message), '}')
}

// Forbidden is Engine.IO's refusal of what is not allowed, with our own words.
func Forbidden(why string) *Error { return &Error{4, why} }

// Query reads a request's query, in the order in which the reference checks it.
func (r *Room) Query(v url.Values) (q Query, err *Error) {
	switch q.Transport = v.Get("transport"); q.Transport {
	case "polling", "websocket":
	default:
		return q, errTransport
	}
	switch v.Get("EIO") {
	case "4":
	case "3":
		q.EIO3 = true
		if !r.cfg.EIO3 {
			return q, &Error{5, "Unsupported protocol version: this server speaks EIO=4, and EIO=3 (socket.io-client 2) is switched off"}
		}
	default:
		return q, errVersion
	}
	q.SID = v.Get("sid")
	if q.EIO3 {
		q.Base64 = v.Get("b64") != "" && v.Get("b64") != "0"
		if v.Has("j") { // a <script>, for which browsers name no origin
			return q, errJSONP
		}
	}
	if node, foreign := r.ForeignNode(q.SID); foreign {
		return q, &Error{1, "Session ID unknown: it is of node " + node + ", and this is " + r.node + "; polling needs every request of a session at the same node"}
	}
	return q, nil
}
