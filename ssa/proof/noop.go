package proof

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Verdict is the answer to whether an apply would change nothing.
type Verdict struct {
	// Unchanged is true if it is proven that it would not. False means "don't
	// know", never "it would".
	Unchanged bool
	// Why says what stands in the way of a proof, empty if Unchanged. It names
	// fields but no values of Secrets.
	Why string
}

// NoOp decides whether applying desired over live changes nothing, for manager
// and with force. It modifies neither object.
func NoOp(ctx context.Context, live, desired *unstructured.Unstructured, manager string, types Types) (verdict Verdict) {
	defer func() {
		if r := recover(); r != nil { // of the merge library, on objects no server would store
			verdict = Verdict{Why: "the objects cannot be merged"}
		}
	}()
	if why := incomparable(live, desired, manager); why != "" {
		return Verdict{Why: why}
	}
	owned, why := entry(live, desired.GetAPIVersion(), manager)
	if why != "" {
		return Verdict{Why: why}
	}
	converter, err := types.TypeConverter(ctx, desired.GroupVersionKind())
	if err != nil {
		return Verdict{Why: "no schema: " + err.Error()}
	}
	m := merge{secret: desired.GetKind() == "Secret"}
	return Verdict{Why: m.difference(live, desired, owned, converter)}.settle()
}

// settle makes a verdict without doubts an Unchanged one.
func (v Verdict) settle() Verdict {
	v.Unchanged = v.Why == ""
	return v
}

// incomparable says why live and desired are not the two sides of one ordinary apply.
func incomparable(live, desired *unstructured.Unstructured, manager string) string {
	switch {
	case live == nil || desired == nil || live.Object == nil || desired.Object == nil:
		return "there is no live or no desired object"
	case live.GroupVersionKind() != desired.GroupVersionKind():
		return fmt.Sprintf("the live object was read as %s, not as %s", live.GroupVersionKind(), desired.GroupVersionKind())
	case live.GetName() != desired.GetName() || live.GetNamespace() != desired.GetNamespace():
		return "the live object is another one"
	case live.GetDeletionTimestamp() != nil:
		return "the live object is being deleted"
	case desired.GetResourceVersion() != "" || desired.GetUID() != "":
		return "the desired object has preconditions: metadata.resourceVersion or metadata.uid"
	case desired.GetManagedFields() != nil:
		return "the desired object has metadata.managedFields"
	case manager == "kubectl" && live.GetAnnotations()["kubectl.kubernetes.io/last-applied-configuration"] != "":
		return "an apply by kubectl rewrites the last-applied annotation"
	}
	return ""
}

// entry returns what manager applied to live, empty if nothing.
func entry(live *unstructured.Unstructured, apiVersion, manager string) (owned *fieldpath.Set, why string) {
	owned = fieldpath.NewSet()
	found := false
	for _, e := range live.GetManagedFields() {
		if e.Manager != manager || e.Operation != metav1.ManagedFieldsOperationApply || e.Subresource != "" {
			continue
		}
		switch {
		case found:
			return nil, "the manager has more than one entry in metadata.managedFields"
		case e.APIVersion != apiVersion:
			return nil, "the manager applied it in " + e.APIVersion
		case e.FieldsType != "FieldsV1" || e.FieldsV1 == nil:
			return nil, "the manager's entry in metadata.managedFields has an unknown format"
		}
		if err := owned.FromJSON(e.FieldsV1.GetRawReader()); err != nil {
			return nil, "the manager's entry in metadata.managedFields cannot be read"
		}
		found = true
	}
	return owned, ""
}

// merge does what the server does with an apply.
type merge struct {
	secret bool // values must not be told
}

// difference says what an apply would change, or why that cannot be told.
func (m merge) difference(live, desired *unstructured.Unstructured, owned *fieldpath.Set, converter managedfields.TypeConverter) string {
	want, err := converter.ObjectToTyped(desired)
	if err != nil {
		return m.misfit("desired", err)
	}
	have, err := converter.ObjectToTyped(live, typed.AllowDuplicates)
	if err != nil {
		return m.misfit("live", err)
	}
	fields, err := want.ToFieldSet()
	if err != nil {
		return m.misfit("desired", err)
	}
	fields = fields.Difference(unowned())
	if !fields.Equals(owned) {
		return "the manager would own other fields: " + m.first(fields.Difference(owned), owned.Difference(fields))
	}
	merged, err := have.Merge(want)
	if err != nil {
		return m.misfit("live", err)
	}
	if value.Equals(have.AsValue(), merged.AsValue()) {
		return ""
	}
	changes, err := have.Compare(merged)
	if err != nil {
		return m.misfit("live", err)
	}
	return "values or their order differ: " + m.first(changes.Modified.Union(changes.Added), changes.Removed)
}

func (m merge) misfit(which string, err error) string {
	if m.secret {
		return "the " + which + " object does not fit its schema"
	}
	return "the " + which + " object does not fit its schema: " + strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// first names a few fields of two sets, with signs.
func (m merge) first(plus, minus *fieldpath.Set) string {
	const few = 3
	var out []string
	for sign, set := range map[string]*fieldpath.Set{"+": plus, "-": minus} {
		n := 0
		for path := range set.Leaves().All() {
			if n++; n > few {
				break
			}
			out = append(out, sign+path.String())
		}
	}
	if len(out) == 0 {
		return "the order of a list"
	}
	return strings.Join(out, ", ")
}

// unowned are the fields that nobody owns, though everybody sends some of them.
// The list is that of the API server (stripmeta.go of its field manager).
func unowned() *fieldpath.Set {
	set := fieldpath.NewSet(
		fieldpath.MakePathOrDie("apiVersion"),
		fieldpath.MakePathOrDie("kind"),
		fieldpath.MakePathOrDie("metadata"),
	)
	for _, field := range []string{
		"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion",
	} {
		set.Insert(fieldpath.MakePathOrDie("metadata", field))
	}
	return set
}
