package ssa

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// epoch is the time in which the same apply has the same outcome: until somebody
// changes what rewrites objects, their definition, or the server.
type epoch struct {
	settled chan struct{} // closed when all sources were read, or one cannot be

	mu      sync.Mutex
	missing map[string]bool // sources that are not followed at the moment
	version string          // only for the follower of definitions
}

func newEpoch() *epoch {
	e := &epoch{settled: make(chan struct{}), missing: map[string]bool{}}
	for _, source := range epochSources() {
		e.missing[source.resource.Resource] = true
	}
	return e
}

// online reports that no change would be missed now.
func (e *epoch) online() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.missing) == 0
}

func (e *epoch) follows(source epochSource, yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !yes {
		e.missing[source.resource.Resource] = true
		return
	}
	if delete(e.missing, source.resource.Resource); len(e.missing) == 0 {
		e.settle()
	}
}

// refused notes that a source cannot be followed.
func (e *epoch) refused() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settle()
}

func (e *epoch) settle() {
	select {
	case <-e.settled:
	default:
		close(e.settled)
	}
}

// epochSource is a kind of object that makes confirmations void.
type epochSource struct {
	resource schema.GroupVersionResource
	// others are the versions to look for if the server does not have that of resource.
	others []string
	// content is what matters of an object.
	content func(obj *unstructured.Unstructured) any
	// targets are the kinds it matters for.
	targets func(obj *unstructured.Unstructured) []target
}

// target names kinds by group, and by resource or kind. "*" stands for all.
type target struct{ group, resource, kind string }

func (t target) matches(k *kindStore) bool {
	resource := k.key.resource
	return (t.group == "*" || t.group == resource.Group) &&
		(t.resource == "*" || t.resource == resource.Resource || t.kind != "" && t.kind == k.gvk.Kind)
}

func epochSources() []epochSource {
	admission := schema.GroupVersion{Group: "admissionregistration.k8s.io", Version: "v1"}
	spec := func(obj *unstructured.Unstructured) any { return obj.Object["spec"] }
	everything := func(*unstructured.Unstructured) []target { return []target{{group: "*", resource: "*"}} }
	return []epochSource{
		{definitionsResource(), nil, generation, definedTarget},
		{admission.WithResource("mutatingwebhookconfigurations"), nil, webhooks, webhookTargets},
		{admission.WithResource("mutatingadmissionpolicies"), []string{"v1beta1", "v1alpha1"}, spec, policyTargets},
		{admission.WithResource("mutatingadmissionpolicybindings"), []string{"v1beta1", "v1alpha1"}, spec, everything},
	}
}

func definitionsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

func generation(obj *unstructured.Unstructured) any {
	return []any{string(obj.GetUID()), obj.GetGeneration()}
}

func definedTarget(obj *unstructured.Unstructured) []target {
	gk := definedKind(obj)
	return []target{{group: gk.Group, kind: gk.Kind}}
}

// webhooks returns the webhooks without their CA bundles, which some
// controllers renew all the time.
func webhooks(obj *unstructured.Unstructured) any {
	hooks, _ := obj.Object["webhooks"].([]any) // may have none
	for _, h := range hooks {
		if hook, ok := h.(map[string]any); ok {
			unstructured.RemoveNestedField(hook, "clientConfig", "caBundle")
		}
	}
	return hooks
}

func webhookTargets(obj *unstructured.Unstructured) []target {
	var out []target
	hooks, _ := obj.Object["webhooks"].([]any) // may have none
	for _, h := range hooks {
		hook, _ := h.(map[string]any)
		rules, _ := hook["rules"].([]any)
		out = append(out, ruleTargets(rules)...)
	}
	return out
}

func policyTargets(obj *unstructured.Unstructured) []target {
	spec, _ := obj.Object["spec"].(map[string]any)
	constraints, _ := spec["matchConstraints"].(map[string]any)
	rules, _ := constraints["resourceRules"].([]any)
	return ruleTargets(rules)
}

// ruleTargets returns what admission rules select, by group and resource.
func ruleTargets(rules []any) []target {
	var out []target
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		groups, _ := rule["apiGroups"].([]any)
		resources, _ := rule["resources"].([]any)
		for _, g := range groups {
			for _, r := range resources {
				group, _ := g.(string)
				resource, _ := r.(string)
				resource, _, _ = strings.Cut(resource, "/")
				out = append(out, target{group: group, resource: resource})
			}
		}
	}
	return out
}

