//go:build !race

package main

import "time"

// allowed is how long all of a repository may take.
const allowed = 3 * time.Second
