// Package wsclient is a small blocking WebSocket client for tests and command-line tools.
package wsclient

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
)

// maxMessage is the longest message the client takes, in bytes.
const maxMessage = 64 << 20

// maxBody is how much of a refusal's body goes into a HandshakeError.
const maxBody = 4 << 10

// closeWait is how long Close waits for the server's close frame.
const closeWait = 5 * time.Second

// Options are the choices of Dial. The zero value, or nil, means none.
type Options struct {
	Header    http.Header // sent in addition; a Host in it replaces that of the address
	Protocols []string    // subprotocols, the preferred one first
	Deflate   bool        // offer permessage-deflate, and compress what is written if the server accepts
	TLS       *tls.Config // for wss
	// NetDial replaces the dialer for the TCP connection; nil is a net.Dialer.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// HandshakeError is a server's refusal to upgrade.
type HandshakeError struct {
	Status int
	Header http.Header
	Body   string // at most its first 4 KiB
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("websocket handshake refused with %d %s: %s", e.Status, http.StatusText(e.Status), strings.TrimSpace(e.Body))
}

// Conn is one connection. One goroutine reads; any may write or close.
type Conn struct {
	// Protocol is the subprotocol the server chose, Deflate whether it accepted permessage-deflate. Header is its answer.
	Protocol string
	Deflate  bool
	Header   http.Header

	nc  net.Conn
	cfg ws.Config

	readMu sync.Mutex // Close reads too
	r      ws.Reader
	buf    []byte
	in     []byte // read, not yet fed
	op     ws.Op
	got    []byte
	full   bool  // op and got hold a message
	err    error // why no more can be read

	writeMu sync.Mutex
	out     []byte
	closed  bool // a close frame was sent
}

// Dial connects to a ws or wss URL. A server that does not upgrade is a *HandshakeError. ctx limits only the handshake.
func Dial(ctx context.Context, rawURL string, opt *Options) (*Conn, error) {
	if opt == nil {
		opt = &Options{}
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	switch u.Scheme {
	case "ws":
		if port == "" {
			port = "80"
		}
	case "wss":
		if port == "" {
			port = "443"
		}
	default:
		return nil, fmt.Errorf("websocket address %q: the scheme is %q, not ws or wss", rawURL, u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("websocket address %q has no host", rawURL)
	}
	dial := opt.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	// The handshake has no context of its own: when ctx ends, a deadline in the past ends its reads and writes.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	c, err := handshake(ctx, nc, u, opt)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("websocket handshake: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return c, nil
}

func handshake(ctx context.Context, nc net.Conn, u *url.URL, opt *Options) (*Conn, error) {
	if u.Scheme == "wss" {
		cfg := opt.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		nc = tc
	}

	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	header := opt.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Upgrade", "websocket")
	header.Set("Connection", "Upgrade")
	header.Set("Sec-WebSocket-Key", key)
	header.Set("Sec-WebSocket-Version", "13")
	if len(opt.Protocols) > 0 {
		header.Set("Sec-WebSocket-Protocol", strings.Join(opt.Protocols, ", "))
	}
	if opt.Deflate {
		header.Set("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover; client_no_context_takeover")
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	if err := req.Write(nc); err != nil {
		return nil, err
	}
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // what arrived of it is better than nothing
		return nil, &HandshakeError{resp.StatusCode, resp.Header, string(body)}
	}

	c := &Conn{Header: resp.Header, Protocol: resp.Header.Get("Sec-WebSocket-Protocol"), nc: nc}
	switch {
	case !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket"):
		return nil, fmt.Errorf("websocket handshake: the server upgrades to %q", resp.Header.Get("Upgrade"))
	case !strings.EqualFold(resp.Header.Get("Connection"), "upgrade"):
		return nil, fmt.Errorf("websocket handshake: the server's Connection is %q, not Upgrade", resp.Header.Get("Connection"))
	case resp.Header.Get("Sec-WebSocket-Accept") != ws.AcceptKey(key):
		return nil, fmt.Errorf("websocket handshake: Sec-WebSocket-Accept is %q, not the answer to our key", resp.Header.Get("Sec-WebSocket-Accept"))
	case c.Protocol != "" && !slices.Contains(opt.Protocols, c.Protocol):
		return nil, fmt.Errorf("websocket handshake: the server chose subprotocol %q, which was not offered", c.Protocol)
	}
	if ext := resp.Header.Values("Sec-WebSocket-Extensions"); len(ext) > 0 {
		// The client keeps no window between messages, so it must be told that the server does not either.
		if !opt.Deflate || len(ext) != 1 || !strings.HasPrefix(ext[0], "permessage-deflate") ||
			!strings.Contains(ext[0], "server_no_context_takeover") || strings.Contains(ext[0], ",") {
			return nil, fmt.Errorf("websocket handshake: the server chose extensions %q", ext)
		}
		c.Deflate = true
	}
	c.cfg = ws.Config{MaxMessage: maxMessage, Client: true, Deflate: c.Deflate}
	c.buf = make([]byte, 32<<10)
	c.in, _ = br.Peek(br.Buffered())
	return c, nil
}

// ReadMessage waits for the next text or binary message and answers pings meanwhile. The payload is the caller's. When the
// server closed, or broke the protocol, the error is a *ws.CloseError; without a close frame it is io.ErrUnexpectedEOF or what
// the network said; every later call returns it again. When ctx ends first nothing is lost: a later call goes on.
func (c *Conn) ReadMessage(ctx context.Context) (ws.Op, []byte, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	defer until(ctx, c.nc.SetReadDeadline)()
	for c.err == nil {
		n, err := c.r.Feed(&c.cfg, c.in, (*handler)(c))
		c.in = c.in[n:]
		if c.full {
			op, got := c.op, c.got
			c.full, c.got = false, nil
			return op, got, nil
		}
		if err != nil {
			ce := err.(*ws.CloseError)
			c.writeClose(ce.Code, ce.Reason)
			c.err = err
		}
		if c.err != nil {
			break
		}
		n, err = c.nc.Read(c.buf)
		c.in = c.buf[:n]
		switch {
		case n > 0 || err == nil:
		case ctx.Err() != nil:
			return 0, nil, context.Cause(ctx)
		case err == io.EOF:
			c.err = io.ErrUnexpectedEOF
		default:
			c.err = err
		}
	}
	c.nc.Close()
	return 0, nil, c.err
}

// handler is Conn as a ws.Handler, so that those methods are not the package's API.
type handler Conn

func (h *handler) Message(op ws.Op, payload []byte) bool {
	h.op, h.got, h.full = op, slices.Clone(payload), true
	return false
}

func (h *handler) Control(op ws.Op, payload []byte) bool {
	c := (*Conn)(h)
	switch op {
	case ws.OpPing:
		c.Write(context.Background(), ws.OpPong, payload) // if it fails, so will the next read
	case ws.OpClose:
		code, reason, err := ws.ParseClose(payload)
		if err != nil {
			ce := err.(*ws.CloseError)
			c.writeClose(ce.Code, ce.Reason)
			c.err = err
			return false
		}
		c.writeClose(code, "")
		c.err = &ws.CloseError{Code: code, Reason: reason}
		return false
	}
	return true
}

// ErrClosed is returned by writes after a close frame was sent.
var ErrClosed = errors.New("websocket: write after close")

// Write sends one message, or a ping or pong of at most 125 bytes. If ctx ends first the connection is over, since half a
// frame may have been sent.
func (c *Conn) Write(ctx context.Context, op ws.Op, payload []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.Deflate && (op == ws.OpText || op == ws.OpBinary) {
		c.out = mask(ws.AppendDeflated(c.out[:0], op, payload))
	} else {
		c.out = ws.AppendMasked(c.out[:0], op, payload, newKey())
	}
	return c.write(ctx, c.out)
}

// WriteRaw sends bytes as they are: tests send broken frames.
func (c *Conn) WriteRaw(b []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.write(context.Background(), b)
}

func (c *Conn) write(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer until(ctx, c.nc.SetWriteDeadline)()
	if _, err := c.nc.Write(b); err != nil {
		c.nc.Close() // half a frame may have been sent
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// until makes ctx end the reads or writes whose deadline set sets. The returned function undoes that.
func until(ctx context.Context, set func(time.Time) error) (undo func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		set(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
			set(time.Time{})
		}
	}
}

// writeClose sends the close frame, once.
func (c *Conn) writeClose(code int, reason string) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.nc.SetWriteDeadline(time.Now().Add(closeWait))
	_, err := c.nc.Write(mask(ws.AppendClose(nil, code, reason)))
	return err
}

// Close sends a close frame (code 0: without a code), waits up to 5 s for the server's, and closes the connection. nil means
// that the server answered, whatever its code. Messages that arrive meanwhile are dropped, unless another goroutine is in
// ReadMessage, which gets the next one.
func (c *Conn) Close(code int, reason string) error {
	// Also ends a reader that has no deadline of its own.
	defer time.AfterFunc(closeWait, func() { c.nc.Close() }).Stop()
	defer c.nc.Close()
	if err := c.writeClose(code, reason); err != nil {
		return err
	}
	for {
		_, _, err := c.ReadMessage(context.Background())
		if _, ok := errors.AsType[*ws.CloseError](err); ok {
			return nil
		}
		if err != nil {
			return fmt.Errorf("websocket: no close frame from the server: %w", err)
		}
	}
}

func newKey() (key [4]byte) {
	rand.Read(key[:])
	return key
}

// mask makes a client's frame of a server's.
func mask(frame []byte) []byte {
	n := 2
	switch frame[1] {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	key := newKey()
	frame[1] |= 0x80
	frame = slices.Insert(frame, n, key[:]...)
	for i := range frame[n+4:] {
		frame[n+4+i] ^= key[i&3]
	}
	return frame
}
