package ssa_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

var faults = flag.Int("ssa.faults", 3, "random histories of the test with faults")

// canary is the value of a Secret, which nobody may repeat.
const canary = "canary-6f1ab2"

// TestFaults plays random histories while much of what is sent and answered goes
// wrong. Every call ends in time with errors that have a class, a subject and no
// secrets, and once the faults end one pass suffices: the owner has exactly its
// objects, and knows so.
func TestFaults(t *testing.T) {
	t.Parallel()
	counts := map[fault]int{}
	calls, failures := 0, 0
	for s := *seed; s < *seed+uint64(*faults); s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			env := testenv.Start(t)
			p := newFaultProxy(t, env.Config(), s)
			p.page, p.hang = 2, time.Second
			f := follow(t, p.config(), env.Namespace, nil)
			f.Policy = crashPolicy()
			h := newCrashHistory(s, env.Namespace)
			h.fixed()
			rng := rand.New(rand.NewPCG(s, 4))
			p.storm(0.05+rng.Float64()*0.3, allFaults()...)
			var last []*unstructured.Unstructured
			for n, r := range h.revisions {
				last = objects(t, r.app+fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: secret}\nstringData: {key: %s, n: '%d'}\n", canary, n))
				for range 1 + rng.IntN(2) {
					calls++
					if !stormy(t, f, last) {
						failures++
					}
				}
			}
			p.set(nil)
			converge(t, f, last)
			for f, n := range p.counts {
				counts[f] += n
			}
			if t.Failed() {
				t.Errorf("reproduce with -run TestFaults -ssa.faults 1 -ssa.seed %d", s)
			}
		})
	}
	t.Logf("%d passes, %d of them failed; faults: %v", calls, failures, counts)
}

// fixed makes a history without recreations, which do not end with their context,
// and for one owner.
func (h *crashHistory) fixed() {
	for i, r := range h.revisions {
		var keep []string
		for doc := range strings.SplitSeq(r.app, "---\n") {
			if strings.Contains(doc, "kind: RoleBinding") || strings.Contains(doc, "immutable: true") || strings.Contains(doc, "kind: Deployment") || strings.Contains(doc, "name: moves,") || strings.Contains(doc, "example.com") && strings.Contains(doc, "idget") {
				continue
			}
			keep = append(keep, doc)
		}
		h.revisions[i].app = strings.Join(keep, "---\n")
	}
}

// stormy is a pass while things go wrong; it reports whether it succeeded.
func stormy(t *testing.T, f *followed, objs []*unstructured.Unstructured) bool {
	t.Helper()
	const patience, slack = 2 * time.Second, 30 * time.Second // the machine may be busy
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	set, err := f.Apply(ctx, objs, nil)
	checkErrors(t, "apply", err)
	if took := time.Since(begin); took > patience+slack {
		t.Errorf("an apply took %s", took)
	}
	for _, c := range set.Changes {
		if err != nil && c.Action == ssa.Failed && c.Err == nil {
			t.Errorf("%s failed without an error", c.Object)
		}
	}
	if err != nil {
		return false
	}
	begin = time.Now()
	_, err = f.Prune(ctx, objs, nil)
	checkErrors(t, "prune", err)
	if took := time.Since(begin); took > patience+10*time.Second+slack { // it may write the inventory after its context
		t.Errorf("a prune took %s", took)
	}
	_, waitErr := f.Wait(ctx, set.Objects(), &ssa.WaitOptions{Timeout: 300 * time.Millisecond})
	checkErrors(t, "wait", waitErr)
	return err == nil && waitErr == nil
}

