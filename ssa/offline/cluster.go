package offline

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"

	kinds "github.com/gitopskit/gitopskit/ssa/schema"
)

// Cluster is a Kubernetes cluster in memory. Make one with [New].
//
// It is safe for concurrent use. Writes are done one after the other. What its
// methods return belongs to the caller.
type Cluster struct {
	mu       sync.RWMutex
	builtin  *kinds.Set // without the definitions of the cluster
	set      *kinds.Set
	kinds    *kindTable
	rules    map[schema.GroupKind]rule
	frozen   map[schema.GroupKind][]frozen
	defaults defaults
	store    *store
	identity types.UID      // of kube-system; what is random is derived from it
	count    int            // objects that were made
	born     map[string]int // how often an object of a name was made
	services int            // addresses given to services
	ports    int            // node ports given to services
}

// New makes a cluster that serves the kinds of set, nil meaning the newest
// built-in ones, and has the namespaces default, kube-node-lease, kube-public
// and kube-system.
//
// It begins with the objects of seed, in any order. They are stored as they
// are, with their managed fields and status, as those of a copy of another
// cluster; what they lack that every object has, such as a UID, they get. They
// are validated as others are, and the error joins all that is wrong with them.
//
// All random values, UIDs and generated names, follow from the UID of the
// namespace kube-system, which is the cluster's identity: seed that namespace
// with a UID of your own, and they are the same in each run. Times are those of
// package time, which testing/synctest fakes.
func New(set *kinds.Set, seed ...*unstructured.Unstructured) (*Cluster, error) {
	if set == nil {
		var err error
		if set, err = kinds.Builtin(""); err != nil {
			return nil, fmt.Errorf("offline: %w", err)
		}
	}
	table, err := parseDefaults(defaultsText)
	if err != nil {
		return nil, fmt.Errorf("offline: defaults: %w", err)
	}
	c := &Cluster{
		builtin: set, set: set, rules: rules(), frozen: frozenFields(), defaults: table,
		store: newStore(), born: map[string]int{}, identity: uuid.NewUUID(),
	}
	c.serve()
	if err := c.sow(seed); err != nil {
		return nil, fmt.Errorf("offline: seed: %w", err)
	}
	return c, nil
}

// Dynamic returns a client of the cluster.
func (c *Cluster) Dynamic() dynamic.Interface { return connection{c} }

// Mapper returns what discovery tells about the cluster. It is always up to
// date; resetting it does nothing.
func (c *Cluster) Mapper() meta.RESTMapper { return mapper{c} }

// Objects returns all objects, by group, kind, namespace and name.
func (c *Cluster) Objects() []*unstructured.Unstructured {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []*unstructured.Unstructured
	for _, objects := range c.store.objects {
		for _, obj := range objects {
			out = append(out, obj.DeepCopy())
		}
	}
	slices.SortFunc(out, func(a, b *unstructured.Unstructured) int {
		ga, gb := a.GroupVersionKind(), b.GroupVersionKind()
		return cmp.Or(cmp.Compare(ga.Group, gb.Group), cmp.Compare(ga.Kind, gb.Kind), byName(a, b))
	})
	return out
}

// sow stores the first objects.
func (c *Cluster) sow(seed []*unstructured.Unstructured) error {
	rank := func(obj *unstructured.Unstructured) int {
		switch obj.GroupVersionKind().GroupKind() {
		case crdKind():
			return 0
		case namespaceKind():
			return 1
		}
		return 2
	}
	var objects []*unstructured.Unstructured
	for _, obj := range seed {
		objects = append(objects, obj.DeepCopy())
		if obj.GetName() == "kube-system" && rank(obj) == 1 && obj.GetUID() != "" {
			c.identity = obj.GetUID()
		}
	}
	for _, name := range []string{"default", "kube-node-lease", "kube-public", "kube-system"} {
		given := slices.ContainsFunc(objects, func(obj *unstructured.Unstructured) bool { return rank(obj) == 1 && obj.GetName() == name })
		if given {
			continue
		}
		obj := (&kind{gvk: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}}).empty()
		obj.SetName(name)
		if name == "kube-system" {
			obj.SetUID(c.identity)
		}
		objects = append(objects, obj)
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(rank(a), rank(b)) })
	var errs []error
	for _, obj := range objects {
		if err := c.plant(obj); err != nil {
			errs = append(errs, fmt.Errorf("%s %s/%s: %w", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err))
		}
	}
	c.settle()
	return errors.Join(errs...)
}

