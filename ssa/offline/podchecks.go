package offline

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podFaults finds the commonest faults of a pod's spec.
func podFaults(spec map[string]any, obj *unstructured.Unstructured) field.ErrorList {
	errs := mounts(spec, obj)
	if kind := obj.GetKind(); (kind == "Job" || kind == "CronJob") && spec["restartPolicy"] == "Always" {
		errs = append(errs, field.Required(field.NewPath("spec", "restartPolicy"), `valid values: "OnFailure", "Never"`))
	}
	names := map[any]bool{}
	for _, list := range []string{"initContainers", "containers"} {
		for i, c := range items(spec[list]) {
			path := field.NewPath("spec", list).Index(i)
			if image, _ := c["image"].(string); image == "" { // the schema reports another type
				errs = append(errs, field.Required(path.Child("image"), ""))
			}
			if names[c["name"]] {
				errs = append(errs, field.Duplicate(path.Child("name"), c["name"]))
			}
			names[c["name"]] = true
			for j, port := range items(c["ports"]) {
				if n, _ := port["containerPort"].(int64); n < 1 || n > 65535 { // likewise
					errs = append(errs, field.Invalid(path.Child("ports").Index(j).Child("containerPort"), n, "must be between 1 and 65535, inclusive"))
				}
			}
		}
	}
	return errs
}

// mounts checks that containers have names of their own and mount volumes that
// there are.
func mounts(spec map[string]any, obj *unstructured.Unstructured) field.ErrorList {
	volumes := map[any]bool{}
	for _, v := range items(spec["volumes"]) {
		volumes[v["name"]] = true
	}
	templates, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "volumeClaimTemplates") // only some kinds have it
	for _, v := range items(templates) {
		name, _, _ := unstructured.NestedString(v, "metadata", "name") // the schema reports another type
		volumes[name] = true
	}
	var errs field.ErrorList
	for _, list := range []string{"initContainers", "containers"} {
		for i, c := range items(spec[list]) {
			for j, m := range items(c["volumeMounts"]) {
				if !volumes[m["name"]] {
					path := field.NewPath(fmt.Sprintf("%s[%d]", list, i)).Child("volumeMounts").Index(j).Child("name")
					errs = append(errs, field.NotFound(path, m["name"]))
				}
			}
		}
	}
	return errs
}
