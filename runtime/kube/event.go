package kube

import (
	"context"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/status"
)

// Event is something to tell about an object.
type Event struct {
	// Warning marks a failure; the others are for information.
	Warning bool
	// Trace marks an event of no interest to people: Kubernetes gets it, alerts do not.
	Trace bool
	// Reason is a word in CamelCase.
	Reason string
	// Message is for people; it must not hold secrets.
	Message string
	// Metadata has facts for machines, such as "revision".
	Metadata map[string]string
}

// EventRecorder returns a function for [Options.Event] that writes events of
// Kubernetes, and passes all but traces on to next, which may be nil.
func EventRecorder(recorder events.EventRecorder, next func(ctx context.Context, obj client.Object, event Event)) func(context.Context, client.Object, Event) {
	return func(ctx context.Context, obj client.Object, e Event) {
		kind := corev1.EventTypeNormal
		if e.Warning {
			kind = corev1.EventTypeWarning
		}
		const most = 1024 // bytes of a note, by the API
		recorder.Eventf(obj, nil, kind, e.Reason, e.Reason, "%s", cut(e.Message, most))
		if next != nil && !e.Trace {
			next(ctx, obj, e)
		}
	}
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}

// tell sends the events that follow from the outcome of a pass: a failure that
// is new, and a recovery that the pass itself has not told of.
func (c *Controller[T]) tell(pass *Pass, was, is *metav1.Condition, result Result) {
	if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason && was.Message == is.Message {
		return
	}
	e := Event{Reason: is.Reason, Message: is.Message, Metadata: map[string]string{}}
	maps.Copy(e.Metadata, result.facts)
	if result.revision != "" {
		maps.Copy(e.Metadata, map[string]string{"revision": result.revision})
	}
	switch result.outcome.Kind {
	case status.Failed, status.Blocked:
		e.Warning = true
		pass.Event(e)
	case status.Waiting:
		pass.Event(e)
	case status.Succeeded:
		if was != nil && was.Status == metav1.ConditionFalse && !pass.told {
			pass.Event(e)
		}
	case status.Progressing:
	}
}
