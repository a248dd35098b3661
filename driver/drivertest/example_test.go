package drivertest_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
)

// A driver's test. Its far end, here a Go channel, keeps copies: the message is its sender's again once Send returns.
func ExampleRun() {
	TestDriver := func(t *testing.T) {
		drivertest.Run(t, drivertest.Harness{
			New: func(t *testing.T) (realtime.Driver, func() realtime.Message) {
				far := make(chan realtime.Message, drivertest.MaxWaiting)
				driver := realtime.DriverFunc(func(ctx context.Context, m *realtime.Message) error {
					if err := ctx.Err(); err != nil {
						return err
					}
					c := *m
					c.Channels, c.Data = slices.Clone(m.Channels), slices.Clone(m.Data)
					c.ExceptSockets, c.ExceptUsers = slices.Clone(m.ExceptSockets), slices.Clone(m.ExceptUsers)
					far <- c
					return nil
				})
				return driver, func() realtime.Message { return <-far }
			},
		})
	}
	_ = TestDriver
}
