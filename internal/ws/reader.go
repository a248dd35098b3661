// Package ws is RFC 6455 (the WebSocket protocol) and RFC 7692 (permessage-deflate, without context takeover) as functions
// over bytes. It does no I/O and starts no goroutine: the owner of a connection feeds what it read and writes what is appended.
package ws

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// Op is a frame's opcode, RFC 6455 section 5.2.
type Op byte

// The opcodes that exist; every other one is refused.
const (
	OpContinuation Op = 0
	OpText         Op = 1
	OpBinary       Op = 2
	OpClose        Op = 8
	OpPing         Op = 9
	OpPong         Op = 10
)

func (o Op) String() string {
	switch o {
	case OpContinuation:
		return "continuation"
	case OpText:
		return "text"
	case OpBinary:
		return "binary"
	case OpClose:
		return "close"
	case OpPing:
		return "ping"
	case OpPong:
		return "pong"
	}
	return fmt.Sprintf("opcode %d", byte(o))
}

func (o Op) control() bool { return o&8 != 0 }

// maxControl is the longest payload of a control frame, RFC 6455 section 5.5.
const maxControl = 125

// Config is shared by many Readers and never changes.
type Config struct {
	// MaxMessage is the most bytes of one message, after reassembly and decompression. A longer one is CloseError 1009.
	// Zero is no default: it lets only empty messages through.
	MaxMessage int
	// Client says that this end is the client: the peer's frames must be unmasked. Otherwise they must be masked.
	Client bool
	// Deflate says that permessage-deflate was negotiated, without context takeover in both directions.
	Deflate bool
}

// Handler gets what a Reader read. A payload is valid only during the call, and the callee may overwrite it. It must not
// feed the Reader that calls it. Returning false stops Feed after this frame.
type Handler interface {
	// Message gets one complete text or binary message.
	Message(op Op, payload []byte) bool
	// Control gets one ping, pong or close, also between the fragments of a message. The payload of a close is for
	// ParseClose; Feed goes on after a close unless Control returns false.
	Control(op Op, payload []byte) bool
}

// Reader keeps what is left of a connection's input between reads: a partial frame, a fragmented message. The zero value is
// ready. One goroutine at a time.
type Reader struct {
	buf     []byte   // unmasked payload of the message so far; behind it, that of a control frame not yet complete
	left    int      // payload bytes the current frame still lacks
	key     uint32   // masking key, rotated so that its low byte is for the next byte
	head    [14]byte // a header not yet complete
	nhead   uint8
	op      Op    // of the current frame
	msg     Op    // of the current message; OpContinuation when there is none
	control uint8 // payload size of the current frame if it is a control frame
	runes   uint8 // how many bytes at the end of the message begin a UTF-8 sequence that is not yet complete
	inFrame bool
	fin     bool
	deflate bool // the current message is compressed
}

// Idle reports that nothing is kept: the owner may drop the Reader and use a fresh zero one for the next bytes.
func (r *Reader) Idle() bool { return r.nhead == 0 && !r.inFrame && r.msg == OpContinuation }

// Buffered is how many bytes of memory the Reader holds besides itself, for accounting.
func (r *Reader) Buffered() int { return cap(r.buf) }

