package offline

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// request is one write to one object. It goes the way of the API server: the
// object is decoded and gets its defaults, the field manager notes who set
// what, the rules of the kind complete it, it is validated, and stored.
type request struct {
	resource
	kind        *kind
	name        string
	subresource string // "" or "status"
	manager     string
	validation  string // how unknown fields are taken
	force       bool
	dryRun      bool
}

// on settles what the request is about.
func (q *request) on(subresources []string, dryRun []string) error {
	switch {
	case len(subresources) == 0:
	case len(subresources) == 1 && subresources[0] == "status" && q.kind.status:
		q.subresource = "status"
	case len(subresources) == 1 && subresources[0] == "status":
		return notServed()
	default:
		return q.noSubresource(subresources)
	}
	return q.dry(dryRun)
}

func (q *request) dry(values []string) error {
	for _, v := range values {
		if v != metav1.DryRunAll {
			return invalidOptions("PatchOptions", "dryRun", fmt.Sprintf("supported values: %q", metav1.DryRunAll))
		}
		q.dryRun = true
	}
	if q.manager == "" {
		q.manager = defaultManager
	}
	return nil
}

// create stores a new object.
func (q *request) create(body *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	obj, err := q.decode(body)
	if err != nil {
		return nil, err
	}
	switch {
	case obj.GetName() == "" && obj.GetGenerateName() == "":
		return nil, apierrors.NewInvalid(q.kind.gvk.GroupKind(), "", field.ErrorList{field.Required(field.NewPath("metadata", "name"), "name or generateName is required")})
	case obj.GetResourceVersion() != "":
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	owners, err := q.owners()
	if err != nil {
		return nil, err
	}
	obj = owners.update(q.cluster.blank(q.kind), obj, q.manager)
	return q.store(nil, obj)
}

// replace stores another state of an object.
func (q *request) replace(body *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	obj, err := q.decode(body)
	if err != nil {
		return nil, err
	}
	old := q.live()
	if old == nil {
		return nil, apierrors.NewNotFound(q.kind.groupResource(), q.name)
	}
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, uidMismatch(q.kind.groupResource(), q.name, uid, old.GetUID())
	}
	owners, err := q.owners()
	if err != nil {
		return nil, err
	}
	return q.store(old, owners.update(old, obj, q.manager))
}

func uidMismatch(gr schema.GroupResource, name string, want, have types.UID) error {
	return apierrors.NewConflict(gr, name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", want, have))
}

// live returns the object as the version of the request has it, nil if it does
// not exist. It may be modified.
func (q *request) live() *unstructured.Unstructured {
	obj := q.cluster.store.get(q.kind.groupResource(), types.NamespacedName{Namespace: q.namespace, Name: q.name})
	if obj == nil {
		return nil
	}
	return q.cluster.as(q.kind, obj)
}

// decode reads the body of a request: unknown fields go, defaults come.
func (q *request) decode(body *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	obj := body.DeepCopy()
	if gvk := obj.GroupVersionKind(); gvk != q.kind.gvk {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s), or the kind %q not %q",
			gvk.GroupVersion(), q.kind.gvk.GroupVersion(), gvk.Kind, q.kind.gvk.Kind))
	}
	if err := q.place(obj); err != nil {
		return nil, err
	}
	if name := obj.GetName(); q.name != "" && name != q.name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, q.name))
	}
	return q.cluster.read(q.kind, obj, q.validation)
}

