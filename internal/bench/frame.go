package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// maxFrame is the longest frame a server may send here; it must fit the receive buffer.
const maxFrame = 128 << 10

// appendFrame appends payload as one masked frame (RFC 6455 section 5.3).
func appendFrame(dst []byte, opcode byte, payload []byte, key [4]byte) []byte {
	dst = append(dst, 0x80|opcode)
	switch n := len(payload); {
	case n <= 125:
		dst = append(dst, 0x80|byte(n))
	case n <= 0xffff:
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, key[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	b := dst[start:]
	k := binary.LittleEndian.Uint32(key[:])
	for k8 := uint64(k)<<32 | uint64(k); len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k8)
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
	return dst
}

// frame is one frame from the server. Its payload aliases the receive buffer.
type frame struct {
	opcode  byte
	final   bool
	payload []byte
}

// nextFrame cuts the first frame off b. It returns size 0 when b does not hold a whole frame yet.
func nextFrame(b []byte) (f frame, size int, err error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	head, n := 2, int(b[1])
	if n >= 126 {
		switch {
		case n >= 0x80:
			return frame{}, 0, errors.New("the server sent a masked frame")
		case n == 126:
			if len(b) < 4 {
				return frame{}, 0, nil
			}
			head, n = 4, int(b[2])<<8|int(b[3])
		default:
			if len(b) < 10 {
				return frame{}, 0, nil
			}
			long := binary.BigEndian.Uint64(b[2:])
			if long > maxFrame {
				return frame{}, 0, fmt.Errorf("the server sent a frame of %d bytes; more than %d are not expected", long, maxFrame)
			}
			head, n = 10, int(long)
		}
	}
	if b[0]&0x70 != 0 {
		return frame{}, 0, fmt.Errorf("the server sent a frame with reserved bits set (first byte %#x)", b[0])
	}
	if len(b) < head+n {
		return frame{}, 0, nil
	}
	return frame{b[0] & 0x0f, b[0]&0x80 != 0, b[head : head+n]}, head + n, nil
}
