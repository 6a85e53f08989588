package runtime

import (
	"fmt"
	"maps"
	"slices"
)

// setDeps replaces the dependencies of it, and finds out about cycles.
func (l *Loop[K]) setDeps(it *item[K], deps []Dep[K]) {
	var old []Dep[K]
	if it.more != nil {
		old = it.more.deps
	}
	if slices.EqualFunc(old, deps, same[K]) {
		return
	}
	for _, d := range old {
		delete(l.dependents[d.Key], it)
		if len(l.dependents[d.Key]) == 0 {
			delete(l.dependents, d.Key)
		}
	}
	for _, d := range deps {
		if l.dependents[d.Key] == nil {
			l.dependents[d.Key] = make(map[*item[K]]struct{})
		}
		l.dependents[d.Key][it] = struct{}{}
	}
	it.details().deps, it.more.verdicts = deps, nil
	if l.cycles[it.key] != nil || l.onCycle(it) {
		l.findCycles()
	}
	l.recheck(it)
}

// held reports whether it must not begin a pass because of its dependencies.
func (l *Loop[K]) held(it *item[K]) bool {
	if it.more == nil {
		return false
	}
	if l.cycles[it.key] != nil {
		return true
	}
	for i := range it.more.deps {
		if l.lacks(it, i) == lackMissing {
			return true
		}
	}
	return false
}

// recheck lets a blocked key begin if nothing holds it any longer.
func (l *Loop[K]) recheck(it *item[K]) {
	if it.phase == PhaseBlocked && !l.held(it) {
		it.causes |= CauseDependency
		l.enqueue(it)
	}
}

// recheckDependents is called when the key has ended a pass or its state has changed otherwise.
func (l *Loop[K]) recheckDependents(k K) {
	for it := range l.dependents[k] {
		l.recheck(it)
	}
}

// missing says what holds it, one line for each dependency.
func (l *Loop[K]) missing(it *item[K]) []string {
	if c := l.cycles[it.key]; c != nil {
		return []string{c.Error()}
	}
	var lines []string
	for i, d := range it.more.deps {
		if l.lacks(it, i) == lackMissing {
			dep := l.items[d.Key]
			why := ""
			if err := l.verdict(it, i); err != nil {
				why = err.Error()
			} else {
				why = l.lacking(dep)
			}
			lines = append(lines, fmt.Sprintf("dependency %v: %s", d.Key, why))
		}
	}
	return lines
}

// lacking says why the item is not ready; nil is a key that is not known.
func (l *Loop[K]) lacking(it *item[K]) string {
	switch {
	case it == nil:
		return "not found"
	case it.has(flagDeleting):
		return "being deleted"
	case it.suspended() != nil:
		return (&SuspendedError{*it.suspended()}).Error()
	case it.more != nil && it.more.err != nil:
		word := "Failed"
		if it.outcome == OutcomeStalled {
			word = "Stalled"
		}
		return fmt.Sprintf("%s %q", word, it.more.err)
	case it.act != nil && it.act.park != nil:
		return "waiting for " + it.act.park.reason
	case it.phase == PhaseIdle && it.outcome == OutcomeProgressing:
		return "in progress: " + it.more.message
	case it.phase == PhaseIdle && it.outcome == OutcomeOK:
		return "not ready"
	}
	return it.phase.String()
}

// onCycle reports whether the dependencies of it lead back to it.
func (l *Loop[K]) onCycle(it *item[K]) bool {
	if len(l.dependents[it.key]) == 0 {
		return false // nobody leads here
	}
	seen := map[K]bool{}
	todo := []*item[K]{it}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, d := range at.deps() {
			if d.Key == it.key {
				return true
			}
			if next := l.items[d.Key]; next != nil && !seen[d.Key] {
				seen[d.Key] = true
				todo = append(todo, next)
			}
		}
	}
	return false
}

func (it *item[K]) deps() []Dep[K] {
	if it.more == nil {
		return nil
	}
	return it.more.deps
}

// findCycles brings l.cycles up to date: its members stall, keys that left a cycle are let go.
func (l *Loop[K]) findCycles() {
	old := l.cycles
	l.cycles = make(map[K]*CycleError)
	for _, group := range l.components() {
		for k := range group {
			if path := l.circle(k, group); path != nil {
				l.cycles[k] = &CycleError{Keys: path}
			}
		}
	}
	for k, c := range l.cycles {
		if was := old[k]; was != nil && slices.Equal(was.Keys, c.Keys) {
			l.cycles[k] = was
			continue
		}
		it := l.items[k]
		it.put(flagReady, false)
		l.recheckDependents(k)
		l.revisit(it)
	}
	for k := range old {
		if it := l.items[k]; it != nil && l.cycles[k] == nil {
			it.causes |= CauseDependency
			l.revisit(it)
		}
	}
}

// revisit has a worker look at a key again whose cycle has changed.
func (l *Loop[K]) revisit(it *item[K]) {
	if it.has(flagDeleting) || it.suspended() != nil {
		return
	}
	if it.phase == PhaseIdle || it.phase == PhaseBlocked {
		l.enqueue(it)
	}
}

// components returns the strongly connected components of the dependencies that may hold a cycle (Tarjan).
func (l *Loop[K]) components() []map[K]bool {
	t := tarjan[K]{loop: l, number: map[K]int{}, low: map[K]int{}, onStack: map[K]bool{}}
	for k, it := range l.items {
		if len(it.deps()) > 0 && t.number[k] == 0 {
			t.visit(k)
		}
	}
	return t.found
}

type tarjan[K comparable] struct {
	loop    *Loop[K]
	number  map[K]int // from 1, in the order of visits
	low     map[K]int
	onStack map[K]bool
	stack   []K
	found   []map[K]bool
}

func (t *tarjan[K]) visit(k K) {
	n := len(t.number) + 1
	t.number[k], t.low[k] = n, n
	t.stack = append(t.stack, k)
	t.onStack[k] = true
	for _, d := range t.loop.items[k].deps() {
		if t.loop.items[d.Key] == nil {
			continue
		}
		if t.number[d.Key] == 0 {
			t.visit(d.Key)
			t.low[k] = min(t.low[k], t.low[d.Key])
		} else if t.onStack[d.Key] {
			t.low[k] = min(t.low[k], t.number[d.Key])
		}
	}
	if t.low[k] != n {
		return
	}
	at := slices.Index(t.stack, k)
	group := make(map[K]bool)
	for _, member := range t.stack[at:] {
		group[member] = true
		delete(t.onStack, member)
	}
	t.stack = t.stack[:at]
	t.found = append(t.found, group)
}

// circle returns a shortest way from k back to k inside the group, as text; nil if there is none.
func (l *Loop[K]) circle(k K, group map[K]bool) []string {
	from := map[K]K{}
	todo := []K{k}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		for _, d := range l.items[at].deps() {
			if d.Key == k {
				path := []string{fmt.Sprint(k)}
				for ; at != k; at = from[at] {
					path = append(path, fmt.Sprint(at))
				}
				path = append(path, fmt.Sprint(k))
				slices.Reverse(path)
				return path
			}
			if _, seen := from[d.Key]; group[d.Key] && !seen {
				from[d.Key] = at
				todo = append(todo, d.Key)
			}
		}
	}
	return nil
}

// wakeWatchers goes on with the passes that wait for the key with WakeKey.
func (l *Loop[K]) wakeWatchers(k K) {
	for _, it := range slices.Collect(maps.Keys(l.watchers[k])) {
		l.wake(it)
	}
}