// place puts an object into the namespace of the request.
func (q *request) place(obj *unstructured.Unstructured) error {
	switch namespace := obj.GetNamespace(); {
	case !q.kind.namespaced:
		unstructured.RemoveNestedField(obj.Object, "metadata", "namespace")
	case q.namespace == "" && namespace == "":
		return apierrors.NewBadRequest("namespace is required")
	case q.namespace == "":
		q.namespace = namespace
	case namespace == "":
		obj.SetNamespace(q.namespace)
	case namespace != q.namespace:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// store completes, validates and keeps obj in the place of old, which is nil
// for a new object.
func (q *request) store(old, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := q.admit(old, obj); err != nil {
		return nil, err
	}
	if old == nil {
		return q.insert(obj)
	}
	if err := q.locked(old, obj); err != nil {
		return nil, err
	}
	obj.SetGeneration(old.GetGeneration())
	q.beforeUpdate(obj, old)
	q.keepSystemFields(obj, old)
	if errs := q.validateUpdate(obj, old); len(errs) > 0 {
		return nil, apierrors.NewInvalid(q.kind.gvk.GroupKind(), obj.GetName(), errs)
	}
	keepTimes(obj, old)
	c, gr := q.cluster, q.kind.groupResource()
	stored := c.as(c.stored(q.kind.gvk.GroupKind()), obj)
	if len(obj.GetFinalizers()) == 0 && old.GetDeletionTimestamp() != nil && !namespaceFinalizers(obj) {
		if !q.dryRun {
			c.store.put(gr, stored)
			c.drop(gr, keyOf(stored))
		}
		return c.present(q.kind, stored), nil
	}
	if before := c.store.get(gr, keyOf(stored)); !q.dryRun && !reflect.DeepEqual(before.Object, stored.Object) {
		c.store.put(gr, stored)
		c.written(q.kind, stored)
	}
	return c.present(q.kind, stored), nil
}

// insert keeps a new object.
func (q *request) insert(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	c, gr := q.cluster, q.kind.groupResource()
	if obj.GetName() == "" {
		c.generateName(q.kind, obj)
	}
	obj.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	obj.SetUID(c.newUID(q.kind, obj))
	unstructured.RemoveNestedField(obj.Object, "metadata", "deletionTimestamp")
	unstructured.RemoveNestedField(obj.Object, "metadata", "deletionGracePeriodSeconds")
	unstructured.RemoveNestedField(obj.Object, "metadata", "resourceVersion")
	unstructured.RemoveNestedField(obj.Object, "metadata", "selfLink")
	q.beforeCreate(obj)
	if errs := q.validate(obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(q.kind.gvk.GroupKind(), obj.GetName(), errs)
	}
	if c.store.get(gr, keyOf(obj)) != nil {
		return nil, apierrors.NewAlreadyExists(gr, obj.GetName())
	}
	stored := c.as(c.stored(q.kind.gvk.GroupKind()), obj)
	if !q.dryRun {
		c.count++
		c.born[q.kind.identity(stored)]++
		c.store.put(gr, stored)
		c.written(q.kind, stored)
	}
	return c.present(q.kind, stored), nil
}

// locked checks the version that a client read.
func (q *request) locked(old, obj *unstructured.Unstructured) error {
	gr := q.kind.groupResource()
	switch sent := obj.GetResourceVersion(); {
	case sent == "" && needsVersion(q.kind):
		return apierrors.NewInvalid(schema.GroupKind{Group: gr.Group, Kind: gr.Resource}, q.name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
	case sent == "":
		obj.SetResourceVersion(old.GetResourceVersion())
	case sent != old.GetResourceVersion():
		return apierrors.NewConflict(gr, q.name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	return nil
}

// keepSystemFields takes over what no client may change.
func (q *request) keepSystemFields(obj, old *unstructured.Unstructured) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	if at := old.GetDeletionTimestamp(); at != nil {
		obj.SetDeletionTimestamp(at)
	}
	if period := old.GetDeletionGracePeriodSeconds(); period != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(period)
	}
	unstructured.RemoveNestedField(obj.Object, "metadata", "selfLink")
}

// keepTimes leaves the times of managed fields if nothing else changes: the
// field manager cannot know what defaults and rules undo.
func keepTimes(obj, old *unstructured.Unstructured) {
	before, after := old.GetManagedFields(), obj.GetManagedFields()
	if len(before) != len(after) {
		return
	}
	for i := range after {
		a, b := after[i], before[i]
		a.Time, b.Time = nil, nil
		if !reflect.DeepEqual(a, b) {
			return
		}
	}
	kept, has, _ := unstructured.NestedFieldNoCopy(old.Object, "metadata", "managedFields")
	if !has {
		return
	}
	mine, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "metadata", "managedFields")
	metadata, ok := obj.Object["metadata"].(map[string]any)
	if !ok {
		return
	}
	metadata["managedFields"] = kept
	if !reflect.DeepEqual(obj.Object, old.Object) {
		metadata["managedFields"] = mine
	}
}

func invalidOptions(kind, path, detail string) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", field.ErrorList{field.Forbidden(field.NewPath(path), detail)})
}
