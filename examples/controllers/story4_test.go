package controllers_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/internal/registry"
)

const images = `
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageRepository
metadata: {name: podinfo}
spec: {interval: 1h, insecure: true, image: HOST/podinfo}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImagePolicy
metadata: {name: podinfo}
spec: {imageRepositoryRef: {name: podinfo}, policy: {semver: {range: 5.x}}}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImagePolicy
metadata: {name: builds}
spec: {imageRepositoryRef: {name: podinfo}, filterTags: {pattern: '^main-[a-f0-9]+-(?P<ts>[0-9]+)$', extract: $ts}, policy: {numerical: {order: asc}}, digestReflectionPolicy: Always, interval: 1m}
---
apiVersion: image.toolkit.fluxcd.io/v1
kind: ImageUpdateAutomation
metadata: {name: apps}
spec:
  interval: 1h
  sourceRef: {kind: GitRepository, name: apps}
  git:
    checkout: {ref: {branch: main}}
    commit:
      author: {name: Robot, email: robot@example.com}
      messageTemplate: "update images\n{{ range .Changed.Changes }}{{ .OldValue }} -> {{ .NewValue }}\n{{ end }}"
    push: {branch: main}
  update: {path: ./, strategy: Setters}
`

// TestStoryImages scans a registry with 500 tags, and writes the one that a
// policy wants to Git, byte for byte beside everything else; the deployment follows.
func TestStoryImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reg := registry.New()
	reg.PageSize = 100
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	put := func(tags ...string) string {
		d := reg.PutImage("podinfo", map[string]string{"tags": tags[0]}, registry.Layer{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Data: []byte(tags[0])})
		reg.Tag("podinfo", d, tags...)
		return d
	}
	var tags []string
	for i := range 500 {
		tags = append(tags, fmt.Sprintf("%d.%d.%d", i/100+1, i/10%10, i%10))
	}
	put(tags...)
	build := put("main-abc123-1700000000")

	const before = "# keep  this\r\nkind:   ConfigMap\napiVersion: v1\nmetadata:\n    name: 'images'\n    namespace: NS\ndata:\n    podinfo: \"HOST/podinfo:4.0.0\" # {\"$imagepolicy\": \"NS:podinfo\"}\n    tag: 4.0.0   # {\"$imagepolicy\": \"NS:podinfo:tag\"}\n    build: HOST/podinfo:old # {\"$imagepolicy\": \"NS:builds\"}\n    other: x:1 # not a marker\n"
	file := strings.NewReplacer("HOST", host, "NS", w.namespace).Replace(before)
	g := w.apps("", map[string]string{"images.yaml": file})
	w.kustomization("apps", "prune: true, path: ./")
	w.run(all(), w.options())
	w.ready("Kustomization/apps")
	w.apply(images, "HOST", host)
	scan := w.ready("ImageRepository/podinfo")
	if n, _, _ := unstructured.NestedInt64(scan.Object, "status", "lastScanResult", "tagCount"); n != 501 {
		t.Errorf("%d tags", n)
	}
	w.until("ImageUpdateAutomation/apps", "pushed", func(o *unstructured.Unstructured) bool {
		return text(o, "status", "lastPushCommit") != "" && text(o, "status", "observedPolicies", "podinfo", "tag") == "5.9.9" && text(o, "status", "observedPolicies", "builds", "digest") == build
	})
	follows := func(tag, digest string) {
		t.Helper()
		w.request("GitRepository/apps", "look "+tag+digest)
		w.until("ConfigMap/images", "follows "+tag, func(o *unstructured.Unstructured) bool {
			return text(o, "data", "tag") == tag && text(o, "data", "podinfo") == host+"/podinfo:"+tag && strings.HasSuffix(text(o, "data", "build"), "@"+digest)
		})
	}
	follows("5.9.9", build)
	want := strings.NewReplacer("podinfo:4.0.0", "podinfo:5.9.9", "tag: 4.0.0", "tag: 5.9.9", "podinfo:old", "podinfo:main-abc123-1700000000@"+build).Replace(file)
	if got, err := g.Git("apps", "", "show", "main:images.yaml"); err != nil || strings.TrimSuffix(got, "\n") != strings.TrimSuffix(want, "\n") {
		t.Errorf("the file is\n%q, want\n%q, %v", got, want, err)
	}
	// One commit or two: the policies may have come to their results one after the other.
	log, err := g.Git("apps", "", "log", "--author=Robot <robot@example.com>", "--format=%B", "main")
	if err != nil || !strings.HasPrefix(log, "update images\n") || strings.Count(log, "4.0.0 -> 5.9.9") != 1 || strings.Count(log, "podinfo:old -> ") != 1 {
		t.Errorf("the commits say %q, %v", log, err)
	}

	put("5.10.0")
	build = put("main-def456-1800000000")
	w.request("ImageRepository/podinfo", "new tags")
	w.until("ImagePolicy/podinfo", "selected", func(o *unstructured.Unstructured) bool { return text(o, "status", "latestRef", "tag") == "5.10.0" })
	w.until("ImagePolicy/builds", "selected", func(o *unstructured.Unstructured) bool { return text(o, "status", "latestRef", "digest") == build })
	w.until("ImageUpdateAutomation/apps", "both observed", func(o *unstructured.Unstructured) bool {
		return text(o, "status", "observedPolicies", "podinfo", "tag") == "5.10.0" && text(o, "status", "observedPolicies", "builds", "digest") == build
	})
	follows("5.10.0", build)
	commits, err := g.Git("apps", "", "rev-list", "--count", "main")
	if err != nil {
		t.Fatal(err)
	}
	w.request("ImageUpdateAutomation/apps", "nothing new")
	w.until("ImageUpdateAutomation/apps", "answered", func(o *unstructured.Unstructured) bool {
		return text(o, "status", "lastHandledReconcileAt") == "nothing new"
	})
	if again, err := g.Git("apps", "", "rev-list", "--count", "main"); err != nil || again != commits {
		t.Errorf("%s commits, before %s, %v: nothing had to change", again, commits, err)
	}
}

