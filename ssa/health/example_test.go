package health_test

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa/health"
)

func ExampleCompile() {
	rules, err := health.Compile([]health.Expression{{
		APIVersion: "example.com/v1",
		Kind:       "Database",
		InProgress: "status.phase == 'Restoring'",
		Failed:     "status.phase == 'Broken'",
		Current:    "status.phase == 'Serving' && status.replicas >= spec.replicas",
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	db := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Database",
		"metadata": map[string]any{"name": "orders", "generation": int64(2)},
		"spec":     map[string]any{"replicas": int64(2)},
		"status":   map[string]any{"phase": "Serving", "replicas": int64(1), "observedGeneration": int64(2)},
	}}
	fmt.Println(rules.Status(context.Background(), db))
	db.Object["status"].(map[string]any)["replicas"] = int64(2)
	fmt.Println(rules.Status(context.Background(), db))
	// Output:
	// InProgress the expression "status.phase == 'Serving' && status.replicas >= spec.replicas" is not true yet
	// Current
}
