package socketio

import (
	"testing"

	"github.com/stacksjs/realtime-go/internal/hub"
)

func TestEveryReasonHasACodeOfThisProtocol(t *testing.T) {
	if len(reasons) != len(hub.Codes()) {
		t.Errorf("%d reasons for %d codes", len(reasons), len(hub.Codes()))
	}
	for _, c := range hub.Codes() {
		r, ok := reasons[c]
		if !ok {
			t.Errorf("hub code %d has no reason here", c)
			continue
		}
		if r.code < 4000 || r.code > 4999 || r.status < 400 || r.status > 599 || r.word == "" {
			t.Errorf("hub code %d is close code %d, status %d, %q", c, r.code, r.status, r.word)
		}
	}
}
