package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// The credentials of Pusher's own documentation.
const (
	docKey    = "278d425bdf160c739803"
	docSecret = "7ad3773142a6692b25b8"
)

func docApp() App { return App{ID: "3", Keys: []auth.Key{{Key: docKey, Secret: docSecret}}} }

// pusherPeer is a client of the Pusher protocol.
type pusherPeer struct{ *peer }

func (s *live) dialPusher(query string) *pusherPeer {
	s.t.Helper()
	p := s.openPusher("/app/" + docKey + "?protocol=7&client=js&version=8.4.0" + query)
	text := p.next()
	m := regexp.MustCompile(`^\{"event":"pusher:connection_established","data":"\{\\"socket_id\\":\\"(\d+\.\d+)\\",\\"activity_timeout\\":120\}"\}$`).FindStringSubmatch(text)
	if m == nil {
		s.t.Fatalf("greeting is %s", text)
	}
	p.SocketID = m[1]
	return p
}

// openPusher connects and reads nothing.
func (s *live) openPusher(target string) *pusherPeer {
	s.t.Helper()
	return s.openPusherWith(target, &wsclient.Options{})
}

func (s *live) openPusherWith(target string, opt *wsclient.Options) *pusherPeer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	opt.TLS = s.tls
	c, err := wsclient.Dial(ctx, strings.TrimSuffix(s.url(""), "/ws")+target, opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(1000, "") })
	return &pusherPeer{&peer{Conn: c, t: s.t}}
}

// quiet checks that nothing is on its way to the client.
func (p *pusherPeer) quiet() {
	p.t.Helper()
	for range 2 {
		p.say(`{"event":"pusher:ping","data":{}}`)
		p.want(`{"event":"pusher:pong","data":"{}"}`)
	}
}

