package bench

import (
	"math/bits"
	"time"
)

// latencies counts durations in buckets 1/64 of their size wide, so a quantile is exact to 2 %.
type latencies struct {
	buckets [64 * 40]uint32
	count   int64
}

func (l *latencies) add(d time.Duration) {
	l.buckets[bucket(uint64(max(d, 0)))]++
	l.count++
}

// bucket numbers values below 64 by themselves, and every doubling above in 64 steps, up to 2^45 ns (ten hours).
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-7, 0)
	return min(shift*64+int(v>>shift), 64*40-1)
}

// quantile returns the upper end of the bucket that holds the q-th part of all values, in microseconds.
func (l *latencies) quantile(q float64) float64 {
	if l.count == 0 {
		return 0
	}
	left := int64(q*float64(l.count-1)) + 1
	for i, n := range l.buckets {
		if left -= int64(n); left <= 0 {
			shift := max(i/64-1, 0)
			return float64(uint64(i-shift*64+1)<<shift) / 1000
		}
	}
	return 0
}
