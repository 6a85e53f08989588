package ssa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Entry is one object of an inventory.
type Entry struct {
	Object  ObjectID
	Version string // API version the object was applied in, such as "v1"
}

// entryJSON is the stored form of an entry.
type entryJSON struct {
	ID      string    `json:"id"`
	Version string    `json:"v"`
	Object  *ObjectID `json:"object,omitempty"`
}

// MarshalJSON writes the entry as Flux does: {"id":
// "<ns>_<name>_<group>_<kind>", "v": "v1"}. A name that this form cannot give
// back, because it has an underscore, which RBAC allows, is added in parts
// under "object".
func (e Entry) MarshalJSON() ([]byte, error) {
	raw := entryJSON{ID: e.Object.Encode(), Version: e.Version}
	if back, err := ParseObjectID(raw.ID); err != nil || back != e.Object {
		raw.Object = &e.Object
	}
	return json.Marshal(raw)
}

// UnmarshalJSON reads the form MarshalJSON writes.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var raw entryJSON
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	e.Version = raw.Version
	if raw.Object != nil {
		e.Object = *raw.Object
		return nil
	}
	var err error
	e.Object, err = ParseObjectID(raw.ID)
	return err
}

// Inventory is the set of objects an owner may have in the cluster. At every
// moment each object that was applied for the owner is in the stored
// inventory; an entry need not have an object.
//
// Its JSON form is that of status.inventory of Flux's Kustomization:
// {"entries": [{"id": …, "v": …}]}.
type Inventory struct {
	Entries []Entry `json:"entries"`
	// Cluster is where the objects are, see [ClusterID]; empty if nobody said.
	Cluster types.UID `json:"cluster,omitempty"`
	// Version is for the use of the store, to notice other writers.
	Version string `json:"-"`

	unmarked bool // the stored one lacks the marks of an ApplySet, or has them in vain
}

// String names the objects of the inventory, for people to read.
func (inv *Inventory) String() string {
	names := make([]string, len(inv.Entries))
	for i, e := range inv.Entries {
		names[i] = e.Object.String()
	}
	return strings.Join(names, ", ")
}

// MarshalJSON writes an inventory; one without entries has an empty list, not null.
func (inv Inventory) MarshalJSON() ([]byte, error) {
	type plain Inventory
	if inv.Entries == nil {
		inv.Entries = []Entry{}
	}
	return json.Marshal(plain(inv))
}

// add puts in what is missing and reports whether anything was, or whether
// the version of an entry is another one.
func (inv *Inventory) add(entries []Entry) (grown bool) {
	at := map[ObjectID]int{}
	for i, e := range inv.Entries {
		at[e.Object] = i
	}
	for _, e := range entries {
		i, known := at[e.Object]
		switch {
		case !known:
			at[e.Object] = len(inv.Entries)
			inv.Entries = append(inv.Entries, e)
			grown = true
		case inv.Entries[i].Version != e.Version:
			inv.Entries[i].Version = e.Version
			grown = true
		}
	}
	inv.sort()
	return grown
}

// without returns the entries that are not among others, in order of applying.
func (inv *Inventory) without(others []Entry) entryList {
	keep := map[ObjectID]bool{}
	for _, e := range others {
		keep[e.Object] = true
	}
	var out entryList
	for _, e := range inv.Entries {
		if !keep[e.Object] {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return compareKinds(a.Object, b.Object) })
	return out
}

func (inv *Inventory) sort() {
	slices.SortFunc(inv.Entries, func(a, b Entry) int { return a.Object.Compare(b.Object) })
}

type entryList []Entry

func (l entryList) reversed() entryList {
	slices.Reverse(l)
	return l
}

// InventoryStore keeps the inventory of one owner. It must be safe for
// concurrent use, and durable: what Save returned nil for is there after a crash.
type InventoryStore interface {
	// Load returns the stored inventory, empty if there is none yet.
	Load(ctx context.Context) (*Inventory, error)
	// Save replaces the inventory that Load returned. If somebody else saved
	// since, it changes nothing and its error matches [ErrConflict]. An
	// inventory without entries may be removed.
	Save(ctx context.Context, inv *Inventory) error
}

