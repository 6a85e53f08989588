// Package helm loads charts, composes values and renders, offline.
//
// It turns a chart and values into the objects that helm template shows, byte
// for byte, without a cluster, a repository or a file on disk.
//
//	chart, err := helm.Load(ctx, fsys, "charts/web", nil) // or LoadArchive
//	if err != nil {
//		return err
//	}
//	values, err := helm.Compose(ctx, lookup, inline, helm.Reference{Kind: "Secret", Name: "web"})
//	if err != nil {
//		return err
//	}
//	result, err := helm.Render(ctx, chart, helm.Release{Name: "shop", Namespace: "apps"}, values, nil)
//	if err != nil {
//		return err // helm: render web 1.0.0: templates/a.yaml: …
//	}
//	for _, o := range result.Objects {
//		fmt.Println(o.GetKind(), o.GetName())
//	}
//
// Package helm/release installs the result and keeps Helm's records.
//
// # Values
//
// [Compose] takes what spec.values and spec.valuesFrom of Flux's HelmRelease
// say, and [DigestValues] is the digest that Flux has for them. One rule is
// kept where Flux breaks its own: a reference with a target path wins over
// inline values everywhere, and the inline values are never changed.
//
// # Errors
//
// Every error is an *[Error] with the chart and, where there is one, the file,
// or a *[ReferenceError]; it matches one of the Err variables. Terminal tells
// a reconciler that only another chart or other values can help. Errors name
// references, keys and rules, but no values; what a chart passes to fail or
// required is repeated.
//
// # Confinement
//
// A chart cannot read the network, the disk or the cluster: the lookup
// function finds nothing, getHostByName resolves nothing, a schema may refer
// only to files of its chart. Links, names that leave the chart, and archives
// that unpack to more than [LoadLimits] are refused.
//
// # Concurrency
//
// A [Chart] is immutable. All functions are safe for concurrent use.
//
// # What it does not do
//
// It fetches no charts and no dependencies, and refuses charts whose
// dependencies are not in charts/. It talks to no cluster. It reads chart
// versions v1 and v2 and runs no plug-ins. A template cannot be interrupted:
// [Render] returns when its time is over, but the template may go on for a
// while. The engine of Helm prints warnings, such as of a value that cannot be
// merged, to the logger of package log.
package helm
