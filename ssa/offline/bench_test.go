package offline_test

import (
	"fmt"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newCluster(b)
	}
}

// thousand is a set of objects as it is common.
func thousand(b *testing.B) []*unstructured.Unstructured {
	b.Helper()
	var out []*unstructured.Unstructured
	for i := range 1000 {
		var obj *unstructured.Unstructured
		switch i % 5 {
		case 0, 1:
			obj = configMap(b, "x")
		case 2:
			obj = object(b, web)
		case 3:
			obj = object(b, "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n")
		default:
			obj = object(b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: x}\nrules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]\n")
		}
		obj.SetName(fmt.Sprintf("x%d", i))
		out = append(out, obj)
	}
	return out
}

// BenchmarkThousand applies 1000 objects with the client of real clusters, and
// then again; heap is what the cluster keeps.
func BenchmarkThousand(b *testing.B) {
	objs := thousand(b)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c, cluster := newClient(b)
		for range 2 {
			must[*ssa.ChangeSet](b)(c.Apply(b.Context(), objs, nil))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1000, "B/object")
		runtime.KeepAlive(cluster)
	}
}
