package runtime

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// lack is what is known about a dependency of a key.
type lack uint8

const (
	lackNothing lack = iota
	lackMissing      // not ready
	lackVerdict      // Dep.Ready has to be asked
)

// lacks says whether the dependency at the index is ready.
func (l *Loop[K]) lacks(it *item[K], i int) lack {
	d := it.more.deps[i]
	dep := l.items[d.Key]
	switch {
	case dep == nil || dep.has(flagDeleting):
		return lackMissing
	case d.Ready == nil:
		if dep.has(flagReady) {
			return lackNothing
		}
		return lackMissing
	case dep.finished == 0:
		return lackMissing
	case len(it.more.verdicts) == 0 || it.more.verdicts[i].sight != dep.sight():
		return lackVerdict
	case it.more.verdicts[i].err != nil:
		return lackMissing
	}
	return lackNothing
}

// verdict is what Dep.Ready has said.
type verdict[K comparable] struct {
	sight sight[K]
	err   error
}

// sight tells whether a dependency is still what it was when Dep.Ready was asked.
type sight[K comparable] struct {
	it       *item[K]
	suspend  *Suspension
	sequence uint64
	version  string
	ready    bool
}

func (it *item[K]) sight() sight[K] {
	s := sight[K]{it: it, sequence: it.sequence, ready: it.has(flagReady)}
	if it.more != nil {
		s.suspend, s.version = it.more.suspend, it.more.version
	}
	return s
}

// verdict is why Dep.Ready refuses the dependency at the index; nil if it does not or has not been asked.
func (l *Loop[K]) verdict(it *item[K], i int) error {
	if it.more.deps[i].Ready == nil || len(it.more.verdicts) == 0 || l.lacks(it, i) != lackMissing {
		return nil
	}
	if dep := l.items[it.more.deps[i].Key]; dep == nil || dep.sight() != it.more.verdicts[i].sight {
		return nil
	}
	return it.more.verdicts[i].err
}

// unasked reports whether Dep.Ready has to be asked about some dependency.
func (l *Loop[K]) unasked(it *item[K]) bool {
	for i := range it.deps() {
		if l.lacks(it, i) == lackVerdict {
			return true
		}
	}
	return false
}

// question is one to Dep.Ready, which is asked without the lock.
type question[K comparable] struct {
	index int
	ready func(State) error
	state State
	stack []byte // of a panic
	verdict[K]
}

func (l *Loop[K]) questions(it *item[K]) (qs []question[K]) {
	for i, d := range it.deps() {
		if l.lacks(it, i) == lackVerdict {
			dep := l.items[d.Key]
			qs = append(qs, question[K]{index: i, ready: d.Ready, state: l.snapshot(dep), verdict: verdict[K]{sight: dep.sight()}})
		}
	}
	return qs
}

// ask takes a panic for a refusal, and the end of the goroutine too: it asks in one of its own.
func (q *question[K]) ask() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.err = errors.New("Dep.Ready did not return")
		defer func() {
			if v := recover(); v != nil {
				q.err, q.stack = fmt.Errorf("panic in Dep.Ready: %v", v), debug.Stack()
			}
		}()
		q.err = q.ready(q.state)
	}()
	<-done
}

// answers records what was asked for. Where the dependencies have been replaced meanwhile it is of no use.
func (l *Loop[K]) answers(it *item[K], qs []question[K]) {
	if len(qs) == 0 || it.more == nil {
		return
	}
	x := it.more
	if len(x.verdicts) != len(x.deps) {
		x.verdicts = make([]verdict[K], len(x.deps))
	}
	for _, q := range qs {
		if q.stack != nil {
			l.opts.Log.Error(q.err.Error(), "key", it.key, "stack", string(q.stack))
		}
		if q.index < len(x.deps) && l.items[x.deps[q.index].Key] == q.sight.it {
			x.verdicts[q.index] = q.verdict
		}
	}
}

// unable is the error of a key that cannot begin before something changes: the cycle it is part of, or the terminal
// verdict on a dependency. nil means that it can.
func (l *Loop[K]) unable(it *item[K]) error {
	if c := l.cycles[it.key]; c != nil {
		return c
	}
	for i := range it.deps() {
		if err := l.verdict(it, i); err != nil && IsTerminal(err) {
			return err
		}
	}
	return nil
}

// same reports whether two dependencies are known to be the same; functions cannot be compared.
func same[K comparable](a, b Dep[K]) bool { return a.Key == b.Key && a.Ready == nil && b.Ready == nil }
