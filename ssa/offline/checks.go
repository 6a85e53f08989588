package offline

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// semantic finds the commonest faults of built-in kinds that no schema states:
// the rest of what the API server's code checks is not known here.
func (q *request) semantic(obj *unstructured.Unstructured) field.ErrorList {
	gvk := q.kind.gvk
	var errs field.ErrorList
	for _, required := range requiredLists()[gvk.Group+"/"+gvk.Kind] {
		errs = append(errs, required.check(obj.Object, nil)...)
	}
	switch gvk.Group + "/" + gvk.Kind {
	case "apps/Deployment", "apps/DaemonSet", "apps/StatefulSet", "apps/ReplicaSet":
		errs = append(errs, selects(obj)...)
		errs = append(errs, recreates(obj)...)
	case "/Service":
		errs = append(errs, servicePorts(obj)...)
	case "/PersistentVolumeClaim":
		errs = append(errs, storage(obj)...)
	case "rbac.authorization.k8s.io/RoleBinding", "rbac.authorization.k8s.io/ClusterRoleBinding":
		errs = append(errs, roleRef(obj)...)
	}
	for _, spec := range podSpecs(obj) {
		errs = append(errs, podFaults(spec, obj)...)
	}
	return errs
}

// need is a list that must not be empty.
type need struct {
	path   []step
	unless string // another field beside it
}

func requiredLists() map[string][]need {
	rbac := []need{{path: parsePath("rules[].verbs")}, {path: parsePath("rules[].apiGroups"), unless: "nonResourceURLs"}, {path: parsePath("rules[].resources"), unless: "nonResourceURLs"}}
	webhook := []need{{path: parsePath("webhooks[].rules[].operations")}, {path: parsePath("webhooks[].rules[].resources")}, {path: parsePath("webhooks[].rules[].apiGroups")}, {path: parsePath("webhooks[].rules[].apiVersions")}, {path: parsePath("webhooks[].admissionReviewVersions")}}
	volume := []need{{path: parsePath("spec.accessModes")}}
	match := []need{{path: parsePath("spec.matchConstraints.resourceRules[].operations")}, {path: parsePath("spec.matchConstraints.resourceRules[].resources")}, {path: parsePath("spec.matchConstraints.resourceRules[].apiGroups")}, {path: parsePath("spec.matchConstraints.resourceRules[].apiVersions")}}
	return map[string][]need{
		"rbac.authorization.k8s.io/Role":                              rbac,
		"rbac.authorization.k8s.io/ClusterRole":                       rbac,
		"admissionregistration.k8s.io/MutatingWebhookConfiguration":   webhook,
		"admissionregistration.k8s.io/ValidatingWebhookConfiguration": webhook,
		"admissionregistration.k8s.io/ValidatingAdmissionPolicy":      match,
		"admissionregistration.k8s.io/MutatingAdmissionPolicy":        match,
		"/PersistentVolume":      volume,
		"/PersistentVolumeClaim": volume,
		"/Pod":                   {{path: parsePath("spec.containers")}},
		"apps/Deployment":        {{path: parsePath("spec.template.spec.containers")}},
		"apps/DaemonSet":         {{path: parsePath("spec.template.spec.containers")}},
		"apps/StatefulSet":       {{path: parsePath("spec.template.spec.containers")}},
		"apps/ReplicaSet":        {{path: parsePath("spec.template.spec.containers")}},
		"batch/Job":              {{path: parsePath("spec.template.spec.containers")}},
		"batch/CronJob":          {{path: parsePath("spec.jobTemplate.spec.template.spec.containers")}},
	}
}

func (n need) check(m map[string]any, at *field.Path) field.ErrorList {
	s := n.path[0]
	child := field.NewPath(s.name)
	if at != nil {
		child = at.Child(s.name)
	}
	if len(n.path) == 1 {
		list, _ := m[s.name].([]any) // another type is reported by the schema
		if other, _ := m[n.unless].([]any); len(list) > 0 || len(other) > 0 {
			return nil
		}
		return field.ErrorList{field.Required(child, "")}
	}
	rest := need{path: n.path[1:], unless: n.unless}
	if !s.each {
		next, ok := m[s.name].(map[string]any)
		if !ok {
			return nil
		}
		return rest.check(next, child)
	}
	var errs field.ErrorList
	for i, item := range items(m[s.name]) {
		errs = append(errs, rest.check(item, child.Index(i))...)
	}
	return errs
}

