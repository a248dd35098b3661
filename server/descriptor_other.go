//go:build !unix

package server

import (
	"errors"
	"net"
)

// Without descriptors every connection is a pump.

var errNoDescriptors = errors.New("server: no descriptors on this system")

func duplicate(*net.TCPConn) (int, error) { return -1, errNoDescriptors }
func closeDescriptor(int)                 {}
func fileConn(int) (net.Conn, error)      { return nil, errNoDescriptors }
