// Package share lets many who want the same content have it with one fetch.
//
//	cache := &share.Cache{}
//	defer cache.Close()
//	src, err := git.New(url, opts)
//	...
//	rev, err := src.Resolve(ctx) // what is new is asked for by everyone
//	artifact, err := cache.Fetch(ctx, key, rev, src)
//	defer artifact.Close()
//
// A revision never changes, so that whoever asks for one that is being fetched,
// or was a moment ago, gets the same content. The key tells apart what must not
// be shared: it has to change with everything that decides whether the content
// may be had and what it is, which is the address, the credentials and the
// verification. It is compared, not parsed; a digest of the parts is a good one.
//
// # Bounds
//
// Content that somebody uses is held once, however many they are. When the last
// of them closes it, it is kept for Cache.Keep, as long as all that is kept has
// no more than Cache.Idle bytes; the oldest goes first.
//
// # Errors
//
// Errors are those of the source. Whoever waits for a fetch that fails gets its
// error; nothing is remembered of it.
//
// # Concurrency
//
// A Cache is safe for concurrent use. A fetch goes on as long as somebody waits
// for it: that one caller leaves does not fail the others.
//
// # What it does not do
//
// It shares no Resolve: an answer about what is newest that was asked for
// earlier may be old. It keeps nothing on disk.
package share

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gitopskit/gitopskit/source"
)

// Cache holds content that several may want. The zero value is ready. It must
// not be copied.
type Cache struct {
	// Idle bounds the bytes of files that are kept although nobody uses them. 0
	// means 32 MiB, which is many configurations and little memory; negative
	// means that nothing is kept.
	Idle int64
	// Keep is how long content is kept that nobody uses; 0 means a minute, in
	// which those that begin together have come by.
	Keep time.Duration

	mu      sync.Mutex
	entries map[id]*entry
	idle    []*entry // the oldest first
	bytes   int64    // of idle
	closed  bool
}

type id struct{ key, revision string }

// entry is one content, or the fetch of it.
type entry struct {
	id      id
	done    chan struct{} // closed when the fetch has ended
	cancel  context.CancelFunc
	content *source.Artifact
	err     error
	users   int // those who wait, and those who have it
	size    int64
	timer   *time.Timer // of idle content
}

// Fetch returns the content of a revision of src, by a fetch of its own or that
// of another caller with the same key. What it returns has to be closed.
func (c *Cache) Fetch(ctx context.Context, key string, rev source.Revision, src source.Source) (*source.Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	e := c.join(ctx, id{key, rev.String()}, rev, src)
	select {
	case <-e.done:
	case <-ctx.Done():
		c.leave(e)
		return nil, context.Cause(ctx)
	}
	if e.err != nil {
		c.leave(e)
		return nil, e.err
	}
	return source.NewArtifact(e.content.Revision, e.content, &source.ArtifactOptions{
		Metadata: maps.Clone(e.content.Metadata), Verified: slices.Clone(e.content.Verified),
		Close: func() error { c.leave(e); return nil },
	}), nil
}

// Close drops what nobody uses. What somebody uses is dropped with its last
// user, and nothing is kept any more.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	dropped := c.shrink(0)
	c.mu.Unlock()
	return discard(dropped)
}

// join returns the entry of an id with one more user.
func (c *Cache) join(ctx context.Context, key id, rev source.Revision, src source.Source) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		if e.users == 0 {
			c.unidle(e)
		}
		e.users++
		return e
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &entry{id: key, done: make(chan struct{}), cancel: cancel, users: 1}
	if c.entries == nil {
		c.entries = map[id]*entry{}
	}
	c.entries[key] = e
	go c.fetch(ctx, e, rev, src)
	return e
}

// fetch fills an entry.
func (c *Cache) fetch(ctx context.Context, e *entry, rev source.Revision, src source.Source) {
	defer e.cancel()
	content, err := src.Fetch(ctx, rev)
	if err == nil {
		e.size = sizeOf(content)
	}
	c.mu.Lock()
	e.content, e.err = content, err
	abandoned := e.users == 0
	if err != nil || abandoned {
		c.remove(e)
	}
	close(e.done)
	c.mu.Unlock()
	if abandoned && content != nil {
		_ = content.Close() // nobody is there to be told
	}
}

// leave takes a user from an entry.
func (c *Cache) leave(e *entry) {
	c.mu.Lock()
	e.users--
	var dropped []*entry
	if e.users == 0 {
		dropped = c.unused(e)
	}
	c.mu.Unlock()
	_ = discard(dropped) // what is read cannot be lost by closing
}

// unused decides what becomes of an entry without users, and returns what is to
// be closed.
func (c *Cache) unused(e *entry) []*entry {
	select {
	case <-e.done:
	default:
		e.cancel()
		c.remove(e) // the next one begins anew
		return nil
	}
	most := c.Idle
	if most == 0 {
		most = 32 << 20
	}
	switch {
	case e.content == nil:
		return nil
	case c.closed || e.size > most || c.entries[e.id] != e:
		c.remove(e)
		return []*entry{e}
	}
	dropped := c.shrink(most - e.size)
	keep := c.Keep
	if keep <= 0 {
		keep = time.Minute
	}
	c.idle, c.bytes = append(c.idle, e), c.bytes+e.size
	e.timer = time.AfterFunc(keep, func() { c.expire(e) })
	return dropped
}

// expire drops an entry that was not used for long.
func (c *Cache) expire(e *entry) {
	c.mu.Lock()
	if !slices.Contains(c.idle, e) {
		c.mu.Unlock()
		return
	}
	c.unidle(e)
	c.remove(e)
	c.mu.Unlock()
	_ = discard([]*entry{e})
}

// shrink takes the oldest idle entries out until the others have no more bytes
// than given.
func (c *Cache) shrink(most int64) (dropped []*entry) {
	for len(c.idle) > 0 && (c.bytes > most || c.closed) {
		e := c.idle[0]
		c.unidle(e)
		c.remove(e)
		dropped = append(dropped, e)
	}
	return dropped
}

func (c *Cache) unidle(e *entry) {
	e.timer.Stop()
	c.idle = slices.DeleteFunc(c.idle, func(other *entry) bool { return other == e })
	c.bytes -= e.size
}

func (c *Cache) remove(e *entry) {
	if c.entries[e.id] == e {
		delete(c.entries, e.id)
	}
}

// discard closes content, outside of the lock.
func discard(entries []*entry) error {
	var first error
	for _, e := range entries {
		if err := e.content.Close(); first == nil {
			first = err
		}
	}
	return first
}

// sizeOf is the size of all files; what cannot be counted counts for nothing,
// because reading it fails later.
func sizeOf(tree fs.FS) (n int64) {
	_ = fs.WalkDir(tree, ".", func(_ string, d fs.DirEntry, err error) error {
		const overhead = 256 // of a name and what is known of it
		n += overhead
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it is counted, not read
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
