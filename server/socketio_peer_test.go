package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go/internal/ws"
	"github.com/stacksjs/realtime-go/internal/wsclient"
)

// engineConn is the client's end of an Engine.IO session, on whatever transport.
type engineConn struct {
	s     *live
	query string
	on    func(text string, blobs [][]byte) // a Socket.IO packet; by one goroutine at a time
	pong  func()                            // by the same, before a pong; may be nil

	ctx    context.Context
	cancel context.CancelFunc
	sid    string
	web    *http.Client
	ended  chan struct{} // closed when nothing more will come
	gate   sync.Mutex    // held: nothing is read
	deaf   atomic.Bool   // nothing is read any more; see mute
	pongs  atomic.Int64
	part   string
	blobs  [][]byte
	need   int

	sending sync.Mutex
	ws      *wsclient.Conn // nil while it polls; guarded by sending
	paused  atomic.Bool    // it polls no more
	polled  chan struct{}  // closed when it has done so

	connMu sync.Mutex
	conns  []net.Conn // guarded by connMu
	cuts   sync.Once
}

const sioTime = time.Minute // for anything that the server is to do

// engine opens a session. query is added to the request's, and begins with "&".
func (s *live) engine(query string, polling bool, on func(text string, blobs [][]byte), pong func()) (*engineConn, error) {
	c := &engineConn{s: s, query: query, on: on, pong: pong, ended: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.connMu.Lock()
			c.conns = append(c.conns, nc)
			c.connMu.Unlock()
		}
		return nc, err
	}
	c.web = &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: s.tls}, Timeout: 2 * sioTime}
	if !polling {
		conn, err := c.dialWS("")
		if err != nil {
			return nil, err
		}
		c.ws = conn
		hello, _, err := c.readWS(conn)
		if err != nil {
			return nil, err
		}
		if err := c.open(string(hello)); err != nil {
			return nil, err
		}
		go c.listen(conn)
		return c, nil
	}
	packets, err := c.get()
	if err != nil {
		return nil, err
	}
	if err := c.open(packets[0]); err != nil {
		return nil, err
	}
	c.polled = make(chan struct{})
	go c.poll(packets[1:])
	return c, nil
}

func (c *engineConn) open(packet string) error {
	var o struct{ SID string }
	if packet[0] != '0' || json.Unmarshal([]byte(packet[1:]), &o) != nil || o.SID == "" {
		return fmt.Errorf("the session is opened by %q", packet)
	}
	c.sid = o.SID
	return nil
}

func (c *engineConn) url(transport string) string {
	u := "/socket.io/?EIO=4&transport=" + transport + c.query
	if c.sid != "" {
		u += "&sid=" + c.sid
	}
	return u
}

func (c *engineConn) dialWS(sid string) (*wsclient.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, sioTime)
	defer cancel()
	scheme := "ws://"
	if c.s.tls != nil {
		scheme = "wss://"
	}
	return wsclient.Dial(ctx, scheme+c.s.addr+c.url("websocket"), &wsclient.Options{TLS: c.s.tls, NetDial: c.web.Transport.(*http.Transport).DialContext})
}

func (c *engineConn) readWS(conn *wsclient.Conn) (b []byte, binary bool, err error) {
	op, b, err := conn.ReadMessage(c.ctx)
	return b, op == ws.OpBinary, err
}

// pass waits while the gate is closed.
func (c *engineConn) pass() {
	c.gate.Lock()
	defer c.gate.Unlock()
}

// listen reads a WebSocket until it ends.
func (c *engineConn) listen(conn *wsclient.Conn) {
	defer close(c.ended)
	for {
		c.pass()
		b, binary, err := c.readWS(conn)
		if err != nil || c.deaf.Load() {
			return
		}
		if binary {
			c.blob(bytes.Clone(b))
		} else if !c.packet(string(b)) {
			return
		}
	}
}

