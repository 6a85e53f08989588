package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/kustomize"
)

// archives is where the repositories of other projects are, seen from this directory.
const archives = "../examples/quickstart/testdata/"

// input is a tree of manifests on disk, and what it builds to.
type input struct {
	name    string
	root    string // directory of the repository
	dir     string // what is built, below root
	objects []*unstructured.Unstructured
}

// kubePrometheus returns a whole monitoring stack: large definitions, cluster roles, dashboards. The caller closes it.
func kubePrometheus(ctx context.Context) (*input, error) {
	return unpack(ctx, "kube-prometheus", "manifests")
}

// podinfo returns a small application of three tiers. The caller closes it.
func podinfo(ctx context.Context) (*input, error) {
	return unpack(ctx, "podinfo", "deploy/overlays/dev")
}

func unpack(ctx context.Context, name, dir string) (_ *input, err error) {
	r, err := zip.OpenReader(filepath.Join(archives, name+".zip"))
	if err != nil {
		return nil, fmt.Errorf("%w: run in the directory bench of the repository", err)
	}
	defer r.Close()
	root, err := os.MkdirTemp("", "gitopskit-bench-")
	if err != nil {
		return nil, err
	}
	in := &input{name: name, root: root, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if err := os.CopyFS(root, r); err != nil {
		return nil, err
	}
	in.objects, err = kustomize.Build(ctx, os.DirFS(root), dir, nil)
	if err != nil {
		return nil, err
	}
	in.objects, err = flat(in.objects)
	return in, err
}

func (in *input) close() error { return os.RemoveAll(in.root) }

// flat returns objects with the lists among them replaced by their items, so that both sides count the same objects.
func flat(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		if !o.IsList() {
			out = append(out, o)
			continue
		}
		list, err := o.ToList()
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			out = append(out, &list.Items[i])
		}
	}
	return out, nil
}

// clone returns copies that a side may change, as every reconcile reads its objects anew.
func clone(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, len(objects))
	for i, o := range objects {
		out[i] = o.DeepCopy()
	}
	return out
}

// changed returns objects with one Deployment that differs in its image.
func changed(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	i := slices.IndexFunc(objects, isDeployment)
	if i < 0 {
		return nil, errors.New("input without a Deployment")
	}
	out := slices.Clone(objects)
	out[i] = out[i].DeepCopy()
	containers, _, err := unstructured.NestedSlice(out[i].Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) == 0 {
		return nil, fmt.Errorf("deployment %s without containers: %w", out[i].GetName(), err)
	}
	containers[0].(map[string]any)["image"] = "example.com/another:1" //nolint:forcetypeassert // a container is a map
	return out, unstructured.SetNestedSlice(out[i].Object, containers, "spec", "template", "spec", "containers")
}

// without returns objects with one Deployment less.
func without(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	i := slices.IndexFunc(objects, isDeployment)
	return slices.Delete(slices.Clone(objects), i, i+1)
}

func isDeployment(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" }
