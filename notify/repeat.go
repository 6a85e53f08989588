package notify

import (
	"container/list"
	"strconv"
	"time"
)

// repeats are the windows of a route that are open, at most one for each object, and at most Queue.Events.
type repeats struct {
	windows map[Object]*window
	oldest  list.List // of *window, by the time they were opened
	bytes   int64     // of the events held back
}

// window is the time after an event in which its repetitions are held back.
type window struct {
	object Object
	same   sameness
	held   Event // the last repetition, if there is one
	size   int64
	count  int // repetitions
	timer  *time.Timer
	place  *list.Element
}

// sameness is what events that repeat one another have in common, besides their object.
type sameness struct {
	severity    Severity
	reason, key string
}

// fold holds the event back if it repeats the last one of its object, and queues it if not. r.mu is held.
func (r *route) fold(e Event) (victims []*queued, err error) {
	if r.Window == 0 {
		return r.enqueue(e)
	}
	object, same := laneOf(e), sameness{e.Severity, e.Reason, e.Key()}
	w := r.repeats.windows[object]
	if w != nil && w.same == same {
		r.hold(w, e)
		return r.endBeyond(), nil
	}
	if w != nil {
		victims = r.end(w)
	}
	more, err := r.enqueue(e)
	victims = append(victims, more...)
	if err == nil { // else the next one is not a repetition of one that was told
		r.open(object, same)
		victims = append(victims, r.endBeyond()...)
	}
	return victims, err
}

// open begins a window.
func (r *route) open(object Object, same sameness) {
	if r.repeats.windows == nil {
		r.repeats.windows = make(map[Object]*window)
	}
	w := &window{object: object, same: same}
	w.place = r.repeats.oldest.PushBack(w)
	w.timer = time.AfterFunc(r.Window, func() { r.elapsed(w) })
	r.repeats.windows[object] = w
}

// hold keeps a repetition instead of the one before.
func (r *route) hold(w *window, e Event) {
	w.count++
	if e.Metadata == nil { // a copy, see Bus.Emit
		e.Metadata = make(map[string]string)
	}
	e.Metadata[MetadataCount] = strconv.Itoa(w.count)
	r.repeats.bytes -= w.size
	w.held, w.size = e, e.size()
	r.repeats.bytes += w.size
	r.stats.Repeated++
}

// elapsed ends a window in its time; what it held back begins the next one.
func (r *route) elapsed(w *window) {
	r.mu.Lock()
	if r.repeats.windows[w.object] != w { // ended while the timer fired
		r.mu.Unlock()
		return
	}
	told := w.count > 0
	victims := r.end(w)
	if told {
		r.open(w.object, w.same)
	}
	r.mu.Unlock()
	r.report(victims)
}

// end closes a window and queues what stands for its repetitions.
func (r *route) end(w *window) (victims []*queued) {
	w.timer.Stop()
	r.repeats.oldest.Remove(w.place)
	r.repeats.bytes -= w.size
	delete(r.repeats.windows, w.object)
	if w.count == 0 {
		return nil
	}
	victims, _ = r.enqueue(w.held) // an error is among the victims
	return victims
}

// endOldest ends the window that was opened first.
func (r *route) endOldest() []*queued {
	w := r.repeats.oldest.Front().Value.(*window) //nolint:forcetypeassert // the list holds nothing else
	return r.end(w)
}

// endBeyond ends windows until the others are within the bounds.
func (r *route) endBeyond() (victims []*queued) {
	for r.repeats.oldest.Len() > r.Queue.Events || r.repeats.bytes > r.Queue.Bytes {
		victims = append(victims, r.endOldest()...)
	}
	return victims
}