// get is one request for what there is.
func (c *engineConn) get() ([]string, error) {
	r, err := http.NewRequestWithContext(c.ctx, "GET", c.s.http()+c.url("polling"), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.web.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != 200 || len(b) == 0 {
		return nil, fmt.Errorf("GET is answered with %s %q", res.Status, b)
	}
	return strings.Split(string(b), "\x1e"), nil
}

// poll asks until the session ends, or goes on with a WebSocket.
func (c *engineConn) poll(packets []string) {
	over := func() bool {
		for _, p := range packets {
			if p[0] == 'b' {
				b, err := base64.StdEncoding.DecodeString(p[1:])
				if err != nil {
					return true
				}
				c.blob(b)
			} else if !c.packet(p) {
				return true
			}
		}
		return false
	}
	for {
		if over() {
			break
		}
		if c.paused.Load() {
			close(c.polled)
			return
		}
		c.pass()
		var err error
		if packets, err = c.get(); err != nil || c.deaf.Load() {
			break
		}
	}
	close(c.ended)
	close(c.polled)
}

// packet takes a packet of the server, and reports false for the last one.
func (c *engineConn) packet(p string) bool {
	switch {
	case p == "2":
		if c.pong != nil {
			c.pong()
		}
		if c.say("3") == nil {
			c.pongs.Add(1)
		}
	case p == "1":
		return false
	case p[0] == '4':
		text := p[1:]
		if text[0] == '5' || text[0] == '6' {
			fmt.Sscanf(text[1:], "%d-", &c.need)
			c.part = text
			return true
		}
		c.on(text, nil)
	}
	return true
}

func (c *engineConn) blob(b []byte) {
	if c.blobs = append(c.blobs, b); len(c.blobs) == c.need {
		c.on(c.part, c.blobs)
		c.blobs = nil
	}
}

// say sends packets.
func (c *engineConn) say(packets ...string) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, sioTime)
	defer cancel()
	if c.ws != nil {
		for _, p := range packets {
			if err := c.ws.Write(ctx, ws.OpText, []byte(p)); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := http.NewRequestWithContext(ctx, "POST", c.s.http()+c.url("polling"), strings.NewReader(strings.Join(packets, "\x1e")))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	res, err := c.web.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "ok" {
		return fmt.Errorf("POST is answered with %s %q, %v", res.Status, b, err)
	}
	return nil
}

var errStopped = errors.New("stopped in the midst")

// upgrade goes on with a WebSocket; steps tells after how many of the four it stops.
func (c *engineConn) upgrade(steps int) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	conn, err := c.dialWS(c.sid)
	if err != nil || steps == 1 {
		return errors.Join(err, errStopped)
	}
	ctx, cancel := context.WithTimeout(c.ctx, sioTime)
	defer cancel()
	if err := conn.Write(ctx, ws.OpText, []byte("2probe")); err != nil || steps == 2 {
		return errors.Join(err, errStopped)
	}
	c.paused.Store(true) // before the server ends the request that waits
	moved := false
	defer func() {
		if !moved {
			go c.wait()
		}
	}()
	if _, b, err := conn.ReadMessage(ctx); err != nil || string(b) != "3probe" {
		return fmt.Errorf("2probe is answered with %q, %w", b, err)
	}
	select {
	case <-c.polled:
	case <-ctx.Done():
		return fmt.Errorf("the request that waits is not ended: %w", ctx.Err())
	}
	if !c.alive() || steps == 3 {
		return errStopped
	}
	if err := conn.Write(ctx, ws.OpText, []byte("5")); err != nil {
		return err
	}
	moved = true
	c.ws = conn
	go c.listen(conn)
	return nil
}

// wait is instead of reading, for a session that neither polls nor has got a WebSocket.
func (c *engineConn) wait() {
	<-c.polled
	if c.alive() {
		<-c.ctx.Done()
		close(c.ended)
	}
}

// mute makes it read nothing any more, and answer no ping.
func (c *engineConn) mute() {
	c.gate.Lock()
	c.deaf.Store(true)
}

// cut ends the connections, at once; reset throws away what has not been read.
func (c *engineConn) cut(reset bool) {
	c.cuts.Do(func() {
		c.cancel()
		c.connMu.Lock()
		for _, nc := range c.conns {
			if tcp, ok := nc.(*net.TCPConn); ok && reset {
				tcp.SetLinger(0)
			}
			nc.Close()
		}
		c.connMu.Unlock()
		if c.deaf.Load() {
			c.gate.Unlock()
		}
		c.web.CloseIdleConnections()
	})
	select {
	case <-c.ended:
	case <-time.After(sioTime):
		c.s.t.Error("the reader does not end")
	}
}

func (c *engineConn) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// sioPacket is a Socket.IO packet, taken apart.
type sioPacket struct {
	kind byte
	nsp  string
	id   int // of its acknowledgement; -1 for none
	args []json.RawMessage
	data string
}

func parseSIO(text string) (p sioPacket) {
	p.kind, p.nsp, p.id = text[0], "/", -1
	rest := text[1:]
	if p.kind == '5' || p.kind == '6' {
		_, rest, _ = strings.Cut(rest, "-")
	}
	if strings.HasPrefix(rest, "/") {
		p.nsp, rest, _ = strings.Cut(rest, ",")
	}
	if i := strings.IndexAny(rest, "[{\""); i > 0 {
		fmt.Sscan(rest[:i], &p.id)
		rest = rest[i:]
	}
	p.data = rest
	if strings.HasPrefix(rest, "[") {
		json.Unmarshal([]byte(rest), &p.args)
	}
	return p
}

func prefix(nsp string) string {
	if nsp == "/" {
		return ""
	}
	return nsp + ","
}
