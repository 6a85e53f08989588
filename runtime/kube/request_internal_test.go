package kube

import (
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
)

// What the annotations ask for is what Flux makes of them, for every combination of tokens set, unset, equal, different
// and handled before.
func TestRequestsAsFlux(t *testing.T) {
	tokens := []string{"", "a", "b"}
	for _, requested := range tokens {
		for _, forced := range tokens {
			for _, reset := range tokens {
				for _, handledRequest := range tokens {
					for _, handledForce := range tokens {
						for _, handledReset := range tokens {
							hr := &helmv2.HelmRelease{}
							hr.Annotations = map[string]string{}
							for k, v := range map[string]string{RequestedAt: requested, ForceAt: forced, ResetAt: reset} {
								if v != "" {
									hr.Annotations[k] = v
								}
							}
							hr.Status.LastHandledReconcileAt, hr.Status.LastHandledForceAt, hr.Status.LastHandledResetAt = handledRequest, handledForce, handledReset
							r := requestsOf(hr)
							peer := hr.DeepCopy()
							force, wiped := helmv2.ShouldHandleForceRequest(peer), helmv2.ShouldHandleResetRequest(peer)
							if r.force != force || r.reset != wiped {
								t.Errorf("%v %+v: force %v reset %v, Flux %v %v", hr.Annotations, hr.Status, r.force, r.reset, force, wiped)
							}
							change := r.change(true)
							for _, answer := range []struct{ ours, before, theirs string }{
								{change.ForceToken, handledForce, peer.Status.LastHandledForceAt}, {change.ResetToken, handledReset, peer.Status.LastHandledResetAt},
							} {
								if answer.ours == "" {
									answer.ours = answer.before
								}
								if answer.ours != answer.theirs {
									t.Errorf("%v %+v: answered %q, Flux %q", hr.Annotations, hr.Status, answer.ours, answer.theirs)
								}
							}
						}
					}
				}
			}
		}
	}
	cm := &corev1.ConfigMap{}
	cm.Annotations = map[string]string{RequestedAt: "a", ForceAt: "a"}
	if r := requestsOf(cm); !r.force || r.reset {
		t.Errorf("a kind without a status: %+v", r)
	}
}
