package status

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The conditions that every kind has.
const (
	Ready       = "Ready"
	Reconciling = "Reconciling"
	Stalled     = "Stalled"
)

// MaxMessage is how long the message of a condition may be, in bytes, by the
// schema of metav1.Condition.
const MaxMessage = 32768

// Object is a kind with conditions. All kinds of Flux are.
type Object interface {
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions(conditions []metav1.Condition)
}

// Get returns a copy of the condition of a type, nil if there is none.
func Get(o Object, conditionType string) *metav1.Condition {
	for _, c := range o.GetConditions() {
		if c.Type == conditionType {
			return &c
		}
	}
	return nil
}

// Is reports whether the condition of a type is there and has the status.
func Is(o Object, conditionType string, want metav1.ConditionStatus) bool {
	c := Get(o, conditionType)
	return c != nil && c.Status == want
}

// IsReady reports whether the newest generation of the object is ready:
// condition Ready is True and was set for this generation.
func IsReady(o Object) bool {
	c := Get(o, Ready)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == o.GetGeneration()
}

// Set sets a condition and reports whether that changed anything but its
// observedGeneration, which always becomes the generation of the object. The
// transition time moves when status, reason or message change, as with Flux.
// A message longer than [MaxMessage] is cut between two characters and ends
// in "...". An empty reason becomes "Unknown": the schema wants one.
func Set(o Object, c metav1.Condition) (changed bool) {
	c.ObservedGeneration = o.GetGeneration()
	c.Message = shorten(c.Message)
	c.Reason = cmp.Or(c.Reason, "Unknown")
	all := slices.Clone(o.GetConditions())
	i := slices.IndexFunc(all, func(old metav1.Condition) bool { return old.Type == c.Type })
	if i < 0 {
		i, all = len(all), append(all, metav1.Condition{})
	}
	old := all[i]
	changed = old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message
	if c.LastTransitionTime = old.LastTransitionTime; changed || c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	}
	all[i] = c
	slices.SortStableFunc(all, order)
	o.SetConditions(all)
	return changed
}

// order puts Stalled, Reconciling and Ready first, then by newest generation,
// then by type.
func order(a, b metav1.Condition) int {
	return cmp.Or(cmp.Compare(rank(a.Type), rank(b.Type)), cmp.Compare(b.ObservedGeneration, a.ObservedGeneration), strings.Compare(a.Type, b.Type))
}

func rank(conditionType string) int {
	if i := slices.Index([]string{Stalled, Reconciling, Ready}, conditionType); i >= 0 {
		return i
	}
	return 3
}

// Delete removes the conditions of the types and reports whether there was one.
func Delete(o Object, conditionTypes ...string) (changed bool) {
	all := o.GetConditions()
	kept := slices.DeleteFunc(slices.Clone(all), func(c metav1.Condition) bool { return slices.Contains(conditionTypes, c.Type) })
	if len(kept) == len(all) {
		return false
	}
	o.SetConditions(kept)
	return true
}

func shorten(s string) string {
	const end = "..."
	if len(s) <= MaxMessage {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	n := MaxMessage - len(end)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(s[:n], "?") + end
}
