package ws

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CloseError is why a connection ends: a violation this end found, or the close frame of the peer. Code is a status code of
// RFC 6455 section 7.4; Reason fits a close frame (at most 123 bytes of UTF-8).
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket closed with %d", e.Code)
	}
	return fmt.Sprintf("websocket closed with %d: %s", e.Code, e.Reason)
}

func protocolError(reason string) error { return &CloseError{1002, reason} }

func errUTF8() error { return &CloseError{1007, "text is not valid UTF-8"} }

func tooBig(cfg *Config) error {
	return &CloseError{1009, fmt.Sprintf("message longer than the limit of %d bytes", cfg.MaxMessage)}
}

// maxReason is the longest reason of a close frame: a control frame's payload without the code.
const maxReason = maxControl - 2

// AppendClose appends a server's close frame to dst, RFC 6455 section 5.5.1. The reason is made valid UTF-8 and cut to 123
// bytes, between runes. Code 0, or 1005 ("no status received"), makes a frame without code and reason.
func AppendClose(dst []byte, code int, reason string) []byte {
	if code == 0 || code == 1005 {
		return AppendHeader(dst, OpClose, false, 0)
	}
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) > maxReason {
		n := maxReason
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	dst = AppendHeader(dst, OpClose, false, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// ParseClose reads the payload of a close frame. An empty one is code 1005. A payload that breaks RFC 6455 (one byte, a code
// that must not be sent, a reason that is not UTF-8) is a *CloseError with the code to answer, 1002 or 1007.
func ParseClose(payload []byte) (code int, reason string, err error) {
	switch len(payload) {
	case 0:
		return 1005, "", nil
	case 1:
		return 0, "", protocolError("close frame with half a status code")
	}
	code = int(binary.BigEndian.Uint16(payload))
	if !sendable(code) {
		return 0, "", protocolError(fmt.Sprintf("close frame with status code %d", code))
	}
	if !utf8.Valid(payload[2:]) {
		return 0, "", &CloseError{1007, "reason of the close frame is not valid UTF-8"}
	}
	return code, string(payload[2:]), nil
}

// sendable reports whether code may stand in a close frame: RFC 6455 section 7.4 and the IANA registry, which has since
// given out 1012 to 1014.
func sendable(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}
