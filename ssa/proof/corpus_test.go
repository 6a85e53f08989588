package proof_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/internal/prooftest"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

var update = flag.Bool("update", false, "rewrite the expected outcomes")

// story applies the corpus and then tells, step by step, what the proof says
// and what a real apply does.
type story struct {
	*cluster
	t     *testing.T
	by    map[string]*unstructured.Unstructured // "Deployment/dep-canonical"
	lines []string
}

// check asks for a proof and holds it against a real apply.
func (s *story) check(step string, desired *unstructured.Unstructured) {
	s.t.Helper()
	ctx := s.t.Context()
	const tries = 5 // controllers may write in between
	for try := range tries {
		live, err := s.get(ctx, desired)
		if err != nil {
			s.t.Fatalf("%s: %v", step, err)
		}
		verdict := proof.NoOp(ctx, live, desired, manager, s.types)
		after, err := s.apply(ctx, desired, manager)
		same := err == nil && cmp.Equal(prooftest.Meaning(live), prooftest.Meaning(after))
		outcome := "changes"
		switch {
		case verdict.Unchanged && !same && err == nil && try < tries-1 && differsWithoutUs(live, after):
			continue
		case verdict.Unchanged && !same:
			s.t.Errorf("%s: unsound: %v\n%s", step, err, cmp.Diff(prooftest.Meaning(live), prooftest.Meaning(after)))
			outcome = "UNSOUND"
		case verdict.Unchanged:
			outcome = "unchanged"
		case err != nil:
			outcome = "refused"
		case same:
			why, _, _ := strings.Cut(verdict.Why, ": ")
			outcome = "unchanged, but not proven: " + why
		}
		s.lines = append(s.lines, step+": "+outcome)
		return
	}
}

// drift has somebody else change an object, and checks it against its manifest.
func (s *story) drift(step, key, patch, by string, subresource ...string) {
	s.t.Helper()
	obj := s.by[key]
	if _, err := s.patch(s.t.Context(), obj, patch, by, subresource...); err != nil {
		s.t.Fatalf("%s: %v", step, err)
	}
	s.check("drift, "+step, obj)
}

// change checks a changed manifest, the same again, and the old one.
func (s *story) change(step, key string, edit func(u map[string]any)) {
	s.t.Helper()
	obj := s.by[key].DeepCopy()
	edit(obj.Object)
	s.check("config, "+step, obj)
	s.check("config, "+step+", again", obj)
	s.check("config, "+step+", reverted", s.by[key])
}

func TestCorpus(t *testing.T) {
	s := &story{cluster: start(t), t: t, by: map[string]*unstructured.Unstructured{}}
	objs := s.corpus(t, "")
	s.applyAll(t, objs)
	for _, obj := range objs {
		s.by[obj.GetKind()+"/"+obj.GetName()] = obj
	}
	for _, obj := range objs {
		s.check("steady, "+obj.GetKind()+"/"+obj.GetName(), obj)
	}
	s.drifts()
	s.forgeries()
	s.changes()
	s.admission()
	got := strings.Join(s.lines, "\n") + "\n"
	const golden = "testdata/corpus.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("outcomes: -want +got\n%s", diff)
	}
}

