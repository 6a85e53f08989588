package runtime_test

import "runtime"

func goexit() { runtime.Goexit() }
