package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// recorder is a Handler that writes down what it gets, and stops Feed at every stop-th call.
type recorder struct {
	events []string
	stop   int
}

func (h *recorder) Message(op Op, payload []byte) bool { return h.add("message", op, payload) }
func (h *recorder) Control(op Op, payload []byte) bool { return h.add("control", op, payload) }

func (h *recorder) add(kind string, op Op, payload []byte) bool {
	h.events = append(h.events, fmt.Sprintf("%s %s %q", kind, op, payload))
	clear(payload) // it is ours during the call; a Reader that still needs it would show
	return h.stop == 0 || len(h.events)%h.stop != 0
}

type outcome struct {
	events []string
	err    error
	idle   bool
}

func (o outcome) String() string {
	return fmt.Sprintf("%s, error %v, idle %v", strings.Join(o.events, "; "), o.err, o.idle)
}

// feed feeds the parts to a fresh Reader, and what a stop left over again.
func feed(t testing.TB, cfg *Config, stop int, parts ...[]byte) outcome {
	t.Helper()
	var r Reader
	h := recorder{stop: stop}
	for _, part := range parts {
		part = bytes.Clone(part)
		for {
			before, calls := bytes.Clone(part), len(h.events)
			n, err := r.Feed(cfg, part, &h)
			if err != nil {
				if _, ok := err.(*CloseError); !ok || n > len(part) {
					t.Fatalf("Feed of %x = %d, %T %v", before, n, err, err)
				}
				if r.Buffered() != 0 || !r.Idle() {
					t.Fatalf("Reader keeps %d bytes after %v", r.Buffered(), err)
				}
				return outcome{h.events, err, r.Idle()}
			}
			if n == len(part) {
				break
			}
			if stop == 0 || len(h.events) == calls || len(h.events)%stop != 0 {
				t.Fatalf("Feed of %x took %d bytes, but nothing stopped it", before, n)
			}
			if !bytes.Equal(part[n:], before[n:]) {
				t.Fatalf("Feed of %x changed bytes behind %d, which it did not take", before, n)
			}
			part = part[n:]
		}
	}
	if r.Idle() && r.Buffered() != 0 {
		t.Fatalf("idle Reader keeps %d bytes", r.Buffered())
	}
	return outcome{h.events, nil, r.Idle()}
}

func equal(a, b outcome) bool {
	return slices.Equal(a.events, b.events) && a.idle == b.idle && fmt.Sprint(a.err) == fmt.Sprint(b.err)
}

func bytewise(stream []byte) [][]byte { return slices.Collect(slices.Chunk(stream, 1)) }

// everySplit feeds stream in one piece, byte by byte, in two pieces cut at every place, and with stops, and demands the same
// result each time.
func everySplit(t *testing.T, cfg *Config, stream []byte) outcome {
	t.Helper()
	want := feed(t, cfg, 0, stream)
	check := func(how string, stop int, parts ...[]byte) {
		t.Helper()
		if got := feed(t, cfg, stop, parts...); !equal(got, want) {
			t.Fatalf("%s: %v\nin one piece: %v", how, got, want)
		}
	}
	check("byte by byte", 0, bytewise(stream)...)
	check("stopped at every frame", 1, stream)
	check("stopped at every second frame", 2, stream)
	check("byte by byte, stopped at every frame", 1, bytewise(stream)...)
	for i := range stream {
		check(fmt.Sprintf("cut at %d", i), i%3, stream[:i], stream[i:])
	}
	return want
}

// frame makes a client's frame bit by bit: b0 as it is, the length in the shortest form.
func frame(b0 byte, payload string) []byte {
	b := appendHeader(nil, b0, 0x80, len(payload))
	b = append(b, 1, 2, 3, 4)
	for i := range len(payload) {
		b = append(b, payload[i]^byte(i%4+1))
	}
	return b
}

const (
	fin  = 0x80
	rsv1 = 0x40
)

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var server = &Config{MaxMessage: 1 << 20}

