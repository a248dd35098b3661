// Package modeltest is what the tests share that let chance act on the code and on a model of it.
package modeltest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seed is REALTIME_SEED, or by chance; a failure of the test says which it was.
func Seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("REALTIME_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("REALTIME_SEED: %v", err)
		}
		s = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("REALTIME_SEED=%d", s)
		}
	})
	return s
}
