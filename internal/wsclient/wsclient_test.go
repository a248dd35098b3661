package wsclient

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// peer is the server's end of one connection, which knows nothing of package ws but the accept key.
type peer struct {
	net.Conn
	t   *testing.T
	br  *bufio.Reader
	req *http.Request
}

func (p *peer) send(s string) {
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Errorf("server: %v", err)
	}
}

func (p *peer) accept(lines ...string) {
	p.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		ws.AcceptKey(p.req.Header.Get("Sec-WebSocket-Key")) + "\r\n" + strings.Join(append(lines, "", ""), "\r\n"))
}

// expect reads one frame and compares its first byte and its unmasked payload.
func (p *peer) expect(b0 byte, want string) {
	p.t.Helper()
	got, payload := p.frame()
	if got != b0 || payload != want {
		p.t.Errorf("server got frame %x %q, want %x %q", got, payload, b0, want)
	}
}

func (p *peer) frame() (b0 byte, payload string) {
	p.t.Helper()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(p.br, b); err != nil {
			p.t.Errorf("server: reading a frame: %v", err)
		}
		return b
	}
	head := read(2)
	if head[1]&0x80 == 0 {
		p.t.Error("server got an unmasked frame")
	}
	n := int(head[1] & 0x7f)
	switch n {
	case 126:
		n = int(binary.BigEndian.Uint16(read(2)))
	case 127:
		n = int(binary.BigEndian.Uint64(read(8)))
	}
	key, b := read(4), read(n)
	for i := range b {
		b[i] ^= key[i%4]
	}
	return head[0], string(b)
}

func (p *peer) expectEOF() {
	p.t.Helper()
	if b, err := io.ReadAll(p.br); len(b) > 0 {
		p.t.Errorf("server got %q (%v), want the end", b, err)
	}
}

// serve accepts one connection on loopback, reads the request and runs script, which ends before the test does.
func serve(t *testing.T, script func(*peer)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		p := &peer{Conn: nc, t: t, br: bufio.NewReader(nc)}
		if p.req, err = http.ReadRequest(p.br); err != nil {
			return // the client gave up before
		}
		script(p)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "ws://" + l.Addr().String() + "/app/key?v=1"
}

func dial(t *testing.T, opt *Options, script func(*peer)) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), serve(t, script), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.nc.Close() })
	return c
}

func wantMessage(t *testing.T, c *Conn, op ws.Op, want string) {
	t.Helper()
	gotOp, got, err := c.ReadMessage(t.Context())
	if gotOp != op || string(got) != want || err != nil {
		t.Errorf("ReadMessage = %v, %q, %v, want %v, %q", gotOp, got, err, op, want)
	}
}

func wantClosed(t *testing.T, c *Conn, code int, reason string) {
	t.Helper()
	for range 2 { // the second time without asking the network
		_, _, err := c.ReadMessage(t.Context())
		if ce, ok := errors.AsType[*ws.CloseError](err); !ok || *ce != (ws.CloseError{Code: code, Reason: reason}) {
			t.Errorf("ReadMessage: %v, want %d %q", err, code, reason)
		}
	}
}

func TestHandshake(t *testing.T) {
	requests := make(chan *http.Request, 1)
	c := dial(t, &Options{Header: http.Header{"Origin": {"http://example.com"}, "Host": {"example.com"}}, Protocols: []string{"a", "b"}, Deflate: true}, func(p *peer) {
		requests <- p.req
		p.accept("Sec-WebSocket-Protocol: b", "X-Server: tiny")
	})
	r := <-requests
	if err := ws.CheckUpgrade(r); err != nil {
		t.Errorf("our own request: %+v", err)
	}
	if r.Host != "example.com" || r.RequestURI != "/app/key?v=1" || r.Header.Get("Origin") != "http://example.com" ||
		r.Header.Get("Sec-WebSocket-Protocol") != "a, b" || !ws.NegotiateDeflate(r.Header) {
		t.Errorf("request %+v", r)
	}
	if c.Protocol != "b" || c.Deflate || c.Header.Get("X-Server") != "tiny" {
		t.Errorf("protocol %q, deflate %v, header %v", c.Protocol, c.Deflate, c.Header)
	}
}

