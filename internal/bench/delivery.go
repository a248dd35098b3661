package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// eventName is the event every message of a fan-out has.
const eventName = "m"

// channelPrefix and a channel's number make its name. Such a channel is public.
const channelPrefix = "bench."

// The data of a message is {"n":1,"g":1,"p":0,"c":"bench.0","pad":"…"}: n numbers the messages of publisher p to
// channel c from 0, g numbers all messages of p.
const (
	beforeN = `"data":{"n":`
	beforeG = `,"g":`
	beforeP = `,"p":`
	beforeC = `,"c":"` + channelPrefix
)

// BurstEvent asks the program in which the server is embedded to broadcast; its data is a [Burst].
const BurstEvent = "bench.burst"

// Burst says what to broadcast: publishers 0 to Publishers-1 each send the messages From to From+Count-1, in this
// order, with Data, to BurstChannel as BurstMessage.
type Burst struct {
	From       int `json:"from"`
	Count      int `json:"count"`
	Publishers int `json:"publishers"`
	Size       int `json:"size"`
}

// BurstChannel and BurstMessage are where the messages of a burst go, and their event.
const (
	BurstChannel = channelPrefix + "0"
	BurstMessage = eventName
)

// Data appends the data of one message.
func (b Burst) Data(dst []byte, publisher, n int) []byte {
	dst = append(dst, `{"n":`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, beforeG...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, restOfData(publisher, 0, b.Size)...)
}

// delivery is what a message says about itself.
type delivery struct {
	n, g               uint32
	publisher, channel int
	rest               []byte // the data from beforeP on, which is the same in all messages of a stream
}

// restOfData is what follows n and g in the data of a stream's messages, padded so that the data of a message with
// five digits in each number has size bytes.
func restOfData(publisher, channel, size int) []byte {
	rest := fmt.Sprintf(`,"p":%d,"c":"%s%d","pad":"`, publisher, channelPrefix, channel)
	pad := max(0, size-len(rest)-len(`{"n":12345,"g":12345"}`))
	return []byte(rest + strings.Repeat("x", pad) + `"}`)
}

// dialect is how one protocol writes what the load generator reads and sends.
type dialect struct {
	// what a subscriber receives: the words of the data, and how data stands in a frame
	beforeN, beforeG, beforeP, beforeC string
	escape                             func(string) string
	// path is where a server has the protocol.
	path string
	// the words of a session
	greeting, succeeded, ping, pong string
	refusals                        []string
	subscribe                       func(channel string) string
	// what a publisher sends: head, n, beforeG, g, the rest of the data, afterData, excluding, afterAll
	head                         func(channel string) string
	afterData, exclude, afterAll string
	// mayPublish is a message that is answered.
	mayPublish string
}

var plain = dialect{
	beforeN: beforeN, beforeG: beforeG, beforeP: beforeP, beforeC: beforeC,
	escape:   func(s string) string { return s },
	path:     "/ws",
	greeting: "connection_established", succeeded: "subscription_succeeded",
	ping: `{"event":"ping"}`, pong: `{"event":"pong"}`,
	refusals:  []string{"error", "subscription_error"},
	subscribe: func(channel string) string { return `{"event":"subscribe","channel":"` + channel + `"}` },
	head: func(channel string) string {
		return `{"event":"publish","channel":"` + channel + `","name":"` + eventName + `",` + beforeN
	},
	exclude: `,"except":["%s"]`, afterAll: `}`,
	mayPublish: `{"event":"publish","id":7,"channel":"` + channelPrefix + `ready","name":"ready","data":{}}`,
}

// pusher has the data as a string with JSON in it.
var pusher = dialect{
	beforeN: quotedN, beforeG: quoted(beforeG), beforeP: quoted(beforeP), beforeC: quoted(beforeC),
	escape:   quoted,
	greeting: "pusher:connection_established", succeeded: "pusher_internal:subscription_succeeded",
	ping: `{"event":"pusher:ping","data":{}}`, pong: `{"event":"pusher:pong","data":"{}"}`,
	refusals: []string{"pusher:error", "pusher:subscription_error"},
	subscribe: func(channel string) string {
		return `{"event":"pusher:subscribe","data":{"channel":"` + channel + `"}}`
	},
}

