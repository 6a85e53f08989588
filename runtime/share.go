package runtime

import (
	"container/heap"
	"time"
)

// lane is where a key queues: keys whose passes are slow have a lane of their own, which is not given all workers.
type lane uint8

const (
	laneFast lane = iota
	laneSlow
	lanes
)

// maxSpare is how many slots an empty queue keeps.
const maxSpare = 1024

// maxIdleShares is how many groups are remembered while nothing is queued and nothing runs.
const maxIdleShares = 8

// shares is the queue of keys that are ready for a worker. The group that has used least of its share goes first, and
// in a group the key of the highest priority, where waiting counts as priority.
//
// What a group has used is the time its passes took, divided by its weight, so that few slow passes weigh as
// much as many quick ones. A pass that runs is charged as it goes. A group that comes back is put level with the one
// served last: it does not save up what it did not use. When nothing is queued and nothing runs, all is forgotten.
type shares[K comparable] struct {
	weights map[string]int
	ageing  time.Duration
	limit   int // of passes in the slow lane

	groups  map[string]*share[K]
	active  [lanes]contest[K]
	level   float64 // what the group had used that was served last
	size    int     // queued keys
	running int
	slow    int   // running passes of the slow lane
	stamp   int64 // of the newest queued key; stamps are times, but no two are the same
	sweep   int   // number of groups at which those that matter no longer are dropped
}

// share is what a group has queued and what it has used.
type share[K comparable] struct {
	name    string
	weight  float64
	used    float64 // nanoseconds of workers, divided by weight
	typical int64   // length of a call, for charging those that have just begun
	running int64
	since   int64 // sum of the beginnings of the running calls; it may wrap round, differences are right
	joined  int64 // stamp of the key that made the group active
	queues  [lanes]schedule[K]
	place   [lanes]int // in shares.active, meaningful while there is something in the queue
}

func newShares[K comparable](weights map[string]int, ageing time.Duration, limit int) shares[K] {
	return shares[K]{
		weights: weights, ageing: ageing, limit: limit, groups: make(map[string]*share[K]),
		active: [lanes]contest[K]{{lane: laneFast}, {lane: laneSlow}}, sweep: maxIdleShares,
	}
}

// push queues it. The stamp is the time it counts as queued from.
func (s *shares[K]) push(it *item[K], stamp int64) {
	t := it.timing.Value()
	g := s.groups[t.group]
	if g == nil {
		g = &share[K]{name: t.group, weight: float64(max(s.weights[t.group], 1))}
		s.groups[t.group] = g
	}
	if !g.queued() {
		g.used = max(g.used, s.level-(g.charged(stamp)-g.used))
		g.joined = stamp
	}
	lane := it.lane()
	g.queues[lane].set(it, s.rank(stamp, t.priority))
	s.size++
	if len(g.queues[lane]) == 1 {
		heap.Push(&s.active[lane], g)
	}
}

// now makes a stamp of the time.
func (s *shares[K]) now(t int64) int64 {
	s.stamp = max(t, s.stamp+1)
	return s.stamp
}

// rank orders the keys of a group, the smallest first: each step of priority is worth the waiting time of s.ageing.
func (s *shares[K]) rank(stamp int64, priority int8) int64 {
	return stamp - int64(priority)*int64(s.ageing)
}

// stampOf is the time that a queued key counts as queued from.
func (s *shares[K]) stampOf(it *item[K]) int64 {
	return it.due + int64(it.timing.Value().priority)*int64(s.ageing)
}

// remove takes a queued key out.
func (s *shares[K]) remove(it *item[K]) {
	s.take(s.groups[it.timing.Value().group], it)
}

func (s *shares[K]) take(g *share[K], it *item[K]) {
	lane := it.lane()
	g.queues[lane].remove(it)
	s.size--
	if len(g.queues[lane]) == 0 {
		if cap(g.queues[lane]) > maxSpare {
			g.queues[lane] = nil
		}
		heap.Remove(&s.active[lane], g.place[lane])
	}
	s.forget(g)
}

// next takes out the key whose turn it is, and the share that its call is charged to; nil if there is none for which
// a worker may be used.
func (s *shares[K]) next(now int64) (*item[K], *share[K]) {
	open := laneSlow
	if s.slow >= s.limit {
		open = laneFast
	}
	var best candidate[K]
	for lane := laneFast; lane <= open; lane++ {
		s.active[lane].search(0, now, &best)
	}
	g := best.share
	if g == nil {
		return nil, nil
	}
	var it *item[K]
	for lane := laneFast; lane <= open; lane++ {
		if q := g.queues[lane]; len(q) > 0 && (it == nil || q[0].due < it.due) {
			it = q[0]
		}
	}
	s.level = max(s.level, g.used)
	g.running++
	g.since += now
	s.running++
	if it.lane() == laneSlow {
		s.slow++
	}
	s.take(g, it)
	return it, g
}

