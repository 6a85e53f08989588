package ssa

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// outdated reports that the API server cannot apply to a live object because of
// managed fields in another API version, whose schema lacks a field that the
// object has, such as one that a newer version fills in. It says so of the
// object and not of what is applied, which could be mended.
func outdated(refusal error, live *unstructured.Unstructured, apiVersion string) bool {
	if !isUndeclared(refusal) {
		return false
	}
	for _, entry := range live.GetManagedFields() {
		if entry.APIVersion != apiVersion {
			return true
		}
	}
	return false
}

// isUndeclared reports a field of the live object that a schema lacks. For what is
// applied the server uses more words.
func isUndeclared(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, ".") && strings.HasSuffix(text, "field not declared in schema")
}

// migrate writes all managed fields of the live object in the version that is to
// be applied, as nothing else makes the server accept it. Who owns what stays.
func (c *Client) migrate(ctx context.Context, it *item) error {
	return c.rewrite(ctx, it, func(entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool, error) {
		return inVersion(entries, it.obj.GetAPIVersion())
	})
}

// inVersion returns managed fields in one version. Entries that differ in nothing
// else become one.
func inVersion(entries []metav1.ManagedFieldsEntry, version string) (out []metav1.ManagedFieldsEntry, changed bool, err error) {
	type identity struct {
		manager, subresource string
		operation            metav1.ManagedFieldsOperationType
	}
	at := map[identity]int{}
	for _, entry := range entries {
		changed = changed || entry.APIVersion != version
		entry.APIVersion = version
		key := identity{entry.Manager, entry.Subresource, entry.Operation}
		i, known := at[key]
		if !known || entry.FieldsV1 == nil || out[i].FieldsV1 == nil {
			at[key] = len(out)
			out = append(out, entry)
			continue
		}
		first, err := readFields(out[i])
		if err != nil {
			return nil, false, err
		}
		second, err := readFields(entry)
		if err != nil {
			return nil, false, err
		}
		if out[i].FieldsV1, err = writeFields(first.Union(second)); err != nil {
			return nil, false, err
		}
	}
	return out, changed, nil
}