// ConfigMapInventory keeps an inventory in a ConfigMap, as JSON under the key
// "inventory". A ConfigMap holds about 10,000 entries. It carries the label
// gitopskit.github.io/inventory, by which a [Store] follows it, and is removed
// when the last entry is gone.
type ConfigMapInventory struct {
	Dynamic         dynamic.Interface
	Namespace, Name string
	// ApplySet makes the ConfigMap the parent of an ApplySet (KEP-3659), whose
	// members the applied objects are: kubectl lists them by the label
	// applyset.kubernetes.io/part-of, see [ApplySetID].
	ApplySet bool
}

const inventoryKey = "inventory"

func (s *ConfigMapInventory) configMaps() dynamic.ResourceInterface {
	return s.Dynamic.Resource(configMapsResource()).Namespace(s.Namespace)
}

func (s *ConfigMapInventory) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	class := classify(err)
	if class == nil {
		return fmt.Errorf("%s inventory ConfigMap %s/%s: %w", op, s.Namespace, s.Name, err)
	}
	return fmt.Errorf("%s inventory ConfigMap %s/%s: %w: %w", op, s.Namespace, s.Name, class, err)
}

// Load reads the ConfigMap.
func (s *ConfigMapInventory) Load(ctx context.Context) (*Inventory, error) {
	cm, err := s.configMaps().Get(ctx, s.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &Inventory{}, nil
	}
	if err != nil {
		return nil, s.wrap("read", err)
	}
	data, _, err := unstructured.NestedString(cm.Object, "data", inventoryKey)
	inv := &Inventory{
		Version:  string(cm.GetUID()) + "/" + cm.GetResourceVersion(),
		unmarked: (mark(cm, "labels", applySetID) != "") != s.ApplySet,
	}
	if err == nil && data != "" {
		err = json.Unmarshal([]byte(data), inv)
	}
	if err != nil {
		return nil, s.wrap("read", fmt.Errorf("%w: key %q: %w", ErrInvalid, inventoryKey, err))
	}
	return inv, nil
}

// Save writes the ConfigMap, or removes it if the inventory is empty.
func (s *ConfigMapInventory) Save(ctx context.Context, inv *Inventory) error {
	uid, resourceVersion, stored := cutVersion(inv.Version)
	if len(inv.Entries) == 0 {
		if !stored {
			return nil
		}
		err := s.configMaps().Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &resourceVersion}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		if err == nil {
			inv.Version = ""
		}
		return s.wrap("remove", err)
	}
	inv.sort()
	data, err := json.Marshal(inv)
	if err != nil {
		return s.wrap("write", err)
	}
	cm := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": s.Name, "namespace": s.Namespace, "labels": map[string]any{inventoryLabel: "true"}},
		"data":     map[string]any{inventoryKey: string(data)},
	}}
	if s.ApplySet {
		markParent(cm, inv)
	}
	if stored {
		cm.SetUID(uid)
		cm.SetResourceVersion(resourceVersion)
		cm, err = s.configMaps().Update(ctx, cm, metav1.UpdateOptions{FieldManager: DefaultFieldManager})
	} else {
		cm, err = s.configMaps().Create(ctx, cm, metav1.CreateOptions{FieldManager: DefaultFieldManager})
	}
	switch {
	case apierrors.IsNotFound(err) && stored:
		err = errors.Join(ErrConflict, err) // removed since Load
	case apierrors.IsNotFound(err):
		err = fmt.Errorf("%w: create the namespace first: %w", ErrInvalid, err)
	case err == nil:
		inv.Version, inv.unmarked = string(cm.GetUID())+"/"+cm.GetResourceVersion(), false
	}
	return s.wrap("write", err)
}

func cutVersion(v string) (uid types.UID, resourceVersion string, ok bool) {
	for i := range v {
		if v[i] == '/' {
			return types.UID(v[:i]), v[i+1:], true
		}
	}
	return "", "", false
}
