package schema_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

// documents reads the OpenAPI documents of a server.
func documents(t testing.TB, config *rest.Config) map[apischema.GroupVersion][]byte {
	t.Helper()
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := disco.OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	docs := map[apischema.GroupVersion][]byte{}
	for path, gv := range paths {
		name, ok := strings.CutPrefix(path, "apis/")
		if !ok {
			name, ok = strings.CutPrefix(path, "api/")
		}
		parsed, err := apischema.ParseGroupVersion(name)
		if !ok || err != nil || !ofKubernetes(parsed.Group) {
			continue
		}
		if !strings.Contains(name, "/") && name != "v1" {
			continue // a group without a version
		}
		if docs[parsed], err = gv.Schema("application/json"); err != nil {
			t.Fatal(err)
		}
	}
	return docs
}

// ofKubernetes reports a group that is no other test's.
func ofKubernetes(group string) bool {
	return !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io")
}

// TestBuiltinIsWhatTheServerPublishes compares the embedded schemas with those
// of a running server of the same release.
func TestBuiltinIsWhatTheServerPublishes(t *testing.T) {
	env := testenv.Start(t)
	docs := documents(t, env.Config())
	if len(docs) < 15 {
		t.Fatalf("the server has documents of %d group versions only", len(docs))
	}
	server, err := schema.FromOpenAPI(docs)
	if err != nil {
		t.Fatal(err)
	}
	embedded := builtin(t, env.Server.Version())
	got, want := schema.Definitions(embedded), schema.Definitions(server)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, w := normal(t, got[name]), normal(t, want[name])
		if m, ok := w.(map[string]any); ok && strings.HasPrefix(name, "io.k8s.apimachinery.pkg.apis.meta.v1.") {
			delete(m, "x-kubernetes-group-version-kind") // as many as there are group versions
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("definition %s (-server +embedded):\n%s", name, cmp.Diff(w, g))
		}
	}
	served := map[apischema.GroupVersionKind]bool{}
	for _, k := range server.Kinds() {
		served[k.GroupVersionKind] = true
		e, ok := embedded.Kind(k.GroupVersionKind)
		if !ok {
			t.Errorf("%s is not embedded", k.GroupVersionKind)
			continue
		}
		if k.Kind == "ComponentStatus" { // listed and not watched, which OpenAPI does not tell
			k.Verbs = slices.DeleteFunc(k.Verbs, func(v string) bool { return v == "watch" })
		}
		if diff := cmp.Diff(k, e, cmpopts.IgnoreFields(schema.Kind{}, "ShortNames", "Categories", "Priority"), cmpopts.SortSlices(func(a, b schema.Subresource) bool { return a.Name < b.Name })); diff != "" {
			t.Errorf("%s (-server +embedded):\n%s", k.GroupVersionKind, diff)
		}
	}
	for _, k := range embedded.Kinds() {
		if served[k.GroupVersionKind] == k.Optional {
			t.Errorf("%s: served is %t, optional is %t", k.GroupVersionKind, served[k.GroupVersionKind], k.Optional)
		}
	}
}

// TestKindsAreWhatDiscoverySays compares names, verbs and preference.
func TestKindsAreWhatDiscoverySays(t *testing.T) {
	env := testenv.Start(t)
	disco, err := discovery.NewDiscoveryClientForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := disco.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	set := builtin(t, env.Server.Version())
	mapper := set.Mapper()
	compared := 0
	for _, list := range lists {
		gv, err := apischema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		if !ofKubernetes(gv.Group) {
			continue
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			k, ok := set.Kind(gv.WithKind(r.Kind))
			if !ok {
				t.Errorf("no %s %s", gv, r.Kind)
				continue
			}
			compared++
			got := []any{k.Resource, k.Singular, k.ShortNames, k.Categories, k.Namespaced, k.Verbs}
			want := []any{r.Name, r.SingularName, r.ShortNames, r.Categories, r.Namespaced, []string(r.Verbs)}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s %s (-server +set):\n%s", gv, r.Kind, diff)
			}
		}
	}
	if compared < 60 {
		t.Errorf("compared %d kinds only", compared)
	}
	preferred, err := disco.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range preferred {
		gv, err := apischema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		if !ofKubernetes(gv.Group) {
			continue
		}
		for _, r := range list.APIResources {
			m, err := mapper.RESTMapping(apischema.GroupKind{Group: gv.Group, Kind: r.Kind})
			if err != nil || m.Resource != gv.WithResource(r.Name) {
				t.Errorf("%s %s maps to %v, %v", gv, r.Kind, m, err)
			}
		}
	}
}

// normal returns a definition without texts.
func normal(t testing.TB, body json.RawMessage) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var strip func(v any) any
	strip = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["description"].(string); ok {
				delete(v, "description")
			}
			for k := range v {
				v[k] = strip(v[k])
			}
		case []any:
			for i := range v {
				v[i] = strip(v[i])
			}
		}
		return v
	}
	return strip(v)
}
