package socketio

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// item is one packet or blob; frames writes them as a session keeps them.
type item struct {
	blob bool
	data string
}

func (it item) String() string {
	if it.blob {
		return fmt.Sprintf("blob %.60q", it.data)
	}
	return fmt.Sprintf("%.60q", it.data)
}

func text(s string) item { return item{false, s} }
func blob(s string) item { return item{true, s} }

func frames(items ...item) (b []byte) {
	for _, it := range items {
		op := ws.OpText
		if it.blob {
			op = ws.OpBinary
		}
		b = ws.AppendFrame(b, op, []byte(it.data))
	}
	return b
}

// collector is for the split functions: what they give out, which stays what it is.
func collector(items *[]item) func(bool, []byte) error {
	return func(b bool, data []byte) error {
		*items = append(*items, item{b, string(data)})
		return nil
	}
}

func TestPayload(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for _, tc := range []struct {
		items []item
		want  string
	}{
		{[]item{text("2")}, "2"},
		{[]item{text("4hello"), blob("\x01\x02\x03\x04")}, "4hello\x1ebAQIDBA=="},
		{[]item{blob("")}, "b"},
		{[]item{text(`0{"sid":"a"}`), text("40"), text("6")}, "0{\"sid\":\"a\"}\x1e40\x1e6"},
		{[]item{text("4" + long[:125]), text("4" + long[:200]), text("4" + long)}, "4" + long[:125] + "\x1e4" + long[:200] + "\x1e4" + long},
		{[]item{blob("\xfb\xff")}, "b+/8="},
	} {
		b, err := appendPayload([]byte("before"), frames(tc.items...))
		if err != nil || string(b) != "before"+tc.want {
			t.Errorf("%v: %.100q, %v", tc.items, b, err)
		}
		var got []item
		if err := splitPayload(tc.want, collector(&got)); err != nil || !slices.Equal(got, tc.items) {
			t.Errorf("%.100q: %v, %v", tc.want, got, err)
		}
	}
}

func TestWhatIsWrongWithAPayload(t *testing.T) {
	for body, want := range map[string]string{
		"":              "an empty packet",
		"4a\x1e":        "an empty packet",
		"\x1e4a":        "an empty packet",
		"4\xff":         "the body is not valid UTF-8",
		"bA":            "a blob is not base64: illegal base64 data at input byte 0",
		"bAQIDBA":       "a blob is not base64: illegal base64 data at input byte 4",
		"b-_8=":         "a blob is not base64: illegal base64 data at input byte 0",
		"4a\x1eb\x1e4b": "",
	} {
		if err := splitPayload(body, func(bool, []byte) error { return nil }); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, not %q", body, err, want)
		}
	}
	// What each complains about ends it.
	stop, n := errors.New("stop"), 0
	each := func(bool, []byte) error { n++; return stop }
	if err := splitPayload("4a\x1ebAA==\x1e4b", each); err != stop || n != 1 {
		t.Errorf("%v after %d packets", err, n)
	}
	if err := splitPayload("bAA==\x1e4b", each); err != stop || n != 2 {
		t.Errorf("%v after %d packets", err, n)
	}
	if err := splitPayload3([]byte("2:4a2:4b"), false, each); err != stop || n != 3 {
		t.Errorf("%v after %d packets", err, n)
	}
}

func TestPayload3(t *testing.T) {
	for _, tc := range []struct {
		items  []item
		base64 bool
		want   string
		binary bool
	}{
		{[]item{text("2probe")}, false, "6:2probe", false},
		{[]item{text("40"), text(`42["é","😀"]`)}, false, `2:4012:42["é","😀"]`, false},
		{[]item{text("4hello"), blob("\x04\x01\x02\x03\x04")}, true, "6:4hello10:b4AQIDBA==", false},
		{[]item{text("40")}, true, "2:40", false},
		{[]item{text("4é"), blob("\x04\x01\x02\x03\x04")}, false, "\x00\x03\xff4é\x01\x05\xff\x04\x01\x02\x03\x04", true},
		{[]item{text("4" + strings.Repeat("x", 119)), blob("\x04")}, false, "\x00\x01\x02\x00\xff4" + strings.Repeat("x", 119) + "\x01\x01\xff\x04", true},
		{[]item{blob("\x04")}, true, "2:b4", false},
	} {
		b, binary, err := appendPayload3([]byte("before"), frames(tc.items...), tc.base64)
		if err != nil || string(b) != "before"+tc.want || binary != tc.binary {
			t.Errorf("%v: %q, binary %v, %v; not %q, %v", tc.items, b, binary, err, tc.want, tc.binary)
		}
		var got []item
		if err := splitPayload3([]byte(tc.want), tc.binary, collector(&got)); err != nil || !slices.Equal(got, tc.items) {
			t.Errorf("%q: %v, %v", tc.want, got, err)
		}
	}
}

