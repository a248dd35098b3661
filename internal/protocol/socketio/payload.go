package socketio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// Bodies of polling requests. What a session has to send is always kept as the frames of a WebSocket: a text frame is an
// Engine.IO packet, a binary frame a blob. They become a body when a GET comes.

// separator stands between the packets of an Engine.IO 4 body.
const separator = 0x1e

// appendPayload appends frames as the body of an Engine.IO 4 response: packets joined by 0x1e, blobs as b<base64>.
func appendPayload(dst, frames []byte) ([]byte, error) {
	first := true
	err := eachFrame(frames, func(blob bool, p []byte) error {
		if !first {
			dst = append(dst, separator)
		}
		first = false
		if blob {
			dst = base64.StdEncoding.AppendEncode(append(dst, 'b'), p)
			return nil
		}
		if bytes.IndexByte(p, separator) >= 0 {
			return fmt.Errorf("packet %.50q holds the byte 0x1e, which separates packets", p)
		}
		dst = append(dst, p...)
		return nil
	})
	return dst, err
}

// appendPayload3 appends frames as the body of an Engine.IO 3 response. That is text, <length>:<packet>… with lengths in
// UTF-16 units, and blobs as b<type><base64>; or, when there are blobs and base64 is false, the binary form. There a
// blob begins with its type, the byte 4, as it does in the binary frames of that protocol.
func appendPayload3(dst, frames []byte, base64 bool) (body []byte, binary bool, err error) {
	if !base64 {
		err = eachFrame(frames, func(blob bool, _ []byte) error {
			binary = binary || blob
			return nil
		})
		if err != nil {
			return dst, false, err
		}
	}
	err = eachFrame(frames, func(blob bool, p []byte) error {
		if blob && (len(p) == 0 || p[0] > 6) {
			return fmt.Errorf("blob %.50q does not begin with its type", p)
		}
		switch {
		case binary:
			dst = appendBinary3(dst, blob, p)
		case blob:
			dst = appendBase643(dst, p)
		default:
			dst = strconv.AppendInt(dst, int64(units(p)), 10)
			dst = append(dst, ':')
			dst = append(dst, p...)
		}
		return nil
	})
	return dst, binary, err
}

