package null_test

import (
	"testing"

	"github.com/stacksjs/realtime-go"
	"github.com/stacksjs/realtime-go/driver/drivertest"
	"github.com/stacksjs/realtime-go/driver/null"
)

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		New: func(*testing.T) (realtime.Driver, func() realtime.Message) { return null.New(), nil },
	})
}
