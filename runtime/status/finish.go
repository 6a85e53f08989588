package status

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Kind of outcome.
type Kind uint8

// The outcomes of a pass.
const (
	// Progressing: the pass goes on; the zero value.
	Progressing Kind = iota
	// Succeeded: the object is as its spec says.
	Succeeded
	// Failed: it will be tried again.
	Failed
	// Waiting: it cannot be tried before something else is ready.
	Waiting
	// Blocked: only a change of the object, or of what it refers to, can help.
	Blocked
)

// Reasons of Flux that belong to outcomes.
const (
	ReasonSucceeded            = "Succeeded"
	ReasonFailed               = "Failed"
	ReasonProgressing          = "Progressing"
	ReasonProgressingWithRetry = "ProgressingWithRetry"
	ReasonDependencyNotReady   = "DependencyNotReady"
)

// Outcome is what a pass came to.
type Outcome struct {
	Kind Kind
	// Reason is a word in CamelCase; empty means the general one of the kind.
	Reason string
	// Message is for people. It must not hold secrets.
	Message string
}

// Finish sets Ready, Reconciling and Stalled by the outcome:
//
//	outcome      Ready    Reconciling                   Stalled
//	Progressing  Unknown  True, Progressing             -
//	Succeeded    True     -                             -
//	Failed       False    True, ProgressingWithRetry    -
//	Waiting      False    True, ProgressingWithRetry    -
//	Blocked      False    -                             True, the reason
//
// It reports whether the generation of the object has been dealt with, so that
// status.observedGeneration is to be set: after Succeeded and Blocked.
func Finish(o Object, out Outcome) (observed bool) {
	set := func(conditionType string, is metav1.ConditionStatus, reason string) {
		Set(o, metav1.Condition{Type: conditionType, Status: is, Reason: reason, Message: out.Message})
	}
	switch out.Kind {
	case Succeeded:
		Delete(o, Reconciling, Stalled)
		set(Ready, metav1.ConditionTrue, cmp.Or(out.Reason, ReasonSucceeded))
		return true
	case Blocked:
		Delete(o, Reconciling)
		reason := cmp.Or(out.Reason, ReasonFailed)
		set(Stalled, metav1.ConditionTrue, reason)
		set(Ready, metav1.ConditionFalse, reason)
		return true
	case Failed, Waiting:
		Delete(o, Stalled)
		set(Reconciling, metav1.ConditionTrue, ReasonProgressingWithRetry)
		general := ReasonFailed
		if out.Kind == Waiting {
			general = ReasonDependencyNotReady
		}
		set(Ready, metav1.ConditionFalse, cmp.Or(out.Reason, general))
	case Progressing:
		Delete(o, Stalled)
		reason := cmp.Or(out.Reason, ReasonProgressing)
		set(Reconciling, metav1.ConditionTrue, reason)
		set(Ready, metav1.ConditionUnknown, reason)
	}
	return false
}
