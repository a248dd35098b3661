package hub

import (
	"context"
	"sync"
)

// serial runs functions in order per key, each key on a goroutine of its own that exists while it has work.
type serial struct {
	mu    sync.Mutex
	queue map[any][]func() // a key is present while its goroutine runs
	total int
	wg    sync.WaitGroup
}

const serialMax = 64 << 10 // functions waiting in all

// do queues f behind the others of its key; false when too much waits.
func (s *serial) do(key any, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= serialMax {
		return false
	}
	s.total++
	if s.queue == nil {
		s.queue = map[any][]func(){}
	}
	q, running := s.queue[key]
	s.queue[key] = append(q, f)
	if !running {
		s.wg.Add(1)
		go s.run(key)
	}
	return true
}

func (s *serial) run(key any) {
	defer s.wg.Done()
	for {
		s.mu.Lock()
		q := s.queue[key]
		if len(q) == 0 {
			delete(s.queue, key)
			s.mu.Unlock()
			return
		}
		s.queue[key] = nil
		s.mu.Unlock()
		for _, f := range q {
			f()
			s.mu.Lock()
			s.total--
			s.mu.Unlock()
		}
	}
}

// wait returns when nothing is left to run, or ctx ends: with false.
func (s *serial) wait(ctx context.Context) bool {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.queue) == 0
	}
}
