package ssa

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What was defined a moment ago makes confirmations of its own kind wait until it is in effect, and no others; and it is
// forgotten then.
func TestInEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{}
		of := func(group, resource, kind string) *kindStore {
			return &kindStore{store: s, key: kindKey{resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}}, gvk: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}}
		}
		gadgets, configMaps := of("example.org", "gadgets", "Gadget"), of("", "configmaps", "ConfigMap")
		for range 3 {
			s.void(func(k *kindStore) bool { return target{group: "example.org", kind: "Gadget"}.matches(k) })
			time.Sleep(s.patience() / 4)
		}
		if at := s.inEffect(gadgets); time.Until(at) != s.patience()*3/4 {
			t.Errorf("the kind itself: in %v", time.Until(at))
		}
		if at := s.inEffect(configMaps); !at.IsZero() || len(s.recent) != 3 {
			t.Errorf("another kind: in %v, of %d changes", time.Until(at), len(s.recent))
		}
		time.Sleep(s.patience())
		if at := s.inEffect(gadgets); !at.IsZero() || len(s.recent) != 0 {
			t.Errorf("later: %v, %d changes", at, len(s.recent))
		}
	})
}
