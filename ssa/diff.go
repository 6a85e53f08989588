package ssa

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// DiffOptions are the optional settings of [Client.Diff].
type DiffOptions struct {
	// ShowSecrets puts the values of Secrets into the result. By default they
	// are masked, so that a diff can be printed and sent.
	ShowSecrets bool
	// Verify says what suffices as evidence that an object is unchanged.
	Verify Verify
}

// Diff says what [Client.Apply] and [Client.Prune] would do with objs, and
// changes nothing: it asks the API server by dry run. Objects of a kind or
// namespace that the set itself creates cannot be asked about; their change
// says so in Reason.
//
// The error joins an *[ObjectError] for each object that the server refuses;
// the change set is complete even then.
func (c *Client) Diff(ctx context.Context, objs []*unstructured.Unstructured, opts *DiffOptions) (*ChangeSet, error) {
	if opts == nil {
		opts = &DiffOptions{}
	}
	p, err := c.plan(ctx, objs, planOptions{verify: opts.Verify, unmask: opts.ShowSecrets, explain: true, diff: true})
	if err != nil {
		return &ChangeSet{}, fmt.Errorf("ssa: diff for %s: %w", c.Owner, err)
	}
	set := p.changes()
	inventory := &Inventory{}
	if !c.holdsExactly(p.entries()) {
		if inventory, err = c.load(ctx); err != nil {
			return set, fmt.Errorf("ssa: diff for %s: %w", c.Owner, err)
		}
	}
	stale := slices.DeleteFunc(inventory.without(p.entries()).reversed(), p.mayStay)
	changes := make([]Change, len(stale))
	c.each(ctx, len(stale), func(i int) { changes[i] = c.victim(ctx, stale[i]).change })
	if ctx.Err() != nil {
		return set, fmt.Errorf("ssa: diff for %s: %w", c.Owner, context.Cause(ctx))
	}
	set.Changes = append(set.Changes, changes...)
	if err := set.Err(); err != nil {
		return set, fmt.Errorf("ssa: diff for %s: %w", c.Owner, err)
	}
	return set, nil
}

// mayStay reports an entry that may be an item whose identity is not known.
func (p *plan) mayStay(e Entry) bool {
	return slices.ContainsFunc(p.items, func(it *item) bool {
		return it.nameless() && it.id.GroupKind() == e.Object.GroupKind() && it.id.Name == e.Object.Name
	})
}

// FieldChange is one difference between a live object and the desired state.
type FieldChange struct {
	// Path of the field, as in "spec.template.spec.containers[0].image".
	Path string
	// Pointer is the path as a JSON pointer (RFC 6901), as in
	// "/spec/template/spec/containers/0/image"; empty for a whole object.
	Pointer string
	// Old and New are the values, nil for an absent field. Maps and lists
	// appear whole where the other side has nothing.
	Old, New any
}

// String returns the change in a line, with long values cut.
func (f FieldChange) String() string {
	switch {
	case f.Old == nil:
		return "+ " + f.Path + ": " + text(f.New)
	case f.New == nil:
		return "- " + f.Path + ": " + text(f.Old)
	}
	return "~ " + f.Path + ": " + text(f.Old) + " -> " + text(f.New)
}

func text(v any) string {
	var data strings.Builder
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	const long = 120
	if runes := []rune(strings.TrimSpace(data.String())); len(runes) > long {
		return string(runes[:long]) + "…"
	}
	return strings.TrimSpace(data.String())
}

// serverFields are the fields of metadata that differ without a meaning.
func serverFields() []string {
	return []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"}
}

// differences compares a live object with the desired one, both as the server
// has them. Status and what only the server sets are left out.
func differences(live, want *unstructured.Unstructured, unmask bool) []FieldChange {
	old, desired := map[string]any{}, content(want)
	if live != nil {
		old = content(live)
	}
	if want.GetKind() == "Secret" && want.GetAPIVersion() == "v1" && !unmask {
		old, desired = mask(old, desired, "(before)"), mask(desired, old, "(after)")
	}
	if live == nil {
		return []FieldChange{{Path: "", New: desired}}
	}
	var out []FieldChange
	compare("", "", old, desired, &out)
	return out
}

// content returns the content of obj that a diff looks at. It shares values with obj.
func content(obj *unstructured.Unstructured) map[string]any {
	out := maps.Clone(obj.Object)
	delete(out, "status")
	if metadata, ok := out["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		for _, field := range serverFields() {
			delete(metadata, field)
		}
		out["metadata"] = metadata
	}
	return out
}

// lastApplied is where kubectl keeps a whole manifest, Secrets included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// mask replaces the values of a Secret. Values that the other side lacks or
// has otherwise are marked, so that a change can be seen without its content.
func mask(secret, other map[string]any, mark string) map[string]any {
	out := maps.Clone(secret)
	for _, field := range []string{"data", "stringData"} {
		values, ok := secret[field].(map[string]any)
		if !ok {
			if _, set := secret[field]; set {
				out[field] = "***"
			}
			continue
		}
		others, _ := other[field].(map[string]any) // nil is fine
		masked := make(map[string]any, len(values))
		for k, v := range values {
			masked[k] = "***"
			if o, both := others[k]; both && !reflect.DeepEqual(o, v) {
				masked[k] = "*** " + mark
			}
		}
		out[field] = masked
	}
	if metadata, ok := out["metadata"].(map[string]any); ok {
		if annotations, ok := metadata["annotations"].(map[string]any); ok && annotations[lastApplied] != nil {
			metadata, annotations = maps.Clone(metadata), maps.Clone(annotations)
			annotations[lastApplied] = "***"
			metadata["annotations"] = annotations
			out["metadata"] = metadata
		}
	}
	return out
}

func compare(path, pointer string, old, want any, out *[]FieldChange) {
	if reflect.DeepEqual(old, want) {
		return
	}
	oldMap, isMap := old.(map[string]any)
	wantMap, both := want.(map[string]any)
	if isMap && both {
		keys := map[string]bool{}
		for k := range oldMap {
			keys[k] = true
		}
		for k := range wantMap {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			compare(join(path, k), pointer+"/"+escape(k), oldMap[k], wantMap[k], out)
		}
		return
	}
	oldList, isList := old.([]any)
	wantList, both := want.([]any)
	if isList && both && len(oldList) == len(wantList) {
		for i := range oldList {
			compare(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%s/%d", pointer, i), oldList[i], wantList[i], out)
		}
		return
	}
	*out = append(*out, FieldChange{Path: path, Pointer: pointer, Old: old, New: want})
}

// escape writes a name as a part of a JSON pointer.
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

func join(path, key string) string {
	if strings.ContainsAny(key, "./") {
		return path + "[" + fmt.Sprintf("%q", key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
