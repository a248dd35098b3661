package jsontext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzAppendString: whatever the text, JSON that means it, with what is not UTF-8 replaced.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "<script>&", "\u2028\U0001f600", "\x80a\xff", "a\xe2\x82", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := AppendString([]byte("x"), s)
		var got string
		if err := json.Unmarshal(b[1:], &got); err != nil {
			t.Fatalf("%q becomes %q: %v", s, b[1:], err)
		}
		if !utf8.Valid(b) {
			t.Fatalf("%q becomes %q, which is not UTF-8", s, b)
		}
		if want := string([]rune(s)); got != want {
			t.Fatalf("%q means %q", b[1:], got)
		}
	})
}

func TestStringsAreEscapedNoMoreThanNeeded(t *testing.T) {
	for in, want := range map[string]string{
		"a/<b>&'\u2028\x7fé": "\"a/<b>&'\u2028\x7fé\"",
		"\"\\\n\t\x00\x1f":   `"\"\\\n\u0009\u0000\u001f"`,
		"a\xffb":             "\"a\ufffdb\"",
	} {
		if got := string(AppendString(nil, in)); got != want {
			t.Errorf("%q becomes %s, not %s", in, got, want)
		}
	}
}

func TestDepth(t *testing.T) {
	deep := func(n int) string {
		return `{"data":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	read := func(s string) error { return Object(s, func(string, Value) {}) }
	if err := read(deep(128)); err != nil {
		t.Error(err)
	}
	if err := read(deep(129)); err == nil || err.Error() != "nested deeper than 128 at byte 136" {
		t.Errorf("got %v", err)
	}
	// What stands side by side is not nested.
	if err := read(`{"data":[` + strings.Repeat(`{},[],`, 200) + `1]}`); err != nil {
		t.Error(err)
	}
}

// FuzzArray: an array is what encoding/json calls one, and its items are the same text.
func FuzzArray(f *testing.F) {
	for _, s := range []string{`[]`, ` [ ] `, `["a",1,{"b":[]}]`, `[ "a" , null ]`, `[1,]`, `[1 2]`, `[,]`, `[`, `[1`, `[1]]`, `{}`, `null`, ``, `["\u12"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got []string
		err := Array(s, func(i int, v Value) {
			if i != len(got) {
				t.Fatalf("%q: item %d is called %d", s, len(got), i)
			}
			got = append(got, string(v))
		})
		if err != nil && strings.HasPrefix(err.Error(), "nested deeper") {
			return
		}
		var want []json.RawMessage
		wantErr := json.Unmarshal([]byte(s), &want)
		if (err == nil) != (wantErr == nil && want != nil) {
			t.Fatalf("%q: %v; encoding/json: %v", s, err, wantErr)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %q, and encoding/json has %q", s, got, want)
		}
		for i := range got {
			if got[i] != string(want[i]) {
				t.Fatalf("%q: item %d is %q, and encoding/json has %q", s, i, got[i], want[i])
			}
		}
	})
}
