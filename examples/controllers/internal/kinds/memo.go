package kinds

import (
	"crypto/sha256"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/ssa"
)

// memos remember what each object has applied, and what that was made of, so
// that nothing is fetched and built to learn that nothing has to be done. The
// zero value is ready to use.
type memos struct {
	mu  sync.Mutex
	all map[client.ObjectKey]memo
}

// memo is about one pass that has applied something.
type memo struct {
	inputs  [sha256.Size]byte
	digest  string // of the objects
	applied *ssa.Memo
}

// of returns the memo of an object if it was made of these inputs, else nil.
func (m *memos) of(key client.ObjectKey, inputs [sha256.Size]byte) *memo {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.all[key]; ok && last.inputs == inputs {
		return &last
	}
	return nil
}

// keep remembers a pass, if there is something to remember of it.
func (m *memos) keep(key client.ObjectKey, last memo) {
	if last.applied == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[client.ObjectKey]memo{}
	}
	m.all[key] = last
}

// forget drops what is remembered of an object.
func (m *memos) forget(key client.ObjectKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, key)
}
