package ws

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseClose(t *testing.T) {
	ok := []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}
	for code := range 1 << 16 {
		payload := append(binary.BigEndian.AppendUint16(nil, uint16(code)), "why"...)
		got, reason, err := ParseClose(payload)
		if slices.Contains(ok, code) || code > 3000 && code < 4999 {
			if got != code || reason != "why" || err != nil {
				t.Errorf("ParseClose of %d = %d, %q, %v", code, got, reason, err)
			}
		} else if err == nil || err.(*CloseError).Code != 1002 || got != 0 || reason != "" {
			t.Errorf("ParseClose of %d = %d, %q, %v", code, got, reason, err)
		}
	}
	for _, tt := range []struct {
		payload string
		code    int
		reason  string
		err     int
	}{
		{"", 1005, "", 0},
		{"\x03", 0, "", 1002},
		{"\x03\xe8", 1000, "", 0},
		{"\x03\xe8é", 1000, "é", 0},
		{"\x03\xe8\xff", 0, "", 1007},
		{"\x03\xe8\xc3", 0, "", 1007},
		{"\x03\xe8" + strings.Repeat("x", 123), 1000, strings.Repeat("x", 123), 0},
	} {
		code, reason, err := ParseClose([]byte(tt.payload))
		errCode := 0
		if err != nil {
			errCode = err.(*CloseError).Code
		}
		if code != tt.code || reason != tt.reason || errCode != tt.err {
			t.Errorf("ParseClose(%q) = %d, %q, %v", tt.payload, code, reason, err)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, tt := range []struct {
		code   int
		reason string
		want   string
	}{
		{0, "ignored", "\x88\x00"},
		{1005, "ignored", "\x88\x00"},
		{1000, "", "\x88\x02\x03\xe8"},
		{4999, "bye", "\x88\x05\x13\x87bye"},
		{1001, strings.Repeat("x", 123), "\x88\x7d\x03\xe9" + strings.Repeat("x", 123)},
		{1001, strings.Repeat("x", 124), "\x88\x7d\x03\xe9" + strings.Repeat("x", 123)},
		{1001, strings.Repeat("x", 122) + "é", "\x88\x7c\x03\xe9" + strings.Repeat("x", 122)},
		{1001, strings.Repeat("x", 120) + "😀", "\x88\x7a\x03\xe9" + strings.Repeat("x", 120)},
		{1001, strings.Repeat("x", 119) + "😀😀", "\x88\x7d\x03\xe9" + strings.Repeat("x", 119) + "😀"},
		{1001, "a\xffb", "\x88\x07\x03\xe9a\uFFFDb"},
		{1001, strings.Repeat("\x80", 1000), "\x88\x05\x03\xe9\uFFFD"},
	} {
		got := AppendClose([]byte("before"), tt.code, tt.reason)
		if string(got) != "before"+tt.want {
			t.Errorf("AppendClose(%d, %q) = %q, want %q", tt.code, tt.reason, got, tt.want)
		}
	}
}

func FuzzClose(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3})
	f.Add([]byte("\x03\xe8bye"))
	f.Add([]byte("\x13\x87\xf0\x9f\x98"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		code, reason, err := ParseClose(payload)
		if err == nil && len(payload) <= maxControl {
			// What can be read can be sent again, to the byte.
			if got := AppendClose(nil, code, reason); !bytes.Equal(got[2:], payload) {
				t.Fatalf("%x came back as %x", payload, got)
			}
		}
		frame := AppendClose(nil, 1000, string(payload))
		if len(frame) > 2+maxControl || int(frame[1]) != len(frame)-2 || !utf8.Valid(frame[4:]) {
			t.Fatalf("close frame %x", frame)
		}
	})
}
