package server

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// raw is a client that sees every frame, control frames too, and sends what it likes.
type raw struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// connect opens a connection that has said nothing yet.
func (s *live) connect() *raw {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.tls != nil {
		cfg := s.tls.Clone()
		cfg.ServerName = "127.0.0.1"
		c = tls.Client(c, cfg)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	return &raw{Conn: c, t: s.t, r: bufio.NewReader(c)}
}

// tcp is the socket below.
func (c *raw) tcp() *net.TCPConn {
	if t, ok := c.Conn.(*tls.Conn); ok {
		return t.NetConn().(*net.TCPConn)
	}
	return c.Conn.(*net.TCPConn)
}

// reset drops the connection, and what is on its way with it.
func (c *raw) reset() {
	c.tcp().SetLinger(0)
	c.tcp().Close()
}

const upgradeHeaders = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func upgradeRequest(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + upgradeHeaders
}

// upgraded connects, and sends frames in the same write as the handshake.
func (s *live) upgraded(target string, frames ...byte) *raw {
	s.t.Helper()
	c := s.connect()
	c.write(append([]byte(upgradeRequest(target)), frames...))
	if status, _, body := c.response(); status != http.StatusSwitchingProtocols {
		s.t.Fatalf("the handshake is answered with %d %s", status, body)
	}
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// response reads an HTTP response.
func (c *raw) response() (status int, h http.Header, body string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no HTTP response: %v", err)
	}
	if r.StatusCode == http.StatusSwitchingProtocols {
		return r.StatusCode, r.Header, ""
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}

// read returns the next frame, or why there is none.
func (c *raw) read() (op ws.Op, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(c.r, h[:2]); err != nil {
		return 0, nil, err
	}
	if h[1]&0x80 != 0 || h[0]&0xf0 != 0x80 {
		return 0, nil, fmt.Errorf("the server's frame begins with % x", h[:2])
	}
	n := int(h[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(c.r, h[2:4]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(h[2:]))
	case 127:
		if _, err := io.ReadFull(c.r, h[2:10]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint64(h[2:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return ws.Op(h[0] & 15), payload, err
}

// want reads one frame of each payload.
func (c *raw) want(op ws.Op, payloads ...string) {
	c.t.Helper()
	for _, want := range payloads {
		got, p, err := c.read()
		if err != nil {
			c.t.Fatalf("no frame, which should be %q: %v", want, err)
		}
		if got != op || string(p) != want {
			c.t.Fatalf("frame is\n%d %q\nand should be\n%d %q", got, p, op, want)
		}
	}
}

// greeted reads the greeting and returns the socket id in it.
func (c *raw) greeted() string {
	c.t.Helper()
	op, p, err := c.read()
	var hello struct {
		Data struct {
			SocketID string `json:"socket_id"`
		}
	}
	if err != nil || op != ws.OpText || json.Unmarshal(p, &hello) != nil || hello.Data.SocketID == "" {
		c.t.Fatalf("greeting is %d %q, %v", op, p, err)
	}
	return hello.Data.SocketID
}

// wantClose reads the close frame, and then the end of the stream.
func (c *raw) wantClose(code int, reason string) {
	c.t.Helper()
	op, p, err := c.read()
	if err != nil {
		c.t.Fatalf("no close frame, which should be %d %q: %v", code, reason, err)
	}
	got := 1005
	if len(p) >= 2 {
		got, p = int(binary.BigEndian.Uint16(p)), p[2:]
	}
	if op != ws.OpClose || got != code || string(p) != reason {
		c.t.Fatalf("frame is %d, %d %q, and should be close %d %q", op, got, p, code, reason)
	}
	if _, _, err := c.read(); err != io.EOF {
		c.t.Fatalf("after the close frame comes %v, and should be the end", err)
	}
}

func masked(op ws.Op, payload string) []byte {
	return ws.AppendMasked(nil, op, []byte(payload), [4]byte{1, 2, 3, 4})
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// entered is how many connections the gate counts.
func (s *Server) entered() int {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.total
}
