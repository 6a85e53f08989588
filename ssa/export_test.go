package ssa

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Seen reports whether the store has seen everything up to a version of the
// objects of a kind that it follows.
func (s *Store) Seen(resource schema.GroupVersionResource, version string) bool {
	for _, k := range s.all() {
		if k.key.resource != resource || k.key.selector != s.selector() {
			continue
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.listed && !older(k.seen, version)
	}
	return false
}

// Followed returns the number of kinds that the store follows.
func (s *Store) Followed() int { return len(s.all()) }

// Hurry shortens how long confirmations stay void after a policy or definition
// changed. Call it before Run.
func (s *Store) Hurry(grace time.Duration) { s.grace = grace }

// Drop does now what the store does when time has passed.
func (s *Store) Drop() { s.dropIdle() }

// Age makes all confirmations older.
func (s *Store) Age(by time.Duration) {
	for _, k := range s.all() {
		k.mu.Lock()
		for _, r := range k.records {
			r.receipt.at -= int64(by.Seconds())
		}
		k.mu.Unlock()
	}
}

// OwnedDigest is the digest by which a store notices changes of what a manager
// owns, empty if it cannot tell.
func OwnedDigest(live *unstructured.Unstructured, manager string) string {
	if d := ownedOf(live, manager); d != (sum{}) {
		return string(d[:])
	}
	return ""
}

// ClusterScoped reports whether the kind of obj has no namespaces.
func ClusterScoped(c *Client, obj *unstructured.Unstructured) bool {
	m, err := c.mapping(obj.GroupVersionKind().GroupKind(), "")
	return err != nil || m.Scope.Name() == meta.RESTScopeNameRoot
}

// StateOf is how far an object has come without a client's own rules.
func StateOf(obj *unstructured.Unstructured) State { return lookAt(obj).state }

// TroubleOf is what a pod says is wrong with itself, "" if nothing is.
func TroubleOf(pod *unstructured.Unstructured) string {
	t, _ := troubleOf(pod)
	return t.text
}