// followEpoch follows one source until ctx ends.
func (s *Store) followEpoch(ctx context.Context, e *epoch, source epochSource) {
	f := &epochFollower{store: s, epoch: e, source: source, last: map[string]epochObject{}}
	resource, versions := source.resource, append([]string{source.resource.Version}, source.others...)
	for attempt := 0; ctx.Err() == nil; {
		resource.Version = versions[attempt%len(versions)]
		stream := &kindStream{objects: []ObjectID{{Group: source.resource.Group, Kind: source.resource.Resource}}, stream: stream{
			resource:  s.Dynamic.Resource(resource),
			seen:      f.take,
			known:     f.names(),
			connected: func(string) { f.connected(ctx) },
			lost:      f.lost,
		}}
		err := stream.first(ctx)
		if err == nil {
			err = stream.follow(ctx) // which tells that it is connected
		}
		if ctx.Err() != nil {
			return
		}
		pause := time.Minute
		if errors.Is(err, ErrUnknownKind) || errors.Is(classify(err), ErrUnknownKind) {
			if attempt++; attempt%len(versions) != 0 {
				continue
			}
			e.follows(source, true) // a server that does not have the kind has no objects of it
			pause = 10 * time.Minute
		} else {
			f.lost(err)
			e.refused()
			s.say("cannot follow what changes objects; clients ask the server instead", "resource", source.resource.String(), "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// epochFollower compares the objects of a source with their last state.
type epochFollower struct {
	store  *Store
	epoch  *epoch
	source epochSource
	last   map[string]epochObject
	begun  time.Time // of the watch
	failed bool      // the watch was interrupted
}

type epochObject struct {
	content sum
	targets []target
}

// names returns what exists as far as is known.
func (f *epochFollower) names() map[types.NamespacedName]struct{} {
	out := map[types.NamespacedName]struct{}{}
	for name := range f.last {
		out[types.NamespacedName{Name: name}] = struct{}{}
	}
	return out
}

// take makes void what an object concerned before or concerns now.
func (f *epochFollower) take(obj *unstructured.Unstructured, gone bool) {
	name := obj.GetName()
	before := f.last[name]
	var now epochObject
	if gone {
		delete(f.last, name)
	} else {
		now = epochObject{content: sumOf(appendValue(nil, f.source.content(obj))), targets: f.source.targets(obj)}
		f.last[name] = now
	}
	if before.content == now.content {
		return
	}
	concerned := slices.Concat(before.targets, now.targets)
	f.store.void(func(k *kindStore) bool {
		return slices.ContainsFunc(concerned, func(t target) bool { return t.matches(k) })
	})
}

// void makes what was confirmed about some kinds void.
func (s *Store) void(concerned func(*kindStore) bool) {
	s.mu.Lock()
	s.recent = append(s.pending(), voiding{at: time.Now(), concerned: concerned})
	s.mu.Unlock()
	for _, k := range s.all() {
		if concerned(k) {
			k.expire()
		}
	}
}

// connected notes that changes are seen again, and finds out whether another
// version of the server may be showing them.
func (f *epochFollower) connected(ctx context.Context) {
	if f.source.resource == definitionsResource() && f.upgraded(ctx) {
		f.store.void(func(*kindStore) bool { return true })
	}
	f.begun, f.failed = time.Now(), false
	f.epoch.follows(f.source, true)
}

// upgraded reports whether the server may have another version than before. A
// server ends watches by itself, but not within some minutes.
func (f *epochFollower) upgraded(ctx context.Context) bool {
	const soonest = 4 * time.Minute
	if f.store.Version == nil {
		return f.failed || !f.begun.IsZero() && time.Since(f.begun) < soonest
	}
	version, err := f.store.Version(ctx)
	if err != nil {
		f.store.say("cannot read the version of the server; what was confirmed is void", "error", err)
		return true
	}
	before := f.epoch.version
	f.epoch.version = version
	return before != "" && before != version
}

func (f *epochFollower) lost(err error) {
	f.failed = f.failed || err != nil
	f.epoch.follows(f.source, false)
}
