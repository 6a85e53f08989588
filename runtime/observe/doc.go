// Package observe has the metrics of whatever reconciles objects, with the
// dashboards and alerts that read them.
//
//	metrics, err := observe.New(registry, nil)
//	...
//	watched := observe.Of(metrics, "Release", func(k string) (string, string) { return "", k })
//	loop, err := runtime.New(watched.Reconciler(reconciler), &runtime.Options[string]{Observe: watched.Observe})
//	...
//	stop := metrics.Snapshot("Release", watched.Resources(loop.All()))
//	defer stop()
//
// What happens is counted when it happens, by kind: how long passes take and
// how they end, how long keys wait for a worker, what triggered them, how many
// requests they send, how long a revision takes to become ready. What is, is
// counted when somebody asks: [Metrics.Snapshot] names a function that lists
// the objects, and a scrape reads it. An object that does nothing costs nothing.
//
// [Dashboards] and [Rules] hold dashboards for Grafana and alerts for
// Prometheus.
//
// # Cardinality
//
// The only labels that come from users are namespaces and names, reasons and,
// on request, revisions: invalid UTF-8 and control characters are replaced,
// long values cut between two characters, and each metric has at most so many
// series as [Options] say; what is beyond is counted together, as "other".
// Series of an object end with it.
//
// # Names of Flux
//
// Options.Flux adds the metrics that dashboards for Flux read:
// gotk_reconcile_duration_seconds, gotk_resource_info with the labels that
// Flux's monitoring example has kube-state-metrics give, and those of caches.
//
// # Errors and concurrency
//
// [New] fails if the registry has such metrics already. Everything is safe for
// concurrent use.
//
// # What it does not do
//
// It serves nothing; the registry is the caller's, and must not be a pedantic
// one, because labels that would be empty are left out. Errors are never
// labels. Traces are in package trace below.
package observe
