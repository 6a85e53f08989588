package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Route leads events to one destination. Required are Name and Sender.
type Route struct {
	// Name names the destination in errors and counters; it is unique in its Bus.
	Name string
	// Sender delivers the events.
	Sender Sender
	// Rule chooses the events and adds to them; nil means all of them as they are.
	Rule *Rule
	// Match chooses among those; nil means all. It is called by Emit and must return at once.
	Match func(Event) bool
	// Window is how long repetitions are held back, see [Bus.Emit]; 0 means not at all.
	Window time.Duration
	// Queue bounds what waits for delivery, what is being sent included.
	Queue Queue
	// Retry says how often a failed delivery is repeated.
	Retry Retry
	// Timeout bounds one call of Sender.Send; 0 means 30 seconds.
	Timeout time.Duration
	// Parallel is how many events, of different objects, are sent at the same time; 0 means 4. Events of one
	// object are sent one after the other.
	Parallel int
}

// Queue bounds a queue.
type Queue struct {
	// Events is the largest number of events; 0 means 1000.
	Events int
	// Bytes is about the largest memory they hold; 0 means 8 MiB.
	Bytes int64
}

// Retry says how often a failed delivery is repeated: after a random time between 0 and a bound that is Min at
// first and doubles up to Max (full jitter); if the destination asks for a pause, all of its events wait that long.
type Retry struct {
	// Min is the first bound; 0 means 1 second.
	Min time.Duration
	// Max is the last bound; 0 means 1 minute, or Min if that is longer.
	Max time.Duration
	// MaxAge is how old an event may get before it is given up, counted from Emit, or from the end of the Window that
	// has held it back; 0 means 1 hour.
	MaxAge time.Duration
	// Times is how often an event is sent again at most; 0 means as often as MaxAge allows, or what the method
	// "Retries() int" of the Sender says if it has one, as [EventSink] has: a Sender around another one should have it,
	// too.
	Times int
}

// BusOptions configure a [Bus]; nil means the defaults.
type BusOptions struct {
	// Lost is told about each event that a route will not deliver: with ErrFull when it made way in the queue,
	// else with the last error of the sender. It is called by Emit or by a goroutine of the route, and must
	// neither block nor emit to the same bus.
	Lost func(Delivery)
}

// Delivery is an event on its way to a destination.
type Delivery struct {
	// Route is the name of the route.
	Route string
	// Event is the event.
	Event Event
	// Attempts is how often it was sent.
	Attempts int
	// Err is the last error, nil if there is none.
	Err error
}

// RouteStats are the counters of a route. Every event that matched is counted once in Delivered, Dropped, Failed,
// Queued, or Repeated.
type RouteStats struct {
	// Route is the name of the route.
	Route string
	// Queued and Bytes are what waits or is being sent.
	Queued int
	Bytes  int64
	// Delivered, Dropped (the queue was full, or the bus closed before it was delivered) and Failed (given up)
	// count events, Retries counts repeated sends.
	Delivered, Dropped, Failed, Retries uint64
	// Repeated counts the repetitions that Route.Window held back. They are counted nowhere else, but the event
	// that stands for them is.
	Repeated uint64
	// LastErr is the last error of the sender, nil if the last send was a success.
	LastErr error
}

var (
	// ErrFull: the queue of a route is full of more important events.
	ErrFull = errors.New("queue full")
	// ErrClosed: the bus is closed.
	ErrClosed = errors.New("bus closed")
)

// Bus takes events and delivers them in the background, each route for itself. It is made by [NewBus] and safe for
// concurrent use. It runs goroutines only while there is something to send.
type Bus struct {
	opts   BusOptions
	routes []*route

	mu     sync.Mutex
	closed bool
}

// NewBus returns a bus with the routes. The error lists all problems with them.
func NewBus(o *BusOptions, routes ...Route) (*Bus, error) {
	b := &Bus{}
	if o != nil {
		b.opts = *o
	}
	var errs []error
	names := make(map[string]bool)
	for i, r := range routes {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("route %d %q: %w", i, r.Name, err))
		} else if names[r.Name] {
			errs = append(errs, fmt.Errorf("route %d %q: the name is used twice", i, r.Name))
		}
		names[r.Name] = true
		n := newRoute(r.withDefaults(), b.opts.Lost)
		if r.Rule != nil {
			var err error
			if n.filter, err = r.Rule.compile(); err != nil {
				errs = append(errs, fmt.Errorf("route %d %q: %w", i, r.Name, err))
			}
		}
		b.routes = append(b.routes, n)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("notify: new bus: %w", errors.Join(errs...))
	}
	return b, nil
}

