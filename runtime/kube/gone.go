package kube

import (
	"log/slog"
	"runtime/debug"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// observer tells Options.Observe, for one key one thing at a time: of passes, by
// who made them, and of objects that do not exist any more, by a goroutine of
// its own, so that no informer waits.
type observer struct {
	tell func(rt.Observation[client.ObjectKey]) // nil is nobody
	log  *slog.Logger

	mu      sync.Mutex
	free    sync.Cond                       // something is not in busy any more
	busy    map[client.ObjectKey]struct{}   // what is being told of
	gone    map[client.ObjectKey]*rt.Ticket // whose end is to be told when its ticket is resolved
	telling bool                            // there is a goroutine
}

func newObserver(tell func(rt.Observation[client.ObjectKey]), log *slog.Logger) *observer {
	o := &observer{tell: tell, log: log, busy: map[client.ObjectKey]struct{}{}, gone: map[client.ObjectKey]*rt.Ticket{}}
	o.free.L = &o.mu
	return o
}

// pass tells of a pass, and before that of the end of an earlier object of the
// name.
func (o *observer) pass(p rt.Observation[client.ObjectKey]) {
	if o.tell == nil {
		return
	}
	ended := o.begin(p.Key)
	defer o.end(p.Key)
	if ended {
		o.farewell(p.Key)
	}
	o.tell(p)
}

// dropped has the end of an object told when the ticket of its deletion is
// resolved.
func (o *observer) dropped(key client.ObjectKey, ticket *rt.Ticket) {
	if o.tell == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[key] = ticket
	select {
	case <-ticket.Done():
		o.start()
	default:
		go func() { // one for each pass that is still running
			<-ticket.Done()
			o.mu.Lock()
			defer o.mu.Unlock()
			o.start()
		}()
	}
}

// start begins to tell, if nobody does; o.mu is held.
func (o *observer) start() {
	if !o.telling {
		o.telling = true
		go o.run()
	}
}

// run tells of all ends.
func (o *observer) run() {
	for {
		key, some := o.next()
		if !some {
			return
		}
		func() {
			ended := o.begin(key)
			defer o.end(key)
			if ended {
				o.farewell(key)
			}
		}()
	}
}

// next returns an object whose end can be told.
func (o *observer) next() (key client.ObjectKey, some bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, ticket := range o.gone {
		if resolved(ticket) {
			return key, true
		}
	}
	o.telling = false
	return key, false
}

// begin waits until nothing else is told of key, and reports whether there is an
// end to tell.
func (o *observer) begin(key client.ObjectKey) (ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if _, busy := o.busy[key]; !busy {
			break
		}
		o.free.Wait()
	}
	o.busy[key] = struct{}{}
	if ticket := o.gone[key]; ticket != nil && resolved(ticket) {
		delete(o.gone, key)
		return true
	}
	return false
}

func (o *observer) end(key client.ObjectKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.busy, key)
	o.free.Broadcast()
}

// farewell tells of an end. One that panics is no reason to end the process.
func (o *observer) farewell(key client.ObjectKey) {
	defer func() {
		if v := recover(); v != nil {
			o.log.Error("panic in Observe", "object", key.String(), "panic", v, "stack", string(debug.Stack()))
		}
	}()
	o.tell(rt.Observation[client.ObjectKey]{Key: key, State: rt.State{Phase: rt.PhaseGone}})
}

func resolved(t *rt.Ticket) bool {
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}
