package offline

import (
	"encoding/base64"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// compute sets what no table can: defaults that follow from other fields.
func compute(obj *unstructured.Unstructured) {
	gk := obj.GroupVersionKind().GroupKind()
	switch gk {
	case namespaceKind():
		if obj.GetName() != "" {
			labels := obj.GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			labels["kubernetes.io/metadata.name"] = obj.GetName()
			obj.SetLabels(labels)
		}
	case schema.GroupKind{Kind: "Service"}:
		computeService(obj)
	case schema.GroupKind{Group: "batch", Kind: "Job"}:
		labels, has, _ := unstructured.NestedStringMap(obj.Object, "spec", "template", "metadata", "labels")
		if has && len(obj.GetLabels()) == 0 {
			obj.SetLabels(labels)
		}
	case schema.GroupKind{Kind: "ReplicationController"}:
		labels, has, _ := unstructured.NestedStringMap(obj.Object, "spec", "template", "metadata", "labels")
		if has && len(obj.GetLabels()) == 0 {
			obj.SetLabels(labels)
		}
		if spec, ok := obj.Object["spec"].(map[string]any); has && ok && spec["selector"] == nil {
			selector := map[string]any{}
			for k, v := range labels {
				selector[k] = v
			}
			spec["selector"] = selector
		}
	case schema.GroupKind{Kind: "LimitRange"}:
		computeLimits(obj)
	case crdKind():
		computeNames(obj)
	}
	for _, spec := range podSpecs(obj) {
		computePod(spec, gk.Kind == "Pod")
	}
}

// podSpecs returns the pod specs in an object, which may be modified.
func podSpecs(obj *unstructured.Unstructured) []map[string]any {
	var path []string
	switch obj.GetAPIVersion() + " " + obj.GetKind() {
	case "v1 Pod":
		path = []string{"spec"}
	case "v1 PodTemplate":
		path = []string{"template", "spec"}
	case "v1 ReplicationController", "apps/v1 Deployment", "apps/v1 DaemonSet", "apps/v1 StatefulSet", "apps/v1 ReplicaSet", "batch/v1 Job":
		path = []string{"spec", "template", "spec"}
	case "batch/v1 CronJob":
		path = []string{"spec", "jobTemplate", "spec", "template", "spec"}
	default:
		return nil
	}
	at := obj.Object
	for _, name := range path {
		next, ok := at[name].(map[string]any)
		if !ok {
			return nil
		}
		at = next
	}
	return []map[string]any{at}
}

// computePod sets how images are pulled, what kind of volume one without a
// source is, and, in pods, what is requested by setting a limit.
func computePod(spec map[string]any, isPod bool) {
	host, _ := spec["hostNetwork"].(bool)
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		for _, c := range items(spec[list]) {
			if c["imagePullPolicy"] == nil || c["imagePullPolicy"] == "" {
				image, _ := c["image"].(string)
				c["imagePullPolicy"] = pullPolicy(image)
			}
			if !isPod {
				continue
			}
			requestLimits(c)
			if host && list != "ephemeralContainers" {
				for _, port := range items(c["ports"]) {
					if port["hostPort"] == nil || port["hostPort"] == int64(0) {
						port["hostPort"] = port["containerPort"]
					}
				}
			}
		}
	}
	for _, v := range items(spec["volumes"]) {
		if image, ok := v["image"].(map[string]any); ok && image["pullPolicy"] == nil {
			reference, _ := image["reference"].(string)
			image["pullPolicy"] = pullPolicy(reference)
		}
		if len(v) == 1 && v["name"] != nil {
			v["emptyDir"] = map[string]any{}
		}
	}
}

// requestLimits requests what a container is limited to, unless it says what it
// requests.
func requestLimits(container map[string]any) {
	resources, ok := container["resources"].(map[string]any)
	if !ok {
		return
	}
	limits, ok := resources["limits"].(map[string]any)
	if !ok {
		return
	}
	requests, ok := resources["requests"].(map[string]any)
	if !ok {
		requests = map[string]any{}
		resources["requests"] = requests
	}
	for name, value := range limits {
		if _, has := requests[name]; !has {
			requests[name] = value
		}
	}
}

