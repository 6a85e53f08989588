package helm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// HookEvent is the moment at which a hook runs.
type HookEvent string

// The moments at which hooks run.
const (
	HookPreInstall   HookEvent = "pre-install"
	HookPostInstall  HookEvent = "post-install"
	HookPreDelete    HookEvent = "pre-delete"
	HookPostDelete   HookEvent = "post-delete"
	HookPreUpgrade   HookEvent = "pre-upgrade"
	HookPostUpgrade  HookEvent = "post-upgrade"
	HookPreRollback  HookEvent = "pre-rollback"
	HookPostRollback HookEvent = "post-rollback"
	HookTest         HookEvent = "test"
)

// HookDeletePolicy says when a hook's object is deleted.
type HookDeletePolicy string

// The delete policies of hooks.
const (
	DeleteBeforeCreation HookDeletePolicy = "before-hook-creation" // when none is given
	DeleteSucceeded      HookDeletePolicy = "hook-succeeded"
	DeleteFailed         HookDeletePolicy = "hook-failed"
)

// Hook is an object that is created at certain moments only.
type Hook struct {
	Object *unstructured.Unstructured
	// Path is the template it comes from.
	Path string
	// Events are the moments at which it runs.
	Events []HookEvent
	// Weight orders hooks of the same moment, smaller ones first.
	Weight int
	// DeletePolicies are those given; none means [DeleteBeforeCreation].
	DeletePolicies []HookDeletePolicy
	// OutputLogPolicies are kept for the record; logs are not read.
	OutputLogPolicies []string
	// Manifest is the hook as Helm stores it.
	Manifest string
}

const (
	hookAnnotation   = "helm.sh/hook"
	weightAnnotation = "helm.sh/hook-weight"
	deleteAnnotation = "helm.sh/hook-delete-policy"
	outputAnnotation = "helm.sh/hook-output-log-policy"
)

// split sorts the output of the templates into notes, hooks and objects.
func (r *rendering) split(out *Result, files map[string]string) error {
	for _, name := range sortedKeys(files) {
		if strings.HasSuffix(name, "NOTES.txt") {
			if name == path.Join(out.Chart.Name(), "templates", "NOTES.txt") {
				out.Notes = files[name]
			}
			delete(files, name)
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	var text strings.Builder
	for _, m := range manifests {
		sourceHeader(&text, m.Name, m.Content)
		objects, err := parse(m.Content)
		if err != nil {
			return &fileError{m.Name, fmt.Errorf("%w: %w", ErrTemplate, err)}
		}
		out.Objects = append(out.Objects, objects...)
	}
	out.Manifest = []byte(text.String())
	for _, h := range hooks {
		objects, err := parse(h.Manifest)
		if err == nil && len(objects) != 1 {
			err = fmt.Errorf("a hook must be one object, this has %d", len(objects))
		}
		if err != nil {
			return &fileError{h.Path, fmt.Errorf("%w: %w", ErrTemplate, err)}
		}
		hook, _ := hookOf(objects[0], h.Path, h.Manifest) // its events are known, or it would not be here
		if !r.opts.SkipTests || !isTest(hook.Events) {
			out.Hooks = append(out.Hooks, hook)
		}
	}
	return r.definitions(out)
}

// definitions reads crds/ of the chart.
func (r *rendering) definitions(out *Result) error {
	for _, crd := range out.Chart.CRDObjects() {
		for _, doc := range documents(string(crd.File.Data)) {
			objects, err := parse(doc)
			if err != nil {
				return &fileError{crd.Filename, fmt.Errorf("%w: %w", ErrInvalid, err)}
			}
			for _, o := range objects {
				if o.GetKind() != "CustomResourceDefinition" {
					out.Warnings = append(out.Warnings, fmt.Sprintf("%s: %s %q is not a CustomResourceDefinition and is ignored",
						crd.Filename, o.GetKind(), o.GetName()))
					continue
				}
				out.CRDs = append(out.CRDs, o)
			}
		}
	}
	return nil
}

// documents cuts a stream of YAML as Helm does, in order.
func documents(stream string) []string {
	parts := releaseutil.SplitManifests(stream)
	keys := make([]string, 0, len(parts))
	for k := range parts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return number(a) - number(b) })
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = parts[k]
	}
	return out
}

func number(key string) int {
	n, _ := strconv.Atoi(key[strings.LastIndexByte(key, '-')+1:]) // keys are manifest-0, manifest-1, …
	return n
}

