package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// What is read and said about what is not ready: enough to act on, and little
// enough for the condition of an object.
const (
	explained     = 10              // objects
	explainWithin = 3 * time.Second // all of them
	podsRead      = 250             // of a workload
	reasonsTold   = 3               // of a workload
	eventsRead    = 50              // of an object
	claimsRead    = 3               // of a pod
)

// explain adds to the messages of what did not become ready why that is, as far
// as it can be found out. What it cannot find out it leaves out.
func (c *Client) explain(ctx context.Context, statuses []Status) {
	ctx, cancel := context.WithTimeoutCause(ctx, explainWithin, errSlow)
	defer cancel()
	statuses = statuses[:min(len(statuses), explained)]
	c.each(ctx, len(statuses), func(i int) {
		s := &statuses[i]
		if s.State == NotFound || s.State == Terminating {
			return
		}
		var reasons []string
		var err error
		switch s.Object.GroupKind().String() {
		case "Deployment.apps", "ReplicaSet.apps", "StatefulSet.apps", "DaemonSet.apps", "Job.batch":
			reasons, err = c.workloadReasons(ctx, s.Object)
		case "Pod":
			reasons, err = c.podReasons(ctx, s.Object)
		case "PersistentVolumeClaim":
			reasons, err = c.warning(ctx, s.Object.Namespace, s.Object.Name, "")
		}
		if err != nil {
			reasons = append(reasons, "why cannot be read: "+line(err.Error()))
		}
		for _, reason := range reasons {
			if reason != "" && !strings.Contains(s.Message, reason) {
				s.Message = strings.TrimPrefix(s.Message+"; "+reason, "; ")
			}
		}
	})
}

var errSlow = errors.New("the server is slow")

// core is a resource of the core group.
func (c *Client) core(resource, namespace string) dynamic.ResourceInterface {
	return c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace(namespace)
}

// workloadReasons says what is wrong with a workload: what its controller says,
// and what is wrong with its pods.
func (c *Client) workloadReasons(ctx context.Context, id ObjectID) ([]string, error) {
	m, err := c.mapping(id.GroupKind(), "")
	if err != nil {
		return nil, err
	}
	workload, err := c.resource(m, id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	reasons := complaints(workload)
	value, _, err := unstructured.NestedMap(workload.Object, "spec", "selector")
	if err != nil || value == nil {
		return reasons, err
	}
	selector, err := selectorOf(value)
	if err != nil {
		return reasons, err
	}
	pods, err := c.core("pods", id.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: podsRead})
	if err != nil {
		return reasons, err
	}
	items := slices.DeleteFunc(pods.Items, func(pod unstructured.Unstructured) bool { return !isPodOf(&pod, workload) })
	if len(items) == 0 && len(reasons) == 0 {
		return c.warning(ctx, id.Namespace, id.Name, string(workload.GetUID()))
	}
	told, err := c.tellPods(ctx, items)
	return append(reasons, told...), err
}

// isPodOf reports whether a pod that a workload selects is also made by it.
func isPodOf(pod, workload *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	if workload.GetKind() == "Deployment" {
		return owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, workload.GetName()+"-")
	}
	return owner.UID == workload.GetUID()
}

// complaints are the conditions of a workload that say what is wrong.
func complaints(workload *unstructured.Unstructured) []string {
	var out []string
	for _, cond := range conditions(workload) {
		switch fmt.Sprint(cond["type"], " ", cond["status"]) {
		case "ReplicaFailure True", "Failed True", "Progressing False":
			out = append(out, said(cond["reason"], cond["message"]))
		}
	}
	return out
}