// socketIO expects an application with Socket.IO's events "subscribe" and "unsubscribe" of a channel, and "publish", which emits
// {event, channel, data} to a channel. Each is acknowledged with {"ok":true}.
var socketIO = dialect{
	beforeN: beforeN, beforeG: beforeG, beforeP: beforeP, beforeC: beforeC,
	escape: func(s string) string { return s },
	path:   "/socket.io/",
	// A round trip through the application that changes nothing.
	ping: `420["unsubscribe","` + channelPrefix + `echo"]`, pong: `430[{"ok":true,"channel":"` + channelPrefix + `echo"}]`,
	refusals:  []string{"channel_error", "subscription_error"},
	subscribe: func(channel string) string { return `420["subscribe","` + channel + `"]` },
	head: func(channel string) string {
		return `42["publish",{"channel":"` + channel + `","event":"` + eventName + `",` + beforeN
	},
	exclude: `,"except":["%s"]`, afterAll: `}]`,
	mayPublish: `420["publish",{"channel":"` + channelPrefix + `ready","event":"ready","data":{}}]`,
}

// httpAPI is for publishers only; its messages have the data as Pusher's clients get it.
var httpAPI = dialect{
	beforeG: quoted(beforeG), escape: quoted,
	head: func(channel string) string {
		return `{"name":"` + eventName + `","channel":"` + channel + `",` + quotedN
	},
	afterData: `"`, exclude: `,"socket_id":"%s"`, afterAll: `}`,
	mayPublish: `{"name":"ready","channel":"` + channelPrefix + `ready","data":"{}"}`,
}

// quotedN is beforeN where the data is a string with JSON in it.
const quotedN = `"data":"{\"n\":`

func quoted(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }

var dialects = map[Protocol]*dialect{WebSocket: &plain, SocketIO: &socketIO, Pusher: &pusher, HTTP: &httpAPI}

// dialect is what subscribers and pingers speak.
func (c Config) dialect() *dialect { return dialects[c.Protocol] }

// publishDialect is what publishers speak.
func (c Config) publishDialect() *dialect { return dialects[c.Publish] }

// scanner reads deliveries. It remembers where in the frame the last one had its data, which is where the next has
// it in all likelihood.
type scanner struct {
	*dialect
	at int
}

// scan reads the numbers of a delivery without parsing the JSON around them. It reports false when p does not look
// like one; then it may still be a delivery, with its data written in another way.
func (s *scanner) scan(p []byte, d *delivery) bool {
	i := s.at
	if i+len(s.beforeN) > len(p) || string(p[i:i+len(s.beforeN)]) != s.beforeN {
		if i = bytes.Index(p, []byte(s.beforeN)); i < 0 {
			return false
		}
		s.at = i
	}
	p = p[i+len(s.beforeN):]
	var size int
	if d.n, size = digits(p); size == 0 {
		return false
	}
	p = p[size:]
	if len(p) < len(s.beforeG) || string(p[:len(s.beforeG)]) != s.beforeG {
		return false
	}
	p = p[len(s.beforeG):]
	if d.g, size = digits(p); size == 0 {
		return false
	}
	d.rest = p[size:]
	return true
}

// stream reads which publisher and channel a scanned delivery belongs to.
func (d *delivery) stream(words *dialect) bool {
	p, ok := bytes.CutPrefix(d.rest, []byte(words.beforeP))
	if !ok {
		return false
	}
	publisher, size := digits(p)
	if size == 0 {
		return false
	}
	if p, ok = bytes.CutPrefix(p[size:], []byte(words.beforeC)); !ok {
		return false
	}
	channel, size := digits(p)
	d.publisher, d.channel = int(publisher), int(channel)
	return size != 0
}

// digits reads a number of at most nine digits.
func digits(p []byte) (v uint32, size int) {
	for size < len(p) && p[size]-'0' <= 9 && size < 9 {
		v = v*10 + uint32(p[size]-'0')
		size++
	}
	return v, size
}

// event is any frame from the server.
type event struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
}

// object is the data, or what the data holds where it is a string.
func (e *event) object() []byte {
	var text string
	if len(e.Data) > 0 && e.Data[0] == '"' && json.Unmarshal(e.Data, &text) == nil {
		return []byte(text)
	}
	return e.Data
}

// parse reads a delivery from a parsed frame, however its JSON is written. It sets rest to what scan would have
// found, so that the data can be compared with what was published.
func (d *delivery) parse(words *dialect, e *event) bool {
	var data struct {
		N   *uint32 `json:"n"`
		G   *uint32 `json:"g"`
		P   int     `json:"p"`
		C   string  `json:"c"`
		Pad string  `json:"pad"`
	}
	if e.Event != eventName || json.Unmarshal(e.object(), &data) != nil || data.N == nil || data.G == nil {
		return false
	}
	number, ok := strings.CutPrefix(data.C, channelPrefix)
	channel, err := strconv.Atoi(number)
	if !ok || err != nil || channel < 0 || data.P < 0 || e.Channel != data.C {
		return false
	}
	rest := fmt.Sprintf(`,"p":%d,"c":"%s","pad":"%s"}`, data.P, data.C, data.Pad)
	*d = delivery{*data.N, *data.G, data.P, channel, []byte(words.escape(rest))}
	return true
}
