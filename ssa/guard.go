package ssa

import (
	"fmt"
	"strings"
)

// PruneGuard stops a prune that would delete more than anybody meant. Nothing
// is deleted then, and the error, which matches [ErrGuarded], lists the victims.
type PruneGuard struct {
	// Max is how many objects may be deleted; 0 means any number.
	Max int
	// MaxPercent is how much of the owner's inventory may be deleted; 0 means all.
	MaxPercent int
	// Confirm, if set, is asked where a bound is exceeded, and whenever Namespaces,
	// CustomResourceDefinitions or PersistentVolumeClaims are among the victims,
	// which take more with them than themselves. Nil confirms nothing.
	Confirm func(victims []ObjectID) bool
}

// check returns an error if the victims, out of total objects, must stay.
func (g *PruneGuard) check(victims []*victim, total int) error {
	if g == nil {
		return nil
	}
	var ids []ObjectID
	precious := 0
	for _, v := range victims {
		if v.change.Action != Deleted || v.live == nil {
			continue
		}
		ids = append(ids, v.change.Object)
		if isNamespace(v.change.Object) || isCRD(v.change.Object) || v.change.Object.Kind == "PersistentVolumeClaim" {
			precious++
		}
	}
	why := ""
	switch n := len(ids); {
	case g.Max > 0 && n > g.Max:
		why = fmt.Sprintf("%d objects would be deleted, allowed are %d", n, g.Max)
	case g.MaxPercent > 0 && n*100 > g.MaxPercent*total:
		why = fmt.Sprintf("%d of %d objects would be deleted, allowed are %d %%", n, total, g.MaxPercent)
	case precious > 0:
		why = fmt.Sprintf("%d of the objects take others with them", precious)
	}
	if why == "" || g.Confirm != nil && g.Confirm(ids) {
		return nil
	}
	var names []string
	for _, id := range ids {
		names = append(names, id.String())
	}
	return fmt.Errorf("%w: %s: %s", ErrGuarded, why, strings.Join(names, ", "))
}
