package release

import (
	"fmt"
	"strings"
)

// Event tells how an action ended, in the words of Flux's events and conditions.
type Event struct {
	// Reason is one word, such as "UpgradeSucceeded" or "RollbackFailed".
	Reason string
	// Message is a sentence with the release, its revision and its chart.
	Message string
	// Failed reports that the action did not succeed, or that something was
	// not as it should be.
	Failed bool
}

// Event says how the action of a step ended, which [Client.Reconcile] reports
// with the error in Err. There is none for an action that only prepares another.
func (o *Outcome) Event(d *Desired) (Event, bool) {
	name := d.Namespace + "/" + d.Name
	what := ""
	switch o.Next {
	case Install, Upgrade, Test, Rollback:
		what = string(o.Next)
	case UninstallFailed, ResumeUninstall:
		what = "uninstall"
	case CorrectDrift:
		done := "was corrected"
		if o.Err != nil {
			done = fmt.Sprintf("could not be corrected: %v", o.Err)
		}
		return Event{Failed: true, Reason: "DriftDetected", Message: "Cluster state of release " + name + " has drifted from the desired state and " + done}, true
	case None, Unlock:
		return Event{}, false
	}
	if o.Record != nil && o.Record.Release != nil {
		name = fmt.Sprintf("%s.v%d", name, o.Record.Release.Version)
	}
	if d.Chart != nil {
		name += " with chart " + d.Chart.Name() + "@" + d.Chart.Version()
	}
	title := strings.ToUpper(what[:1]) + what[1:]
	if o.Err != nil {
		return Event{Failed: true, Reason: title + "Failed", Message: fmt.Sprintf("Helm %s failed for release %s: %v", what, name, o.Err)}, true
	}
	return Event{Reason: title + "Succeeded", Message: fmt.Sprintf("Helm %s succeeded for release %s", what, name)}, true
}

// Drifted lists the objects that differ, a line for each; empty if none do.
func (o *Outcome) Drifted(d *Desired) string {
	if len(o.Drift) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Cluster state of release %s/%s has drifted from the desired state:", d.Namespace, d.Name)
	for _, x := range o.Drift {
		fmt.Fprintf(&b, "\n%s %s/%s changed", x.Object.GetKind(), x.Object.GetNamespace(), x.Object.GetName())
	}
	return b.String()
}
