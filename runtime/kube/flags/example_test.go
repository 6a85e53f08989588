package flags_test

import (
	"flag"
	"fmt"

	"github.com/gitopskit/gitopskit/runtime/kube/flags"
)

func ExampleFlags() {
	var f flags.Flags
	set := flag.NewFlagSet("kustomize-controller", flag.ContinueOnError)
	f.Bind(set, &flags.Defaults{Gates: map[string]bool{"DirectSourceFetch": false}})
	err := set.Parse([]string{"--concurrent=20", "--watch-label-selector=sharding.fluxcd.io/key=shard1", "--feature-gates=DirectSourceFetch=true"})
	fmt.Println(err, f.Validate())
	fmt.Println(f.Concurrent, f.FeatureGates["DirectSourceFetch"], f.LeaderID("kustomize-controller"))
	// Output:
	// <nil> <nil>
	// 20 true kustomize-controller-leader-election-73fdc1be
}
