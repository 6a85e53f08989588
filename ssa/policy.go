package ssa

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Policy says how a [Client] deals with what is in its way. All its calls
// follow it, so that a diff tells what an apply would do, and a watch reports
// what an apply would repair. The zero value is usable.
//
// Objects have a say of their own, by annotations or labels with the prefix of
// the owner, [Owner.Group], whose values are compared without regard to case:
//
//	<Group>/ssa: Override      the default
//	<Group>/ssa: Merge         fields of Policy.TakeOver stay with their managers
//	<Group>/ssa: IfNotPresent  it is created, and never changed
//	<Group>/ssa: Ignore        it is neither created nor changed
//	<Group>/reconcile: disabled  the same, and it is not pruned either
//	<Group>/force: enabled     it may be recreated
//	<Group>/prune: disabled    it is not pruned; this is said by the live object
//
// Ignore, reconcile and force also count on the live object, unless
// DistrustLive is set. An object that is left alone stays in the inventory, and
// its change is [Exempt].
type Policy struct {
	// Recreate says which objects may be deleted and created again where a
	// change is impossible otherwise.
	Recreate RecreateMode
	// Foreign says what happens to objects that belong to somebody else.
	Foreign ForeignMode
	// Ignore are fields that are left to others. See [IgnoreRule].
	Ignore []IgnoreRule
	// TakeOver names field managers whose fields become ours, because they
	// applied the objects before: "kubectl*" and "helm" are usual. What they
	// set and the manifest does not then goes. A name that ends in an asterisk is
	// a prefix.
	TakeOver []string
	// DistrustLive gives the annotations and labels of live objects no say, for
	// clusters where whoever can edit an object must not be able to switch off
	// what enforces it. What they would have said is in Change.Reason.
	DistrustLive bool
	// Partial applies what can be applied when some objects are refused. What
	// needs a refused one, by its kind, its namespace or its annotation, is
	// Skipped.
	Partial bool
}

// RecreateMode says which objects may be recreated.
type RecreateMode int

const (
	// RecreateAnnotated recreates objects that allow it by annotation, the default.
	RecreateAnnotated RecreateMode = iota
	// RecreateNever recreates none.
	RecreateNever
	// RecreateAlways recreates any object, but Namespaces,
	// CustomResourceDefinitions and PersistentVolumeClaims, which take more with
	// them than themselves, only if their manifest has the annotation.
	RecreateAlways
)

// ForeignMode says what happens to an existing object that carries the marks of
// another owner, or of another tool: Flux, Helm, Argo CD, kubectl's ApplySets.
type ForeignMode int

const (
	// ForeignWarn applies it and names the other in Change.Foreign, the default.
	ForeignWarn ForeignMode = iota
	// ForeignFail refuses it, with an error that matches [ErrForeign].
	ForeignFail
	// ForeignTake applies it without a word.
	ForeignTake
)

func (p *Policy) validate() error {
	var errs []error
	if p.Recreate < RecreateAnnotated || p.Recreate > RecreateAlways {
		errs = append(errs, fmt.Errorf("%w: Policy.Recreate is %d", ErrInvalid, p.Recreate))
	}
	if p.Foreign < ForeignWarn || p.Foreign > ForeignTake {
		errs = append(errs, fmt.Errorf("%w: Policy.Foreign is %d", ErrInvalid, p.Foreign))
	}
	for i, name := range p.TakeOver {
		if strings.Trim(name, "*") == "" || strings.Contains(strings.TrimSuffix(name, "*"), "*") {
			errs = append(errs, fmt.Errorf("%w: Policy.TakeOver[%d] is %q: name a manager, or the beginning of its name and one asterisk", ErrInvalid, i, name))
		}
	}
	_, err := compileRules(p.Ignore)
	return errors.Join(append(errs, err)...)
}

// says reports whether an object has an annotation or label of the owner's group
// with a value.
func (o Owner) says(obj *unstructured.Unstructured, key, value string) bool {
	key = o.group() + "/" + key
	return strings.EqualFold(mark(obj, "annotations", key), value) || strings.EqualFold(mark(obj, "labels", key), value)
}

// mark returns the value of a label or annotation, without a copy of them all.
func mark(obj *unstructured.Unstructured, field, key string) string {
	metadata, _ := obj.Object["metadata"].(map[string]any)
	marks, _ := metadata[field].(map[string]any)
	value, _ := marks[key].(string)
	return value
}

// optedOut returns how an object asks not to be touched, empty if it does not.
func (o Owner) optedOut(obj *unstructured.Unstructured) string {
	switch {
	case o.says(obj, "ssa", "Ignore"):
		return o.group() + "/ssa is Ignore"
	case o.says(obj, "reconcile", "disabled"):
		return o.group() + "/reconcile is disabled"
	}
	return ""
}

// exempt settles what its own policy says to leave alone, as far as that can be
// told without the live object.
func (p *plan) exempt(items []*item) {
	for _, it := range items {
		if it.settled {
			continue
		}
		if why := p.client.Owner.optedOut(it.obj); why != "" {
			it.leave(why + " in the manifest")
		}
	}
}

// leave settles an item that is not to be touched.
func (it *item) leave(why string) {
	it.settled, it.waits = true, ""
	it.change.Action, it.change.Reason, it.change.Fields = Exempt, why, nil
}

// exemptLive settles an item of which the live object says to leave it alone,
// or that is only to be created.
func (p *plan) exemptLive(it *item, live *unstructured.Unstructured) bool {
	if live == nil {
		return false
	}
	if p.client.Owner.says(it.obj, "ssa", "IfNotPresent") {
		it.leave("it exists, and " + p.client.Owner.group() + "/ssa is IfNotPresent")
	} else if slices.ContainsFunc(p.ignored(it.obj), func(pointer []string) bool { return len(pointer) == 0 }) {
		it.leave("it exists, and all of it is ignored")
	} else if why := p.client.Owner.optedOut(live); why != "" && !p.client.Policy.DistrustLive {
		it.leave(why + " on the live object")
	}
	if it.settled {
		it.change.UID, it.change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
	}
	return it.settled
}

// distrust is a remark on what a live object says in vain.
func (p *plan) distrust(live *unstructured.Unstructured) string {
	if !p.client.Policy.DistrustLive {
		return ""
	}
	return vain(p.client.Owner.optedOut(live))
}

func vain(optOut string) string {
	if optOut == "" {
		return ""
	}
	return optOut + " on the live object, which does not count"
}

// mayRecreate reports whether an object may be deleted and created again.
func (p *plan) mayRecreate(it *item, live *unstructured.Unstructured) bool {
	asked := p.client.Owner.says(it.obj, "force", "enabled")
	if isNamespace(it.id) || isCRD(it.id) || it.id.Kind == "PersistentVolumeClaim" {
		return asked && p.client.Policy.Recreate != RecreateNever // it takes more with it than itself
	}
	switch p.client.Policy.Recreate {
	case RecreateAlways:
		return true
	case RecreateNever:
		return false
	case RecreateAnnotated:
	}
	return asked ||
		live != nil && !p.client.Policy.DistrustLive && p.client.Owner.says(live, "force", "enabled")
}