// parse reads one document: an object, the items of a list, or nothing. The
// error does not repeat the content, which may be a Secret.
func parse(doc string) ([]*unstructured.Unstructured, error) {
	data, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		if line := lineOf.FindString(err.Error()); line != "" {
			return nil, errors.New("not YAML, " + line)
		}
		return nil, errors.New("not YAML")
	}
	if bytes.Equal(data, []byte("null")) {
		return nil, nil
	}
	content := map[string]any{}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, errors.New("not a mapping with apiVersion and kind")
	}
	obj := &unstructured.Unstructured{Object: content}
	switch {
	case len(content) == 0:
		return nil, nil
	case obj.GetAPIVersion() == "" || obj.GetKind() == "":
		return nil, errors.New("no apiVersion or no kind")
	case !strings.HasSuffix(obj.GetKind(), "List") || !obj.IsList():
		return []*unstructured.Unstructured{obj}, nil
	}
	list, err := obj.ToList()
	if err != nil {
		return nil, errors.New("the items of a list must be objects")
	}
	out := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
		if out[i].GetKind() == "" {
			return nil, errors.New("an item of a list has no kind")
		}
	}
	return out, nil
}

// ReadManifest reads the objects of a manifest that Helm stored, in order.
// Lists are expanded. The error matches [ErrTemplate].
func ReadManifest(manifest string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for i, doc := range documents(manifest) {
		objects, err := parse(doc)
		if err != nil {
			return nil, fmt.Errorf("helm: manifest: %w: document %d: %w", ErrTemplate, i+1, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// hookOf reads the annotations of an object, and reports whether it is a hook.
// One with an event that Helm does not know is none, and no object either.
func hookOf(o *unstructured.Unstructured, source, manifest string) (Hook, bool) {
	annotations := o.GetAnnotations()
	hook := Hook{Object: o, Path: source, Manifest: manifest}
	for _, event := range words(annotations[hookAnnotation]) {
		if event == "test-success" { // of Helm 2
			event = string(HookTest)
		}
		if !slices.Contains(hookEvents(), HookEvent(event)) {
			return hook, false
		}
		hook.Events = append(hook.Events, HookEvent(event))
	}
	hook.Weight, _ = strconv.Atoi(annotations[weightAnnotation]) // anything else is 0, as in Helm
	for _, policy := range words(annotations[deleteAnnotation]) {
		hook.DeletePolicies = append(hook.DeletePolicies, HookDeletePolicy(policy))
	}
	hook.OutputLogPolicies = words(annotations[outputAnnotation])
	return hook, len(hook.Events) > 0
}

func hookEvents() []HookEvent {
	return []HookEvent{
		HookPreInstall, HookPostInstall, HookPreDelete, HookPostDelete,
		HookPreUpgrade, HookPostUpgrade, HookPreRollback, HookPostRollback, HookTest,
	}
}

func words(list string) []string {
	if list == "" {
		return nil
	}
	var out []string
	for word := range strings.SplitSeq(list, ",") {
		out = append(out, strings.ToLower(strings.TrimSpace(word)))
	}
	return out
}

// postRender runs the post-renderers and writes the manifest anew.
func (r *rendering) postRender(ctx context.Context, out *Result) error {
	if len(r.opts.PostRender) == 0 {
		return nil
	}
	sources, err := r.sources(out)
	if err != nil {
		return err
	}
	objects := out.Objects
	if r.opts.PostRenderHooks {
		for _, h := range out.Hooks {
			objects = append(objects, h.Object)
		}
		out.Hooks = nil
	}
	for i, post := range r.opts.PostRender {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if objects, err = post(ctx, objects); err != nil {
			return fmt.Errorf("post-renderer %d: %w", i+1, err)
		}
	}
	var text strings.Builder
	out.Objects = nil
	for _, o := range objects {
		if o == nil || len(o.Object) == 0 {
			return fmt.Errorf("%w: a post-renderer returned an empty object", ErrTemplate)
		}
		data, err := yaml.Marshal(o.Object)
		if err != nil {
			return fmt.Errorf("%w: %s %q after post-rendering: %w", ErrTemplate, o.GetKind(), o.GetName(), err)
		}
		source, content := sources[identity(o)], strings.TrimSuffix(string(data), "\n")
		if hook, ok := hookOf(o, source, content); ok && r.opts.PostRenderHooks {
			out.Hooks = append(out.Hooks, hook)
			continue
		}
		sourceHeader(&text, source, content)
		out.Objects = append(out.Objects, o)
	}
	out.Manifest = []byte(text.String())
	return nil
}

// sources returns the template of each object.
func (r *rendering) sources(out *Result) (map[string]string, error) {
	sources := map[string]string{}
	for _, doc := range documents(string(out.Manifest)) {
		objects, err := parse(doc)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
		}
		source := strings.TrimPrefix(strings.SplitN(doc, "\n", 2)[0], "# Source: ")
		for _, o := range objects {
			sources[identity(o)] = source
		}
	}
	for _, h := range out.Hooks {
		sources[identity(h.Object)] = h.Path
	}
	return sources, nil
}

func identity(o *unstructured.Unstructured) string {
	return strings.Join([]string{o.GetAPIVersion(), o.GetKind(), o.GetNamespace(), o.GetName()}, "\x00")
}

func shortDigest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:12]
}
