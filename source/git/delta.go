package git

import (
	"bufio"
	"compress/zlib"
	"fmt"
	"io"
	"sync"

	"github.com/gitopskit/gitopskit/source"
)

// resolve applies every delta once to learn the names of the objects they
// make. It goes from each whole object to what builds on it, so that it holds
// one line of descent at a time.
func (x *indexer) resolve() error {
	p := x.pack
	children := map[int32][]int32{} // deltas by the entry they apply to
	waiting := map[oid][]int32{}    // deltas by the name of an object not seen yet
	deltas := 0
	for i := range p.entries {
		e := &p.entries[i]
		switch e.kind {
		case kindOfsDelta:
			children[e.base] = append(children[e.base], int32(i))
			deltas++
		case kindRefDelta:
			waiting[e.refBase] = append(waiting[e.refBase], int32(i))
			deltas++
		}
	}
	if deltas == 0 {
		return nil
	}
	take := func(at int32) []int32 {
		id := p.entries[at].id
		all := append(children[at], waiting[id]...)
		delete(waiting, id)
		return all
	}
	for i := range p.entries {
		if p.entries[i].base >= 0 || p.entries[i].kind >= kindOfsDelta {
			continue
		}
		kids := take(int32(i))
		if len(kids) == 0 {
			continue
		}
		whole, err := p.inflate(int32(i))
		if err != nil {
			return err
		}
		n, err := x.descend(frame{int32(i), whole, kids}, take)
		if err != nil {
			return err
		}
		deltas -= n
	}
	if deltas > 0 {
		return corrupt("%d deltas have no base", deltas)
	}
	return nil
}

// frame is an object whose deltas are being applied.
type frame struct {
	at   int32
	data []byte
	kids []int32
}

// descend names all objects that build on top, and says how many there were.
func (x *indexer) descend(top frame, take func(int32) []int32) (n int, _ error) {
	stack := []frame{top}
	live := int64(len(top.data))
	for len(stack) > 0 {
		if err := x.ctx.Err(); err != nil {
			return n, err
		}
		f := &stack[len(stack)-1]
		kid, base := f.kids[0], f.data
		if f.kids = f.kids[1:]; len(f.kids) == 0 {
			live -= int64(len(base))
			stack = stack[:len(stack)-1] // the last delta needs the base no longer than this step
		}
		parent, data, err := x.apply(f.at, kid, base)
		if err != nil {
			return n, err
		}
		n++
		if parent.chain+1 > maxChain {
			return n, fmt.Errorf("%w: a chain of more than %d deltas", source.ErrLimit, maxChain)
		}
		if kids := take(kid); len(kids) > 0 {
			stack = append(stack, frame{kid, data, kids})
			if live += int64(len(data)); live > x.limits.total {
				return n, fmt.Errorf("%w: deltas need more than %d bytes at once", source.ErrLimit, x.limits.total)
			}
		}
	}
	return n, nil
}

// apply makes the object of one delta and names it.
func (x *indexer) apply(at, kid int32, base []byte) (parent entry, data []byte, err error) {
	p := x.pack
	delta, err := p.inflate(kid)
	if err != nil {
		return entry{}, nil, err
	}
	e := &p.entries[kid]
	data, err = applyDelta(base, delta, e.size)
	if err != nil {
		return entry{}, nil, err
	}
	parent = p.entries[at]
	e.kind, e.base, e.chain = parent.kind, at, parent.chain+1
	x.start(e.kind, e.size)
	x.sum.Write(data)
	return parent, data, x.name(kid)
}

// inflate returns what is stored for an entry: an object or a delta.
func (p *pack) inflate(at int32) ([]byte, error) {
	e := &p.entries[at]
	z, err := p.open(at)
	if err != nil {
		return nil, err
	}
	data := make([]byte, e.stored)
	if _, err := io.ReadFull(z, data); err != nil {
		return nil, inflateError(err)
	}
	return data, nil
}

// open streams what is stored for an entry.
func (p *pack) open(at int32) (io.ReadCloser, error) {
	e := &p.entries[at]
	r := io.NewSectionReader(p.data, e.body, 1<<62)
	z, err := zlib.NewReader(bufio.NewReaderSize(r, int(min(max(e.stored, 64), 16<<10))))
	if err != nil {
		return nil, inflateError(err)
	}
	return z, nil
}