// selects checks that a workload selects its own pods.
func selects(obj *unstructured.Unstructured) field.ErrorList {
	want, _, err := unstructured.NestedStringMap(obj.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return nil // the schema reports it
	}
	selector, _, _ := unstructured.NestedMap(obj.Object, "spec", "selector")
	if len(selector) == 0 {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "selector"), field.OmitValueType{}, "empty selector is invalid for "+obj.GetKind())}
	}
	have, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "template", "metadata", "labels") // likewise
	for key, value := range want {
		if got, ok := have[key]; !ok || got != value {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "template", "metadata", "labels"), have, "`selector` does not match template `labels`")}
		}
	}
	return nil
}

// servicePorts checks that a service has ports that are some.
func servicePorts(obj *unstructured.Unstructured) field.ErrorList {
	spec, _ := obj.Object["spec"].(map[string]any) // the schema reports another type
	if name, _ := spec["externalName"].(string); spec["type"] == "ExternalName" && name == "" {
		return field.ErrorList{field.Required(field.NewPath("spec", "externalName"), "")}
	}
	ports := items(spec["ports"])
	path := field.NewPath("spec", "ports")
	if len(ports) == 0 && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for i, port := range ports {
		if name, _ := port["name"].(string); name == "" && len(ports) > 1 {
			errs = append(errs, field.Required(path.Index(i).Child("name"), ""))
		}
		if n, ok := port["port"].(int64); ok && (n < 1 || n > 65535) {
			errs = append(errs, field.Invalid(path.Index(i).Child("port"), n, "must be between 1 and 65535, inclusive"))
		}
	}
	return errs
}

// roleRef checks that a binding is of kinds that there are.
func roleRef(obj *unstructured.Unstructured) field.ErrorList {
	const group = "rbac.authorization.k8s.io"
	var errs field.ErrorList
	kind, _, _ := unstructured.NestedString(obj.Object, "roleRef", "kind") // the schema reports another type
	if kind != "ClusterRole" && (kind != "Role" || obj.GetKind() != "RoleBinding") {
		errs = append(errs, field.NotSupported(field.NewPath("roleRef", "kind"), kind, []string{"Role", "ClusterRole"}))
	}
	if of, _, _ := unstructured.NestedString(obj.Object, "roleRef", "apiGroup"); of != group { // likewise
		errs = append(errs, field.NotSupported(field.NewPath("roleRef", "apiGroup"), of, []string{group}))
	}
	kinds := []string{"ServiceAccount", "User", "Group"}
	for i, subject := range items(obj.Object["subjects"]) {
		if kind, ok := subject["kind"].(string); ok && !slices.Contains(kinds, kind) {
			errs = append(errs, field.NotSupported(field.NewPath("subjects").Index(i).Child("kind"), kind, kinds))
		}
	}
	return errs
}

// recreates checks that a Deployment has one strategy.
func recreates(obj *unstructured.Unstructured) field.ErrorList {
	kind, _, _ := unstructured.NestedString(obj.Object, "spec", "strategy", "type") // the schema reports another type
	_, rolling, _ := unstructured.NestedMap(obj.Object, "spec", "strategy", "rollingUpdate")
	if kind != "Recreate" || !rolling {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "strategy", "rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
}

// storage checks that a claim asks for some.
func storage(obj *unstructured.Unstructured) field.ErrorList {
	requests, _, _ := unstructured.NestedMap(obj.Object, "spec", "resources", "requests") // the schema reports another type
	if requests["storage"] != nil {
		return nil
	}
	return field.ErrorList{field.Required(field.NewPath("spec", "resources").Key("storage"), "")}
}
