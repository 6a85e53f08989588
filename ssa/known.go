package ssa

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// inventoryLabel marks the ConfigMaps that hold inventories, so that a store
// can follow them.
const inventoryLabel = DefaultGroup + "/inventory"

// inventories remembers which version of an inventory held exactly which
// entries.
type inventories struct {
	mu    sync.Mutex
	known map[types.NamespacedName]inventoryState
}

type inventoryState struct {
	version string // as Inventory.Version
	entries sum
}

func configMapsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

// inventories returns what is known of the ConfigMaps that hold inventories.
func (s *Store) inventoryKind() *kindStore {
	return s.follow(kindKey{resource: configMapsResource(), selector: inventoryLabel}, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})
}

// holdsExactly reports whether the stored inventory is known to have these
// entries and no others.
func (c *Client) holdsExactly(entries []Entry) bool {
	return c.Store != nil && c.holdsSum(c.entriesSum(entries))
}

// holdsSum is holdsExactly for the digest of entries.
func (c *Client) holdsSum(entries sum) bool {
	store, ok := c.inventory().(*ConfigMapInventory)
	if !ok || c.Store == nil {
		return false
	}
	k := c.Store.inventoryKind()
	if k == nil {
		return false
	}
	name := types.NamespacedName{Namespace: store.Namespace, Name: store.Name}
	c.Store.inventories.mu.Lock()
	state, known := c.Store.inventories.known[name]
	c.Store.inventories.mu.Unlock()
	return known && state.entries == entries && state.version == k.versionOf(name)
}

// versionOf returns the version of an object, in the form of Inventory.Version;
// empty if it is not known now.
func (k *kindStore) versionOf(name types.NamespacedName) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[name]
	if r == nil || !k.listed || !k.online {
		return ""
	}
	return string(r.uid) + "/" + r.version
}

// noteInventory remembers an inventory that was read or written, if it has
// these entries and no others.
func (c *Client) noteInventory(inventory *Inventory, entries []Entry) {
	store, ok := c.inventory().(*ConfigMapInventory)
	if !ok || c.Store == nil || inventory.Version == "" {
		return
	}
	digest := c.entriesSum(entries)
	if inventory.unmarked || c.entriesSum(inventory.Entries) != digest {
		return
	}
	if k := c.Store.inventoryKind(); k == nil { // begins to follow it
		return
	}
	all := &c.Store.inventories
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.known == nil || len(all.known) > 10_000 { // of owners that are gone, most likely
		all.known = map[types.NamespacedName]inventoryState{}
	}
	all.known[types.NamespacedName{Namespace: store.Namespace, Name: store.Name}] = inventoryState{version: inventory.Version, entries: digest}
}

// entriesSum is the digest of entries in any order, and of how they are marked:
// the sum of the digests of each.
func (c *Client) entriesSum(entries []Entry) sum {
	var buf []byte
	var high, low, carry uint64
	for _, e := range entries {
		buf = buf[:0]
		for _, part := range []string{e.Object.Group, e.Object.Kind, e.Object.Namespace, e.Object.Name, e.Version} {
			buf = appendText(buf, part)
		}
		one := sumOf(buf)
		low, carry = bits.Add64(low, binary.BigEndian.Uint64(one[8:]), 0)
		high, _ = bits.Add64(high, binary.BigEndian.Uint64(one[:8]), carry)
	}
	buf = appendText(buf[:0], c.applySet())
	buf = binary.BigEndian.AppendUint64(buf, high)
	buf = binary.BigEndian.AppendUint64(buf, low)
	return sumOf(binary.AppendUvarint(buf, uint64(len(entries))))
}
