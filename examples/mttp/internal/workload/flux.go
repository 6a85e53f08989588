package workload

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/source/oci"
)

// Sources is the kind of the sources.
func Sources() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "ocirepositories"}
}

// Consumers is the kind of the objects that deploy the apps.
func (k Kind) Consumers() schema.GroupVersionResource {
	if k == Helm {
		return schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}
	}
	return schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}
}

// long is an interval in which no run ends, so that nothing is reconciled that
// was not asked for.
const long = "24h"

// Source is the object that reads an app from the registry.
func (r *Repository) Source(kind Kind, namespace, name string) *unstructured.Unstructured {
	spec := map[string]any{
		"interval": long, "insecure": true, "url": oci.Scheme + r.Host + "/" + name,
		"ref": map[string]any{"tag": Tag},
	}
	if kind == Helm {
		spec["layerSelector"] = map[string]any{"mediaType": oci.ChartMediaType, "operation": "copy"}
	}
	return object(Sources(), "OCIRepository", namespace, name, spec)
}

// Consumer is the object that deploys an app and waits until it is ready.
func (k Kind) Consumer(namespace, name string) *unstructured.Unstructured {
	if k == Helm {
		return object(k.Consumers(), "HelmRelease", namespace, name, map[string]any{
			"interval": long, "timeout": "5m",
			"chartRef": map[string]any{"kind": "OCIRepository", "name": name},
		})
	}
	return object(k.Consumers(), "Kustomization", namespace, name, map[string]any{
		"interval": long, "retryInterval": "30s", "timeout": "5m", "prune": true, "wait": true, "path": "./",
		"targetNamespace": namespace,
		"sourceRef":       map[string]any{"kind": "OCIRepository", "name": name},
	})
}

func object(gvr schema.GroupVersionResource, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gvr.GroupVersion().String(), "kind": kind,
		"metadata": map[string]any{"namespace": namespace, "name": name},
		"spec":     spec,
	}}
}
