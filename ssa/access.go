package ssa

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// access remembers which identities may apply what.
type access struct {
	mu      sync.Mutex
	granted map[grant]time.Time
	revoked map[grant]time.Time
	asking  map[grant]chan struct{} // reviews under way, closed at their end
}

// grant is that an identity may patch a resource in a namespace.
type grant struct {
	identity  string
	resource  schema.GroupVersionResource
	namespace string
}

// longest is the longest time that a grant is believed.
const longest = 5 * time.Minute

func (a *access) fresh(g grant, age time.Duration) bool {
	at, ok := a.granted[g]
	return ok && time.Since(at) < age
}

// begin reports whether a grant is fresh. If not, the caller is to ask for it,
// nobody else does, and end is to be called afterwards.
func (a *access) begin(ctx context.Context, g grant, age time.Duration) (end func(), fresh bool) {
	for {
		a.mu.Lock()
		if a.fresh(g, age) {
			a.mu.Unlock()
			return nil, true
		}
		other := a.asking[g]
		if other == nil {
			mine := make(chan struct{})
			if a.asking == nil {
				a.asking = map[grant]chan struct{}{}
			}
			a.asking[g] = mine
			a.mu.Unlock()
			return func() {
				a.mu.Lock()
				defer a.mu.Unlock()
				delete(a.asking, g)
				close(mine)
			}, false
		}
		a.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done(): // which the request tells
			return func() {}, false
		}
	}
}

func (a *access) note(g grant, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked[g].After(at) {
		return // it was asked before
	}
	if a.granted == nil {
		a.granted = map[grant]time.Time{}
	}
	a.granted[g] = at
}

func (a *access) revoke(g grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.granted, g)
	if a.revoked == nil {
		a.revoked = map[grant]time.Time{}
	}
	a.revoked[g] = time.Now()
}

func (a *access) tidy() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for g, at := range a.granted {
		if time.Since(at) > longest {
			delete(a.granted, g)
		}
	}
	for g, at := range a.revoked {
		if time.Since(at) > longest {
			delete(a.revoked, g)
		}
	}
}

func (s *Store) accessAge() time.Duration {
	if s.AccessAge <= 0 || s.AccessAge > longest {
		return longest
	}
	return s.AccessAge
}

func (c *Client) grant(m *meta.RESTMapping, namespace string) grant {
	identity := c.Identity
	if identity == "" {
		identity = "owner " + c.Owner.String()
	}
	return grant{identity: identity, resource: m.Resource, namespace: namespace}
}

// permitted notes that the server refused a patch. That it accepted one says
// nothing about other names.
func (c *Client) permitted(it *item, err error) {
	if c.Store != nil && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)) {
		c.Store.access.revoke(c.grant(it.mapping, it.id.Namespace))
	}
}

// mayPatch reports whether the client's identity may patch a resource, as far
// as a review tells. One that may patch only some names by name may not.
func (c *Client) mayPatch(ctx context.Context, m *meta.RESTMapping, namespace string) (bool, error) {
	g := c.grant(m, namespace)
	if c.Store != nil {
		end, fresh := c.Store.access.begin(ctx, g, c.Store.accessAge())
		if fresh {
			return true, nil
		}
		defer end()
	}
	attributes := map[string]any{"verb": "patch", "group": m.Resource.Group, "version": m.Resource.Version, "resource": m.Resource.Resource}
	if namespace != "" {
		attributes["namespace"] = namespace
	}
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": attributes},
	}}
	reviews := schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
	asked := time.Now()
	answer, err := c.Dynamic.Resource(reviews).Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	allowed, _, err := unstructured.NestedBool(answer.Object, "status", "allowed")
	if allowed && c.Store != nil {
		c.Store.access.note(g, asked)
	}
	return allowed, err
}
