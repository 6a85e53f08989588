package notify

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// route is the queue of a destination. The events of an object form a lane, which at most one goroutine serves, so
// that their order is kept; a lane whose event waits for a retry holds up no other.
type route struct {
	Route
	filter *filter // of Rule
	lost   func(Delivery)

	mu      sync.Mutex
	repeats repeats
	lanes   map[Object]*lane
	ready   []*lane              // with something to send now
	ranks   [rankCount]list.List // what may make way, by importance, of *queued
	stats   RouteStats
	running int
	paused  time.Time // the destination wants nothing before
	timer   *time.Timer

	sending  map[*queued]context.CancelFunc
	sequence uint64
	draining bool
	aborted  bool
	drained  chan struct{} // closed when draining and nothing is queued
	quiet    chan struct{} // closed when aborted and no goroutine runs
}

// lane is the events of one object, the oldest first.
type lane struct {
	object Object
	events []*queued
	busy   bool        // being sent, or in route.ready
	timer  *time.Timer // waiting for a retry
}

type queued struct {
	Delivery
	lane  *lane
	order uint64 // of Emit
	rank  rank
	place *list.Element // in route.ranks; nil while it is being sent
	size  int64
	since time.Time
}

// rank is how important it is to keep an event; the least important makes way first.
type rank uint8

const (
	rankTrace rank = iota
	rankOldInfo
	rankInfo
	rankKeep // errors and what follows them
	rankCount
)

func newRoute(r Route, lost func(Delivery)) *route {
	if lost == nil {
		lost = func(Delivery) {}
	}
	n := &route{
		Route: r, filter: &filter{}, lost: lost, lanes: make(map[Object]*lane), sending: make(map[*queued]context.CancelFunc),
		drained: make(chan struct{}), quiet: make(chan struct{}),
	}
	for i := range n.ranks {
		n.ranks[i].Init()
	}
	return n
}

// wants reports whether the route takes the event.
func (r *route) wants(e Event) bool { return r.filter.match(e) && (r.Match == nil || r.Match(e)) }

// laneOf is what decides which events keep their order: the object, whatever its resource version.
func laneOf(e Event) Object {
	o := e.InvolvedObject
	return Object{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, APIVersion: o.group()}
}

// add takes the event, and lets less important ones make way.
func (r *route) add(e Event) error {
	r.mu.Lock()
	if r.draining {
		r.mu.Unlock()
		return ErrClosed
	}
	victims, err := r.fold(e)
	r.mu.Unlock()
	r.report(victims)
	return err
}

// enqueue queues the event; r.mu is held. The victims are to be reported when it is not.
func (r *route) enqueue(e Event) (victims []*queued, err error) {
	q := &queued{Delivery: Delivery{Route: r.Name, Event: e}, size: e.size(), since: time.Now()}
	q.rank = rankOf(e, r.lanes[laneOf(e)])
	victims, err = r.makeRoom(q)
	if err == nil {
		r.push(q)
		r.pump()
	}
	r.stats.Dropped += uint64(len(victims))
	return victims, err
}

func (r *route) report(victims []*queued) {
	for _, v := range victims {
		if v.Err == nil {
			v.Err = ErrFull
		}
		r.lost(v.Delivery)
	}
}

func rankOf(e Event, l *lane) rank {
	switch {
	case e.Severity > SeverityInfo:
		return rankKeep
	case l != nil && len(l.events) > 0 && l.events[len(l.events)-1].Event.Severity > SeverityInfo:
		return rankKeep
	case e.Severity < SeverityInfo:
		return rankTrace
	}
	return rankInfo
}

// makeRoom takes events out of the queue until q fits in, or returns q itself if it is the one to go.
func (r *route) makeRoom(q *queued) (victims []*queued, err error) {
	if q.size > r.Queue.Bytes {
		q.Err = fmt.Errorf("%w: %d bytes in a queue of %d", ErrTooLarge, q.size, r.Queue.Bytes)
		return []*queued{q}, q.Err
	}
	free := r.Queue.Bytes - r.stats.Bytes
	count := r.Queue.Events - r.stats.Queued
	for at := range q.rank + 1 {
		for el := r.ranks[at].Front(); el != nil && (free < q.size || count < 1); el = el.Next() {
			v := el.Value.(*queued) //nolint:forcetypeassert // the lists hold nothing else
			victims = append(victims, v)
			free += v.size
			count++
		}
	}
	if free < q.size || count < 1 {
		q.Err = ErrFull
		return []*queued{q}, ErrFull
	}
	for _, v := range victims {
		r.remove(v)
	}
	return victims, nil
}

// push appends q to its lane.
func (r *route) push(q *queued) {
	key := laneOf(q.Event)
	l := r.lanes[key]
	if l == nil {
		l = &lane{object: key}
		r.lanes[key] = l
	}
	if n := len(l.events); n > 0 && l.events[n-1].rank == rankInfo && l.events[n-1].place != nil {
		last := l.events[n-1]
		r.ranks[rankInfo].Remove(last.place)
		last.rank = rankOldInfo
		last.place = r.ranks[rankOldInfo].PushBack(last)
	}
	r.sequence++
	q.lane, q.order = l, r.sequence
	l.events = append(l.events, q)
	q.place = r.ranks[q.rank].PushBack(q)
	r.stats.Queued++
	r.stats.Bytes += q.size
	if !l.busy && l.timer == nil {
		r.makeReady(l)
	}
}

func (r *route) makeReady(l *lane) {
	l.busy = true
	r.ready = append(r.ready, l)
}

