package proof_test

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/gitopskit/gitopskit/ssa/proof"
)

// Types come from a server ([proof.Server]) or from wherever they are known; here
// they are deduced from the objects.
func ExampleNoOp() {
	types := proof.TypesFunc(func(context.Context, schema.GroupVersionKind) (managedfields.TypeConverter, error) {
		return managedfields.NewDeducedTypeConverter(), nil
	})
	desired := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "settings", "namespace": "shop"},
		"data":     map[string]any{"color": "red"},
	}}
	live := desired.DeepCopy()
	live.Object["data"] = map[string]any{"color": "red", "size": "set by somebody else"}
	live.Object["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{
		"manager": "gitopskit", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
		"fieldsV1": map[string]any{"f:data": map[string]any{".": map[string]any{}, "f:color": map[string]any{}}},
	}}
	ctx := context.Background()
	fmt.Println(proof.NoOp(ctx, live, desired, "gitopskit", types).Unchanged)
	live.Object["data"].(map[string]any)["color"] = "blue"
	fmt.Println(proof.NoOp(ctx, live, desired, "gitopskit", types).Why)
	// Output:
	// true
	// values or their order differ: +.data.color
}
