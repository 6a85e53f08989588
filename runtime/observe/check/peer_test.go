package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/runtime/metrics"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

// The same passes make the same text as with Flux's own recorder, but for the sum, which is measured there.
func TestPeer(t *testing.T) {
	ours, theirs := prometheus.NewRegistry(), prometheus.NewRegistry()
	m, err := observe.New(ours, &observe.Options{Flux: true})
	if err != nil {
		t.Fatal(err)
	}
	recorder := metrics.NewRecorder()
	theirs.MustRegister(recorder.Collectors()...)
	for _, name := range []string{"web", "gone", "api"} {
		for _, took := range []time.Duration{time.Millisecond, 2 * time.Second, time.Hour} {
			m.Pass(observe.Pass{Kind: "Kustomization", Namespace: "apps", Name: name, Outcome: rt.OutcomeOK, Took: took})
			recorder.RecordDuration(corev1.ObjectReference{Kind: "Kustomization", Namespace: "apps", Name: name}, time.Now().Add(-took))
		}
	}
	m.Gone("Kustomization", "apps", "gone")
	recorder.DeleteDuration(corev1.ObjectReference{Kind: "Kustomization", Namespace: "apps", Name: "gone"})
	only := func(text string) string {
		var b strings.Builder
		for line := range strings.Lines(text) {
			if strings.Contains(line, "gotk_reconcile_duration_seconds") && !strings.Contains(line, "_sum{") {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	if got, want := only(gather(t, ours)), only(gather(t, theirs)); got != want || want == "" {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
