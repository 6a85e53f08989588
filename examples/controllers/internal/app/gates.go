package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// gate is a feature gate of Flux's controllers as it is here.
type gate struct {
	// on is its default: what is done here.
	on bool
	// only, if not empty, says why no other value than the default will do. Gates without it that nothing reads choose
	// between two ways to the same result, one of which is not there: Secrets are never cached, for example, and what
	// objects refer to is always watched.
	only string
}

// gates are those of all of Flux's controllers, so that their command lines are understood.
func gates() map[string]gate {
	return map[string]gate{
		"AdditiveCELDependencyCheck":     {}, // see kinds.Env.Flags
		"AdoptLegacyReleases":            {},
		"AllowDNSLookups":                {only: "templates look up no names"},
		"CacheSecretsAndConfigMaps":      {},
		"CancelHealthCheckOnNewRevision": {},
		"CorrectDrift":                   {only: "see spec.driftDetection"},
		"DefaultToRetryOnFailure":        {only: "see spec.install and spec.upgrade"},
		"DetectDrift":                    {only: "see spec.driftDetection"},
		"DirectSourceFetch":              {},
		"DisableChartDigestTracking":     {only: "a chart with another digest is another chart"},
		"DisableConfigWatchers":          {},
		"DisableFailFastBehavior":        {only: "a failure of an object ends the wait for its health"},
		"DisableStatusPollerCache":       {on: true},
		"ExternalArtifact":               {},
		"FluxStorage":                    {},
		"GitAllBranchReferences":         {on: true},
		"GitForcePushBranch":             {only: "nothing is pushed with force yet"},
		"GitShallowClone":                {on: true},
		"GitSparseCheckout":              {},
		"GroupChangeLog":                 {},
		"MigrateAPIVersion":              {only: "managed fields are migrated where the API server demands it"},
		"OOMWatch":                       {only: "memory is not watched"},
		"ObjectLevelWorkloadIdentity":    {only: "there are no identities of clouds yet"},
		"StrictPostBuildSubstitutions":   {on: true, only: "a variable without a value is an error"},
		"UseHelm3Defaults":               {on: true, only: "hooks are rendered a second time if spec.postRenderStrategy says so"},
	}
}

// gateDefaults are the values of the gates that the command line does not name.
func gateDefaults() map[string]bool {
	out := map[string]bool{}
	for name, g := range gates() {
		out[name] = g.on
	}
	return out
}

// checkGates returns an error for values that would not be honoured.
func (o *Options) checkGates() error {
	var errs []error
	all := gates()
	for _, name := range slices.Sorted(maps.Keys(o.FeatureGates)) {
		if g := all[name]; g.only != "" && o.FeatureGates[name] != g.on {
			errs = append(errs, fmt.Errorf("-feature-gates: %s=%t is not supported: %s", name, !g.on, g.only))
		}
	}
	return errors.Join(errs...)
}
