package testenv

import (
	"context"
	"os"
	"sync"
)

// The server that all tests of a process share is the only state of this package that outlives a call. It is started by
// the first test that needs it and ends with the process, because only the end of the process is known to come after
// the last test; the server notices the end of its input, whether the process has ended by itself or was killed.
var shared struct {
	mu     sync.Mutex
	server *Server
	err    error
}

// sharedOptions is what the shared server has: enough that a test rarely needs a server of its own.
func sharedOptions() *Options { return &Options{SimulatedNodes: 2, Progress: os.Stderr} }

// sharedServer returns the shared server and starts it if there is none. An error is kept: what failed once after minutes
// of building would only cost the next test the same minutes.
func sharedServer(ctx context.Context) (*Server, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.err != nil {
		return nil, shared.err
	}
	if shared.server != nil {
		return shared.server, shared.server.Err()
	}
	shared.server, shared.err = Launch(ctx, sharedOptions())
	return shared.server, shared.err
}