// Feed consumes data, which it unmasks in place. A message or control frame that lies complete in data is handed over without
// copying; of a partial one the bytes are kept, in memory that grows as they arrive.
//
// n is how much was taken: less than len(data) only if h stopped it, then the rest is untouched and may be fed later, or with
// an error. An error is always a *CloseError to fail the connection with; what the Reader kept is gone and the bytes after it
// mean nothing. Messages and control frames complete before the violation were delivered.
//
// Invalid UTF-8 in a text message fails at the byte that makes it so, without waiting for the end of the frame. A compressed
// message is inflated and looked at when its last frame is complete.
func (r *Reader) Feed(cfg *Config, data []byte, h Handler) (n int, err error) {
	for n < len(data) {
		if r.inFrame {
			k := min(r.left, len(data)-n)
			n += k
			more, err := r.take(cfg, data[n-k:n], h)
			if err != nil {
				*r = Reader{}
				return n, err
			}
			if !more {
				return n, nil
			}
			continue
		}

		var f header
		var size int
		if r.nhead == 0 {
			size, err = r.parse(cfg, data[n:], &f)
			if size == 0 && err == nil {
				r.nhead = uint8(copy(r.head[:], data[n:]))
				return len(data), nil
			}
		} else {
			k := copy(r.head[r.nhead:], data[n:])
			size, err = r.parse(cfg, r.head[:int(r.nhead)+k], &f)
			if size == 0 && err == nil {
				r.nhead += uint8(k)
				return len(data), nil
			}
			size -= int(r.nhead)
			r.nhead = 0
		}
		if err != nil {
			*r = Reader{}
			return n, err
		}
		n += size

		if len(data)-n < f.size || !f.fin || f.op == OpContinuation {
			r.begin(&f)
			k := min(r.left, len(data)-n)
			n += k
			more, err := r.take(cfg, data[n-k:n], h)
			if err != nil {
				*r = Reader{}
				return n, err
			}
			if !more {
				return n, nil
			}
			continue
		}

		p := data[n : n+f.size : n+f.size]
		n += f.size
		ascii := false
		if !cfg.Client {
			_, ascii = unmask(p, f.key)
		}
		more := false
		switch {
		case f.op.control():
			more = h.Control(f.op, p)
		case f.rsv1:
			if more, err = inflate(cfg, f.op, p, h); err != nil {
				*r = Reader{}
				return n, err
			}
		case f.op == OpText && !ascii && !utf8.Valid(p):
			*r = Reader{}
			return n, errUTF8()
		default:
			more = h.Message(f.op, p)
		}
		if !more {
			return n, nil
		}
	}
	return n, nil
}

type header struct {
	op   Op
	fin  bool
	rsv1 bool
	key  uint32
	size int
}

// parse reads the frame header at the start of b, RFC 6455 section 5.2, and returns its length, or 0 if b ends before it does.
// It complains at the first byte that cannot be right, so the answer never depends on how the input was cut.
func (r *Reader) parse(cfg *Config, b []byte, f *header) (int, error) {
	f.fin, f.rsv1, f.op = b[0]&0x80 != 0, b[0]&0x40 != 0, Op(b[0]&0x0f)
	switch f.op {
	case OpContinuation:
		if r.msg == OpContinuation {
			return 0, protocolError("continuation frame without a message to continue")
		}
	case OpText, OpBinary:
		if r.msg != OpContinuation {
			return 0, protocolError("new " + f.op.String() + " message inside a fragmented one")
		}
	case OpClose, OpPing, OpPong:
		if !f.fin {
			return 0, protocolError("fragmented " + f.op.String() + " frame")
		}
	default:
		return 0, protocolError("reserved " + f.op.String())
	}
	if b[0]&0x30 != 0 {
		return 0, protocolError("RSV2 or RSV3 set without an extension that defines it")
	}
	if f.rsv1 {
		if !cfg.Deflate {
			return 0, protocolError("RSV1 set, but permessage-deflate was not negotiated")
		}
		if f.op != OpText && f.op != OpBinary {
			return 0, protocolError("RSV1 set on a " + f.op.String() + " frame")
		}
	}
	if len(b) < 2 {
		return 0, nil
	}
	if masked := b[1]&0x80 != 0; masked == cfg.Client {
		if masked {
			return 0, protocolError("masked frame from the server")
		}
		return 0, protocolError("unmasked frame from the client")
	}
	n, size := 2, uint64(b[1]&0x7f)
	if f.op.control() && size > maxControl {
		return 0, protocolError(f.op.String() + " frame longer than 125 bytes")
	}
	switch size {
	case 126:
		if n += 2; len(b) < n {
			return 0, nil
		}
		if size = uint64(binary.BigEndian.Uint16(b[2:])); size < 126 {
			return 0, protocolError("length not in its shortest form")
		}
	case 127:
		if len(b) > 2 && b[2]&0x80 != 0 {
			return 0, protocolError("length with the most significant bit set")
		}
		if n += 8; len(b) < n {
			return 0, nil
		}
		if size = binary.BigEndian.Uint64(b[2:]); size <= 0xffff {
			return 0, protocolError("length not in its shortest form")
		}
	}
	if !f.op.control() {
		limit := cfg.MaxMessage
		if f.rsv1 || f.op == OpContinuation && r.deflate {
			// Deflate stores what it cannot shrink, which costs some bytes a block.
			limit = max(limit, limit+limit/32+64)
		}
		if size > uint64(max(limit-len(r.buf), 0)) {
			return 0, tooBig(cfg)
		}
	}
	f.size = int(size)
	if cfg.Client {
		return n, nil
	}
	if len(b) < n+4 {
		return 0, nil
	}
	f.key = binary.LittleEndian.Uint32(b[n:])
	return n + 4, nil
}

