package status_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/runtime/status"
)

// at is a condition of a generation, given as "type status" with a reason after a slash.
func at(generation int64, text string) metav1.Condition {
	text, reason, _ := strings.Cut(text, "/")
	kind, is, _ := strings.Cut(text, " ")
	return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(is), ObservedGeneration: generation, Reason: reason, Message: reason}
}

// TestCheckRules has for each rule of Flux's two checkers, for objects that are being reconciled and for those that are
// done, a status that breaks it, and one beside it that does not.
func TestCheckRules(t *testing.T) {
	const abnormal, other = "FetchFailed", "StorageFailed"
	type conditions = []metav1.Condition
	for _, c := range []struct {
		rule                 string
		generation, observed int64
		bad, good            conditions
		want                 string
		always               bool // it holds in the middle of a pass as well
	}{
		{"FAIL0001", 2, 2, conditions{at(2, "Ready True"), at(2, abnormal+" True")}, conditions{at(2, "Ready True")}, "FetchFailed is True beside Ready", false},
		{"FAIL0001", 2, 2, conditions{at(2, "Ready True"), at(2, "Stalled True")}, conditions{at(2, "Ready False"), at(2, "Stalled True")}, "Stalled is True beside Ready", true},
		{"FAIL0002", 2, 2, nil, conditions{at(2, "Ready True")}, "no condition Ready", true},
		{"FAIL0003", 2, 1, conditions{at(2, "Ready Unknown"), at(2, "Reconciling True")}, conditions{at(2, "Ready False"), at(2, "Reconciling True")}, "Ready is Unknown, and yet the pass is over", false},
		{"FAIL0003", 2, 2, conditions{at(2, "Ready True"), at(2, "Reconciling True")}, conditions{at(2, "Ready True")}, "Reconciling is True beside Ready", true},
		{"FAIL0004", 2, 2, conditions{at(2, "Ready Unknown"), at(2, "Stalled True")}, conditions{at(2, "Ready False"), at(2, "Stalled True")}, "Ready is Unknown beside Stalled", true},
		{"FAIL0005", 2, 2, conditions{at(2, "Ready False"), at(2, "Stalled True"), at(2, "Reconciling True")}, conditions{at(2, "Ready False"), at(2, "Stalled True")}, "both there", true},
		{"FAIL0006", 2, 3, conditions{at(2, "Ready False"), at(2, "Reconciling True")}, nil, "status.observedGeneration is 3, the generation 2", true},
		{"FAIL0007", 2, 1, conditions{at(1, "Ready True")}, conditions{at(2, "Ready False"), at(2, "Reconciling True")}, "status.observedGeneration is 1, the generation 2", false},
		{"FAIL0008", 2, 2, conditions{at(2, "Ready True"), at(1, "Healthy True")}, conditions{at(2, "Ready True"), at(2, "Healthy True")}, "Healthy is of generation 1 beside Ready", false},
		{"FAIL0009", 2, 2, conditions{at(1, "Ready True")}, conditions{at(2, "Ready True")}, "Ready is of generation 1", true},
		{"FAIL0011", 2, 1, conditions{at(2, "Ready Unknown")}, nil, "Ready is Unknown without Reconciling", true},
		{"WARN0001", 2, 2, conditions{at(2, "Ready True"), at(2, abnormal+" False")}, conditions{at(2, "Ready True")}, "FetchFailed is False beside Ready", false},
		{
			"WARN0002", 2, 1, conditions{at(2, "Ready False/B"), at(2, "Reconciling True"), at(2, abnormal+" True/A"), at(2, other+" True/B")},
			conditions{at(2, "Ready False/A"), at(2, "Reconciling True"), at(2, abnormal+" True/A"), at(2, other+" True/B")}, "not the reason and message of FetchFailed", false,
		},
		{"WARN0003", 2, 2, conditions{at(2, "Ready True"), at(2, "Reconciling False")}, conditions{at(2, "Ready True")}, "Reconciling is False: it is to be removed", true},
		{"WARN0004", 2, 2, conditions{at(2, "Ready True"), at(2, "Stalled False")}, conditions{at(2, "Ready True")}, "Stalled is False: it is to be removed", true},
		{"WARN0005", 2, 2, conditions{at(2, "Ready False"), at(2, "Stalled True"), at(0, "Healthy False")}, conditions{at(2, "Ready False"), at(2, "Stalled True"), at(1, "Healthy False")}, "Healthy is of no generation", false},
	} {
		t.Run(fmt.Sprint(c.rule, " ", c.want), func(t *testing.T) {
			o := object(c.generation)
			o.Status.ObservedGeneration = c.observed
			says := func(wrong []string) bool {
				return slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, c.want) })
			}
			o.SetConditions(c.bad)
			if got := status.CheckDone(o, abnormal, other); !says(got) {
				t.Errorf("an object that is done: %q", got)
			}
			if got := status.Check(o); says(got) != c.always {
				t.Errorf("at every moment: %q", got)
			}
			if c.good == nil {
				return
			}
			o.SetConditions(c.good)
			if got := status.CheckDone(o, abnormal, other); len(got) > 0 {
				t.Errorf("nothing is wrong: %q", got)
			}
		})
	}
}
