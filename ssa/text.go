package ssa

import (
	"fmt"
	"strings"
)

// Text returns the change for people, over several lines: a sign, the object,
// and below it, indented, the fields that differ. The signs are + created,
// ~ configured, - deleted, = unchanged, ! kept, skipped, contested or failed.
func (c Change) Text() string {
	var b strings.Builder
	sign := map[Action]string{Created: "+", Configured: "~", Deleted: "-", Unchanged: "="}[c.Action]
	if sign == "" {
		sign = "!"
	}
	fmt.Fprintf(&b, "%s %s", sign, c.Object)
	if sign == "!" {
		fmt.Fprintf(&b, " %s", c.Action)
	}
	if c.Reason != "" {
		fmt.Fprintf(&b, " (%s)", c.Reason)
	}
	if c.Action == Configured {
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "\n    %s", f)
		}
	}
	return b.String()
}