// pullPolicy is Always for an image of the tag latest, said or not.
func pullPolicy(image string) string {
	rest, _, pinned := strings.Cut(image, "@")
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	_, tag, tagged := strings.Cut(name, ":")
	if tag == "latest" || !tagged && !pinned {
		return "Always"
	}
	return "IfNotPresent"
}

func computeService(obj *unstructured.Unstructured) {
	spec, ok := obj.Object["spec"].(map[string]any)
	if !ok {
		return
	}
	if spec["sessionAffinity"] == "None" {
		delete(spec, "sessionAffinityConfig")
	}
	for _, port := range items(spec["ports"]) {
		if t := port["targetPort"]; t == nil || t == "" || t == int64(0) {
			port["targetPort"] = port["port"]
		}
	}
}

// computeLimits derives the limits and requests of containers from one another.
func computeLimits(obj *unstructured.Unstructured) {
	limits, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "limits")
	for _, limit := range items(limits) {
		if limit["type"] != "Container" {
			continue
		}
		inherit(limit, "default", "max")
		inherit(limit, "defaultRequest", "default")
		inherit(limit, "defaultRequest", "min")
	}
}

func inherit(m map[string]any, to, from string) {
	source, _ := m[from].(map[string]any)
	target, ok := m[to].(map[string]any)
	if !ok {
		target = map[string]any{}
	}
	for k, v := range source {
		if _, has := target[k]; !has {
			target[k] = v
		}
	}
	m[to] = target
}

// computeNames completes the names of a definition.
func computeNames(obj *unstructured.Unstructured) {
	names, ok, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "names")
	m, isMap := names.(map[string]any)
	kind, _ := m["kind"].(string)
	if !ok || !isMap || kind == "" {
		return
	}
	if m["singular"] == nil || m["singular"] == "" {
		m["singular"] = strings.ToLower(kind)
	}
	if m["listKind"] == nil || m["listKind"] == "" {
		m["listKind"] = kind + "List"
	}
}

// alias brings fields that have two names into agreement, as the conversion
// between the API server's own versions of a kind does.
func alias(obj *unstructured.Unstructured, gvk schema.GroupVersionKind) {
	switch {
	case gvk.Group == "" && gvk.Kind == "Secret":
		mergeStringData(obj)
	case gvk.Group == "apps" && gvk.Kind == "DaemonSet":
		const annotation = "deprecated.daemonset.template.generation"
		if annotations := obj.GetAnnotations(); annotations[annotation] == "" && obj.GetName() != "" {
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[annotation] = "0"
			obj.SetAnnotations(annotations)
		}
	}
	if gvk.Group == "apps" && gvk.Kind == "StatefulSet" {
		templates, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "volumeClaimTemplates") // reading reports another type
		for _, template := range items(templates) {
			template["apiVersion"], template["kind"] = "v1", "PersistentVolumeClaim"
		}
	}
	for _, spec := range podSpecs(obj) {
		name := spec["serviceAccountName"]
		if name == nil || name == "" {
			name = spec["serviceAccount"]
		}
		if name != nil && name != "" {
			spec["serviceAccountName"], spec["serviceAccount"] = name, name
		}
	}
}

// mergeStringData moves the text of a Secret into its data.
func mergeStringData(obj *unstructured.Unstructured) {
	text, has, err := unstructured.NestedStringMap(obj.Object, "stringData")
	if !has || err != nil {
		return
	}
	data, ok := obj.Object["data"].(map[string]any)
	if !ok {
		data = map[string]any{}
		obj.Object["data"] = data
	}
	for k, v := range text {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	delete(obj.Object, "stringData")
}

// items returns the items of a list that are maps.
func items(list any) []map[string]any {
	var out []map[string]any
	all, _ := list.([]any)
	for _, item := range all {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}
