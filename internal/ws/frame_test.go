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
