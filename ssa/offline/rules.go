package offline

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func crdKind() schema.GroupKind {
	return schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
}

func crdResource() schema.GroupResource {
	return schema.GroupResource{Group: crdKind().Group, Resource: "customresourcedefinitions"}
}

func namespaceKind() schema.GroupKind { return schema.GroupKind{Kind: "Namespace"} }

// rule is what the API server's code says about a built-in kind.
type rule struct {
	// generation: metadata.generation counts the changes of what is neither
	// metadata nor status.
	generation bool
	labels     bool // are counted, too
	fromZero   bool // a new object has no generation yet
	exact      bool // no list is another thing than an empty one
	// statusResets are the paths that a request to the status cannot set; nil
	// means spec.
	statusResets []string
	// versioned: an update must name the resource version it is based on.
	versioned bool
	// orphans: a deletion that does not say otherwise leaves dependents.
	orphans bool
	// prepare completes an object; old is nil for a new one.
	prepare func(q *request, obj, old *unstructured.Unstructured)
}

// rules are the rules of all built-in kinds that have some.
func rules() map[schema.GroupKind]rule {
	return map[schema.GroupKind]rule{
		{Group: "apps", Kind: "Deployment"}:                                               {generation: true, statusResets: []string{"spec", "metadata.labels"}},
		{Group: "apps", Kind: "DaemonSet"}:                                                {generation: true, prepare: prepareDaemonSet},
		{Group: "apps", Kind: "StatefulSet"}:                                              {generation: true},
		{Group: "apps", Kind: "ReplicaSet"}:                                               {generation: true},
		{Group: "batch", Kind: "Job"}:                                                     {generation: true, orphans: true, prepare: prepareJob},
		{Group: "batch", Kind: "CronJob"}:                                                 {generation: true},
		{Kind: "Namespace"}:                                                               {prepare: prepareNamespace},
		{Kind: "PersistentVolume"}:                                                        {prepare: preparePersistentVolume},
		{Kind: "PersistentVolumeClaim"}:                                                   {prepare: phase("Pending")},
		{Kind: "Pod"}:                                                                     {generation: true, statusResets: []string{"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"}, prepare: preparePod},
		{Kind: "PodTemplate"}:                                                             {generation: true},
		{Kind: "ReplicationController"}:                                                   {generation: true, orphans: true},
		{Kind: "Service"}:                                                                 {prepare: prepareService},
		{Group: "coordination.k8s.io", Kind: "Lease"}:                                     {versioned: true},
		{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:                                {generation: true, labels: true},
		{Group: "networking.k8s.io", Kind: "Ingress"}:                                     {generation: true},
		{Group: "networking.k8s.io", Kind: "IngressClass"}:                                {generation: true},
		{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                               {generation: true, exact: true},
		{Group: "networking.k8s.io", Kind: "ServiceCIDR"}:                                 {statusResets: []string{"metadata", "spec"}},
		{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                      {versioned: true},
		{Group: "policy", Kind: "PodDisruptionBudget"}:                                    {generation: true, versioned: true},
		{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                               {generation: true},
		{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                      {versioned: true, generation: true, fromZero: true},
		{Group: "storage.k8s.io", Kind: "CSINode"}:                                        {versioned: true},
		{Group: "storage.k8s.io", Kind: "CSIStorageCapacity"}:                             {versioned: true},
		{Group: "storage.k8s.io", Kind: "VolumeAttachment"}:                               {versioned: true, statusResets: []string{"metadata", "spec"}},
		{Group: "resource.k8s.io", Kind: "DeviceClass"}:                                   {generation: true},
		{Group: "resource.k8s.io", Kind: "ResourceSlice"}:                                 {generation: true},
		{Group: "resource.k8s.io", Kind: "ResourceClaim"}:                                 {statusResets: []string{"metadata", "spec"}},
		{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}:                       {generation: true, statusResets: []string{"metadata", "spec"}},
		{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}:       {generation: true, statusResets: []string{"metadata", "spec"}},
		{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     {generation: true, exact: true, versioned: true},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   {generation: true, exact: true, versioned: true},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        {generation: true, versioned: true, statusResets: []string{"metadata", "spec"}},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: {generation: true, versioned: true},
		{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          {generation: true, versioned: true},
		{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   {generation: true, versioned: true},
		crdKind(): {generation: true, versioned: true, prepare: prepareDefinition},
	}
}

// needsVersion reports a kind whose updates must say what they are based on.
func needsVersion(k *kind) bool { return k.custom || k.rule.versioned }

// resets are the paths of a kind that a request cannot set.
func resets(k *kind, subresource string) []fieldpath.Path {
	var names []string
	switch {
	case !k.status:
	case subresource == "":
		names = []string{"status"}
	case k.custom:
		names = []string{"metadata", "spec"}
	default:
		names = statusResets(k)
	}
	var out []fieldpath.Path
	for _, name := range names {
		var path fieldpath.Path
		for part := range strings.SplitSeq(name, ".") {
			path = append(path, fieldpath.PathElement{FieldName: &part})
		}
		out = append(out, path)
	}
	return out
}

func statusResets(k *kind) []string {
	if names := k.rule.statusResets; names != nil {
		return names
	}
	return []string{"spec"}
}

// beforeCreate completes a new object as the API server does after it has
// noted who owns what.
func (q *request) beforeCreate(obj *unstructured.Unstructured) {
	f := q.kind.rule
	if q.kind.status {
		delete(obj.Object, "status")
	}
	unstructured.RemoveNestedField(obj.Object, "metadata", "generation")
	if f.generation && !f.fromZero || q.kind.custom {
		obj.SetGeneration(1)
	}
	if f.prepare != nil {
		f.prepare(q, obj, nil)
	}
	q.cluster.keep(q.kind, obj)
}

// beforeUpdate completes the next state of an object.
func (q *request) beforeUpdate(obj, old *unstructured.Unstructured) {
	f := q.kind.rule
	switch {
	case q.subresource == "status" && q.kind.custom:
		status, has := obj.Object["status"]
		managed := obj.GetManagedFields()
		version := obj.GetResourceVersion()
		obj.Object = old.DeepCopy().Object
		obj.SetManagedFields(managed)
		obj.SetResourceVersion(version)
		delete(obj.Object, "status")
		if has {
			obj.Object["status"] = status
		}
		return
	case q.subresource == "status":
		managed := obj.GetManagedFields()
		for _, name := range statusResets(q.kind) {
			restore(obj, old, strings.Split(name, ".")...)
		}
		obj.SetManagedFields(managed)
		q.cluster.keep(q.kind, obj)
		return
	case q.kind.status:
		restore(obj, old, "status")
	}
	if f.prepare != nil {
		f.prepare(q, obj, old)
	}
	changed := f.exact && q.counts(obj, old)
	q.cluster.keep(q.kind, obj)
	if (f.generation || q.kind.custom) && (changed || q.counts(obj, old)) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// restore gives a field the value that it had.
func restore(obj, old *unstructured.Unstructured, path ...string) {
	value, has, _ := unstructured.NestedFieldCopy(old.Object, path...)
	if !has {
		unstructured.RemoveNestedField(obj.Object, path...)
		return
	}
	if err := unstructured.SetNestedField(obj.Object, value, path...); err != nil {
		return // what is above it is no map, which validation reports
	}
}

// counts reports a change that metadata.generation counts.
func (q *request) counts(obj, old *unstructured.Unstructured) bool {
	gk := q.kind.gvk.GroupKind()
	if gk.Kind == "PriorityClass" {
		return false
	}
	if gk.Group == "apps" && gk.Kind == "Deployment" && !maps.Equal(obj.GetAnnotations(), old.GetAnnotations()) {
		return true
	}
	if q.kind.rule.labels && !maps.Equal(obj.GetLabels(), old.GetLabels()) {
		return true
	}
	return !reflect.DeepEqual(counted(obj, q.kind), counted(old, q.kind))
}

// counted is the part of an object whose changes count.
func counted(obj *unstructured.Unstructured, k *kind) map[string]any {
	out := maps.Clone(obj.Object)
	delete(out, "metadata")
	if !k.custom {
		delete(out, "status")
	}
	return out
}

// phase returns what gives a new object its phase.
func phase(name string) func(*request, *unstructured.Unstructured, *unstructured.Unstructured) {
	return func(_ *request, obj, old *unstructured.Unstructured) {
		if old == nil {
			obj.Object["status"] = map[string]any{"phase": name}
		}
	}
}

func prepareNamespace(_ *request, obj, old *unstructured.Unstructured) {
	if old != nil {
		restore(obj, old, "spec", "finalizers")
		return
	}
	obj.Object["status"] = map[string]any{"phase": "Active"}
	finalizers, _, _ := unstructured.NestedStringSlice(obj.Object, "spec", "finalizers")
	if !slices.Contains(finalizers, "kubernetes") {
		finalizers = append(finalizers, "kubernetes")
	}
	obj.Object["spec"] = map[string]any{"finalizers": anySlice(finalizers)}
}

func preparePersistentVolume(_ *request, obj, old *unstructured.Unstructured) {
	if old == nil {
		obj.Object["status"] = map[string]any{"phase": "Pending", "lastPhaseTransitionTime": time.Now().UTC().Format(time.RFC3339)}
	}
}

// prepareDaemonSet counts the changes of the template in an annotation.
func prepareDaemonSet(_ *request, obj, old *unstructured.Unstructured) {
	const annotation = "deprecated.daemonset.template.generation"
	generation := int64(1)
	if old != nil {
		if n, err := strconv.ParseInt(old.GetAnnotations()[annotation], 10, 64); err == nil {
			generation = n
		}
		before, _, _ := unstructured.NestedFieldNoCopy(old.Object, "spec", "template")
		after, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "template")
		if !reflect.DeepEqual(before, after) {
			generation++
		}
	}
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotation] = strconv.FormatInt(generation, 10)
	obj.SetAnnotations(annotations)
}

// prepareJob makes the selector and the labels that tie pods to their job.
func prepareJob(_ *request, obj, old *unstructured.Unstructured) {
	manual, _, _ := unstructured.NestedBool(obj.Object, "spec", "manualSelector")
	if old != nil || manual {
		return
	}
	uid := string(obj.GetUID())
	labels, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "template", "metadata", "labels")
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range map[string]string{
		"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid,
		"batch.kubernetes.io/job-name": obj.GetName(), "job-name": obj.GetName(),
	} {
		labels[key] = value
	}
	if unstructured.SetNestedStringMap(obj.Object, labels, "spec", "template", "metadata", "labels") != nil {
		return // no template, which validation reports
	}
	selector, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "selector", "matchLabels")
	if selector == nil {
		selector = map[string]string{}
	}
	selector["batch.kubernetes.io/controller-uid"] = uid
	if spec, ok := obj.Object["spec"].(map[string]any); ok {
		if spec["selector"] == nil {
			spec["selector"] = map[string]any{}
		}
		if err := unstructured.SetNestedStringMap(spec, selector, "selector", "matchLabels"); err != nil {
			return // as above
		}
	}
}

func anySlice[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}
