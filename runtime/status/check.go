package status

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Check returns what is wrong with the status of an object by the rules of
// kstatus that hold at every moment, in words; nothing if all is well. It is
// for tests, and for the eyes of operators. See [CheckDone] for those that hold
// when a pass has dealt with the object.
func Check(o Object) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	ready, busy, stuck := Get(o, Ready), Get(o, Reconciling), Get(o, Stalled)
	if ready == nil {
		return []string{"there is no condition Ready"}
	}
	for _, c := range []*metav1.Condition{busy, stuck} {
		switch {
		case c == nil:
		case c.Status != metav1.ConditionTrue:
			say("%s is %s: it is to be removed instead", c.Type, c.Status)
		case ready.Status == metav1.ConditionTrue:
			say("%s is True beside Ready", c.Type)
		}
	}
	if busy != nil && stuck != nil {
		say("Reconciling and Stalled are both there")
	}
	if stuck != nil && ready.Status == metav1.ConditionUnknown {
		say("Ready is Unknown beside Stalled")
	}
	if ready.Status == metav1.ConditionUnknown && busy == nil {
		say("Ready is Unknown without Reconciling")
	}
	if ready.Status == metav1.ConditionFalse && busy == nil && stuck == nil {
		say("Ready is False, and neither Reconciling nor Stalled says what follows")
	}
	for _, c := range o.GetConditions() {
		if c.ObservedGeneration > o.GetGeneration() {
			say("%s is of generation %d, the object of %d", c.Type, c.ObservedGeneration, o.GetGeneration())
		}
	}
	observed, ok := observedGeneration(o)
	switch {
	case !ok:
		say("there is no status.observedGeneration")
	case observed > o.GetGeneration():
		say("status.observedGeneration is %d, the generation %d", observed, o.GetGeneration())
	case (ready.Status == metav1.ConditionTrue || stuck != nil) && ready.ObservedGeneration != observed:
		say("Ready is of generation %d, status.observedGeneration is %d", ready.ObservedGeneration, observed)
	}
	return wrong
}

// CheckDone returns what [Check] does, and what else is wrong if a pass has come
// to an end for the newest generation: the rules of Flux for an object that is
// reconciled. Abnormal are further types of conditions that say that something
// is wrong, as Reconciling and Stalled do, the most important first: a kind has
// them besides. Conditions that other programs have set are checked as well.
func CheckDone(o Object, abnormal ...string) []string {
	wrong := Check(o)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	ready := Get(o, Ready)
	if ready == nil {
		return wrong
	}
	for _, c := range o.GetConditions() {
		if c.ObservedGeneration < 1 {
			say("%s is of no generation", c.Type)
		}
	}
	if ready.Status == metav1.ConditionUnknown {
		say("Ready is Unknown, and yet the pass is over")
	}
	if ready.Status == metav1.ConditionTrue {
		return append(wrong, checkReady(o, abnormal)...)
	}
	for _, t := range abnormal {
		if c := Get(o, t); c != nil {
			if c.Reason != ready.Reason || c.Message != ready.Message {
				say("Ready has not the reason and message of %s", t)
			}
			break
		}
	}
	return wrong
}

// checkReady returns what CheckDone says of an object that is ready.
func checkReady(o Object, abnormal []string) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, t := range abnormal {
		if c := Get(o, t); c != nil {
			say("%s is %s beside Ready", t, c.Status)
		}
	}
	observed, ok := observedGeneration(o)
	if ok && observed < o.GetGeneration() {
		say("Ready is True, but status.observedGeneration is %d, the generation %d", observed, o.GetGeneration())
	}
	for _, c := range o.GetConditions() {
		if c.ObservedGeneration != observed || c.ObservedGeneration < o.GetGeneration() {
			say("%s is of generation %d beside Ready, the object of %d", c.Type, c.ObservedGeneration, o.GetGeneration())
		}
	}
	return wrong
}

func observedGeneration(o Object) (int64, bool) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return 0, false
	}
	n, ok, err := unstructured.NestedInt64(content, "status", "observedGeneration")
	return n, ok && err == nil
}
