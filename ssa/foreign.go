package ssa

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// foreign names whoever else has marked an object as its own; empty if nobody.
func (c *Client) foreign(live *unstructured.Unstructured) string {
	if c.Owner.Owns(live) {
		return "" // marks of others are from before it was handed over
	}
	labels, annotations := live.GetLabels(), live.GetAnnotations()
	own := c.Owner.group()
	for _, group := range []string{own, "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"} {
		other := Owner{Name: labels[group+"/name"], Namespace: labels[group+"/namespace"]}
		if other.Name == "" {
			continue
		}
		what := "owner"
		switch group {
		case "kustomize.toolkit.fluxcd.io":
			what = "Kustomization"
		case "helm.toolkit.fluxcd.io":
			what = "HelmRelease"
		}
		return what + " " + other.String()
	}
	switch {
	case annotations["meta.helm.sh/release-name"] != "":
		return "Helm release " + annotations["meta.helm.sh/release-namespace"] + "/" + annotations["meta.helm.sh/release-name"]
	case annotations["argocd.argoproj.io/tracking-id"] != "":
		app, _, _ := strings.Cut(annotations["argocd.argoproj.io/tracking-id"], ":")
		return "Argo CD application " + app
	case labels["argocd.argoproj.io/instance"] != "":
		return "Argo CD application " + labels["argocd.argoproj.io/instance"]
	case labels[applySetPartOf] != "" && labels[applySetPartOf] != c.applySet():
		return "ApplySet " + labels[applySetPartOf]
	case annotations["config.k8s.io/owning-inventory"] != "":
		return "inventory " + annotations["config.k8s.io/owning-inventory"]
	}
	return ""
}

// admit applies the policy for objects of others, and reports whether the item
// may go on.
func (p *plan) admit(it *item, live *unstructured.Unstructured, change *Change) bool {
	if live == nil || p.client.Policy.Foreign == ForeignTake {
		return true
	}
	other := p.client.foreign(live)
	if other == "" {
		return true
	}
	change.Foreign = other
	if p.client.Policy.Foreign == ForeignWarn {
		return true
	}
	change.Action = Failed
	change.Err = objectError("validate", it.id, fmt.Errorf("%w: it belongs to %s: remove it there first, or allow %s to take it over", ErrForeign, other, p.client.Owner))
	return false
}
