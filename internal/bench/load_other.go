//go:build !linux

package bench

import (
	"context"
	"errors"
	"runtime"
)

func run(context.Context, Config) (Result, error) {
	return Result{}, errors.New("the load generator runs on Linux only, not on " + runtime.GOOS)
}
