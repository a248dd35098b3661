package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// role is what a connection is for.
type role uint8

const (
	subscriber role = iota
	publisher
	pinger
)

// phase is how far a connection has come.
type phase uint8

const (
	unopened  phase = iota
	dialing         // connect(2) is under way
	upgrading       // waiting for the answer to the HTTP request
	greeting        // waiting for connection_established
	joining         // waiting for the answers to its commands
	open
	gone
)

// conn is one connection of the load.
type conn struct {
	fd       int
	index    int // in load.conns
	id       int // among the connections of its role
	role     role
	phase    phase
	writing  bool // waits for the socket to take out
	await    int  // answers missing before it is open
	words    *dialect
	tail     []byte
	out      []byte
	parts    []byte // of a message in several frames
	socketID string
	pingedAt time.Duration
	tunnel   *tunnel // for TLS
}

// load is a set of connections on one epoll descriptor. One goroutine owns it.
type load struct {
	cfg    Config
	url    *url.URL
	addr   netip.AddrPort
	epoll  int
	events []unix.EpollEvent
	buf    []byte
	frame  []byte // scratch for frames to send
	conns  []conn

	key     [4]byte // masks every frame of the run
	request string  // the Sec-WebSocket-Key header
	accept  string  // and what must answer it

	next, opened int // next connection to dial; how many have become open
	start        time.Time

	scanner scanner    // what subscribers receive
	seq     *sequences // of the subscribers
	// onDelivery is called for each delivery to a subscriber, with the time since start.
	onDelivery func(d *delivery, at time.Duration)

	ping       []byte // a whole frame
	pinging    bool   // a pong is answered with the next ping
	roundTrips latencies
}

func newLoad(ctx context.Context, c Config, roles ...role) (*load, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	if u.Path == "" {
		u.Path = "/"
	}
	addr, err := resolve(ctx, u)
	if err != nil {
		return nil, err
	}
	if err := enoughDescriptors(len(roles), u.Scheme == "wss"); err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &load{
		scanner: scanner{dialect: c.dialect()},
		cfg:     c, url: u, addr: addr, epoll: epoll,
		events: make([]unix.EpollEvent, 512),
		buf:    make([]byte, 2*maxFrame),
		conns:  make([]conn, len(roles)),
		start:  time.Now(),
	}
	var count [3]int
	for i, r := range roles {
		words := c.dialect()
		if r == publisher {
			words = c.publishDialect()
		}
		l.conns[i] = conn{fd: -1, index: i, role: r, id: count[r], words: words}
		count[r]++
	}
	rand.Read(l.key[:])
	var nonce [16]byte
	rand.Read(nonce[:])
	l.request = base64.StdEncoding.EncodeToString(nonce[:])
	// RFC 6455 section 4.2.2, item 5.
	sum := sha1.Sum([]byte(l.request + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	l.accept = base64.StdEncoding.EncodeToString(sum[:])
	l.ping = appendFrame(nil, opText, []byte(c.dialect().ping), l.key)
	return l, nil
}

func resolve(ctx context.Context, u *url.URL) (netip.AddrPort, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the port of %s: %w", u, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("looking for an IPv4 address: %w", err)
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(number)), nil
}

func enoughDescriptors(connections int, tunnelled bool) error {
	need := uint64(connections) + 32
	if tunnelled {
		need = 3*uint64(connections) + 32
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("the limit for open files: %w", err)
	}
	if limit.Cur < need {
		return fmt.Errorf("%d connections need %d open files; the limit is %d (ulimit -n)", connections, need, limit.Cur)
	}
	return nil
}

func (l *load) now() time.Duration { return time.Since(l.start) }

// close ends all connections with a reset, which leaves no port waiting.
func (l *load) close() {
	for i := range l.conns {
		if c := &l.conns[i]; c.fd >= 0 {
			if c.tunnel == nil {
				unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			}
			unix.Close(c.fd)
			c.fd, c.phase = -1, gone
		}
	}
	unix.Close(l.epoll)
}

// open opens all connections, at most Opening at once.
func (l *load) open(ctx context.Context) error {
	said, heard, moved := l.now(), 0, l.now()
	for l.opened < len(l.conns) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for l.next < len(l.conns) && l.next-l.opened < l.cfg.Opening {
			if err := l.dial(l.next); err != nil {
				return err
			}
			l.next++
		}
		if err := l.turn(100 * time.Millisecond); err != nil {
			return err
		}
		now := l.now()
		if l.opened != heard {
			heard, moved = l.opened, now
		} else if now-moved > l.cfg.Stall {
			return fmt.Errorf("%d of %d connections are open and no other has become so for %v", l.opened, len(l.conns), l.cfg.Stall)
		}
		if now-said > 2*time.Second {
			said = now
			l.progress("%d of %d connections open", l.opened, len(l.conns))
		}
	}
	return nil
}

