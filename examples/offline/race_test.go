//go:build race

package main

import "time"

// allowed is longer under the race detector, which makes everything slow.
const allowed = time.Minute
