package runtime

import (
	"container/list"
	"context"
	"runtime/debug"
	"sync"
)

// Buffer hands observations to something slow, such as an event sink, without holding passes up. It is made by
// [Buffered]; its Observe is for Options.Observe. It is safe for concurrent use.
type Buffer[K comparable] struct {
	next func(context.Context, Observation[K]) error
	size int

	mu      sync.Mutex
	cancel  context.CancelFunc // ends the context of the sender
	waiting *list.List         // of *buffered, the oldest first
	stale   *list.List         // of those there is a newer one of their key for, the oldest first
	newest  map[K]*buffered[K] // by key
	sending bool               // a goroutine is at it
	closed  bool
	idle    []chan struct{} // closed when there is nothing left to send
	dropped uint64
	failed  uint64
}

// buffered is an observation that waits to be sent.
type buffered[K comparable] struct {
	observation Observation[K]
	waiting     *list.Element
	stale       *list.Element // nil for the newest of its key
}

// defaultBuffer is the size of a Buffer that is asked for with 0.
const defaultBuffer = 1024

// Buffered returns a Buffer that calls next with one observation after the other. It holds size of them at most; 0 means
// 1024. When it is full, the oldest one is dropped for whose key there is a newer one, or else the oldest of all, so
// that of every key the newest comes through if there are no more keys than places.
//
// An error of next, a panic or the end of its goroutine is counted and not repeated. The context of next ends with
// [Buffer.Close]. While there is nothing to send the Buffer has no goroutine.
func Buffered[K comparable](next func(context.Context, Observation[K]) error, size int) *Buffer[K] {
	if size <= 0 {
		size = defaultBuffer
	}
	return &Buffer[K]{next: next, size: size, waiting: list.New(), stale: list.New(), newest: make(map[K]*buffered[K])}
}

// Observe takes an observation. It does not block.
func (b *Buffer[K]) Observe(o Observation[K]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.dropped++
		return
	}
	if b.waiting.Len() == b.size {
		b.drop()
	}
	if old := b.newest[o.Key]; old != nil {
		old.stale = b.stale.PushBack(old)
	}
	e := &buffered[K]{observation: o}
	e.waiting = b.waiting.PushBack(e)
	b.newest[o.Key] = e
	if !b.sending {
		b.sending = true
		ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // Observe has none; Close ends this one
		b.cancel = cancel
		go b.send(ctx)
	}
}

// drop makes a place.
func (b *Buffer[K]) drop() {
	from := b.stale
	if from.Len() == 0 {
		from = b.waiting
	}
	b.take(from.Front())
	b.dropped++
}

// take removes an element of one of the lists from both.
func (b *Buffer[K]) take(at *list.Element) *buffered[K] {
	e := at.Value.(*buffered[K]) //nolint:forcetypeassert // the lists hold nothing else
	b.waiting.Remove(e.waiting)
	if e.stale != nil {
		b.stale.Remove(e.stale)
	} else {
		delete(b.newest, e.observation.Key)
	}
	return e
}

// send sends until there is nothing left. When next ends its goroutine, it goes on in another one.
func (b *Buffer[K]) send(ctx context.Context) {
	over := false
	defer func() {
		if !over {
			b.lost()
			go b.send(ctx)
		}
	}()
	for e := b.first(ctx); e != nil; e = b.first(ctx) {
		if err := b.deliver(ctx, e.observation); err != nil {
			b.lost()
		}
	}
	over = true
}

// lost counts an observation that next did not take.
func (b *Buffer[K]) lost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
}

// first takes what is to be sent now; nil if there is nothing, and the sending ends.
func (b *Buffer[K]) first(ctx context.Context) *buffered[K] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting.Len() > 0 && ctx.Err() == nil {
		return b.take(b.waiting.Front())
	}
	b.sending = false
	b.cancel()
	for _, c := range b.idle {
		close(c)
	}
	b.idle = nil
	return nil
}

func (b *Buffer[K]) deliver(ctx context.Context, o Observation[K]) (err error) {
	returned := false
	defer func() {
		if !returned {
			err = &PanicError{Value: recover(), Stack: debug.Stack()}
		}
	}()
	err = b.next(ctx, o)
	returned = true
	return err
}

// Flush waits until everything has been sent, or returns the cause of ctx if that ends first.
func (b *Buffer[K]) Flush(ctx context.Context) error {
	b.mu.Lock()
	if !b.sending {
		b.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	b.idle = append(b.idle, done)
	b.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close sends what is left, as long as ctx allows, and then ends the context of next and drops the rest. Observations
// that come later are dropped. The error is the cause of ctx if that ended first.
func (b *Buffer[K]) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	err := b.Flush(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sending {
		b.cancel()
	}
	b.dropped += uint64(b.waiting.Len())
	b.waiting.Init()
	b.stale.Init()
	clear(b.newest)
	return err
}

// Dropped returns how many observations were dropped because the Buffer was full or closed.
func (b *Buffer[K]) Dropped() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// Failed returns how many times next returned an error, panicked or ended its goroutine.
func (b *Buffer[K]) Failed() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}
