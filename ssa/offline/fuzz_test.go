package offline_test

import (
	"encoding/json"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// FuzzPatch: whatever a client sends, it is refused or it is stored, and what
// is stored can be read and applied to again.
func FuzzPatch(f *testing.F) {
	kinds := []types.PatchType{types.ApplyYAMLPatchType, types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType}
	c := newCluster(f)
	deployments := resourceOf(c, "apps", "v1", "deployments")
	original := object(f, web)
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		if _, err := deployments.Apply(t.Context(), "web", original, metav1.ApplyOptions{FieldManager: "first", Force: true}); err != nil {
			t.Fatal(err)
		}
		options := metav1.PatchOptions{FieldManager: "fuzz", DryRun: []string{metav1.DryRunAll}}
		got, err := deployments.Patch(t.Context(), "web", kinds[int(kind)%len(kinds)], data, options)
		if err != nil {
			return
		}
		if got.GetName() != "web" || got.GetNamespace() != "default" {
			t.Errorf("it became %s/%s", got.GetNamespace(), got.GetName())
		}
		if _, err := json.Marshal(got); err != nil {
			t.Error(err)
		}
	})
}

// FuzzContinue: a token that no list gave is refused or begins somewhere.
func FuzzContinue(f *testing.F) {
	r := configMaps(newCluster(f))
	create(f, r, configMap(f, "a"))
	f.Fuzz(func(t *testing.T, token string) {
		list, err := r.List(t.Context(), metav1.ListOptions{Continue: token, Limit: 1})
		if err == nil && len(list.Items) > 1 {
			t.Errorf("got %d items", len(list.Items))
		}
	})
}
