// Package null is the driver that sends nowhere: for programs that run where nobody listens.
package null

import (
	"context"

	"github.com/stacksjs/realtime-go"
)

type driver struct{}

// New returns a driver that accepts every message and drops it; only an ended ctx is an error.
func New() realtime.Driver { return driver{} }

func (driver) Send(ctx context.Context, _ *realtime.Message) error { return context.Cause(ctx) }
