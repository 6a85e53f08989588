package workload

import (
	"bytes"
	"cmp"
	"io/fs"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/source/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) *Repository {
	t.Helper()
	r, err := Serve("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// fetch reads what an object of Flux names.
func fetch(t *testing.T, o *unstructured.Unstructured, layer oci.Layer) fs.FS {
	t.Helper()
	url, _, err := unstructured.NestedString(o.Object, "spec", "url")
	if err != nil {
		t.Fatal(err)
	}
	src, err := oci.New(url, &oci.Options{Ref: oci.Ref{Tag: Tag}, Layer: layer, Client: oci.Client{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { artifact.Close() })
	return artifact
}

// TestSame has both kinds deploy the same objects.
func TestSame(t *testing.T) {
	r := serve(t)
	for _, kind := range []Kind{Kustomize, Helm} {
		for _, version := range []string{"1.0.0", "1.1.0"} {
			if _, err := r.Push(t.Context(), kind, string(kind)+"-"+Name(6), version); err != nil {
				t.Fatal(err)
			}
		}
	}
	built, err := kustomize.Build(t.Context(), fetch(t, r.Source(Kustomize, "ns", "kustomize-app-0007"), oci.Layer{}), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := fetch(t, r.Source(Helm, "ns", "helm-app-0007"), oci.Layer{MediaType: oci.ChartMediaType, Operation: oci.CopyLayer})
	names, err := fs.Glob(packed, "*.tgz")
	if err != nil || len(names) != 1 {
		t.Fatalf("the artifact has %q, %v", names, err)
	}
	data, err := fs.ReadFile(packed, names[0])
	if err != nil {
		t.Fatal(err)
	}
	chart, err := helm.LoadArchive(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if chart.Version() != "1.1.0" {
		t.Errorf("chart %s", chart.Version())
	}
	rendered, err := helm.Render(t.Context(), chart, helm.Release{Name: "kustomize-app-0007", Namespace: "ns"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(built) != Objects {
		t.Errorf("%d objects, want %d", len(built), Objects)
	}
	sorted := func(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
		slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int { return cmp.Compare(a.GetKind(), b.GetKind()) })
		return objects
	}
	if diff := gocmp.Diff(sorted(built), sorted(rendered.Objects)); diff != "" {
		t.Errorf("kustomize (-), helm (+): %s", diff)
	}
	for _, o := range built {
		if got := o.GetLabels()["app.kubernetes.io/version"]; got != "1.1.0" {
			t.Errorf("%s has version %q", o.GetKind(), got)
		}
	}
}

func TestServe(t *testing.T) {
	if _, err := Serve("0.0.0.0:0", ""); err == nil || !strings.Contains(err.Error(), "-registry-host") {
		t.Errorf("everywhere: %v", err)
	}
	if _, err := Serve("nowhere", ""); err == nil {
		t.Error("an address without a port is taken")
	}
	for given, want := range map[string]string{"10.0.0.7": "10.0.0.7:", "registry.example.com:5000": "registry.example.com:5000"} {
		r, err := Serve("0.0.0.0:0", given)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Host, want) {
			t.Errorf("%s: controllers are sent to %s", given, r.Host)
		}
		if _, err := r.Push(t.Context(), Kustomize, "app", "1.0.0"); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
