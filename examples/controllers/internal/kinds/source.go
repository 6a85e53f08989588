package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/store"
)

// Conditions of Flux's sources.
const (
	artifactInStorage = "ArtifactInStorage"
	sourceVerified    = "SourceVerified"
	fetchFailed       = "FetchFailed"
)

// sourceKind is what the kinds of sources have in common.
type sourceKind struct {
	env  *Env
	kind string
}

func (s *sourceKind) key(o metav1.Object) store.Key {
	return store.Key{Kind: s.kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// stored reports whether the artifact that an object announces is there.
func (s *sourceKind) stored(ctx context.Context, a *meta.Artifact) bool {
	return a != nil && a.URL == s.env.StoreURL+"/"+a.Path && s.env.Store.Verify(ctx, a.Path, digest.Digest(a.Digest)) == nil
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

// succeed sets the conditions for an artifact that is announced, and removes
// what nobody needs any more.
func (s *sourceKind) succeed(ctx context.Context, o kube.Object, a *meta.Artifact) kube.Result {
	if _, err := s.env.Store.Collect(ctx, s.key(o), a.Path); err != nil {
		s.env.Log.Error("old artifacts were not removed", "object", s.key(o).String(), "error", err)
	}
	message := fmt.Sprintf("stored artifact for revision '%s'", a.Revision)
	status.Delete(o, fetchFailed)
	status.Set(o, metav1.Condition{Type: artifactInStorage, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: message})
	return kube.Ready(message).At(a.Revision)
}

// fail sets the conditions for a source that cannot be read.
func (s *sourceKind) fail(o kube.Object, reason string, err error) kube.Result {
	status.Set(o, metav1.Condition{Type: fetchFailed, Status: metav1.ConditionTrue, Reason: reason, Message: err.Error()})
	if reason == "VerificationError" {
		status.Set(o, metav1.Condition{Type: sourceVerified, Status: metav1.ConditionFalse, Reason: reason, Message: err.Error()})
	}
	if !errors.Is(err, source.ErrInvalidSpec) && !errors.Is(err, plainError{}) {
		err = outside{err}
	}
	return kube.Fail(reason, err)
}

// verified tells who vouched for the source.
func (s *sourceKind) verified(o kube.Object, wanted bool, evidence []source.Evidence, revision string) {
	if !wanted {
		status.Delete(o, sourceVerified)
		return
	}
	message := fmt.Sprintf("verified signature of revision %s", revision)
	for _, e := range evidence {
		message += fmt.Sprintf(": %s of %s by %s", e.Kind, e.Object, e.Signer)
	}
	status.Set(o, metav1.Condition{Type: sourceVerified, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: message})
}

// finalize removes the artifacts of a deleted object.
func (s *sourceKind) finalize(o metav1.Object) kube.Result {
	if err := s.env.Store.Remove(s.key(o)); err != nil {
		return kube.Fail("GarbageCollectionFailed", err)
	}
	return kube.Ready("removed")
}

// tellNew tells that there is a new artifact.
func tellNew(pass *kube.Pass, a *meta.Artifact, message string) {
	pass.Event(kube.Event{Reason: "NewArtifact", Message: message, Metadata: map[string]string{"revision": a.Revision, "digest": a.Digest}})
}
