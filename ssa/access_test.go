package ssa

import (
	"testing"
	"time"
)

// TestAccess: a refusal counts more than permissions that were asked for before
// it, whichever answer comes last.
func TestAccess(t *testing.T) {
	var a access
	g := grant{identity: "tenant", namespace: "default"}
	asked := time.Now()
	a.note(g, asked)
	if !a.fresh(g, time.Minute) {
		t.Error("a permission is not believed")
	}
	a.revoke(g)
	a.note(g, asked)
	if a.fresh(g, time.Minute) {
		t.Error("an old permission is believed after a refusal")
	}
	a.tidy()
	a.note(g, time.Now())
	if !a.fresh(g, time.Minute) {
		t.Error("a new permission is not believed")
	}
}
