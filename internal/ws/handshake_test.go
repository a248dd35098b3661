package ws

import (
	"bufio"
	"bytes"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestAcceptKey(t *testing.T) { // RFC 6455 section 1.3
	if got := AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(got)
	}
}

func TestAppendResponse(t *testing.T) {
	const head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	const protocol = "Sec-WebSocket-Protocol: chat\r\n"
	const deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	for u, want := range map[Upgrade]string{
		{}:                                head + "\r\n",
		{Protocol: "chat"}:                head + protocol + "\r\n",
		{Deflate: true}:                   head + deflate + "\r\n",
		{Protocol: "chat", Deflate: true}: head + protocol + deflate + "\r\n",
	} {
		got := AppendResponse([]byte("before"), "dGhlIHNhbXBsZSBub25jZQ==", u)
		if string(got) != "before"+want {
			t.Errorf("%+v: %q", u, got)
		}
		if _, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(got[len("before"):])), nil); err != nil {
			t.Errorf("%+v: %v", u, err)
		}
	}
}

func opening() *http.Request {
	return &http.Request{Method: "GET", Host: "example.com", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: &url.URL{Path: "/chat"}, Header: http.Header{
		"Upgrade":               {"websocket"},
		"Connection":            {"Upgrade"},
		"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Sec-Websocket-Version": {"13"},
	}}
}

func TestCheckUpgrade(t *testing.T) {
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"as it is", func(*http.Request) {}, 0},
		{"lists and case", func(r *http.Request) {
			r.Header["Connection"] = []string{"keep-alive", "x,\tuPGRADE"}
			r.Header["Upgrade"] = []string{"h2c, WebSocket"}
		}, 0},
		{"HTTP/1.2", func(r *http.Request) { r.ProtoMinor = 2 }, 0},
		{"POST", func(r *http.Request) { r.Method = "POST" }, 405},
		{"HEAD", func(r *http.Request) { r.Method = "HEAD" }, 405},
		{"CONNECT", func(r *http.Request) { r.Method = "CONNECT" }, 405},
		{"HTTP/1.0", func(r *http.Request) { r.ProtoMinor = 0 }, 400},
		{"HTTP/2", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 }, 505},
		{"HTTP/2 without Upgrade", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0; r.Header.Del("Upgrade") }, 505},
		{"Extended CONNECT", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor, r.Method = 2, 0, "CONNECT" }, 505},
		{"no Host", func(r *http.Request) { r.Host = "" }, 400},
		{"body", func(r *http.Request) { r.ContentLength = 1 }, 400},
		{"chunked", func(r *http.Request) { r.ContentLength, r.TransferEncoding = -1, []string{"chunked"} }, 400},
		{"no Upgrade", set("Upgrade"), 426},
		{"Upgrade to h2c", set("Upgrade", "h2c"), 426},
		{"Upgrade to websocket2", set("Upgrade", "websocket2"), 426},
		{"no Connection", set("Connection"), 426},
		{"Connection close", set("Connection", "close"), 426},
		{"version 8", set("Sec-Websocket-Version", "8"), 426},
		{"no version", set("Sec-Websocket-Version"), 426},
		{"two versions", set("Sec-Websocket-Version", "13", "13"), 426},
		{"list of versions", set("Sec-Websocket-Version", "13, 8"), 426},
		{"no key", set("Sec-Websocket-Key"), 400},
		{"two keys", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="), 400},
		{"empty key", set("Sec-Websocket-Key", ""), 400},
		{"key of 15 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25j"), 400},
		{"key of 17 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZTE="), 400},
		{"key of 18 bytes", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZTEx"), 400},
		{"key with other characters", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25j-_=="), 400},
		{"key with a line end", set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25\n\nQ=="), 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := opening()
			tt.change(r)
			err := CheckUpgrade(r)
			if err == nil && tt.status != 0 || err != nil && (err.Status != tt.status || err.Reason == "") {
				t.Errorf("CheckUpgrade = %+v, want status %d", err, tt.status)
			}
		})
	}
}

