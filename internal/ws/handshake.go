package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// AcceptKey is the Sec-WebSocket-Accept for a Sec-WebSocket-Key, RFC 6455 section 4.2.2.
func AcceptKey(key string) string { return string(appendAcceptKey(nil, key)) }

func appendAcceptKey(dst []byte, key string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// UpgradeError is why a request is not a WebSocket opening handshake. Answer with Status; with 426 also send
// "Upgrade: websocket", "Connection: Upgrade" and "Sec-WebSocket-Version: 13".
type UpgradeError struct {
	Status int
	Reason string
}

// CheckUpgrade says why r is not a valid opening handshake (RFC 6455 section 4.2.1): 505 for HTTP/2 and later, 405 for another
// method than GET, 426 for a request that does not ask to upgrade or asks for another version (section 4.4), 400 for everything
// else. nil when it is fine. It reads only the request line and headers; origin and subprotocol are for the caller.
func CheckUpgrade(r *http.Request) *UpgradeError {
	if r.ProtoMajor > 1 {
		// Before anything that would be answered with 426, whose Upgrade header must not be sent there (RFC 9113 section 8.2.2).
		return &UpgradeError{http.StatusHTTPVersionNotSupported, "this address speaks WebSocket over HTTP/1.1 only, this is " + r.Proto +
			": connect with HTTP/1.1, in ALPN http/1.1"}
	}
	if r.Method != http.MethodGet {
		return &UpgradeError{http.StatusMethodNotAllowed, "a WebSocket handshake is a GET request, this is a " + r.Method}
	}
	if !hasToken(r.Header["Upgrade"], "websocket") {
		return &UpgradeError{http.StatusUpgradeRequired, "this address speaks WebSocket: send Upgrade: websocket; a proxy may have removed it"}
	}
	if !hasToken(r.Header["Connection"], "upgrade") {
		return &UpgradeError{http.StatusUpgradeRequired, "the header Connection does not contain Upgrade; a proxy may have removed it"}
	}
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		return &UpgradeError{http.StatusBadRequest, "a WebSocket handshake needs HTTP/1.1, this is " + r.Proto}
	}
	if r.Host == "" {
		return &UpgradeError{http.StatusBadRequest, "the header Host is missing"}
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		// What follows the headers has to be frames.
		return &UpgradeError{http.StatusBadRequest, "a WebSocket handshake has no body"}
	}
	if v := r.Header["Sec-Websocket-Version"]; len(v) != 1 || v[0] != "13" {
		return &UpgradeError{http.StatusUpgradeRequired, "Sec-WebSocket-Version is " + strconv.Quote(strings.Join(v, ", ")) + ", only 13 is spoken here"}
	}
	v := r.Header["Sec-Websocket-Key"]
	if len(v) != 1 {
		return &UpgradeError{http.StatusBadRequest, "the header Sec-WebSocket-Key has to stand exactly once"}
	}
	var raw [18]byte // what 24 characters of base64 hold at most
	if len(v[0]) != 24 {
		return &UpgradeError{http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64"}
	}
	if n, err := base64.StdEncoding.Decode(raw[:], []byte(v[0])); err != nil || n != 16 {
		return &UpgradeError{http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64"}
	}
	return nil
}

// hasToken reports whether one of the comma-separated lists contains token, in any case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(trim(t), token) {
				return true
			}
		}
	}
	return false
}

// trim removes optional white space as HTTP defines it.
func trim(s string) string { return strings.Trim(s, " \t") }

// NegotiateDeflate reports whether the client's Sec-WebSocket-Extensions contain an offer of permessage-deflate that
// AppendResponse can accept: every parameter known, well-formed and given once (RFC 7692 section 7.1), and no
// server_max_window_bits below 15, since compressed bytes are shared by connections.
func NegotiateDeflate(h http.Header) bool {
	for _, list := range h["Sec-Websocket-Extensions"] {
		for offer := range strings.SplitSeq(list, ",") {
			if acceptable(offer) {
				return true
			}
		}
	}
	return false
}

func acceptable(offer string) bool {
	name, params, more := strings.Cut(offer, ";")
	if !strings.EqualFold(trim(name), "permessage-deflate") {
		return false
	}
	var seen []string
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		name, value, hasValue := strings.Cut(param, "=")
		name, value = strings.ToLower(trim(name)), trim(value)
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		for _, s := range seen {
			if s == name {
				return false
			}
		}
		seen = append(seen, name)
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if hasValue {
				return false
			}
		case "client_max_window_bits": // a hint, with or without a value; our window is 15 anyway
			if hasValue && !windowBits(value) {
				return false
			}
		case "server_max_window_bits":
			if value != "15" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// windowBits reports whether s is an integer from 8 to 15 without leading zeros, RFC 7692 section 7.1.2.
func windowBits(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 8 && n <= 15 && s == strconv.Itoa(n)
}

// Upgrade is what the answer to an opening handshake will say.
type Upgrade struct {
	Protocol string // the subprotocol chosen from the client's list; empty for none
	Deflate  bool   // permessage-deflate, if NegotiateDeflate allowed it
}

// AppendResponse appends the answer that accepts the handshake with this Sec-WebSocket-Key, RFC 6455 section 4.2.2.
func AppendResponse(dst []byte, key string, u Upgrade) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = appendAcceptKey(dst, key)
	if u.Protocol != "" {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, u.Protocol...)
	}
	if u.Deflate {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
	}
	return append(dst, "\r\n\r\n"...)
}