// appendBinary3 appends a packet of the binary form: 0 for text or 1, the digits of the length as the bytes 0 to 9, 0xff.
func appendBinary3(dst []byte, blob bool, p []byte) []byte {
	if blob {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	at := len(dst)
	dst = strconv.AppendInt(dst, int64(len(p)), 10)
	for i := range dst[at:] {
		dst[at+i] -= '0'
	}
	dst = append(dst, 0xff)
	return append(dst, p...)
}

func appendBase643(dst, p []byte) []byte {
	dst = strconv.AppendInt(dst, int64(2+base64.StdEncoding.EncodedLen(len(p)-1)), 10)
	dst = append(dst, ':', 'b', '0'+p[0])
	return base64.StdEncoding.AppendEncode(dst, p[1:])
}

// units is how long p is for JavaScript.
func units(p []byte) int {
	n := 0
	for _, c := range p {
		if c&0xc0 != 0x80 {
			n++ // the first byte of a rune
		}
		if c >= 0xf0 {
			n++ // of one that is two units
		}
	}
	return n
}

func eachFrame(frames []byte, each func(blob bool, payload []byte) error) error {
	for len(frames) > 0 {
		op, p, rest, err := ws.CutFrame(frames)
		if err != nil {
			return err
		}
		if op != ws.OpText && op != ws.OpBinary {
			return fmt.Errorf("a %s frame cannot be sent by polling", op)
		}
		if err := each(op == ws.OpBinary, p); err != nil {
			return err
		}
		frames = rest
	}
	return nil
}

// splitPayload takes the body of an Engine.IO 4 request apart and calls each with its packets, blobs decoded, until that
// returns an error. data of text is a piece of body, must not be changed, and may be kept.
func splitPayload(body string, each func(binary bool, data []byte) error) error {
	if !utf8.ValidString(body) {
		return errors.New("the body is not valid UTF-8")
	}
	for more := true; more; {
		blob, p, rest, another, err := cutPayload(body)
		if err != nil {
			return err
		}
		if err := each(blob, p); err != nil {
			return err
		}
		body, more = rest, another
	}
	return nil
}

// cutPayload is the first packet of a body, and what stands behind it, if more does.
func cutPayload(body string) (blob bool, data []byte, rest string, more bool, err error) {
	p, rest, more := strings.Cut(body, "\x1e")
	switch {
	case p == "":
		return false, nil, "", false, errors.New("an empty packet")
	case p[0] != 'b':
		// Not a copy: what stands in a body is read once, or kept by those who know how much of it they keep.
		return false, unsafe.Slice(unsafe.StringData(p), len(p)), rest, more, nil
	}
	if data, err = base64.StdEncoding.DecodeString(p[1:]); err != nil {
		return false, nil, "", false, fmt.Errorf("a blob is not base64: %w", err)
	}
	return true, data, rest, more, nil
}

// splitPayload3 takes the body of an Engine.IO 3 request apart as splitPayload does; binary says that it came as
// application/octet-stream. Blobs begin with their type as a byte, as in the binary frames of that protocol. data is a
// piece of body where it was not base64.
func splitPayload3(body []byte, binary bool, each func(binary bool, data []byte) error) error {
	if len(body) == 0 {
		return errors.New("an empty body")
	}
	for len(body) > 0 {
		blob, p, rest, err := cutPayload3(body, binary)
		if err != nil {
			return err
		}
		if err := each(blob, p); err != nil {
			return err
		}
		body = rest
	}
	return nil
}

// cutPayload3 is the first packet of a body, and what stands behind it.
func cutPayload3(body []byte, binary bool) (blob bool, p, rest []byte, err error) {
	if binary {
		return cutBinary3(body)
	}
	return cutText3(body)
}

func cutBinary3(body []byte) (blob bool, p, rest []byte, err error) {
	if body[0] > 1 {
		return false, nil, nil, fmt.Errorf("a packet begins with the byte %d, not with 0 (text) or 1 (binary)", body[0])
	}
	size, i := 0, 1
	for ; i < len(body) && body[i] <= 9; i++ {
		if size = size*10 + int(body[i]); size > len(body) {
			return false, nil, nil, errors.New("a packet is longer than the body")
		}
	}
	if i == len(body) || i == 1 || body[i] != 0xff {
		return false, nil, nil, errors.New("the length of a packet does not end with the byte 255")
	}
	if size > len(body)-i-1 {
		return false, nil, nil, errors.New("a packet is longer than the body")
	}
	if size == 0 {
		return false, nil, nil, errors.New("an empty packet")
	}
	end := i + 1 + size
	p = body[i+1 : end : end]
	if body[0] == 0 && !utf8.Valid(p) {
		return false, nil, nil, errors.New("a text packet is not valid UTF-8")
	}
	return body[0] == 1, p, body[end:], nil
}

func cutText3(body []byte) (blob bool, p, rest []byte, err error) {
	size, i := 0, 0
	for ; i < len(body) && body[i] >= '0' && body[i] <= '9'; i++ {
		if size = size*10 + int(body[i]-'0'); size > len(body) {
			return false, nil, nil, errors.New("a packet is longer than the body")
		}
	}
	if i == 0 || i == len(body) || body[i] != ':' {
		return false, nil, nil, errors.New("a packet does not begin with its length and a colon")
	}
	if size == 0 {
		return false, nil, nil, errors.New("an empty packet")
	}
	from := i + 1
	end := from
	for left := size; left > 0; {
		r, n := utf8.DecodeRune(body[end:])
		switch {
		case n == 0:
			return false, nil, nil, errors.New("a packet is longer than the body")
		case r == utf8.RuneError && n == 1:
			return false, nil, nil, errors.New("a text packet is not valid UTF-8")
		case n == utf8.UTFMax:
			left -= 2
		default:
			left--
		}
		if left < 0 {
			return false, nil, nil, errors.New("the length of a packet ends within a character")
		}
		end += n
	}
	p = body[from:end:end]
	if p[0] != 'b' {
		return false, p, body[end:], nil
	}
	if len(p) < 2 || p[1] < '0' || p[1] > '6' {
		return false, nil, nil, errors.New("a blob has no type")
	}
	b := make([]byte, 1+base64.StdEncoding.DecodedLen(len(p)-2))
	b[0] = p[1] - '0'
	n, err := base64.StdEncoding.Decode(b[1:], p[2:])
	if err != nil {
		return false, nil, nil, fmt.Errorf("a blob is not base64: %w", err)
	}
	return true, b[:1+n], body[end:], nil
}
