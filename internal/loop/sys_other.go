//go:build !linux

package loop

import (
	"errors"
	"time"
)

// Elsewhere every connection is a pump, so that no descriptor ever reaches these.

var errAgain = errors.New("loop: would block")

var errNoPoller = errors.New("loop: no poller for descriptors on this system")

func readFD(int, []byte) (int, error)   { return 0, errNoPoller }
func writeFD(int, []byte) (int, error)  { return 0, errNoPoller }
func writevFD(int, []item) (int, error) { return 0, errNoPoller }
func shutdownWrite(int)                 {}
func closeFD(int)                       {}

func newPoller(now func() time.Time) (poller, error) { return newChanPoller(now), nil }
