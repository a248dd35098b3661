// Package jsontext reads JSON as the text it is: the fields of an object are handed out undecoded, so that data passes
// through as it was sent, and a message costs one pass and no tree.
package jsontext

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep values may be nested.
const MaxDepth = 128

// Value is the text of one JSON value; empty means that it was not there.
type Value string

// Object reads the whole of s strictly (RFC 8259) as one object and calls each with its fields, in order. s is UTF-8:
// that was checked when it came in.
func Object(s string, each func(key string, v Value)) error {
	sc := scanner{s: s}
	return sc.object(each)
}

// Array reads the whole of s strictly as one array and calls each with its items and their indexes, in order. s is UTF-8.
func Array(s string, each func(i int, v Value)) error {
	sc := scanner{s: s}
	sc.space()
	if !sc.is('[') {
		return sc.fail("'['")
	}
	sc.space()
	if !sc.is(']') {
		for i := 0; ; i++ {
			sc.space()
			from := sc.i
			if err := sc.value(); err != nil {
				return err
			}
			each(i, Value(sc.s[from:sc.i]))
			sc.space()
			if sc.is(']') {
				break
			}
			if !sc.is(',') {
				return sc.fail("',' or ']'")
			}
		}
	}
	return sc.end()
}

type scanner struct {
	s     string
	i     int
	depth int
}

func (sc *scanner) fail(want string) error {
	if sc.i >= len(sc.s) {
		return fmt.Errorf("the frame ends where %s should be", want)
	}
	return fmt.Errorf("%q at byte %d, where %s should be", sc.s[sc.i], sc.i, want)
}

func (sc *scanner) space() {
	for sc.i < len(sc.s) {
		switch sc.s[sc.i] {
		case ' ', '\t', '\n', '\r':
			sc.i++
		default:
			return
		}
	}
}

func (sc *scanner) is(c byte) bool {
	if sc.i < len(sc.s) && sc.s[sc.i] == c {
		sc.i++
		return true
	}
	return false
}

// object reads the whole text as one object.
func (sc *scanner) object(each func(key string, v Value)) error {
	sc.space()
	if !sc.is('{') {
		return sc.fail("'{'")
	}
	sc.space()
	if !sc.is('}') {
		for {
			sc.space()
			from := sc.i
			if err := sc.str(); err != nil {
				return err
			}
			key := Value(sc.s[from:sc.i])
			sc.space()
			if !sc.is(':') {
				return sc.fail("':'")
			}
			sc.space()
			from = sc.i
			if err := sc.value(); err != nil {
				return err
			}
			name := string(key[1 : len(key)-1])
			if strings.IndexByte(name, '\\') >= 0 {
				name, _ = key.Text()
			}
			each(name, Value(sc.s[from:sc.i]))
			sc.space()
			if sc.is('}') {
				break
			}
			if !sc.is(',') {
				return sc.fail("',' or '}'")
			}
		}
	}
	return sc.end()
}

// end is nil if nothing but space is left.
func (sc *scanner) end() error {
	sc.space()
	if sc.i < len(sc.s) {
		return sc.fail("the end")
	}
	return nil
}

// value skips one value.
func (sc *scanner) value() error {
	if sc.i >= len(sc.s) {
		return sc.fail("a value")
	}
	switch c := sc.s[sc.i]; c {
	case '"':
		return sc.str()
	case '{', '[':
		return sc.nested(c)
	case 't':
		return sc.word("true")
	case 'f':
		return sc.word("false")
	case 'n':
		return sc.word("null")
	default:
		return sc.number()
	}
}

func (sc *scanner) nested(open byte) error {
	if sc.depth++; sc.depth > MaxDepth {
		return fmt.Errorf("nested deeper than %d at byte %d", MaxDepth, sc.i)
	}
	sc.i++
	end := open + 2 // ']' and '}' stand two behind '[' and '{'
	sc.space()
	if !sc.is(end) {
		for {
			sc.space()
			if open == '{' {
				if err := sc.str(); err != nil {
					return err
				}
				sc.space()
				if !sc.is(':') {
					return sc.fail("':'")
				}
				sc.space()
			}
			if err := sc.value(); err != nil {
				return err
			}
			sc.space()
			if sc.is(end) {
				break
			}
			if !sc.is(',') {
				return sc.fail("',' or the end of the value")
			}
		}
	}
	sc.depth--
	return nil
}

