package pusher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

// MaxWebhook is the longest webhook that ParseWebhook reads, in bytes.
const MaxWebhook = 1 << 20

// The names of webhooks' events.
const (
	ChannelOccupied = "channel_occupied"   // the first one listens
	ChannelVacated  = "channel_vacated"    // nobody does any more
	MemberAdded     = "member_added"       // UserID came to a presence channel
	MemberRemoved   = "member_removed"     // UserID has left it, with all connections
	ClientEvent     = "client_event"       // a client sent Event with Data
	CacheMiss       = "cache_miss"         // a cache channel was empty when somebody came
	Subscriptions   = "subscription_count" // SubscriptionCount listen
)

// Webhook is what a server tells an application's backend: one or more things that happened.
type Webhook struct {
	// Key is the key that signed it.
	Key string
	// Time is when it happened. The same webhook may come again, when the server did not see the answer.
	Time   time.Time
	Events []WebhookEvent
}

// WebhookEvent is something that happened. Which fields there are depends on the Name.
type WebhookEvent struct {
	// Name is one of those above, or one that a server has in addition.
	Name    string
	Channel string
	// UserID is the member's, and of a ClientEvent on a presence channel the sender's.
	UserID string
	// Event, Data and SocketID are a ClientEvent's name, its data as text, and the connection it came from.
	Event, Data, SocketID string
	SubscriptionCount     int
}

// ParseWebhook reads a webhook and checks that one of the app's keys signed it. It consumes r's body.
//
// The error of a webhook that is not genuine is an *auth.Refusal, to be answered with 401; any other is a request that
// cannot be read, 400. Servers send again what is not answered with 2xx.
func ParseWebhook(r *http.Request, app auth.AppKeys) (Webhook, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxWebhook))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return Webhook{}, fmt.Errorf("pusher: the webhook is longer than %d bytes", MaxWebhook)
		}
		return Webhook{}, fmt.Errorf("pusher: the webhook cannot be read: %w", err)
	}
	if err := auth.VerifyWebhook(r.Header, body, app); err != nil {
		return Webhook{}, fmt.Errorf("pusher: webhook: %w", err)
	}
	var wire struct {
		TimeMS int64 `json:"time_ms"`
		Events []struct {
			Name              string          `json:"name"`
			Channel           string          `json:"channel"`
			UserID            id              `json:"user_id"`
			Event             string          `json:"event"`
			Data              json.RawMessage `json:"data"`
			SocketID          string          `json:"socket_id"`
			SubscriptionCount int             `json:"subscription_count"`
		} `json:"events"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return Webhook{}, fmt.Errorf("pusher: the webhook is genuine, but cannot be understood: %w", err)
	}
	w := Webhook{Key: r.Header.Get("X-Pusher-Key"), Time: time.UnixMilli(wire.TimeMS), Events: make([]WebhookEvent, len(wire.Events))}
	for i, e := range wire.Events {
		data := string(e.Data)
		if len(e.Data) > 0 && (e.Data[0] == '"' || data == "null") {
			data = ""
			_ = json.Unmarshal(e.Data, &data) // it is a valid string, or stays empty
		}
		w.Events[i] = WebhookEvent{
			Name: e.Name, Channel: e.Channel, UserID: string(e.UserID), Event: e.Event, Data: data, SocketID: e.SocketID, SubscriptionCount: e.SubscriptionCount,
		}
	}
	return w, nil
}
