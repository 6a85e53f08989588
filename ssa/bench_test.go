package ssa_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

var benchObjects = flag.Int("bench-objects", 1000, "objects of the benchmarks")

// traffic counts requests and the bytes of their answers.
type traffic struct{ requests, bytes atomic.Int64 }

func (c *traffic) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		c.requests.Add(1)
		response, err := next.RoundTrip(r)
		if err == nil {
			response.Body = &countedBody{response.Body, &c.bytes}
		}
		return response, err
	})
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// benchmark is a cluster that holds the mixed set of objects.
type benchmark struct {
	*followed
	traffic *traffic
	objs    []*unstructured.Unstructured
}

func newBenchmark(b *testing.B) *benchmark {
	b.Helper()
	env := testenv.Start(b)
	c := &benchmark{traffic: &traffic{}, objs: mixed(b, *benchObjects, "")}
	config := rest.CopyConfig(env.Config())
	config.Wrap(c.traffic.wrap)
	c.followed = follow(b, config, env.Namespace, nil)
	c.pass(b, c.objs)
	return c
}

// mixed is two fifths ConfigMaps, one fifth each of Deployments without pods and
// Services, and a tenth each of ServiceAccounts and Roles.
func mixed(b testing.TB, n int, value string) []*unstructured.Unstructured {
	var all strings.Builder
	for i := range n {
		name := fmt.Sprintf("o-%d", i)
		switch i % 10 {
		case 0, 1, 2, 3:
			all.WriteString(configMap(name, "value "+value))
		case 4, 5:
			all.WriteString(deployment(name, 0))
		case 6, 7:
			fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: x}, ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]}\n", name)
		case 8:
			fmt.Fprintf(&all, "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s}\n", name)
		case 9:
			fmt.Fprintf(&all, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: %s}\nrules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [get]}]\n", name)
		}
	}
	return objects(b, all.String())
}

// report runs f and reports what it sent.
func (c *benchmark) report(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	requests, bytes := c.traffic.requests.Load(), c.traffic.bytes.Load()
	b.ResetTimer()
	for range b.N {
		f()
	}
	b.StopTimer()
	b.ReportMetric(float64(c.traffic.requests.Load()-requests)/float64(b.N), "requests/op")
	b.ReportMetric(float64(c.traffic.bytes.Load()-bytes)/float64(b.N), "bytes/op")
}

// P1, P2: apply and prune of a set that is as it should be.
func BenchmarkUnchanged(b *testing.B) {
	c := newBenchmark(b)
	c.quiet(b, c.objs)
	c.report(b, func() { c.pass(b, c.objs) })
}

// The same by dry runs.
func BenchmarkUnchangedVerified(b *testing.B) {
	c := newBenchmark(b)
	c.report(b, func() {
		if _, err := c.Apply(b.Context(), c.objs, &ssa.ApplyOptions{Verify: ssa.VerifyAlways}); err != nil {
			b.Fatal(err)
		}
	})
}

// P4: the first apply of a new process, the store's own requests included.
func BenchmarkColdStart(b *testing.B) {
	c := newBenchmark(b)
	c.stop()
	c.report(b, func() {
		b.StopTimer()
		c.run(b)
		b.StartTimer()
		set, _ := c.pass(b, c.objs)
		if set.Count(ssa.Unchanged) != len(c.objs) {
			b.Fatal(set.Summary())
		}
		b.StopTimer()
		c.stop()
		b.StartTimer()
	})
}

// P5: one object of the set changed.
func BenchmarkOneChanged(b *testing.B) {
	c := newBenchmark(b)
	c.quiet(b, c.objs)
	i := 0
	c.report(b, func() {
		i++
		c.objs[0].Object["data"] = map[string]any{"key": fmt.Sprint("changed ", i)}
		if set, _ := c.pass(b, c.objs); set.Count(ssa.Configured) != 1 {
			b.Fatal(set.Summary())
		}
	})
}

// P6: the first apply of all.
func BenchmarkCreate(b *testing.B) {
	c := newBenchmark(b)
	c.report(b, func() {
		b.StopTimer()
		requests, bytes := c.traffic.requests.Load(), c.traffic.bytes.Load()
		set, err := c.Prune(b.Context(), nil, nil)
		if err == nil {
			_, err = c.WaitDeleted(b.Context(), set.Objects(), nil)
		}
		if err != nil {
			b.Fatal(err)
		}
		c.traffic.requests.Store(requests) // the deletion is not what is measured
		c.traffic.bytes.Store(bytes)
		b.StartTimer()
		c.pass(b, c.objs)
	})
}

// P7: a wait for objects that become ready in a second.
func BenchmarkWait(b *testing.B) {
	c := newBenchmark(b)
	set := c.quiet(b, c.objs)
	c.report(b, func() {
		ids := append(set.Objects(), ssa.ObjectID{Kind: "ConfigMap", Namespace: c.Owner.Namespace, Name: "late"})
		if _, err := c.Wait(b.Context(), ids, &ssa.WaitOptions{Timeout: time.Second}); err == nil {
			b.Fatal("the object that does not exist is ready")
		}
	})
}

// P12: from an edit to the repair, by a watch and an apply of the object.
func BenchmarkRepair(b *testing.B) {
	c := newBenchmark(b)
	set := c.quiet(b, c.objs)
	drifts := make(chan ssa.Drift, 1)
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() {
			_ = c.Watch(ctx, set, func(d ssa.Drift) { drifts <- d })
			close(ended)
		}()
		obj := c.objs[i%4]
		begin := time.Now()
		c.patch(b, configMapsGVR, obj.GetName(), `[{"op":"replace","path":"/data/key","value":"x"}]`, fmt.Sprint("rival-", i))
		<-drifts
		repaired, err := c.Apply(b.Context(), []*unstructured.Unstructured{obj}, nil)
		if err != nil || !repaired.Changed() {
			b.Fatal(repaired.Summary(), err)
		}
		took = append(took, time.Since(begin))
		set.Update(repaired)
		cancel()
		<-ended
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}
