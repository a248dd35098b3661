//go:build !linux

package loop

import "net"

type listener struct{}

// Accepted is for systems with a poller.
type Accepted func(l *Loop, fd int, remote net.Addr)

// Listen is for systems with a poller.
func (l *Loop) Listen(*net.TCPListener, Accepted) error { return errPumpsOnly }

// StopListening undoes Listen.
func (l *Loop) StopListening() error { return nil }

func (l *Loop) closeListener(listener)    {}
func (l *Loop) readyListener(slot uint32) {}

func peerOf(int) string { return "" }
