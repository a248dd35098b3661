package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// packet handles an Engine.IO 4 packet, and the Socket.IO 5 packet in it.
func (l *load) packet(c *conn, payload []byte, at time.Duration) error {
	size := min(1, len(payload)) // of its type
	if len(payload) > 1 && payload[0] == '4' {
		size = 2
	}
	rest := payload[size:]
	unexpected := func(want string) error { return fmt.Errorf("the server sent %.200q: want %s", payload, want) }
	switch string(payload[:size]) {
	case "0": // Engine.IO's handshake
		var open struct {
			SID string `json:"sid"`
		}
		if json.Unmarshal(rest, &open) != nil || open.SID == "" || c.phase != greeting {
			return unexpected(`0{"sid":…}, once`)
		}
		return l.send(c, opText, []byte("40"))
	case "2":
		return l.send(c, opText, []byte("3"))
	case "6":
	case "40": // connected to the namespace
		var connected struct {
			SID string `json:"sid"`
		}
		if json.Unmarshal(rest, &connected) != nil || connected.SID == "" || c.phase != greeting {
			return unexpected(`40{"sid":…}, once`)
		}
		c.socketID = connected.SID
		return l.join(c)
	case "42":
		var args []json.RawMessage
		var name string
		if err := json.Unmarshal(rest, &args); err != nil || len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
			return unexpected("an event without acknowledgement")
		}
		if slices.Contains(c.words.refusals, name) {
			return fmt.Errorf("the server answered %.300s", payload)
		}
		if name != eventName {
			return nil
		}
		var e event // stays empty, and is no delivery, where the argument is something else
		if len(args) > 1 {
			json.Unmarshal(args[1], &e)
		}
		if e.Event != name {
			e = event{Event: name}
		}
		l.parsed(c, &e, at)
	case "43":
		var args []struct {
			OK bool `json:"ok"`
		}
		answer := strings.TrimLeft(string(rest), "0123456789")
		if json.Unmarshal([]byte(answer), &args) != nil || len(args) == 0 || !args[0].OK {
			return fmt.Errorf("the server answered %.300s", payload)
		}
		if c.role == pinger && c.phase == open {
			return l.pong(c, at)
		}
		l.answered(c)
	default:
		return fmt.Errorf("the server sent %.300q, %s", payload, c.phase)
	}
	return nil
}
