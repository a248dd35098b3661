package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	realtime "github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

var (
	testApps   = []App{{ID: "shop", Keys: []auth.Key{{Key: "k1", Secret: "s1"}, {Key: "k2", Secret: "s2"}}}, {ID: "blog", Keys: []auth.Key{{Key: "kb", Secret: "sb"}}}}
	testSecret = []byte("0123456789abcdef0123456789abcdef")
)

// byQuery identifies connections by ?user=, and lets anonymous ones in. Users may publish to the patterns.
func byQuery(publish ...string) *auth.Auth {
	a := auth.New()
	a.AllowAnonymous()
	a.Identify(func(r *http.Request) (auth.User, error) {
		return auth.User{ID: r.URL.Query().Get("user"), Publish: publish}, nil
	})
	return a
}

func issue(t testing.TB, c auth.Claims) string {
	t.Helper()
	if c.ExpiresAt.IsZero() {
		c.ExpiresAt = time.Now().Add(time.Hour)
	}
	token, err := auth.IssueHS256(testSecret, c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// join asks for a presence channel with a signature.
func (p *peer) join(channel, data string) {
	p.t.Helper()
	p.say(fmt.Sprintf(`{"event":"subscribe","channel":"%s","auth":"%s","channel_data":%s}`, channel, auth.SignChannel("k1", "s1", p.SocketID, channel, data), quote(data)))
}

func (p *peer) private(channel string) {
	p.t.Helper()
	p.say(fmt.Sprintf(`{"event":"subscribe","channel":"%s","auth":"%s"}`, channel, auth.SignChannel("k1", "s1", p.SocketID, channel, "")))
	p.want(`{"event":"subscription_succeeded","channel":"` + channel + `"}`)
}

func event(channel, data string) realtime.Message {
	return realtime.Message{Channels: []string{channel}, Event: "E", Data: json.RawMessage(data)}
}

// TestProtocol pins down every frame, on every transport.
func TestProtocol(t *testing.T) {
	for _, tr := range transports {
		t.Run(string(tr), func(t *testing.T) {
			for _, c := range protocol {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, tr)
				})
			}
		})
	}
}

