package kinds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
)

// TestFieldsAreDocumented wants docs/conformance.md to name every field of the
// kinds, and those that are refused as such.
func TestFieldsAreDocumented(t *testing.T) {
	refused := map[string][]string{
		"GitRepository": gitUnsupported(), "OCIRepository": ociUnsupported(), "Bucket": bucketUnsupported(), "HelmRepository": helmRepositoryUnsupported(),
		"HelmChart": helmChartUnsupported(), "ArtifactGenerator": generatorUnsupported(), "ExternalArtifact": nil,
		"Kustomization": kustomizationUnsupported(), "HelmRelease": helmReleaseUnsupported(),
		"ImageRepository": imageRepositoryUnsupported(), "ImagePolicy": nil, "ImageUpdateAutomation": imageUpdateUnsupported(),
		"Alert": nil, "Provider": providerUnsupported(), "Receiver": receiverUnsupported(),
	}
	rows := documented(t)
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, crd := range all {
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		paths, ok := refused[kind]
		if !ok {
			continue
		}
		seen++
		for _, field := range specFields(t, crd) {
			if row(rows[kind], field) == "" {
				t.Errorf("%s %s is not in docs/conformance.md", kind, field)
			}
		}
		for _, path := range paths {
			field, _, _ := strings.Cut(path, "=")
			if !strings.Contains(row(rows[kind], strings.TrimSuffix(field, "!")), "not yet") {
				t.Errorf("docs/conformance.md does not say that %s %s is not there yet", kind, field)
			}
		}
	}
	if seen != len(refused) {
		t.Errorf("found %d of %d kinds", seen, len(refused))
	}
}

// documented returns the rows of the table of each kind.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, kind := map[string][]string{}, ""
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			kind = strings.TrimSpace(name)
		} else if strings.HasPrefix(line, "| `spec.") {
			rows[kind] = append(rows[kind], line)
		}
	}
	return rows
}

// row returns the row about a field, or about what it is part of.
func row(rows []string, field string) string {
	for path := field; strings.Contains(path, "."); path = path[:strings.LastIndexByte(path, '.')] {
		for _, r := range rows {
			if fields, _, _ := strings.Cut(r[1:], "|"); strings.Contains(fields, "`"+path+"`") {
				return r
			}
		}
	}
	return ""
}

// specFields lists the fields of a spec, two levels deep.
func specFields(t *testing.T, crd *unstructured.Unstructured) []string {
	t.Helper()
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	var out []string
	for _, v := range versions {
		spec, _, _ := unstructured.NestedMap(v.(map[string]any), "schema", "openAPIV3Schema", "properties", "spec", "properties")
		for name, schema := range spec {
			below, ok, _ := unstructured.NestedMap(schema.(map[string]any), "properties")
			if !ok {
				below, _, _ = unstructured.NestedMap(schema.(map[string]any), "items", "properties")
			}
			if len(below) == 0 {
				out = append(out, "spec."+name)
			}
			for nested := range below {
				out = append(out, "spec."+name+"."+nested)
			}
		}
	}
	if len(out) == 0 {
		t.Errorf("%s has no fields", crd.GetName())
	}
	return out
}
