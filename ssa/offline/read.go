package offline

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// get reads one object.
func (r resource) get(name string) (*unstructured.Unstructured, error) {
	c := r.cluster
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, err := c.kind(r.gvr)
	if err != nil {
		return nil, err
	}
	obj := c.store.get(k.groupResource(), types.NamespacedName{Namespace: r.namespace, Name: name})
	if obj == nil {
		return nil, apierrors.NewNotFound(k.groupResource(), name)
	}
	return c.present(k, obj), nil
}

// list reads the objects that opts select, in the order of namespace and name.
func (r resource) list(opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	c := r.cluster
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, err := c.kind(r.gvr)
	if err != nil {
		return nil, err
	}
	selects, err := r.selection(opts)
	if err != nil {
		return nil, err
	}
	from := position{Version: c.store.version}
	if opts.Continue != "" {
		if from, err = parsePosition(opts.Continue); err != nil {
			return nil, err
		}
	} else if opts.ResourceVersion != "" {
		version, err := c.parseVersion(opts.ResourceVersion)
		if err != nil {
			return nil, err
		}
		if opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
			from.Version = version
		}
	}
	objects, ok := c.store.at(k.groupResource(), from.Version)
	if !ok {
		return nil, apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result: list again without it")
	}
	found := selects.sorted(objects)
	if opts.Continue != "" {
		i, _ := slices.BinarySearchFunc(found, from, func(obj *unstructured.Unstructured, p position) int {
			return cmp.Or(cmp.Compare(obj.GetNamespace(), p.Namespace), cmp.Compare(obj.GetName(), p.Name))
		})
		found = found[i:]
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{}}
	list.SetGroupVersionKind(k.gvk.GroupVersion().WithKind(k.listKind))
	list.SetResourceVersion(strconv.FormatUint(from.Version, 10))
	if opts.Limit > 0 && int64(len(found)) > opts.Limit {
		next := position{Version: from.Version, Namespace: found[opts.Limit].GetNamespace(), Name: found[opts.Limit].GetName()}
		rest := int64(len(found)) - opts.Limit
		list.SetContinue(next.String())
		list.SetRemainingItemCount(&rest)
		found = found[:opts.Limit]
	}
	list.Items = make([]unstructured.Unstructured, len(found))
	for i, obj := range found {
		list.Items[i] = *c.present(k, obj)
	}
	return list, nil
}

// position is where a list in pieces goes on, and in what state of the cluster.
type position struct {
	Version   uint64 `json:"v"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
}

func (p position) String() string {
	data, err := json.Marshal(p)
	if err != nil {
		return "" // strings and a number always can be
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func parsePosition(token string) (position, error) {
	var p position
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, apierrors.NewBadRequest("continue key is not valid: " + err.Error())
	}
	return p, nil
}

// selection is what a list, a watch or a deletion of many is about.
type selection struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func (r resource) selection(opts metav1.ListOptions) (selection, error) {
	s := selection{namespace: r.namespace}
	var err error
	if s.labels, err = labels.Parse(opts.LabelSelector); err != nil {
		return s, apierrors.NewBadRequest("unable to parse requirement: " + err.Error())
	}
	if s.fields, err = fields.ParseSelector(opts.FieldSelector); err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	for _, requirement := range s.fields.Requirements() {
		if requirement.Field != "metadata.name" && requirement.Field != "metadata.namespace" {
			return s, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s: the offline cluster selects by metadata.name and metadata.namespace", requirement.Field))
		}
	}
	return s, nil
}

func (s selection) matches(obj *unstructured.Unstructured) bool {
	return (s.namespace == "" || obj.GetNamespace() == s.namespace) &&
		(s.labels == nil || s.labels.Empty() || s.labels.Matches(labels.Set(obj.GetLabels()))) &&
		(s.fields == nil || s.fields.Empty() || s.fields.Matches(fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()}))
}

// sorted returns the objects of the selection by namespace and name.
func (s selection) sorted(objects map[types.NamespacedName]*unstructured.Unstructured) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, obj := range objects {
		if s.matches(obj) {
			out = append(out, obj)
		}
	}
	slices.SortFunc(out, byName)
	return out
}

func byName(a, b *unstructured.Unstructured) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}