func (l *load) progress(format string, args ...any) {
	if l.cfg.Progress != nil {
		l.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// perSource is how many connections share a local address: fewer than the ports the kernel hands out.
const perSource = 16000

func (l *load) dial(i int) error {
	c := &l.conns[i]
	if l.url.Scheme == "wss" {
		t, fd, err := openTunnel(l.addr.String(), l.url.Hostname(), l.cfg.Insecure)
		if err != nil {
			return err
		}
		c.fd, c.tunnel = fd, t
	} else {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening connection %d: %w", i, err)
		}
		c.fd = fd
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if i >= perSource && l.addr.Addr().IsLoopback() {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + i/perSource)}}
			if err := unix.Bind(fd, source); err != nil {
				return fmt.Errorf("binding connection %d to 127.0.0.%d: %w", i, source.Addr[3], err)
			}
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.addr.Port()), Addr: l.addr.Addr().As4()})
		if err != nil && err != unix.EINPROGRESS {
			return fmt.Errorf("connecting to %v: %w", l.addr, err)
		}
	}
	c.phase, c.writing = dialing, true
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(i)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// turn waits for up to wait and serves the sockets that are ready.
func (l *load) turn(wait time.Duration) error {
	n, err := epollWait(l.epoll, l.events, wait)
	if err != nil {
		return err
	}
	for _, ev := range l.events[:n] {
		c := &l.conns[ev.Fd]
		if c.fd < 0 {
			continue
		}
		if ev.Events&unix.EPOLLOUT != 0 {
			err = l.writable(c)
		}
		if err == nil && ev.Events&^unix.EPOLLOUT != 0 {
			err = l.readable(c)
		}
		if err != nil {
			what := map[role]string{subscriber: "subscriber", publisher: "publisher", pinger: "connection"}[c.role]
			return fmt.Errorf("%s %d: %w", what, c.id, err)
		}
	}
	return nil
}

func (l *load) writable(c *conn) error {
	if c.phase == dialing {
		if c.tunnel == nil {
			code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			if err != nil {
				return fmt.Errorf("connecting to %v: %w", l.addr, err)
			}
		}
		if c.words == &httpAPI {
			c.phase = joining
			l.post(c, "events", []byte(c.words.mayPublish))
			return l.flush(c)
		}
		c.phase = upgrading
		query := l.url.Query()
		if c.role == publisher && l.cfg.Token != "" {
			query.Set("token", l.cfg.Token)
		}
		target := url.URL{Path: l.url.Path}
		if c.role == publisher && l.cfg.Protocol != l.cfg.Publish {
			target.Path = c.words.path
			if l.cfg.App.Key != "" {
				query.Set("app", l.cfg.App.Key)
			}
		}
		if c.words == &socketIO {
			query.Set("EIO", "4")
			query.Set("transport", "websocket")
		}
		target.RawQuery = query.Encode()
		c.out = fmt.Appendf(c.out, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", target.RequestURI(), l.url.Host, l.request)
	}
	return l.flush(c)
}

// send queues a text frame and writes what the socket takes.
func (l *load) send(c *conn, opcode byte, payload []byte) error {
	c.out = appendFrame(c.out, opcode, payload, l.key)
	return l.flush(c)
}

// flush writes c.out and asks to be told when the socket takes the rest.
func (l *load) flush(c *conn) error {
	for len(c.out) > 0 {
		n, err := write(c.fd, c.out)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			return fmt.Errorf("writing: %w", c.reason(err))
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	if waits := len(c.out) > 0; waits != c.writing {
		c.writing = waits
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.index)}
		if waits {
			ev.Events |= unix.EPOLLOUT
		}
		return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev)
	}
	return nil
}

