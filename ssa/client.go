package ssa

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
)

// DefaultFieldManager is the manager of applied fields when [Client] names none.
const DefaultFieldManager = "gitopskit"

// Client applies, watches and prunes the objects of one owner in one cluster.
//
// Build its connection with a high rate limit (rest.Config QPS -1): the
// default of client-go, five requests a second, is made for single commands.
// Whom it acts as is decided by the connection, too: for impersonation or
// another cluster give it another Dynamic and Mapper.
//
// A Client holds no state of its own and is safe for concurrent use, except
// that one owner must not be applied or pruned by two calls at a time; the
// inventory notices and one of them fails with [ErrConflict].
type Client struct {
	// Dynamic is the connection to the cluster. Required.
	Dynamic dynamic.Interface
	// Mapper finds the resource of a kind. Required. If it can be reset, as
	// restmapper.NewDeferredDiscoveryRESTMapper can, it is when it does not
	// know a kind, or knows one that is gone. What it asks the server does not end
	// with the context of a call: its own connection should have a Timeout.
	Mapper meta.RESTMapper
	// Owner is on whose behalf objects are applied. Required.
	Owner Owner
	// FieldManager owns the applied fields; empty means [DefaultFieldManager].
	FieldManager string
	// Inventory remembers which objects the owner has. Nil means a ConfigMap
	// called "<Owner.Name>-inventory" in the owner's namespace.
	Inventory InventoryStore
	// Cluster is the identity of the cluster, see [ClusterID]. If it is set, the
	// inventory remembers it, and an inventory of another cluster is an error that
	// matches [ErrOtherCluster].
	Cluster types.UID
	// DefaultNamespace is given to namespaced objects that have none; empty
	// means that such an object is an error.
	DefaultNamespace string
	// Concurrency is the number of requests at a time; 0 means 8.
	Concurrency int
	// Policy says how to deal with what is in the way.
	Policy Policy
	// Store, if set, knows the applied objects from a watch, so that what is
	// unchanged and what is awaited costs no request. Its group must be the
	// owner's and its cluster that of Dynamic.
	Store *Store
	// Prover, if set, proves that objects are unchanged when the store does not
	// know, such as after a restart, from one list for each kind instead of one
	// dry run for each object; and with a store it lets fields of others
	// change without one. Package ssa/proof has one. Without a store, each pass
	// also reviews for each kind and namespace whether it may be applied.
	Prover Prover
	// Health, if set, judges the objects of the kinds that it covers when they are
	// waited for, instead of kstatus. Package ssa/health has one.
	Health Health
	// Identity names whom the connection acts as, for the reviews of access that
	// clients of one Store share. Clients must not share it unless they act as the
	// same. Empty means that only clients of the same owner share them.
	Identity string
}

func (c *Client) validate() error {
	var errs []error
	if c.Dynamic == nil {
		errs = append(errs, fmt.Errorf("%w: Client.Dynamic is nil", ErrInvalid))
	}
	if c.Mapper == nil {
		errs = append(errs, fmt.Errorf("%w: Client.Mapper is nil", ErrInvalid))
	}
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("%w: Client.Concurrency is %d", ErrInvalid, c.Concurrency))
	}
	if c.Store != nil && c.Store.group() != c.Owner.group() {
		errs = append(errs, fmt.Errorf("%w: Client.Store is of the group %s, the owner of %s", ErrInvalid, c.Store.group(), c.Owner.group()))
	}
	if c.Store != nil && c.Store.Cluster != "" && c.Cluster != "" && c.Store.Cluster != c.Cluster {
		errs = append(errs, fmt.Errorf("%w: Client.Store is of the cluster %s, the client of %s", ErrInvalid, c.Store.Cluster, c.Cluster))
	}
	errs = append(errs, c.Policy.validate())
	if c.Inventory == nil {
		for _, problem := range validation.IsDNS1123Label(c.Owner.Namespace) {
			errs = append(errs, fmt.Errorf("%w: Owner.Namespace %q, of the inventory: %s", ErrInvalid, c.Owner.Namespace, problem))
		}
		for _, problem := range validation.IsDNS1123Subdomain(c.inventoryName()) {
			errs = append(errs, fmt.Errorf("%w: Owner.Name %q, for the inventory %q: %s", ErrInvalid, c.Owner.Name, c.inventoryName(), problem))
		}
	}
	if err := errors.Join(append(errs, c.Owner.validate())...); err != nil {
		return fmt.Errorf("ssa: client: %w", err)
	}
	return nil
}

func (c *Client) manager() string {
	if c.FieldManager == "" {
		return DefaultFieldManager
	}
	return c.FieldManager
}

func (c *Client) concurrency() int {
	if c.Concurrency == 0 {
		return 8
	}
	return c.Concurrency
}

func (c *Client) inventory() InventoryStore {
	if c.Inventory == nil {
		return &ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: c.inventoryName()}
	}
	return c.Inventory
}

func (c *Client) inventoryName() string { return c.Owner.Name + "-inventory" }

// isInventory reports the ConfigMap that holds the inventory itself.
func (c *Client) isInventory(id ObjectID) bool {
	cm, ok := c.inventory().(*ConfigMapInventory)
	return ok && id == ObjectID{Kind: "ConfigMap", Namespace: cm.Namespace, Name: cm.Name}
}

// mapping finds the resource of a kind. An empty version means the preferred one.
func (c *Client) mapping(gk schema.GroupKind, version string) (*meta.RESTMapping, error) {
	var versions []string
	if version != "" {
		versions = []string{version}
	}
	m, err := c.Mapper.RESTMapping(gk, versions...)
	if meta.IsNoMatchError(err) {
		kind := gk.Kind
		if gk.Group+version != "" {
			kind += " of " + schema.GroupVersion{Group: gk.Group, Version: version}.String()
		}
		return nil, fmt.Errorf("%w: the cluster does not serve %s: install its CustomResourceDefinition or correct apiVersion and kind: %w", ErrUnknownKind, kind, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: find the resource of %s: %w", ErrUnavailable, gk, err)
	}
	return m, nil
}

// ID returns the identity that a desired object has in the cluster: that of
// [IDOf], with the default namespace if it needs one and without a namespace
// if its kind has none.
func (c *Client) ID(obj *unstructured.Unstructured) ObjectID {
	id := IDOf(obj)
	m, err := c.mapping(id.GroupKind(), obj.GroupVersionKind().Version)
	switch {
	case err != nil:
	case m.Scope.Name() == meta.RESTScopeNameRoot:
		id.Namespace = ""
	case id.Namespace == "":
		id.Namespace = c.DefaultNamespace
	}
	return id
}

// resource returns the endpoint of an object.
func (c *Client) resource(m *meta.RESTMapping, namespace string) dynamic.ResourceInterface {
	if m.Scope.Name() == meta.RESTScopeNameRoot || namespace == "" {
		return c.Dynamic.Resource(m.Resource)
	}
	return c.Dynamic.Resource(m.Resource).Namespace(namespace)
}

// each calls f for the numbers 0 to n-1, at most Concurrency at a time, and
// returns when all calls have. It starts none after ctx is done.
func (c *Client) each(ctx context.Context, n int, f func(i int)) {
	slots := make(chan struct{}, c.concurrency())
	var wg sync.WaitGroup
	for i := range n {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}
