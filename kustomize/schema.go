package kustomize

import (
	"sync"

	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// kustomize keeps the OpenAPI schema that decides how lists merge in variables
// of its kyaml module, one set for the whole process. A kustomization with an
// openapi field replaces them, and nothing puts them back: the next build, of
// another tree, would merge by a stranger's schema. This file owns that state.
//
// Builds without an openapi field share the builtin schema and run side by
// side; a build with one runs alone, starts from a fresh schema and leaves a
// fresh one behind.
//
//nolint:gochecknoglobals // guards the globals of another module, so it must be one itself
var schema struct {
	sync.RWMutex
	loaded bool // the builtin schema is parsed and nothing else was added
}

// sharedSchema holds the builtin schema for reading.
func sharedSchema() (release func()) {
	for {
		schema.RLock()
		if schema.loaded {
			return schema.RUnlock
		}
		schema.RUnlock()
		schema.Lock()
		loadBuiltin()
		schema.Unlock()
	}
}

// privateSchema holds a fresh schema alone and discards it on release.
func privateSchema() (release func()) {
	schema.Lock()
	openapi.ResetOpenAPI()
	return func() {
		openapi.ResetOpenAPI()
		schema.loaded = false
		loadBuiltin()
		schema.Unlock()
	}
}

// loadBuiltin parses the builtin schema ahead of its use: kyaml does it lazily
// and, with builds side by side, not safely.
func loadBuiltin() {
	if !schema.loaded {
		openapi.ResetOpenAPI()
		openapi.Schema()
		schema.loaded = true
	}
}
