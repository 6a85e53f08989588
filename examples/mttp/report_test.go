package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/examples/mttp/internal/meter"
)

func TestReport(t *testing.T) {
	before := &state{requests: meter.Counts{{Verb: "GET", Resource: "secrets"}: 2}, usage: meter.Usage{CPU: 1, Sent: 10}}
	after := &state{requests: meter.Counts{
		{Verb: "GET", Resource: "secrets"}:                               4,
		{Verb: "APPLY", Resource: "deployments"}:                         2,
		{Verb: "PUT", Resource: "deployments", Subresource: "status"}:    7,
		{Verb: "PUT", Resource: "leases"}:                                1,
		{Verb: "WATCH", Resource: "deployments"}:                         3,
		{Verb: "PATCH", Resource: "helmreleases", Subresource: "status"}: 1,
	}, usage: meter.Usage{CPU: 1.5, Sent: 18, RSS: 1 << 20}, peak: 3 << 20, known: known{usage: true, sent: true}}
	first := newPhase("install", 1500*time.Millisecond, 2, before, after)
	after.known = known{}
	second := newPhase("idle", time.Second, 2, after, after)
	var out strings.Builder
	r := &Report{Kind: "helm", Apps: 2, Kubernetes: "v1.36.3", Phases: []*Phase{first, second}}
	if err := r.Table(&out); err != nil {
		t.Fatal(err)
	}
	want := `2 apps of 4 objects, helm, Kubernetes v1.36.3

|                                     | install | idle |
|-------------------------------------|--------:|-----:|
| seconds                             |    1.50 | 1.00 |
| API requests per app                |     2.5 |  0.0 |
| … APPLY                             |     1.0 |  0.0 |
| … GET                               |     1.0 |  0.0 |
| … PATCH                             |     0.5 |  0.0 |
| watches begun                       |       3 |    0 |
| requests of Kubernetes itself       |       8 |    0 |
| requests that the controllers count |       8 |    - |
| CPU seconds                         |    0.50 |    - |
| peak memory, MiB                    |       3 |    - |
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if d := first.Detail[0]; d != (Detail{"PUT", "deployments", "status", 7}) {
		t.Errorf("the most frequent request is %v", d)
	}
}
