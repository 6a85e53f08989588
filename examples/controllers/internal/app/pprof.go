package app

import (
	"net/http"
	"net/http/pprof"
	"runtime"
)

// profiles are the endpoints of Flux's controllers for profiles, which are
// served beside the metrics.
func profiles() map[string]http.Handler {
	return map[string]http.Handler{
		"/debug/pprof/":        http.HandlerFunc(pprof.Index), // with those that are named after it: heap, goroutine, ...
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
}

// profileMutexes has one of five contentions of a mutex counted, as in Flux.
func profileMutexes() {
	const one = 5
	runtime.SetMutexProfileFraction(one)
}
