package offline

import (
	"maps"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// frozen is a field that cannot be changed once an object exists.
type frozen struct {
	path    string
	message string // "" means that the field is immutable
	at      string // the path that the server names, if it is another
	but     string // names below the path that may change, by space
	open    string // a name below the path that may be set, if it was not
	forbid  bool   // the server says forbidden, not invalid
	set     bool   // it can be set, if it was not
	when    string // only if this field of the old object is true
	unless  string // not if this field of the old object is true
}

const (
	setUpdates = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
	sealed     = "field is immutable when `immutable` is set"
)

// frozenFields are the immutable fields of the kinds that people change most.
func frozenFields() map[schema.GroupKind][]frozen {
	selector := []frozen{{path: "spec.selector"}}
	roleRef := []frozen{{path: "roleRef", message: "cannot change roleRef"}}
	return map[schema.GroupKind][]frozen{
		{Group: "apps", Kind: "Deployment"}: selector,
		{Group: "apps", Kind: "DaemonSet"}:  selector,
		{Group: "apps", Kind: "ReplicaSet"}: selector,
		{Group: "apps", Kind: "StatefulSet"}: {{
			path: "spec", message: setUpdates, forbid: true,
			but: "replicas ordinals template updateStrategy revisionHistoryLimit persistentVolumeClaimRetentionPolicy minReadySeconds",
		}},
		{Group: "apps", Kind: "ControllerRevision"}: {{path: "data"}},
		{Group: "batch", Kind: "Job"}: {
			{path: "spec.selector"}, {path: "spec.completions"}, {path: "spec.completionMode"}, {path: "spec.podFailurePolicy"},
			{path: "spec.backoffLimitPerIndex"}, {path: "spec.managedBy"}, {path: "spec.successPolicy"},
			{path: "spec.template", unless: "spec.suspend"},
		},
		{Kind: "ConfigMap"}: {
			{path: "immutable", message: sealed, forbid: true, when: "immutable"},
			{path: "data", message: sealed, forbid: true, when: "immutable"},
			{path: "binaryData", message: sealed, forbid: true, when: "immutable"},
		},
		{Kind: "Secret"}: {
			{path: "type"},
			{path: "immutable", message: sealed, forbid: true, when: "immutable"},
			{path: "data", message: sealed, forbid: true, when: "immutable"},
		},
		{Kind: "PersistentVolumeClaim"}: {{
			path: "spec", forbid: true, but: "resources volumeAttributesClassName volumeName", open: "storageClassName",
			message: "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
		}},
		{Kind: "PersistentVolume"}: {
			{path: "spec.volumeMode", at: "volumeMode"},
			{
				path: "spec", at: "spec.persistentvolumesource", forbid: true, message: "spec.persistentvolumesource is immutable after creation",
				but: "capacity accessModes claimRef persistentVolumeReclaimPolicy storageClassName mountOptions volumeMode nodeAffinity volumeAttributesClassName",
			},
		},
		{Kind: "Pod"}: {{
			path: "spec", forbid: true, but: "containers initContainers activeDeadlineSeconds tolerations terminationGracePeriodSeconds",
			message: "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
		}},
		{Kind: "Service"}: {
			{path: "spec.clusterIP", at: "spec.clusterIPs[0]", message: "may not change once set", set: true},
			{path: "spec.loadBalancerClass", message: "may not change once set", set: true},
		},
		{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:        roleRef,
		{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: roleRef,
		{Group: "storage.k8s.io", Kind: "StorageClass"}:                  {{path: "parameters"}, {path: "provisioner"}, {path: "reclaimPolicy"}, {path: "volumeBindingMode"}},
		{Group: "storage.k8s.io", Kind: "VolumeAttachment"}:              {{path: "spec"}},
		{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}:         {{path: "driverName", message: "updates to driverName are forbidden.", forbid: true}, {path: "parameters", message: "updates to parameters are forbidden.", forbid: true}},
		{Group: "storage.k8s.io", Kind: "CSIDriver"}:                     {{path: "spec.attachRequired", at: "spec.attachedRequired"}, {path: "spec.volumeLifecycleModes"}},
		{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:              {{path: "value", message: "may not be changed in an update.", forbid: true}, {path: "preemptionPolicy"}},
		{Group: "networking.k8s.io", Kind: "IngressClass"}:               {{path: "spec.controller"}},
		{Group: "node.k8s.io", Kind: "RuntimeClass"}:                     {{path: "handler"}},
		{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:               {{path: "addressType"}},
	}
}

// unfrozen returns the changes of fields that cannot be changed.
func (q *request) unfrozen(obj, old *unstructured.Unstructured) field.ErrorList {
	if q.subresource != "" {
		return nil
	}
	var errs field.ErrorList
	for _, f := range q.cluster.frozen[q.kind.gvk.GroupKind()] {
		if err := f.check(obj, old); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (f frozen) check(obj, old *unstructured.Unstructured) *field.Error {
	if f.when != "" && !isTrue(old, f.when) || f.unless != "" && isTrue(old, f.unless) {
		return nil
	}
	before, was := at(old, f.path)
	after, _ := at(obj, f.path)
	if old, ok := before.(map[string]any); ok && f.open != "" && old[f.open] == nil {
		f.but += " " + f.open
	}
	if f.set && !was || reflect.DeepEqual(f.without(before), f.without(after)) {
		return nil
	}
	path, message := f.at, f.message
	if path == "" {
		path = f.path
	}
	if message == "" {
		message = "field is immutable"
	}
	if f.forbid {
		return field.Forbidden(field.NewPath(path), message)
	}
	if obj.GetKind() == "Secret" && path == "data" {
		after = field.OmitValueType{}
	}
	return field.Invalid(field.NewPath(path), after, message)
}

// without leaves out what may change.
func (f frozen) without(v any) any {
	m, ok := v.(map[string]any)
	if !ok || f.but == "" {
		return v
	}
	m = maps.Clone(m)
	for name := range strings.FieldsSeq(f.but) {
		delete(m, name)
	}
	return m
}

func at(obj *unstructured.Unstructured, path string) (any, bool) {
	v, has, err := unstructured.NestedFieldNoCopy(obj.Object, strings.Split(path, ".")...)
	return v, has && err == nil && v != nil && v != ""
}

func isTrue(obj *unstructured.Unstructured, path string) bool {
	v, _ := at(obj, path)
	return v == true
}
