package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// mixedKinds is the number of kinds that mixed has.
const mixedKinds = 5

// mixed returns n objects: two fifths ConfigMaps, one fifth each of Deployments and Services, and a tenth each of
// ServiceAccounts and Roles. N should be a multiple of ten.
func mixed(n int) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, n)
	for i := range n {
		name := fmt.Sprintf("object-%05d", i)
		switch i % 10 {
		case 0, 1, 2, 3:
			out[i] = manifest("v1", "ConfigMap", name, map[string]any{"data": map[string]any{"key": "value"}})
		case 4, 5:
			out[i] = deployment(name, 0)
		case 6, 7:
			out[i] = manifest("v1", "Service", name, map[string]any{"spec": map[string]any{
				"selector": map[string]any{"app": name},
				"ports":    []any{map[string]any{"name": "http", "port": int64(80), "targetPort": int64(8080), "protocol": "TCP"}},
			}})
		case 8:
			out[i] = manifest("v1", "ServiceAccount", name, nil)
		case 9:
			out[i] = manifest("rbac.authorization.k8s.io/v1", "Role", name, map[string]any{"rules": []any{
				map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"get"}},
			}})
		}
	}
	return out
}

// manifest returns an object in the namespace of the owner.
func manifest(apiVersion, kind, name string, content map[string]any) *unstructured.Unstructured {
	obj := map[string]any{
		"apiVersion": apiVersion,
		"kind":       kind,
		"metadata":   map[string]any{"name": name, "namespace": ownerNamespace},
	}
	for k, v := range content {
		obj[k] = v
	}
	return &unstructured.Unstructured{Object: obj}
}

// deployment returns a Deployment of one container.
func deployment(name string, replicas int64) *unstructured.Unstructured {
	labels := map[string]any{"app": name}
	return manifest("apps/v1", "Deployment", name, map[string]any{"spec": map[string]any{
		"replicas": replicas,
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "main", "image": "example.com/app:1"}}},
		},
	}})
}

// edited returns objects whose first, a ConfigMap, has another value.
func edited(objects []*unstructured.Unstructured, value string) []*unstructured.Unstructured {
	out := append([]*unstructured.Unstructured{objects[0].DeepCopy()}, objects[1:]...)
	out[0].Object["data"] = map[string]any{"key": value}
	return out
}
