package kube_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/kube/flags"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
)

// program is a controller as its command line has it.
type program struct {
	*logic
	flags  flags.Flags
	policy tenancy.Policy
}

func newProgram(t *testing.T, shard string, args ...string) *program {
	t.Helper()
	p := &program{logic: &logic{finalize: succeed, passes: map[string]int{}}}
	set := flag.NewFlagSet(shard, flag.ContinueOnError)
	p.flags.Bind(set, &flags.Defaults{Namespace: "flux-system", Gates: map[string]bool{"StrictSubstitutions": false, "DirectSourceFetch": true}})
	if err := set.Parse(append(args, "-watch-label-selector=shard="+shard)); err != nil {
		t.Fatal(err)
	}
	p.policy = tenancy.Policy{NoCrossNamespaceRefs: p.flags.NoCrossNamespaceRefs, DefaultServiceAccount: p.flags.DefaultServiceAccount, Lockdown: p.flags.NoCrossNamespaceRefs}
	if err := p.policy.Validate(); err != nil {
		t.Fatal(err)
	}
	// The result tells by which policy and which gates the object was reconciled.
	p.step = func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		if err := p.policy.Ref(k.Namespace, k.Spec.SourceRef.Kind, k.Spec.SourceRef.Namespace, k.Spec.SourceRef.Name); err != nil {
			return kube.Fail("AccessDenied", err)
		}
		id, err := p.policy.Identity(k.Namespace, k.Spec.ServiceAccountName)
		if err != nil {
			return kube.Fail("AccessDenied", err)
		}
		gates := []string{}
		for _, name := range slices.Sorted(maps.Keys(p.flags.FeatureGates)) {
			gates = append(gates, fmt.Sprintf("%s=%v", name, p.flags.FeatureGates[name]))
		}
		return kube.Ready(fmt.Sprintf("as %q with %s", id.ServiceAccount, strings.Join(gates, ",")))
	}
	return p
}

// options are those of the program, on top of the world's.
func (p *program) options(t *testing.T) func(*kube.Options[*kustomizev1.Kustomization]) {
	return func(o *kube.Options[*kustomizev1.Kustomization]) {
		if err := flags.Apply(&p.flags, o); err != nil {
			t.Error(err)
		}
		o.FieldOwner = p.flags.LeaderID("controller")
	}
}

// Two controllers of one process with different policies, feature gates and field owners reconcile the same kinds of
// objects side by side, each by its own rules.
func TestTwoPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		o.Select = func(*kustomizev1.Kustomization) bool { return false } // only the two below work
	})
	open := newProgram(t, "open", "-concurrent=1")
	locked := newProgram(t, "locked", "-no-cross-namespace-refs", "-default-service-account=deployer", "-feature-gates=StrictSubstitutions=true,DirectSourceFetch=false", "-concurrent=8")
	for _, p := range []*program{open, locked} {
		w.run(p.logic, p.options(t))
	}
	const each = 20
	for i := range each {
		for _, shard := range []string{"open", "locked"} {
			for _, elsewhere := range []string{"", "elsewhere"} {
				w.create(fmt.Sprintf("%s%s-%d", shard, elsewhere, i), func(k *kustomizev1.Kustomization) {
					k.Labels, k.Spec.SourceRef.Namespace = map[string]string{"shard": shard}, elsewhere
				})
			}
		}
	}
	for i := range each {
		for name, want := range map[string]string{
			"open":            `Succeeded: as "" with DirectSourceFetch=true,StrictSubstitutions=false`,
			"openelsewhere":   `Succeeded: as "" with DirectSourceFetch=true,StrictSubstitutions=false`,
			"locked":          `Succeeded: as "deployer" with DirectSourceFetch=false,StrictSubstitutions=true`,
			"lockedelsewhere": fmt.Sprintf("AccessDenied: access to GitRepository elsewhere/lockedelsewhere-%d from namespace %s is denied: references to other namespaces are not allowed here", i, w.namespace),
		} {
			name = fmt.Sprintf("%s-%d", name, i)
			k := w.eventually(name, "told", func(k *kustomizev1.Kustomization) bool { return status.Get(k, status.Ready) != nil })
			c := status.Get(k, status.Ready)
			if got := c.Reason + ": " + c.Message; got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			owner, other := open, locked
			if strings.HasPrefix(name, "locked") {
				owner, other = locked, open
			}
			for _, f := range k.ManagedFields {
				if strings.HasPrefix(f.Manager, "controller-") && f.Manager != owner.flags.LeaderID("controller") {
					t.Errorf("%s was written by %s", name, f.Manager)
				}
			}
			if owner.count(name) != 1 || other.count(name) != 0 {
				t.Errorf("%s: %d passes of its controller, %d of the other", name, owner.count(name), other.count(name))
			}
		}
	}
	if err := locked.policy.Ref("a", "GitRepository", "b", "c"); !errors.Is(err, tenancy.ErrDenied) || open.policy.Ref("a", "GitRepository", "b", "c") != nil {
		t.Error(err)
	}
}