var protocol = []struct {
	name string
	run  func(*testing.T, transport)
}{
	{"subscribe and unsubscribe", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		p.say(`{"event":"subscribe","channel":"a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		p.say(`{"event":"subscribe","channel":"b","id":1}`)
		p.want(`{"event":"subscription_succeeded","id":1,"channel":"b"}`)
		p.say(`{"event":"subscribe","channel":"c","messageId":"m-\u0031"}`)
		p.want(`{"event":"subscription_succeeded","messageId":"m-\u0031","channel":"c"}`)
		p.say(`{"event":"subscribe","channel":"c","id":"x","messageId":2}`) // again
		p.want(`{"event":"subscription_succeeded","id":"x","messageId":2,"channel":"c"}`)
		s.send(realtime.Message{Channels: []string{"a", "b", "c"}, Event: "E", Data: json.RawMessage(`1`)})
		p.want(`{"event":"E","channel":"a","data":1}`, `{"event":"E","channel":"b","data":1}`, `{"event":"E","channel":"c","data":1}`)
		p.say(`{"event":"unsubscribe","channel":"a"}`)
		p.say(`{"event":"unsubscribe","channel":"b","id":4}`)
		p.want(`{"event":"unsubscribed","id":4,"channel":"b"}`)
		p.say(`{"event":"unsubscribe","channel":"never","messageId":"u"}`)
		p.want(`{"event":"unsubscribed","messageId":"u","channel":"never"}`)
		s.send(realtime.Message{Channels: []string{"a", "b", "c"}, Event: "E", Data: json.RawMessage(`2`)})
		p.want(`{"event":"E","channel":"c","data":2}`)
		p.quiet()
		if n := s.Subscriptions("", "a") + s.Subscriptions("", "b"); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		if n := s.Subscriptions("", "c"); n != 1 {
			t.Errorf("c has %d subscriptions", n)
		}
	}},
	{"old dialect", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		p.say(`{"type":"subscribe","channel":"a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		s.send(realtime.Message{Channels: []string{"a"}, Event: "E", Data: json.RawMessage(`"text <b>"`)})
		p.want(`{"event":"E","channel":"a","data":"text <b>"}`)
		p.say(`{"type":"subscribe","channel":"private-a"}`)
		p.want(trouble("subscription_error", "", "private-a", 4009, "AuthError", `no authorizer is registered for channel "private-a", and the subscription brought neither signature nor token`, 401))
		p.say(`{"type":"whatever","channel":"a","data":1}`)
		p.say(`{"event":"ping","type":"subscribe","channel":"b"}`) // event wins
		p.want(`{"event":"pong"}`)
		p.quiet()
	}},
	{"life and unknown", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		for _, f := range []string{
			`__stacks_ping__`, `__stacks_pong__`, `{"event":"heartbeat","timestamp":1}`, `{"event":"presence_heartbeat","channel":"presence-x"}`,
			`{"event":"unheard"}`, `{}`, `{"channel":"a"}`, `{"event":7}`, `{"event":""}`, `{"event":null,"type":null}`,
		} {
			p.say(f)
		}
		p.quiet()
		p.say(`{"event":"ping","id":1.5e3,"messageId":null}`)
		p.want(`{"event":"pong","id":1.5e3}`)
		p.say(`{"event":"unheard","id":2,"channel":"a"}`)
		const commands = `; commands are subscribe, unsubscribe, batch_subscribe, batch_unsubscribe, publish, presence, ping, auth and client-…`
		p.want(trouble("error", `"id":2`, "a", 4300, "UnknownCommand", `unknown command "unheard"`+commands, 404))
		p.say(`{"id":3}`)
		p.want(trouble("error", `"id":3`, "", 4300, "UnknownCommand", `unknown command ""`+commands, 404))
		p.say(`{"event":"pusher:subscribe","data":{"channel":"a"}}`)
		p.want(trouble("error", "", "", 4300, "NotSupported", "this is the plain JSON endpoint; the Pusher protocol is served at /app/{key}", 404))
		p.say(`{"event":"pusher:ping","id":"q"}`)
		p.want(trouble("error", `"id":"q"`, "", 4300, "NotSupported", "this is the plain JSON endpoint; the Pusher protocol is served at /app/{key}", 404))
		for _, id := range []string{`{}`, `[1]`, `"` + strings.Repeat("i", 127) + `"`} {
			p.say(`{"event":"ping","id":` + id + `}`)
			p.want(trouble("error", "", "", 4300, "ValidationError", "id and messageId are numbers or strings of at most 126 bytes", 400))
		}
	}},
	{"subprotocol and compression", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dialWith("", &wsclient.Options{Deflate: true, Protocols: []string{"other", "realtime.v1.json"}})
		if !p.Deflate || p.Protocol != "realtime.v1.json" {
			t.Fatalf("deflate %v, protocol %q", p.Deflate, p.Protocol)
		}
		plain := s.dial("")
		for _, p := range []*peer{p, plain} {
			p.say(`{"event":"subscribe","channel":"a"}`)
			p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		}
		for _, n := range []int{1, 80, 130, 511, 512, 60_000, 70_000} {
			data := `"` + strings.Repeat("x", n) + `"`
			s.send(event("a", data))
			for _, p := range []*peer{p, plain} {
				p.want(`{"event":"E","channel":"a","data":` + data + `}`)
			}
		}
	}},
	{"batches", func(t *testing.T, tr transport) {
		a := byQuery()
		a.Channel("open.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) { return auth.Grant{}, nil })
		a.Channel("shut.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
			return auth.Grant{}, auth.Refuse("not today")
		})
		s := startOn(t, tr, Config{Auth: a})
		p := s.dial("")
		p.say(`{"event":"batch_subscribe","channels":["a","b"],"messageId":"m1"}`)
		p.want(`{"event":"subscription_succeeded","channel":"a"}`, `{"event":"subscription_succeeded","channel":"b"}`,
			`{"event":"batch_subscribe_result","messageId":"m1","data":{"messageId":"m1","succeeded":["a","b"],"failed":{}}}`)
		p.say(`{"event":"batch_subscribe","channels":["c","no spaces"],"id":2}`)
		p.want(`{"event":"subscription_succeeded","channel":"c"}`)
		if got := p.next(); !strings.HasPrefix(got, `{"event":"batch_subscribe_result","id":2,"data":{"succeeded":["c"],"failed":{"no spaces":"`) {
			t.Errorf("got %s", got)
		}
		p.say(`{"event":"batch_subscribe","channels":["private-shut.1"]}`)
		p.want(`{"event":"batch_subscribe_result","data":{"succeeded":[],"failed":{"private-shut.1":"not today"}}}`)
		p.say(`{"event":"batch_subscribe","channels":["private-open.1"]}`)
		p.want(`{"event":"subscription_succeeded","channel":"private-open.1"}`, `{"event":"batch_subscribe_result","data":{"succeeded":["private-open.1"],"failed":{}}}`)
		p.say(`{"event":"batch_unsubscribe","channels":["a","never"],"messageId":3}`)
		p.want(`{"event":"batch_unsubscribe_result","messageId":3,"data":{"messageId":3,"succeeded":["a","never"],"failed":{}}}`)
		p.say(`{"event":"batch_subscribe","channels":[],"id":4}`)
		p.want(`{"event":"batch_subscribe_result","id":4,"data":{"succeeded":[],"failed":{}}}`)
		p.say(`{"event":"batch_subscribe","channels":[` + strings.Repeat(`"a",`, 50) + `"b"],"id":5}`)
		p.want(trouble("error", `"id":5`, "", 4300, "BatchError", "channels: the list has more than 50 items", 400))
		p.say(`{"event":"batch_subscribe","channels":["a",1],"id":6}`)
		p.want(trouble("error", `"id":6`, "", 4300, "BatchError", "channels: item 1 of the list is not a string", 400))
		p.say(`{"event":"batch_unsubscribe"}`)
		p.want(trouble("error", "", "", 4300, "BatchError", "channels: a list of strings is missing", 400))
		p.say(`{"event":"batch_subscribe","channels":["a"],"channelData":7}`)
		p.want(trouble("error", "", "", 4300, "BatchError", "channelData: '7' at byte 0, where '{' should be", 400))
		p.quiet()
	}},
	{"signatures", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: testApps})
		p := s.dial("?app=k1")
		for i, key := range testApps[0].Keys { // every key of the app is valid
			ch := fmt.Sprintf("private-%d", i)
			p.say(`{"event":"subscribe","channel":"` + ch + `","auth":"` + auth.SignChannel(key.Key, key.Secret, p.SocketID, ch, "") + `"}`)
			p.want(`{"event":"subscription_succeeded","channel":"` + ch + `"}`)
		}
		p.say(`{"event":"subscribe","id":1,"channel":"private-a","auth":"` + auth.SignChannel("k1", "s1", p.SocketID, "private-b", "") + `"}`)
		p.want(trouble("subscription_error", `"id":1`, "private-a", 4009, "AuthError",
			fmt.Sprintf("the signature in auth is not the HMAC-SHA256, in lower-case hex, of %q with the secret of key %q", p.SocketID+":private-a", "k1"), 401))
		p.say(`{"event":"subscribe","channel":"private-a","auth":"kb:00"}`)
		p.want(trouble("subscription_error", "", "private-a", 4009, "AuthError", `auth was signed with key "kb", which is not one of this app's`, 401))
		p.say(`{"event":"subscribe","channel":"private-a","auth":"nonsense"}`)
		p.want(trouble("subscription_error", "", "private-a", 4009, "AuthError", `auth is neither "KEY:SIGNATURE" nor a token`, 401))
		p.say(`{"event":"subscribe","channel":"private-a","auth":"e30.e30.x"}`)
		p.want(trouble("subscription_error", "", "private-a", 4009, "AuthError", `auth for channel "private-a" is a token, but this server accepts no tokens`, 401))

		// Apps are apart: the same channel of another app hears nothing.
		other := s.dial("?app=kb")
		for _, p := range []*peer{p, other} {
			p.say(`{"event":"subscribe","channel":"news"}`)
			p.want(`{"event":"subscription_succeeded","channel":"news"}`)
		}
		m := event("news", `1`)
		m.App = "blog"
		s.send(m)
		other.want(`{"event":"E","channel":"news","data":1}`)
		p.quiet()
	}},
	{"presence", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: testApps})
		ann, bob, tab := s.dial(""), s.dial(""), s.dial("")
		ann.join("presence-x", `{"user_id":10,"user_info":{"name":"Ann"}}`)
		ann.want(`{"event":"subscription_succeeded","channel":"presence-x","data":{"presence":{"count":1,"ids":["10"],"hash":{"10":{"id":"10","info":{"name":"Ann"}}}},"me":{"id":"10"}}}`)
		bob.join("presence-x", `{"user_id":"b<"}`)
		bob.want(`{"event":"subscription_succeeded","channel":"presence-x","data":{"presence":{"count":2,"ids":["10","b<"],"hash":{"10":{"id":"10","info":{"name":"Ann"}},"b<":{"id":"b<","info":null}}},"me":{"id":"b<"}}}`)
		ann.want(`{"event":"member_added","channel":"presence-x","data":{"id":"b<","info":null}}`)
		// A second tab is no news, and the first one's info stays.
		tab.join("presence-x", `{"user_id":"10","user_info":{"name":"Anna"}}`)
		tab.want(`{"event":"subscription_succeeded","channel":"presence-x","data":{"presence":{"count":2,"ids":["10","b<"],"hash":{"10":{"id":"10","info":{"name":"Ann"}},"b<":{"id":"b<","info":null}}},"me":{"id":"10"}}}`)
		ann.quiet()
		bob.quiet()
		// Subscribing again with other info is an update, which everybody hears after the acknowledgement.
		tab.join("presence-x", `{"user_id":"10","user_info":{"name":"Anna"}}`)
		tab.want(`{"event":"subscription_succeeded","channel":"presence-x","data":{"presence":{"count":2,"ids":["10","b<"],"hash":{"10":{"id":"10","info":{"name":"Anna"}},"b<":{"id":"b<","info":null}}},"me":{"id":"10"}}}`)
		for _, p := range []*peer{ann, bob, tab} {
			p.want(`{"event":"member_updated","channel":"presence-x","data":{"id":"10","info":{"name":"Anna"}}}`)
		}
		tab.join("presence-x", `{"user_id":"11"}`)
		tab.want(trouble("subscription_error", "", "presence-x", 4009, "AuthError", `this connection is member "10" of "presence-x" already; unsubscribe before joining as "11"`, 403))
		bob.say(`{"event":"presence","channel":"presence-x","id":1}`)
		bob.want(`{"event":"presence","id":1,"channel":"presence-x","data":{"presence":{"count":2,"ids":["10","b<"],"hash":{"10":{"id":"10","info":{"name":"Anna"}},"b<":{"id":"b<","info":null}}}}}`)
		bob.say(`{"event":"presence","channel":"presence-y","id":2}`)
		bob.want(trouble("error", `"id":2`, "presence-y", 4301, "ValidationError", `subscribe to "presence-y" to see its members`, 409))
		bob.say(`{"event":"presence","channel":"news"}`)
		bob.want(trouble("error", "", "news", 4300, "ValidationError", `"news" is not a presence channel`, 400))
		if ms := s.Members("", "presence-x"); len(ms) != 2 || ms[0].ID != "10" || string(ms[0].Info) != `{"name":"Anna"}` || ms[1].ID != "b<" || ms[1].Info != nil {
			t.Errorf("members are %v", ms)
		}
		// The user leaves with the last connection, however it ends.
		ann.say(`{"event":"unsubscribe","channel":"presence-x","id":3}`)
		ann.want(`{"event":"unsubscribed","id":3,"channel":"presence-x"}`)
		bob.quiet()
		tab.Close(1000, "")
		bob.want(`{"event":"member_removed","channel":"presence-x","data":{"id":"10","info":{"name":"Anna"}}}`)
		bob.quiet()
		// Who is a member must be signed.
		ann.say(`{"event":"subscribe","channel":"presence-x","auth":"` + auth.SignChannel("k1", "s1", ann.SocketID, "presence-x", "") + `"}`)
		ann.want(trouble("subscription_error", "", "presence-x", 4009, "AuthError", `presence channel "presence-x" shows its members, and nothing says who this one is: identify the connection, or send channel_data with a user_id`, 401))
	}},
	{"state in answers", func(t *testing.T, tr transport) {
		// What an answer says of a channel is true where it stands, though its command overtakes what was published.
		c := newClock(time.UnixMilli(1_760_000_000_000))
		s := startOn(t, tr, Config{Apps: testApps, Auth: byQuery("*"), now: c.now, Channels: []Channel{{Pattern: "presence-h", History: History{Size: 3}}}})
		p := s.upgraded("/ws?user=7")
		id := p.greeted()
		join := func(n int, data string) []byte {
			return masked(ws.OpText, fmt.Sprintf(`{"event":"subscribe","id":%d,"channel":"presence-h","channel_data":%s,"auth":"%s"}`,
				n, quote(data), auth.SignChannel("k1", "s1", id, "presence-h", data)))
		}
		p.write(join(1, `{"user_id":"7","user_info":1}`))
		_, f, err := p.read()
		e := regexp.MustCompile(`"epoch":"([0-9a-z]+)"`).FindSubmatch(f)
		if err != nil || e == nil {
			t.Fatalf("%s, %v", f, err)
		}
		members := func(info int) string {
			return fmt.Sprintf(`"presence":{"count":1,"ids":["7"],"hash":{"7":{"id":"7","info":%d}}}`, info)
		}
		p.write(slices.Concat(
			masked(ws.OpText, `{"event":"publish","id":2,"channel":"presence-h","name":"N","data":1}`),
			join(3, `{"user_id":"7","user_info":2}`),
			masked(ws.OpText, `{"event":"presence","id":4,"channel":"presence-h"}`),
			masked(ws.OpText, `{"event":"publish","id":5,"channel":"presence-h","name":"N","data":2}`),
			masked(ws.OpText, `{"event":"presence","id":6,"channel":"presence-h"}`),
			masked(ws.OpText, `{"event":"unsubscribe","id":7,"channel":"presence-h"}`),
			masked(ws.OpText, `{"event":"presence","id":8,"channel":"presence-h"}`)))
		epoch := string(e[1])
		p.want(ws.OpText,
			fmt.Sprintf(`{"event":"ack","id":2,"data":{"seq":1,"epoch":"%s"}}`, epoch),
			fmt.Sprintf(`{"event":"N","channel":"presence-h","data":1,"seq":1,"epoch":"%s","ts":1760000000000}`, epoch),
			fmt.Sprintf(`{"event":"subscription_succeeded","id":3,"channel":"presence-h","data":{%s,"me":{"id":"7"},"seq":1,"epoch":"%s","recovered":false}}`, members(2), epoch),
			`{"event":"member_updated","channel":"presence-h","data":{"id":"7","info":2}}`,
			`{"event":"presence","id":4,"channel":"presence-h","data":{`+members(2)+`}}`,
			fmt.Sprintf(`{"event":"ack","id":5,"data":{"seq":2,"epoch":"%s"}}`, epoch),
			fmt.Sprintf(`{"event":"N","channel":"presence-h","data":2,"seq":2,"epoch":"%s","ts":1760000000000}`, epoch),
			`{"event":"presence","id":6,"channel":"presence-h","data":{`+members(2)+`}}`,
			`{"event":"unsubscribed","id":7,"channel":"presence-h"}`,
			trouble("error", `"id":8`, "presence-h", 4301, "ValidationError", `subscribe to "presence-h" to see its members`, 409))
	}},
	{"authorizers", func(t *testing.T, tr transport) {
		a := byQuery()
		a.Channel("orders.{id}", func(_ context.Context, u *auth.User, p auth.Params) (auth.Grant, error) {
			switch {
			case u == nil:
				return auth.Grant{}, auth.Refuse("sign in first")
			case p["id"] == "broken":
				return auth.Grant{}, errors.New("the database is secret")
			case p["id"] == "panic":
				panic("boom")
			}
			return auth.Grant{Publish: p["id"] == "write", MemberInfo: json.RawMessage(`{"n":1}`)}, nil
		})
		s := startOn(t, tr, Config{Auth: a})
		p, nobody := s.dial("?user=7"), s.dial("")
		p.say(`{"event":"subscribe","channel":"private-orders.1","id":1}`)
		p.want(`{"event":"subscription_succeeded","id":1,"channel":"private-orders.1"}`)
		p.say(`{"event":"subscribe","channel":"presence-orders.1"}`)
		p.want(`{"event":"subscription_succeeded","channel":"presence-orders.1","data":{"presence":{"count":1,"ids":["7"],"hash":{"7":{"id":"7","info":{"n":1}}}},"me":{"id":"7"}}}`)
		nobody.say(`{"event":"subscribe","channel":"private-orders.1"}`)
		nobody.want(trouble("subscription_error", "", "private-orders.1", 4009, "AuthError", "sign in first", 401))
		for _, x := range []string{"broken", "panic"} { // no secret of the application's gets out
			p.say(`{"event":"subscribe","channel":"private-orders.` + x + `"}`)
			p.want(trouble("subscription_error", "", "private-orders."+x, 4300, "ServerError", "the server could not decide; its log says why", 500))
		}
		// Publishing needs a grant that says so.
		p.say(`{"event":"publish","channel":"private-orders.1","name":"Forged","data":1,"id":2}`)
		p.want(trouble("error", `"id":2`, "private-orders.1", 4009, "AuthError", `this connection may not publish to "private-orders.1": it needs a grant or token that allows it`, 401))
		p.say(`{"event":"subscribe","channel":"private-orders.write"}`)
		p.want(`{"event":"subscription_succeeded","channel":"private-orders.write"}`)
		p.say(`{"event":"publish","channel":"private-orders.write","name":"Ok","data":{"a":1},"id":3}`)
		p.wantEpoch(`{"event":"ack","id":3,"data":{"seq":1,"epoch":"<epoch>"}}`)
		p.want(`{"event":"Ok","channel":"private-orders.write","data":{"a":1}}`)
		// except leaves sockets out; without an id there is no answer.
		p.say(`{"event":"publish","channel":"private-orders.write","name":"Ok","data":2,"except":["` + p.SocketID + `"]}`)
		p.quiet()
		p.say(`{"event":"publish","channel":"private-orders.write","name":"Ok","data":2,"except":["me"]}`)
		p.want(trouble("error", "", "private-orders.write", 4300, "ValidationError", `except: "me" is not a socket id such as 123.456`, 400))
		p.say(`{"event":"publish","channel":"private-orders.write","name":"Ok","data":2,"except":"x"}`)
		p.want(trouble("error", "", "private-orders.write", 4300, "ValidationError", `except: a list of strings is missing`, 400))
		p.say(`{"event":"publish","channel":"private-orders.write","data":2}`)
		p.want(trouble("error", "", "private-orders.write", 4300, "ValidationError", `the event has no name`, 400))
		p.say(`{"event":"publish","channel":"private-orders.write","name":"pusher:x","data":2}`)
		p.want(trouble("error", "", "private-orders.write", 4300, "ValidationError", `event name "pusher:x" is reserved for the protocol`, 400))
		p.say(`{"event":"publish","channel":"no spaces","name":"x","id":9}`)
		if got := p.next(); !strings.HasPrefix(got, `{"event":"error","id":9,"channel":"no spaces","data":{"code":4300,"type":"ValidationError","error":"`) {
			t.Errorf("got %s", got)
		}
	}},
	{"whispers", func(t *testing.T, tr transport) {
		c := newClock(time.Now())
		s := startOn(t, tr, Config{Apps: testApps, Limits: Limits{WhispersPerSecond: 3}, now: c.now,
			Channels: []Channel{{Pattern: "private-silent", NoWhispers: true}}})
		s.clock = c
		ann, bob := s.dial(""), s.dial("")
		ann.private("private-x")
		bob.private("private-x")
		ann.private("private-silent")
		ann.join("presence-x", `{"user_id":"10"}`)
		ann.next()
		bob.join("presence-x", `{"user_id":"11"}`)
		bob.next()
		ann.want(`{"event":"member_added","channel":"presence-x","data":{"id":"11","info":null}}`)
		// The sender's id is what was verified, whatever the frame says; nothing comes back to the sender.
		ann.say(`{"event":"client-typing","channel":"presence-x","data":{"a":1},"user_id":"11"}`)
		bob.want(`{"event":"client-typing","channel":"presence-x","data":{"a":1},"user_id":"10"}`)
		ann.say(`{"event":"client-typing","channel":"private-x","messageId":"m"}`)
		ann.want(`{"event":"ack","messageId":"m"}`)
		bob.want(`{"event":"client-typing","channel":"private-x","data":null}`)
		ann.say(`{"event":"client-typing","channel":"private-x","data":3,"ack":true}`)
		ann.want(`{"event":"ack"}`)
		bob.want(`{"event":"client-typing","channel":"private-x","data":3}`)
		ann.say(`{"event":"client-typing","channel":"private-x","data":4,"id":1}`)
		ann.want(fmt.Sprintf(`{"event":"error","id":1,"channel":"private-x","data":{"code":4301,"type":"RateLimitExceeded","error":"more than 3 client events in a second","status":429,"retryAfter":%d}}`, c.now().UnixMilli()+334))
		s.at(c.now().Add(334 * time.Millisecond))
		ann.quiet() // the loop has seen the time
		ann.say(`{"event":"client-typing","channel":"private-x","data":5}`)
		bob.want(`{"event":"client-typing","channel":"private-x","data":5}`)
		s.at(c.now().Add(10 * time.Second))
		ann.quiet()

		ann.say(`{"event":"client-x","channel":"news","data":1}`)
		ann.want(trouble("error", "", "news", 4009, "AuthError", `client events work on private and presence channels only, not on public channel "news"`, 403))
		ann.say(`{"event":"client-x","channel":"private-y","data":1,"id":2}`)
		ann.want(trouble("error", `"id":2`, "private-y", 4301, "ValidationError", `subscribe to "private-y" before sending client events to it`, 409))
		ann.say(`{"event":"client-x","channel":"private-silent","data":1}`)
		ann.want(trouble("error", "", "private-silent", 4009, "AuthError", `channel "private-silent" takes no client events`, 403))
		ann.say(`{"event":"client-` + strings.Repeat("x", 200) + `","channel":"private-x"}`)
		ann.want(trouble("error", "", "private-x", 4300, "ValidationError", `the event name is 207 bytes, more than 200`, 400))
		ann.quiet()
		bob.quiet()
	}},
	{"tokens", func(t *testing.T, tr transport) {
		a := auth.New()
		a.AllowAnonymous()
		a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
		s := startOn(t, tr, Config{Auth: a})
		p := s.dial("")
		token := issue(t, auth.Claims{Subject: "7", Channels: []string{"private-a", "presence-a"}, Publish: []string{"news", "private-a"}, Info: json.RawMessage(`{"x":1}`)})
		// A token for a subscription.
		p.say(`{"event":"subscribe","channel":"presence-a","auth":"` + token + `"}`)
		p.want(`{"event":"subscription_succeeded","channel":"presence-a","data":{"presence":{"count":1,"ids":["7"],"hash":{"7":{"id":"7","info":{"x":1}}}},"me":{"id":"7"}}}`)
		p.say(`{"event":"subscribe","channel":"private-b","auth":"` + token + `"}`)
		p.want(trouble("subscription_error", "", "private-b", 4009, "AuthError", `token does not list channel "private-b" in its channels`, 401))
		// A token for the connection.
		p.say(`{"event":"subscribe","channel":"#server-to-user-7"}`)
		p.want(trouble("subscription_error", "", "#server-to-user-7", 4009, "AuthError", `channel "#server-to-user-7" is only for connections of that user`, 401))
		p.say(`{"event":"auth","token":"x","id":1}`)
		if got := p.next(); !strings.HasPrefix(got, `{"event":"error","id":1,"data":{"code":4009,"type":"AuthError","error":"token`) || !strings.HasSuffix(got, `,"status":401}}`) {
			t.Errorf("got %s", got)
		}
		p.say(`{"event":"auth","id":2}`)
		p.want(trouble("error", `"id":2`, "", 4300, "ValidationError", "auth needs a token", 400))
		exp := time.Now().Add(time.Hour).Truncate(time.Second)
		own := issue(t, auth.Claims{Subject: "7", ExpiresAt: exp, Channels: []string{"private-*"}, Publish: []string{"news"}})
		p.say(`{"event":"auth","token":"` + own + `","id":3}`)
		p.want(fmt.Sprintf(`{"event":"auth_ok","id":3,"data":{"user_id":"7","expires_at":%d}}`, exp.UnixMilli()))
		s.send(event("#server-to-user-7", `{"hello":7}`))
		p.want(`{"event":"E","channel":"#server-to-user-7","data":{"hello":7}}`)
		p.say(`{"event":"subscribe","channel":"private-anything"}`)
		p.want(`{"event":"subscription_succeeded","channel":"private-anything"}`)
		p.say(`{"event":"publish","channel":"news","name":"N","data":1,"id":4}`) // nobody listens: accepted, without a position
		p.want(`{"event":"ack","id":4}`)
		p.say(`{"event":"auth","token":"` + issue(t, auth.Claims{Subject: "8"}) + `","id":5}`)
		p.want(trouble("error", `"id":5`, "", 4009, "AuthError", `this connection is user "7" already; another user needs another connection`, 403))

		// A token at the upgrade.
		q := s.dial("?token=" + issue(t, auth.Claims{Subject: "9"}))
		s.send(realtime.Message{Channels: []string{"#server-to-user-7", "#server-to-user-9"}, Event: "E", Data: json.RawMessage(`2`)})
		q.want(`{"event":"E","channel":"#server-to-user-9","data":2}`)
		p.want(`{"event":"E","channel":"#server-to-user-7","data":2}`)
		_, err := wsclient.Dial(t.Context(), s.url("?token=x.y.z"), &wsclient.Options{TLS: s.tls})
		if he, ok := errors.AsType[*wsclient.HandshakeError](err); !ok || he.Status != 401 {
			t.Errorf("a bad token gives %v", err)
		}
	}},
	{"no tokens", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		p.say(`{"event":"auth","token":"x","id":1}`)
		if got := p.next(); !strings.HasPrefix(got, `{"event":"error","id":1,"data":{"code":4009,"type":"AuthError",`) {
			t.Errorf("got %s", got)
		}
	}},
	{"expiry of tokens", func(t *testing.T, tr transport) {
		a := auth.New()
		a.JWT(auth.JWTConfig{Algorithm: "HS256", Secret: testSecret})
		exp := time.Now().Add(time.Hour).Truncate(time.Second)
		c := newClock(time.Now())
		s := startOn(t, tr, Config{Auth: a, now: c.now, Limits: Limits{Ping: 100 * time.Hour, Pong: time.Hour}})
		s.clock = c
		p := s.dial("?token=" + issue(t, auth.Claims{Subject: "7", ExpiresAt: exp}))
		s.at(exp.Add(-20 * time.Second))
		p.want(`{"event":"token_expiring","data":{"in":20}}`)
		p.quiet() // told once
		again := exp.Add(time.Hour)
		p.say(`{"event":"auth","token":"` + issue(t, auth.Claims{Subject: "7", ExpiresAt: again}) + `"}`)
		p.want(fmt.Sprintf(`{"event":"auth_ok","data":{"user_id":"7","expires_at":%d}}`, again.UnixMilli()))
		s.at(exp.Add(time.Minute))
		p.quiet()
		s.at(again.Add(-5 * time.Second))
		p.want(`{"event":"token_expiring","data":{"in":5}}`)
		s.at(again.Add(time.Second))
		p.want(trouble("error", "", "", 4009, "Expired", `the token of user "7" has expired and was not renewed`, 401))
		p.wantClose(4009, `the token of user "7" has expired and was not renewed`)
	}},
	{"expiry of grants", func(t *testing.T, tr transport) {
		exp := time.Now().Add(time.Hour).Truncate(time.Second)
		a := byQuery()
		a.Channel("brief.{id}", func(context.Context, *auth.User, auth.Params) (auth.Grant, error) {
			return auth.Grant{ExpiresAt: exp}, nil
		})
		c := newClock(time.Now())
		s := startOn(t, tr, Config{Auth: a, now: c.now, Limits: Limits{Ping: 100 * time.Hour, Pong: time.Hour}})
		s.clock = c
		p := s.dial("")
		p.say(`{"event":"subscribe","channel":"private-brief.1"}`)
		p.want(`{"event":"subscription_succeeded","channel":"private-brief.1"}`)
		s.at(exp.Add(-time.Second))
		p.quiet()
		s.at(exp.Add(time.Second))
		p.want(`{"event":"unsubscribed","channel":"private-brief.1","data":{"reason":"expired","error":"the grant for \"private-brief.1\" has expired"}}`)
		s.send(event("private-brief.1", `1`))
		p.quiet()
	}},
	{"idle", func(t *testing.T, tr transport) {
		c := newClock(time.Now())
		s := startOn(t, tr, Config{now: c.now})
		s.clock = c
		p := s.dial("")
		p.quiet()
		s.at(c.now().Add(time.Minute + 10*time.Second))
		// The client's answer to the ping is read with the next frame.
		p.quiet()
		s.at(c.now().Add(3 * time.Minute))
		p.wantClose(4201, "no sign of life")
	}},
	{"replay", func(t *testing.T, tr transport) {
		c := newClock(time.UnixMilli(1_760_000_000_000))
		s := startOn(t, tr, Config{now: c.now, Limits: Limits{Ping: 100 * time.Hour}, Channels: []Channel{{Pattern: "h*", History: History{Size: 3, Age: time.Hour}}}})
		s.clock = c
		p := s.dial("")
		p.say(`{"event":"subscribe","channel":"h"}`)
		e := p.wantEpoch(`{"event":"subscription_succeeded","channel":"h","data":{"seq":0,"epoch":"<epoch>","recovered":false}}`)
		frame := func(n int, more string) string {
			return fmt.Sprintf(`{"event":"E","channel":"h","data":%d,"seq":%d,"epoch":"%s","ts":%d%s}`, n, n, e, 1_760_000_000_000+n, more)
		}
		for i := 1; i <= 5; i++ {
			s.at(time.UnixMilli(1_760_000_000_000 + int64(i)))
			m := event("h", fmt.Sprint(i))
			mid := ""
			if i == 5 {
				m.ID, mid = "id-5", `,"mid":"id-5"`
			}
			s.send(m)
			p.want(frame(i, mid))
		}
		ack := func(recovered bool) string {
			return fmt.Sprintf(`{"event":"subscription_succeeded","channel":"h","data":{"seq":5,"epoch":"%s","recovered":%v}}`, e, recovered)
		}
		again := func(more string, frames ...string) {
			t.Helper()
			p.say(`{"event":"unsubscribe","channel":"h"}`)
			p.say(`{"event":"subscribe","channel":"h",` + more + `}`)
			p.want(frames...)
			p.quiet()
		}
		r, r5 := `,"replayed":true`, `,"mid":"id-5","replayed":true`
		again(`"since":3,"epoch":"`+e+`"`, ack(true), frame(4, r), frame(5, r5))
		again(`"since":5,"epoch":"`+e+`"`, ack(true))
		again(`"since":2,"epoch":"`+e+`"`, ack(true), frame(3, r), frame(4, r), frame(5, r5))
		again(`"since":1,"epoch":"`+e+`"`, ack(false))
		again(`"since":9,"epoch":"`+e+`"`, ack(false))
		again(`"since":4,"epoch":"zz"`, ack(false))
		again(`"since":4,"epoch":"?"`, ack(false))
		again(`"since":4`, ack(true), frame(5, r5))
		again(`"since":1`, ack(false), frame(3, r), frame(4, r), frame(5, r5))
		again(`"rewind":2`, ack(false), frame(4, r), frame(5, r5))
		again(`"rewind":99`, ack(false), frame(3, r), frame(4, r), frame(5, r5))
		again(`"rewind":0`, ack(false))
		again(`"since":"4"`, trouble("subscription_error", "", "h", 4300, "ValidationError", `since is "4"; it must be the seq of the last message received`, 400))
		again(`"rewind":-1`, trouble("subscription_error", "", "h", 4300, "ValidationError", `rewind is -1; it must be a number of messages`, 400))
		// Nothing older than Age is kept; the position stays while anybody listens.
		q := s.dial("")
		q.say(`{"event":"subscribe","channel":"h"}`)
		q.want(ack(false))
		s.at(time.UnixMilli(1_760_000_000_000).Add(2 * time.Hour))
		again(`"rewind":3`, ack(false))
		again(`"since":4,"epoch":"`+e+`"`, ack(false))
		again(`"since":5,"epoch":"`+e+`"`, ack(true))
		// A channel that nobody listens to and nothing is kept of is forgotten: the next one is of another epoch.
		q.say(`{"event":"unsubscribe","channel":"h","id":1}`)
		q.want(`{"event":"unsubscribed","id":1,"channel":"h"}`)
		p.say(`{"event":"unsubscribe","channel":"h"}`)
		p.say(`{"event":"subscribe","channel":"h","since":5,"epoch":"` + e + `"}`)
		if again := p.wantEpoch(`{"event":"subscription_succeeded","channel":"h","data":{"seq":0,"epoch":"<epoch>","recovered":false}}`); again == e {
			t.Errorf("the sequence restarts in the same epoch %s", e)
		}
	}},
	{"cache", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		p.say(`{"event":"subscribe","channel":"cache-a"}`)
		p.want(`{"event":"subscription_succeeded","channel":"cache-a"}`)
		s.send(event("cache-a", `1`))
		s.send(event("cache-b", `2`)) // kept although nobody listens
		p.want(`{"event":"E","channel":"cache-a","data":1}`)
		p.say(`{"event":"subscribe","channel":"cache-b"}`)
		p.want(`{"event":"subscription_succeeded","channel":"cache-b"}`, `{"event":"E","channel":"cache-b","data":2,"replayed":true}`)
		q := s.dial("")
		q.say(`{"event":"batch_subscribe","channels":["cache-a"]}`)
		q.want(`{"event":"subscription_succeeded","channel":"cache-a"}`, `{"event":"E","channel":"cache-a","data":1,"replayed":true}`,
			`{"event":"batch_subscribe_result","data":{"succeeded":["cache-a"],"failed":{}}}`)
		p.quiet()
	}},
	{"idempotency and exclusion", func(t *testing.T, tr transport) {
		c := newClock(time.Now())
		s := startOn(t, tr, Config{Auth: byQuery(), now: c.now, Limits: Limits{Ping: 100 * time.Hour}})
		s.clock = c
		p, ann, ann2 := s.dial(""), s.dial("?user=ann"), s.dial("?user=ann")
		all := []*peer{p, ann, ann2}
		for _, p := range all {
			p.say(`{"event":"subscribe","channel":"a"}`)
			p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		}
		m := event("a", `1`)
		m.ID = "once"
		for range 3 {
			s.send(m)
		}
		for _, p := range all {
			p.want(`{"event":"E","channel":"a","data":1,"mid":"once"}`)
			p.quiet()
		}
		s.at(c.now().Add(2*time.Minute + time.Second))
		s.send(m)
		for _, p := range all {
			p.want(`{"event":"E","channel":"a","data":1,"mid":"once"}`)
		}
		m = event("a", `2`)
		m.ExceptUsers = []string{"ann", "nobody"}
		s.send(m)
		p.want(`{"event":"E","channel":"a","data":2}`)
		m = event("a", `3`)
		m.ExceptSockets = []string{ann.SocketID, "1.1", "99999999999999999999999.1"}
		s.send(m)
		for _, p := range []*peer{p, ann2} {
			p.want(`{"event":"E","channel":"a","data":3}`)
		}
		for _, p := range all {
			p.quiet()
		}
	}},
	{"handlers", func(t *testing.T, tr transport) {
		hs := map[string]Handler{
			"ask": func(_ context.Context, in Inbound) (any, error) {
				return map[string]string{"channel": in.Channel, "data": string(in.Data), "event": in.Event, "socket": in.Client.SocketID}, nil
			},
			"nothing": func(context.Context, Inbound) (any, error) { return nil, nil },
			"refuse":  func(context.Context, Inbound) (any, error) { return nil, auth.Refuse("not for you") },
			"fail":    func(context.Context, Inbound) (any, error) { return nil, errors.New("secret") },
			"panic":   func(context.Context, Inbound) (any, error) { panic("secret") },
		}
		s := startOn(t, tr, Config{Handlers: hs})
		p := s.dial("")
		p.say(`{"event":"ask","id":1,"channel":"a","data":{"q":[1, 2]}}`)
		p.want(`{"event":"ack","id":1,"data":{"channel":"a","data":"{\"q\":[1, 2]}","event":"ask","socket":"` + p.SocketID + `"}}`)
		p.say(`{"type":"ask"}`) // asked for no answer
		p.say(`{"event":"nothing","id":2}`)
		p.want(`{"event":"ack","id":2}`)
		p.say(`{"event":"refuse","id":3}`)
		p.want(trouble("error", `"id":3`, "", 4009, "AuthError", "not for you", 403))
		for i, ev := range []string{"fail", "panic"} {
			p.say(fmt.Sprintf(`{"event":"%s","messageId":%d}`, ev, i))
			p.want(trouble("error", fmt.Sprintf(`"messageId":%d`, i), "", 4300, "ServerError", "the server could not decide; its log says why", 500))
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("On after the start does not panic")
				}
			}()
			s.On("late", hs["ask"])
		}()
	}},
	{"policies", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: testApps, Limits: Limits{ChannelsPerConnection: 3, PayloadBytes: 50, MemberBytes: 20}, Channels: []Channel{
			{Pattern: "small", PayloadBytes: 10}, {Pattern: "full", Subscribers: 1}, {Pattern: "presence-two", Members: 2}, {Pattern: "private-sealed", Encrypted: true},
		}})
		p, q, r := s.dial(""), s.dial(""), s.dial("")
		p.say(`{"event":"subscribe","channel":"full"}`)
		p.want(`{"event":"subscription_succeeded","channel":"full"}`)
		q.say(`{"event":"subscribe","channel":"full","id":1}`)
		q.want(trouble("subscription_error", `"id":1`, "full", 4100, "CapacityError", `channel "full" has 1 subscribers, which is its limit`, 429))
		p.say(`{"event":"unsubscribe","channel":"full","id":1}`)
		p.want(`{"event":"unsubscribed","id":1,"channel":"full"}`)
		q.say(`{"event":"subscribe","channel":"full"}`)
		q.want(`{"event":"subscription_succeeded","channel":"full"}`)
		// Members are users, not connections.
		for i, p := range []*peer{p, q, r} {
			p.join("presence-two", fmt.Sprintf(`{"user_id":"%d"}`, min(i, 1)))
			if got := p.next(); !strings.HasPrefix(got, `{"event":"subscription_succeeded"`) {
				t.Fatalf("got %s", got)
			}
		}
		p.want(`{"event":"member_added","channel":"presence-two","data":{"id":"1","info":null}}`)
		x := s.dial("")
		x.join("presence-two", `{"user_id":"2"}`)
		x.want(trouble("subscription_error", "", "presence-two", 4100, "CapacityError", `presence channel "presence-two" has 2 members, which is its limit`, 429))
		x.join("presence-y", `{"user_id":"2","user_info":"0123456789012345678"}`)
		x.want(trouble("subscription_error", "", "presence-y", 4301, "PayloadTooLarge", `member id and info are 22 bytes, more than 20`, 413))
		for _, ch := range []string{"1", "2", "3"} {
			x.say(`{"event":"subscribe","channel":"` + ch + `"}`)
			x.want(`{"event":"subscription_succeeded","channel":"` + ch + `"}`)
		}
		x.say(`{"event":"subscribe","channel":"4"}`)
		x.want(trouble("subscription_error", "", "4", 4100, "CapacityError", `this connection listens to 3 channels, which is the limit; unsubscribe from one first`, 429))
		x.say(`{"event":"subscribe","channel":"3"}`)
		x.want(`{"event":"subscription_succeeded","channel":"3"}`)
		for _, m := range []struct{ ch, data, want string }{
			{"a", `"` + strings.Repeat("x", 49) + `"`, `server: the data is 51 bytes, more than the 50 allowed on channel "a"`},
			{"small", `12345678901`, `server: the data is 11 bytes, more than the 10 allowed on channel "small"`},
			{"private-sealed", `{"a":1}`, `server: channel "private-sealed" takes only end-to-end encrypted data, and this is not: send through the encrypted package`},
			{"private-encrypted-a", `{"a":1}`, `server: channel "private-encrypted-a" takes only end-to-end encrypted data, and this is not: send through the encrypted package`},
		} {
			e := event(m.ch, m.data)
			if err := s.Send(t.Context(), &e); err == nil || err.Error() != m.want {
				t.Errorf("Send to %s: %v", m.ch, err)
			}
		}
		s.send(event("private-encrypted-a", `{"nonce":"","ciphertext":""}`))
		r.private("private-sealed")
		r.say(`{"event":"client-x","channel":"private-sealed","data":1}`)
		r.want(trouble("error", "", "private-sealed", 4009, "AuthError", `channel "private-sealed" takes only end-to-end encrypted data, and this is not: send through the encrypted package`, 403))
	}},
	{"revoke and disconnect", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Auth: byQuery()})
		p, q := s.dial("?user=7"), s.dial("?user=8")
		for _, p := range []*peer{p, q} {
			p.say(`{"event":"subscribe","channel":"a"}`)
			p.want(`{"event":"subscription_succeeded","channel":"a"}`)
		}
		s.Revoke("", "7", "a", "moved <away>")
		p.want(`{"event":"unsubscribed","channel":"a","data":{"reason":"revoked","error":"moved <away>"}}`)
		s.Revoke("", "7", "a", "twice")
		s.RevokeSocket("", p.SocketID, "never", "x")
		s.send(event("a", `1`))
		q.want(`{"event":"E","channel":"a","data":1}`)
		p.quiet()
		s.RevokeSocket("", q.SocketID, "a", "you too")
		q.want(`{"event":"unsubscribed","channel":"a","data":{"reason":"revoked","error":"you too"}}`)
		s.Disconnect("", "7", "banned")
		p.want(trouble("error", "", "", 4009, "AuthError", "banned", 403))
		p.wantClose(4009, "banned")
		s.DisconnectSocket("", q.SocketID, "bye")
		q.want(trouble("error", "", "", 4009, "AuthError", "bye", 403))
		q.wantClose(4009, "bye")
	}},
	{"shutdown", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{})
		p := s.dial("")
		p.quiet()
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			done <- s.Shutdown(ctx)
		}()
		p.want(trouble("error", "", "", 4200, "ServerError", "the server is restarting: connect again", 503))
		p.wantClose(4200, "the server is restarting: connect again")
		if err := <-done; err != nil {
			t.Error(err)
		}
		m := event("a", `1`)
		if err := s.Send(t.Context(), &m); !errors.Is(err, realtime.ErrClosed) {
			t.Errorf("Send after Shutdown: %v", err)
		}
	}},
	{"bad frames", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Limits: Limits{MessageBytes: 4096}})
		other := s.dial("")
		for _, c := range []struct{ frame, why string }{
			{`[]`, `'[' at byte 0, where '{' should be`},
			{``, `the frame ends where '{' should be`},
			{`{"event":"ping"`, `the frame ends where ',' or '}' should be`},
			{`{"event":"ping"} x`, `'x' at byte 17, where the end should be`},
			{`{"event":nul}`, `'n' at byte 9, where a value should be`},
			{`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `nested deeper than 128 at byte 133`},
		} {
			other.say(c.frame)
			other.want(trouble("error", "", "", 4300, "ValidationError", "the frame is not a JSON object: "+c.why, 400))
		}
		other.Write(t.Context(), ws.OpBinary, []byte{1})
		other.want(trouble("error", "", "", 4300, "ValidationError", "binary frames mean nothing here: send JSON in text frames", 400))
		for name, c := range map[string]struct {
			raw  []byte
			code int
		}{
			"unmasked":          {[]byte{0x81, 1, 'x'}, 1002},
			"reserved bit":      {[]byte{0xc1, 0x81, 0, 0, 0, 0, 'x'}, 1002},
			"reserved opcode":   {[]byte{0x83, 0x80, 0, 0, 0, 0}, 1002},
			"fragmented ping":   {[]byte{0x09, 0x80, 0, 0, 0, 0}, 1002},
			"long ping":         {append([]byte{0x89, 0xfe, 0, 126, 0, 0, 0, 0}, make([]byte, 126)...), 1002},
			"lone continuation": {[]byte{0x80, 0x80, 0, 0, 0, 0}, 1002},
			"not UTF-8":         {[]byte{0x81, 0x81, 0, 0, 0, 0, 0xff}, 1007},
			"too long":          {append([]byte{0x81, 0xfe, 0x10, 1, 0, 0, 0, 0}, make([]byte, 4097)...), 1009},
			"claims 2^62":       {[]byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1009},
		} {
			p := s.dial("")
			if err := p.WriteRaw(c.raw); err != nil {
				t.Fatal(err)
			}
			_, _, err := p.ReadMessage(t.Context())
			if ce, ok := errors.AsType[*ws.CloseError](err); !ok || ce.Code != c.code || ce.Reason == "" {
				t.Errorf("%s: %v, and should be close %d with a reason", name, err, c.code)
			}
		}
		other.quiet()
	}},
	{"origins and limits at the door", func(t *testing.T, tr transport) {
		s := startOn(t, tr, Config{Apps: testApps, Origins: []string{"https://shop.example"}, Limits: Limits{Connections: 2}})
		try := func(query, origin string) (int, string) {
			t.Helper()
			h := http.Header{}
			if origin != "" {
				h.Set("Origin", origin)
			}
			c, err := wsclient.Dial(t.Context(), s.url(query), &wsclient.Options{TLS: s.tls, Header: h})
			if err == nil {
				c.Close(1000, "")
				return 101, ""
			}
			he, ok := errors.AsType[*wsclient.HandshakeError](err)
			if !ok {
				t.Fatal(err)
			}
			return he.Status, he.Body
		}
		if st, _ := try("", "https://shop.example"); st != 101 {
			t.Errorf("the allowed origin gets %d", st)
		}
		if st, body := try("", "https://evil.example"); st != 403 || body != `{"error":"origin \"https://evil.example\" is not allowed: add it to the server's origins","code":403}`+"\n" {
			t.Errorf("another origin gets %d %s", st, body)
		}
		if st, body := try("?app=nope", ""); st != 401 || body != `{"error":"there is no app with the key \"nope\"","code":401}`+"\n" {
			t.Errorf("an unknown app gets %d %s", st, body)
		}
		for {
			s.gate.mu.Lock()
			n := s.gate.total
			s.gate.mu.Unlock()
			if n == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		s.dial("")
		s.dial("")
		if st, body := try("", ""); st != 503 || body != `{"error":"the server has 2 connections, which is its limit","code":503}`+"\n" {
			t.Errorf("one too many gets %d %s", st, body)
		}
	}},
	{"slow authorizer", func(t *testing.T, tr transport) {
		open := make(chan struct{})
		var asked atomic.Int32
		a := byQuery()
		a.Channel("slow.{id}", func(ctx context.Context, _ *auth.User, _ auth.Params) (auth.Grant, error) {
			asked.Add(1)
			<-open
			return auth.Grant{}, nil
		})
		s := startOn(t, tr, Config{Auth: a})
		p, q := s.dial(""), s.dial("")
		p.say(`{"event":"subscribe","channel":"private-slow.1","id":1}`)
		p.say(`{"event":"client-x","channel":"private-slow.1","id":2}`) // waits behind it
		p.say(`{"event":"subscribe","channel":"b"}`)
		p.want(`{"event":"subscription_succeeded","channel":"b"}`)
		p.quiet()
		q.say(`{"event":"subscribe","channel":"private-slow.2"}`)
		q.say(`{"event":"unsubscribe","channel":"private-slow.2","id":3}`)
		q.quiet()
		s.send(event("b", `1`))
		p.want(`{"event":"E","channel":"b","data":1}`)
		close(open)
		p.want(`{"event":"subscription_succeeded","id":1,"channel":"private-slow.1"}`, `{"event":"ack","id":2}`)
		q.want(trouble("subscription_error", "", "private-slow.2", 4301, "ValidationError", `unsubscribed from "private-slow.2" before the grant came`, 409), `{"event":"unsubscribed","id":3,"channel":"private-slow.2"}`)
		if n := asked.Load(); n != 2 {
			t.Errorf("the authorizer was asked %d times", n)
		}
	}},
}

func TestAPolicyCannotOpenEncryptedChannels(t *testing.T) {
	s := start(t, Config{Channels: []Channel{{Pattern: "*"}}})
	err := s.Send(context.Background(), &realtime.Message{Channels: []string{"private-encrypted-a"}, Event: "e", Data: json.RawMessage(`{"a":1}`)})
	want := `server: channel "private-encrypted-a" takes only end-to-end encrypted data, and this is not: send through the encrypted package`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, not %s", err, want)
	}
}