// inString is text as it stands in a JSON string.
func inString(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (p *pusherPeer) subscribe(channel, channelData string) {
	p.t.Helper()
	sig := ""
	if strings.HasPrefix(channel, "private-") || strings.HasPrefix(channel, "presence-") {
		sig = auth.SignChannel(docKey, docSecret, p.SocketID, channel, channelData)
	}
	data := fmt.Sprintf(`"auth":%q,"channel":%q`, sig, channel)
	if channelData != "" {
		data += `,"channel_data":` + inString(channelData)
	}
	p.say(`{"event":"pusher:subscribe","data":{` + data + `}}`)
}

// joined subscribes to a channel without members and awaits the answer.
func (p *pusherPeer) joined(channel string) {
	p.t.Helper()
	p.subscribe(channel, "")
	p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"` + channel + `","data":"{}"}`)
}

// signIn asks for a user's identity, with a signature.
func (p *pusherPeer) signIn(data string) {
	p.t.Helper()
	p.say(`{"event":"pusher:signin","data":{"auth":"` + auth.SignUser(docKey, docSecret, p.SocketID, data) + `","user_data":` + inString(data) + `}}`)
}

func pusherFailure(channel, kind, why string, status int) string {
	return `{"event":"pusher:subscription_error","channel":"` + channel + `","data":` + inString(fmt.Sprintf(`{"type":"%s","error":%s,"status":%d}`, kind, inString(why), status)) + `}`
}

func pusherTrouble(channel string, code int, why string) string {
	if channel != "" {
		channel = `,"channel":"` + channel + `"`
	}
	return fmt.Sprintf(`{"event":"pusher:error"%s,"data":{"code":%d,"message":%s}}`, channel, code, inString(why))
}

func TestPusherProtocol(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		do   func(t *testing.T, s *live)
	}{
		{"public channels, and the data as a string", Config{}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			p.joined("orders")
			s.send(realtime.Message{Channels: []string{"orders"}, Event: `App\Events\OrderShipped`, Data: json.RawMessage(`{"id":1,"note":"a \"quote\""}`)})
			p.want(`{"event":"App\\Events\\OrderShipped","channel":"orders","data":"{\"id\":1,\"note\":\"a \\\"quote\\\"\"}"}`)
			p.subscribe("orders", "") // again
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"orders","data":"{}"}`)
			p.say(`{"event":"pusher:unsubscribe","data":{"channel":"orders"}}`)
			p.quiet()
			s.send(event("orders", `2`))
			p.quiet()
		}},
		{"data of the command as a string, auth null or absent", Config{}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			p.say(`{"event":"pusher:subscribe","data":"{\"channel\":\"a\"}"}`)
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"a","data":"{}"}`)
			p.say(`{"event":"pusher:subscribe","data":{"channel":"b","auth":null}}`)
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"b","data":"{}"}`)
			p.say(`{"event":"pusher:subscribe","data":{"channel":"private-b"}}`)
			p.want(pusherFailure("private-b", "AuthError", `no authorizer is registered for channel "private-b", and the subscription brought neither signature nor token`, 401))
			p.quiet()
		}},
		{"private channels need a signature for this socket", Config{}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dialPusher("")
			p.joined("private-orders.1")
			sig := auth.SignChannel(docKey, docSecret, p.SocketID, "private-orders.1", "")
			q.say(`{"event":"pusher:subscribe","data":{"channel":"private-orders.1","auth":"` + sig + `"}}`)
			q.want(pusherFailure("private-orders.1", "AuthError", `the signature in auth is not the HMAC-SHA256, in lower-case hex, of "`+q.SocketID+`:private-orders.1" with the secret of key "`+docKey+`"`, 401))
			s.send(event("private-orders.1", `1`))
			p.want(`{"event":"E","channel":"private-orders.1","data":"1"}`)
			q.quiet()
		}},
		{"the native .NET library hears of refusals by the internal name too", Config{}, func(t *testing.T, s *live) {
			p := s.openPusher("/app/" + docKey + "?protocol=5&client=pusher-dotnet-client&version=2")
			p.next()
			p.say(`{"event":"pusher:subscribe","data":{"channel":"private-a"}}`)
			want := pusherFailure("private-a", "AuthError", `no authorizer is registered for channel "private-a", and the subscription brought neither signature nor token`, 401)
			p.want(want, strings.Replace(want, "pusher:", "pusher_internal:", 1))
		}},
		{"presence by user, with numbers as ids", Config{}, func(t *testing.T, s *live) {
			p, q, tab := s.dialPusher(""), s.dialPusher(""), s.dialPusher("")
			p.subscribe("presence-room", `{"user_id":10,"user_info":{"name":"Ann"}}`)
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":1,\"ids\":[\"10\"],\"hash\":{\"10\":{\"name\":\"Ann\"}}}}"}`)
			q.subscribe("presence-room", `{"user_id":"11"}`)
			q.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":2,\"ids\":[\"10\",\"11\"],\"hash\":{\"10\":{\"name\":\"Ann\"},\"11\":null}}}"}`)
			p.want(`{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"11\",\"user_info\":null}"}`)
			tab.subscribe("presence-room", `{"user_id":"11","user_info":{"other":1}}`)
			tab.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":2,\"ids\":[\"10\",\"11\"],\"hash\":{\"10\":{\"name\":\"Ann\"},\"11\":null}}}"}`)
			p.quiet()
			q.say(`{"event":"pusher:unsubscribe","data":{"channel":"presence-room"}}`)
			q.quiet()
			p.quiet()
			tab.Close(1000, "")
			p.want(`{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"11\"}"}`)
		}},
		{"client events", Config{now: newClock(time.UnixMilli(1_760_000_000_000)).now}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dialPusher("")
			p.subscribe("presence-room", `{"user_id":"10"}`)
			p.next()
			q.subscribe("presence-room", `{"user_id":"11"}`)
			q.next()
			p.next()
			q.say(`{"event":"client-typing","channel":"presence-room","user_id":"10","data":{"name":"Ann"}}`)
			p.want(`{"event":"client-typing","channel":"presence-room","data":"{\"name\":\"Ann\"}","user_id":"11"}`)
			q.say(`{"event":"client-typing","channel":"presence-room","data":"just text"}`)
			p.want(`{"event":"client-typing","channel":"presence-room","data":"just text","user_id":"11"}`)
			q.say(`{"event":"client-typing","channel":"presence-room","data":"{\"a\": 1}"}`)
			p.want(`{"event":"client-typing","channel":"presence-room","data":"{\"a\": 1}","user_id":"11"}`)
			q.quiet()
			for _, x := range []struct{ channel, why string }{
				{"public", `client events work on private and presence channels only, not on public channel "public"`},
				{"private-encrypted-a", `client events work on private and presence channels only, not on encrypted channel "private-encrypted-a"`},
				{"private-a", `subscribe to "private-a" before sending client events to it`},
			} {
				q.say(`{"event":"client-typing","channel":"` + x.channel + `","data":{}}`)
				q.want(pusherTrouble(x.channel, 4301, x.why))
			}
			for range 7 { // three of ten went already
				q.say(`{"event":"client-typing","channel":"presence-room","data":1}`)
			}
			q.say(`{"event":"client-typing","channel":"presence-room","data":1}`)
			if got := q.next(); !strings.HasPrefix(got, `{"event":"pusher:error","channel":"presence-room","data":{"code":4301,"message":"`) {
				t.Errorf("the eleventh client event in a second is answered with %s", got)
			}
			q.quiet()
		}},
		{"cache channels", Config{}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			p.joined("cache-news")
			p.want(`{"event":"pusher:cache_miss","channel":"cache-news","data":"{}"}`)
			s.send(event("cache-news", `{"n":1}`))
			p.want(`{"event":"E","channel":"cache-news","data":"{\"n\":1}"}`)
			q := s.dialPusher("")
			q.joined("cache-news")
			q.want(`{"event":"E","channel":"cache-news","data":"{\"n\":1}"}`)
			q.quiet()
			// A client event is not kept.
			p.joined("private-cache-news")
			p.want(`{"event":"pusher:cache_miss","channel":"private-cache-news","data":"{}"}`)
			p.say(`{"event":"client-x","channel":"private-cache-news","data":1}`)
			p.quiet()
			q.joined("private-cache-news")
			q.want(`{"event":"pusher:cache_miss","channel":"private-cache-news","data":"{}"}`)
			p.quiet()
		}},
		{"signing in", Config{Apps: []App{{ID: "3", Keys: docApp().Keys, Watchlists: true}}}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dialPusher("")
			p.signIn(`{"id":"u1","user_info":{"name":"Ann"},"watchlist":["u2","u3","u2"]}`)
			p.want(`{"event":"pusher:signin_success","data":`+inString(`{"user_data":`+inString(`{"id":"u1","user_info":{"name":"Ann"},"watchlist":["u2","u3","u2"]}`)+`}`)+`}`,
				`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"u2\",\"u3\"]}]}"}`)
			q.signIn(`{"id":"u2"}`)
			q.want(`{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"u2\\\"}\"}"}`)
			p.want(`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"u2\"]}]}"}`)
			// The user's own channel.
			p.joined("#server-to-user-u1")
			p.subscribe("#server-to-user-u2", "")
			p.want(pusherFailure("#server-to-user-u2", "AuthError", `channel "#server-to-user-u2" is only for connections of that user`, 401))
			s.send(realtime.Message{Channels: []string{"#server-to-user-u1"}, Event: "note", Data: json.RawMessage(`1`)})
			p.want(`{"event":"note","channel":"#server-to-user-u1","data":"1"}`)
			// A presence channel takes the user from the sign-in.
			p.subscribe("presence-room", "")
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":1,\"ids\":[\"u1\"],\"hash\":{\"u1\":{\"name\":\"Ann\"}}}}"}`)
			// Another user on the same connection.
			p.signIn(`{"id":"u9"}`)
			p.want(pusherTrouble("", 4009, `this connection is user "u1" already; another user needs another connection`))
			p.say(`{"event":"pusher:signin","data":{"auth":"` + docKey + `:00","user_data":"{\"id\":\"u1\"}"}}`)
			p.want(pusherTrouble("", 4009, `the signature in auth is not the HMAC-SHA256, in lower-case hex, of "`+p.SocketID+`::user::" followed by user_data exactly as sent with the secret of key "`+docKey+`"`))
			// Terminated by the application.
			s.Disconnect("", "u2", "You got disconnected by the app.")
			q.want(pusherTrouble("", 4009, "You got disconnected by the app."))
			q.wantClose(4009, "You got disconnected by the app.")
			p.want(`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"u2\"]}]}"}`)
			p.quiet()
		}},
		{"a watchlist that is too long", Config{Apps: []App{{ID: "3", Keys: docApp().Keys, Watchlists: true}}}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			var ids []string
			for i := range 101 {
				ids = append(ids, fmt.Sprintf("u%d", i))
			}
			list, _ := json.Marshal(ids)
			data := `{"id":"x","watchlist":` + string(list) + `}`
			p.signIn(data)
			p.next()
			list, _ = json.Marshal(ids[:100])
			p.want(pusherTrouble("", 4302, "the watchlist names 101 users: the first 100 are watched"),
				`{"event":"pusher_internal:watchlist_events","data":`+inString(`{"events":[{"name":"offline","user_ids":`+string(list)+`}]}`)+`}`)
		}},
		{"a watchlist where the app has none", Config{}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			p.signIn(`{"id":"x","watchlist":["y"]}`)
			p.want(`{"event":"pusher:signin_success","data":` + inString(`{"user_data":`+inString(`{"id":"x","watchlist":["y"]}`)+`}`) + `}`)
			p.quiet()
		}},
		{"limits", Config{
			Limits:   Limits{ChannelsPerConnection: 2, MemberBytes: 10, PayloadBytes: 20},
			Channels: []Channel{{Pattern: "presence-room", Members: 1}, {Pattern: "lonely", Subscribers: 1}, {Pattern: "private-silent", NoWhispers: true}},
		}, func(t *testing.T, s *live) {
			p, q, tab := s.dialPusher(""), s.dialPusher(""), s.dialPusher("")
			p.subscribe("presence-room", `{"user_id":"10"}`)
			p.next()
			q.subscribe("presence-room", `{"user_id":"11"}`)
			q.want(pusherFailure("presence-room", "LimitReached", `presence channel "presence-room" has 1 members, which is its limit`, 4100))
			tab.subscribe("presence-room", `{"user_id":"10"}`) // is a member already
			tab.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":1,\"ids\":[\"10\"],\"hash\":{\"10\":null}}}"}`)
			q.subscribe("presence-other", `{"user_id":"11","user_info":"12345678"}`)
			q.want(pusherFailure("presence-other", "LimitReached", `member id and info are 12 bytes, more than 10`, 4301))
			p.joined("lonely")
			q.subscribe("lonely", "")
			q.want(pusherFailure("lonely", "LimitReached", `channel "lonely" has 1 subscribers, which is its limit`, 4100))
			p.subscribe("more", "")
			p.want(pusherFailure("more", "LimitReached", `this connection listens to 2 channels, which is the limit; unsubscribe from one first`, 4100))
			long := strings.Repeat("x", 201)
			q.subscribe(long, "")
			q.want(pusherFailure(long, "ValidationError", `channel name of 201 bytes is longer than 200: "`+long[:40]+`"…`, 400))
			q.joined(long[:200])
			q.joined("private-silent")
			for _, x := range []struct{ channel, name, data, why string }{
				{"private-silent", "client-x", `1`, `channel "private-silent" takes no client events`},
				{"private-silent", "client-x", inString(long[:21]), `the data is 23 bytes, more than the 20 allowed on channel "private-silent"`},
				{"private-silent", "client-" + long[:194], `1`, `the event name is 201 bytes, more than 200`},
				{"#server-to-user-11", "client-x", `1`, `client events work on private and presence channels only, not on user channel "#server-to-user-11"`},
				{"a b", "client-x", `1`, `channel name "a b" has ' ' at byte 1; allowed are letters, digits and _ - = @ , . ;`},
			} {
				q.say(`{"event":"` + x.name + `","channel":"` + x.channel + `","data":` + x.data + `}`)
				q.want(pusherTrouble(x.channel, 4301, x.why))
			}
			p.quiet()
			q.quiet()
			tab.quiet()
		}},
		{"subscription counts", Config{Apps: []App{{ID: "3", Keys: docApp().Keys, SubscriptionCounts: true}}}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dialPusher("")
			p.joined("orders")
			p.want(`{"event":"pusher_internal:subscription_count","channel":"orders","data":"{\"subscription_count\":1}"}`)
			q.joined("orders")
			for _, x := range []*pusherPeer{p, q} {
				x.want(`{"event":"pusher_internal:subscription_count","channel":"orders","data":"{\"subscription_count\":2}"}`)
			}
			q.say(`{"event":"pusher:unsubscribe","data":{"channel":"orders"}}`)
			p.want(`{"event":"pusher_internal:subscription_count","channel":"orders","data":"{\"subscription_count\":1}"}`)
			q.quiet()
			p.subscribe("presence-room", `{"user_id":"1"}`)
			p.next()
			p.quiet()
		}},
		{"faults keep the connection", Config{}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			for _, x := range []struct{ frame, want string }{
				{`nonsense`, pusherTrouble("", 4200, `Invalid message format: 'n' at byte 0, where '{' should be`)},
				{`{"data":{}}`, pusherTrouble("", 4200, `Invalid message format: it has no event`)},
				{`{"event":"pusher:subscribe"}`, pusherTrouble("", 4200, `Invalid message format: the data of pusher:subscribe: the frame ends where '{' should be`)},
				{`{"event":"pusher:dance","data":{}}`, pusherTrouble("", 4200, `Invalid message format: no event "pusher:dance" is known; clients' own events begin with client-`)},
				{`{"event":"pusher:subscribe","data":{"channel":"a b"}}`, pusherFailure("a b", "ValidationError", `channel name "a b" has ' ' at byte 1; allowed are letters, digits and _ - = @ , . ;`, 400)},
				{`{"event":"pusher:subscribe","data":{"channel":"#x"}}`, pusherFailure("#x", "ValidationError", `channel name "#x" has '#' at byte 0; allowed are letters, digits and _ - = @ , . ;`, 400)},
			} {
				p.say(x.frame)
				p.want(x.want)
			}
			p.quiet()
		}},
		{"who is refused learns it in the protocol", Config{Origins: []string{"https://shop.example"}, Limits: Limits{Connections: 1}}, func(t *testing.T, s *live) {
			p := s.openPusher("/app/nokey?protocol=7")
			p.want(pusherTrouble("", 4001, `there is no app with the key "nokey"`))
			p.wantClose(4001, `there is no app with the key "nokey"`)
			p = s.openPusherWith("/app/"+docKey, &wsclient.Options{Header: http.Header{"Origin": {"https://evil.example"}}})
			p.want(pusherTrouble("", 4009, `origin "https://evil.example" is not allowed: add it to the server's origins`))
			p.wantClose(4009, `origin "https://evil.example" is not allowed: add it to the server's origins`)
			s.dialPusher("")
			p = s.openPusher("/app/" + docKey)
			p.want(pusherTrouble("", 4100, "the server has 1 connections, which is its limit"))
			p.wantClose(4100, "the server has 1 connections, which is its limit")
			eventually(t, "one connection is left", func() bool { return s.entered() == 1 })
		}},
		{"a full app", Config{Apps: []App{{ID: "3", Keys: docApp().Keys, Connections: 1}, {ID: "4", Keys: []auth.Key{{Key: "other", Secret: "s"}}}}}, func(t *testing.T, s *live) {
			s.dialPusher("")
			p := s.openPusher("/app/" + docKey)
			p.want(pusherTrouble("", 4100, "the app has 1 connections, which is its limit"))
			p.wantClose(4100, "the app has 1 connections, which is its limit")
			s.openPusher("/app/other").next()
		}},
		{"a version that is looked at", Config{StrictVersion: true}, func(t *testing.T, s *live) {
			for _, version := range []string{"5", "6", "7"} {
				s.openPusher("/app/" + docKey + "?protocol=" + version).next()
			}
			for query, want := range map[string]string{
				"":            `{"event":"pusher:error","data":{"code":4008,"message":"no protocol version: this server wants protocol=7"}}`,
				"?protocol=x": `{"event":"pusher:error","data":{"code":4006,"message":"protocol version \"x\" is no number"}}`,
				"?protocol=8": `{"event":"pusher:error","data":{"code":4007,"message":"protocol version 8 is not supported: this server speaks 5 to 7"}}`,
			} {
				p := s.openPusher("/app/" + docKey + query)
				p.want(want)
				var said struct {
					Data struct {
						Code    int
						Message string
					}
				}
				if err := json.Unmarshal([]byte(want), &said); err != nil {
					t.Fatal(err)
				}
				p.wantClose(said.Data.Code, said.Data.Message)
			}
		}},
		{"a version that is not", Config{}, func(t *testing.T, s *live) {
			for _, query := range []string{"", "?protocol=x", "?protocol=8"} {
				s.openPusher("/app/" + docKey + query).next()
			}
		}},
		{"under a prefix", Config{Prefix: "/realtime"}, func(t *testing.T, s *live) {
			p := s.openPusher("/realtime/app/" + docKey)
			p.next()
			p.joined("a")
		}},
		{"with the plain protocol's clients", Config{}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dial("?app="+docKey)
			p.subscribe("presence-room", `{"user_id":"10","user_info":{"name":"Ann"}}`)
			p.next()
			data := `{"user_id":"11"}`
			q.say(`{"event":"subscribe","channel":"presence-room","auth":"` + auth.SignChannel(docKey, docSecret, q.SocketID, "presence-room", data) + `","channel_data":` + inString(data) + `}`)
			q.want(`{"event":"subscription_succeeded","channel":"presence-room","data":{"presence":{"count":2,"ids":["10","11"],"hash":{"10":{"id":"10","info":{"name":"Ann"}},"11":{"id":"11","info":null}}},"me":{"id":"11"}}}`)
			p.want(`{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"11\",\"user_info\":null}"}`)
			q.say(`{"event":"client-typing","channel":"presence-room","data":{"a":1}}`)
			p.want(`{"event":"client-typing","channel":"presence-room","data":"{\"a\":1}","user_id":"11"}`)
			p.say(`{"event":"client-typing","channel":"presence-room","data":{"b":1}}`)
			q.want(`{"event":"client-typing","channel":"presence-room","data":{"b":1},"user_id":"10"}`)
			s.send(realtime.Message{Channels: []string{"presence-room"}, Event: "E", Data: json.RawMessage(`1`), ExceptSockets: []string{p.SocketID}})
			q.want(`{"event":"E","channel":"presence-room","data":1}`)
			s.send(realtime.Message{Channels: []string{"presence-room"}, Event: "E", Data: json.RawMessage(`2`), ExceptSockets: []string{q.SocketID}})
			p.want(`{"event":"E","channel":"presence-room","data":"2"}`)
			// What the protocol has no word for is not said.
			data = `{"user_id":"11","user_info":{"name":"Bob"}}`
			q.say(`{"event":"subscribe","channel":"presence-room","auth":"` + auth.SignChannel(docKey, docSecret, q.SocketID, "presence-room", data) + `","channel_data":` + inString(data) + `}`)
			if got := q.next(); !strings.HasPrefix(got, `{"event":"member_updated",`) && !strings.HasPrefix(got, `{"event":"subscription_succeeded",`) {
				t.Errorf("a member's new info is answered with %s", got)
			}
			q.say(`{"event":"ping"}`)
			for got := q.next(); got != `{"event":"pong"}`; got = q.next() {
			}
			p.quiet()
		}},
		{"the namespace that laravel-echo listens with", Config{EventNamespace: "App.Events"}, func(t *testing.T, s *live) {
			p, q := s.dialPusher(""), s.dial("?app="+docKey)
			p.joined("cache-orders")
			p.next()
			q.say(subscribe("cache-orders"))
			q.want(succeeded("cache-orders"))
			s.send(realtime.Message{Channels: []string{"cache-orders"}, Event: "OrderShipped", Data: json.RawMessage(`1`)})
			p.want(`{"event":"App\\Events\\OrderShipped","channel":"cache-orders","data":"1"}`)
			q.want(`{"event":"OrderShipped","channel":"cache-orders","data":1}`)
			late := s.dialPusher("")
			late.joined("cache-orders")
			late.want(`{"event":"App\\Events\\OrderShipped","channel":"cache-orders","data":"1"}`)
			if s.tls == nil { // what an SDK publishes has the name it gave
				s.wantAPI("POST", "/apps/3/events", nil, `{"name":"e","channel":"cache-orders","data":"2"}`, 200, `{}`)
				p.want(`{"event":"e","channel":"cache-orders","data":"2"}`)
			}
		}},
		{"a handler of the program", Config{Handlers: map[string]Handler{"hello": func(_ context.Context, in Inbound) (any, error) {
			return nil, auth.Refuse("got " + string(in.Data))
		}}}, func(t *testing.T, s *live) {
			p := s.dialPusher("")
			p.say(`{"event":"hello","data":{"a":1}}`)
			p.want(pusherTrouble("", 4301, `got {"a":1}`))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, tr transport) {
				if c.cfg.Apps == nil {
					c.cfg.Apps = []App{docApp()}
				}
				c.do(t, startOn(t, tr, c.cfg))
			})
		})
	}
}

