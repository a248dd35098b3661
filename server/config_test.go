package server

import (
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/socketio"
)

func TestNewReturnsEverythingThatIsWrong(t *testing.T) {
	who := auth.New()
	who.Channel("a..b", nil)
	_, err := New(Config{
		Apps: []App{
			{ID: "1", Keys: []auth.Key{{Key: "k", Secret: "s"}, {Key: "half"}}},
			{},
			{ID: "1", Keys: []auth.Key{{Key: "k", Secret: "s"}}},
		},
		Auth:      who,
		Protocols: []Protocol{"wss", WebSocket},
		IO:        socketio.New(socketio.Options{}),
		Origins:   []string{"shop.example"},
		Path:      "/",
		CertFile:  "cert.pem",
		Channels:  []Channel{{Cache: time.Minute}, {Pattern: "*", Members: -1, Slow: "drop"}},
	})
	want := `server: key 2 of app "1" lacks its key or its secret
server: app 2 has no id
server: app "1" is configured twice
server: key "k" belongs to two apps
server: path "/" for WebSockets is not one such as /ws
channel pattern "a..b": its function is nil
server: origin "shop.example" is not of the form https://shop.example[:port], https://*.example or *
server: protocol "wss" is unknown; there are "ws", "pusher" and "socketio"
server: there are namespaces (IO), but "socketio" is not among the protocols
server: TLS needs both CertFile and KeyFile
server: a channel policy has no pattern
server: channel policy "*": slow is "drop", which is none of Disconnect, DropOldest and KeepLatest
server: channel policy "*" has a negative limit`
	if err == nil || err.Error() != want {
		t.Errorf("New returns\n%v\nand should return\n%s", err, want)
	}
}

func TestPathsOfSocketIOAreChecked(t *testing.T) {
	for _, tt := range []struct{ path, ws, want string }{
		{"/", "", `server: path "//" for Socket.IO is not one such as /socket.io/`},
		{"/a//b/", "", `server: path "/a//b/" for Socket.IO is not one such as /socket.io/`},
		{"/{id}", "", `server: path "/{id}/" for Socket.IO is not one such as /socket.io/`},
		{"ws", "", `server: path "/ws/" is for plain WebSockets already, and cannot be for Socket.IO too`},
		{"/app", "", `server: path "/app/" is for plain WebSockets already, and cannot be for Socket.IO too`},
		{"/health", "", `server: path "/health/" for Socket.IO is the server's own for something else`},
		{"/apps", "", `server: path "/apps/" for Socket.IO is the server's own for something else`},
		{"/app/x", "", `server: path "/app/x/" for Socket.IO is the server's own for something else`},
		{"", "/pusher/auth", `server: path "/pusher/auth" for WebSockets is the server's own for something else`},
		{"", "/socket.io", `server: path "/socket.io/" is for plain WebSockets already, and cannot be for Socket.IO too`},
	} {
		if _, err := New(Config{Path: tt.ws, SocketIO: SocketIOConfig{Path: tt.path}}); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