func TestWhatIsWrongWithAPayload3(t *testing.T) {
	for _, tc := range []struct {
		body   string
		binary bool
		want   string
	}{
		{"", false, "an empty body"},
		{"", true, "an empty body"},
		{"4hello", false, "a packet does not begin with its length and a colon"},
		{"x:4", false, "a packet does not begin with its length and a colon"},
		{":4", false, "a packet does not begin with its length and a colon"},
		{"1", false, "a packet does not begin with its length and a colon"},
		{"0:", false, "an empty packet"},
		{"9:4hello", false, "a packet is longer than the body"},
		{"7:4hello", false, "a packet is longer than the body"},
		{"99999999999999999999999:4", false, "a packet is longer than the body"},
		{"3:4😀", false, ""},
		{"2:4😀", false, "the length of a packet ends within a character"},
		{"2:4\xff", false, "a text packet is not valid UTF-8"},
		{"1:b", false, "a blob has no type"},
		{"2:b7", false, "a blob has no type"},
		{"4:b4AA", false, "a blob is not base64: illegal base64 data at input byte 0"},
		{"2:4a3:4", false, "a packet is longer than the body"},

		{"\x02\x01\xff4", true, "a packet begins with the byte 2, not with 0 (text) or 1 (binary)"},
		{"6:4hello", true, "a packet begins with the byte 54, not with 0 (text) or 1 (binary)"},
		{"\x00", true, "the length of a packet does not end with the byte 255"},
		{"\x00\xff", true, "the length of a packet does not end with the byte 255"},
		{"\x00\x01", true, "the length of a packet does not end with the byte 255"},
		{"\x00\x01\x204", true, "the length of a packet does not end with the byte 255"},
		{"\x00\x00\xff", true, "an empty packet"},
		{"\x00\x02\xff4", true, "a packet is longer than the body"},
		{"\x00\x09\x09\x09\xff4", true, "a packet is longer than the body"},
		{"\x00\x02\xff4\xff", true, "a text packet is not valid UTF-8"},
		{"\x01\x02\xff\x04\xff", true, ""},
	} {
		err := splitPayload3([]byte(tc.body), tc.binary, func(bool, []byte) error { return nil })
		if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%q, binary %v: %v, not %q", tc.body, tc.binary, err, tc.want)
		}
	}
}

func TestFramesThatAreNoPackets(t *testing.T) {
	for name, tc := range map[string]struct {
		frames string
		want   string
	}{
		"control":   {"\x89\x00", "a ping frame cannot be sent by polling"},
		"cut":       {"\x81\x052", "a frame of 5 bytes payload is cut off after 3 bytes"},
		"separator": {"\x81\x034\x1ea", `packet "4\x1ea" holds the byte 0x1e, which separates packets`},
	} {
		if _, err := appendPayload(nil, []byte(tc.frames)); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v", name, err)
		}
		if name == "separator" {
			continue
		}
		for _, base64 := range []bool{false, true} {
			if _, _, err := appendPayload3(nil, []byte(tc.frames), base64); err == nil || err.Error() != tc.want {
				t.Errorf("%s, version 3: %v", name, err)
			}
		}
	}
	for _, bad := range []string{"\x82\x00", "\x82\x02\x07a"} {
		if _, _, err := appendPayload3(nil, []byte(bad), true); err == nil || !strings.HasSuffix(err.Error(), "does not begin with its type") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// cut makes packets of what a fuzzer found: 0xff ends one, and one that begins with 'b' is a blob.
func cut(in []byte, version3 bool) (items []item) {
	for _, p := range bytes.Split(in, []byte{0xff}) {
		switch {
		case len(p) > 0 && p[0] == 'b' && version3:
			items = append(items, blob("\x04"+string(p[1:])))
		case len(p) > 0 && p[0] == 'b':
			items = append(items, blob(string(p[1:])))
		case utf8.Valid(p) && (version3 || !bytes.Contains(p, []byte{separator})):
			items = append(items, text("4"+string(p)))
		}
	}
	return items
}

// FuzzPayload: bytes as a body are refused or give packets that written again are the same packets; bytes as packets
// come through a body unchanged.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"2", "4hello\x1ebAQIDBA==", "b", "4a\xffb\x00\x01\xff4b", "", "\x1e", "b\x1eb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		through := func(items []item) {
			body, err := appendPayload(nil, frames(items...))
			if err != nil {
				t.Fatalf("%v: %v", items, err)
			}
			var got []item
			if err := splitPayload(string(body), collector(&got)); err != nil || !slices.Equal(got, items) {
				t.Fatalf("%v went out as %q and came as %v, %v", items, body, got, err)
			}
		}
		var items []item
		if splitPayload(string(in), collector(&items)) == nil {
			through(items)
		}
		if items = cut(in, false); len(items) > 0 {
			through(items)
		}
	})
}

// FuzzPayload3 is FuzzPayload for Engine.IO 3, in its three forms.
func FuzzPayload3(f *testing.F) {
	for _, s := range []string{"6:2probe", "2:404:4é😀", "10:b4AQIDBA==", "\x00\x02\xff4a\x01\x02\xff\x04\x00", "4a\xffb\x00\x01\xff4b", "", "0:"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		through := func(items []item) {
			for _, base64 := range []bool{false, true} {
				body, binary, err := appendPayload3(nil, frames(items...), base64)
				if err != nil {
					t.Fatalf("%v: %v", items, err)
				}
				var got []item
				if err := splitPayload3(body, binary, collector(&got)); err != nil || !slices.Equal(got, items) {
					t.Fatalf("%v went out as %q (binary %v) and came as %v, %v", items, body, binary, got, err)
				}
			}
		}
		for _, binary := range []bool{false, true} {
			var items []item
			if splitPayload3(in, binary, collector(&items)) == nil && !odd(items) {
				through(items)
			}
		}
		if items := cut(in, true); len(items) > 0 {
			through(items)
		}
	})
}

// odd reports what only a client sends: text that begins as a blob does, and blobs of types that do not exist.
func odd(items []item) bool {
	for _, it := range items {
		if it.blob && it.data[0] > 6 || !it.blob && it.data[0] == 'b' {
			return true
		}
	}
	return false
}
