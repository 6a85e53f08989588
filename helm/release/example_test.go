package release_test

import (
	"fmt"

	helmrelease "helm.sh/helm/v3/pkg/release"

	"github.com/gitopskit/gitopskit/helm/release"
)

func ExampleDecide() {
	wanted := release.Wanted{
		ChartName: "web", ChartVersion: "1.1.0",
		Policy: release.Policy{Upgrade: release.Remediation{Retries: 1}},
	}
	observed := release.Observed{
		Status: helmrelease.StatusFailed, ChartName: "web", ChartVersion: "1.1.0", Managed: true,
		Snapshot: &release.Snapshot{Revision: 2}, Previous: true, PreviousIntact: true,
	}
	failedOnce := release.Counters{Failures: 1, UpgradeFailures: 1, Last: release.Upgrade}
	decision := release.Decide(wanted, observed, failedOnce)
	fmt.Println(decision.State, "->", decision.Next)
	// Output: Failed -> rollback
}