func TestNegotiateDeflate(t *testing.T) {
	for _, tt := range []struct {
		offers []string
		want   bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"permessage-deflate"}, true},
		{[]string{"permessage-deflate; client_max_window_bits"}, true}, // Chrome, Firefox
		{[]string{" Permessage-Deflate ;Client_Max_Window_Bits = 15"}, true},
		{[]string{"permessage-deflate; client_max_window_bits=8; client_no_context_takeover; server_no_context_takeover"}, true},
		{[]string{`permessage-deflate; client_max_window_bits="10"`}, true},
		{[]string{"permessage-deflate; server_max_window_bits=15"}, true},
		{[]string{`permessage-deflate; server_max_window_bits="15"`}, true},
		{[]string{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"}, false},
		{[]string{"permessage-deflate; server_max_window_bits=12, permessage-deflate"}, true},
		{[]string{"permessage-deflate; server_max_window_bits=12", "x-webkit-deflate-frame", "permessage-deflate; client_max_window_bits"}, true},
		{[]string{"permessage-deflate; server_max_window_bits"}, false},
		{[]string{"permessage-deflate; server_max_window_bits="}, false},
		{[]string{"permessage-deflate; server_max_window_bits=16"}, false},
		{[]string{"permessage-deflate; server_max_window_bits=015"}, false},
		{[]string{"permessage-deflate; client_max_window_bits=7"}, false},
		{[]string{"permessage-deflate; client_max_window_bits=16"}, false},
		{[]string{"permessage-deflate; client_max_window_bits=010"}, false},
		{[]string{"permessage-deflate; client_max_window_bits=+10"}, false},
		{[]string{"permessage-deflate; client_max_window_bits="}, false},
		{[]string{"permessage-deflate; client_max_window_bits; client_max_window_bits"}, false},
		{[]string{"permessage-deflate; client_no_context_takeover; CLIENT_no_context_takeover"}, false},
		{[]string{"permessage-deflate; client_no_context_takeover=1"}, false},
		{[]string{"permessage-deflate; server_no_context_takeover=\"\""}, false},
		{[]string{"permessage-deflate; something"}, false},
		{[]string{"permessage-deflate;"}, false},
		{[]string{"permessage-deflate-2"}, false},
		{[]string{"permessage-bzip2; server_no_context_takeover"}, false},
	} {
		if got := NegotiateDeflate(http.Header{"Sec-Websocket-Extensions": tt.offers}); got != tt.want {
			t.Errorf("NegotiateDeflate(%q) = %v", tt.offers, got)
		}
	}
}

const handshake = "GET /app/key?protocol=7&v=%20 HTTP/1.1\r\n" +
	"Host: example.com:8080\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Origin: http://example.com\r\n" +
	"sec-websocket-version:13\r\n" +
	"Cookie: a=b; c=d\r\n" +
	"X-Empty:\r\n" +
	"X-Latin: \xe9\t\r\n" +
	"\r\n"

func TestSniffRequest(t *testing.T) {
	for i := range len(handshake) {
		if s, r, n := SniffRequest([]byte(handshake[:i])); s != NeedMore || r != nil || n != 0 {
			t.Fatalf("the first %d bytes: %d, %v, %d", i, s, r, n)
		}
	}
	for _, after := range []string{"", "\x81\x80\x00\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", maxRequest)} {
		buf := []byte(handshake + after)
		s, r, n := SniffRequest(buf)
		if s != Ours || n != len(handshake) {
			t.Fatalf("with %d bytes after it: %d, %d", len(after), s, n)
		}
		clear(buf) // r keeps nothing of it
		if r.Method != "GET" || r.RequestURI != "/app/key?protocol=7&v=%20" || r.URL.Path != "/app/key" || r.URL.Query().Get("v") != " " ||
			r.Host != "example.com:8080" || r.Proto != "HTTP/1.1" || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
			t.Errorf("request %+v", r)
		}
		want := http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
			"Origin": {"http://example.com"}, "Sec-Websocket-Version": {"13"}, "Cookie": {"a=b; c=d"}, "X-Empty": {""}, "X-Latin": {"\xe9"}}
		if !maps.EqualFunc(r.Header, want, func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("header %q", r.Header)
		}
	}
}

