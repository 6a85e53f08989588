package bucket

import (
	"context"
	"maps"
	"sync"
)

// parallel is how many objects are downloaded at once: enough to hide the way
// to the server, and few enough not to be throttled.
const parallel = 16

// download reads all objects, or those that the last fetch did not read. The
// first failure ends the others.
func (s *Source) download(ctx context.Context, objects []Object) (map[string][]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	known := s.last
	s.mu.Unlock()

	var mu sync.Mutex
	got := make(map[Object][]byte, len(objects))
	queue := make(chan Object)
	var workers sync.WaitGroup
	for range min(parallel, len(objects)) {
		workers.Go(func() {
			for o := range queue {
				data, err := s.get(ctx, o)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				got[o] = data
				mu.Unlock()
			}
		})
	}
	reused := map[Object][]byte{}
	for _, o := range objects {
		if data, ok := known[o]; ok {
			reused[o] = data
			continue
		}
		select {
		case queue <- o:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	maps.Copy(got, reused)
	if s.opts.Reuse {
		s.mu.Lock()
		s.last = got
		s.mu.Unlock()
	}
	files := make(map[string][]byte, len(got))
	for o, data := range got {
		files[o.Key] = data
	}
	return files, nil
}
