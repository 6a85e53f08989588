package kustomize

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SetMetadata adds labels and annotations to the metadata of every object and
// overrides those of the same name. Selectors and templates are left alone.
// The objects are changed in place.
func SetMetadata(objects []*unstructured.Unstructured, labels, annotations map[string]string) {
	for _, o := range objects {
		if len(labels) > 0 {
			o.SetLabels(merged(o.GetLabels(), labels))
		}
		if len(annotations) > 0 {
			o.SetAnnotations(merged(o.GetAnnotations(), annotations))
		}
	}
}

func merged(old, add map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, old)
	maps.Copy(all, add)
	return all
}
