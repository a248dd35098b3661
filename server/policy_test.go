package server

import (
	"encoding/json"
	"testing"

	realtime "github.com/stacksjs/realtime-go"
)

func TestAPolicyThatDoesNotSpeakOfCachingLeavesCacheChannelsTheirs(t *testing.T) {
	s := start(t, Config{Channels: []Channel{{Pattern: "*", Slow: DropOldest}}})
	for _, c := range []string{"cache-a", "b"} {
		s.send(realtime.Message{Channels: []string{c}, Event: "E", Data: json.RawMessage(`1`)})
	}
	p := s.dial("")
	p.say(`{"event":"subscribe","channel":"cache-a"}`)
	p.want(`{"event":"subscription_succeeded","channel":"cache-a"}`, `{"event":"E","channel":"cache-a","data":1,"replayed":true}`)
	p.say(`{"event":"subscribe","channel":"b"}`)
	p.want(`{"event":"subscription_succeeded","channel":"b"}`)
	p.quiet()
}
