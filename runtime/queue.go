package runtime

// delayed is a heap of items by due time. Every item knows its place, so that one can be taken out anywhere.
type delayed[K comparable] []*item[K]

// set puts it in, or moves it to its new due time, and reports whether it is now the first.
func (h *delayed[K]) set(it *item[K], due int64) bool {
	it.due = due
	if it.index < 0 {
		it.index = int32(len(*h)) // 2^31 keys do not fit in memory
		*h = append(*h, it)
	}
	h.up(int(it.index))
	h.down(int(it.index))
	return it.index == 0
}

// remove takes it out if it is in.
func (h *delayed[K]) remove(it *item[K]) {
	i := int(it.index)
	if i < 0 {
		return
	}
	last := len(*h) - 1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	it.index = -1
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h *delayed[K]) swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = int32(i), int32(j) // see set
}

func (h *delayed[K]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if (*h)[parent].due <= (*h)[i].due {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *delayed[K]) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(*h) {
			return
		}
		if child+1 < len(*h) && (*h)[child+1].due < (*h)[child].due {
			child++
		}
		if (*h)[i].due <= (*h)[child].due {
			return
		}
		h.swap(i, child)
		i = child
	}
}

// fifo is the queue of keys that are ready for a worker: a ring that grows, and shrinks when it runs empty.
type fifo[K comparable] struct {
	ring []*item[K]
	head int
	size int
}

// maxSpare is how many slots an empty queue keeps.
const maxSpare = 1024

func (q *fifo[K]) push(it *item[K]) {
	if q.size == len(q.ring) {
		bigger := make([]*item[K], max(16, 2*q.size))
		n := copy(bigger, q.ring[q.head:])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.size)%len(q.ring)] = it
	q.size++
}

// pop returns nil if the queue is empty.
func (q *fifo[K]) pop() *item[K] {
	if q.size == 0 {
		return nil
	}
	it := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.size--
	if q.size == 0 && len(q.ring) > maxSpare {
		q.ring, q.head = nil, 0
	}
	return it
}