// remove takes q out of the queue, wherever it is.
func (r *route) remove(q *queued) {
	l := q.lane
	for i, e := range l.events {
		if e == q {
			l.events = append(l.events[:i], l.events[i+1:]...)
			break
		}
	}
	if q.place != nil {
		r.ranks[q.rank].Remove(q.place)
		q.place = nil
	}
	r.stats.Queued--
	r.stats.Bytes -= q.size
	if len(l.events) > 0 {
		return
	}
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if !l.busy {
		delete(r.lanes, l.object)
	}
}

// pump starts goroutines for what is ready.
func (r *route) pump() {
	if r.aborted {
		return
	}
	if wait := time.Until(r.paused); wait > 0 {
		if r.timer == nil {
			r.timer = time.AfterFunc(wait, r.resume)
		}
		return
	}
	for n := len(r.ready); n > 0 && r.running < r.Parallel; n-- {
		r.running++
		go r.work()
	}
}

// resume goes on after a pause the destination has asked for.
func (r *route) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	r.pump()
}

// work sends what is ready until nothing is.
func (r *route) work() {
	for {
		q, ctx := r.take()
		if q == nil {
			return
		}
		err := r.send(ctx, q.Event)
		if gone := r.settle(q, err); gone {
			r.lost(q.Delivery)
		}
	}
}

// take returns the next event to send and its context, or ends the goroutine.
func (r *route) take() (*queued, context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ready) > 0 && !r.aborted && !time.Now().Before(r.paused) {
		l := r.ready[0]
		r.ready = r.ready[1:]
		if len(l.events) == 0 { // all of it made way
			l.busy = false
			delete(r.lanes, l.object)
			continue
		}
		q := l.events[0]
		r.ranks[q.rank].Remove(q.place)
		q.place = nil
		q.Attempts++
		if q.Attempts > 1 {
			r.stats.Retries++
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.Timeout) //nolint:forbidigo // an event outlives the call that posted it
		r.sending[q] = cancel
		return q, ctx
	}
	r.running--
	r.pump() // a pause needs its timer
	r.finish()
	return nil, nil
}

// send calls the sender; a panic is a failure that is not retried.
func (r *route) send(ctx context.Context, e Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &SendError{Op: "send", Destination: r.Name, Err: fmt.Errorf("panic in the sender: %v", v), permanent: true}
		}
	}()
	return r.Sender.Send(ctx, e)
}

// settle records how a send ended and decides what follows. It reports whether the event is given up.
func (r *route) settle(q *queued, err error) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sending[q]()
	delete(r.sending, q)
	l := q.lane
	l.busy = false
	if r.aborted { // Close has counted and returned it
		return false
	}
	r.stats.LastErr, q.Err = err, err
	switch {
	case err == nil:
		r.stats.Delivered++
		r.remove(q)
	case terminal(err), time.Since(q.since) >= r.Retry.MaxAge, r.Retry.Times > 0 && q.Attempts > r.Retry.Times:
		r.stats.Failed++
		r.remove(q)
		lost = true
	default:
		r.retry(q, err)
	}
	if len(l.events) > 0 && l.timer == nil && !l.busy {
		r.makeReady(l)
	}
	r.finish()
	return lost
}

// retry has q sent again, later.
func (r *route) retry(q *queued, err error) {
	q.place = r.ranks[q.rank].PushFront(q)
	if pause := retryAfter(err); pause > 0 {
		r.pause(min(pause, r.Retry.MaxAge))
		return // the lane is ready again, the route is not
	}
	bound := r.Retry.Min
	for range q.Attempts - 1 {
		if bound >= r.Retry.Max/2 {
			bound = r.Retry.Max
			break
		}
		bound *= 2
	}
	l := q.lane
	l.timer = time.AfterFunc(rand.N(bound+1), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.timer == nil { // stopped too late
			return
		}
		l.timer = nil
		r.makeReady(l)
		r.pump()
	})
}

// pause lets the whole destination rest.
func (r *route) pause(d time.Duration) {
	until := time.Now().Add(d)
	if !until.After(r.paused) {
		return
	}
	r.paused = until
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer = time.AfterFunc(d, r.resume)
}

// finish tells Close that it need not wait any longer.
func (r *route) finish() {
	if r.draining && r.stats.Queued == 0 {
		closeOnce(r.drained)
	}
	if r.aborted && r.running == 0 {
		closeOnce(r.quiet)
	}
}

// closeOnce closes c; r.mu is held, so that there is no race.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (r *route) read() RouteStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Route = r.Name
	return s
}

// drain takes nothing more, and queues what is held back.
func (r *route) drain() {
	r.mu.Lock()
	var victims []*queued
	for !r.draining && r.repeats.oldest.Len() > 0 {
		victims = append(victims, r.endOldest()...)
	}
	r.draining = true
	r.finish()
	r.mu.Unlock()
	r.report(victims)
}

// abort stops sending and returns what is left.
func (r *route) abort() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aborted {
		return nil
	}
	r.aborted = true
	for _, cancel := range r.sending {
		cancel()
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	var rest []*queued
	for _, l := range r.lanes {
		if l.timer != nil {
			l.timer.Stop()
			l.timer = nil
		}
		rest = append(rest, l.events...)
	}
	slices.SortFunc(rest, func(a, b *queued) int { return cmp.Compare(a.order, b.order) })
	left := make([]Delivery, len(rest))
	for i, q := range rest {
		left[i] = q.Delivery
	}
	r.stats.Dropped += uint64(len(left))
	r.stats.Queued, r.stats.Bytes = 0, 0
	r.lanes, r.ready = nil, nil
	r.finish()
	return left
}