func TestAppsChangeWhileTheServerRuns(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		other := App{ID: "4", Keys: []auth.Key{{Key: "other", Secret: "other secret"}}}
		s := startOn(t, tr, Config{Apps: []App{docApp(), other}})
		p, gone := s.dialPusher(""), s.openPusher("/app/other")
		gone.next()
		p.joined("private-a")
		if err := s.SetApps([]App{{ID: "3"}, {ID: "3"}}); err == nil || err.Error() != `server: app "3" is configured twice` {
			t.Fatalf("got %v", err)
		}
		p.joined("private-b") // nothing has changed
		rotated := App{ID: "3", Keys: []auth.Key{{Key: "new", Secret: "new secret"}}, NoClientEvents: true}
		if err := s.SetApps([]App{rotated}); err != nil {
			t.Fatal(err)
		}
		gone.want(pusherTrouble("", 4001, `app "4" is served no longer`))
		gone.wantClose(4001, `app "4" is served no longer`)
		// The connection and its subscriptions stay; the old key signs no more, and the switches hold.
		s.send(event("private-a", `1`))
		p.want(`{"event":"E","channel":"private-a","data":"1"}`)
		p.subscribe("private-c", "")
		p.want(pusherFailure("private-c", "AuthError", `auth was signed with key "`+docKey+`", which is not one of this app's`, 401))
		p.say(`{"event":"pusher:subscribe","data":{"channel":"private-c","auth":"` + auth.SignChannel("new", "new secret", p.SocketID, "private-c", "") + `"}}`)
		p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"private-c","data":"{}"}`)
		p.say(`{"event":"client-x","channel":"private-a","data":1}`)
		p.want(pusherTrouble("private-a", 4301, `client events are switched off for app "3"`))
		q := s.openPusher("/app/" + docKey)
		q.want(pusherTrouble("", 4001, `there is no app with the key "`+docKey+`"`))
		q = s.openPusher("/app/new")
		q.next()
		q.joined("public")
	})
}

// One token at sign-in opens every channel it names: no request for a signature per channel.
func TestPusherSignInWithAToken(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		secret := []byte("the secret of this test, 32 bytes and more")
		a := auth.New()
		a.AllowAnonymous()
		a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: secret})
		s := startOn(t, tr, Config{Apps: []App{docApp()}, Auth: a})
		token := func(c auth.Claims) string {
			c.ExpiresAt = time.Now().Add(time.Hour)
			text, err := auth.IssueHS256(secret, c)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		p := s.dialPusher("")
		p.say(`{"event":"pusher:signin","data":{"auth":"` + token(auth.Claims{Subject: "ann", Channels: []string{"private-orders.*", "presence-room"}}) + `","user_data":"{}"}}`)
		p.want(`{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"ann\\\"}\"}"}`)
		for i := range 40 {
			channel := fmt.Sprintf("private-orders.%d", i)
			p.say(`{"event":"pusher:subscribe","data":{"channel":"` + channel + `"}}`)
			p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"` + channel + `","data":"{}"}`)
		}
		p.say(`{"event":"pusher:subscribe","data":{"channel":"presence-room"}}`)
		p.want(`{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"count\":1,\"ids\":[\"ann\"],\"hash\":{\"ann\":null}}}"}`)
		p.say(`{"event":"pusher:subscribe","data":{"channel":"private-secrets"}}`)
		p.want(pusherFailure("private-secrets", "AuthError", `no authorizer is registered for channel "private-secrets", and the subscription brought neither signature nor token`, 401))
		q := s.dialPusher("")
		q.say(`{"event":"pusher:signin","data":{"auth":"a.b.c"}}`)
		if got := q.next(); !strings.HasPrefix(got, `{"event":"pusher:error","data":{"code":4009,"message":"`) {
			t.Errorf("a token that is none is answered with %s", got)
		}
		q.quiet()
	})
}

