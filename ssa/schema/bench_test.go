package schema_test

import (
	"fmt"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

// BenchmarkBuiltin is what it costs to have a version, and then the first use
// of a group version.
func BenchmarkBuiltin(b *testing.B) {
	deployment := gvk("apps", "v1", "Deployment")
	objs := objectsOf(b, "Deployment")[:1]
	for name, use := range map[string]func(*schema.Set) error{
		"load":     func(*schema.Set) error { return nil },
		"types":    func(s *schema.Set) error { _, err := s.TypeConverter(b.Context(), deployment); return err },
		"types-v1": func(s *schema.Set) error { _, err := s.TypeConverter(b.Context(), gvk("", "v1", "Pod")); return err },
		"validate": func(s *schema.Set) error { s.Validate(b.Context(), objs, nil); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set, err := schema.Builtin("1.36")
				if err == nil {
					err = use(set)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("memory", func(b *testing.B) {
		var before, after runtime.MemStats
		for b.Loop() {
			runtime.GC()
			runtime.ReadMemStats(&before)
			set := builtin(b, "1.36")
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1024, "KiB/set")
			for _, k := range set.Kinds() {
				if _, err := set.TypeConverter(b.Context(), k.GroupVersionKind); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1024, "KiB/all-types")
			runtime.KeepAlive(set)
		}
	})
}

// BenchmarkValidate validates a thousand objects, definitions compiled.
func BenchmarkValidate(b *testing.B) {
	set := with(b, widgets(b), fluxDefinitions(b)...)
	for _, kind := range []string{"Widget", "Deployment", "ConfigMap", "HelmRelease", "Kustomization"} {
		b.Run(kind, func(b *testing.B) {
			objs := objectsOf(b, kind)
			set.Validate(b.Context(), objs[:1], nil)
			for b.Loop() {
				if v := set.Validate(b.Context(), objs, nil); len(v) > 0 {
					b.Fatal(v[0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(objs)), "µs/object")
		})
	}
}

// BenchmarkWith loads definitions: those of Flux, with rules in CEL.
func BenchmarkWith(b *testing.B) {
	set, objs := builtin(b, ""), fluxDefinitions(b)
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			with(b, set, objs...)
		}
	})
	b.Run("types", func(b *testing.B) {
		for b.Loop() {
			grown := with(b, set, objs...)
			for _, k := range grown.Kinds() {
				if k.Definition != "" {
					if _, err := grown.TypeConverter(b.Context(), k.GroupVersionKind); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}

// objectsOf returns a thousand copies of a kind of the test data.
func objectsOf(b testing.TB, kind string) []*unstructured.Unstructured {
	b.Helper()
	all := append(load(b, "kinds.yaml", "widgets.yaml").Objects, load(b, "real/flux2-kustomize-helm-example").Objects...)
	var out []*unstructured.Unstructured
	for _, obj := range all {
		if obj.GetKind() != kind || len(out) > 0 {
			continue
		}
		for i := range 1000 {
			o := obj.DeepCopy()
			o.SetName(fmt.Sprintf("n%d", i))
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		b.Fatalf("no %s", kind)
	}
	return out
}
