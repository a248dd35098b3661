package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pusher "github.com/pusher/pusher-http-go/v5"

	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// listener is a connection that speaks the Pusher protocol by hand.
type listener struct {
	*wsclient.Conn
	t        *testing.T
	SocketID string
}

type frame struct {
	Event, Channel, Data string
}

func listen(t *testing.T, port string) *listener {
	t.Helper()
	c, err := wsclient.Dial(t.Context(), fmt.Sprintf("ws://127.0.0.1:%s/app/app-key?protocol=7", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(1000, "") })
	l := &listener{Conn: c, t: t}
	var hello struct {
		SocketID string `json:"socket_id"`
	}
	if err := json.Unmarshal([]byte(l.next().Data), &hello); err != nil {
		t.Fatal(err)
	}
	l.SocketID = hello.SocketID
	return l
}

func (l *listener) next() (f frame) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	_, b, err := l.ReadMessage(ctx)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		l.t.Fatalf("%s: %v", b, err)
	}
	return f
}

func (l *listener) say(event string, data any) {
	l.t.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err == nil {
		err = l.Write(l.t.Context(), ws.OpText, b)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *listener) want(event, channel, data string) {
	l.t.Helper()
	if got, want := l.next(), (frame{event, channel, data}); got != want {
		l.t.Fatalf("frame is %+v and should be %+v", got, want)
	}
}

// TestGoSDK is pusher-http-go as its users call it.
func TestGoSDK(t *testing.T) {
	port := serve(t, relay(t))
	sdk := pusher.Client{
		AppID: "1001", Key: "app-key", Secret: "app-secret", Host: "127.0.0.1:" + port,
		EncryptionMasterKeyBase64: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l := listen(t, port)
	member := `{"user_id":"10","user_info":{"name":"Ann"}}`
	for channel, data := range map[string]string{"orders": "", "private-a": "", "presence-room": member, "private-encrypted-b": ""} {
		sub := map[string]string{"channel": channel}
		if channel != "orders" {
			params := fmt.Sprintf("socket_id=%s&channel_name=%s", l.SocketID, channel)
			signed, err := sdk.AuthorizePrivateChannel([]byte(params))
			if data != "" {
				signed, err = sdk.AuthorizePresenceChannel([]byte(params), pusher.MemberData{UserID: "10", UserInfo: map[string]string{"name": "Ann"}})
			}
			must(err)
			var answer struct {
				Auth        string `json:"auth"`
				ChannelData string `json:"channel_data"`
			}
			must(json.Unmarshal(signed, &answer))
			sub["auth"] = answer.Auth
			if answer.ChannelData != "" {
				sub["channel_data"] = answer.ChannelData
			}
		}
		l.say("pusher:subscribe", sub)
		if f := l.next(); f.Event != "pusher_internal:subscription_succeeded" || f.Channel != channel {
			t.Fatalf("%s: %+v", channel, f)
		}
	}

	must(sdk.Trigger("orders", "e", map[string]int{"n": 1}))
	l.want("e", "orders", `{"n":1}`)
	must(sdk.Trigger("orders", "e", "just text"))
	l.want("e", "orders", `just text`)
	must(sdk.TriggerMulti([]string{"orders", "private-a"}, "e", []byte(`[2]`)))
	l.want("e", "orders", `[2]`)
	l.want("e", "private-a", `[2]`)
	must(sdk.Trigger("private-encrypted-b", "e", "secret"))
	if f := l.next(); f.Event != "e" || f.Data == "secret" || !json.Valid([]byte(f.Data)) {
		t.Errorf("encrypted: %+v", f)
	}
	counts := "user_count,subscription_count"
	one, ten := 1, 1
	r, err := sdk.TriggerWithParams("presence-room", "e", 3, pusher.TriggerParams{Info: &counts})
	must(err)
	if diff := cmp.Diff(r, &pusher.TriggerChannelsList{Channels: map[string]pusher.TriggerChannelListItem{"presence-room": {UserCount: &one, SubscriptionCount: &ten}}}); diff != "" {
		t.Error(diff)
	}
	l.want("e", "presence-room", `3`)
	must(sdk.Trigger("orders", "after", 0))
	l.want("after", "orders", `0`)
	_, err = sdk.TriggerWithParams("orders", "not for the sender", 4, pusher.TriggerParams{SocketID: &l.SocketID})
	must(err)
	batch, err := sdk.TriggerBatch([]pusher.Event{{Channel: "orders", Name: "b1", Data: 1}, {Channel: "private-a", Name: "b2", Data: "x", Info: &counts}})
	must(err)
	if len(batch.Batch) != 2 || batch.Batch[1].SubscriptionCount == nil || *batch.Batch[1].SubscriptionCount != 1 {
		t.Errorf("batch: %+v", batch)
	}
	l.want("b1", "orders", `1`)
	l.want("b2", "private-a", `x`)

	prefix, info := "presence-", "user_count"
	list, err := sdk.Channels(pusher.ChannelsParams{FilterByPrefix: &prefix, Info: &info})
	must(err)
	if diff := cmp.Diff(list, &pusher.ChannelsList{Channels: map[string]pusher.ChannelListItem{"presence-room": {UserCount: 1}}}); diff != "" {
		t.Error(diff)
	}
	ch, err := sdk.Channel("presence-room", pusher.ChannelParams{Info: &counts})
	must(err)
	if diff := cmp.Diff(ch, &pusher.Channel{Name: "presence-room", Occupied: true, UserCount: 1, SubscriptionCount: 1}); diff != "" {
		t.Error(diff)
	}
	users, err := sdk.GetChannelUsers("presence-room")
	must(err)
	if diff := cmp.Diff(users, &pusher.Users{List: []pusher.User{{ID: "10"}}}); diff != "" {
		t.Error(diff)
	}

	signed, err := sdk.AuthenticateUser([]byte("socket_id="+l.SocketID), map[string]any{"id": "10"})
	must(err)
	var signIn map[string]string
	must(json.Unmarshal(signed, &signIn))
	l.say("pusher:signin", signIn)
	if f := l.next(); f.Event != "pusher:signin_success" {
		t.Fatalf("sign-in: %+v", f)
	}
	l.say("pusher:subscribe", map[string]string{"channel": "#server-to-user-10"})
	l.want("pusher_internal:subscription_succeeded", "#server-to-user-10", `{}`)
	must(sdk.SendToUser("10", "note", "hi"))
	l.want("note", "#server-to-user-10", `hi`)

	if err := (&pusher.Client{AppID: "1001", Key: "app-key", Secret: "wrong", Host: sdk.Host}).Trigger("a", "e", 1); err == nil {
		t.Error("a wrong secret is accepted")
	}
}
