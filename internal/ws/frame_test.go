package ws

import (
	"bytes"
	"testing"
)

func TestAFrameWhoseLengthWasGuessedWrong(t *testing.T) {
	sizes := []int{0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 65537}
	for _, n := range sizes {
		payload := bytes.Repeat([]byte{'a', 'b', 'c'}, n/3+1)[:n]
		want := AppendFrame([]byte("before"), OpText, payload)
		for _, guess := range sizes {
			got := AppendText([]byte("before"), guess, func(b []byte) []byte { return append(b, payload...) })
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, guessed as %d: %d bytes that begin with %x, not %d that begin with %x", n, guess, len(got), got[:min(20, len(got))], len(want), want[:min(20, len(want))])
			}
		}
	}
}

func TestFramesAreCutAsTheyWereAppended(t *testing.T) {
	var b []byte
	sizes := []int{0, 1, 125, 126, 65535, 65536}
	for _, n := range sizes {
		b = AppendFrame(b, OpBinary, bytes.Repeat([]byte{'x'}, n))
		b = AppendText(b, 0, func(b []byte) []byte { return append(b, "text"...) })
	}
	for _, n := range sizes {
		op, p, rest, err := CutFrame(b)
		if err != nil || op != OpBinary || !bytes.Equal(p, bytes.Repeat([]byte{'x'}, n)) {
			t.Fatalf("frame of %d bytes: %v with %d bytes, %v", n, op, len(p), err)
		}
		op, p, b, err = CutFrame(rest)
		if err != nil || op != OpText || string(p) != "text" || cap(p) != len(p) {
			t.Fatalf("behind the frame of %d bytes: %v %q, %v", n, op, p, err)
		}
	}
	if len(b) != 0 {
		t.Errorf("%d bytes are left", len(b))
	}
	for in, want := range map[string]string{
		"":                  "0 bytes are no frame",
		"\x81":              "1 bytes are no frame",
		"\x81\x02a":         "a frame of 2 bytes payload is cut off after 3 bytes",
		"\x81\x7e\x00":      "a frame of 126 bytes payload is cut off after 3 bytes",
		"\x81\x7e\x01\x00a": "a frame of 256 bytes payload is cut off after 5 bytes",
		"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xffa": "a frame of 18446744073709551615 bytes payload is cut off after 11 bytes",
		"\x01\x00":     "a frame that begins with 0x0100 is not one of a server's, whole and uncompressed",
		"\xc1\x00":     "a frame that begins with 0xc100 is not one of a server's, whole and uncompressed",
		"\x81\x80abcd": "a frame that begins with 0x8180 is not one of a server's, whole and uncompressed",
	} {
		if _, _, _, err := CutFrame([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}
