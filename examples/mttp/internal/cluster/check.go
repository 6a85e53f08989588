package cluster

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Gone checks that an object does not exist any more.
func Gone(_ Ref, o *unstructured.Unstructured) (string, error) {
	switch {
	case o == nil:
		return "", nil
	case o.GetDeletionTimestamp() == nil:
		return "it is not deleted", nil
	case len(o.GetFinalizers()) > 0:
		return "it is deleted and waits for the controller that removes its finalizer " + strings.Join(o.GetFinalizers(), ", ") + blamed(o), nil
	default:
		return "it is being deleted" + blamed(o), nil
	}
}

// ReadyAt checks that an object is ready, and at what it should be, which at
// says as Check does. It gives up on objects that are stalled.
func ReadyAt(at func(r Ref, o *unstructured.Unstructured) string) Check {
	return func(r Ref, o *unstructured.Unstructured) (string, error) {
		if o == nil {
			return "it does not exist", nil
		}
		ready, observed := condition(o, "Ready"), number(o, "status", "observedGeneration") == o.GetGeneration()
		if ready == nil {
			return "no controller has looked at it: is one running that watches its namespace?", nil
		}
		if stalled := condition(o, "Stalled"); stalled != nil && stalled.status == "True" && observed {
			return "", fmt.Errorf("stalled: %s", stalled)
		}
		switch {
		case ready.status != "True":
			return "Ready is " + ready.status + ": " + ready.String(), nil
		case !observed:
			return fmt.Sprintf("its controller has seen generation %d, not %d", number(o, "status", "observedGeneration"), o.GetGeneration()), nil
		default:
			return at(r, o), nil
		}
	}
}

// Answered says which request for a pass an object has not answered.
func Answered(token string) func(Ref, *unstructured.Unstructured) string {
	return func(_ Ref, o *unstructured.Unstructured) string {
		if got := Text(o, "status", "lastHandledReconcileAt"); got != token {
			return fmt.Sprintf("it has not answered the request for a pass %s, but %q", token, got)
		}
		return ""
	}
}

// Text reads a field, empty if there is none.
func Text(o *unstructured.Unstructured, path ...string) string {
	s, _, err := unstructured.NestedString(o.Object, path...)
	if err != nil {
		return ""
	}
	return s
}

func number(o *unstructured.Unstructured, path ...string) int64 {
	n, _, err := unstructured.NestedInt64(o.Object, path...)
	if err != nil {
		return 0
	}
	return n
}

type conditionText struct{ status, reason, message string }

// String is the reason and the message.
func (c *conditionText) String() string { return c.reason + ": " + c.message }

// condition returns a condition, nil if there is none.
func condition(o *unstructured.Unstructured, kind string) *conditionText {
	list, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(list, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == kind
	})
	if i < 0 {
		return nil
	}
	m, _ := list[i].(map[string]any)
	text := func(key string) string {
		s, _ := m[key].(string)
		return s
	}
	return &conditionText{text("status"), text("reason"), text("message")}
}

// blamed adds what conditions say about why something is not going on.
func blamed(o *unstructured.Unstructured) string {
	list, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return ""
	}
	text := ""
	for _, c := range list {
		m, ok := c.(map[string]any)
		if ok && (m["status"] == "True" || m["type"] == "Ready") {
			text += fmt.Sprintf("; %v: %v", m["type"], m["message"])
		}
	}
	return text
}
