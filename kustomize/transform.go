package kustomize

import (
	"context"
	"embed"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Transform applies options to objects that are already built: patches, images,
// namespace, prefixes. It is [Build] of a directory with one file for each
// object, so an error names an object by its number, as in "object-3.yaml",
// counted from zero. Options.Components need files, and are an error.
//
// The objects are not changed, and what is returned shares nothing with them.
func Transform(ctx context.Context, objs []*unstructured.Unstructured, opts *Options) ([]*unstructured.Unstructured, error) {
	if opts == nil {
		opts = &Options{}
	}
	if len(objs) == 0 {
		return nil, nil
	}
	tree := newTree(ctx, embed.FS{}, opts.Limits)
	var names []string
	for i, obj := range objs {
		name := fmt.Sprintf("object-%d.yaml", i)
		data, err := yaml.Marshal(obj.Object)
		if err != nil {
			return nil, tree.explain(".", tree.halt(name, fmt.Errorf("%w: %w", ErrInvalid, err)))
		}
		names = append(names, "./"+name)
		tree.overlay(name, data)
	}
	list, err := yaml.Marshal(map[string]any{"resources": names})
	if err == nil {
		tree.overlay("kustomization.yaml", list)
		objs, err = build(tree, ".", opts)
	}
	if err != nil {
		return nil, tree.explain(".", err)
	}
	return objs, nil
}