// tellPods says what is wrong with pods: each reason once, the definite first.
func (c *Client) tellPods(ctx context.Context, pods []unstructured.Unstructured) ([]string, error) {
	slices.SortStableFunc(pods, func(a, b unstructured.Unstructured) int {
		return b.GetCreationTimestamp().Compare(a.GetCreationTimestamp().Time)
	})
	type group struct {
		pod *unstructured.Unstructured
		podTrouble
		more int
	}
	var groups []*group
	at := map[string]*group{}
	for i := range pods {
		t, trouble := troubleOf(&pods[i])
		if !trouble {
			continue
		}
		if g := at[t.text]; g != nil {
			g.more++
			continue
		}
		g := &group{pod: &pods[i], podTrouble: t}
		at[t.text] = g
		groups = append(groups, g)
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return a.vague() - b.vague() })
	var out []string
	var firstErr error
	for _, g := range groups[:min(len(groups), reasonsTold)] {
		more, err := c.deepen(ctx, g.pod, g.podTrouble)
		if firstErr == nil {
			firstErr = err
		}
		text := "pod " + g.pod.GetName() + ": " + more
		if g.more > 0 {
			text += fmt.Sprintf(" (and %d more pods)", g.more)
		}
		out = append(out, text)
	}
	return out, firstErr
}

// podReasons says what is wrong with one pod.
func (c *Client) podReasons(ctx context.Context, id ObjectID) ([]string, error) {
	pod, err := c.core("pods", id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	t, trouble := troubleOf(pod)
	if !trouble {
		return nil, nil
	}
	text, err := c.deepen(ctx, pod, t)
	return []string{text}, err
}

// deepen adds to what a pod says of itself what others say of it: events, and
// the claims it waits for.
func (c *Client) deepen(ctx context.Context, pod *unstructured.Unstructured, t podTrouble) (string, error) {
	var more []string
	var err error
	switch {
	case t.unscheduled:
		more, err = c.unbound(ctx, pod)
	case !t.definite:
		more, err = c.warning(ctx, pod.GetNamespace(), pod.GetName(), string(pod.GetUID()))
	}
	return strings.Join(append([]string{t.text}, more...), "; "), err
}

// unbound names the claims of a pod that have no volume.
func (c *Client) unbound(ctx context.Context, pod *unstructured.Unstructured) ([]string, error) {
	var out []string
	read := 0
	for _, volume := range mapsIn(pod.Object, "spec", "volumes") {
		name, _, _ := unstructured.NestedString(volume, "persistentVolumeClaim", "claimName") // of another kind
		if name == "" {
			continue
		}
		if read++; read > claimsRead {
			break
		}
		claim, err := c.core("persistentvolumeclaims", pod.GetNamespace()).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return out, err
		}
		if phase, _, _ := unstructured.NestedString(claim.Object, "status", "phase"); phase != "Bound" { // none is not bound
			warning, err := c.warning(ctx, pod.GetNamespace(), name, string(claim.GetUID()))
			if err != nil {
				return out, err
			}
			out = append(out, strings.Join(append([]string{"claim " + name + " is " + phase}, warning...), ": "))
		}
	}
	return out, nil
}

// warning returns the latest warning of an object's events, if there is one.
func (c *Client) warning(ctx context.Context, namespace, name, uid string) ([]string, error) {
	selector := "type=Warning,involvedObject.name=" + name
	if uid != "" {
		selector += ",involvedObject.uid=" + uid
	}
	events, err := c.core("events", namespace).List(ctx, metav1.ListOptions{FieldSelector: selector, Limit: eventsRead})
	if err != nil || len(events.Items) == 0 {
		return nil, err
	}
	latest := slices.MaxFunc(events.Items, func(a, b unstructured.Unstructured) int { return strings.Compare(eventTime(&a), eventTime(&b)) })
	return []string{said(latest.Object["reason"], latest.Object["message"])}, nil
}

// eventTime is when an event was last seen, in a form that sorts.
func eventTime(event *unstructured.Unstructured) string {
	for _, path := range [][]string{{"series", "lastObservedTime"}, {"lastTimestamp"}, {"eventTime"}} {
		if s, _, _ := unstructured.NestedString(event.Object, path...); s != "" { // null is none
			return s
		}
	}
	return ""
}

// selectorOf is the text of a label selector.
func selectorOf(value map[string]any) (string, error) {
	var selector metav1.LabelSelector
	if err := fromUnstructured(value, &selector); err != nil {
		return "", err
	}
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return "", err
	}
	return s.String(), nil
}
