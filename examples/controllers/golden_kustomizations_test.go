package controllers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/source/oci"
)

// scenario is what testdata/kustomization-golden.yaml says about one Kustomization.
type scenario struct {
	Name string `json:"name"`
	// Spec has the fields that differ from those of the others.
	Spec map[string]any `json:"spec,omitempty"`
	// Until is the reason of Ready with which it comes to rest.
	Until      string         `json:"until,omitempty"`
	Conditions []string       `json:"conditions,omitempty"` // type=status reason: message
	Status     map[string]any `json:"status,omitempty"`     // the rest of it, but for times and digests
	Events     []string       `json:"events,omitempty"`     // severity reason: message, and metadata; sorted
}

// TestKustomizationGolden compares what users and dashboards see of a
// Kustomization, scenario by scenario: conditions, status and events.
func TestKustomizationGolden(t *testing.T) {
	t.Parallel()
	const name = "testdata/kustomization-golden.yaml"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w, events := newWorld(t), newEndpoint(t, 200, "")
	var want, inputs, got []scenario
	if err := yaml.UnmarshalStrict(data, &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(string(data), "NAMESPACE", w.namespace)), &inputs); err != nil {
		t.Fatal(err)
	}
	plain := w.goldenSources()
	o := w.options()
	o.EventsAddr, o.NoCrossNamespaceRefs = events.URL, true
	w.run(all(), o)
	w.ready("GitRepository/apps")
	w.ready("OCIRepository/pushed")
	w.failed("GitRepository/broken", "GitOperationFailed", "")
	for _, s := range inputs {
		spec := map[string]any{
			"interval": "1h", "retryInterval": "1h", "prune": true, "timeout": "30s", "path": "./" + s.Name,
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "apps"},
		}
		maps.Copy(spec, s.Spec)
		data, err := yaml.Marshal(map[string]any{
			"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": map[string]any{"name": s.Name}, "spec": spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.apply(string(data))
	}
	for i, s := range inputs {
		is := scenario{Name: want[i].Name, Spec: want[i].Spec, Until: s.Until}
		deadline := time.Now().Add(10 * time.Second) // what differs then is shown
		o := w.until("Kustomization/"+s.Name, "at rest with "+s.Until, func(o *unstructured.Unstructured) bool {
			is, _ := w.goldenStatus(o, plain)
			rests := *update || slices.Equal(is, want[i].Conditions) || time.Now().After(deadline)
			return s.Until == "" || condition(o, "Ready")["reason"] == s.Until && rests
		})
		if s.Until != "" {
			is.Conditions, is.Status = w.goldenStatus(o, plain)
		}
		is.Events = w.goldenEvents(events, s.Name, want[i].Events, plain)
		got = append(got, is)
	}
	if *update {
		data, err := yaml.Marshal(got)
		if err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for i := range want {
		if d := cmp.Diff(want[i], got[i]); d != "" {
			t.Errorf("%s (-want +got):\n%s", want[i].Name, d)
		}
	}
}

// goldenSources makes what the scenarios apply, and returns what replaces the
// names that differ from run to run.
func (w *world) goldenSources() func(string) string {
	w.t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		w.t.Fatal(err)
	}
	cm := func(name string) string { return configMap(name, w.namespace) }
	set := func(name, value string) string { return strings.Replace(cm(name), "a: b", "a: "+value, 1) }
	sleeper := "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: NS}\nspec: {nodeSelector: {no: node}, containers: [{name: main, image: main:1}]}\n"
	files := map[string]string{
		"substituted/a.yaml": set("substituted", "${color}"), "strict/a.yaml": set("strict", "${absent}"),
		"bad-yaml/a.yaml": "kind: [", "refused/a.yaml": strings.Replace(cm("refused"), "name: refused", "name: \"Not A Name\"", 1),
		"unhealthy/a.yaml": strings.NewReplacer("NAME", "unhealthy", "NS", w.namespace).Replace(sleeper),
		"decrypted/a.yaml": sealed(w.t, id.Recipient().String(), "apiVersion: v1\nkind: Secret\nmetadata:\n    name: decrypted\n    namespace: "+w.namespace+"\nstringData:\n    a: b\n"),
		"cluster/a.yaml":   "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: \"" + w.namespace + ":reader\"}\nrules: []\n---\n" + cm("cluster"),
	}
	for _, name := range []string{"applied", "waited", "kept", "dependent", "held", "first", "second", "third", "nobody", "labelled", "ignoring", "pointer", "expression", "suspended", "selector"} {
		files[name+"/a.yaml"] = cm(name)
	}
	files["no-key/a.yaml"], files["sealed/a.yaml"] = files["decrypted/a.yaml"], files["decrypted/a.yaml"]
	g := w.apps("", files)
	server := httptest.NewServer(registry.New())
	w.t.Cleanup(server.Close)
	url := "oci://" + strings.TrimPrefix(server.URL, "http://") + "/app"
	if _, err := oci.Push(w.t.Context(), url+":1.0.0", fstest.MapFS{"a.yaml": {Data: []byte(cm("pushed"))}},
		&oci.PushOptions{Client: oci.Client{Insecure: true}, Revision: "main@sha1:0123456789012345678901234567890123456789"}); err != nil {
		w.t.Fatal(err)
	}
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {name: pushed}\nspec: {interval: 1h, insecure: true, url: URL, ref: {tag: 1.0.0}}", "URL", url)
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: broken}\nspec: {interval: 1h, url: http://127.0.0.1:1/x}")
	w.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nobody}")
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: age}\nstringData: {a.agekey: KEY}", "KEY", id.String())
	commit, hash, pending := regexp.MustCompile("main@sha1:[0-9a-f]{40}"), regexp.MustCompile("sha256:[0-9a-f]{64}"), regexp.MustCompile(`InProgress: .*`)
	return func(s string) string {
		s = strings.NewReplacer(w.namespace, "NAMESPACE", g.url, "GIT", "main@sha1:0123456789012345678901234567890123456789", "ORIGIN").Replace(s)
		return pending.ReplaceAllString(hash.ReplaceAllString(commit.ReplaceAllString(s, "REVISION"), "sha256:DIGEST"), "InProgress: WHY")
	}
}

