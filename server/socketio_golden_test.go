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
)

// sioClient is a client on either transport.
type sioClient interface {
	say(packets ...string)
	next() string
	enter(nsp, auth string) string
	quiet()
}

// golden is a client whose packets are held against text. In what it says and hears {name} stands for what is known as
// name; in what it hears, <name> for what will be.
type golden struct {
	sioClient
	t     *testing.T
	known map[string]string
}

var knownAs = regexp.MustCompile(`\{([a-z]+)\}|<([a-z]+)>`)

func (g *golden) fill(text string) string {
	return knownAs.ReplaceAllStringFunc(text, func(s string) string {
		v, ok := g.known[strings.Trim(s, "{}<>")]
		if !ok {
			return s
		}
		return v
	})
}

func (g *golden) says(packets ...string) {
	g.t.Helper()
	for i := range packets {
		packets[i] = g.fill(packets[i])
	}
	g.say(packets...)
}

// hears reads packets.
func (g *golden) hears(packets ...string) {
	g.t.Helper()
	for _, want := range packets {
		var names []string
		want = g.fill(want)
		re := ""
		for rest := want; ; {
			at := knownAs.FindStringSubmatchIndex(rest)
			if at == nil || at[4] < 0 {
				re += regexp.QuoteMeta(rest)
				break
			}
			re += regexp.QuoteMeta(rest[:at[0]]) + `([0-9a-z.]+)`
			names = append(names, rest[at[4]:at[5]])
			rest = rest[at[1]:]
		}
		got := g.next()
		m := regexp.MustCompile("^" + re + "$").FindStringSubmatch(got)
		if m == nil {
			g.t.Fatalf("packet is\n%s\nand should be\n%s", got, want)
		}
		for i, name := range names {
			g.known[name] = m[i+1]
		}
	}
}

// sign makes {sig} the signature of a channel.
func (g *golden) sign(channel, data string) {
	g.known["sig"] = auth.SignChannel("k1", "s1", g.known["id"], channel, data)
	g.known["data"] = quote(data)
}