// begin makes f the current frame.
func (r *Reader) begin(f *header) {
	r.inFrame, r.op, r.fin, r.key, r.left = true, f.op, f.fin, f.key, f.size
	switch {
	case f.op.control():
		r.control = uint8(f.size)
	case f.op != OpContinuation:
		r.msg, r.deflate, r.runes = f.op, f.rsv1, 0
	}
}

// take adds p, no longer than what is left, to the current frame, and delivers what that completes.
func (r *Reader) take(cfg *Config, p []byte, h Handler) (more bool, err error) {
	if need := len(r.buf) + len(p); need > cap(r.buf) {
		// Twice what was kept, but not more than the frame lacks: a length that was only announced allocates nothing.
		grown := make([]byte, len(r.buf), max(need, min(max(2*cap(r.buf), 64), len(r.buf)+r.left)))
		copy(grown, r.buf)
		r.buf = grown
	}
	at := len(r.buf)
	r.buf = append(r.buf, p...)
	r.left -= len(p)
	ascii := false
	if !cfg.Client {
		r.key, ascii = unmask(r.buf[at:], r.key)
	}

	if r.op.control() {
		if r.left > 0 {
			return true, nil
		}
		end := len(r.buf) - int(r.control)
		payload := r.buf[end:]
		r.buf = r.buf[:end]
		if end == 0 {
			r.buf = nil
		}
		r.inFrame = false
		return h.Control(r.op, payload), nil
	}

	if r.msg == OpText && !r.deflate && !(ascii && r.runes == 0) {
		tail, ok := validPrefix(r.buf[at-int(r.runes):])
		if !ok {
			return false, errUTF8()
		}
		r.runes = uint8(tail)
	}
	if r.left > 0 {
		return true, nil
	}
	r.inFrame = false
	if !r.fin {
		return true, nil
	}
	if r.runes != 0 {
		return false, errUTF8()
	}
	op, payload, deflated := r.msg, r.buf, r.deflate
	*r = Reader{}
	if deflated {
		return inflate(cfg, op, payload, h)
	}
	return h.Message(op, payload), nil
}

// validPrefix reports whether p can be the beginning of valid UTF-8, and how many bytes at its end begin a sequence that is
// not complete.
func validPrefix(p []byte) (tail int, ok bool) {
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				tail = len(p) - i
			}
			break
		}
	}
	return tail, utf8.Valid(p[:len(p)-tail])
}

// unmask removes the masking key, whose low byte is for p[0], RFC 6455 section 5.3. It returns the key for what comes after p,
// and whether p is now all ASCII: text that needs no second look.
func unmask(p []byte, key uint32) (next uint32, ascii bool) {
	next = bits.RotateLeft32(key, -8*(len(p)&3))
	k := uint64(key)<<32 | uint64(key)
	var seen uint64
	for len(p) >= 32 {
		q := p[:32:32]
		a := binary.LittleEndian.Uint64(q[0:]) ^ k
		b := binary.LittleEndian.Uint64(q[8:]) ^ k
		c := binary.LittleEndian.Uint64(q[16:]) ^ k
		d := binary.LittleEndian.Uint64(q[24:]) ^ k
		binary.LittleEndian.PutUint64(q[0:], a)
		binary.LittleEndian.PutUint64(q[8:], b)
		binary.LittleEndian.PutUint64(q[16:], c)
		binary.LittleEndian.PutUint64(q[24:], d)
		seen |= a | b | c | d
		p = p[32:]
	}
	for len(p) >= 8 {
		a := binary.LittleEndian.Uint64(p) ^ k
		binary.LittleEndian.PutUint64(p, a)
		seen |= a
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(k)
		seen |= uint64(p[i])
		k >>= 8
	}
	return next, seen&0x8080808080808080 == 0
}
