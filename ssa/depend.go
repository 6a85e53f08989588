package ssa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// dependsOn is the annotation with which an object names others that must be
// ready before it is applied, and that are deleted after it: comma-separated
// <group>/namespaces/<namespace>/<kind>/<name>, or <group>/<kind>/<name> for
// objects without namespace. The group is empty for kinds of the core. It is that
// of kubectl's kin (https://github.com/kubernetes-sigs/cli-utils).
const dependsOn = "config.kubernetes.io/depends-on"

// dependencies reads what an object says that it needs.
func dependencies(obj *unstructured.Unstructured) ([]ObjectID, error) {
	text := strings.TrimSpace(mark(obj, "annotations", dependsOn))
	if text == "" {
		return nil, nil
	}
	var out []ObjectID
	for entry := range strings.SplitSeq(text, ",") {
		parts := strings.Split(strings.TrimSpace(entry), "/")
		var id ObjectID
		switch {
		case len(parts) == 5 && parts[1] == "namespaces":
			id = ObjectID{Group: parts[0], Namespace: parts[2], Kind: parts[3], Name: parts[4]}
		case len(parts) == 3:
			id = ObjectID{Group: parts[0], Kind: parts[1], Name: parts[2]}
		}
		if id.Kind == "" || id.Name == "" {
			return nil, fmt.Errorf("%w: annotation %s: %q is not of the form group/namespaces/namespace/Kind/name or group/Kind/name", ErrInvalid, dependsOn, entry)
		}
		out = append(out, id)
	}
	return out, nil
}

// graph is what objects need of each other.
type graph map[ObjectID][]ObjectID

// depths returns how many others of the graph come before each object, one
// after the other, and an error for each object that needs itself.
func (g graph) depths() (map[ObjectID]int, map[ObjectID]error) {
	depths, cycles := map[ObjectID]int{}, map[ObjectID]error{}
	var path []ObjectID
	var visit func(id ObjectID) int
	visit = func(id ObjectID) int {
		if d, known := depths[id]; known {
			return d
		}
		if i := slices.Index(path, id); i >= 0 {
			circle := slices.Clone(path[i:])
			for k, member := range circle {
				if cycles[member] == nil {
					cycles[member] = cycle(slices.Concat(circle[k:], circle[:k], []ObjectID{member}))
				}
			}
			return 0
		}
		path = append(path, id)
		depth := 0
		for _, need := range g[id] {
			if _, ours := g[need]; ours {
				depth = max(depth, visit(need)+1)
			}
		}
		path = path[:len(path)-1]
		depths[id] = depth
		return depth
	}
	for id := range g {
		visit(id)
	}
	return depths, cycles
}

func cycle(members []ObjectID) error {
	var names []string
	for _, m := range members {
		names = append(names, m.String())
	}
	return fmt.Errorf("%w: it depends on itself: %s: remove one of these from the annotation %s", ErrInvalid, strings.Join(names, " -> "), dependsOn)
}

// arrange puts the items in order by what they need. Definitions stay first.
func (p *plan) arrange() error {
	var errs []error
	plain := true
	for _, it := range p.items {
		needs, err := dependencies(it.obj)
		if err != nil {
			errs = append(errs, p.reject(it, err))
		}
		it.needs = needs
		plain = plain && len(needs) == 0
	}
	if !plain {
		errs = append(errs, p.deepen()...)
	}
	slices.SortStableFunc(p.items, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.stage(), b.stage()), cmp.Compare(a.depth, b.depth))
	})
	return errors.Join(errs...)
}

// deepen finds out what comes after what, and what cannot.
func (p *plan) deepen() []error {
	g := graph{}
	for _, it := range p.items {
		g[it.id] = it.needs
	}
	var errs []error
	depths, cycles := g.depths()
	for _, it := range p.items {
		it.depth = depths[it.id]
		if err := cycles[it.id]; err != nil {
			errs = append(errs, p.reject(it, err))
		}
	}
	byID := map[ObjectID]*item{}
	for _, it := range p.items {
		byID[it.id] = it
	}
	for _, it := range p.items {
		for _, need := range it.needs {
			if other := byID[need]; other != nil && !it.dead && it.early() && !other.early() {
				errs = append(errs, p.reject(it, fmt.Errorf("%w: it cannot wait for %s: definitions and namespaces come first, others may need them", ErrInvalid, need)))
				break
			}
		}
	}
	return errs
}

// early reports an item of the first stage: a definition, or another of the kinds
// that come first, if it needs nothing.
func (it *item) early() bool {
	return isCRD(it.id) || isNamespace(it.id) || isDefinition(it.id.Kind) && len(it.needs) == 0
}

func (it *item) stage() int {
	if it.early() {
		return 0
	}
	return 1
}

// reject notes what makes it impossible to plan an item: the error of the whole
// plan, or of the item alone if a part may be applied.
func (p *plan) reject(it *item, err error) error {
	err = objectError("read", it.id, err)
	if !p.client.Policy.Partial {
		return err
	}
	it.dead = true
	it.change.Action, it.change.Err = Failed, err
	return nil
}

// await waits until what the items to be sent need is ready. Those whose needs
// are not met fail.
func (p *plan) await(ctx context.Context, group []*item) {
	var ids []ObjectID
	for _, it := range group {
		if !it.due() || it.waits != "" {
			continue
		}
		for _, need := range it.needs {
			if _, err := p.client.mapping(need.GroupKind(), ""); err != nil {
				it.fail("wait", fmt.Errorf("it needs %s: %w", need, err))
				break
			}
			ids = append(ids, need)
		}
	}
	if len(ids) == 0 {
		return
	}
	slices.SortFunc(ids, ObjectID.Compare)
	statuses, err := p.client.Wait(ctx, slices.Compact(ids), &WaitOptions{AnyOwner: true, Timeout: p.dependencies})
	if err == nil {
		return
	}
	var unready *NotReadyError
	if errors.As(err, &unready) {
		err = unready.Err // the statuses say the rest
	}
	missing := map[ObjectID]Status{}
	for _, s := range statuses {
		if s.State != Current {
			missing[s.Object] = s
		}
	}
	for _, it := range group {
		for _, need := range it.needs {
			if s, open := missing[need]; open && it.due() {
				it.fail("wait", errors.Join(fmt.Errorf("%w: it needs %s", ErrNotReady, s), err))
			}
		}
	}
}

func (it *item) fail(op string, err error) {
	it.change.Action, it.change.Err = Failed, objectError(op, it.id, err)
}

// block skips what needs an object that failed, directly or not.
func (p *plan) block() {
	failed := map[ObjectID]*item{}
	for again := true; again; {
		again = false
		for _, it := range p.items {
			if it.change.Action == Failed || it.dead {
				failed[it.id] = it
			}
		}
		for _, it := range p.items {
			if !it.due() || failed[it.id] != nil {
				continue
			}
			for _, other := range failed {
				if it.requires(other) {
					it.dead, again = true, true
					it.change.Action, it.change.Fields = Skipped, nil
					it.change.Reason = "it needs " + other.id.String() + ", which failed"
					break
				}
			}
		}
	}
}

// requires reports whether an item cannot be applied without another.
func (it *item) requires(other *item) bool {
	return isNamespace(other.id) && it.id.Namespace == other.id.Name && it.waits != "" ||
		isCRD(other.id) && definedKind(other.obj) == it.id.GroupKind() && it.waits != "" ||
		slices.Contains(it.needs, other.id)
}

// defaultPatience is how long objects are waited for that others need.
const defaultPatience = 5 * time.Minute
