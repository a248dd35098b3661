package ws

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// deflated is the payload of s as the standard library compresses it: another implementation than ours.
func deflated(s string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	io.WriteString(w, s)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func inflated(t *testing.T, p []byte) []byte {
	t.Helper()
	got, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if err != nil {
		t.Fatalf("%x: %v", p, err)
	}
	return got
}

func TestRFC7692Examples(t *testing.T) { // section 7.2.3, and 8.2.3 for what may be combined
	cfg := &Config{MaxMessage: 100, Client: true, Deflate: true}
	for _, tt := range []struct {
		name   string
		stream []byte
		want   string
	}{
		{"one block", []byte{0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, "Hello"},
		{"two fragments", []byte{0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00}, "Hello"},
		{"no compression", []byte{0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00}, "Hello"},
		{"final block", []byte{0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, "Hello"},
		{"two blocks", []byte{0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00}, "Hello"},
		{"empty", []byte{0xc1, 0x01, 0x00}, ""},
		{"no bytes at all", []byte{0xc1, 0x00}, ""},
		{"final block without the empty one", []byte{0xc1, 0x07, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, "Hello"},
		{"final blocks", []byte{0xc1, 0x0f, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, "HelloHello"},
		{"window across a final block", []byte{0xc1, 0x0c, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x00, 0x11, 0x00, 0x00}, "HelloHello"},
		{"uncompressed although negotiated", []byte{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}, "Hello"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := outcome{[]string{fmt.Sprintf("message text %q", tt.want)}, nil, true}
			if got := everySplit(t, cfg, tt.stream); !equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAppendDeflated(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for _, payload := range [][]byte{nil, []byte("x"), []byte("Hello"), bytes.Repeat([]byte(`{"event":"x"}`), 20), noise(125), noise(126), noise(65535), noise(65536),
		bytes.Repeat(noise(100), 2000), make([]byte, 1<<20), noise(1 << 20)} {
		got := AppendDeflated([]byte("before"), OpBinary, payload)
		again := AppendDeflated(nil, OpBinary, payload)
		if !bytes.Equal(got, append([]byte("before"), again...)) {
			t.Errorf("%d bytes: not the same bytes the second time", len(payload))
		}
		if again[0] != 0xc2 {
			t.Errorf("first byte %x", again[0])
		}
		header := 2
		switch again[1] {
		case 126:
			header = 4
		case 127:
			header = 10
		}
		if !bytes.Equal(inflated(t, again[header:]), payload) {
			t.Errorf("%d bytes: the standard library reads something else", len(payload))
		}
		// The limit is for the message, not for what deflate makes of it.
		cfg := &Config{MaxMessage: len(payload), Client: true, Deflate: true}
		want := outcome{[]string{fmt.Sprintf("message binary %q", payload)}, nil, true}
		if got := feed(t, cfg, 0, again); !equal(got, want) {
			t.Errorf("%d bytes: %d events, error %v", len(payload), len(got.events), got.err)
		}
		if got := feed(t, cfg, 0, again[:len(again)/2], again[len(again)/2:]); !equal(got, want) {
			t.Errorf("%d bytes in two parts: %d events, error %v", len(payload), len(got.events), got.err)
		}
		if cfg.MaxMessage--; cfg.MaxMessage >= 0 {
			if got := feed(t, cfg, 0, again); got.err == nil || got.err.(*CloseError).Code != 1009 {
				t.Errorf("%d bytes, limit one less: error %v", len(payload), got.err)
			}
		}
	}
}

// A bomb costs what the limit allows, not what it would become.
func TestBombStopsEarly(t *testing.T) {
	bomb := frame(fin|rsv1|2, deflated(strings.Repeat("\x00", 64<<20)))
	cfg := &Config{MaxMessage: 1 << 20, Deflate: true}
	var r Reader
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Feed(cfg, bomb, &discard{})
	runtime.ReadMemStats(&after)
	if err == nil || err.(*CloseError).Code != 1009 {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes allocated for a limit of 1 MiB", n)
	}
}

func BenchmarkDeflate(b *testing.B) {
	payload := []byte(`{"event":"OrderShipped","channel":"private-orders.12345","data":"{\"orderId\":\"12345\",\"carrier\":\"DHL\",\"trackingNumber\":\"JD014600003SE\",\"items\":[{\"sku\":\"A-1\",\"count\":2},{\"sku\":\"B-7\",\"count\":1}],\"note\":\"Leave it with the neighbour if nobody answers the door, thank you very much\"}"}`)
	for _, n := range []int{1, 10} {
		p := bytes.Repeat(payload, n)
		b.Run(fmt.Sprintf("append%d", len(p)), func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				dst = AppendDeflated(dst[:0], OpText, p)
			}
			b.ReportMetric(float64(len(dst)), "wire-bytes")
		})
		b.Run(fmt.Sprintf("feed%d", len(p)), func(b *testing.B) {
			stream := AppendDeflated(nil, OpText, p)
			cfg := &Config{MaxMessage: 1 << 20, Client: true, Deflate: true}
			var r Reader
			h := &discard{}
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := r.Feed(cfg, stream, h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
