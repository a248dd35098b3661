package pusher

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/ws"
)

func TestEveryReasonHasItsCode(t *testing.T) {
	if len(reasons) != len(hub.Codes()) {
		t.Errorf("%d reasons for %d codes", len(reasons), len(hub.Codes()))
	}
	for _, c := range hub.Codes() {
		r, ok := reasons[c]
		if !ok {
			t.Errorf("hub code %d has no reason", c)
			continue
		}
		if r.code < 4000 || r.code > 4399 || r.kind == "" || r.status < 400 {
			t.Errorf("the reason for hub code %d is incomplete: %+v", c, r)
		}
		// A client that is closed with 43xx never comes back.
		if r.close < 4000 || r.close > 4299 {
			t.Errorf("hub code %d closes with %d", c, r.close)
		}
		if _, _, err := ws.ParseClose(ws.AppendClose(nil, r.close, "")[2:]); err != nil {
			t.Errorf("hub code %d closes with %d: %v", c, r.close, err)
		}
	}
}

// FuzzDecode compares what is read of a frame with encoding/json.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"event":"pusher:subscribe","data":{"channel":"a","auth":"k:s","channel_data":"{\"user_id\":1}"}}`,
		`{"event":"pusher:subscribe","data":"{\"channel\":\"a\"}"}`, `{"event":"client-x","channel":"private-a","data":"text"}`,
		`{"event":"pusher:signin","data":{"auth":"a","user_data":"{\"id\":\"1\"}"}}`, `{"event":1}`, `{}`, `[]`, ``, `{"event":"x","data":null}`,
		`{"event":"x","data":"\"quoted\""}`, `{"data":{"data":{}}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := decode(s)
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal([]byte(s), &want)
		if wantErr == nil && want == nil {
			wantErr = errors.New("null is not an object")
		}
		if err != nil {
			if wantErr == nil && !json.Valid([]byte(s)) {
				t.Fatalf("decode(%q): %v", s, err)
			}
			return
		}
		if wantErr != nil {
			t.Fatalf("decode(%q) finds nothing wrong, and encoding/json: %v", s, wantErr)
		}
		if string(c.event) != string(want["event"]) || string(c.channel) != string(want["channel"]) || string(c.data) != string(want["data"]) {
			t.Fatalf("decode(%q): %+v", s, c)
		}
		data, isText := publishedData(c.data)
		if !json.Valid([]byte(data)) {
			t.Fatalf("the data of %q becomes %q, which is not JSON", s, data)
		}
		if isText && data[0] != '"' {
			t.Fatalf("the data of %q becomes %q, which is no string", s, data)
		}
		if err := c.fields(); err == nil && !json.Valid([]byte(c.data.JSON())) {
			t.Fatalf("the fields of %q were read though its data is not JSON", s)
		}
	})
}
