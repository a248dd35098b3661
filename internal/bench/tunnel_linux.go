package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tunnel carries one connection through TLS: the load reads and writes plain bytes at one end of a socket pair, two
// goroutines move them between the other end and a tls.Conn.
type tunnel struct{ why atomic.Pointer[error] }

// err is what ended the tunnel, or nil.
func (t *tunnel) err() error {
	if p := t.why.Load(); p != nil {
		return *p
	}
	return nil
}

func openTunnel(addr, host string, insecure bool) (*tunnel, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	file := os.NewFile(uintptr(pair[1]), "tunnel")
	plain, err := net.FileConn(file)
	file.Close()
	if err != nil {
		unix.Close(pair[0])
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	t := &tunnel{}
	go t.run(plain, addr, &tls.Config{ServerName: host, InsecureSkipVerify: insecure})
	return t, pair[0], nil
}

// run ends when either side closes; the load closes its end of the pair in any case.
func (t *tunnel) run(plain net.Conn, addr string, config *tls.Config) {
	defer plain.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: config}
	secure, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.why.Store(&err)
		return
	}
	go func() {
		io.Copy(secure, plain)
		secure.Close()
	}()
	io.Copy(plain, secure)
	secure.Close()
}
