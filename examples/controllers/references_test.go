package controllers_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// Every kind that can name an object of another namespace, in the namespace of the tenant.
const referring = `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: source, namespace: TENANT, labels: LABELS}
spec: {interval: 1h, prune: true, sourceRef: {kind: GitRepository, name: app, namespace: OTHER}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: depends, namespace: TENANT, labels: LABELS}
spec: {interval: 1h, prune: true, sourceRef: {kind: GitRepository, name: app}, dependsOn: [{name: app, namespace: OTHER}]}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: chart, namespace: TENANT, labels: LABELS}
spec: {interval: 1h, chart: {spec: {chart: app, sourceRef: {kind: HelmRepository, name: app, namespace: OTHER}}}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: chartref, namespace: TENANT, labels: LABELS}
spec: {interval: 1h, chartRef: {kind: OCIRepository, name: app, namespace: OTHER}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: depends, namespace: TENANT, labels: LABELS}
spec: {interval: 1h, chartRef: {kind: OCIRepository, name: app}, dependsOn: [{name: app, namespace: OTHER}]}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImagePolicy
metadata: {name: app, namespace: TENANT, labels: LABELS}
spec: {imageRepositoryRef: {name: app, namespace: OTHER}, policy: {alphabetical: {}}}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageUpdateAutomation
metadata: {name: app, namespace: TENANT, labels: LABELS}
spec:
  interval: 1h
  sourceRef: {kind: GitRepository, name: app, namespace: OTHER}
  git: {commit: {author: {email: robot@example.com}}}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {name: app, namespace: TENANT, labels: LABELS}
spec: {type: generic, secretRef: {name: token}, resources: [{kind: GitRepository, name: app, namespace: OTHER}]}
---
apiVersion: source.extensions.fluxcd.io/v1beta1
kind: ArtifactGenerator
metadata: {name: app, namespace: TENANT, labels: LABELS}
spec:
  sources: [{alias: app, kind: GitRepository, name: app, namespace: OTHER}]
  artifacts: [{name: app, copy: [{from: "@app/**", to: "@artifact/"}]}]
`

// What they name, suspended, so that nothing of it is ever ready.
const referredTo = `
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, url: "https://git.invalid/app", suspend: true}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, url: "https://charts.invalid", suspend: true}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, url: "oci://registry.invalid/app", suspend: true}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageRepository
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, image: registry.invalid/app, suspend: true}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, prune: true, suspend: true, sourceRef: {kind: GitRepository, name: app}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: app, namespace: OTHER, labels: LABELS}
spec: {interval: 1h, suspend: true, chartRef: {kind: OCIRepository, name: app}}
`

// referenceTable is what is decided about each reference: denied always, denied by the flag, or never. Readiness of a
// dependency is no content of the other namespace, so dependsOn crosses namespaces as in Flux.
var referenceTable = []struct{ object, names, denied string }{
	{"Kustomization/source", "GitRepository", "flag"},
	{"Kustomization/depends", "Kustomization", "never"},
	{"HelmRelease/chart", "HelmRepository", "flag"},
	{"HelmRelease/chartref", "OCIRepository", "flag"},
	{"HelmRelease/depends", "HelmRelease", "never"},
	{"ImagePolicy/app", "ImageRepository", "always"},
	{"ImageUpdateAutomation/app", "GitRepository", "flag"},
	{"Receiver/app", "GitRepository", "flag"},
	{"ArtifactGenerator/app", "GitRepository", "flag"},
}

// TestReferences is the matrix of references across namespaces, decided by the assembled controllers: every kind, with
// and without --no-cross-namespace-refs, without shards and with the other object in the same, another and no shard.
func TestReferences(t *testing.T) {
	t.Parallel()
	server := testenv.StartServer(t, nil)
	w := worldOf(t, server)
	for _, mode := range []struct{ name, selector, own, other string }{
		{"none", "", "{}", "{}"},
		{"same", "sharding.fluxcd.io/key=same", "{sharding.fluxcd.io/key: same}", "{sharding.fluxcd.io/key: same}"},
		{"another", "sharding.fluxcd.io/key=this", "{sharding.fluxcd.io/key: this}", "{sharding.fluxcd.io/key: that}"},
		{"main", "!sharding.fluxcd.io/key", "{}", "{sharding.fluxcd.io/key: that}"},
	} {
		for flag, refuse := range map[string]bool{"open": false, "closed": true} {
			tenant, other := "tenant-"+mode.name+"-"+flag, "other-"+mode.name+"-"+flag
			for _, namespace := range []string{tenant, other} {
				w.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + "}")
			}
			w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: " + tenant + "}\nstringData: {token: secret-of-a-test}")
			w.apply(referredTo, "OTHER", other, "LABELS", mode.other)
			w.apply(referring, "TENANT", tenant, "OTHER", other, "LABELS", mode.own)
			o := w.options()
			o.WatchAllNamespaces, o.NoCrossNamespaceRefs, o.WatchLabelSelector = true, refuse, mode.selector
			stop := w.run(all(), o)
			for _, c := range referenceTable {
				kind, name, _ := strings.Cut(c.object, "/")
				w.decided(kind+"/"+tenant+"/"+name, c.names+" "+other+"/app", tenant, c.denied == "always" || refuse && c.denied == "flag")
			}
			stop()
		}
	}
}

// decided waits for what is said of a reference, and compares it.
func (w *world) decided(ref, names, tenant string, denied bool) {
	w.t.Helper()
	o := w.until(ref, "a verdict", func(o *unstructured.Unstructured) bool {
		c := condition(o, "Ready")
		return c != nil && (c["status"] != "Unknown" || c["reason"] != "Progressing")
	})
	ready, stalled := condition(o, "Ready"), condition(o, "Stalled")
	if got := ready["reason"] == "AccessDenied"; got != denied || denied != (stalled["status"] == "True") {
		w.t.Errorf("%s: denied %v, want %v: Ready %v, Stalled %v", ref, got, denied, ready, stalled)
	}
	if denied && (!strings.Contains(ready["message"], names) || !strings.Contains(ready["message"], "namespace "+tenant) || stalled["reason"] != "AccessDenied") {
		w.t.Errorf("%s: Ready %v, Stalled %v", ref, ready, stalled)
	}
	if !denied && strings.Contains(ready["message"], "does not exist") && strings.Contains(ready["message"], names) {
		w.t.Errorf("%s does not see what is in another shard: %v", ref, ready)
	}
}