func TestPusherDeadlines(t *testing.T) {
	clock := newClock(time.Now())
	cfg := Config{Apps: []App{{ID: "3", Keys: docApp().Keys, AuthorizedWithin: 30 * time.Second}}, now: clock.now}
	s := start(t, cfg)
	s.clock = clock
	begin := clock.now()
	idle, joined, answers, user := s.upgraded("/app/"+docKey), s.dialPusher(""), s.dialPusher(""), s.dialPusher("")
	idle.read()
	user.signIn(`{"id":"u1"}`)
	user.next()
	joined.joined("private-a")
	answers.joined("public")
	s.at(begin.Add(29 * time.Second))
	answers.quiet()
	s.at(begin.Add(31 * time.Second))
	why := "this app wants connections to sign in, or to subscribe to a private or presence channel, within 30s"
	idle.want(ws.OpText, pusherTrouble("", 4009, why))
	idle.wantClose(4009, why)
	answers.want(pusherTrouble("", 4009, why))
	answers.wantClose(4009, why)
	joined.quiet()
	user.quiet()
}

// Where connections must become authorized, one that fails to is closed; one that is authorized already is told only.
func TestAFailedSignInEndsWhoMustBeAuthorized(t *testing.T) {
	onEach(t, func(t *testing.T, tr transport) {
		a := auth.New()
		a.AllowAnonymous()
		a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
		s := startOn(t, tr, Config{Auth: a, Apps: []App{{ID: "3", Keys: docApp().Keys, AuthorizedWithin: time.Hour}}})
		forged, notAToken, joined := s.dialPusher(""), s.dialPusher(""), s.dialPusher("")
		bad := `{"event":"pusher:signin","data":{"auth":"` + docKey + `:00","user_data":"{\"id\":\"u1\"}"}}`
		why := func(p *pusherPeer) string {
			return `the signature in auth is not the HMAC-SHA256, in lower-case hex, of "` + p.SocketID + `::user::" followed by user_data exactly as sent with the secret of key "` + docKey + `"`
		}
		forged.say(bad)
		forged.want(pusherTrouble("", 4009, why(forged)))
		forged.wantClose(4009, closeText(why(forged)))
		notAToken.say(`{"event":"pusher:signin","data":{"auth":"a.b.c"}}`)
		refused := notAToken.next()
		if !strings.HasPrefix(refused, `{"event":"pusher:error","data":{"code":4009,"message":"`) {
			t.Errorf("a token that is none is answered with %s", refused)
		}
		var said struct{ Data struct{ Message string } }
		if err := json.Unmarshal([]byte(refused), &said); err != nil {
			t.Fatal(err)
		}
		notAToken.wantClose(4009, closeText(said.Data.Message))
		joined.joined("private-a")
		joined.say(bad)
		joined.want(pusherTrouble("", 4009, why(joined)))
		joined.quiet()
	})
}