// object returns the content of an entry.
func (p *pack) object(at int32) ([]byte, error) {
	var deltas []int32
	for p.entries[at].base >= 0 {
		if data, ok := p.bases.get(at); ok {
			return p.applyAll(data, deltas)
		}
		deltas = append(deltas, at)
		at = p.entries[at].base
	}
	data, ok := p.bases.get(at)
	if !ok {
		var err error
		if data, err = p.inflate(at); err != nil {
			return nil, err
		}
		if len(deltas) > 0 {
			p.bases.put(at, data)
		}
	}
	return p.applyAll(data, deltas)
}

func (p *pack) applyAll(data []byte, deltas []int32) ([]byte, error) {
	for i := len(deltas) - 1; i >= 0; i-- {
		delta, err := p.inflate(deltas[i])
		if err != nil {
			return nil, err
		}
		if data, err = applyDelta(data, delta, p.entries[deltas[i]].size); err != nil {
			return nil, err
		}
		if i > 0 {
			p.bases.put(deltas[i], data)
		}
	}
	return data, nil
}

// applyDelta makes an object of size bytes from a base and a delta.
func applyDelta(base, delta []byte, size int64) ([]byte, error) {
	baseSize, delta, ok := deltaSize(delta)
	if !ok || baseSize != int64(len(base)) {
		return nil, corrupt("a delta does not fit its base")
	}
	outSize, delta, ok := deltaSize(delta)
	if !ok || outSize != size {
		return nil, corrupt("a delta's size changed")
	}
	out := make([]byte, 0, size)
	for len(delta) > 0 {
		var part []byte
		op := delta[0]
		delta = delta[1:]
		switch {
		case op&0x80 != 0:
			off, n, rest, ok := deltaCopy(op, delta)
			if !ok || off+n > len(base) {
				return nil, corrupt("a delta copies from outside its base")
			}
			part, delta = base[off:off+n], rest
		case op != 0 && int(op) <= len(delta):
			part, delta = delta[:op], delta[op:]
		default:
			return nil, corrupt("a delta has an invalid instruction")
		}
		if len(out)+len(part) > int(size) {
			return nil, corrupt("a delta makes more than it says")
		}
		out = append(out, part...)
	}
	if len(out) != int(size) {
		return nil, corrupt("a delta makes less than it says")
	}
	return out, nil
}

// deltaCopy decodes the operands of a copy instruction.
func deltaCopy(op byte, in []byte) (off, n int, rest []byte, ok bool) {
	for i := range 7 {
		if op>>i&1 == 0 {
			continue
		}
		if len(in) == 0 {
			return 0, 0, nil, false
		}
		if i < 4 {
			off |= int(in[0]) << (8 * i)
		} else {
			n |= int(in[0]) << (8 * (i - 4))
		}
		in = in[1:]
	}
	if n == 0 {
		n = 0x10000
	}
	return off, n, in, true
}

// deltaSize reads one size from the start of a delta.
func deltaSize(in []byte) (size int64, rest []byte, ok bool) {
	for i, c := range in {
		if i > 7 {
			return 0, nil, false
		}
		size |= int64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return size, in[i+1:], true
		}
	}
	return 0, nil, false
}

// baseCache keeps recently used delta bases, since files that were stored
// together are usually read together. Its zero value is ready to use.
type baseCache struct {
	mu   sync.Mutex
	size int
	data map[int32][]byte
	fifo []int32
}

// baseCacheSize is small against the pack and large against one manifest.
const baseCacheSize = 8 << 20

func (c *baseCache) get(at int32) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.data[at]
	return data, ok
}

func (c *baseCache) put(at int32, data []byte) {
	if len(data) > baseCacheSize/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.data[at]; ok {
		return
	}
	if c.data == nil {
		c.data = map[int32][]byte{}
	}
	c.data[at] = data
	c.fifo = append(c.fifo, at)
	for c.size += len(data); c.size > baseCacheSize; {
		c.size -= len(c.data[c.fifo[0]])
		delete(c.data, c.fifo[0])
		c.fifo = c.fifo[1:]
	}
}
