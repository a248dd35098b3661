package ws

import (
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// maxPooled is the largest scratch buffer that goes back to a pool: one huge message must not pin its memory.
const maxPooled = 64 << 10

type deflater struct {
	w   *flate.Writer
	out []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(d, deflateLevel) // fails only for a level that does not exist
	return d
}}

// deflateLevel: a frame is compressed once for all its receivers, so some more work than the fastest is well spent.
const deflateLevel = 3

// AppendDeflated appends a server's frame with payload compressed, RFC 7692 section 7.2.1. It starts from an empty window, so
// the same bytes serve every connection that negotiated permessage-deflate without context takeover. It always compresses;
// whether a short payload is worth it is the caller's choice.
func AppendDeflated(dst []byte, op Op, payload []byte) []byte {
	d := deflaters.Get().(*deflater)
	d.out = d.out[:0]
	d.w.Reset(d)
	// Write and Flush fail only if the writer below does, and that one only appends.
	d.w.Write(payload)
	d.w.Flush()
	out := d.out[:len(d.out)-4] // a flush ends in 00 00 ff ff, which is not sent
	dst = append(AppendHeader(dst, op, true, len(out)), out...)
	if cap(d.out) > maxPooled {
		d.out = nil
	}
	deflaters.Put(d)
	return dst
}

// inflateTail is what the sender left out (00 00 ff ff, RFC 7692 section 7.2.2), then an empty final block, so that the
// decompressor ends there.
const inflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// maxFinal is how many blocks with the final bit a message may have. They are allowed (RFC 7692 section 7.2.1), but each costs
// a new start with a window of 32 KiB, and only two bytes to send.
const maxFinal = 64

const window = 32 << 10

type inflater struct {
	r    io.ReadCloser // also a flate.Resetter
	in   []byte        // payload not yet read
	tail string        // of inflateTail not yet read
	out  []byte
}

// Read and ReadByte are the decompressor's input. It reads no byte more than it needs from an io.ByteReader, so after a final
// block the position is exact.
func (f *inflater) Read(p []byte) (int, error) {
	n := copy(p, f.in)
	f.in = f.in[n:]
	m := copy(p[n:], f.tail)
	f.tail = f.tail[m:]
	if n+m == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n + m, nil
}

func (f *inflater) ReadByte() (byte, error) {
	if len(f.in) > 0 {
		b := f.in[0]
		f.in = f.in[1:]
		return b, nil
	}
	if len(f.tail) > 0 {
		b := f.tail[0]
		f.tail = f.tail[1:]
		return b, nil
	}
	return 0, io.EOF
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.r = flate.NewReader(f)
	return f
}}

// inflate decompresses one message, no further than the limit or the first byte that is not UTF-8 in a text, and delivers it.
func inflate(cfg *Config, op Op, payload []byte, h Handler) (more bool, err error) {
	f := inflaters.Get().(*inflater)
	if err = f.inflate(cfg, op, payload); err == nil {
		more = h.Message(op, f.out)
	}
	f.in = nil
	if cap(f.out) > maxPooled {
		f.out = nil
	}
	inflaters.Put(f)
	return more, err
}

func (f *inflater) inflate(cfg *Config, op Op, payload []byte) error {
	limit := max(cfg.MaxMessage, 0)
	f.out = f.out[:0]
	if len(payload) == 0 {
		return nil // not even the header of an empty block; zlib's inflate finds nothing wrong in it
	}
	f.in, f.tail = payload, inflateTail
	f.reset(nil)
	runes := 0 // see Reader.runes
	for finals := 0; ; {
		if len(f.out) == cap(f.out) {
			// One byte over the limit has to fit, to see that there is one.
			grown := make([]byte, len(f.out), min(max(2*cap(f.out), 1024), max(limit, limit+1)))
			copy(grown, f.out)
			f.out = grown
		}
		at := len(f.out)
		n, err := f.r.Read(f.out[at:cap(f.out)])
		f.out = f.out[:at+n]
		if op == OpText && n > 0 {
			var ok bool
			if runes, ok = validPrefix(f.out[at-runes:]); !ok {
				return errUTF8()
			}
		}
		if len(f.out) > limit {
			return tooBig(cfg)
		}
		switch {
		case err == nil:
		case err != io.EOF:
			return &CloseError{1007, "compressed message is not valid DEFLATE data"}
		case len(f.in) == 0: // what remains can only be of the tail
			if runes != 0 {
				return errUTF8()
			}
			return nil
		default:
			if finals++; finals > maxFinal {
				return &CloseError{1002, "compressed message with too many final blocks"}
			}
			f.reset(f.out[max(0, len(f.out)-window):])
		}
	}
}

func (f *inflater) reset(dict []byte) {
	f.r.(flate.Resetter).Reset(f, dict) // always nil: it sets fields
}