func TestHandshakeRefused(t *testing.T) {
	_, err := Dial(t.Context(), serve(t, func(p *peer) {
		p.send("HTTP/1.1 403 Forbidden\r\nX-Reason: origin\r\nContent-Length: 22\r\n\r\norigin is not allowed\n")
		p.expectEOF()
	}), nil)
	he, ok := errors.AsType[*HandshakeError](err)
	if !ok || he.Status != 403 || he.Header.Get("X-Reason") != "origin" || he.Body != "origin is not allowed\n" {
		t.Fatalf("Dial: %v", err)
	}
	if want := "websocket handshake refused with 403 Forbidden: origin is not allowed"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestHandshakeWrongAnswers(t *testing.T) {
	answer := func(lines ...string) func(*peer) {
		return func(p *peer) { p.send(strings.Join(append(lines, "", ""), "\r\n")) }
	}
	const status, upgrade, connection = "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"
	for _, tt := range []struct {
		name   string
		script func(*peer)
		want   string
	}{
		{"no Upgrade", answer(status, connection), `the server upgrades to ""`},
		{"no Connection", answer(status, upgrade), `the server's Connection is "", not Upgrade`},
		{"key of somebody else", answer(status, upgrade, connection, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), `Sec-WebSocket-Accept is "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="`},
		{"protocol not offered", func(p *peer) { p.accept("Sec-WebSocket-Protocol: c") }, `the server chose subprotocol "c"`},
		{"extension not offered", func(p *peer) {
			p.accept("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
		}, `the server chose extensions ["permessage-deflate; server_no_context_takeover"]`},
		{"not HTTP", func(p *peer) { p.send("hello\n") }, "malformed HTTP"},
		{"nothing", func(p *peer) {}, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Dial(t.Context(), serve(t, tt.script), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	for _, tt := range []struct{ name, extensions string }{
		{"context takeover", "permessage-deflate"},
		{"another extension", "permessage-deflate; server_no_context_takeover, x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Dial(t.Context(), serve(t, func(p *peer) { p.accept("Sec-WebSocket-Extensions: " + tt.extensions) }), &Options{Deflate: true})
			if err == nil || !strings.Contains(err.Error(), tt.extensions) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, address := range []string{"http://127.0.0.1/", "127.0.0.1:80", "ws:///x", "ws://%zz"} {
		if _, err := Dial(t.Context(), address, nil); err == nil {
			t.Errorf("Dial(%q) succeeded", address)
		}
	}
}

func TestDialEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err := Dial(ctx, serve(t, func(p *peer) {
		cancel(enough) // the request is here; no answer comes
		p.expectEOF()
	}), nil)
	if !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}

func TestMessages(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	c := dial(t, nil, func(p *peer) {
		p.accept()
		p.send("\x81\x05hello\x82\x01\xff\x89\x02hi\x01\x01a\x89\x00\x8a\x00\x80\x01b")
		p.expect(0x8a, "hi")
		p.expect(0x8a, "")
		p.expect(0x81, "x")
		p.expect(0x82, long)
		p.expect(0x89, "ping")
		p.send("\x8a\x04ping\x82\x7f\x00\x00\x00\x00\x00\x01\x86\xa0" + long + "\x81\x00")
		p.expectEOF()
	})
	wantMessage(t, c, ws.OpText, "hello")
	wantMessage(t, c, ws.OpBinary, "\xff")
	wantMessage(t, c, ws.OpText, "ab")
	for _, w := range []struct {
		op      ws.Op
		payload string
	}{{ws.OpText, "x"}, {ws.OpBinary, long}, {ws.OpPing, "ping"}} {
		if err := c.Write(t.Context(), w.op, []byte(w.payload)); err != nil {
			t.Error(err)
		}
	}
	wantMessage(t, c, ws.OpBinary, long)
	wantMessage(t, c, ws.OpText, "")
}

// Frames that come in one packet with the answer are not lost.
func TestFramesBehindTheAnswer(t *testing.T) {
	c := dial(t, nil, func(p *peer) {
		p.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
			ws.AcceptKey(p.req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n\x81\x05hello\x88\x02\x03\xe8")
		p.expect(0x88, "\x03\xe8")
	})
	wantMessage(t, c, ws.OpText, "hello")
	wantClosed(t, c, 1000, "")
}

func TestDeflate(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	c := dial(t, &Options{Deflate: true}, func(p *peer) {
		p.accept("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover")
		p.send("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x05plain")
		for _, want := range []string{"short", long} {
			b0, payload := p.frame()
			got, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
			if b0 != 0xc1 || string(got) != want || err != nil {
				p.t.Errorf("server got frame %x %q, %v", b0, got, err)
			}
		}
		p.expect(0x89, "ping")
		p.expect(0x88, "\x03\xe8bye")
		p.send("\x88\x00")
	})
	if !c.Deflate {
		t.Error("deflate was not negotiated")
	}
	wantMessage(t, c, ws.OpText, "Hello")
	wantMessage(t, c, ws.OpText, "plain")
	for _, s := range []string{"short", long} {
		if err := c.Write(t.Context(), ws.OpText, []byte(s)); err != nil {
			t.Error(err)
		}
	}
	if err := c.Write(t.Context(), ws.OpPing, []byte("ping")); err != nil {
		t.Error(err)
	}
	if err := c.Close(1000, "bye"); err != nil {
		t.Error(err)
	}
}

func TestServerCloses(t *testing.T) {
	for _, tt := range []struct {
		frame  string
		code   int
		reason string
		answer string
	}{
		{"\x88\x02\x03\xe8", 1000, "", "\x03\xe8"},
		{"\x88\x0d\x10\xa1not now, é", 4257, "not now, é", "\x10\xa1"},
		{"\x88\x00", 1005, "", ""},
		{"\x88\x01\x03", 1002, "close frame with half a status code", "\x03\xeaclose frame with half a status code"},
		{"\x88\x02\x03\xee", 1002, "close frame with status code 1006", "\x03\xeaclose frame with status code 1006"},
		{"\x83\x00", 1002, "reserved opcode 3", "\x03\xeareserved opcode 3"},
		{"\x81\x01\xff", 1007, "text is not valid UTF-8", "\x03\xeftext is not valid UTF-8"},
		{"\x82\x7f\x00\x00\x00\x00\x10\x00\x00\x00", 1009, "message longer than the limit of 67108864 bytes", "\x03\xf1message longer than the limit of 67108864 bytes"},
	} {
		t.Run(fmt.Sprintf("%x", tt.frame), func(t *testing.T) {
			c := dial(t, nil, func(p *peer) {
				p.accept()
				p.send("\x81\x01a" + tt.frame)
				p.expect(0x88, tt.answer)
				p.expectEOF()
			})
			wantMessage(t, c, ws.OpText, "a")
			wantClosed(t, c, tt.code, tt.reason)
			if err := c.Write(t.Context(), ws.OpText, nil); err != ErrClosed {
				t.Errorf("Write after that: %v", err)
			}
		})
	}
}

func TestServerVanishes(t *testing.T) {
	c := dial(t, nil, func(p *peer) {
		p.accept()
		p.send("\x81\x05hel")
	})
	for range 2 {
		if _, _, err := c.ReadMessage(t.Context()); err != io.ErrUnexpectedEOF {
			t.Errorf("error %v", err)
		}
	}
	if err := c.Close(1000, ""); err == nil {
		t.Error("Close without an answer succeeded")
	}
}

func TestClose(t *testing.T) {
	c := dial(t, nil, func(p *peer) {
		p.accept()
		p.send("\x81\x01a") // on its way when the client closes
		p.expect(0x88, "\x0f\xa0because")
		p.send("\x89\x01p\x81\x01b\x88\x02\x0f\xa0")
		p.expectEOF() // no pong after a close frame
	})
	if err := c.Close(4000, "because"); err != nil {
		t.Error(err)
	}
	wantClosed(t, c, 4000, "")
	if err := c.Close(4000, "because"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// A reader that waits gets the server's answer to a Close beside it.
func TestCloseBesideReader(t *testing.T) {
	c := dial(t, nil, func(p *peer) {
		p.accept()
		p.send("\x89\x00") // answered by the reader only, so it is there
		p.expect(0x8a, "")
		p.send("\x81\x01a")
		p.expect(0x88, "\x03\xe8")
		p.send("\x88\x02\x03\xe9")
		p.expectEOF()
	})
	read, reader := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reader)
		wantMessage(t, c, ws.OpText, "a")
		close(read)
		wantClosed(t, c, 1001, "")
	}()
	<-read
	if err := c.Close(1000, ""); err != nil {
		t.Error(err)
	}
	<-reader
}

// The end of a context loses nothing: not the bytes of half a frame, nor the connection.
func TestReadGoesOnAfterContext(t *testing.T) {
	again, pong := make(chan struct{}), make(chan struct{})
	c := dial(t, nil, func(p *peer) {
		p.accept()
		p.send("\x89\x00\x81\x05hel") // half a message comes together with the ping
		p.expect(0x8a, "")
		close(pong)
		<-again
		p.send("lo\x88\x00")
		p.expect(0x88, "")
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-pong
		cancel()
	}()
	if _, _, err := c.ReadMessage(ctx); err != context.Canceled {
		t.Errorf("error %v", err)
	}
	if _, _, err := c.ReadMessage(ctx); err != context.Canceled {
		t.Errorf("with a context that had ended: error %v", err)
	}
	close(again)
	wantMessage(t, c, ws.OpText, "hello")
	wantClosed(t, c, 1005, "")
}

func TestWriteEndsWithContext(t *testing.T) {
	a, b := net.Pipe() // takes nothing that nobody reads
	defer b.Close()
	c := &Conn{nc: a}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.ReadFull(b, make([]byte, 3)) // half a frame is away
		cancel()
	}()
	if err := c.Write(ctx, ws.OpText, []byte("hello")); err != context.Canceled {
		t.Errorf("error %v", err)
	}
	if err := c.Write(t.Context(), ws.OpText, []byte("hello")); err == nil {
		t.Error("wrote behind half a frame")
	}
}

func TestWriteRaw(t *testing.T) {
	c := dial(t, nil, func(p *peer) {
		p.accept()
		b := make([]byte, 4)
		if _, err := io.ReadFull(p.br, b); err != nil || !bytes.Equal(b, []byte{0xff, 0, 0xff, 0}) {
			p.t.Errorf("server got %x, %v", b, err)
		}
		p.send("\x81\x02ok")
	})
	if err := c.WriteRaw([]byte{0xff, 0, 0xff, 0}); err != nil {
		t.Fatal(err)
	}
	wantMessage(t, c, ws.OpText, "ok")
}

func TestManyWriters(t *testing.T) {
	const writers, each = 8, 50
	c := dial(t, nil, func(p *peer) {
		p.accept()
		next := map[byte]int{}
		for range writers * each {
			b0, payload := p.frame()
			if b0 != 0x81 || len(payload) != 2 || int(payload[1]) != next[payload[0]] {
				p.t.Errorf("server got frame %x %q", b0, payload)
				return
			}
			next[payload[0]]++
		}
		p.send("\x88\x00")
		p.expect(0x88, "")
	})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := c.Write(t.Context(), ws.OpText, []byte{byte('a' + w), byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wantClosed(t, c, 1005, "")
	wg.Wait()
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		nc.Write(ws.AppendResponse(nil, r.Header.Get("Sec-WebSocket-Key"), ws.Upgrade{}))
		io.WriteString(nc, "\x81\x05hello\x88\x00")
		io.Copy(io.Discard, nc)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails below
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	opt := &Options{TLS: &tls.Config{RootCAs: roots}, NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if network != "tcp" || addr != "example.com:443" {
			t.Errorf("NetDial(%q, %q)", network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}
	c, err := Dial(t.Context(), "wss://example.com/", opt)
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, c, ws.OpText, "hello")
	wantClosed(t, c, 1005, "")
	if opt.TLS.ServerName != "" {
		t.Error("the caller's TLS configuration was changed")
	}
	if _, err := Dial(t.Context(), "wss://example.com/", &Options{NetDial: opt.NetDial}); err == nil {
		t.Error("dialed a server whose certificate is not trusted")
	}
}
