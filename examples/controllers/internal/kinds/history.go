package kinds

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"sync"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	watcherv1 "github.com/fluxcd/source-watcher/api/v2/v1beta1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// originRevision is what an artifact was made of, if its source says so.
func originRevision(a *meta.Artifact) string {
	return a.Metadata[watcherv1.ArtifactOriginRevisionAnnotation]
}

// revisions are the facts of events and of the history about an artifact.
func revisions(a *meta.Artifact) map[string]string {
	facts := map[string]string{"revision": a.Revision}
	if origin := originRevision(a); origin != "" {
		facts["originRevision"] = origin
	}
	return facts
}

// attempts remember what was built until its outcome is known, which may be a
// pass later. The zero value is ready to use.
type attempts struct {
	mu sync.Mutex
	of map[client.ObjectKey]attempt
}

// attempt is one try to bring about what was built.
type attempt struct {
	digest string
	began  time.Time
}

// built begins an attempt.
func (a *attempts) built(pass *kube.Pass, digest string) {
	if digest == "" {
		return // it cannot be told from others, nor will it be applied
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[client.ObjectKey]attempt{}
	}
	a.of[pass.Key] = attempt{digest, pass.Began}
}

// forget drops the attempt of an object.
func (a *attempts) forget(key client.ObjectKey) (attempt, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.of[key]
	delete(a.of, key)
	return last, ok
}

// end returns a result with the revisions of the artifact that it is about, and
// puts it into the history unless the attempt goes on. What only repeats the
// last one is not counted, as each count would be a write of its own, unless
// somebody has asked for the pass.
func (a *attempts) end(o *kustomizev1.Kustomization, pass *kube.Pass, artifact *meta.Artifact, result kube.Result) kube.Result {
	facts, outcome := revisions(artifact), result.Outcome()
	result = result.At(artifact.Revision).With("originRevision", facts["originRevision"])
	if outcome.Kind == status.Progressing {
		return result
	}
	last, ok := a.forget(pass.Key)
	if !ok {
		return result // nothing was built
	}
	requested, _ := meta.ReconcileAnnotationValue(o.Annotations)
	if latest := o.Status.History.Latest(); latest != nil && latest.Digest == last.digest && latest.LastReconciledStatus == outcome.Reason &&
		maps.Equal(latest.Metadata, facts) && requested == o.Status.LastHandledReconcileAt {
		return result
	}
	now := time.Now()
	o.Status.History.Upsert(last.digest, now, now.Sub(last.began).Round(time.Millisecond), outcome.Reason, facts)
	return result
}

// digestOf tells one set of objects from another; empty if it has no JSON form.
func digestOf(objects []*unstructured.Unstructured) string {
	hash := sha256.New()
	enc := json.NewEncoder(hash)
	for _, o := range objects {
		if err := enc.Encode(o.Object); err != nil {
			return ""
		}
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}
