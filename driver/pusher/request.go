package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/auth"
)

const (
	library   = "realtime-go 1"
	maxAnswer = 64 << 20 // of a list of channels, say
	firstWait = 100 * time.Millisecond
	// maxWait is the longest that a request waits before it is repeated. A server that asks for more gets no
	// repetition; the error says how long it asked for.
	maxWait = 10 * time.Second

	idempotencyKey = "X-Idempotency-Key"
)

// call is a request to the server's API, which may be sent several times.
type call struct {
	method string
	path   string // below /apps/{id}, and the same escaped
	raw    string
	params map[string]string
	body   []byte
	id     string // of the message, for X-Idempotency-Key
	// harmless says that doing it twice is the same as doing it once.
	harmless bool
}

// do sends a request until it succeeds, or may not or need not be sent again, and decodes the answer into out, which
// may be nil.
func (d *Driver) do(ctx context.Context, c *call, out any) error {
	if d.closed.Load() {
		return realtime.ErrClosed
	}
	wait := firstWait
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		answer, failure := d.once(ctx, c, out != nil)
		if failure == nil {
			if out == nil {
				return nil
			}
			if err := json.Unmarshal(answer, out); err != nil {
				return &Error{Request: d.describe(c), Status: http.StatusOK, Body: string(answer[:min(len(answer), maxKept)]),
					Err: fmt.Errorf("the server took the request, but its answer cannot be read: %w", err)}
			}
			return nil
		}
		pause := wait/2 + rand.N(wait/2+1)
		wait = min(2*wait, maxWait)
		if failure.RetryAfter > 0 {
			pause = failure.RetryAfter + rand.N(firstWait)
		}
		if !failure.again || attempt >= d.cfg.Retries || failure.RetryAfter > maxWait {
			return failure
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause {
			return failure
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", failure, context.Cause(ctx))
		}
	}
}

func (d *Driver) describe(c *call) string {
	u := d.base
	u.Path, u.RawPath = u.Path+c.path, u.RawPath+c.raw
	return c.method + " " + u.String()
}

// once sends a request once, and returns the body of a successful answer, whole if it is needed.
func (d *Driver) once(ctx context.Context, c *call, needed bool) ([]byte, *Error) {
	limited, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()

	// Before the headers are written, the server has nothing of the request; and what its writing was cut off is
	// incomplete, which no server takes.
	var begun, cut atomic.Bool
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		WroteHeaders: func() { begun.Store(true) },
		WroteRequest: func(i httptrace.WroteRequestInfo) { cut.Store(i.Err != nil) },
	})
	res, body, err := d.exchange(traced, c)
	var e *Error
	switch {
	case res == nil:
		e = &Error{Err: err}
		unsent := !begun.Load() || cut.Load()
		hint, forGood := permanent(err)
		e.hint = hint
		e.again = !forGood && (unsent || d.safe(c, d.idempotent.Load()))
	case res.StatusCode/100 != 2:
		e = d.refused(res, body, len(c.body))
		known := d.idempotent.Load() || c.id != "" && res.Header.Get(idempotencyKey) == c.id
		switch {
		case e.Status == http.StatusTooManyRequests:
			e.again = true
		case e.Status >= 500 && e.Status != http.StatusNotImplemented:
			e.again = d.safe(c, known)
		}
	default:
		if c.id != "" {
			d.idempotent.Store(res.Header.Get(idempotencyKey) == c.id)
		}
		if err == nil || !needed {
			return body, nil
		}
		e = &Error{Status: res.StatusCode, Err: fmt.Errorf("the server took the request, but its answer cannot be read: %w", err)}
		e.again = d.safe(c, d.idempotent.Load())
	}
	switch {
	case e.Err == nil:
	case ctx.Err() != nil:
		e.Err = context.Cause(ctx)
	case limited.Err() != nil:
		e.Err = fmt.Errorf("no answer within %v: %w", d.cfg.Timeout, context.DeadlineExceeded)
	}
	e.Request = d.describe(c)
	return nil, e
}

// safe reports whether a request that the server may have taken can be sent again.
func (d *Driver) safe(c *call, idempotent bool) bool {
	return c.harmless || d.cfg.AtLeastOnce || c.id != "" && idempotent
}

// exchange sends a request and reads the whole answer. With an error, the response is there, and what was read of its
// body, if it was the body that could not be read to its end.
func (d *Driver) exchange(ctx context.Context, c *call) (*http.Response, []byte, error) {
	u := d.base
	u.Path, u.RawPath = u.Path+c.path, u.RawPath+c.raw
	// Signed anew each time: the server looks at the time.
	u.RawQuery = auth.SignRequest(c.method, u.EscapedPath(), c.params, c.body, d.cfg.Key, d.cfg.Secret, d.cfg.now())
	req, err := http.NewRequestWithContext(ctx, c.method, u.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("X-Pusher-Library", library)
	if len(c.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.id != "" {
		// Under its canonical name, net/http would take it as leave to repeat the request by itself, whichever server
		// this is. On the wire the case of names does not count.
		req.Header["x-idempotency-key"] = []string{c.id}
	}
	res, err := d.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the signed address
		}
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("it is longer than %d MiB", maxAnswer>>20)
	}
	return res, body, err
}
