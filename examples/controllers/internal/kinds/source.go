package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/store"
)

// includeUnavailable is the condition of a GitRepository that waits for another.
const includeUnavailable = "IncludeUnavailable"

// sourceKind is what the kinds of sources have in common.
type sourceKind struct {
	env  *Env
	kind string
	// failure is the reason of a failure to fetch that has no other.
	failure string
}

func (s *sourceKind) key(o metav1.Object) store.Key {
	return store.Key{Kind: s.kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// stored reports whether the artifact that an object announces is there.
func (s *sourceKind) stored(ctx context.Context, a *meta.Artifact) bool {
	return a != nil && a.URL == s.env.StoreURL+"/"+a.Path && s.env.Store.Verify(ctx, a.Path, digest.Digest(a.Digest)) == nil
}

const disappeared = "building artifact: disappeared from storage"

// lost ends a pass if the announced artifact is not there any more, and takes
// it back, so that nobody looks for it. The pass goes on when those of the
// other objects have taken back theirs.
func (s *sourceKind) lost(ctx context.Context, o kube.Object, announced **meta.Artifact) (kube.Result, bool) {
	if *announced == nil || s.stored(ctx, *announced) {
		return kube.Result{}, false
	}
	*announced = nil
	status.Delete(o, sourcev1.ArtifactInStorageCondition, sourcev1.ArtifactOutdatedCondition)
	return kube.Wait(meta.ProgressingReason, disappeared, rt.WakeAt(time.Now())), true
}

// outdated says that there is a newer revision than the one that is announced,
// until that is stored.
func (s *sourceKind) outdated(o kube.Object, announced *meta.Artifact, revision string) {
	if announced != nil && !announced.HasRevision(revision) {
		status.Set(o, metav1.Condition{Type: sourcev1.ArtifactOutdatedCondition, Status: metav1.ConditionTrue, Reason: "NewRevision", Message: fmt.Sprintf("new upstream revision '%s'", revision)})
	}
}

// publish stores a tree and returns what to announce.
func (s *sourceKind) publish(ctx context.Context, o metav1.Object, tree fs.FS, revision string, metadata map[string]string) (*meta.Artifact, error) {
	info, err := s.env.Store.Put(ctx, s.key(o), tree)
	if err != nil {
		return nil, err
	}
	return s.announce(info, revision, metadata), nil
}

// announce describes what was stored.
func (s *sourceKind) announce(info store.Info, revision string, metadata map[string]string) *meta.Artifact {
	return &meta.Artifact{
		Path: info.Path, URL: s.env.StoreURL + "/" + info.Path, Revision: revision, Digest: info.Digest.String(),
		LastUpdateTime: metav1.NewTime(info.Time.UTC()), Size: &info.Size, Metadata: maps.Clone(metadata),
	}
}

// unchanged succeeds with the artifact that is there already, and tells of a
// recovery.
func (s *sourceKind) unchanged(ctx context.Context, o kube.Object, pass *kube.Pass, a *meta.Artifact) kube.Result {
	if status.Is(o, status.Ready, metav1.ConditionFalse) {
		tellArtifact(pass, meta.SucceededReason, a, storedMessage(a))
	}
	return s.succeed(ctx, o, a)
}

func storedMessage(a *meta.Artifact) string {
	return fmt.Sprintf("stored artifact for revision '%s'", a.Revision)
}

// succeed sets the conditions for an artifact that is announced, and removes
// what nobody needs any more.
func (s *sourceKind) succeed(ctx context.Context, o kube.Object, a *meta.Artifact) kube.Result {
	if _, err := s.env.Store.Collect(ctx, s.key(o), a.Path); err != nil {
		s.env.Log.Error("old artifacts were not removed", "object", s.key(o).String(), "error", err)
	}
	message := storedMessage(a)
	status.Delete(o, abnormal()...)
	status.Delete(o, sourcev1.ArtifactOutdatedCondition)
	status.Set(o, metav1.Condition{Type: sourcev1.ArtifactInStorageCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: message})
	return kube.Ready(message).At(a.Revision)
}

// abnormal are the conditions of failures, of which there is one at most.
func abnormal() []string {
	return []string{sourcev1.FetchFailedCondition, sourcev1.BuildFailedCondition, sourcev1.StorageOperationFailedCondition, includeUnavailable}
}

// only removes the conditions of other failures. One that goes on has begun when
// it began.
func only(o kube.Object, condition string) {
	status.Delete(o, slices.DeleteFunc(abnormal(), func(c string) bool { return c == condition })...)
}

// fail ends a pass of a source that cannot be read.
func (s *sourceKind) fail(o kube.Object, err error) kube.Result {
	reason := reasonOf(err)
	if reason == fetchFailed || reason == sourcev1.VerificationError && !verifies(o) {
		reason = s.failure
	}
	if errors.As(err, new(*kube.UnsupportedError)) {
		return kube.Fail("UnsupportedField", err)
	}
	return s.broken(o, sourcev1.FetchFailedCondition, reason, err)
}

// unstored ends a pass whose artifact cannot be written.
func (s *sourceKind) unstored(o kube.Object, err error) kube.Result {
	return s.broken(o, sourcev1.StorageOperationFailedCondition, sourcev1.ArchiveOperationFailedReason, err)
}

// broken sets the condition of a failure, and of no other. A verification that
// failed has its own.
func (s *sourceKind) broken(o kube.Object, condition, reason string, err error) kube.Result {
	own := errors.Is(err, source.ErrInvalidSpec) || errors.As(err, new(providerError)) || errors.Is(err, plainError{})
	if !own || errors.As(err, new(unverified)) { // it can be mended elsewhere
		err = outside{err}
	}
	err = withoutQuery{err}
	is := metav1.ConditionTrue
	if reason == sourcev1.VerificationError {
		condition, is = sourcev1.SourceVerifiedCondition, metav1.ConditionFalse
	}
	only(o, condition)
	status.Set(o, metav1.Condition{Type: condition, Status: is, Reason: reason, Message: err.Error()})
	return kube.Fail(reason, err)
}

// unavailable ends a pass that needs another source, which is not there yet.
func (s *sourceKind) unavailable(o kube.Object, condition, reason, message string) kube.Result {
	only(o, condition)
	status.Set(o, metav1.Condition{Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message})
	return kube.NotYet(reason, message, s.env.Flags.RequeueDependency)
}

// verifies reports whether a source is to be signed.
func verifies(o kube.Object) bool {
	switch o := o.(type) {
	case *sourcev1.GitRepository:
		return o.Spec.Verification != nil
	case *sourcev1.OCIRepository:
		return o.Spec.Verify != nil
	case *sourcev1.HelmChart:
		return o.Spec.Verify != nil
	}
	return false
}

// verified tells who vouched for the source, if somebody should.
func (s *sourceKind) verified(o kube.Object, evidence []source.Evidence, revision string) {
	if !verifies(o) {
		status.Delete(o, sourcev1.SourceVerifiedCondition)
		return
	}
	message := fmt.Sprintf("verified signature of revision %s", revision)
	for _, e := range evidence {
		message += fmt.Sprintf(": %s of %s by %s", e.Kind, e.Object, e.Signer)
	}
	status.Set(o, metav1.Condition{Type: sourcev1.SourceVerifiedCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: message})
}

// finalize removes the artifacts of a deleted object.
func (s *sourceKind) finalize(o metav1.Object) kube.Result {
	if err := s.env.Store.Remove(s.key(o)); err != nil {
		return kube.Fail("GarbageCollectionFailed", err)
	}
	return kube.Ready("removed")
}

// tellNew tells that there is a new artifact, if it is one.
func tellNew(pass *kube.Pass, old, a *meta.Artifact, message string) {
	if old == nil || old.Digest != a.Digest || old.Revision != a.Revision {
		tellArtifact(pass, "NewArtifact", a, message)
	}
}

func tellArtifact(pass *kube.Pass, reason string, a *meta.Artifact, message string) {
	pass.Event(kube.Event{Reason: reason, Message: strip(message), Metadata: map[string]string{"revision": a.Revision, "digest": a.Digest}})
}

// query finds the query of a URL, where credentials may be.
var query = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s"'?]*)\?[^\s"']*`)

func strip(message string) string { return query.ReplaceAllString(message, "$1") }

// withoutQuery is an error whose URLs have no queries.
type withoutQuery struct{ error }

func (e withoutQuery) Error() string { return strip(e.error.Error()) }
func (e withoutQuery) Unwrap() error { return e.error }

// reasonOf is the reason of a condition for the failure of a source.
func reasonOf(err error) string {
	var entry *secrets.Error
	switch {
	case errors.As(err, new(providerError)):
		return sourcev1.InvalidProviderConfigurationReason
	case errors.As(err, new(unverified)):
		return sourcev1.VerificationError
	case errors.Is(err, plainError{}):
		return meta.InsecureConnectionsDisallowedReason
	case errors.Is(err, source.ErrUnauthorized), errors.As(err, &entry), errors.As(err, new(*missingError)):
		return sourcev1.AuthenticationFailedReason
	case errors.Is(err, source.ErrUnverified):
		return sourcev1.VerificationError
	case errors.Is(err, source.ErrInvalidSpec):
		return sourcev1.URLInvalidReason
	}
	return fetchFailed
}

// unverified is an error about what a signature is to be verified with.
type unverified struct{ error }

func (e unverified) Unwrap() error { return e.error }

// providerError is about a spec.provider that its Secret is not for.
type providerError struct{ app bool }

func (e providerError) Error() string {
	if e.app {
		return "spec.provider is github, but the Secret of spec.secretRef has no githubAppID: add the keys of a GitHub App, or remove spec.provider"
	}
	return "the Secret of spec.secretRef is that of a GitHub App, but spec.provider is not github: set it"
}

// Terminal says that only a changed object can help.
func (providerError) Terminal() bool { return true }

// fetchFailed is the reason of what has no better one.
const fetchFailed = "FetchFailed"
