package kube

import (
	"reflect"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/status"
)

// The annotations of Flux that ask for a pass. Their values are tokens: only
// that they differ from the last one matters.
const (
	// RequestedAt begins a pass. Its value is in status.lastHandledReconcileAt
	// when the pass has come to an end, good or bad.
	RequestedAt = "reconcile.fluxcd.io/requestedAt"
	// ForceAt has the pass that its value asks for in RequestedAt, too, be a
	// forced one: see rt.Pass.Force. It is answered in status.lastHandledForceAt,
	// even where it was without effect.
	ForceAt = "reconcile.fluxcd.io/forceAt"
	// ResetAt is like ForceAt, for Pass.Reset and status.lastHandledResetAt.
	ResetAt = "reconcile.fluxcd.io/resetAt"
)

// requests are what the annotations of an object ask for.
type requests struct {
	token, forceToken, resetToken string
	force, reset                  bool
}

func requestsOf(obj client.Object) requests {
	a := obj.GetAnnotations()
	r := requests{token: a[RequestedAt], forceToken: a[ForceAt], resetToken: a[ResetAt]}
	if r.token != "" && r.token != handled(obj, "LastHandledReconcileAt") {
		r.force = r.forceToken == r.token && r.forceToken != handled(obj, "LastHandledForceAt")
		r.reset = r.resetToken == r.token && r.resetToken != handled(obj, "LastHandledResetAt")
	}
	return r
}

func (r requests) change(observed bool) status.Change {
	return status.Change{Observed: observed, Token: r.token, ForceToken: r.forceToken, ResetToken: r.resetToken}
}

// handled returns a field of the status of an object, such as
// LastHandledReconcileAt, empty if its kind has none.
func handled(obj client.Object, field string) string {
	v := reflect.Indirect(reflect.ValueOf(obj))
	if v.Kind() != reflect.Struct {
		return ""
	}
	s := v.FieldByName("Status")
	if !s.IsValid() || s.Kind() != reflect.Struct {
		return ""
	}
	f := s.FieldByName(field)
	if !f.IsValid() || f.Kind() != reflect.String {
		return ""
	}
	return f.String()
}
