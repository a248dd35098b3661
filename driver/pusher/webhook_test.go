package pusher

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// hooked is an app with the key "k" and the secret "s".
var hooked = auth.AppKeys{ID: "3", Keys: []auth.Key{{Key: "k", Secret: "s"}}}

func webhook(body, key, signature string) *http.Request {
	r := httptest.NewRequest("POST", "/pusher/webhook", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Pusher-Key", key)
	r.Header.Set("X-Pusher-Signature", signature)
	return r
}

func TestTheDocumentedWebhookIsRead(t *testing.T) {
	r := webhook(`{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}`, testKey, "c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf")
	got, err := ParseWebhook(r, auth.AppKeys{ID: "3", Keys: []auth.Key{{Key: "new", Secret: "s"}, {Key: testKey, Secret: testSecret}}})
	want := Webhook{Key: testKey, Time: time.UnixMilli(1327078148132), Events: []WebhookEvent{{Name: ChannelOccupied, Channel: "my-channel"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v (%v), and should read %+v", got, err, want)
	}
}

func TestEveryEventOfAWebhookIsRead(t *testing.T) {
	body := `{"time_ms":1,"events":[
		{"name":"channel_vacated","channel":"c"},
		{"name":"member_added","channel":"presence-c","user_id":"ada"},
		{"name":"member_removed","channel":"presence-c","user_id":7},
		{"name":"client_event","channel":"presence-c","event":"client-typing","data":"{\"a\":\"\\u00fc\"}","socket_id":"1.2","user_id":"ada"},
		{"name":"client_event","channel":"private-c","event":"client-x","data":{"a": 1},"socket_id":"1.2"},
		{"name":"client_event","channel":"private-c","event":"client-x","data":null},
		{"name":"cache_miss","channel":"cache-c"},
		{"name":"subscription_count","channel":"c","subscription_count":42},
		{"name":"something_new","channel":"c","more":[1]}]}`
	got, err := ParseWebhook(webhook(body, "k", auth.SignWebhook("s", []byte(body))), hooked)
	want := []WebhookEvent{
		{Name: ChannelVacated, Channel: "c"},
		{Name: MemberAdded, Channel: "presence-c", UserID: "ada"},
		{Name: MemberRemoved, Channel: "presence-c", UserID: "7"},
		{Name: ClientEvent, Channel: "presence-c", Event: "client-typing", Data: `{"a":"\u00fc"}`, SocketID: "1.2", UserID: "ada"},
		{Name: ClientEvent, Channel: "private-c", Event: "client-x", Data: `{"a": 1}`, SocketID: "1.2"},
		{Name: ClientEvent, Channel: "private-c", Event: "client-x"},
		{Name: CacheMiss, Channel: "cache-c"},
		{Name: Subscriptions, Channel: "c", SubscriptionCount: 42},
		{Name: "something_new", Channel: "c"},
	}
	if err != nil || !reflect.DeepEqual(got.Events, want) {
		t.Errorf("read\n%+v (%v), and should read\n%+v", got.Events, err, want)
	}
}

func TestWebhooksThatAreNotTaken(t *testing.T) {
	sign := func(body string) *http.Request { return webhook(body, "k", auth.SignWebhook("s", []byte(body))) }
	long := `{"events":[]}` + strings.Repeat(" ", MaxWebhook)
	for _, tt := range []struct {
		r       *http.Request
		want    string
		refusal bool
	}{
		{webhook(`{}`, "k", "00"), "pusher: webhook: X-Pusher-Signature is not the HMAC-SHA256, in lower-case hex, of the 2 bytes of the body with the secret of key \"k\"", true},
		{webhook(`{}`, "k", strings.ToUpper(auth.SignWebhook("s", []byte(`{}`)))), "X-Pusher-Signature is not", true},
		{webhook(`{}`, "other", auth.SignWebhook("s", []byte(`{}`))), `pusher: webhook: X-Pusher-Key is "other", which is not a key of app "3"`, true},
		{webhook(`{}`, "", ""), `X-Pusher-Key is "", which is not`, true},
		{sign(long), "pusher: the webhook is longer than 1048576 bytes", false},
		{sign(``), "pusher: the webhook is genuine, but cannot be understood: unexpected end of JSON input", false},
		{sign(`{"events":5}`), "pusher: the webhook is genuine, but cannot be understood: ", false},
	} {
		_, err := ParseWebhook(tt.r, hooked)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("the error is\n%v\nand should have\n%s", err, tt.want)
		}
		if _, ok := errors.AsType[*auth.Refusal](err); ok != tt.refusal {
			t.Errorf("%v is a refusal: %t", err, ok)
		}
	}
	if _, err := ParseWebhook(sign(`{}`), auth.AppKeys{}); err == nil {
		t.Error("without keys, a webhook is taken")
	}
}

// FuzzParseWebhook: what is not signed is refused, and what is signed is read or refused, whatever it is.
func FuzzParseWebhook(f *testing.F) {
	for _, body := range []string{
		`{"time_ms":1,"events":[{"name":"client_event","channel":"a","event":"client-x","data":"{}","socket_id":"1.2","user_id":"u"}]}`,
		`{"events":[{"user_id":1.5e3,"data":[{}],"subscription_count":1}]}`, `[]`, `{"events":null}`, "{\"events\":[{\"data\":\"\xff\"}]}", `{"time_ms":9223372036854775807}`,
	} {
		f.Add(body, "0")
	}
	f.Fuzz(func(t *testing.T, body, signature string) {
		genuine := auth.SignWebhook("s", []byte(body))
		if _, err := ParseWebhook(webhook(body, "k", signature), hooked); signature != genuine && err == nil {
			t.Errorf("%q is taken with the signature %q", body, signature)
		}
		w, err := ParseWebhook(webhook(body, "k", genuine), hooked)
		if _, refused := errors.AsType[*auth.Refusal](err); refused {
			t.Errorf("%q is refused: %v", body, err)
		}
		if err != nil && !reflect.DeepEqual(w, Webhook{}) {
			t.Errorf("%q is an error and %+v", body, w)
		}
		_ = fmt.Sprint(w)
	})
}
