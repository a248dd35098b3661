package loop

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Loops that share a listener must never find it blocking: accept would put the loop to sleep in the kernel.
func TestListenNeverMakesTheSocketBlocking(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	stop, blocking := make(chan struct{}), make(chan int)
	go raw.Control(func(fd uintptr) {
		seen := 0
		for {
			select {
			case <-stop:
				blocking <- seen
				return
			default:
			}
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				seen++
			}
		}
	})
	for range 100 {
		l, err := New(0, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Listen(ln.(*net.TCPListener), nil); err != nil {
			t.Fatal(err)
		}
		l.Stop()
	}
	close(stop)
	if n := <-blocking; n > 0 {
		t.Errorf("the socket was seen blocking %d times", n)
	}
}
