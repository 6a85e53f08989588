package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// ClusterID returns the identity of a cluster, the UID of its namespace
// kube-system, for [Client.Cluster].
func ClusterID(ctx context.Context, dyn dynamic.Interface) (types.UID, error) {
	namespace, err := dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("ssa: identity of the cluster: %w", objectError("read", ObjectID{Kind: "Namespace", Name: "kube-system"}, err))
	}
	return namespace.GetUID(), nil
}

// load reads the inventory, and refuses one of another cluster: what it lists
// is not here, and deleting what has the same names here would be wrong.
func (c *Client) load(ctx context.Context) (*Inventory, error) {
	inventory, err := c.inventory().Load(ctx)
	if err != nil {
		return nil, err
	}
	if inventory.Cluster != "" && c.Cluster != "" && inventory.Cluster != c.Cluster {
		return nil, fmt.Errorf("%w: the inventory of %s lists %d objects of cluster %s, this is %s: prune them there first, or empty the inventory", ErrOtherCluster, c.Owner, len(inventory.Entries), inventory.Cluster, c.Cluster)
	}
	return inventory, nil
}

// save stores the inventory.
func (c *Client) save(ctx context.Context, inventory *Inventory) error {
	if c.Cluster != "" {
		inventory.Cluster = c.Cluster
	}
	return c.inventory().Save(ctx, inventory)
}

// Orphans returns the objects that carry the owner's labels and are not in its
// inventory, in order: they are left over from an inventory that was lost or
// edited. Only objects of the given kinds are found; discovery lists those a
// cluster has. Kinds that are not served, or cannot be listed, are an error
// beside the result.
//
// It deletes nothing. To adopt an orphan apply it again; to have it pruned add it
// to the inventory with [Client.Adopt].
func (c *Client) Orphans(ctx context.Context, kinds ...schema.GroupVersionKind) ([]ObjectID, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	inventory, err := c.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("ssa: find orphans of %s: %w", c.Owner, err)
	}
	known := map[ObjectID]bool{}
	for _, e := range inventory.Entries {
		known[e.Object] = true
	}
	found, errs := make([][]ObjectID, len(kinds)), make([]error, len(kinds))
	c.each(ctx, len(kinds), func(i int) {
		found[i], errs[i] = c.labelled(ctx, kinds[i])
	})
	var out []ObjectID
	for _, id := range slices.Concat(found...) {
		if !known[id] && !c.isInventory(id) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareKinds)
	if err := errors.Join(errors.Join(errs...), context.Cause(ctx)); err != nil {
		return slices.Compact(out), fmt.Errorf("ssa: find orphans of %s: %w", c.Owner, err)
	}
	return slices.Compact(out), nil
}

// labelled lists the objects of a kind with the owner's labels, page by page.
func (c *Client) labelled(ctx context.Context, gvk schema.GroupVersionKind) ([]ObjectID, error) {
	m, err := c.mapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	var out []ObjectID
	options := metav1.ListOptions{LabelSelector: c.Owner.selector(), Limit: 500}
	for {
		list, err := c.resource(m, "").List(ctx, options)
		if err != nil {
			return out, fmt.Errorf("list %s: %w", m.Resource.Resource, err)
		}
		for i := range list.Items {
			list.Items[i].SetGroupVersionKind(gvk)
			out = append(out, IDOf(&list.Items[i]))
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return out, nil
		}
	}
}

// Adopt adds objects to the owner's inventory, so that the next [Client.Prune]
// deletes those that carry the owner's labels and are not in its set.
func (c *Client) Adopt(ctx context.Context, ids ...ObjectID) error {
	err := c.validate()
	var inventory *Inventory
	if err == nil {
		inventory, err = c.load(ctx)
	}
	if err != nil {
		return fmt.Errorf("ssa: adopt for %s: %w", c.Owner, err)
	}
	var entries []Entry
	for _, id := range ids {
		m, err := c.mapping(id.GroupKind(), "")
		if err != nil {
			return fmt.Errorf("ssa: adopt for %s: %w", c.Owner, objectError("read", id, err))
		}
		entries = append(entries, Entry{Object: id, Version: m.GroupVersionKind.Version})
	}
	if !inventory.add(entries) {
		return nil
	}
	if err := c.save(ctx, inventory); err != nil {
		return fmt.Errorf("ssa: adopt for %s: %w", c.Owner, err)
	}
	return nil
}
