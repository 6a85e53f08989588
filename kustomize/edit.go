package kustomize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
)

// A Patch changes objects of the build, as an entry of the patches field of a
// kustomization does.
type Patch struct {
	// Patch is a strategic merge patch, of one or several documents, or a JSON
	// patch (RFC 6902), as YAML or JSON text.
	Patch string `json:"patch"`
	// Target selects what is patched. A JSON patch needs one; a strategic merge
	// patch without one goes to the object that it names.
	Target *Target `json:"target,omitempty"`
}

// A Target selects objects: those that match every field that is set.
type Target struct {
	// Group, Version and Kind are matched as regular expressions, anchored at
	// both ends, as are Namespace and Name.
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// LabelSelector and AnnotationSelector are selectors in the syntax of
	// Kubernetes label selectors.
	LabelSelector      string `json:"labelSelector,omitempty"`
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

// Validate returns what is wrong with the regular expressions and selectors, as
// an error that matches [ErrInvalid]; [Build] refuses it, too. Nil is valid.
func (t *Target) Validate() error {
	if t == nil {
		return nil
	}
	_, err := types.NewSelectorRegex(&types.Selector{
		ResId: resid.ResId{Gvk: resid.Gvk{Group: t.Group, Version: t.Version, Kind: t.Kind}, Name: t.Name, Namespace: t.Namespace},
	})
	_, err1 := labels.Parse(t.LabelSelector)
	_, err2 := labels.Parse(t.AnnotationSelector)
	for field, e := range map[string]error{"labelSelector": err1, "annotationSelector": err2} {
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", field, e))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// An Image replaces a container image, as an entry of the images field of a
// kustomization does.
type Image struct {
	// Name is the image to replace, without tag and digest. Required.
	Name string `json:"name"`
	// NewName replaces the name, unless empty.
	NewName string `json:"newName,omitempty"`
	// NewTag and Digest replace tag and digest together: a tag alone removes
	// the digest of an entry that the kustomization already has, and the other
	// way round. With both, the digest wins.
	NewTag string `json:"newTag,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// edits is the number of options that change the top kustomization.
func (o *Options) edits() int {
	n := len(o.Patches) + len(o.Images) + len(o.Components) + len(o.BuildMetadata)
	for _, s := range []string{o.Namespace, o.NamePrefix, o.NameSuffix} {
		if s != "" {
			n++
		}
	}
	return n
}

// edit applies the options to the fields of the top kustomization, which is in dir.
func (o *Options) edit(t *tree, dir string, fields map[string]any) error {
	for name, value := range map[string]string{"namespace": o.Namespace, "namePrefix": o.NamePrefix, "nameSuffix": o.NameSuffix} {
		if value != "" {
			fields[fieldName(fields, name)] = value
		}
	}
	if len(o.BuildMetadata) > 0 {
		if err := knownMetadata(o.BuildMetadata); err != nil {
			return err
		}
		fields[fieldName(fields, "buildMetadata")] = o.BuildMetadata
	}
	components, err := o.components(t, dir)
	if err != nil {
		return err
	}
	return errors.Join(
		add(fields, "patches", o.Patches),
		add(fields, "components", components),
		editImages(fields, o.Images),
	)
}

// fieldName returns the key that fields has for the field called name:
// kustomize reads field names without regard to their case.
func fieldName(fields map[string]any, name string) string {
	for key := range fields {
		if strings.EqualFold(key, name) {
			return key
		}
	}
	return name
}

// list returns the field called name, which must be a list or absent.
func list(fields map[string]any, name string) (key string, old []any, err error) {
	key = fieldName(fields, name)
	old, ok := fields[key].([]any)
	if !ok && fields[key] != nil {
		return "", nil, fmt.Errorf("%w: %s is not a list", ErrInvalid, key)
	}
	return key, old, nil
}

// add appends entries to a list of the kustomization.
func add[T any](fields map[string]any, name string, entries []T) error {
	if len(entries) == 0 {
		return nil
	}
	key, old, err := list(fields, name)
	if err != nil {
		return err
	}
	all := slices.Clone(old)
	for _, e := range entries {
		v, err := plain(e)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	fields[key] = all
	return nil
}

// plain turns a value into maps, lists and scalars by its json tags.
func plain(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out, nil
}

// editImages merges images into the images field.
func editImages(fields map[string]any, images []Image) error {
	if len(images) == 0 {
		return nil
	}
	key, old, err := list(fields, "images")
	if err != nil {
		return err
	}
	all := slices.Clone(old)
	for _, img := range images {
		if img.Name == "" {
			return fmt.Errorf("%w: an image has no name", ErrInvalid)
		}
		i := slices.IndexFunc(all, func(v any) bool {
			m, ok := v.(map[string]any)
			return ok && m[fieldName(m, "name")] == img.Name
		})
		if i < 0 {
			i, all = len(all), append(all, map[string]any{"name": img.Name})
		}
		entry, _ := all[i].(map[string]any)
		all[i] = img.merged(entry)
	}
	fields[key] = all
	return nil
}

// merged returns entry with the settings of the image.
func (img *Image) merged(entry map[string]any) map[string]any {
	entry = maps.Clone(entry)
	set := func(name, value string) {
		key := fieldName(entry, name)
		delete(entry, key)
		if value != "" {
			entry[key] = value
		}
	}
	if img.NewName != "" {
		set("newName", img.NewName)
	}
	if img.NewTag != "" || img.Digest != "" {
		set("newTag", img.NewTag)
		set("digest", img.Digest)
	}
	return entry
}

// components returns those components of the options that exist, after
// checking that each is a path inside the tree.
func (o *Options) components(t *tree, dir string) ([]string, error) {
	var out []string
	for _, c := range o.Components {
		name := path.Join(dir, c)
		switch {
		case remote(c):
			return nil, refusal(c)
		case c == "" || path.IsAbs(c) || !fs.ValidPath(name):
			return nil, fmt.Errorf("%w: component %q is outside the tree: give a path relative to the directory that is built", ErrInvalid, c)
		}
		isDir, ok := t.stat("/" + name)
		switch {
		case ok && isDir:
			out = append(out, c)
		case ok:
			return nil, fmt.Errorf("%w: component %q is a file, not a directory", ErrInvalid, c)
		case !o.IgnoreMissingComponents:
			return nil, fmt.Errorf("%w: component %q is not in the tree", fs.ErrNotExist, c)
		}
	}
	return out, nil
}

// knownMetadata refuses what kustomize would ignore.
func knownMetadata(names []string) error {
	for _, name := range names {
		if !slices.Contains(types.BuildMetadataOptions, name) {
			return fmt.Errorf("%w: build metadata %q: there are %s", ErrInvalid, name, strings.Join(types.BuildMetadataOptions, ", "))
		}
	}
	return nil
}
