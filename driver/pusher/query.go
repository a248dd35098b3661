package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stacksjs/realtime-go/internal/channelname"
)

// Info is something that the server can tell of a channel.
type Info string

// What there is to be told.
const (
	UserCount         Info = "user_count"         // distinct users of a presence channel
	SubscriptionCount Info = "subscription_count" // connections; hosted Pusher tells it where the app has it switched on
	Cache             Info = "cache"              // the last event of a cache channel; only Channel asks for it
)

func join(info []Info) string {
	names := make([]string, len(info))
	for i, in := range info {
		names[i] = string(in)
	}
	return strings.Join(names, ",")
}

// ChannelInfo is what the server told of a channel. Nil is what it did not tell, for it was not asked or there is none.
type ChannelInfo struct {
	Occupied          bool    `json:"occupied"` // somebody listens; told by Channels and Channel only
	UserCount         *int    `json:"user_count"`
	SubscriptionCount *int    `json:"subscription_count"`
	Cache             *Cached `json:"cache"`
}

// Cached is the last event of a cache channel.
type Cached struct {
	Data string        // as it was published
	TTL  time.Duration // for how long it is kept still
}

// UnmarshalJSON reads the server's form, in seconds.
func (c *Cached) UnmarshalJSON(b []byte) error {
	var wire struct {
		Data string
		TTL  float64
	}
	err := json.Unmarshal(b, &wire)
	*c = Cached{wire.Data, time.Duration(wire.TTL * float64(time.Second))}
	return err
}

// channelInfos is a JSON object; servers in PHP write it as [] when it is empty.
type channelInfos map[string]ChannelInfo

func (c *channelInfos) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.Join(bytes.Fields(b), nil), []byte("[]")) {
		*c = channelInfos{}
		return nil
	}
	return json.Unmarshal(b, (*map[string]ChannelInfo)(c))
}

// id is a user's id, which some servers write as a number.
type id string

func (i *id) UnmarshalJSON(b []byte) error {
	var n json.Number // quoted or not
	if err := json.Unmarshal(b, &n); err == nil {
		*i = id(n)
		return nil
	}
	return json.Unmarshal(b, (*string)(i))
}

// Channels lists the channels that somebody listens to and whose names begin with prefix; those of users are not among
// them. UserCount can be asked for with a prefix that begins with "presence-" only.
func (d *Driver) Channels(ctx context.Context, prefix string, info ...Info) (map[string]ChannelInfo, error) {
	c := call{method: http.MethodGet, path: "/channels", raw: "/channels", params: map[string]string{}, harmless: true}
	if prefix != "" {
		c.params["filter_by_prefix"] = prefix
	}
	if len(info) > 0 {
		c.params["info"] = join(info)
	}
	var answer struct{ Channels channelInfos }
	if err := d.do(ctx, &c, &answer); err != nil {
		return nil, err
	}
	out := make(map[string]ChannelInfo, len(answer.Channels))
	for name, in := range answer.Channels {
		in.Occupied = true
		out[name] = in
	}
	return out, nil
}

// Channel asks about one channel by its wire name. One that nobody listens to is no error: it is not Occupied.
func (d *Driver) Channel(ctx context.Context, name string, info ...Info) (ChannelInfo, error) {
	if kind, _ := channelname.Split(name); kind == channelname.User {
		return ChannelInfo{}, fmt.Errorf("pusher: channel %q is a user's, and servers tell nothing of it", name)
	}
	if err := channelname.Validate(name); err != nil {
		return ChannelInfo{}, fmt.Errorf("pusher: %w", err)
	}
	path := "/channels/" + name // no character of a channel's name needs to be escaped
	c := call{method: http.MethodGet, path: path, raw: path, params: map[string]string{}, harmless: true}
	if len(info) > 0 {
		c.params["info"] = join(info)
	}
	var answer ChannelInfo
	err := d.do(ctx, &c, &answer)
	return answer, err
}

// Users lists the ids of a presence channel's members. channel is its wire name.
func (d *Driver) Users(ctx context.Context, channel string) ([]string, error) {
	if err := channelname.Validate(channel); err != nil {
		return nil, fmt.Errorf("pusher: %w", err)
	}
	if kind, _ := channelname.Split(channel); kind != channelname.Presence {
		return nil, fmt.Errorf("pusher: channel %q is %s, and only presence channels have users", channel, kind)
	}
	path := "/channels/" + channel + "/users"
	c := call{method: http.MethodGet, path: path, raw: path, harmless: true}
	var answer struct{ Users []struct{ ID id } }
	if err := d.do(ctx, &c, &answer); err != nil {
		return nil, err
	}
	ids := make([]string, len(answer.Users))
	for i, u := range answer.Users {
		ids[i] = string(u.ID)
	}
	return ids, nil
}

// TerminateConnections closes all connections of a signed-in user; client libraries then do not come back by
// themselves. A user without connections is no error.
func (d *Driver) TerminateConnections(ctx context.Context, userID string) error {
	if userID == "" {
		return errors.New("pusher: TerminateConnections: the user id is empty")
	}
	c := call{
		method: http.MethodPost, path: "/users/" + userID + "/terminate_connections", raw: "/users/" + url.PathEscape(userID) + "/terminate_connections",
		body: []byte("{}"), harmless: true,
	}
	return d.do(ctx, &c, nil)
}
