package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// defaultManager owns what is written without the name of a manager. A server
// takes the first word of the client's user agent.
const defaultManager = "unknown"

// connection is the dynamic.Interface of a cluster.
type connection struct{ cluster *Cluster }

var (
	_ dynamic.Interface                      = connection{}
	_ dynamic.NamespaceableResourceInterface = resource{}
)

// Resource returns the endpoint of a resource.
func (c connection) Resource(gvr schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return resource{cluster: c.cluster, gvr: gvr}
}

// resource is the endpoint of a resource, of one namespace or of all. Its
// methods are those of the dynamic client, and fail as that does.
type resource struct {
	cluster   *Cluster
	gvr       schema.GroupVersionResource
	namespace string
}

// Namespace returns the endpoint in one namespace.
func (r resource) Namespace(namespace string) dynamic.ResourceInterface {
	r.namespace = namespace
	return r
}

// Create adds an object. A SelfSubjectAccessReview is answered: all is allowed.
func (r resource) Create(ctx context.Context, obj *unstructured.Unstructured, options metav1.CreateOptions, subresources ...string) (*unstructured.Unstructured, error) {
	if len(subresources) > 0 {
		return nil, r.noSubresource(subresources)
	}
	if isReview(r.gvr) {
		return review(obj), ctx.Err()
	}
	return r.do(ctx, func(k *kind) (*unstructured.Unstructured, error) {
		q := &request{resource: r, kind: k, name: obj.GetName(), manager: options.FieldManager, validation: options.FieldValidation}
		if err := q.dry(options.DryRun); err != nil {
			return nil, err
		}
		return q.create(obj)
	})
}

// Update replaces an object.
func (r resource) Update(ctx context.Context, obj *unstructured.Unstructured, options metav1.UpdateOptions, subresources ...string) (*unstructured.Unstructured, error) {
	if obj.GetName() == "" {
		return nil, errNoName
	}
	return r.do(ctx, func(k *kind) (*unstructured.Unstructured, error) {
		q := &request{resource: r, kind: k, name: obj.GetName(), manager: options.FieldManager, validation: options.FieldValidation}
		if err := q.on(subresources, options.DryRun); err != nil {
			return nil, err
		}
		return q.replace(obj)
	})
}

// UpdateStatus replaces the status of an object.
func (r resource) UpdateStatus(ctx context.Context, obj *unstructured.Unstructured, options metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	return r.Update(ctx, obj, options, "status")
}

// Delete deletes an object.
func (r resource) Delete(ctx context.Context, name string, options metav1.DeleteOptions, subresources ...string) error {
	switch {
	case name == "":
		return errNoName
	case len(subresources) > 0:
		return r.noSubresource(subresources)
	}
	_, err := r.do(ctx, func(k *kind) (*unstructured.Unstructured, error) {
		q := &request{resource: r, kind: k, name: name}
		if err := q.dry(options.DryRun); err != nil {
			return nil, err
		}
		return nil, q.delete(options)
	})
	return err
}

// DeleteCollection deletes the objects that listOptions select.
func (r resource) DeleteCollection(ctx context.Context, options metav1.DeleteOptions, listOptions metav1.ListOptions) error {
	_, err := r.do(ctx, func(k *kind) (*unstructured.Unstructured, error) {
		selects, err := r.selection(listOptions)
		if err != nil {
			return nil, err
		}
		for _, obj := range selects.sorted(r.cluster.store.objects[k.groupResource()]) {
			q := &request{resource: r, kind: k, name: obj.GetName()}
			q.namespace = obj.GetNamespace()
			if err := q.dry(options.DryRun); err != nil {
				return nil, err
			}
			if err := q.delete(options); err != nil && !apierrors.IsNotFound(err) {
				return nil, err
			}
		}
		return nil, nil //nolint:nilnil // there is nothing to return
	})
	return err
}

// Get reads an object.
func (r resource) Get(ctx context.Context, name string, _ metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error) {
	if name == "" {
		return nil, errNoName
	}
	if len(subresources) > 1 || len(subresources) == 1 && subresources[0] != "status" {
		return nil, r.noSubresource(subresources)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return r.get(name)
}

// List reads the objects that opts select.
func (r resource) List(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return r.list(opts)
}

// Watch follows the objects that opts select until it is stopped or ctx ends.
func (r resource) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return r.watch(ctx, opts)
}

// Patch changes an object.
func (r resource) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error) {
	if name == "" {
		return nil, errNoName
	}
	return r.do(ctx, func(k *kind) (*unstructured.Unstructured, error) {
		q := &request{resource: r, kind: k, name: name, manager: options.FieldManager, validation: options.FieldValidation}
		if options.Force != nil {
			q.force = *options.Force
		}
		if err := q.on(subresources, options.DryRun); err != nil {
			return nil, err
		}
		if options.Force != nil && pt != types.ApplyYAMLPatchType {
			return nil, invalidOptions("PatchOptions", "force", "may not be specified for non-apply patch")
		}
		return q.patch(pt, data)
	})
}

// Apply makes an object have the fields of obj, by server-side apply.
func (r resource) Apply(ctx context.Context, name string, obj *unstructured.Unstructured, options metav1.ApplyOptions, subresources ...string) (*unstructured.Unstructured, error) {
	if name == "" {
		return nil, errNoName
	}
	managed := obj.GetManagedFields()
	if len(managed) > 0 { // as the dynamic client does
		return nil, fmt.Errorf(`cannot apply an object with managed fields already set: use the client-go/applyconfigurations "UnstructructuredExtractor" to obtain the unstructured ApplyConfiguration for the given field manager that you can use/modify here to apply`)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	return r.Patch(ctx, name, types.ApplyYAMLPatchType, data, options.ToPatchOptions(), subresources...)
}

// ApplyStatus makes the status of an object have the fields of obj.
func (r resource) ApplyStatus(ctx context.Context, name string, obj *unstructured.Unstructured, options metav1.ApplyOptions) (*unstructured.Unstructured, error) {
	return r.Apply(ctx, name, obj, options, "status")
}

var errNoName = fmt.Errorf("name is required")

// do runs a request that may write. No other runs at the time.
func (r resource) do(ctx context.Context, f func(*kind) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	c := r.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.kind(r.gvr)
	if err != nil {
		return nil, err
	}
	if k.namespaced != (r.namespace != "") && !(k.namespaced && r.namespace == "") {
		return nil, notServed() // a namespace in the path of what has none
	}
	obj, err := f(k)
	if err != nil {
		return nil, asStatus(err)
	}
	c.settle()
	return obj, nil
}

func (r resource) noSubresource(names []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusMethodNotAllowed,
		Reason:  metav1.StatusReasonMethodNotAllowed,
		Message: fmt.Sprintf("the offline cluster has no sub-resource %s of %s, only status", strings.Join(names, "/"), r.gvr.GroupResource()),
		Details: &metav1.StatusDetails{Group: r.gvr.Group, Kind: r.gvr.Resource},
	}}
}

// notServed is the answer to a path that nothing is at.
func notServed() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "404 page not found", 0, true)
}

// asStatus gives an error the form in which it comes from a server: those that
// have no status are internal errors there.
func asStatus(err error) error {
	if status, ok := err.(apierrors.APIStatus); ok {
		return &apierrors.StatusError{ErrStatus: status.Status()}
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonUnknown,
		Message: err.Error(),
	}}
}