// reason prefers what TLS said to what the socket beneath it did.
func (c *conn) reason(err error) error {
	if c.tunnel != nil {
		if why := c.tunnel.err(); why != nil {
			return why
		}
	}
	return err
}

// readable reads once and handles all whole frames. Level-triggered epoll reports what remains.
func (l *load) readable(c *conn) error {
	have := copy(l.buf, c.tail)
	n, err := read(c.fd, l.buf[have:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("reading: %w", c.reason(err))
	case n == 0:
		return c.reason(fmt.Errorf("the server closed the connection without a close frame, %s", c.phase))
	}
	b := l.buf[:have+n]
	if c.words == &httpAPI {
		if b, err = l.answers(c, b); err != nil {
			return err
		}
		c.tail = append(c.tail[:0], b...)
		return nil
	}
	if c.phase == upgrading {
		if b, err = l.upgraded(c, b); err != nil {
			return err
		}
	}
	if c.phase > upgrading {
		if b, err = l.frames(c, b); err != nil {
			return err
		}
	}
	c.tail = append(c.tail[:0], b...)
	return nil
}

func (p phase) String() string {
	return [...]string{"before it was dialled", "while connecting", "during the upgrade", "before its greeting",
		"before it was subscribed", "after it was subscribed", "after it ended"}[p]
}

// upgraded reads the answer to the HTTP request and returns what follows it.
func (l *load) upgraded(c *conn, b []byte) ([]byte, error) {
	head, rest, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	if !whole {
		if len(b) > 16<<10 {
			return nil, errors.New("the server's answer to the upgrade has no end within 16 KiB")
		}
		return b, nil
	}
	status, headers, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 101")) {
		return nil, fmt.Errorf("the server refused the upgrade: %s: %.200s", status, rest)
	}
	if !bytes.Contains(headers, []byte(l.accept)) {
		return nil, errors.New("the server's Sec-WebSocket-Accept does not answer our key")
	}
	c.phase = greeting
	return rest, nil
}

// frames handles the whole frames in b and returns the rest.
func (l *load) frames(c *conn, b []byte) ([]byte, error) {
	var at time.Duration
	if l.onDelivery != nil || c.role == pinger {
		at = l.now()
	}
	var d delivery
	for {
		f, size, err := nextFrame(b)
		if err != nil || size == 0 {
			return b, err
		}
		b = b[size:]
		if f.opcode == opText && f.final && c.phase == open {
			switch c.role {
			case subscriber:
				if l.scanner.scan(f.payload, &d) {
					l.deliver(c, &d, at)
					continue
				}
			case pinger:
				if string(f.payload) == c.words.pong {
					if err := l.pong(c, at); err != nil {
						return b, err
					}
					continue
				}
			}
		}
		if err := l.other(c, f, at); err != nil {
			return b, err
		}
	}
}

func (l *load) deliver(c *conn, d *delivery, at time.Duration) {
	if l.seq == nil {
		return
	}
	if l.onDelivery != nil {
		l.onDelivery(d, at)
	}
	l.seq.receive(c.id, d)
}

