//go:build unix

package server

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// duplicate returns a descriptor of our own for the socket, non-blocking and closed on exec.
func duplicate(c *net.TCPConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil {
		err = dupErr
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return fd, err
}

func closeDescriptor(fd int) { unix.Close(fd) }

// fileConn makes a net.Conn of a descriptor, which it closes in any case.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close()
	return net.FileConn(f)
}
