package offline

import (
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// maxEvents is how many changes are remembered for watches and for lists in
// pieces. Who asks for an older version is told that it has expired.
const maxEvents = 1000

// store holds objects and their last changes. What is in it is never modified,
// only replaced, so that readers may keep it. It is not safe for concurrent use.
type store struct {
	objects map[schema.GroupResource]map[types.NamespacedName]*unstructured.Unstructured
	version uint64        // the resource version of the last change
	events  []event       // the last changes, in order
	changed chan struct{} // closed at the next change

	deleting int  // objects that are marked for deletion
	owned    int  // objects with owner references
	lost     bool // an owner may have gone since the garbage collector looked
}

// event is one change of an object.
type event struct {
	version  uint64
	resource schema.GroupResource
	kind     watch.EventType
	old, new *unstructured.Unstructured // the new one has the version, also if it was deleted
}

func newStore() *store {
	return &store{
		objects: map[schema.GroupResource]map[types.NamespacedName]*unstructured.Unstructured{},
		version: 1,
		changed: make(chan struct{}),
	}
}

func keyOf(obj *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// get returns an object, nil if it does not exist.
func (s *store) get(gr schema.GroupResource, key types.NamespacedName) *unstructured.Unstructured {
	return s.objects[gr][key]
}

// put stores an object, which becomes the store's, and gives it a version.
func (s *store) put(gr schema.GroupResource, obj *unstructured.Unstructured) {
	key := keyOf(obj)
	old := s.get(gr, key)
	kind := watch.Modified
	if old == nil {
		kind = watch.Added
	}
	if s.objects[gr] == nil {
		s.objects[gr] = map[types.NamespacedName]*unstructured.Unstructured{}
	}
	s.record(gr, kind, old, obj)
	s.objects[gr][key] = obj
	s.tally(old, -1)
	s.tally(obj, 1)
	s.lost = s.lost || hasMeta(obj, "ownerReferences")
}

// tally counts the objects that controllers have to look at.
func (s *store) tally(obj *unstructured.Unstructured, n int) {
	if hasMeta(obj, "deletionTimestamp") {
		s.deleting += n
	}
	if hasMeta(obj, "ownerReferences") {
		s.owned += n
	}
}

func hasMeta(obj *unstructured.Unstructured, name string) bool {
	if obj == nil {
		return false
	}
	metadata, _ := obj.Object["metadata"].(map[string]any) // every object has it
	return metadata[name] != nil
}

// remove deletes an object.
func (s *store) remove(gr schema.GroupResource, key types.NamespacedName) {
	old := s.get(gr, key)
	if old == nil {
		return
	}
	delete(s.objects[gr], key)
	s.tally(old, -1)
	s.lost = true
	s.record(gr, watch.Deleted, old, old.DeepCopy())
}

func (s *store) record(gr schema.GroupResource, kind watch.EventType, old, obj *unstructured.Unstructured) {
	s.version++
	obj.SetResourceVersion(strconv.FormatUint(s.version, 10))
	if len(s.events) >= 2*maxEvents { // seldom, so that it costs nothing on average
		s.events = append(make([]event, 0, 2*maxEvents), s.events[len(s.events)-maxEvents:]...)
	}
	s.events = append(s.events, event{version: s.version, resource: gr, kind: kind, old: old, new: obj})
	close(s.changed)
	s.changed = make(chan struct{})
}

// since returns the changes after a version; false if not all are remembered.
func (s *store) since(version uint64) ([]event, bool) {
	first := s.version - uint64(len(s.events)) // changes after this one are there
	if version < first {
		return nil, false
	}
	if version >= s.version {
		return nil, true
	}
	return s.events[version-first:], true
}

// at returns the objects of a resource as they were at a version; false if
// that is not remembered.
func (s *store) at(gr schema.GroupResource, version uint64) (map[types.NamespacedName]*unstructured.Unstructured, bool) {
	events, ok := s.since(version)
	if !ok {
		return nil, false
	}
	out := map[types.NamespacedName]*unstructured.Unstructured{}
	for key, obj := range s.objects[gr] {
		out[key] = obj
	}
	for i := len(events) - 1; i >= 0; i-- {
		if e := events[i]; e.resource == gr {
			if e.old == nil {
				delete(out, keyOf(e.new))
			} else {
				out[keyOf(e.old)] = e.old
			}
		}
	}
	return out, true
}