// goldenStatus splits a status into its conditions and the rest.
func (w *world) goldenStatus(o *unstructured.Unstructured, plain func(string) string) (conditions []string, rest map[string]any) {
	w.t.Helper()
	rest, _, _ = unstructured.NestedMap(o.Object, "status")
	list, _, _ := unstructured.NestedSlice(rest, "conditions")
	for _, c := range list {
		m := c.(map[string]any)
		conditions = append(conditions, plain(fmt.Sprintf("%s=%s %s: %s", m["type"], m["status"], m["reason"], m["message"])))
	}
	slices.Sort(conditions)
	delete(rest, "conditions")
	history, _, _ := unstructured.NestedSlice(rest, "history")
	for _, h := range history {
		for _, key := range []string{"firstReconciled", "lastReconciled", "lastReconciledDuration"} {
			m := h.(map[string]any)
			if m[key] == nil || m[key] == "" {
				w.t.Errorf("%s: history without %s", o.GetName(), key)
			}
			delete(m, key)
		}
	}
	if history != nil {
		rest["history"] = history
	}
	data, err := json.Marshal(rest)
	if err != nil {
		w.t.Fatal(err)
	}
	rest = nil
	if err := json.Unmarshal([]byte(plain(string(data))), &rest); err != nil {
		w.t.Fatal(err)
	}
	return conditions, rest
}

// goldenEvents are the events about a Kustomization, once they are as many as
// wanted; all that there are after a while if they never are.
func (w *world) goldenEvents(e *endpoint, name string, want []string, plain func(string) string) []string {
	w.t.Helper()
	wait := 3 * time.Second
	if *update {
		wait /= 10
	}
	for deadline := time.Now().Add(wait); ; {
		var got []string
		e.mu.Lock()
		for _, call := range e.calls {
			var event notify.Event
			if err := json.Unmarshal([]byte(call[strings.Index(call, "{"):]), &event); err != nil {
				w.t.Error(err)
			}
			if event.InvolvedObject.Kind != "Kustomization" || event.InvolvedObject.Name != name {
				continue
			}
			line := fmt.Sprintf("%s %s: %s %v", event.Severity, event.Reason, plain(event.Message), plain(fmt.Sprint(event.Metadata)))
			if event.Reason == "DependencyNotReady" && event.Severity == notify.SeverityInfo && !*update && !slices.Contains(want, line) {
				continue // another may have been a moment slower
			}
			got = append(got, line)
		}
		e.mu.Unlock()
		slices.Sort(got)
		if got = slices.Compact(got); !*update && slices.Equal(got, want) || time.Now().After(deadline) {
			return got
		}
		<-time.After(25 * time.Millisecond)
	}
}
