package kinds

import (
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"

	"github.com/gitopskit/gitopskit/runtime/kube/flags"
)

// TestAdditiveDependencyCheck: by the feature gate, an expression does not replace the readiness of a dependency but comes on top of it.
func TestAdditiveDependencyCheck(t *testing.T) {
	o, dep := &kustomizev1.Kustomization{}, &kustomizev1.Kustomization{}
	dep.Name = "first"
	o.Spec.DependsOn = []meta.DependencyReference{{Name: "first", ReadyExpr: "dep.metadata.name == 'first'"}}
	for additive, want := range map[bool]string{false: "", true: "dependency /first is not ready"} {
		e := &Env{Flags: &flags.Flags{FeatureGates: map[string]bool{"AdditiveCELDependencyCheck": additive}}}
		err := depends(e, func(o *kustomizev1.Kustomization) []meta.DependencyReference { return o.Spec.DependsOn }, nil)(t.Context(), o, dep)
		if got := ""; err != nil || want != "" {
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("additive %t: %q, want %q", additive, got, want)
			}
		}
	}
}
