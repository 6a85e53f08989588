package main

import (
	"math/rand/v2"
	"testing"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/health"
)

// TestHealthLikePeer holds readiness expressions to those of Flux, on random
// objects and expressions: the same state, or an error on both sides.
func TestHealthLikePeer(t *testing.T) {
	const seed, rounds = 1, 4_000
	rnd := rand.New(rand.NewPCG(seed, seed))
	expressions := []string{
		"", "true", "false", "status.a", "!status.a", "status.a == 'x'", "status.n > 1", "status.n >= 1.5", "status.n == spec.n", "has(status.a)",
		"status.conditions.filter(c, c.type == 'Ready').all(c, c.status == 'True')", "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
		"status.conditions.exists_one(c, c.reason == 'R')", "status.?a.orValue(false) == true", "status[?'n'].hasValue()", "'x' in status", "size(status.conditions) == 1",
		"status.a.matches('^[a-z]$')", "status.a.replace('x', 'y') == 'y'", "status.a.indexOf('x') == 0", "[status.a, 'b'].join('-') == 'x-b'",
		"sets.contains(['x', 'y'], [status.a])", "metadata.generation == status.observedGeneration", "status.a + 'b' == 'xb'", "status.a != 'x'", "status == {'a': 'x'}",
		"status.conditions.map(c, c.type) == ['Ready']", "nothing", "status.n in [1, 2]", "string(status.n) == '2'", "1 / status.n == 0", "status.a == null",
		"status.", "1 +", "status.a ==",
	}
	pick := func(from ...any) any { return from[rnd.IntN(len(from))] }
	got := map[ssa.State]int{}
	failed, refused := 0, 0
	for range rounds {
		e := health.Expression{APIVersion: "example.com/v1", Kind: "Thing"}
		text := func() string { return expressions[rnd.IntN(len(expressions))] }
		e.InProgress, e.Failed, e.Current = text(), text(), text()
		ours, err := health.Compile([]health.Expression{e}, nil)
		peer, peerErr := cel.NewStatusEvaluator(&kustomize.HealthCheckExpressions{InProgress: e.InProgress, Failed: e.Failed, Current: e.Current})
		if (err == nil) != (peerErr == nil) {
			t.Fatalf("seed %d: %+v: %v; the peer: %v", seed, e, err, peerErr)
		}
		if err != nil {
			refused++
			continue
		}
		status := map[string]any{"always": "there"}
		for field, value := range map[string]any{
			"a": pick(true, false, "x", "y", int64(1), nil), "n": pick(int64(0), int64(1), int64(2), 1.5, "2"),
			"observedGeneration": pick(int64(1), int64(2), "2"),
			"conditions":         []any{map[string]any{"type": pick("Ready", "Other"), "status": pick("True", "False"), "reason": pick("R", "S")}},
		} {
			if rnd.IntN(4) > 0 {
				status[field] = value
			}
		}
		obj := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Thing", "metadata": map[string]any{"name": "x", "generation": int64(2)},
			"spec": map[string]any{"n": int64(1)}, "status": status,
		}}
		state, message := ours.Status(t.Context(), obj)
		want, wantErr := peer.Evaluate(t.Context(), obj)
		switch {
		case wantErr != nil && state == ssa.Stuck && message != "":
			failed++
		case wantErr != nil || string(state) != want.Status.String():
			t.Fatalf("seed %d: %+v: %v: %s %s; the peer: %+v, %v", seed, e, status, state, message, want, wantErr)
		default:
			got[state]++
		}
	}
	t.Logf("equal states %v, %d evaluations and %d expressions refused by both", got, failed, refused)
	if got[ssa.Current] < rounds/50 || got[ssa.Stuck] < rounds/50 || got[ssa.InProgress] < rounds/50 || failed < rounds/50 || refused < rounds/50 {
		t.Error("too few of a kind")
	}
}
