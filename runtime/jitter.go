package runtime

import (
	"fmt"
	"math"
	"time"
)

// keyHash returns a hash of the key that is the same in every process, so that the phase of a key survives a restart.
func keyHash[K comparable](k K) uint32 {
	h := uint64(14695981039346656037) // FNV-1a
	var text []byte
	if s, ok := any(k).(string); ok {
		text = []byte(s)
	} else {
		text = fmt.Append(nil, k)
	}
	for _, b := range text {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return uint32(mix(h) >> 32) // the high half is meant
}

// mix spreads the bits of x (the finalizer of splitmix64): FNV alone leaves the high bits of short keys alike.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// spread moves the interval by up to ±fraction, evenly distributed, and always the same way for the same seed, key
// and number of pass.
func spread[K comparable](interval time.Duration, fraction float64, seed uint64, key K, pass uint32) time.Duration {
	if fraction <= 0 {
		return interval
	}
	u := float64(mix(mix(seed)^uint64(keyHash(key))<<32^uint64(pass))>>11) / (1 << 53) // in [0, 1)
	d := float64(interval) * (1 + fraction*(2*u-1))
	if d >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(d)
}