// checkErrors looks at every error of a call.
func checkErrors(t *testing.T, call string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if strings.Contains(text, canary) || strings.Contains(text, "Y2FuYXJ5LTZmMWFiM") {
		t.Errorf("%s: a secret is in the error: %s", call, text)
	}
	if !strings.HasPrefix(text, "ssa: "+call) {
		t.Errorf("%s: the error does not say which call it is of: %s", call, text)
	}
	for _, e := range leaves(err) {
		classes := []error{ssa.ErrInvalid, ssa.ErrUnknownKind, ssa.ErrForbidden, ssa.ErrConflict, ssa.ErrUnavailable, ssa.ErrForeign, ssa.ErrGuarded, ssa.ErrNotReady, context.Canceled, context.DeadlineExceeded}
		known := slices.DeleteFunc(classes, func(class error) bool { return !errors.Is(e, class) })
		if len(known) == 0 {
			t.Errorf("%s: an error of no class: %s", call, e)
		}
		if errors.Is(e, ssa.ErrInvalid) || errors.Is(e, ssa.ErrUnknownKind) || errors.Is(e, ssa.ErrForbidden) {
			t.Errorf("%s: a fault of the network is taken for one of the caller: %s", call, e)
		}
		var one *ssa.ObjectError
		named := errors.As(e, &one) && one.Op != "" && one.Object.Name != ""
		if !named && !strings.Contains(e.Error(), "inventory ConfigMap") && !strings.Contains(e.Error(), "find the resource") && !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("%s: the error does not say of what: %s", call, e)
		}
	}
}

// leaves returns the errors that were joined, at any depth, as far as they are of
// different objects.
func leaves(err error) []error {
	var one *ssa.ObjectError
	if e, ok := err.(*ssa.ObjectError); ok { //nolint:errorlint // this very one, not one inside
		return []error{e}
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && !errors.As(err, &one) {
		return []error{err}
	} else if ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, leaves(e)...)
		}
		return out
	}
	if inner := errors.Unwrap(err); inner != nil && errors.As(err, &one) {
		return leaves(inner)
	}
	return []error{err}
}

// converge is what has to work once nothing goes wrong any more.
func converge(t *testing.T, f *followed, objs []*unstructured.Unstructured) {
	t.Helper()
	f.wire.take()
	set := must(t)(f.Apply(t.Context(), objs, nil))
	must(t)(f.Prune(t.Context(), objs, nil))
	requests := f.wire.take()
	if n, changed := count(requests, "PATCH"), set.Count(ssa.Created, ssa.Configured); n != changed {
		t.Errorf("%d applies for %d changes: %v", n, changed, requests)
	}
	checkExactly(t, f.Client, objs, "after the faults")
	f.quiet(t, objs)
	for _, obj := range must(t)(f.Diff(t.Context(), objs, &ssa.DiffOptions{Verify: ssa.VerifyAlways})).Changes {
		if obj.Action != ssa.Unchanged {
			t.Errorf("it is %v though it was told to be unchanged", obj)
		}
	}
}