var goldens = []struct {
	name string
	run  func(t *testing.T, s *live, p, q *golden) // q is user "11"
}{
	{"public channels", func(t *testing.T, s *live, p, q *golden) {
		p.says(`421["subscribe","orders"]`)
		p.hears(`431[{"ok":true,"channel":"orders"}]`)
		p.says(`42["subscribe",{"channel":"other"}]`)
		p.hears(`42["subscription_succeeded",{"channel":"other"}]`)
		s.send(realtime.Message{Channels: []string{"orders"}, Event: `App\Events\Shipped`, Data: json.RawMessage(`{"id":1,"n":"ä\"€"}`), ID: "m1"})
		p.hears(`42["App\\Events\\Shipped",{"event":"App\\Events\\Shipped","channel":"orders","data":{"id":1,"n":"ä\"€"},"mid":"m1"}]`)
		s.send(realtime.Message{Channels: []string{"orders", "other"}, Event: "E", Data: json.RawMessage(`null`), ExceptSockets: []string{p.known["id"]}})
		p.quiet()
		p.says(`422["unsubscribe","orders"]`)
		p.hears(`432[{"ok":true,"channel":"orders"}]`)
		p.says(`423["unsubscribe",{"channel":"other"}]`)
		p.hears(`433[{"ok":true,"channel":"other"}]`)
		p.says(`42["unsubscribe","nothing"]`)
		s.send(event("orders", `1`))
		p.quiet()
	}},
	{"private channels", func(t *testing.T, s *live, p, q *golden) {
		const why = `no authorizer is registered for channel \"private-a\", and the subscription brought neither signature nor token`
		p.says(`421["subscribe","private-a"]`)
		p.hears(`431[{"ok":false,"channel":"private-a","code":4009,"message":"` + why + `","status":401}]`)
		p.says(`42["subscribe",{"channel":"private-a"}]`)
		p.hears(`42["subscription_error",{"channel":"private-a","code":4009,"message":"` + why + `","status":401}]`)
		p.sign("private-a", "")
		p.says(`422["subscribe",{"channel":"private-a","auth":"{sig}"}]`)
		p.hears(`432[{"ok":true,"channel":"private-a"}]`)
		s.RevokeSocket("", p.known["id"], "private-a", "closed")
		p.hears(`42["unsubscribed",{"channel":"private-a","reason":"revoked","message":"closed"}]`)
	}},
	{"presence", func(t *testing.T, s *live, p, q *golden) {
		p.sign("presence-a", `{"user_id":"7","user_info":{"name":"Ann"}}`)
		p.says(`421["subscribe",{"channel":"presence-a","auth":"{sig}","channel_data":{data}}]`)
		const ann = `{"id":"7","info":{"name":"Ann"}}`
		p.hears(`431[{"ok":true,"channel":"presence-a","presence":{"count":1,"ids":["7"],"hash":{"7":` + ann + `}},"me":{"id":"7"}}]`)
		q.sign("presence-a", `{"user_id":"11"}`)
		q.says(`42["subscribe",{"channel":"presence-a","auth":"{sig}","channel_data":{data}}]`)
		const both = `{"count":2,"ids":["7","11"],"hash":{"7":` + ann + `,"11":{"id":"11","info":null}}}`
		q.hears(`42["subscription_succeeded",{"channel":"presence-a","presence":` + both + `,"me":{"id":"11"}}]`)
		p.hears(`42["member_added",{"event":"member_added","channel":"presence-a","data":{"id":"11","info":null}}]`)
		q.sign("presence-a", `{"user_id":"11","user_info":1}`)
		q.says(`421["subscribe",{"channel":"presence-a","auth":"{sig}","channel_data":{data}}]`)
		const now = `{"count":2,"ids":["7","11"],"hash":{"7":` + ann + `,"11":{"id":"11","info":1}}}`
		q.hears(`431[{"ok":true,"channel":"presence-a","presence":`+now+`,"me":{"id":"11"}}]`, `42["member_updated",{"event":"member_updated","channel":"presence-a","data":{"id":"11","info":1}}]`)
		p.hears(`42["member_updated",{"event":"member_updated","channel":"presence-a","data":{"id":"11","info":1}}]`)
		p.says(`422["presence","presence-a"]`)
		p.hears(`432[{"ok":true,"channel":"presence-a","presence":` + now + `}]`)
		p.says(`42["presence",{"channel":"presence-a"}]`)
		p.hears(`42["presence",{"channel":"presence-a","presence":` + now + `}]`)
		p.says(`423["presence","presence-b"]`)
		p.hears(`433[{"ok":false,"channel":"presence-b","code":4301,"message":"subscribe to \"presence-b\" to see its members","status":409}]`)
		q.says(`422["whisper",{"channel":"presence-a","event":"typing","data":{"a":1}}]`)
		q.hears(`432[{"ok":true,"channel":"presence-a"}]`)
		p.hears(`42["client-typing",{"event":"client-typing","channel":"presence-a","data":{"a":1},"user_id":"11"}]`)
		q.says(`423["unsubscribe","presence-a"]`)
		q.hears(`433[{"ok":true,"channel":"presence-a"}]`)
		p.hears(`42["member_removed",{"event":"member_removed","channel":"presence-a","data":{"id":"11","info":1}}]`)
	}},
	{"whispers", func(t *testing.T, s *live, p, q *golden) {
		for _, g := range []*golden{p, q} {
			g.sign("private-a", "")
			g.says(`421["subscribe",{"channel":"private-a","auth":"{sig}"}]`)
			g.hears(`431[{"ok":true,"channel":"private-a"}]`)
		}
		p.says(`42["client event",{"channel":"private-a","event":"client-x","data":"text"}]`, `422["whisper",{"channel":"private-a","event":"y"}]`)
		p.hears(`432[{"ok":true,"channel":"private-a"}]`)
		q.hears(`42["client-x",{"event":"client-x","channel":"private-a","data":"text"}]`, `42["client-y",{"event":"client-y","channel":"private-a","data":null}]`)
		p.says(`42["whisper",{"channel":"orders","event":"x","data":1}]`)
		p.hears(`42["channel_error",{"channel":"orders","code":4009,"message":"client events work on private and presence channels only, not on public channel \"orders\"","status":403}]`)
		p.says(`423["client event",{"channel":"private-b","event":"x","data":1}]`)
		p.hears(`433[{"ok":false,"channel":"private-b","code":4301,"message":"subscribe to \"private-b\" before sending client events to it","status":409}]`)
	}},
	{"history", func(t *testing.T, s *live, p, q *golden) {
		p.says(`421["subscribe","log"]`)
		p.hears(`431[{"ok":true,"channel":"log","seq":0,"epoch":"<epoch>","recovered":false}]`)
		s.send(event("log", `1`))
		s.send(event("log", `2`))
		p.hears(`42["E",{"event":"E","channel":"log","data":1,"seq":1,"epoch":"{epoch}","ts":{ts}}]`, `42["E",{"event":"E","channel":"log","data":2,"seq":2,"epoch":"{epoch}","ts":{ts}}]`)
		q.known["epoch"] = p.known["epoch"]
		q.says(`421["subscribe",{"channel":"log","since":1,"epoch":"{epoch}"}]`)
		q.hears(`431[{"ok":true,"channel":"log","seq":2,"epoch":"{epoch}","recovered":true}]`, `42["E",{"event":"E","channel":"log","data":2,"seq":2,"epoch":"{epoch}","ts":{ts},"replayed":true}]`)
		q.says(`422["unsubscribe","log"]`)
		q.hears(`432[{"ok":true,"channel":"log"}]`)
		q.says(`42["subscribe",{"channel":"log","rewind":1}]`)
		q.hears(`42["subscription_succeeded",{"channel":"log","seq":2,"epoch":"{epoch}","recovered":false}]`, `42["E",{"event":"E","channel":"log","data":2,"seq":2,"epoch":"{epoch}","ts":{ts},"replayed":true}]`)
		p.says(`422["unsubscribe","log"]`)
		p.hears(`432[{"ok":true,"channel":"log"}]`)
		p.says(`423["subscribe",{"channel":"log","since":7,"epoch":"{epoch}"}]`)
		p.hears(`433[{"ok":true,"channel":"log","seq":2,"epoch":"{epoch}","recovered":false}]`)
		p.says(`424["subscribe",{"channel":"log","since":"x"}]`)
		p.hears(`434[{"ok":false,"channel":"log","code":4300,"message":"since is \"x\"; it must be the seq of the last message received","status":400}]`)
	}},
	{"publishing", func(t *testing.T, s *live, p, q *golden) {
		p.says(`421["publish",{"channel":"orders","event":"x","data":1}]`)
		p.hears(`431[{"ok":false,"channel":"orders","code":4009,"message":"this connection may not publish to \"orders\": it needs a grant or token that allows it","status":401}]`)
		p.says(`42["publish",{"channel":"orders","event":"x","data":1}]`)
		p.hears(`42["channel_error",{"channel":"orders","code":4009,"message":"this connection may not publish to \"orders\": it needs a grant or token that allows it","status":401}]`)
		p.says(`422["subscribe","log"]`)
		p.hears(`432[{"ok":true,"channel":"log","seq":0,"epoch":"<epoch>","recovered":false}]`)
		q.known["epoch"] = p.known["epoch"]
		q.says(`421["publish",{"channel":"log","event":"x","data":{"a":[1]},"mid":"one"}]`)
		q.hears(`431[{"ok":true,"channel":"log","seq":1,"epoch":"{epoch}"}]`)
		p.hears(`42["x",{"event":"x","channel":"log","data":{"a":[1]},"seq":1,"epoch":"{epoch}","ts":{ts},"mid":"one"}]`)
		q.known["other"] = p.known["id"]
		q.says(`42["publish",{"channel":"log","event":"x","data":1,"except":["{other}"]}]`, `422["publish",{"channel":"log","event":"x","data":2}]`)
		q.hears(`432[{"ok":true,"channel":"log","seq":3,"epoch":"{epoch}"}]`)
		p.hears(`42["x",{"event":"x","channel":"log","data":2,"seq":3,"epoch":"{epoch}","ts":{ts}}]`)
	}},
	{"tokens", func(t *testing.T, s *live, p, q *golden) {
		p.known["token"] = issue(t, auth.Claims{Subject: "10"})
		p.says(`421["auth",{"token":"{token}"}]`)
		p.hears(`431[{"ok":true,"user_id":"10"}]`)
		p.known["token"] = issue(t, auth.Claims{Subject: "12"})
		p.says(`422["auth",{"token":"{token}"}]`)
		p.hears(`432[{"ok":false,"code":4009,"message":"this connection is user \"10\" already; another user needs another connection","status":403}]`)
		p.says(`42["auth",{"token":"nonsense"}]`, `423["auth"]`)
		p.hears(`433[{"ok":false,"code":4300,"message":"auth takes an object with a token: null","status":400}]`)
		p.hears(`42["channel_error",{"code":4009,"message":"token is not a JWT: token is malformed: token contains an invalid number of segments","status":401}]`)
		s.Disconnect("", "10", "go away")
		p.hears(`42["channel_error",{"code":4009,"message":"go away","status":403}]`, `41`)
	}},
	{"what is wrong with a command", func(t *testing.T, s *live, p, q *golden) {
		p.says(`421["subscribe"]`, `422["subscribe",1]`, `423["subscribe",{}]`, `424["presence",{"channel":1}]`, `42["nonsense",1]`, `425["nonsense"]`, `426["subscribe",""]`, `427["subscribe",{"channel":"a b"}]`)
		for i, arg := range []string{"null", "1", "{}", `{\"channel\":1}`} {
			name := "subscribe"
			if i == 3 {
				name = "presence"
			}
			p.hears(fmt.Sprintf(`43%d[{"ok":false,"code":4300,"message":"%s takes a channel's name, or an object with a channel: %s","status":400}]`, i+1, name, arg))
		}
		p.hears(`42["channel_error",{"code":4300,"message":"nobody handles the event \"nonsense\"","status":404}]`, `435[{"ok":false,"code":4300,"message":"nobody handles the event \"nonsense\"","status":404}]`)
		p.hears(`436[{"ok":false,"code":4300,"message":"channel name is empty","status":400}]`)
		p.hears(`437[{"ok":false,"channel":"a b","code":4300,"message":"channel name \"a b\" has ' ' at byte 1; allowed are letters, digits and _ - = @ , . ;","status":400}]`)
	}},
	{"laravel-echo", func(t *testing.T, s *live, p, q *golden) {
		p.sign("presence-e", "")
		p.says(`42["subscribe",{"channel":"orders","auth":{"headers":{"Authorization":"Bearer x"}}}]`)
		p.quiet()
		s.send(realtime.Message{Channels: []string{"orders"}, Event: "Shipped", Data: json.RawMessage(`{"a":1}`)})
		s.send(realtime.Message{Channels: []string{"orders"}, Event: ".plain", Data: json.RawMessage(`"t"`)})
		p.hears(`42["App\\Events\\Shipped","orders",{"a":1}]`, `42["plain","orders","t"]`)
		p.says(`42["subscribe",{"channel":"private-x","auth":{"headers":{}}}]`)
		p.hears(`42["subscription_error","private-x",401]`)
		q.says(`42["subscribe",{"channel":"presence-room","auth":{"headers":{}}}]`)
		q.hears(`42["presence:subscribed","presence-room",[{"user_id":"11","user_info":{"n":1}}]]`)
		p.known["token"] = issue(t, auth.Claims{Subject: "10"})
		p.says(`421["auth",{"token":"{token}"}]`)
		p.hears(`431[{"ok":true,"user_id":"10"}]`)
		p.says(`42["subscribe",{"channel":"presence-room","auth":{"headers":{}}}]`)
		p.hears(`42["presence:subscribed","presence-room",[{"user_id":"11","user_info":{"n":1}},{"user_id":"10","user_info":{"n":1}}]]`)
		q.hears(`42["presence:joining","presence-room",{"user_id":"10","user_info":{"n":1}}]`)
		p.says(`42["client event",{"channel":"presence-room","event":"client-typing","data":{"a":1}}]`)
		q.hears(`42["client-typing","presence-room",{"a":1}]`)
		p.says(`42["unsubscribe",{"channel":"presence-room","auth":{"headers":{}}}]`)
		q.hears(`42["presence:leaving","presence-room",{"user_id":"10","user_info":{"n":1}}]`)
	}},
	{"namespaces that are refused", func(t *testing.T, s *live, p, q *golden) {
		p.says(`40/x,`, `40/y,{"token":"a"}`)
		p.hears(`44/x,{"message":"Invalid namespace"}`, `44/y,{"message":"Invalid namespace"}`)
		p.says(`41`, `40{"token":"nonsense"}`)
		p.hears(`44{"message":"token is not a JWT: token is malformed: token contains an invalid number of segments","data":{"code":4009,"status":401}}`)
		p.known["token"] = issue(t, auth.Claims{Subject: "10"})
		p.says(`40{"token":"{token}","format":"echo"}`)
		p.hears(`40{"sid":"<sid>"}`)
		p.says(`421["subscribe","orders"]`)
		p.hears(`431[{"ok":true,"channel":"orders"}]`)
		s.send(event("orders", `1`))
		p.hears(`42["App\\Events\\E","orders",1]`)
		s.send(event("#server-to-user-10", `2`))
		p.hears(`42["App\\Events\\E","#server-to-user-10",2]`)
	}},
}

