//go:build !linux

package loop

type listener struct{}

func (l *Loop) closeListener(listener)    {}
func (l *Loop) readyListener(slot uint32) {}