// TestFaultsHideNoDrift: what somebody does while the store has no connection is
// found when it has one again, told once, and no pass in between says that all is
// well.
func TestFaultsHideNoDrift(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	clean := newFaultProxy(t, env.Config(), *seed)
	var manifests strings.Builder
	for i := range 7 {
		manifests.WriteString(configMap(fmt.Sprintf("c%d", i), "1"))
	}
	objs := objects(t, manifests.String())
	admin, _ := clientFor(t, env.Config(), "app", env.Namespace)
	cms := admin.Dynamic.Resource(configMapsGVR).Namespace(env.Namespace)
	for _, gap := range []struct {
		name   string
		choose func(r *http.Request) fault // how the connection comes back
	}{
		{"cut", nil},
		{"expired", outdated(tooOld)},
		{"expired inside", outdated(tooOldNow)},
		{"expired list", func() func(r *http.Request) fault {
			watch, pages := outdated(tooOld), 0
			return func(r *http.Request) fault {
				if r.URL.Query().Get("continue") == "" {
					return watch(r)
				}
				if pages++; pages > 1 {
					return ""
				}
				return tooOld
			}
		}()},
	} {
		t.Run(gap.name, func(t *testing.T) {
			p := newFaultProxy(t, env.Config(), *seed)
			p.page = 2
			f := follow(t, clean.config(), env.Namespace, func(s *ssa.Store) {
				behind, _ := clientFor(t, p.config(), "store", env.Namespace)
				s.Dynamic = behind.Dynamic
			})
			f.pass(t, objs)
			set := f.quiet(t, objs)
			drifts, ended := make(chan ssa.Drift, 20), make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { ended <- f.Watch(ctx, set, func(d ssa.Drift) { drifts <- d }) }()
			p.down()
			eventually(t, "silence of the store", func() bool {
				_, requests := f.pass(t, objs)
				return len(requests) > 0
			})
			if _, err := cms.Patch(t.Context(), "c1", types.MergePatchType, []byte(`{"data":{"key":"x"}}`), metav1.PatchOptions{FieldManager: "rival-" + strings.ReplaceAll(gap.name, " ", "-")}); err != nil {
				t.Fatal(err)
			}
			if err := cms.Delete(t.Context(), "c5", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			p.set(gap.choose)
			told := []string{soon(t, drifts, "drift").Object.Name, soon(t, drifts, "drift").Object.Name}
			slices.Sort(told)
			same(t, "drift", told, []string{"c1", "c5"})
			set, requests := f.pass(t, objs)
			if set.Count(ssa.Created) != 1 || set.Count(ssa.Configured)+set.Count(ssa.Contested) != 1 || count(requests, "PATCH") > 2 {
				t.Errorf("%v, %v", actions(set), requests)
			}
			cancel()
			if err := soon(t, ended, "end of the watch"); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			eventually(t, "repair", func() bool {
				set, _ := f.pass(t, objs)
				return set.Count(ssa.Unchanged) == len(objs)
			})
			if len(drifts) > 0 {
				t.Errorf("told twice: %v", <-drifts)
			}
		})
	}
}

// outdated is a server that has forgotten what was before: no watch works until
// there was a list.
func outdated(f fault) func(r *http.Request) fault {
	listed := map[string]bool{}
	return func(r *http.Request) fault {
		if r.URL.Query().Get("watch") == "" {
			listed[r.URL.Path] = true
		}
		if listed[r.URL.Path] {
			return ""
		}
		return f
	}
}

// TestFaultsOfOneWatch: a store that follows all but one kind claims nothing about
// that kind.
func TestFaultsOfOneWatch(t *testing.T) {
	env := testenv.Start(t)
	clean, p := newFaultProxy(t, env.Config(), *seed), newFaultProxy(t, env.Config(), *seed)
	f := follow(t, clean.config(), env.Namespace, func(s *ssa.Store) {
		behind, _ := clientFor(t, p.config(), "store", env.Namespace)
		s.Dynamic = behind.Dynamic
	})
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	back := make(chan struct{}, 100)
	p.down()
	p.set(func(r *http.Request) fault {
		if strings.HasSuffix(r.URL.Path, "/configmaps") {
			return refused
		}
		back <- struct{}{}
		return ""
	})
	for range 4 { // what makes confirmations void is followed again
		soon(t, back, "watch")
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 10 {
		f.patch(t, configMapsGVR, "a", fmt.Sprintf(`[{"op":"replace","path":"/data/key","value":"x%d"}]`, i), "rival")
		if set, _ := f.pass(t, objs); set.Count(ssa.Configured) != 1 || set.Count(ssa.Unchanged) != 1 {
			t.Fatalf("drift %d: %v", i, actions(set))
		}
		<-tick.C
	}
	p.set(nil)
	f.quiet(t, objs)
}

// TestFaultsKeepSecrets: whoever repeats a request in an answer, no error does.
func TestFaultsKeepSecrets(t *testing.T) {
	env := testenv.Start(t)
	for _, f := range []fault{overload, garbage, halved, broken} {
		for _, method := range []string{"dry run", http.MethodPatch, http.MethodDelete} {
			p := newFaultProxy(t, env.Config(), *seed)
			c, _ := clientFor(t, p.config(), "app", env.Namespace)
			secret := objects(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: %s, n: '%s %s'}\n", canary, f, method))
			c.ID(secret[0])
			if method == http.MethodDelete {
				must(t)(c.Apply(t.Context(), secret, nil))
			}
			p.set(func(r *http.Request) fault {
				if is := r.Method; !strings.HasSuffix(r.URL.Path, "/secrets/s") || method == "dry run" != (r.URL.Query().Get("dryRun") != "") || method != "dry run" && is != method {
					return ""
				}
				return f
			})
			_, err := c.Apply(t.Context(), secret, nil)
			call := "apply"
			if method == http.MethodDelete {
				_, err = c.Prune(t.Context(), nil, nil)
				call = "prune"
			}
			if checkErrors(t, call, err); !errors.Is(err, ssa.ErrUnavailable) && (f == overload || f == garbage && method != http.MethodDelete) {
				t.Errorf("%s in answer to %s: %v", f, method, err)
			}
		}
	}
}