// release charges a call that has ended. It reports whether that opened the slow lane to a key that waits.
func (s *shares[K]) release(g *share[K], lane lane, began, now int64) (opened bool) {
	cost := max(now-began, 1)
	g.used += float64(cost) / g.weight
	g.typical += (cost - g.typical) / 4
	g.running--
	g.since -= began
	s.running--
	if lane == laneSlow {
		opened = s.slow >= s.limit && len(s.active[laneSlow].list) > 0
		s.slow--
	}
	for lane := range g.queues {
		if len(g.queues[lane]) > 0 {
			heap.Fix(&s.active[lane], g.place[lane])
		}
	}
	s.forget(g)
	return opened
}

// forget drops what no longer matters for the order.
func (s *shares[K]) forget(g *share[K]) {
	switch {
	case s.size == 0 && s.running == 0:
		s.level = 0
		s.sweep = maxIdleShares
		if len(s.groups) > maxIdleShares {
			s.groups = make(map[string]*share[K])
		}
		for _, g := range s.groups {
			g.used = 0
		}
	case g.idle() && g.used <= s.level:
		delete(s.groups, g.name)
	case len(s.groups) > 2*s.sweep:
		for name, g := range s.groups {
			if g.idle() && g.used <= s.level {
				delete(s.groups, name)
			}
		}
		s.sweep = max(maxIdleShares, len(s.groups))
	}
}

func (g *share[K]) queued() bool { return len(g.queues[laneFast])+len(g.queues[laneSlow]) > 0 }

func (g *share[K]) idle() bool { return g.running == 0 && !g.queued() }

// charged is what g has used, its running calls included.
func (g *share[K]) charged(now int64) float64 {
	if g.running == 0 {
		return g.used
	}
	return g.used + float64(max(g.running*now-g.since, g.running*g.typical))/g.weight
}

// candidate is the best share that a search has found so far.
type candidate[K comparable] struct {
	share   *share[K]
	charged float64
}

// contest is a heap of the groups that have keys in a lane, by what they have used.
type contest[K comparable] struct {
	lane lane
	list []*share[K]
}

// search looks for the group that is charged least. A group is charged at least what it has used, by which the heap
// is ordered, so that only those groups are looked at which have a pass running, and one more.
func (c *contest[K]) search(i int, now int64, best *candidate[K]) {
	if i >= len(c.list) {
		return
	}
	g := c.list[i]
	if b := best.share; b != nil && (g.used > best.charged || g.used == best.charged && b.running == 0 && b.joined < g.joined) {
		return
	}
	if charged := g.charged(now); best.share == nil || charged < best.charged || charged == best.charged && g.before(best.share) {
		*best = candidate[K]{g, charged}
	}
	if g.running == 0 {
		return // those below have used as much or more
	}
	c.search(2*i+1, now, best)
	c.search(2*i+2, now, best)
}

// before decides between groups that are charged the same.
func (g *share[K]) before(other *share[K]) bool {
	if mine, theirs := float64(g.running)/g.weight, float64(other.running)/other.weight; mine != theirs {
		return mine < theirs
	}
	return g.joined < other.joined
}

// Len, Less, Swap, Push and Pop make a contest a heap.Interface.
func (c *contest[K]) Len() int { return len(c.list) }

func (c *contest[K]) Less(i, j int) bool {
	if a, b := c.list[i], c.list[j]; a.used != b.used {
		return a.used < b.used
	}
	return c.list[i].joined < c.list[j].joined
}

func (c *contest[K]) Swap(i, j int) {
	c.list[i], c.list[j] = c.list[j], c.list[i]
	c.list[i].place[c.lane], c.list[j].place[c.lane] = i, j
}

func (c *contest[K]) Push(x any) {
	g := x.(*share[K]) //nolint:forcetypeassert // heap.Push is called with shares only
	g.place[c.lane] = len(c.list)
	c.list = append(c.list, g)
}

func (c *contest[K]) Pop() any {
	last := len(c.list) - 1
	g := c.list[last]
	c.list[last] = nil
	c.list = c.list[:last]
	return g
}