func (s *story) drifts() {
	const dep, svc, cm, widget = "Deployment/dep-canonical", "Service/svc", "ConfigMap/cm", "Widget/widget"
	const env = "/spec/template/spec/containers/0/env"
	for _, d := range []struct{ step, key, patch, sub string }{
		{"owned scalar", dep, `[{"op":"replace","path":"/spec/replicas","value":1}]`, ""},
		{"scale", dep, `[{"op":"replace","path":"/spec/replicas","value":2}]`, "scale"},
		{"foreign label", dep, `[{"op":"add","path":"/metadata/labels/foreign","value":"x"}]`, ""},
		{"foreign annotation", dep, `[{"op":"add","path":"/metadata/annotations/foreign","value":"x"}]`, ""},
		{"owned label removed", dep, `[{"op":"remove","path":"/metadata/labels/app"}]`, ""},
		{"foreign env at the end", dep, `[{"op":"add","path":"` + env + `/-","value":{"name":"Z","value":"z"}}]`, ""},
		{"foreign env at the start", dep, `[{"op":"add","path":"` + env + `/0","value":{"name":"Y","value":"y"}}]`, ""},
		{"owned env reordered", dep, `[{"op":"move","from":"` + env + `/1","path":"` + env + `/2"}]`, ""},
		{"owned env removed", dep, `[{"op":"remove","path":"` + env + `/1"}]`, ""},
		{"atomic list appended", dep, `[{"op":"add","path":"/spec/template/spec/tolerations/-","value":{"key":"b","operator":"Exists"}}]`, ""},
		{"status", dep, `[{"op":"add","path":"/status/observedGeneration","value":1}]`, "status"},
		{"foreign container", dep, `[{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"side","image":"example.com/x"}}]`, ""},
		{"equal quantity", dep, `[{"op":"replace","path":"/spec/template/spec/containers/0/resources/limits/cpu","value":"1000m"}]`, ""},
		{"defaulted field", dep, `[{"op":"replace","path":"/spec/template/spec/terminationGracePeriodSeconds","value":5}]`, ""},
		{"finalizer", cm, `[{"op":"add","path":"/metadata/finalizers","value":["example.com/none"]}]`, ""},
		{"finalizer removed", cm, `[{"op":"remove","path":"/metadata/finalizers"}]`, ""},
		{"port removed", svc, `[{"op":"remove","path":"/spec/ports/1"}]`, ""},
		{"foreign port", svc, `[{"op":"add","path":"/spec/ports/-","value":{"name":"f","port":9999,"protocol":"TCP"}}]`, ""},
		{"service type", svc, `[{"op":"replace","path":"/spec/type","value":"NodePort"}]`, ""},
		{"foreign key", cm, `[{"op":"add","path":"/data/foreign","value":"1"}]`, ""},
		{"owned key", cm, `[{"op":"replace","path":"/data/k","value":"1"}]`, ""},
		{"owned key removed", cm, `[{"op":"remove","path":"/data/k"}]`, ""},
		{"binary", cm, `[{"op":"replace","path":"/binaryData/b","value":"AAAA"}]`, ""},
		{"secret", "Secret/secret", `[{"op":"replace","path":"/data/password","value":"AAAA"}]`, ""},
		{"metrics of an autoscaler, by a label", "HorizontalPodAutoscaler/hpa", `[{"op":"add","path":"/metadata/labels","value":{"foreign":"x"}}]`, ""},
		{"widget default", widget, `[{"op":"replace","path":"/spec/mode","value":"manual"}]`, ""},
		{"set member added", widget, `[{"op":"add","path":"/spec/set/-","value":"c"}]`, ""},
		{"set reordered", widget, `[{"op":"replace","path":"/spec/set","value":["b","a","c"]}]`, ""},
		{"set member removed", widget, `[{"op":"replace","path":"/spec/set","value":["b"]}]`, ""},
		{"atomic replaced", widget, `[{"op":"replace","path":"/spec/atomic","value":["yy","zz"]}]`, ""},
		{"plain list item", widget, `[{"op":"replace","path":"/spec/plain/0/b","value":2}]`, ""},
		{"list item added", widget, `[{"op":"add","path":"/spec/list/-","value":{"name":"three","proto":"TCP","v":3}}]`, ""},
		{"item with a defaulted key", widget, `[{"op":"replace","path":"/spec/list/0/v","value":9}]`, ""},
		{"unknown fields", widget, `[{"op":"replace","path":"/spec/any/x/0","value":7}]`, ""},
		{"atomic map", widget, `[{"op":"add","path":"/spec/atomicMap/n","value":"2"}]`, ""},
		{"map", widget, `[{"op":"add","path":"/spec/map/foreign","value":"2"}]`, ""},
		{"widget status", widget, `[{"op":"add","path":"/status","value":{"a":1}}]`, "status"},
		{"int to string", widget, `[{"op":"replace","path":"/spec/size","value":"5"}]`, ""},
	} {
		var sub []string
		if d.sub != "" {
			sub = []string{d.sub}
		}
		s.drift(d.step, d.key, d.patch, "rival", sub...)
	}
}

// forgeries are changes that the managed fields hide.
func (s *story) forgeries() {
	ctx, dep := s.t.Context(), s.by["Deployment/dep-canonical"]
	live, err := s.get(ctx, dep)
	if err != nil {
		s.t.Fatal(err)
	}
	before := live.GetManagedFields()
	forge := func(step string, entries []metav1.ManagedFieldsEntry) {
		if _, err := s.patch(ctx, dep, `[{"op":"replace","path":"/spec/replicas","value":1}]`, "attacker"); err != nil {
			s.t.Fatal(err)
		}
		s.eventually(s.t, "the forgery", func() error { // a controller may write in between
			now, err := s.get(ctx, dep)
			if err != nil {
				return err
			}
			now.SetManagedFields(entries)
			_, err = s.resource(dep).Update(ctx, now, metav1.UpdateOptions{FieldManager: "attacker"})
			return err
		})
		s.check("forgery, "+step, dep)
	}
	forge("of what we own", before)
	forge("by removing all entries", []metav1.ManagedFieldsEntry{{}})
}