func TestSniffRequestLeavesOthers(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(handshake, old) {
			t.Fatalf("handshake without %q", old)
		}
		return strings.Replace(handshake, old, new, 1)
	}
	with := func(line string) string { return replace("Origin:", line+"\r\nOrigin:") }
	for _, tt := range []struct {
		name, in string
		want     Sniff
	}{
		{"TLS", "\x16\x03\x01", NotOurs},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NotOurs},
		{"POST", "POST /", NotOurs},
		{"lower case", "get /", NotOurs},
		{"G", "G", NeedMore},
		{"empty line first", "\r\n" + handshake, NotOurs},
		{"absolute target", replace("/app", "http://example.com/app"), NotOurs},
		{"asterisk", "GET * HTTP/1.1\r\n", NotOurs},
		{"HTTP/1.0", replace("HTTP/1.1", "HTTP/1.0"), NotOurs},
		{"HTTP/1.10", replace("HTTP/1.1", "HTTP/1.10"), NotOurs},
		{"two spaces", replace(" HTTP", "  HTTP"), NotOurs},
		{"space in the target", replace("/key", "/k ey"), NotOurs},
		{"target not ASCII", replace("/key", "/k\xc3\xa9y"), NotOurs},
		{"bad escape", replace("/key", "/k%zz"), NotOurs},
		{"no version", "GET /\r\n", NotOurs},
		{"LF", strings.ReplaceAll(handshake, "\r\n", "\n"), NotOurs},
		{"one LF", replace("Upgrade: websocket\r\n", "Upgrade: websocket\n"), NotOurs},
		{"CR in a value", with("X: a\rb"), NotOurs},
		{"CR CR LF", with("X: a\r"), NotOurs},
		{"LF at the end", handshake[:len(handshake)-2] + "\n", NotOurs},
		{"NUL in a value", with("X: a\x00b"), NotOurs},
		{"DEL in a value", with("X: a\x7fb"), NotOurs},
		{"NUL in an unfinished line", handshake[:len(handshake)-2] + "X: \x00", NotOurs},
		{"folded line", with("X: a\r\n b"), NotOurs},
		{"folded first line", replace("Host", " Host"), NotOurs},
		{"space before the colon", with("X : a"), NotOurs},
		{"no colon", with("X"), NotOurs},
		{"empty name", with(": a"), NotOurs},
		{"name with a slash", with("X/Y: a"), NotOurs},
		{"no Host", replace("Host: example.com:8080\r\n", ""), NotOurs},
		{"empty Host", replace("example.com:8080", ""), NotOurs},
		{"two Hosts", with("HOST: example.com:8080"), NotOurs},
		{"Host with a slash", replace("example.com:8080", "example.com/x"), NotOurs},
		{"Host with a user", replace("example.com:8080", "a@example.com"), NotOurs},
		{"Content-Length 0", with("Content-Length: 0"), Ours},
		{"Content-Length 1", with("Content-Length: 1"), NotOurs},
		{"Content-Length 00", with("Content-Length: 00"), NotOurs},
		{"Content-Length twice", with("Content-Length: 0\r\nContent-Length: 0"), NotOurs},
		{"Transfer-Encoding", with("Transfer-Encoding: chunked"), NotOurs},
		{"Transfer-Encoding identity", with("transfer-encoding: identity"), NotOurs},
		{"Trailer", with("Trailer: X"), NotOurs},
		{"Expect", with("Expect: 100-continue"), NotOurs},
		{"no Upgrade", replace("Upgrade: websocket\r\n", ""), NotOurs},
		{"no key", replace("Sec-WebSocket-Key", "X-Key"), NotOurs},
		{"version 8", replace("version:13", "version:8"), NotOurs},
		{"8 KiB", replace("Origin:", "X: "+strings.Repeat("x", maxRequest-len(handshake)-len("X: \r\n"))+"\r\nOrigin:"), Ours},
		{"8 KiB and a byte", replace("Origin:", "X: "+strings.Repeat("x", 1+maxRequest-len(handshake)-len("X: \r\n"))+"\r\nOrigin:"), NotOurs},
		{"8 KiB without end", handshake[:len(handshake)-2] + "X: " + strings.Repeat("x", maxRequest-1-len(handshake)+2-len("X: ")), NeedMore},
		{"8 KiB and a byte without end", handshake[:len(handshake)-2] + "X: " + strings.Repeat("x", maxRequest-len(handshake)+2-len("X: ")), NotOurs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			if s, r, n := SniffRequest(in); s != tt.want || (s == Ours) != (r != nil) || (s == Ours) != (n == len(in)) {
				t.Errorf("SniffRequest(%q) = %d, %v, %d", tt.in, s, r, n)
			}
			if string(in) != tt.in {
				t.Error("input changed")
			}
		})
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte(handshake))
	f.Add([]byte(handshake + "\x81\x80\x00\x00\x00\x00"))
	f.Add([]byte(strings.Replace(handshake, "Origin", "Content-Length: 0\r\nOrigin", 1)))
	f.Add([]byte(strings.Replace(handshake, "Origin", "Host: b\r\nOrigin", 1)))
	f.Add([]byte(strings.Replace(handshake, "Origin", " folded\r\nOrigin", 1)))
	f.Add([]byte(strings.Replace(handshake, "Origin", "Transfer-Encoding: chunked\r\nOrigin", 1)))
	f.Add([]byte(strings.ReplaceAll(handshake, "\r\n", "\n")))
	f.Add([]byte("GET //h/p?q#f HTTP/1.1\r\n" + handshake[strings.Index(handshake, "Host"):]))
	f.Add([]byte("POST / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		s, r, n := SniffRequest(buf)
		if s != Ours {
			if r != nil || n != 0 {
				t.Fatalf("%d, %v, %d", s, r, n)
			}
			if s == NotOurs { // more bytes change nothing
				if s, _, _ := SniffRequest(append(bytes.Clone(buf), handshake...)); s != NotOurs {
					t.Fatalf("NotOurs, then %d", s)
				}
			}
			return
		}
		in := bytes.NewReader(buf)
		br := bufio.NewReader(in)
		want, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if left := br.Buffered() + in.Len(); left != len(buf)-n {
			t.Fatalf("net/http leaves %d bytes, SniffRequest %d", left, len(buf)-n)
		}
		if want.Body != http.NoBody || want.ContentLength != 0 || want.TransferEncoding != nil {
			t.Fatalf("net/http reads a body of %d bytes", want.ContentLength)
		}
		if r.Method != want.Method || r.Host != want.Host || r.RequestURI != want.RequestURI || r.Proto != want.Proto ||
			r.ProtoMajor != want.ProtoMajor || r.ProtoMinor != want.ProtoMinor || *r.URL != *want.URL || !reflect.DeepEqual(r.Header, want.Header) {
			t.Fatalf("SniffRequest: %+v\nnet/http: %+v", r, want)
		}
		// What net/http's server demands beyond ReadRequest.
		if r.Host == "" || strings.ContainsAny(r.Host, "/@\\ \"<>#?") || len(want.Header["Host"]) > 0 {
			t.Fatalf("Host %q", r.Host)
		}
		for i := range n {
			if s, _, _ := SniffRequest(buf[:i]); s != NeedMore {
				t.Fatalf("the first %d bytes of a good request: %d", i, s)
			}
		}
	})
}

func BenchmarkSniffRequest(b *testing.B) {
	buf := []byte(handshake)
	b.ReportAllocs()
	for b.Loop() {
		if s, _, _ := SniffRequest(buf); s != Ours {
			b.Fatal(s)
		}
	}
}
