package offline

import (
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// prepareService gives a service its address and ports, and takes those that
// its type does not have.
func prepareService(q *request, obj, old *unstructured.Unstructured) {
	spec, ok := obj.Object["spec"].(map[string]any)
	if !ok {
		return
	}
	kind := spec["type"]
	if kind == "ExternalName" {
		for _, name := range []string{"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"} {
			delete(spec, name)
		}
		return
	}
	if old != nil {
		dropByType(spec, old)
		for _, name := range []string{"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} {
			if _, set := spec[name]; !set {
				restore(obj, old, "spec", name)
			}
		}
	}
	if spec["clusterIP"] == nil || spec["clusterIP"] == "" {
		spec["clusterIP"] = q.cluster.address(q.dryRun)
	}
	families, policy := []any{"IPv4"}, "SingleStack"
	if selector, _ := spec["selector"].(map[string]any); spec["clusterIP"] == "None" && len(selector) == 0 {
		families, policy = []any{"IPv4", "IPv6"}, "RequireDualStack" // whoever adds addresses may have any
	}
	for name, value := range map[string]any{"clusterIPs": []any{spec["clusterIP"]}, "ipFamilies": families, "ipFamilyPolicy": policy} {
		if spec[name] == nil {
			spec[name] = value
		}
	}
	ports, _ := spec["ports"].([]any) // none is allowed for a headless service
	for _, p := range ports {
		port, ok := p.(map[string]any)
		if !ok {
			continue
		}
		exposed := kind == "NodePort" || kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false
		if exposed && (port["nodePort"] == nil || port["nodePort"] == int64(0)) {
			port["nodePort"] = q.cluster.nodePort(q.dryRun)
		}
	}
}

// dropByType takes what only the former type of a service has, if it is as it
// was: a client that changes the type need not know all that belongs to it.
func dropByType(spec map[string]any, old *unstructured.Unstructured) {
	before, _ := old.Object["spec"].(map[string]any) // it is a valid service
	had, has := before["type"], spec["type"]
	drop := func(names ...string) {
		for _, name := range names {
			if reflect.DeepEqual(spec[name], before[name]) {
				delete(spec, name)
			}
		}
	}
	if had == "LoadBalancer" && has != "LoadBalancer" {
		drop("allocateLoadBalancerNodePorts", "loadBalancerClass")
	}
	exposed := func(kind any) bool { return kind == "LoadBalancer" || kind == "NodePort" }
	if !exposed(had) || exposed(has) {
		return
	}
	if externalIPs, _ := spec["externalIPs"].([]any); len(externalIPs) == 0 {
		drop("externalTrafficPolicy")
	}
	was := items(before["ports"])
	for i, port := range items(spec["ports"]) {
		if i < len(was) && port["nodePort"] == was[i]["nodePort"] {
			delete(port, "nodePort")
		}
	}
}
