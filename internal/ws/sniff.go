package ws

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"sync"
)

// Sniff is what SniffRequest thinks of the first bytes of a connection.
type Sniff int

// The answers of SniffRequest.
const (
	NeedMore Sniff = iota // may still become a WebSocket handshake
	Ours                  // a complete WebSocket handshake
	NotOurs               // something else, for net/http
)

// maxRequest is the longest handshake request SniffRequest takes, in bytes, with the empty line.
const maxRequest = 8 << 10

// SniffRequest looks at the first bytes of a connection. Only a strict, complete opening handshake is Ours: GET, an absolute
// path, HTTP/1.1, CRLF line ends, exactly one Host, no body, no folded or invalid header, all within 8 KiB, and fine by
// CheckUpgrade. Anything else is NotOurs and should go untouched to net/http, which knows how to answer it.
//
// When Ours, r is what http.ReadRequest makes of it and n bytes of buf are the request; the bytes after it are frames. r keeps
// nothing of buf. r.Body is empty and r.RemoteAddr not set.
func SniffRequest(buf []byte) (s Sniff, r *http.Request, n int) {
	rest := buf[:min(len(buf), maxRequest)]
	if get := "GET /"; len(rest) < len(get) {
		if strings.HasPrefix(get, string(rest)) {
			return NeedMore, nil, 0
		}
		return NotOurs, nil, 0
	} else if string(rest[:len(get)]) != get {
		return NotOurs, nil, 0
	}
	hosts, lengths := 0, 0
	for first := true; ; first = false {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			if len(buf) >= maxRequest || !partialLine(rest) {
				return NotOurs, nil, 0
			}
			return NeedMore, nil, 0
		}
		rest = after
		if !bytes.HasSuffix(line, []byte("\r")) {
			return NotOurs, nil, 0
		}
		line = line[:len(line)-1]
		if first {
			if !requestLine(line) {
				return NotOurs, nil, 0
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := headerLine(line)
		if !ok {
			return NotOurs, nil, 0
		}
		switch {
		case strings.EqualFold(string(name), "Host"):
			if hosts++; hosts > 1 || !validHost(value) {
				return NotOurs, nil, 0
			}
		case strings.EqualFold(string(name), "Content-Length"):
			if lengths++; lengths > 1 || string(value) != "0" {
				return NotOurs, nil, 0
			}
		case strings.EqualFold(string(name), "Transfer-Encoding"), strings.EqualFold(string(name), "Trailer"), strings.EqualFold(string(name), "Expect"):
			return NotOurs, nil, 0
		}
	}
	if hosts == 0 {
		return NotOurs, nil, 0
	}
	n = min(len(buf), maxRequest) - len(rest)
	br := requestReaders.Get().(*bufio.Reader)
	src := bytes.NewReader(buf[:n])
	br.Reset(src)
	r, err := http.ReadRequest(br)
	left := br.Buffered() + src.Len()
	br.Reset(nil)
	requestReaders.Put(br)
	if err != nil || left != 0 || CheckUpgrade(r) != nil {
		return NotOurs, nil, 0
	}
	return Ours, r, n
}

var requestReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1024) }}

// requestLine reports whether line is "GET /target HTTP/1.1", RFC 9112 section 3; that it begins with "GET /" is known.
func requestLine(line []byte) bool {
	target, ok := bytes.CutSuffix(line[len("GET "):], []byte(" HTTP/1.1"))
	if !ok {
		return false
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// partialLine reports whether line may become one by more bytes: it has no byte that none has, and a CR only at the end.
func partialLine(line []byte) bool {
	return validValue(bytes.TrimSuffix(line, []byte("\r")))
}

func validValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// headerLine splits a header line, RFC 9112 section 5. A folded line, or white space before the colon, fails as a name.
func headerLine(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 || !validValue(line) {
		return nil, nil, false
	}
	for _, c := range line[:i] {
		if !isAlnum(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return nil, nil, false
		}
	}
	return line[:i], bytes.Trim(line[i+1:], " \t"), true
}

// validHost accepts the characters that net/http's server accepts in a Host header. An empty Host is left to that server.
func validHost(host []byte) bool {
	for _, c := range host {
		if !isAlnum(c) && strings.IndexByte("!$%&'()*+,-.:;=[]_~", c) < 0 {
			return false
		}
	}
	return len(host) > 0
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
