package ws

import (
	"encoding/binary"
	"fmt"
)

// HeaderRoom is the length of the longest header a server sends.
const HeaderRoom = 10

// AppendHeader appends the header of an unmasked, final frame of n payload bytes. rsv1 marks a compressed message.
func AppendHeader(dst []byte, op Op, rsv1 bool, n int) []byte {
	b0 := 0x80 | byte(op)
	if rsv1 {
		b0 |= 0x40
	}
	return appendHeader(dst, b0, 0, n)
}

func appendHeader(dst []byte, b0, mask byte, n int) []byte {
	switch {
	case n <= 125:
		return append(dst, b0, mask|byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, b0, mask|126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, b0, mask|127), uint64(n))
	}
}

// AppendFrame appends a server's frame: unmasked, final. The caller keeps the payload of a control frame within 125 bytes.
func AppendFrame(dst []byte, op Op, payload []byte) []byte {
	return append(AppendHeader(dst, op, false, len(payload)), payload...)
}

// AppendMasked appends a client's frame: masked with key, final. payload is not changed. The caller keeps the payload of a
// control frame within 125 bytes, and takes key from a source the application behind it cannot predict (RFC 6455 section 10.3).
func AppendMasked(dst []byte, op Op, payload []byte, key [4]byte) []byte {
	dst = appendHeader(dst, 0x80|byte(op), 0x80, len(payload))
	dst = append(dst, key[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	unmask(dst[at:], binary.LittleEndian.Uint32(key[:]))
	return dst
}

// AppendText appends a text frame whose payload payload appends. guess is about how long that will be: the header's
// length depends on it, and a wrong guess costs a move.
func AppendText(dst []byte, guess int, payload func([]byte) []byte) []byte {
	start := len(dst)
	var room [HeaderRoom]byte
	dst = append(dst, room[:headerLen(guess)]...)
	from := len(dst)
	dst = payload(dst)
	n := len(dst) - from
	if want := headerLen(n); want != from-start {
		dst = append(dst, room[:max(0, want-(from-start))]...)
		copy(dst[start+want:], dst[from:from+n])
		dst = dst[:start+want+n]
	}
	AppendHeader(dst[:start], OpText, false, n)
	return dst
}

func headerLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	}
	return 10
}

// CutFrame takes the first frame off b, which holds whole frames as AppendFrame writes them: unmasked, final, not
// compressed. It is for who finds frames queued for a WebSocket and has to send their payloads another way. payload and
// rest are pieces of b.
func CutFrame(b []byte) (op Op, payload, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, fmt.Errorf("%d bytes are no frame", len(b))
	}
	if b[0]&0xf0 != 0x80 || b[1]&0x80 != 0 {
		return 0, nil, nil, fmt.Errorf("a frame that begins with %#x is not one of a server's, whole and uncompressed", b[:2])
	}
	head, size := 2, uint64(b[1])
	switch size {
	case 126:
		if head = 4; len(b) >= head {
			size = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if head = 10; len(b) >= head {
			size = binary.BigEndian.Uint64(b[2:])
		}
	}
	if len(b) < head || uint64(len(b)-head) < size {
		return 0, nil, nil, fmt.Errorf("a frame of %d bytes payload is cut off after %d bytes", size, len(b))
	}
	end := head + int(size)
	return Op(b[0] & 0x0f), b[head:end:end], b[end:], nil
}