func (r Route) validate() error {
	var errs []error
	if r.Name == "" {
		errs = append(errs, errors.New("the Name is empty"))
	}
	if r.Sender == nil {
		errs = append(errs, errors.New("the Sender is nil"))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Queue.Events", int64(r.Queue.Events)},
		{"Queue.Bytes", r.Queue.Bytes},
		{"Retry.Min", int64(r.Retry.Min)},
		{"Retry.Max", int64(r.Retry.Max)},
		{"Retry.MaxAge", int64(r.Retry.MaxAge)},
		{"Retry.Times", int64(r.Retry.Times)},
		{"Window", int64(r.Window)},
		{"Timeout", int64(r.Timeout)},
		{"Parallel", int64(r.Parallel)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", f.name))
		}
	}
	if r.Retry.Max > 0 && r.Retry.Max < r.Retry.Min {
		errs = append(errs, fmt.Errorf("Retry.Max %v is below Retry.Min %v", r.Retry.Max, r.Retry.Min))
	}
	return errors.Join(errs...)
}

func (r Route) withDefaults() Route {
	fill(&r.Queue.Events, 1000)
	fill(&r.Queue.Bytes, 8<<20)
	fill(&r.Retry.Min, time.Second)
	fill(&r.Retry.Max, max(time.Minute, r.Retry.Min))
	fill(&r.Retry.MaxAge, time.Hour)
	if s, ok := r.Sender.(interface{ Retries() int }); ok {
		fill(&r.Retry.Times, s.Retries())
	}
	fill(&r.Timeout, 30*time.Second)
	fill(&r.Parallel, 4)
	return r
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Emit hands the event to every route that it matches and returns at once; nothing of e is kept. A zero Timestamp
// becomes the present time, a message over [MaxMessage] is shortened.
//
// When a queue is full, the least important events make way, the oldest first: traces; then infos that a later event
// of the same object follows in the queue; then other infos; then errors, and the events that follow an error of the
// same object and so may tell of its end. A less important event never displaces a more important one.
//
// A route with a Window queues one event for each window of repetitions: the first at once; what repeats it, when the
// window ends, as one event that is the last of them, whose metadata has their number under [MetadataCount]; and then
// the next window begins. An event repeats another if it is the next one of the same object, and has the same
// severity, reason and [Event.Key]. So another event of the object is never held back, and comes after what was
// held back before it. What is held back is bounded by Queue too; beyond, the oldest windows end early, and all do at
// Close.
//
// The error is nil if every route has taken the event, else an ErrClosed, or an ErrFull or ErrTooLarge that names
// the routes. A reconciler may ignore it: Lost and Stats tell the same.
func (b *Bus) Emit(e Event) error {
	if e.Timestamp.IsZero() {
		e.Timestamp = time.Now()
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("notify: emit: %w", ErrClosed)
	}
	var errs []error
	for _, r := range b.routes {
		if !r.wants(e) {
			continue
		}
		if err := r.add(r.filter.apply(e.clone())); err != nil {
			errs = append(errs, fmt.Errorf("notify: emit to %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Stats returns the counters of the routes, in the order they were given.
func (b *Bus) Stats() []RouteStats {
	stats := make([]RouteStats, len(b.routes))
	for i, r := range b.routes {
		stats[i] = r.read()
	}
	return stats
}

// closeGrace is how long senders have to return when their context has ended.
const closeGrace = time.Second

// Close takes no more events, and waits until all are delivered or given up, or ctx ends. Then it ends the contexts of
// the sends under way and returns what was not delivered, by route and in the order of Emit, with the error of
// ctx. An event whose send was cut off is among it, though it may have arrived. A second Close returns nothing.
func (b *Bus) Close(ctx context.Context) ([]Delivery, error) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for _, r := range b.routes {
		r.drain()
	}
	for _, r := range b.routes {
		select {
		case <-r.drained:
		case <-ctx.Done():
		}
	}
	var left []Delivery
	for _, r := range b.routes {
		left = slices.Concat(left, r.abort())
	}
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	for _, r := range b.routes {
		select {
		case <-r.quiet:
		case <-grace.C:
			grace.Reset(0)
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	return left, fmt.Errorf("notify: close: %d events not delivered: %w", len(left), context.Cause(ctx))
}
