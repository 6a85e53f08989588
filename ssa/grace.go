package ssa

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// noStatus is the message about an object that waits for its first status.
const noStatus = "it has no status yet"

// graces are the objects of a wait that are given time for their first status.
type graces struct {
	asked  map[schema.GroupKind]bool // whether kinds have a status; true until that is known
	ended  map[int]bool              // statuses of which the grace is over
	timers []*time.Timer
	over   bool // nobody waits any more
	wg     sync.WaitGroup
}

// hold reports whether an object without a status, made at a time, has to be
// given time for one. If so, its state is told again at the end of the grace, or
// when it turns out that its kind has no status. mu must be held.
func (w *waiter) hold(ctx context.Context, i int, made int64) bool {
	left := w.grace - age(made)
	if left <= 0 || w.graces.over || w.graces.ended[i] {
		return false
	}
	kind := w.statuses[i].Object.GroupKind()
	has, known := w.graces.asked[kind]
	if known && !has {
		return false
	}
	if w.statuses[i].Message == noStatus { // told before
		return true
	}
	w.graces.timers = append(w.graces.timers, time.AfterFunc(left, func() { w.release(i) }))
	if !known {
		if w.graces.asked == nil {
			w.graces.asked = map[schema.GroupKind]bool{}
		}
		w.graces.asked[kind] = true
		id := w.statuses[i].Object
		w.graces.wg.Go(func() { w.askStatus(ctx, id) })
	}
	return true
}

// askStatus finds out whether the kind of an object has a status.
func (w *waiter) askStatus(ctx context.Context, id ObjectID) {
	m, err := w.client.mapping(id.GroupKind(), "")
	if err == nil {
		_, err = w.client.resource(m, id.Namespace).Get(ctx, id.Name, metav1.GetOptions{}, "status")
	}
	if !apierrors.IsNotFound(err) {
		return // it has one, or that cannot be known
	}
	w.mu.Lock()
	w.graces.asked[id.GroupKind()] = false
	var held []int
	for i, s := range w.statuses {
		if s.Object.GroupKind() == id.GroupKind() {
			held = append(held, i)
		}
	}
	w.mu.Unlock()
	for _, i := range held {
		w.release(i)
	}
}

// release ends the grace of an object.
func (w *waiter) release(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.graces.ended == nil {
		w.graces.ended = map[int]bool{}
	}
	w.graces.ended[i] = true // also if clocks differ
	if s := w.statuses[i]; !w.graces.over && s.State == InProgress && s.Message == noStatus {
		w.update(i, Status{Object: s.Object, State: Current})
	}
}

// endGraces returns when nothing is told any more.
func (w *waiter) endGraces() {
	w.mu.Lock()
	w.graces.over = true
	for _, t := range w.graces.timers {
		t.Stop()
	}
	w.mu.Unlock()
	w.graces.wg.Wait()
}
