package ssa

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// podTrouble is what keeps a pod from being ready, by its own status.
type podTrouble struct {
	text        string
	definite    bool // it says the cause; else events may
	unscheduled bool
}

// vague is 1 if there may be more to say, else 0.
func (t podTrouble) vague() int {
	if t.definite {
		return 0
	}
	return 1
}

// troubleOf returns what is wrong with a pod; false if it is ready, has done its
// work, or is going away.
func troubleOf(pod *unstructured.Unstructured) (podTrouble, bool) {
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase") // none yet is Pending
	if phase == "Succeeded" || pod.GetDeletionTimestamp() != nil {
		return podTrouble{}, false
	}
	fields, _, _ := unstructured.NestedFieldNoCopy(pod.Object, "status") // another form says nothing
	status, _ := fields.(map[string]any)
	if phase == "Failed" && phrase(status["reason"]) != "" { // such as Evicted
		return podTrouble{text: said(status["reason"], status["message"]), definite: true}, true
	}
	for _, cond := range conditions(pod) {
		switch {
		case cond["type"] == "Ready" && cond["status"] == "True":
			return podTrouble{}, false
		case cond["type"] == "PodScheduled" && cond["status"] == "False":
			return podTrouble{text: said(cond["reason"], cond["message"]), definite: true, unscheduled: true}, true
		}
	}
	var vague podTrouble
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		for _, container := range mapsIn(pod.Object, "status", list) {
			if t, trouble := containerTrouble(container); trouble {
				t.text = "container " + phrase(container["name"]) + ": " + t.text
				if t.definite {
					return t, true
				}
				if vague.text == "" {
					vague = t
				}
			}
		}
	}
	if vague.text == "" {
		vague.text = "it is not ready"
	}
	return vague, true
}

// containerTrouble returns what is wrong with a container.
func containerTrouble(container map[string]any) (podTrouble, bool) {
	waiting, _, _ := unstructured.NestedMap(container, "state", "waiting") // at most one of the three is there
	terminated, _, _ := unstructured.NestedMap(container, "state", "terminated")
	last, _, _ := unstructured.NestedMap(container, "lastState", "terminated")
	switch {
	case waiting != nil:
		reason := phrase(waiting["reason"])
		if reason == "" || reason == "ContainerCreating" || reason == "PodInitializing" {
			return podTrouble{text: "is being created"}, true
		}
		if how := exit(last); how != "" { // says more than for how long it is backed off
			return podTrouble{text: reason + ": last " + how, definite: true}, true
		}
		return podTrouble{text: said(reason, waiting["message"]), definite: true}, true
	case terminated != nil:
		how := exit(terminated)
		return podTrouble{text: how, definite: true}, how != ""
	case container["ready"] == true:
		return podTrouble{}, false
	case exit(last) != "":
		return podTrouble{text: "is running and not ready, after " + exit(last)}, true
	}
	return podTrouble{text: "is running and not ready"}, true
}

// exit says how a container ended, "" if it did well or did not end. Its own last
// words are left out: they may be anything, also a secret.
func exit(terminated map[string]any) string {
	code := terminated["exitCode"]
	if terminated == nil || code == int64(0) || code == nil {
		return ""
	}
	out := fmt.Sprintf("exit code %v", code)
	if reason := phrase(terminated["reason"]); reason != "" && reason != "Error" {
		out += " (" + reason + ")"
	}
	return out
}

// said is a reason and a message as one line.
func said(reason, message any) string {
	r, m := phrase(reason), phrase(message)
	switch {
	case m == "":
		return r
	case r == "" || strings.HasPrefix(m, r):
		return m
	}
	return r + ": " + m
}

// phrase is a string of somebody else as a line that is not too long.
func phrase(value any) string {
	s, _ := value.(string)
	return line(s)
}

func line(s string) string {
	const longest = 300
	if len(s) > 4*longest {
		s = s[:4*longest]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if runes := []rune(s); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return s
}

func fromUnstructured(from map[string]any, into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(from, into)
}
