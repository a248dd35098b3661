package bun

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/stacksjs/realtime-go/internal/hub"
	"github.com/stacksjs/realtime-go/internal/ws"
)

// known are the fields of a command by their names on the wire.
func (c *command) known() map[string]field {
	m := map[string]field{}
	for _, k := range []string{
		"event", "type", "channel", "channels", "data", "name", "auth", "channel_data", "channelData", "id", "messageId",
		"ack", "since", "epoch", "rewind", "token", "except", "mid",
	} {
		m[k] = *c.slot(k)
	}
	return m
}

// FuzzDecode compares the scanner with encoding/json: what is an object, what its fields are, and which text a string
// holds. Deep nesting is the one thing on which they may differ.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"event":"subscribe","channel":"a","id":1}`, `{"event":"a","event":"b"}`, `{"ev\u0065nt":"a"}`,
		`{"data":{"a":[1,-0.5e+3,true,false,null,"x",{}]},"ack":true}`, `{"type":null}`, `{"data":"\ud83d\ude00\ud800\u0041\udc00"}`,
		`{"data":"\"\\\/\b\f\n\r\t"}`, `{"data":01}`, `{"data":1.}`, `{"data":-}`, `{"data":1e}`, `{"data":tru}`, `{"data":"` + "\x01" + `"}`,
		`{"data":"` + "\x80" + `"}`, `{"data":"\u12g4"}`, `{"data":[1,]}`, `{"a":1,}`, `{"a" 1}`, `{"a":1}x`, `[]`, `"x"`, `null`, ``, `{`, `{"`, `{"a`, `{"a"`,
		`{"a":`, `{"\`, `{"data":"\u`, `{"data":"\ud800\u"}`, `{"data":"\ud800\`, strings.Repeat(`{"data":`, 127) + "1" + strings.Repeat("}", 127),
		`{"data":` + strings.Repeat("[", 129) + strings.Repeat("]", 129) + `}`, `{"":0}`, "{\"data\":\"\u2028\x7f\"}", `{"channels":["a","b"],"except":[]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := decode(s)
		if err != nil && strings.HasPrefix(err.Error(), "nested deeper") {
			return
		}
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal([]byte(s), &want)
		if wantErr == nil && want == nil {
			wantErr = errors.New("null is not an object")
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("decode(%q): %v; encoding/json: %v", s, err, wantErr)
		}
		if err != nil {
			return
		}
		for k, got := range c.known() {
			if string(got) != string(want[k]) {
				t.Fatalf("decode(%q): %s is %q, and encoding/json has %q", s, k, got, want[k])
			}
			var text string
			isText := len(got) > 0 && got[0] == '"'
			if isText {
				if err := json.Unmarshal([]byte(got), &text); err != nil {
					t.Fatal(err)
				}
			}
			g, ok := got.Text()
			if ok != isText {
				t.Fatalf("text of %q: ok is %v", got, ok)
			}
			// Frames in other encodings than UTF-8 never get here; encoding/json would replace what is none.
			if ok && utf8.ValidString(string(got)) && g != text {
				t.Fatalf("text of %q is %q, and encoding/json has %q", got, g, text)
			}
			if len(got) > 0 && got[0] == '[' {
				var list []any
				if err := json.Unmarshal([]byte(got), &list); err != nil {
					t.Fatal(err)
				}
				strs := true
				for _, x := range list {
					_, is := x.(string)
					strs = strs && is
				}
				l, err := got.List(len(list))
				if (err == nil) != strs || strs && len(l) != len(list) {
					t.Fatalf("list of %q: %q, %v", got, l, err)
				}
			}
		}
	})
}

func TestEveryReasonHasItsWords(t *testing.T) {
	if len(reasons) != len(hub.Codes()) {
		t.Errorf("%d reasons for %d codes", len(reasons), len(hub.Codes()))
	}
	for _, c := range hub.Codes() {
		r, ok := reasons[c]
		if !ok {
			t.Errorf("hub code %d has no reason", c)
			continue
		}
		if r.code < 4000 || r.code > 4399 || r.kind == "" || r.word == "" || r.status < 400 || r.status > 599 {
			t.Errorf("the reason for hub code %d is incomplete: %+v", c, r)
		}
		// A Pusher client that is closed with 43xx never comes back.
		if r.close != 1008 && (r.close < 4000 || r.close > 4299) {
			t.Errorf("hub code %d closes with %d", c, r.close)
		}
		if _, _, err := ws.ParseClose(ws.AppendClose(nil, r.close, "")[2:]); err != nil {
			t.Errorf("hub code %d closes with %d: %v", c, r.close, err)
		}
	}
}

// What is kept of a frame does not keep the frame, unless it is most of it.
func TestALittleDataDoesNotKeepALongFrame(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, tc := range []struct {
		frame  string
		shared bool
	}{
		{`{"name":"E","data":{"a":1}}`, true},
		{`{"name":"E","data":"` + long + `"}`, true},
		{`{"name":"E","data":{"a":1},"padding":"` + long + `"}`, false},
	} {
		c, err := decode(tc.frame)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := c.name.Text()
		for _, kept := range []string{c.payload(), c.own(name)} {
			at := uintptr(unsafe.Pointer(unsafe.StringData(kept))) - uintptr(unsafe.Pointer(unsafe.StringData(tc.frame)))
			if shared := at < uintptr(len(tc.frame)); shared != tc.shared {
				t.Errorf("%.40s: %.40s is a piece of the frame: %v, and should be: %v", tc.frame, kept, shared, tc.shared)
			}
		}
	}
}
