// Package trace makes a trace of each revision: the passes of the source that
// found it, and of everything that it went through, with what they spent their
// time on.
//
//	tracer := &trace.Tracer{Tracer: provider.Tracer("release-controller")}
//	...
//	ctx, pass := tracer.Begin(ctx, trace.Object{Kind: "Kustomization", Namespace: "apps", Name: "web"}, nil)
//	ctx, end := trace.Phase(ctx, "fetch")
//	artifact, err := fetch(ctx)
//	end(err)
//	...
//	pass.End(trace.Outcome{Revision: artifact.Revision, Err: err})
//
// The identifier of the trace is made of the digest in the revision, see [ID]:
// whoever knows the revision knows the trace, so that the spans of all programs
// join, in whatever order and after whatever restarts, and nothing has to be
// handed on. As a pass may find its revision last, its phases are noted while
// they happen and become spans, with the times they had, when the pass ends. A
// pass that never learns a revision makes a trace of its own.
//
// [Wrap] does this for an [runtime.Loop].
//
// # Parents
//
// The span of a pass is a child of the one that brought about its revision in
// the object it comes from, [Start.From], else of a span that stands for the
// revision and that nobody sends. The identifiers of both follow from the
// revision, see [Parent]. With [IDs] as the generator of the provider, the first
// pass that is done with a revision really has that identifier.
//
// # Errors, secrets and concurrency
//
// Nothing here fails or waits; how spans are sent, dropped and counted is the
// matter of the provider. Attributes are kinds, names, outcomes, causes and
// revisions; the text of errors is left out unless [Tracer.Text] gives it. A
// [Tracer] and a [Pass] are safe for concurrent use.
//
// # What it does not do
//
// It configures no exporter. Spans that others begin with the context of a pass
// are not part of its trace, which is not known yet.
package trace
