package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// ID returns the trace of a revision: the first 16 bytes of the digest that it
// ends with, as in main@sha1:6d59…, or is, as sha256:9f86…; else of the SHA-256
// of its text. It is the zero ID, which is not valid, for an empty revision.
func ID(revision string) trace.TraceID {
	var id trace.TraceID
	if revision == "" {
		return id
	}
	if sum := digest(revision); sum != nil {
		copy(id[:], sum)
	}
	if !id.IsValid() {
		sum := sha256.Sum256([]byte(revision))
		copy(id[:], sum[:])
	}
	return id
}

// digest returns the bytes of the digest in a revision, nil if there is none.
func digest(revision string) []byte {
	text := revision[strings.LastIndexByte(revision, '@')+1:]
	algorithm, sum, ok := strings.Cut(text, ":")
	if !ok {
		return nil
	}
	length, ok := map[string]int{"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}[algorithm]
	if !ok || len(sum) != 2*length {
		return nil
	}
	b, err := hex.DecodeString(sum)
	if err != nil {
		return nil
	}
	return b
}

// Parent returns the span of the pass of an object that brought about a
// revision, as those that come after it see it. The zero object stands for the
// revision itself. It is not valid for an empty revision.
func Parent(o Object, revision string) trace.SpanContext {
	id := ID(revision)
	if !id.IsValid() {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: spanID(o, id), TraceFlags: trace.FlagsSampled, Remote: true})
}

// Traceparent returns [Parent] as the header traceparent of W3C Trace Context
// has it, for the metadata of an event; empty for an empty revision.
func Traceparent(o Object, revision string) string {
	p := Parent(o, revision)
	if !p.IsValid() {
		return ""
	}
	return "00-" + p.TraceID().String() + "-" + p.SpanID().String() + "-" + p.TraceFlags().String()
}

// spanID depends on the object and the trace only.
func spanID(o Object, id trace.TraceID) trace.SpanID {
	h := sha256.New()
	h.Write(id[:])
	for _, s := range []string{o.Kind, o.Namespace, o.Name} {
		h.Write([]byte(s))
		h.Write([]byte{0}) // no name of an object has it
	}
	var span trace.SpanID
	copy(span[:], h.Sum(nil))
	span[0] |= 1 // never zero
	return span
}

// IDs makes the identifiers of spans: random ones, but for the first pass that
// is done with a revision, see [Parent]. It is an IDGenerator of the SDK:
//
//	sdktrace.NewTracerProvider(sdktrace.WithIDGenerator(trace.IDs{}), …)
//
// The zero value is ready to use and safe for concurrent use.
type IDs struct{}

type wantedKey struct{}

// NewIDs returns the identifiers of a span that begins a trace.
func (IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	var id trace.TraceID
	for !id.IsValid() {
		rand.Read(id[:]) // it never fails
	}
	return id, IDs{}.NewSpanID(ctx, id)
}

// NewSpanID returns the identifier of a span in a trace.
func (IDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if wanted, ok := ctx.Value(wantedKey{}).(trace.SpanID); ok {
		return wanted
	}
	var span trace.SpanID
	for !span.IsValid() {
		rand.Read(span[:]) // it never fails
	}
	return span
}