// TestBadImages says of images what is wrong and where, and recovers.
func TestBadImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reg := registry.New()
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	reg.Tag("app", reg.PutImage("app", nil, registry.Layer{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Data: []byte("x")}), "1.0.0")
	w.run(all(), w.options())
	repository := func(name, image string) {
		w.apply("apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageRepository\nmetadata: {name: NAME}\nspec: {interval: 1h, insecure: true, image: IMAGE}", "NAME", name, "IMAGE", image)
	}
	policy := func(name, repo, rules string) {
		w.apply("apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImagePolicy\nmetadata: {name: NAME}\nspec: {imageRepositoryRef: {name: REPO}, policy: {RULES}}", "NAME", name, "REPO", repo, "RULES", rules)
	}
	repository("missing", host+"/missing")
	w.failed("ImageRepository/missing", "ReadOperationFailed", host+"/missing")
	repository("missing", host+"/app")
	w.ready("ImageRepository/missing")
	repository("spelled", "https://"+host+"/app")
	w.failed("ImageRepository/spelled", "ImageURLInvalid", "https://")
	policy("early", "late", "semver: {range: 1.x}")
	w.failed("ImagePolicy/early", "DependencyNotReady", "does not exist")
	repository("late", host+"/app")
	w.ready("ImagePolicy/early")
	policy("none", "late", "semver: {range: 2.x}")
	w.failed("ImagePolicy/none", "Failure", "")
	reg.Tag("app", reg.PutImage("app", nil, registry.Layer{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Data: []byte("y")}), "2.0.0")
	w.request("ImageRepository/late", "again")
	w.ready("ImagePolicy/none")
	policy("invalid", "late", "semver: {range: not a range}")
	w.failed("ImagePolicy/invalid", "InvalidPolicy", "")
	policy("invalid", "late", "semver: {range: 2.x}")
	w.ready("ImagePolicy/invalid")

	g := w.apps("", map[string]string{"a.yaml": "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata:\n  good: app:1 # {\"$imagepolicy\": \"" + w.namespace + ":early\"}\n  bad: app:1 # {\"$imagepolicy\": \"" + w.namespace + ":early:\"}\n"})
	w.apply("apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageUpdateAutomation\nmetadata: {name: apps}\nspec: {interval: 1h, sourceRef: {kind: GitRepository, name: apps}, git: {commit: {author: {email: robot@example.com}}}}")
	w.failed("ImageUpdateAutomation/apps", "UpdateFailed", "a.yaml:6")
	if got, err := g.Git("apps", "", "show", "main:a.yaml"); err != nil || !strings.Contains(got, "good: "+host+"/app:1.0.0 #") {
		t.Errorf("beside a marker that is malformed nothing was changed: %q, %v", got, err)
	}
	g.commit(t, "apps", "Mend it", map[string]string{"a.yaml": "kind: ConfigMap\n"})
	w.ready("ImageUpdateAutomation/apps") // by its own retry
}
