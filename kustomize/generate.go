package kustomize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Generate returns the kustomization file that [Build] uses for a directory:
// its own, with the options applied, or, where there is none, one that lists
// every manifest below it. Nothing is written.
//
// The list holds all files that end in .yaml or .yml, in lexical order, and
// each sub-directory that has a kustomization file, as one entry, unless that
// is a Component. Names that begin with a dot are left out: they configure
// tools, not clusters.
func Generate(ctx context.Context, fsys fs.FS, dir string, opts *Options) ([]byte, error) {
	if opts == nil {
		opts = &Options{}
	}
	tree := newTree(ctx, fsys, opts.Limits)
	clean, err := cleanDir(tree, dir)
	if err != nil {
		return nil, tree.explain(dir, err)
	}
	top, err := generate(tree, clean, opts)
	if err != nil {
		return nil, tree.explain(dir, err)
	}
	return top.data, nil
}

// kustomization is the effective kustomization file of a directory.
type kustomization struct {
	name  string // of the file
	data  []byte
	empty bool // it selects nothing, which kustomize would call an error
}

func isKustomization(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), name)
}

// own returns the name of the kustomization file of dir, "" if there is none.
func (t *tree) own(dir string) (string, error) {
	var found []string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if isDir, ok := t.stat("/" + path.Join(dir, name)); ok && !isDir {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: directory %q has several kustomization files: %s", ErrInvalid, dir, strings.Join(found, ", "))
}

func generate(t *tree, dir string, opts *Options) (*kustomization, error) {
	name, err := t.own(dir)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	if name == "" {
		name = konfig.DefaultKustomizationFileName()
		fields["apiVersion"], fields["kind"] = "kustomize.config.k8s.io/v1beta1", "Kustomization"
		resources, err := t.manifests(dir)
		if err != nil {
			return nil, err
		}
		if len(resources) > 0 {
			fields["resources"] = resources
		}
	} else {
		data, err := t.read(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := yaml.Unmarshal(data, &fields); err != nil {
			return nil, t.halt(path.Join(dir, name), fmt.Errorf("%w: %w", ErrInvalid, err))
		}
		if !selectsNothing(fields) && opts.edits() == 0 {
			return &kustomization{name: name, data: data}, nil
		}
	}
	empty := selectsNothing(fields) && len(opts.Components) == 0
	if err := opts.edit(t, dir, fields); err != nil {
		return nil, err
	}
	data, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &kustomization{name: name, data: data, empty: empty}, nil
}

// selectsNothing reports a kustomization with no field but its type.
func selectsNothing(fields map[string]any) bool {
	for field := range fields {
		if field != "apiVersion" && field != "kind" && field != "metadata" {
			return false
		}
	}
	return true
}

// manifests lists, relative to dir, what a generated kustomization refers to.
func (t *tree) manifests(dir string) ([]string, error) {
	var out []string
	err := fs.WalkDir(t.fsys, dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == dir:
			return context.Cause(t.ctx)
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			own, err := t.own(name)
			if own == "" || err != nil {
				return errors.Join(err, context.Cause(t.ctx))
			}
			if !t.component(path.Join(name, own)) {
				out = append(out, rel(dir, name))
			}
			return fs.SkipDir
		}
		if ext := path.Ext(name); ext == ".yaml" || ext == ".yml" {
			out = append(out, rel(dir, name))
		}
		if len(out) > t.limits.Files {
			return t.halt(name, fmt.Errorf("%w: more than %d files (Limits.Files)", ErrLimit, t.limits.Files))
		}
		return nil
	})
	return out, err
}

// component reports a kustomization of kind Component, which is for others to
// choose. One that cannot be read is left to the build, which says why.
func (t *tree) component(name string) bool {
	data, err := t.read(name)
	if err != nil {
		return false
	}
	k, err := inspect(data)
	return err == nil && k.Kind == types.ComponentKind
}

// rel returns name, which is below dir, relative to it. The leading dot keeps
// a file called github.com from being read as an address.
func rel(dir, name string) string {
	if dir == "." {
		return "./" + name
	}
	return "./" + strings.TrimPrefix(name, dir+"/")
}
