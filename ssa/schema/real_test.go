package schema_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

// fluxDefinitions are those of the example controllers.
func fluxDefinitions(t testing.TB) []*unstructured.Unstructured {
	t.Helper()
	m, err := schema.Load(os.DirFS("../../examples/controllers/crds"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.Objects
}

// TestRealManifests validates manifests of other projects with every version,
// and compares with the server.
func TestRealManifests(t *testing.T) {
	m := load(t, "real")
	if len(m.Objects) < 90 {
		t.Fatalf("read %d objects only", len(m.Objects))
	}
	unknown := []string{"Certificate", "ClusterIssuer", "EnvoyProxy", "Gateway", "GatewayClass", "Issuer", "HTTPRoute", "EnvoyPatchPolicy", "ClientTrafficPolicy", "BackendTrafficPolicy"}
	for _, version := range schema.Versions() {
		set := with(t, with(t, builtin(t, version), fluxDefinitions(t)...), m.Objects...)
		for _, v := range set.Validate(t.Context(), m.Objects, &schema.ValidateOptions{Manifests: m}) {
			if v.Reason != schema.UnknownKind || !slices.Contains(unknown, v.Object.Kind) {
				t.Errorf("%s: %s", version, v)
			}
			if v.Line == 0 || !strings.HasPrefix(v.File, "real/") || path.Ext(v.File) != ".yaml" {
				t.Errorf("%s: no position: %s", version, v)
			}
		}
		if v := set.Validate(t.Context(), m.Objects, &schema.ValidateOptions{AllowUnknownKinds: true}); len(v) > 0 {
			t.Errorf("%s: %v", version, v)
		}
	}
}

// TestDifferentialReal breaks real manifests, custom resources of Flux and the
// Prometheus operator among them.
func TestDifferentialReal(t *testing.T) {
	m := load(t, "real")
	definitions := append(fluxDefinitions(t), load(t, "real/kube-prometheus/0podmonitorCustomResourceDefinition.yaml",
		"real/kube-prometheus/0prometheusruleCustomResourceDefinition.yaml", "real/kube-prometheus/0servicemonitorCustomResourceDefinition.yaml").Objects...)
	set := with(t, builtin(t, "1.36"), definitions...)
	c := newCluster(t, set)
	c.install(t, definitions...)
	tried := map[string]int{}
	for _, obj := range m.Objects {
		if _, ok := set.Kind(obj.GroupVersionKind()); !ok || obj.GetKind() == "CustomResourceDefinition" || strings.HasSuffix(obj.GetKind(), "List") {
			continue
		}
		if tried[obj.GetKind()]++; tried[obj.GetKind()] > 3 {
			continue
		}
		obj := obj.DeepCopy()
		if obj.GetNamespace() != "" {
			obj.SetNamespace(c.namespace)
		}
		t.Run(obj.GetKind()+"/"+obj.GetName(), func(t *testing.T) { compare(t, c, obj) })
	}
}