func (sc *scanner) word(w string) error {
	if !strings.HasPrefix(sc.s[sc.i:], w) {
		return sc.fail("a value")
	}
	sc.i += len(w)
	return nil
}

func (sc *scanner) number() error {
	sc.is('-')
	if !sc.is('0') && !sc.digits() {
		return sc.fail("a value")
	}
	if sc.is('.') && !sc.digits() {
		return sc.fail("a digit")
	}
	if sc.is('e') || sc.is('E') {
		if !sc.is('+') {
			sc.is('-')
		}
		if !sc.digits() {
			return sc.fail("a digit")
		}
	}
	return nil
}

func (sc *scanner) digits() bool {
	from := sc.i
	for sc.i < len(sc.s) && sc.s[sc.i] >= '0' && sc.s[sc.i] <= '9' {
		sc.i++
	}
	return sc.i > from
}

// plain are the bytes that stand for themselves in a string. UTF-8 was checked when the frame came in.
var plain = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= 0x20 && i != '"' && i != '\\'
	}
	return t
}()

func (sc *scanner) str() error {
	if !sc.is('"') {
		return sc.fail("a string")
	}
	for {
		i := sc.i
		for i < len(sc.s) && plain[sc.s[i]] {
			i++
		}
		sc.i = i
		if i >= len(sc.s) {
			return sc.fail("the end of a string")
		}
		switch sc.s[i] {
		case '"':
			sc.i++
			return nil
		case '\\':
			if err := sc.escape(); err != nil {
				return err
			}
		default:
			return sc.fail("no control character")
		}
	}
}

func (sc *scanner) escape() error {
	sc.i++
	if sc.i >= len(sc.s) {
		return sc.fail("an escape")
	}
	switch sc.s[sc.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		sc.i++
		return nil
	case 'u':
		for range 4 {
			sc.i++
			if sc.i >= len(sc.s) || hex(sc.s[sc.i]) < 0 {
				return sc.fail("a hexadecimal digit")
			}
		}
		sc.i++
		return nil
	}
	return sc.fail("an escape")
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// Text is the string a value holds; ok is false if it holds something else.
func (v Value) Text() (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	in := string(v[1 : len(v)-1])
	if strings.IndexByte(in, '\\') < 0 {
		return in, true
	}
	b := make([]byte, 0, len(in))
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			b = append(b, in[i])
			continue
		}
		i++
		switch in[i] {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := unit(in[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if strings.HasPrefix(in[i+1:], `\u`) && len(in) >= i+7 {
					pair = utf16.DecodeRune(r, unit(in[i+3:]))
				}
				if r = pair; r != utf8.RuneError {
					i += 6
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, in[i])
		}
	}
	return string(b), true
}

func unit(s string) rune {
	return rune(hex(s[0])<<12 | hex(s[1])<<8 | hex(s[2])<<4 | hex(s[3]))
}

// There reports whether the value says anything: it is present and not null.
func (v Value) There() bool { return v != "" && v != "null" }

// List reads an array of strings, of at most max.
func (v Value) List(max int) ([]string, error) {
	if len(v) == 0 || v[0] != '[' {
		return nil, fmt.Errorf("a list of strings is missing")
	}
	sc := scanner{s: string(v), i: 1}
	var out []string
	sc.space()
	if sc.is(']') {
		return nil, nil
	}
	for {
		sc.space()
		from := sc.i
		if err := sc.value(); err != nil {
			return nil, err
		}
		s, ok := Value(sc.s[from:sc.i]).Text()
		if !ok {
			return nil, fmt.Errorf("item %d of the list is not a string", len(out))
		}
		if len(out) == max {
			return nil, fmt.Errorf("the list has more than %d items", max)
		}
		out = append(out, s)
		sc.space()
		if sc.is(']') {
			return out, nil
		}
		sc.is(',')
	}
}

// JSON is the string a value holds, and its own text where it holds something else; empty where it says nothing. It is
// for fields that hold JSON in a string, as Pusher's do, from clients that may have left the string away.
func (v Value) JSON() string {
	if t, ok := v.Text(); ok {
		return t
	}
	if !v.There() {
		return ""
	}
	return string(v)
}

// Valid reports whether s is one JSON value.
func Valid(s string) bool {
	sc := scanner{s: s}
	sc.space()
	if sc.value() != nil {
		return false
	}
	sc.space()
	return sc.i == len(s)
}
