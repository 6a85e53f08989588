package runtime

// schedule is a heap of items by due time. Every item knows its place, so that one can be taken out anywhere. An
// item is in one schedule at most.
type schedule[K comparable] []*item[K]

// set puts it in, or moves it to its new due time, and reports whether it is now the first.
func (h *schedule[K]) set(it *item[K], due int64) bool {
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
func (h *schedule[K]) remove(it *item[K]) {
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

func (h *schedule[K]) swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = int32(i), int32(j) // see set
}

func (h *schedule[K]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if (*h)[parent].due <= (*h)[i].due {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *schedule[K]) down(i int) {
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
