package loop

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// listener is a listening socket that a loop accepts from.
type listener struct {
	fd     int
	slot   uint32
	accept func(l *Loop, fd int, from unix.Sockaddr)
}

// Accepted gets every connection accepted: a connected non-blocking descriptor, which it owns, on the loop.
type Accepted func(l *Loop, fd int, remote net.Addr)

const firstListenerSlot = 1 << 31

// Listen makes the loop accept from ln, a TCP listener, until it stops; several loops may share one. The loop
// works on its own duplicate: the caller closes ln when nobody shall connect any more.
func (l *Loop) Listen(ln *net.TCPListener, accepted Accepted) error {
	// Not by File and Fd, which make the socket blocking for a moment: for every loop that shares it, and one that
	// accepts just then would sleep in the kernel with all its connections.
	raw, err := ln.SyscallConn()
	if err != nil {
		return fmt.Errorf("loop: listen: %w", err)
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return fmt.Errorf("loop: listen: %w", err)
	}
	if dupErr != nil {
		return fmt.Errorf("loop: listen: %w", os.NewSyscallError("fcntl", dupErr))
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // which every connection accepted inherits
	done := make(chan error, 1)
	err = l.Post(Func(func(l *Loop) {
		slot := uint32(firstListenerSlot + len(l.listeners))
		err := l.poll.add(fd, slot, 0)
		if err == nil {
			l.listeners = append(l.listeners, listener{fd: fd, slot: slot, accept: func(l *Loop, fd int, from unix.Sockaddr) {
				accepted(l, fd, tcpAddr(from))
			}})
		}
		done <- err
	}), 0)
	if err == nil {
		err = <-done
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("loop: listen: %w", err)
	}
	return nil
}

// StopListening ends Listen: connections not accepted yet are left to whoever shares the socket.
func (l *Loop) StopListening() error {
	return l.Post(Func(func(l *Loop) {
		for i, ln := range l.listeners {
			l.closeListener(ln)
			l.listeners[i].fd = -1
		}
	}), 0)
}

func (l *Loop) closeListener(ln listener) {
	if ln.fd >= 0 {
		l.poll.del(ln.fd)
		unix.Close(ln.fd)
	}
}

func (l *Loop) readyListener(slot uint32) {
	i := int(slot - firstListenerSlot)
	if slot < firstListenerSlot || i >= len(l.listeners) || l.listeners[i].fd < 0 {
		return
	}
	ln := l.listeners[i]
	for range 64 { // then look at the others again
		fd, from, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			ln.accept(l, fd, from)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// Out of descriptors: the kernel keeps the connection waiting. Trying again at once would spin, so
			// look again when the clock next moves.
			l.cfg.Logger.Error("cannot accept a connection: raise the limit on open files, or lower the connection limits", "error", err)
			l.pauseListener(i)
			return
		default:
			return
		}
	}
}

// pauseListener stops accepting for a second.
func (l *Loop) pauseListener(i int) {
	l.poll.del(l.listeners[i].fd)
	time.AfterFunc(time.Second, func() {
		l.Post(Func(func(l *Loop) {
			if ln := l.listeners[i]; ln.fd >= 0 {
				l.poll.add(ln.fd, ln.slot, 0)
			}
		}), 0)
	})
}

func tcpAddr(sa unix.Sockaddr) net.Addr {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port}
	case *unix.SockaddrInet6:
		t := &net.TCPAddr{IP: net.IP(a.Addr[:]), Port: a.Port}
		if a.ZoneId != 0 {
			if ifi, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				t.Zone = ifi.Name
			}
		}
		return t
	}
	return &net.TCPAddr{}
}

func peerOf(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	return tcpAddr(sa).String()
}
