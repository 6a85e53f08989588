package ssa

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Health says how far objects have come of which kstatus knows too little, such
// as custom resources with conditions of their own. Package ssa/health has one
// that takes its rules from expressions.
//
// It must be safe for concurrent use, and must not keep or change the objects.
type Health interface {
	// Covers reports whether it has a rule for a kind. It always answers the same.
	Covers(kind schema.GroupKind) bool
	// Status returns the state of an object of a kind that it covers, and why. It
	// returns soon after ctx ends. It is not asked about objects that are being
	// deleted: those are Terminating.
	Status(ctx context.Context, obj *unstructured.Unstructured) (State, string)
}

// look is what one object tells about how far it has come.
type look struct {
	state   State
	message string
	// expires is true of an object that deletes itself when it is done.
	expires bool
	// bare is when the object was made, in Unix time, if it counts as Current only
	// because it has no status; else 0.
	bare int64
}

// lookAt judges an object by the client's rules, and else by those of kstatus.
func (c *Client) lookAt(ctx context.Context, obj *unstructured.Unstructured) look {
	if !c.covers(obj.GroupVersionKind().GroupKind()) || obj.GetDeletionTimestamp() != nil {
		return lookAt(obj)
	}
	out := look{expires: expires(obj)}
	out.state, out.message = c.Health.Status(ctx, obj)
	return out
}

// covers reports whether the client has its own rules for a kind.
func (c *Client) covers(kind schema.GroupKind) bool { return c.Health != nil && c.Health.Covers(kind) }

// lookAt judges an object by itself, as kstatus does, but for Jobs, which are
// Current when they are complete and not when they have started.
func lookAt(obj *unstructured.Unstructured) look {
	out := look{state: Unknown, expires: expires(obj)}
	result, err := compute(obj)
	if err != nil {
		out.message = err.Error()
		return out
	}
	out.state, out.message = State(result.Status), result.Message
	switch {
	case out.state == Terminating && len(obj.GetFinalizers()) > 0:
		out.message = "it waits for its finalizers " + strings.Join(obj.GetFinalizers(), ", ")
	case out.state == Terminating:
	case isJob(obj):
		out.state, out.message = jobState(obj, out.state, out.message)
	case out.state == Current && isBare(obj):
		out.bare = max(obj.GetCreationTimestamp().Unix(), 1)
	}
	if out.state == Current {
		out.message = "" // says the same of every object
	}
	return out
}

// compute is kstatus, which panics on some objects that no server would accept.
func compute(obj *unstructured.Unstructured) (result *status.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: its status has an unexpected form: %v", ErrInvalid, r)
		}
	}()
	return status.Compute(obj)
}

func isJob(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "Job" && obj.GroupVersionKind().Group == "batch"
}

// jobState corrects what kstatus says of a Job.
func jobState(obj *unstructured.Unstructured, state State, message string) (State, string) {
	suspended, _, _ := unstructured.NestedBool(obj.Object, "spec", "suspend") // another type is no suspension
	switch {
	case state == Stuck || completed(obj):
		return state, message
	case suspended:
		return Current, "" // nothing will happen until somebody resumes it
	}
	return InProgress, message
}

// completed reports the condition by which a Job says that it is done.
func completed(obj *unstructured.Unstructured) bool {
	for _, c := range conditions(obj) {
		if c["type"] == "Complete" && c["status"] == "True" {
			return true
		}
	}
	return false
}

// conditions returns the conditions of an object's status that are objects.
func conditions(obj *unstructured.Unstructured) []map[string]any {
	return mapsIn(obj.Object, "status", "conditions")
}

// mapsIn returns the objects in a list within an object. Nothing is copied.
func mapsIn(obj map[string]any, fields ...string) []map[string]any {
	value, _, _ := unstructured.NestedFieldNoCopy(obj, fields...) // another form holds nothing
	list, _ := value.([]any)
	out := make([]map[string]any, 0, len(list))
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// expires reports an object that deletes itself when it is done.
func expires(obj *unstructured.Unstructured) bool {
	value, found, err := unstructured.NestedFieldNoCopy(obj.Object, "spec", "ttlSecondsAfterFinished")
	return isJob(obj) && found && err == nil && value != nil
}

// isBare reports an object without a status of a kind that kstatus has no rule
// for, so that it counts as Current for want of anything that says otherwise.
func isBare(obj *unstructured.Unstructured) bool {
	value, found := obj.Object["status"]
	fields, _ := value.(map[string]any)
	return (!found || len(fields) == 0) && status.GetLegacyConditionsFn(obj) == nil
}

// age is for how long an object has existed by the local clock.
func age(bare int64) time.Duration { return max(time.Since(time.Unix(bare, 0)), 0) }
