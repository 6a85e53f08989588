package libtest

import "testing"

func Check(t *testing.T) { panic(t) } // want `panic in a library`