// TestChannelsForSocketIOByteForByte holds every command and every answer, over WebSocket and over polling.
func TestChannelsForSocketIOByteForByte(t *testing.T) {
	for _, over := range []string{"websocket", "polling"} {
		for _, c := range goldens {
			t.Run(over+"/"+c.name, func(t *testing.T) {
				who := auth.New()
				who.AllowAnonymous()
				who.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
				who.Identify(func(r *http.Request) (auth.User, error) {
					return auth.User{ID: r.URL.Query().Get("user"), Publish: []string{"log"}}, nil
				})
				who.Channel("room", func(_ context.Context, u *auth.User, _ auth.Params) (auth.Grant, error) {
					return auth.Grant{MemberID: u.ID, MemberInfo: json.RawMessage(`{"n":1}`)}, nil
				})
				now := newClock(time.Now())
				s := start(t, Config{
					Apps: testApps, Auth: who, Loops: 2, EventNamespace: "App.Events", now: now.now,
					SocketIO: SocketIOConfig{Recovery: -1}, Channels: []Channel{{Pattern: "log", History: History{Size: 10}}},
				})
				client := func(query string) *golden {
					g := &golden{t: t, known: map[string]string{"ts": fmt.Sprint(now.ms.Load())}}
					if over == "websocket" {
						g.sioClient = s.openSIO(query)
					} else {
						g.sioClient = s.openPoller(query)
					}
					g.known["id"] = g.enter("/", "")
					return g
				}
				c.run(t, s, client(""), client("&user=11"))
			})
		}
	}
}
