package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/stacksjs/realtime-go/auth"
)

const (
	window        = 5 * time.Minute // from a request's first attempt to its last
	attemptTime   = 5 * time.Second // for an answer
	firstBackoff  = 500 * time.Millisecond
	longest       = 30 * time.Second // back-off
	maxBatch      = 100              // events of a request
	maxBatchBytes = 256 << 10        // their size, unless one alone is larger
)

// run delivers what an endpoint's queue holds, a request after the other, until it is empty.
func (s *Sender) run(e *endpoint) {
	for {
		batch, size, key := s.take(e)
		if batch == nil {
			return
		}
		sent := s.deliver(e, batch, key)
		s.mu.Lock()
		e.bytes -= size
		e.stats.Waiting -= len(batch)
		if sent {
			e.stats.Sent += int64(len(batch))
		} else {
			e.stats.Dropped += int64(len(batch))
		}
		s.mu.Unlock()
	}
}

// take returns what goes into the next request, and the key that signs it; nil when the goroutine is to end, because
// nothing waits or all is given up.
func (s *Sender) take(e *endpoint) (batch []Event, size int, key auth.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		e.stats.Dropped += int64(len(e.queue))
		e.stats.Waiting, e.bytes, e.queue = 0, 0, nil
	}
	n := 0
	for n < len(e.queue) && n < maxBatch {
		more := e.queue[n].size()
		if n > 0 && size+more > maxBatchBytes {
			break
		}
		size += more
		n++
	}
	if n == 0 {
		e.running, e.queue = false, nil
		return nil, 0, key
	}
	batch = slices.Clone(e.queue[:n])
	clear(e.queue[:n])
	e.queue = e.queue[n:]
	return batch, size, s.key
}

// deliver sends a request until the endpoint takes it, and reports whether it did. Body and signature are made once.
func (s *Sender) deliver(e *endpoint, batch []Event, key auth.Key) bool {
	body := appendBody(nil, batch)
	header := e.header.Clone()
	header.Set("X-Pusher-Key", key.Key)
	header.Set("X-Pusher-Signature", auth.SignWebhook(key.Secret, body))
	end := time.Now().Add(window)
	backoff, closing := firstBackoff, s.closing
	for attempt := 1; ; attempt++ {
		err := s.post(e.URL, header, body)
		if err == nil {
			return true
		}
		if s.ctx.Err() != nil {
			return false
		}
		args := []any{"app", s.cfg.App, "url", e.name, "events", len(batch), "attempts", attempt, "error", err}
		left := time.Until(end)
		if left <= 0 {
			s.cfg.Logger.Error("events for a webhook are lost because it failed for five minutes", args...)
			return false
		}
		if attempt == 1 {
			s.cfg.Logger.Warn("a webhook failed, and is tried again for five minutes", args...)
		}
		wait := time.NewTimer(min(backoff/2+rand.N(backoff), left))
		backoff = min(2*backoff, longest)
		select {
		case <-wait.C:
		case <-closing: // there is no time to lose
			backoff, closing = firstBackoff, nil
		case <-s.ctx.Done():
		}
		wait.Stop()
		if s.ctx.Err() != nil {
			return false
		}
		s.mu.Lock()
		e.stats.Retried++
		s.mu.Unlock()
	}
}

// post makes one attempt.
func (s *Sender) post(address string, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	resp, err := s.client.Do(r)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("no answer within %v", attemptTime)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err // without the URL, which may hold a secret
	}
	if err != nil {
		return err
	}
	io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the answer is %.60q", resp.Status)
	}
	return nil
}
