package ssa

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Action is what happened, or would happen, to an object.
type Action string

// The actions of a change.
const (
	Created    Action = "created"
	Configured Action = "configured" // an existing object was changed
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	Kept       Action = "kept"    // not pruned; Change.Reason says why
	Skipped    Action = "skipped" // not reached, because of another failure
	Exempt     Action = "exempt"  // left alone, as its own policy says
	// Recreated is an object that was deleted and created again, because a field
	// cannot be changed.
	Recreated Action = "recreated"
	Failed    Action = "failed" // Change.Err says why
	// Contested is an object that somebody changes again and again: it was
	// repaired a moment ago and left alone this time; Change.Rival says more.
	Contested Action = "contested"
)

// Change is the outcome for one object.
type Change struct {
	Object  ObjectID
	Version string // API version of the desired object, such as "v1"
	Action  Action
	// Reason explains an action that does not explain itself.
	Reason string
	// Fields are the differences between the live object and the desired
	// state, for Created and Configured. Secret values are masked. See
	// ApplyOptions.Explain for when they are missing.
	Fields []FieldChange
	// Foreign names the other owner or tool whose marks the object carried before
	// it was applied, see Policy.Foreign.
	Foreign string
	// Rival is set for an object that is Configured or Contested because
	// somebody changed it since it was last applied, if a [Store] noticed.
	Rival *Rival
	// UID and ResourceVersion are those of the live object after an apply;
	// empty in a diff that would create it.
	UID             types.UID
	ResourceVersion string
	// Err is why the action is Failed.
	Err error

	baseline baseline // what Apply left behind, for Watch
	followed bool     // the store knows what Apply left behind
	expires  bool     // the object deletes itself when it is done
}

// ChangeSet is the outcome of one call, one change for each object, in the
// order in which the objects were handled.
type ChangeSet struct {
	Changes []Change

	memo *Memo
}

// Err joins the errors of all objects; nil if there are none.
func (s *ChangeSet) Err() error {
	var errs []error
	for _, c := range s.Changes {
		errs = append(errs, c.Err)
	}
	return errors.Join(errs...)
}

// Count returns how many objects had one of the actions.
func (s *ChangeSet) Count(actions ...Action) int {
	n := 0
	for _, c := range s.Changes {
		for _, a := range actions {
			if c.Action == a {
				n++
			}
		}
	}
	return n
}

// Changed reports whether anything was or would be created, configured,
// recreated or deleted.
func (s *ChangeSet) Changed() bool { return s.Count(Created, Configured, Recreated, Deleted) > 0 }

// Objects returns the identities of all objects that exist after the call as
// far as it knows: those created, configured, recreated,
// unchanged or contested. What is exempt is not among them: nobody need wait for it.
func (s *ChangeSet) Objects() []ObjectID {
	var ids []ObjectID
	for _, c := range s.Changes {
		switch c.Action {
		case Created, Configured, Recreated, Unchanged, Contested:
			ids = append(ids, c.Object)
		case Deleted, Kept, Exempt, Skipped, Failed:
		}
	}
	return ids
}

// Deleted returns the identities of the objects whose deletion was asked for. Those with finalizers may still exist; see
// [Client.WaitDeleted].
func (s *ChangeSet) Deleted() []ObjectID {
	var ids []ObjectID
	for _, c := range s.Changes {
		if c.Action == Deleted {
			ids = append(ids, c.Object)
		}
	}
	return ids
}

// Expiring returns those of [ChangeSet.Objects] that delete themselves when they
// are done: Jobs with ttlSecondsAfterFinished. They may be gone before a wait
// begins; see [WaitOptions].
func (s *ChangeSet) Expiring() []ObjectID {
	var ids []ObjectID
	for _, c := range s.Changes {
		if c.expires {
			ids = append(ids, (&ChangeSet{Changes: []Change{c}}).Objects()...)
		}
	}
	return ids
}

// Update takes over the changes of a later call: those of the same objects are
// replaced, others added. With it a repair of some objects brings the set of a
// whole apply up to date.
func (s *ChangeSet) Update(later *ChangeSet) {
	at := map[ObjectID]int{}
	for i, c := range s.Changes {
		at[c.Object] = i
	}
	for _, c := range later.Changes {
		if i, known := at[c.Object]; known {
			s.Changes[i] = c
			continue
		}
		s.Changes = append(s.Changes, c)
	}
}

// Summary returns the counts in a line: "2 created, 1 configured, 40
// unchanged". Actions that did not occur are left out.
func (s *ChangeSet) Summary() string {
	var parts []string
	for _, a := range []Action{Created, Configured, Recreated, Deleted, Unchanged, Contested, Exempt, Kept, Skipped, Failed} {
		if n := s.Count(a); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, a))
		}
	}
	if len(parts) == 0 {
		return "no objects"
	}
	return strings.Join(parts, ", ")
}