// closeText is as much of a reason as a close frame holds.
func closeText(why string) string { return why[:min(len(why), 123)] }

// TestTheCountOfALargeChannelIsToldLessOften: otherwise each newcomer would cost a message to everybody.
func TestTheCountOfALargeChannelIsToldLessOften(t *testing.T) {
	c := newClock(time.Unix(1_800_000_000, 0))
	s := start(t, Config{Apps: []App{{ID: "3", Keys: docApp().Keys, SubscriptionCounts: true}}, now: c.now})
	count := func(channel string, n int) string {
		return fmt.Sprintf(`{"event":"pusher_internal:subscription_count","channel":"%s","data":"{\"subscription_count\":%d}"}`, channel, n)
	}
	p := s.dialPusher("")
	for _, ch := range []string{"a", "b"} {
		p.joined(ch)
		p.want(count(ch, 1))
	}
	join := func(channels ...string) *peer {
		q := s.dial("?app=" + docKey)
		for _, ch := range channels {
			q.say(subscribe(ch))
			q.want(succeeded(ch))
		}
		return q
	}
	for n := 2; n <= 100; n++ {
		join("a", "b")
		p.want(count("a", n), count("b", n))
	}
	join("a")
	join("a")
	p.quiet() // 101 and 102 have waited so far,
	c.ms.Add(5000)
	p.want(count("a", 102)) // and are told in one
	q := join("a")
	q.say(`{"event":"unsubscribe","channel":"a"}`)
	q.quiet() // by that nothing has changed
	join("b")
	p.want(count("b", 101)) // after 5 s at once
	join("b")
	c.ms.Add(5000)
	p.want(count("b", 102))
	join("b")
	c.ms.Add(5000)
	p.want(count("b", 103)) // all counts were looked at since, and that of a had nothing new
	join("a")
	p.want(count("a", 103))
}