// plant stores one of the first objects.
func (c *Cluster) plant(obj *unstructured.Unstructured) error {
	var k *kind
	for _, v := range c.kinds.byKind[obj.GroupVersionKind().GroupKind()] {
		if v.gvk == obj.GroupVersionKind() {
			k = v
		}
	}
	if k == nil {
		return fmt.Errorf("%s of %s is not served", obj.GetKind(), obj.GetAPIVersion())
	}
	q := &request{resource: resource{cluster: c, gvr: k.resource()}, kind: k}
	if k.namespaced {
		q.namespace = obj.GetNamespace()
	}
	status, hasStatus := obj.Object["status"]
	obj, err := q.decode(obj)
	if err != nil {
		return err
	}
	if obj.GetName() == "" {
		return errNoName
	}
	if err := q.admit(nil, obj); err != nil {
		return err
	}
	uid, generation, created := obj.GetUID(), obj.GetGeneration(), obj.GetCreationTimestamp()
	if uid == "" {
		obj.SetUID(c.newUID(k, obj))
	}
	if created.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	q.beforeCreate(obj)
	if generation > 0 {
		obj.SetGeneration(generation)
	}
	if hasStatus {
		obj.Object["status"] = status
	}
	gr, key := k.groupResource(), keyOf(obj)
	if c.store.get(gr, key) != nil {
		return errors.New("it is there twice")
	}
	stored := c.as(c.stored(k.gvk.GroupKind()), obj)
	if k.gvk.GroupKind() != crdKind() {
		if errs := q.validate(obj); len(errs) > 0 {
			return errs.ToAggregate()
		}
		c.store.put(gr, stored)
		return nil
	}
	c.store.put(gr, stored)
	if err := c.define(stored); err != nil { // which validates it
		c.store.remove(gr, key)
		return err
	}
	c.establish(stored)
	return nil
}

// newUID makes up the UID of an object.
func (c *Cluster) newUID(k *kind, obj *unstructured.Unstructured) types.UID {
	key := k.identity(obj)
	b := c.random("uid", fmt.Sprintf("%s/%d", key, c.born[key]))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // a random UUID by RFC 9562
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}

// identity names an object, whatever its version.
func (k *kind) identity(obj *unstructured.Unstructured) string {
	return strings.Join([]string{k.gvk.Group, k.gvk.Kind, obj.GetNamespace(), obj.GetName()}, "/")
}

// generateName gives an object a name that none has.
func (c *Cluster) generateName(k *kind, obj *unstructured.Unstructured) {
	const longest, letters = 58, "bcdfghjklmnpqrstvwxz2456789"
	prefix := obj.GetGenerateName()
	if len(prefix) > longest {
		prefix = prefix[:longest]
	}
	for n := 0; ; n++ {
		var suffix strings.Builder
		digits := c.random("name", fmt.Sprintf("%s/%s/%s/%d/%d", k.plural, obj.GetNamespace(), prefix, c.count, n))
		for _, b := range digits[:5] {
			suffix.WriteByte(letters[int(b)%len(letters)])
		}
		obj.SetName(prefix + suffix.String())
		if c.store.get(k.groupResource(), keyOf(obj)) == nil {
			return
		}
	}
}

// random returns 32 bytes that follow from the identity of the cluster.
func (c *Cluster) random(purpose, key string) [sha256.Size]byte {
	return sha256.Sum256([]byte(string(c.identity) + "\x00" + purpose + "\x00" + key))
}

// address returns the next address of a service; a trial takes none.
func (c *Cluster) address(trial bool) string {
	n := c.services + 1
	if !trial {
		c.services = n
	}
	return netip.AddrFrom4([4]byte{10, 96 + byte(n>>16&0x0f), byte(n >> 8), byte(n)}).String()
}

// nodePort returns the next port of a service on all nodes.
func (c *Cluster) nodePort(trial bool) int64 {
	const first, size = 30000, 2768
	n := c.ports
	if !trial {
		c.ports++
	}
	return first + int64(n%size)
}
