package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var errAgain = error(unix.EAGAIN)

// The descriptors are non-blocking, so these calls cannot wait; raw, they do not pay for telling the scheduler
// that they might.

func readFD(fd int, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == 0 {
			return int(n), nil
		}
		if e == unix.EAGAIN {
			return 0, errAgain
		}
		if e != unix.EINTR {
			return 0, os.NewSyscallError("read", e)
		}
	}
}

func writeFD(fd int, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == 0 {
			return int(n), nil
		}
		if e == unix.EAGAIN {
			return 0, errAgain
		}
		if e != unix.EINTR {
			return 0, os.NewSyscallError("write", e)
		}
	}
}

func writevFD(fd int, items []item) (int, error) {
	var iov [64]unix.Iovec
	n := min(len(items), len(iov))
	for i := range n {
		iov[i].Base = unsafe.SliceData(items[i].b)
		iov[i].SetLen(len(items[i].b))
	}
	for {
		w, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), uintptr(n))
		if e == 0 {
			return int(w), nil
		}
		if e == unix.EAGAIN {
			return 0, errAgain
		}
		if e != unix.EINTR {
			return 0, os.NewSyscallError("writev", e)
		}
	}
}

func shutdownWrite(fd int) { unix.Shutdown(fd, unix.SHUT_WR) }
func closeFD(fd int)       { unix.Close(fd) }

// epoll is the poller of Linux. While nothing happens the loop's goroutine is parked in the Go runtime's own
// poller, which watches the epoll descriptor as it would a socket: no thread sits in a system call that the
// runtime would have to take the processor away from, and no processor is lost on the way back.
type epoll struct {
	fd      int
	file    *os.File
	raw     syscall.RawConn
	wakeup  int // eventfd
	buf     []unix.EpollEvent
	n       int                // what the last call found
	look    func(uintptr) bool // e.lookOnce, made once
	now     func() time.Time
	expires time.Time
}

func newPoller(now func() time.Time) (poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("loop: epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("loop: eventfd: %w", err)
	}
	e := &epoll{fd: fd, wakeup: wake, now: now, buf: make([]unix.EpollEvent, 512)}
	e.look = e.lookOnce
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1, Pad: 0})
	if err == nil {
		err = unix.SetNonblock(fd, true) // makes os.NewFile hand it to the runtime's poller
	}
	if err == nil {
		e.file = os.NewFile(uintptr(fd), "epoll")
		e.raw, err = e.file.SyscallConn()
	}
	if err == nil {
		if err = e.file.SetReadDeadline(time.Time{}); err != nil {
			err = fmt.Errorf("the runtime does not poll it: %w", err)
		}
	}
	if err != nil {
		unix.Close(wake)
		unix.Close(fd)
		return nil, fmt.Errorf("loop: epoll descriptor: %w", err)
	}
	return e, nil
}

func (e *epoll) polls() bool { return true }

func (e *epoll) lookOnce(uintptr) bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(unsafe.SliceData(e.buf))), uintptr(len(e.buf)), 0, 0, 0)
	if errno != 0 {
		n = 0
	}
	e.n = int(n)
	return n > 0
}

func (e *epoll) wait(events []event, block bool, until time.Time) int {
	if !e.lookOnce(0) {
		if !block {
			return 0
		}
		if until != e.expires {
			e.expires = until
			if !until.IsZero() {
				// The loop's clock may not be the wall clock: what counts is how far away until is.
				until = time.Now().Add(until.Sub(e.now()))
			}
			e.file.SetReadDeadline(until)
		}
		if err := e.raw.Read(e.look); err != nil {
			e.expires = time.Unix(1, 0) // passed: must be set anew before the next wait
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				runtime.Gosched()
			}
			return 0
		}
	}
	n := 0
	for i := range e.n {
		ev := &e.buf[i]
		if ev.Fd == -1 {
			var b [8]byte
			unix.Read(e.wakeup, b[:])
			continue
		}
		events[n] = event{
			slot:     uint32(ev.Fd),
			gen:      uint32(ev.Pad),
			readable: ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
			writable: ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0,
			hangup:   ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0,
		}
		n++
	}
	return n
}

func (e *epoll) wake() {
	one := [8]byte{0: 1}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(e.wakeup), uintptr(unsafe.Pointer(&one)), 8)
}

func (e *epoll) add(fd int, slot, gen uint32) error {
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(slot), Pad: int32(gen)})
}

func (e *epoll) mod(fd int, slot, gen uint32, read, write bool) {
	ev := unix.EpollEvent{Fd: int32(slot), Pad: int32(gen)}
	if read {
		ev.Events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if write {
		ev.Events |= unix.EPOLLOUT
	}
	unix.EpollCtl(e.fd, unix.EPOLL_CTL_MOD, fd, &ev)
}

func (e *epoll) del(fd int) { unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (e *epoll) close() {
	e.file.Close()
	unix.Close(e.wakeup)
}