func (s *story) changes() {
	const dep, cm, widget = "Deployment/dep-canonical", "ConfigMap/cm", "Widget/widget"
	spec := func(u map[string]any) map[string]any { out, _ := u["spec"].(map[string]any); return out }
	data := func(u map[string]any) map[string]any { out, _ := u["data"].(map[string]any); return out }
	s.change("replicas removed", dep, func(u map[string]any) { delete(spec(u), "replicas") })
	s.change("annotations removed", dep, func(u map[string]any) { unstructured.RemoveNestedField(u, "metadata", "annotations") })
	s.change("env reordered", dep, func(u map[string]any) {
		containers, _, _ := unstructured.NestedSlice(u, "spec", "template", "spec", "containers")
		main, _ := containers[0].(map[string]any)
		env, _ := main["env"].([]any)
		slices.Reverse(env)
		if err := unstructured.SetNestedSlice(u, containers, "spec", "template", "spec", "containers"); err != nil {
			s.t.Fatal(err)
		}
	})
	s.change("key removed", cm, func(u map[string]any) { delete(data(u), "k") })
	s.change("empty data", cm, func(u map[string]any) { u["data"] = map[string]any{} })
	s.change("null data", cm, func(u map[string]any) { u["data"] = nil })
	s.change("null key", cm, func(u map[string]any) { data(u)["k"] = nil })
	s.change("null timestamp", cm, func(u map[string]any) {
		if err := unstructured.SetNestedField(u, nil, "metadata", "creationTimestamp"); err != nil {
			s.t.Fatal(err)
		}
	})
	s.change("text instead of data", "Secret/secret", func(u map[string]any) {
		delete(u, "data")
		u["stringData"] = map[string]any{"password": "hunter2", "user": "a"}
	})
	s.change("number instead of a quantity", dep, func(u map[string]any) {
		containers, _, _ := unstructured.NestedSlice(u, "spec", "template", "spec", "containers")
		if err := unstructured.SetNestedField(containers[0].(map[string]any), int64(1), "resources", "limits", "cpu"); err != nil {
			s.t.Fatal(err)
		}
		if err := unstructured.SetNestedSlice(u, containers, "spec", "template", "spec", "containers"); err != nil {
			s.t.Fatal(err)
		}
	})
	s.change("empty list", widget, func(u map[string]any) { spec(u)["list"] = []any{} })
	s.change("null for unknown fields", widget, func(u map[string]any) { spec(u)["any"] = nil })
}

// admission is what a policy that rewrites our field does to proofs.
func (s *story) admission() {
	ctx, name := s.t.Context(), "proof-"+s.namespace
	policy := object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", name)
	policy.Object["spec"] = map[string]any{
		"failurePolicy": "Fail", "reinvocationPolicy": "Never",
		"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{
			"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE", "UPDATE"}, "resources": []any{"configmaps"},
		}}},
		"matchConditions": []any{map[string]any{"name": "ours", "expression": fmt.Sprintf("object.metadata.namespace == '%s' && 'image' in object.data", s.namespace)}},
		"mutations": []any{map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{
			"expression": "[JSONPatch{op: 'replace', path: '/data/image', value: 'mirror/' + object.data.image.replace('mirror/','')}]",
		}}},
	}
	binding := object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", name)
	binding.Object["spec"] = map[string]any{"policyName": name}
	cm := object("v1", "ConfigMap", "mirrored")
	cm.SetNamespace(s.namespace)
	cm.Object["data"] = map[string]any{"image": "nginx", "other": "a"}
	probe := cm.DeepCopy()
	probe.SetName("probe")
	rewrites := func(want string) {
		s.eventually(s.t, "the policy", func() error {
			after, err := s.apply(ctx, probe, manager, metav1.DryRunAll)
			if err != nil {
				return err
			}
			if image, _, _ := unstructured.NestedString(after.Object, "data", "image"); image != want {
				return errors.New("the image is " + image)
			}
			return nil
		})
	}
	s.applyAll(s.t, []*unstructured.Unstructured{cm})
	s.check("admission, without", cm)
	s.applyAll(s.t, []*unstructured.Unstructured{policy, binding})
	meta.MaybeResetRESTMapper(s.mapper)
	rewrites("mirror/nginx")
	s.by["ConfigMap/mirrored"] = cm
	s.drift("with a policy that rewrites our field on a foreign write", "ConfigMap/mirrored", `[{"op":"add","path":"/data/foreign","value":"1"}]`, "rival")
	s.check("admission, the same again", cm)
	for _, obj := range []*unstructured.Unstructured{binding, policy} {
		if err := s.resource(obj).Delete(ctx, obj.GetName(), metav1.DeleteOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	rewrites("nginx")
	s.check("admission, policy removed", cm)
	s.check("admission, policy removed, again", cm)
}