func TestRFC6455Examples(t *testing.T) { // section 5.7
	client := &Config{MaxMessage: 1 << 20, Client: true}
	for _, tt := range []struct {
		name   string
		cfg    *Config
		stream []byte
		want   []string
	}{
		{"unmasked text", client, []byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, []string{`message text "Hello"`}},
		{"masked text", server, []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, []string{`message text "Hello"`}},
		{"fragmented", client, []byte{0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f}, []string{`message text "Hello"`}},
		{"ping", client, []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, []string{`control ping "Hello"`}},
		{"pong", server, []byte{0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, []string{`control pong "Hello"`}},
		{"256 bytes", client, cat([]byte{0x82, 0x7e, 0x01, 0x00}, make([]byte, 256)), []string{fmt.Sprintf("message binary %q", make([]byte, 256))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := everySplit(t, tt.cfg, tt.stream); !equal(got, outcome{tt.want, nil, true}) {
				t.Errorf("got %v, want %q", got, tt.want)
			}
		})
	}
	t.Run("64 KiB", func(t *testing.T) {
		h := recorder{}
		var r Reader
		stream := cat([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 65536))
		if n, err := r.Feed(client, stream, &h); n != len(stream) || err != nil || h.events[0] != fmt.Sprintf("message binary %q", make([]byte, 65536)) {
			t.Errorf("Feed = %d, %v", n, err)
		}
	})
}

func TestMessages(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream []byte
		want   string
	}{
		{"nothing", nil, `, error <nil>, idle true`},
		{"empty messages", cat(frame(fin|1, ""), frame(fin|2, "")), `message text ""; message binary "", error <nil>, idle true`},
		{"empty control frames", cat(frame(fin|9, ""), frame(fin|10, ""), frame(fin|8, "")), `control ping ""; control pong ""; control close "", error <nil>, idle true`},
		{"frames after a close", cat(frame(fin|8, "\x03\xe8"), frame(fin|1, "x")), `control close "\x03\xe8"; message text "x", error <nil>, idle true`},
		{"control frames between fragments",
			cat(frame(1, "a"), frame(fin|9, "ping"), frame(0, "b"), frame(fin|10, ""), frame(fin|0, "c"), frame(fin|2, "d")),
			`control ping "ping"; control pong ""; message text "abc"; message binary "d", error <nil>, idle true`},
		{"empty fragments", cat(frame(2, ""), frame(0, ""), frame(fin|0, "")), `message binary "", error <nil>, idle true`},
		{"only the last fragment not empty", cat(frame(2, ""), frame(0, ""), frame(fin|0, "x")), `message binary "x", error <nil>, idle true`},
		{"unfinished message", frame(1, "abc"), `, error <nil>, idle false`},
		{"unfinished empty message", frame(1, ""), `, error <nil>, idle false`},
		{"unfinished header", frame(fin|1, "")[:5], `, error <nil>, idle false`},
		{"runes across fragments", cat(frame(1, "\xf0"), frame(0, "\x9f"), frame(fin|9, "\xff"), frame(0, "\x98"), frame(0, ""), frame(0, "\x80\xc3"), frame(fin|0, "\xa9")),
			`control ping "\xff"; message text "😀é", error <nil>, idle true`},
		{"binary is not text", cat(frame(fin|2, "\xff\xfe"), frame(2, "\xc0"), frame(fin|0, "\x80")), `message binary "\xff\xfe"; message binary "\xc0\x80", error <nil>, idle true`},
		{"long runs", cat(frame(fin|1, strings.Repeat("0123456789abcdef", 9)+"é"), frame(fin|1, strings.Repeat("é", 63))),
			fmt.Sprintf("message text %q; message text %q, error <nil>, idle true", strings.Repeat("0123456789abcdef", 9)+"é", strings.Repeat("é", 63))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := everySplit(t, server, tt.stream).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestViolations(t *testing.T) {
	deflate := &Config{MaxMessage: 1000, Deflate: true}
	plain := &Config{MaxMessage: 1000}
	client := &Config{MaxMessage: 1000, Client: true}
	hello := frame(fin|1, "hello")
	key := []byte{1, 2, 3, 4}
	for _, tt := range []struct {
		name   string
		cfg    *Config
		stream []byte
		want   CloseError
	}{
		{"RSV1 without deflate", plain, frame(fin|rsv1|1, ""), CloseError{1002, "RSV1 set, but permessage-deflate was not negotiated"}},
		{"RSV2", deflate, frame(fin|0x20|1, ""), CloseError{1002, "RSV2 or RSV3 set without an extension that defines it"}},
		{"RSV3", deflate, frame(fin|0x10|2, ""), CloseError{1002, "RSV2 or RSV3 set without an extension that defines it"}},
		{"RSV2 on a ping", deflate, frame(fin|0x20|9, ""), CloseError{1002, "RSV2 or RSV3 set without an extension that defines it"}},
		{"RSV1 on a ping", deflate, frame(fin|rsv1|9, ""), CloseError{1002, "RSV1 set on a ping frame"}},
		{"RSV1 on a pong", deflate, frame(fin|rsv1|10, ""), CloseError{1002, "RSV1 set on a pong frame"}},
		{"RSV1 on a close", deflate, frame(fin|rsv1|8, ""), CloseError{1002, "RSV1 set on a close frame"}},
		{"RSV1 on a continuation", deflate, cat(frame(rsv1|1, ""), frame(fin|rsv1|0, "")), CloseError{1002, "RSV1 set on a continuation frame"}},
		{"opcode 3", plain, frame(fin|3, ""), CloseError{1002, "reserved opcode 3"}},
		{"opcode 4", plain, frame(fin|4, ""), CloseError{1002, "reserved opcode 4"}},
		{"opcode 5", plain, frame(fin|5, ""), CloseError{1002, "reserved opcode 5"}},
		{"opcode 6", plain, frame(fin|6, ""), CloseError{1002, "reserved opcode 6"}},
		{"opcode 7", plain, frame(fin|7, ""), CloseError{1002, "reserved opcode 7"}},
		{"opcode 11", plain, frame(fin|11, ""), CloseError{1002, "reserved opcode 11"}},
		{"opcode 12", plain, frame(fin|12, ""), CloseError{1002, "reserved opcode 12"}},
		{"opcode 13", plain, frame(fin|13, ""), CloseError{1002, "reserved opcode 13"}},
		{"opcode 14", plain, frame(fin|14, ""), CloseError{1002, "reserved opcode 14"}},
		{"opcode 15", plain, frame(fin|15, ""), CloseError{1002, "reserved opcode 15"}},
		{"fragmented ping", plain, frame(9, ""), CloseError{1002, "fragmented ping frame"}},
		{"fragmented pong", plain, frame(10, ""), CloseError{1002, "fragmented pong frame"}},
		{"fragmented close", plain, frame(8, ""), CloseError{1002, "fragmented close frame"}},
		{"ping of 126 bytes", plain, frame(fin|9, strings.Repeat("x", 126)), CloseError{1002, "ping frame longer than 125 bytes"}},
		{"close with a 64-bit length", plain, []byte{fin | 8, 0xff}, CloseError{1002, "close frame longer than 125 bytes"}},
		{"unmasked from the client", plain, []byte{fin | 1, 0}, CloseError{1002, "unmasked frame from the client"}},
		{"unmasked ping from the client", plain, []byte{fin | 9, 0}, CloseError{1002, "unmasked frame from the client"}},
		{"masked from the server", client, hello, CloseError{1002, "masked frame from the server"}},
		{"continuation of nothing", plain, frame(fin|0, ""), CloseError{1002, "continuation frame without a message to continue"}},
		{"continuation after the end", plain, cat(frame(1, ""), frame(fin|0, ""), frame(0, "")), CloseError{1002, "continuation frame without a message to continue"}},
		{"text inside text", plain, cat(frame(1, "a"), frame(fin|1, "")), CloseError{1002, "new text message inside a fragmented one"}},
		{"binary inside text", plain, cat(frame(1, ""), frame(2, "")), CloseError{1002, "new binary message inside a fragmented one"}},
		{"16-bit length of 125", plain, []byte{fin | 2, 0xfe, 0, 125}, CloseError{1002, "length not in its shortest form"}},
		{"16-bit length of 0", plain, []byte{fin | 2, 0xfe, 0, 0}, CloseError{1002, "length not in its shortest form"}},
		{"64-bit length of 65535", plain, []byte{fin | 2, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, CloseError{1002, "length not in its shortest form"}},
		{"64-bit length of 0", plain, []byte{fin | 2, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, CloseError{1002, "length not in its shortest form"}},
		{"top bit of the length", plain, []byte{fin | 2, 0xff, 0x80}, CloseError{1002, "length with the most significant bit set"}},
		{"longest length", plain, []byte{fin | 2, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"one byte too many", plain, []byte{fin | 2, 0xfe, 1001 >> 8, 1001 & 0xff}, CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"one byte too many from the server", client, []byte{fin | 2, 0x7e, 1001 >> 8, 1001 & 0xff}, CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"one byte too many in fragments", plain, cat(frame(2, strings.Repeat("x", 999)), frame(0, "x"), []byte{fin, 0x81}), CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"much too long compressed", deflate, []byte{fin | rsv1 | 2, 0xfe, 1096 >> 8, 1096 & 0xff}, CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"bomb", deflate, frame(fin|rsv1|2, deflated(strings.Repeat("x", 1001))), CloseError{1009, "message longer than the limit of 1000 bytes"}},
		{"bad text", plain, cat([]byte{fin | 1, 0xfe, 1, 0}, key, []byte{0xff ^ 1}), CloseError{1007, "text is not valid UTF-8"}},
		{"bad complete text", plain, frame(fin|1, "abc\xff"), CloseError{1007, "text is not valid UTF-8"}},
		{"text ending inside a rune", plain, frame(fin|1, "abc\xe2\x82"), CloseError{1007, "text is not valid UTF-8"}},
		{"fragmented text ending inside a rune", plain, cat(frame(1, "abc\xe2"), frame(0, "\x82"), frame(fin|0, "")), CloseError{1007, "text is not valid UTF-8"}},
		{"rune broken by the next fragment", plain, cat(frame(1, "\xe2"), frame(0, "a")), CloseError{1007, "text is not valid UTF-8"}},
		{"surrogate", plain, frame(fin|1, "\xed\xa0\x80"), CloseError{1007, "text is not valid UTF-8"}},
		{"bad compressed text", deflate, frame(fin|rsv1|1, deflated("abc\xff")), CloseError{1007, "text is not valid UTF-8"}},
		{"compressed text ending inside a rune", deflate, frame(fin|rsv1|1, deflated("abc\xe2\x82")), CloseError{1007, "text is not valid UTF-8"}},
		{"bad compressed text in fragments", deflate, cat(frame(rsv1|1, deflated("abc\xff")[:2]), frame(fin|0, deflated("abc\xff")[2:])), CloseError{1007, "text is not valid UTF-8"}},
		{"not deflate", deflate, frame(fin|rsv1|1, "\xff\xff"), CloseError{1007, "compressed message is not valid DEFLATE data"}},
		{"deflate cut off", deflate, frame(fin|rsv1|1, "\xf2\x48\xcd"), CloseError{1007, "compressed message is not valid DEFLATE data"}},
		{"reference before the message", deflate, frame(fin|rsv1|1, "\xf2\x00\x11\x00\x00"), CloseError{1007, "compressed message is not valid DEFLATE data"}}, // the second "Hello" of RFC 7692 section 7.2.3.2
		{"final blocks without end", deflate, frame(fin|rsv1|1, strings.Repeat("\x03\x00", 66)), CloseError{1002, "compressed message with too many final blocks"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, before := range [][]byte{nil, hello} {
				stream := tt.stream
				if before != nil && tt.cfg != client {
					stream = cat(before, stream)
				}
				got := everySplit(t, tt.cfg, stream)
				var ce *CloseError
				if !errors.As(got.err, &ce) || *ce != tt.want {
					t.Errorf("%x: %v, want error %v", stream, got, &tt.want)
				}
				if len(ce.Reason) > maxReason || !utf8.ValidString(ce.Reason) {
					t.Errorf("reason %q does not fit a close frame", ce.Reason)
				}
			}
		})
	}
}

// The violation is found at the byte that makes it one.
func TestFailFast(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tt := range []struct {
		name   string
		before []byte // fed first
		bytes  string // fed byte by byte; the last must fail, and no other
		code   int
	}{
		{"opcode", nil, "\x83", 1002},
		{"mask bit", nil, "\x81\x05", 1002},
		{"ping length", nil, "\x89\xfe", 1002},
		{"16-bit length", nil, "\x82\xfe\x00\x7d", 1002},
		{"top bit", nil, "\x82\xff\x80", 1002},
		{"too long", nil, "\x82\xff\x00\x00\x00\x00\x00\x10\x00\x01", 1009},
		{"never valid", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abc\xff", 1007},
		{"overlong", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abc\xc0", 1007},
		{"overlong, second byte", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abc\xe0\x80", 1007},
		{"surrogate, second byte", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abc\xed\xa0", 1007},
		{"beyond U+10FFFF", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abc\xf4\x90", 1007},
		{"no continuation", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00\xf0\x9f\x98a", 1007},
		{"continuation alone", nil, "\x81\xfe\x10\x00\x00\x00\x00\x00abcdefgh\x80", 1007},
		{"last byte", nil, "\x81\x83\x00\x00\x00\x00a\xe2\x82", 1007},
		{"next fragment", cat(frame(1, long+"\xe2"), frame(fin|9, "p")), "\x80\xfe\x10\x00\x00\x00\x00\x00\x82a", 1007},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Reader
			h := &recorder{}
			if n, err := r.Feed(server, tt.before, h); n != len(tt.before) || err != nil {
				t.Fatal(n, err)
			}
			for i := range len(tt.bytes) {
				_, err := r.Feed(server, []byte{tt.bytes[i]}, h)
				if last := i == len(tt.bytes)-1; !last && err != nil || last && (err == nil || err.(*CloseError).Code != tt.code) {
					t.Fatalf("byte %d of %d: error %v", i, len(tt.bytes), err)
				}
			}
		})
	}
}

// Every length form at its boundaries, from both sides, in one piece and in two.
func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 1 << 20} {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte('a' + i%23)
		}
		headerLen := 2
		var length []byte
		switch {
		case n >= 65536:
			headerLen, length = 10, binary.BigEndian.AppendUint64([]byte{127}, uint64(n))
		case n >= 126:
			headerLen, length = 4, binary.BigEndian.AppendUint16([]byte{126}, uint16(n))
		default:
			length = []byte{byte(n)}
		}
		plain := cat([]byte{0x81}, length, payload)
		if got := AppendFrame([]byte("before"), OpText, payload); !bytes.Equal(got, cat([]byte("before"), plain)) {
			t.Errorf("AppendFrame of %d bytes begins %x", n, got[:min(len(got), 20)])
		}
		if headerLen > HeaderRoom {
			t.Errorf("header of %d bytes", headerLen)
		}
		length[0] |= 0x80
		masked := cat([]byte{0x81}, length, []byte{9, 8, 7, 6}, payload)
		for i := range payload {
			masked[headerLen+4+i] ^= []byte{9, 8, 7, 6}[i%4]
		}
		if got := AppendMasked([]byte("before"), OpText, payload, [4]byte{9, 8, 7, 6}); !bytes.Equal(got, cat([]byte("before"), masked)) {
			t.Errorf("AppendMasked of %d bytes begins %x", n, got[:min(len(got), 20)])
		}
		want := outcome{[]string{fmt.Sprintf("message text %q", payload)}, nil, true}
		for _, cut := range []int{0, 1, headerLen, headerLen + 1, headerLen + 4, headerLen + 5, headerLen + 4 + n/2} {
			for _, end := range []struct {
				cfg    *Config
				stream []byte
			}{{&Config{MaxMessage: n, Client: true}, plain}, {&Config{MaxMessage: n}, masked}} {
				cut := min(cut, len(end.stream))
				if got := feed(t, end.cfg, 0, end.stream[:cut], end.stream[cut:]); !equal(got, want) {
					t.Errorf("%d bytes cut at %d: %d events, error %v", n, cut, len(got.events), got.err)
				}
			}
		}
	}
}

// What is only announced allocates nothing, what arrives at most twice its size, and nothing is kept afterwards.
func TestMemory(t *testing.T) {
	cfg := &Config{MaxMessage: 1 << 30}
	var r Reader
	h := &recorder{}
	r.Feed(cfg, []byte{fin | 2, 0xff, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0}, h)
	if r.Buffered() != 0 || r.Idle() {
		t.Errorf("after the header of a long frame: %d bytes, idle %v", r.Buffered(), r.Idle())
	}
	for fed := 1; fed < 10000; fed++ {
		r.Feed(cfg, []byte{'x'}, h)
		if r.Buffered() > max(64, 2*fed) || r.Buffered() < fed {
			t.Fatalf("%d bytes for %d that arrived", r.Buffered(), fed)
		}
	}

	r = Reader{}
	stream := cat(frame(2, strings.Repeat("x", 100)), frame(fin|9, strings.Repeat("y", 100)), frame(fin|0, ""))
	for _, b := range stream {
		if _, err := r.Feed(cfg, []byte{b}, h); err != nil || r.Buffered() > 256 {
			t.Fatal(r.Buffered(), err)
		}
	}
	if r.Buffered() != 0 || !r.Idle() || len(h.events) != 2 {
		t.Errorf("at the end: %d bytes, idle %v, events %q", r.Buffered(), r.Idle(), h.events)
	}
}

func TestLimitExtremes(t *testing.T) {
	x := frame(fin|rsv1|1, deflated("x"))
	for _, tt := range []struct {
		limit int
		want  string
	}{
		{math.MaxInt, `message text "x", error <nil>, idle true`},
		{1, `message text "x", error <nil>, idle true`},
		{0, `, error websocket closed with 1009: message longer than the limit of 0 bytes, idle true`},
		{-1, `, error websocket closed with 1009: message longer than the limit of -1 bytes, idle true`},
		{math.MinInt, `, error websocket closed with 1009: message longer than the limit of -9223372036854775808 bytes, idle true`},
	} {
		if got := everySplit(t, &Config{MaxMessage: tt.limit, Deflate: true}, x).String(); got != tt.want {
			t.Errorf("limit %d: %s", tt.limit, got)
		}
	}
}

// reference reads a stream without permessage-deflate the slow and plain way.
func reference(cfg *Config, b []byte) (events []string, code int) {
	var msg []byte
	var msgOp Op
	prefix := func() bool { // of valid UTF-8: can some ending make it valid?
		for len(msg) > 0 && msgOp == OpText {
			if !utf8.FullRune(msg) {
				return true
			}
			c, n := utf8.DecodeRune(msg)
			if c == utf8.RuneError && n == 1 {
				return false
			}
			msg = msg[n:]
		}
		return true
	}
	for len(b) > 0 {
		op, final := Op(b[0]&15), b[0]&0x80 != 0
		if b[0]&0x70 != 0 || !strings.ContainsRune("\x00\x01\x02\x08\x09\x0a", rune(op)) || op >= 8 && !final ||
			op == 0 && msgOp == 0 || (op == 1 || op == 2) && msgOp != 0 {
			return events, 1002
		}
		if len(b) < 2 {
			return events, 0
		}
		n, ext := uint64(b[1]&127), 0
		if b[1]&0x80 != 0 == cfg.Client || op >= 8 && n > 125 {
			return events, 1002
		}
		if n == 126 {
			ext = 2
		} else if n == 127 {
			ext = 8
		}
		if ext == 8 && len(b) > 2 && b[2] >= 0x80 {
			return events, 1002
		}
		if len(b) < 2+ext {
			return events, 0
		}
		if ext > 0 {
			n = 0
			for _, c := range b[2 : 2+ext] {
				n = n<<8 | uint64(c)
			}
			if n < 126 || ext == 8 && n < 65536 {
				return events, 1002
			}
		}
		if op < 8 && n+uint64(len(msg)) > uint64(cfg.MaxMessage) {
			return events, 1009
		}
		b = b[2+ext:]
		key := []byte{0, 0, 0, 0}
		if !cfg.Client {
			if len(b) < 4 {
				return events, 0
			}
			key, b = b[:4], b[4:]
		}
		partial := uint64(len(b)) < n
		var p []byte
		for i := range min(n, uint64(len(b))) {
			p = append(p, b[i]^key[i%4])
		}
		b = b[len(p):]
		if op >= 8 {
			if partial {
				return events, 0
			}
			events = append(events, fmt.Sprintf("control %s %q", op, p))
			continue
		}
		if op != 0 {
			msgOp = op
		}
		msg = append(msg, p...)
		whole := msg
		if !prefix() {
			return events, 1007
		}
		msg, p = whole, msg
		if partial {
			return events, 0
		}
		if final {
			if msgOp == OpText && len(p) > 0 {
				return events, 1007
			}
			events = append(events, fmt.Sprintf("message %s %q", msgOp, msg))
			msg, msgOp = nil, 0
		}
	}
	return events, 0
}

func FuzzFrame(f *testing.F) {
	f.Add(byte(0), []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58})
	f.Add(byte(1), []byte{0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f})
	f.Add(byte(1), []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f})
	f.Add(byte(3), []byte{0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00})
	f.Add(byte(3), []byte{0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00})
	f.Add(byte(3), []byte{0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00})
	f.Add(byte(3), []byte{0xc2, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00})
	f.Add(byte(0), cat(frame(1, "\xf0\x9f"), frame(fin|9, "ping"), frame(0, "\x98\x80"), frame(fin|0, "")))
	f.Add(byte(0), cat(frame(fin|2, strings.Repeat("x", 126)), frame(fin|8, "\x03\xe8bye")))
	f.Add(byte(0), []byte{fin | 2, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(byte(2), cat(frame(fin|rsv1|1, deflated("hello")), frame(fin|1, "hello")))
	f.Add(byte(1), append([]byte{0x82, 0x7e, 0x01, 0x00}, make([]byte, 256)...))
	f.Fuzz(func(t *testing.T, kind byte, stream []byte) {
		cfg := &Config{MaxMessage: 4096, Client: kind&1 != 0, Deflate: kind&2 != 0}
		want := feed(t, cfg, 0, stream)
		if got := feed(t, cfg, 0, bytewise(stream)...); !equal(got, want) {
			t.Fatalf("byte by byte: %v\nin one piece: %v", got, want)
		}
		if got := feed(t, cfg, 1, stream); !equal(got, want) {
			t.Fatalf("stopped at every frame: %v\nin one piece: %v", got, want)
		}
		if !cfg.Deflate {
			events, code := reference(cfg, stream)
			got := 0
			if want.err != nil {
				got = want.err.(*CloseError).Code
			}
			if got != code || !slices.Equal(events, want.events) {
				t.Fatalf("reference: %s, error %d\nFeed: %v", events, code, want)
			}
		}
		var r Reader
		h := &recorder{}
		for i, b := range stream {
			if _, err := r.Feed(cfg, []byte{b}, h); err != nil {
				break
			}
			if r.Buffered() > max(64, 2*(i+1)) || r.Buffered() > 2*(4096+4096/32+64+maxControl) {
				t.Fatalf("keeps %d bytes of %d", r.Buffered(), i+1)
			}
		}
	})
}

type discard struct{ n int }

func (h *discard) Message(Op, []byte) bool { h.n++; return true }
func (h *discard) Control(Op, []byte) bool { h.n++; return true }

func TestFastPathAllocatesNothing(t *testing.T) {
	stream := cat(frame(fin|1, strings.Repeat("x", 300)), frame(fin|9, "ping"), frame(fin|2, ""), frame(fin|1, "é"))
	buf := make([]byte, len(stream))
	var r Reader
	h := &discard{}
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, stream)
		if n, err := r.Feed(server, buf, h); n != len(buf) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for complete frames", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	for _, tt := range []struct {
		name    string
		payload string
	}{
		{"text64", strings.Repeat("x", 64)},
		{"text1K", strings.Repeat("x", 1024)},
		{"text16K", strings.Repeat("x", 16384)},
		{"runes1K", strings.Repeat("é", 512)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			stream := AppendMasked(nil, OpText, []byte(tt.payload), [4]byte{}) // a key of zeros: unmasking twice changes nothing
			var r Reader
			h := &discard{}
			b.ReportAllocs()
			b.SetBytes(int64(len(tt.payload)))
			for b.Loop() {
				if n, err := r.Feed(server, stream, h); n != len(stream) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