func (l *load) pong(c *conn, at time.Duration) error {
	if !l.pinging {
		return nil
	}
	l.roundTrips.add(at - c.pingedAt)
	return l.sendPing(c, at)
}

func (l *load) sendPing(c *conn, at time.Duration) error {
	c.pingedAt = at
	c.out = append(c.out, l.ping...)
	return l.flush(c)
}

// other handles every frame that is not plainly a delivery or a pong.
func (l *load) other(c *conn, f frame, at time.Duration) error {
	switch f.opcode {
	case opPing:
		return l.send(c, opPong, f.payload)
	case opPong:
		return nil
	case opClose:
		if len(f.payload) < 2 {
			return fmt.Errorf("the server closed the connection %s", c.phase)
		}
		return fmt.Errorf("the server closed the connection %s: code %d %q", c.phase, binary.BigEndian.Uint16(f.payload), f.payload[2:])
	case opText, opContinuation:
		if !f.final || f.opcode == opContinuation {
			if len(c.parts)+len(f.payload) > maxFrame {
				return fmt.Errorf("the server sent a message of more than %d bytes", maxFrame)
			}
			c.parts = append(c.parts, f.payload...)
			if !f.final {
				return nil
			}
			f.payload, c.parts = c.parts, nil
		}
		return l.event(c, f.payload, at)
	default:
		return fmt.Errorf("the server sent a frame with opcode %d", f.opcode)
	}
}

// event handles a parsed message.
func (l *load) event(c *conn, payload []byte, at time.Duration) error {
	if c.words == &socketIO {
		return l.packet(c, payload, at)
	}
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return fmt.Errorf("the server sent %.200q: %w", payload, err)
	}
	switch {
	case c.phase == greeting:
		var data struct {
			SocketID string `json:"socket_id"`
		}
		if json.Unmarshal(e.object(), &data); e.Event != c.words.greeting || data.SocketID == "" {
			return fmt.Errorf("the server greeted with %.200q: want %s with a socket_id", payload, c.words.greeting)
		}
		c.socketID = data.SocketID
		return l.join(c)
	case slices.Contains(c.words.refusals, e.Event):
		return fmt.Errorf("the server answered %.300s", payload)
	case e.Event == c.words.succeeded || e.Event == "ack":
		l.answered(c)
	case string(payload) == c.words.pong && c.role == pinger:
		return l.pong(c, at)
	default:
		l.parsed(c, &e, at)
	}
	return nil
}

// answered is called for every answer to what join sent.
func (l *load) answered(c *conn) {
	if c.phase == joining {
		if c.await--; c.await == 0 {
			l.ready(c)
		}
	}
}

// parsed handles an event that may be a delivery.
func (l *load) parsed(c *conn, e *event, at time.Duration) {
	if e.Event != eventName || c.role != subscriber || c.phase < joining || l.seq == nil {
		return
	}
	var d delivery
	if !d.parse(c.words, e) {
		l.seq.Altered++
		return
	}
	l.deliver(c, &d, at)
}

// join sends what a greeted connection must have answered before it is open.
func (l *load) join(c *conn) error {
	c.phase = joining
	switch c.role {
	case subscriber:
		perConn := max(l.cfg.PerConn, 1)
		for k := range perConn {
			channel := (c.id*perConn + k) % max(l.cfg.Channels, 1)
			c.out = appendFrame(c.out, opText, []byte(c.words.subscribe(channelPrefix+strconv.Itoa(channel))), l.key)
		}
		c.await = perConn
	case publisher: // may it publish at all?
		if l.cfg.Burst > 0 { // it only asks the server's program to
			l.ready(c)
			break
		}
		c.out = appendFrame(c.out, opText, []byte(c.words.mayPublish), l.key)
		c.await = 1
	case pinger:
		l.ready(c)
	}
	return l.flush(c)
}

func (l *load) ready(c *conn) {
	c.phase = open
	l.opened++
}
