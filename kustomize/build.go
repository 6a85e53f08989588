package kustomize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
)

// Options are the optional settings of a build. The zero value, like a nil
// pointer, is what `kustomize build` does.
type Options struct {
	// Namespace, when set, replaces the namespace field of the top
	// kustomization, so that every namespaced object ends up in it. The
	// Namespace object itself is not created.
	Namespace string

	// NamePrefix and NameSuffix, when set, replace the fields of the same name
	// of the top kustomization.
	NamePrefix, NameSuffix string

	// Patches are applied after the patches of the top kustomization.
	Patches []Patch

	// Images replace names, tags and digests of container images, on top of
	// the images field of the top kustomization.
	Images []Image

	// Components are directories with a kustomization of kind Component, used
	// after those of the top kustomization. Each is a path relative to the
	// directory that is built.
	Components []string
	// IgnoreMissingComponents leaves out those Components whose directory does
	// not exist.
	IgnoreMissingComponents bool

	// BuildMetadata, when not empty, replaces the field of the same name of
	// the top kustomization: "originAnnotations", "transformerAnnotations".
	BuildMetadata []string

	// Limits bound what a hostile tree can cost. The zero value is safe.
	Limits Limits
}

// Build builds the kustomization in directory dir of fsys and returns its
// objects in the order of `kustomize build`.
//
// dir is a slash-separated path inside fsys; "" and "." mean its root. A
// directory without a kustomization file is treated as if it had one that
// lists every manifest below it; see [Generate]. References may leave dir but
// never fsys. A kustomization that selects nothing yields no objects and no
// error.
//
// Nothing is executed, fetched or written: a remote base or file, a Helm chart
// or an exec plugin is an error that names it. fsys is only read.
//
// Errors are *[Error] and name the file, and the line where there is one.
// Build is safe for concurrent use.
func Build(ctx context.Context, fsys fs.FS, dir string, opts *Options) ([]*unstructured.Unstructured, error) {
	if opts == nil {
		opts = &Options{}
	}
	tree := newTree(ctx, fsys, opts.Limits)
	objs, err := build(tree, dir, opts)
	if err != nil {
		return nil, tree.explain(dir, err)
	}
	return objs, nil
}

func build(tree *tree, dir string, opts *Options) ([]*unstructured.Unstructured, error) {
	dir, err := cleanDir(tree, dir)
	if err != nil {
		return nil, err
	}
	top, err := generate(tree, dir, opts)
	if err != nil {
		return nil, err
	}
	if top.empty {
		return nil, nil
	}
	tree.overlay(path.Join(dir, top.name), top.data)

	objs, err := run(tree, dir, sharedSchema)
	if tree.wantsSchema() {
		objs, err = run(tree.restart(), dir, privateSchema)
	}
	return objs, err
}

// run builds dir while holding the process-wide schema in the way hold gives.
func run(tree *tree, dir string, hold func() (release func())) (objs []*unstructured.Unstructured, err error) {
	defer hold()()
	defer func() {
		if r := recover(); r != nil { // kustomize panics on some malformed input
			objs, err = nil, fmt.Errorf("kustomize panicked: %v", r)
		}
	}()
	m, err := krusty.MakeKustomizer(&krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone, // the tree is the restriction
		PluginConfig:     types.DisabledPluginConfig(),
	}).Run(tree, "/"+strings.TrimPrefix(dir, "."))
	if stop := tree.stopped(); stop != nil {
		return nil, stop
	}
	if err != nil {
		return nil, err
	}
	return objects(m, tree.limits)
}

// objects converts the result of kustomize.
func objects(m resmap.ResMap, limits Limits) ([]*unstructured.Unstructured, error) {
	if n := m.Size(); n > limits.Objects {
		return nil, fmt.Errorf("%w: %d objects, allowed are %d (Limits.Objects)", ErrLimit, n, limits.Objects)
	}
	out := make([]*unstructured.Unstructured, 0, m.Size())
	for _, res := range m.Resources() {
		obj, err := res.Map()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", res.CurId(), err)
		}
		val, err := jsonValue(obj)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", res.CurId(), err)
		}
		u := &unstructured.Unstructured{Object: val.(map[string]any)} //nolint:forcetypeassert // jsonValue keeps the kind of a map
		if u.GetAPIVersion() == "" || u.GetKind() == "" || u.GetName() == "" && u.GetGenerateName() == "" {
			return nil, fmt.Errorf("%w: %s has no apiVersion, kind or metadata.name", ErrInvalid, res.CurId())
		}
		out = append(out, u)
	}
	return out, nil
}

// cleanDir returns dir in the form of io/fs and checks that it is a directory.
func cleanDir(tree *tree, dir string) (string, error) {
	clean := path.Clean(strings.TrimPrefix("./"+dir, "/"))
	if path.IsAbs(dir) || !fs.ValidPath(clean) {
		return "", fmt.Errorf("%w: directory %q is outside the tree: give a relative path without ..", ErrInvalid, dir)
	}
	info, err := fs.Stat(tree.fsys, clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: directory %q is not in the tree", fs.ErrNotExist, clean)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%w: %q is a file, not a directory", ErrInvalid, clean)
	}
	return clean, nil
}
