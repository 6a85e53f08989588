package kinds

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/health"
)

// Kustomization reconciles kustomize.toolkit.fluxcd.io Kustomization.
func Kustomization(ctx context.Context, env *Env) (*kube.Controller[*kustomizev1.Kustomization], error) {
	k := &kustomization{env: env}
	return add(ctx, env, k, kube.Options[*kustomizev1.Kustomization]{
		Schedule: func(o *kustomizev1.Kustomization) kube.Schedule {
			return kube.Schedule{Interval: o.GetRequeueAfter(), Retry: rt.Fixed(o.GetRetryInterval()), Timeout: o.GetTimeout(), Suspend: o.Spec.Suspend}
		},
		DependsOn:  func(o *kustomizev1.Kustomization) []client.ObjectKey { return keys(o.Namespace, o.Spec.DependsOn) },
		Depends:    depends(env, func(o *kustomizev1.Kustomization) []meta.DependencyReference { return o.Spec.DependsOn }, k.sameRevision),
		References: func(o *kustomizev1.Kustomization) []kube.Reference { return append(configRefs(o), sourceRef(o)) },
		Watches:    append(configWatches(), sourceWatches("GitRepository", "OCIRepository", "Bucket", "ExternalArtifact")...),
	})
}

type kustomization struct {
	env   *Env
	waits kube.Waits
	tries attempts
	known memos
}

// Reconcile applies what the source has.
func (r *kustomization) Reconcile(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass) kube.Result {
	if err := r.refused(o); err != nil {
		return kube.Fail(refusal(err), err)
	}
	artifact, missing := r.env.source(ctx, o.Spec.SourceRef.Kind, sourceRef(o).ObjectKey)
	if missing != nil {
		return *missing
	}
	return r.tries.end(o, pass, artifact, r.deploy(ctx, o, pass, artifact))
}

// deploy builds and applies an artifact, or goes on with the wait for it.
func (r *kustomization) deploy(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass, artifact *meta.Artifact) kube.Result {
	if waited, err := r.waits.End(pass, waitsFor(o, artifact.Revision)); waited {
		return r.healthy(o, pass, artifact, err)
	}
	if pass.Interrupted != "" {
		pass.Event(kube.Event{Reason: "HealthCheckCanceled", Message: "canceled because of a new reconciliation: " + pass.Interrupted})
	}
	o.Status.LastAttemptedRevision = artifact.Revision
	from, err := r.env.inputs(ctx, o, pass, artifact)
	if err != nil {
		return kube.Fail("BuildFailed", outside{err})
	}
	if result := r.again(ctx, o, pass, from, artifact); result != nil {
		return *result
	}
	content, err := r.env.artifact(ctx, artifact)
	if gone(err) {
		return kube.NotYet("ArtifactFailed", "the artifact of the source is not there yet: "+err.Error(), r.env.Flags.RequeueDependency)
	}
	if err != nil {
		return kube.Fail("ArtifactFailed", err)
	}
	defer content.Close()
	if dir := path.Clean("./" + o.Spec.Path); !isDir(content, dir) {
		return kube.Fail("ArtifactFailed", fmt.Errorf("kustomization path not found: the artifact of %s has no directory %q", artifact.Revision, dir))
	}
	objects, err := r.build(ctx, o, from, content)
	if err != nil {
		return kube.Fail("BuildFailed", outside{err}) // the tree may change, and so may what it is built with
	}
	return r.apply(ctx, o, pass, objects, from, artifact)
}

// again goes on without a build if it would be the one that the cluster still
// holds, and returns nil if that is not known.
func (r *kustomization) again(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass, from *inputs, artifact *meta.Artifact) *kube.Result {
	last := r.known.of(pass.Key, from.sum)
	if last == nil {
		return nil
	}
	cluster, err := r.client(ctx, o, pass)
	if err != nil || !cluster.Holds(ctx, last.applied) {
		return nil
	}
	r.tries.built(pass, last.digest)
	result := r.check(o, pass, cluster, last.applied.Objects(), artifact)
	return &result
}

// apply applies the objects, prunes, and begins to wait.
func (r *kustomization) apply(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass, objects []*unstructured.Unstructured, from *inputs, artifact *meta.Artifact) kube.Result {
	digest := digestOf(objects)
	r.tries.built(pass, digest)
	r.known.forget(pass.Key)
	cluster, err := r.client(ctx, o, pass)
	if bad := (*health.Error)(nil); errors.As(err, &bad) {
		return kube.Stall("InvalidCELExpression", err)
	}
	if err != nil {
		return kube.Fail("ReconciliationFailed", err)
	}
	set, err := cluster.Apply(ctx, objects, nil)
	if err = outcome(set, err); err != nil {
		return kube.Fail("ReconciliationFailed", err)
	}
	pruned, err := cluster.Prune(ctx, objects, &ssa.PruneOptions{Orphan: !o.Spec.Prune})
	if err = outcome(pruned, err); err != nil {
		return kube.Fail("PruneFailed", err)
	}
	if set.Update(pruned); set.Changed() {
		pass.Event(kube.Event{Reason: "Progressing", Message: set.Summary(), Metadata: revisions(artifact)})
	}
	r.known.keep(pass.Key, memo{from.sum, digest, set.Memo()})
	ids := make([]ssa.ObjectID, len(objects))
	for i, obj := range objects {
		ids[i] = cluster.ID(obj)
	}
	return r.check(o, pass, cluster, ids, artifact)
}

// check has the health of what was applied looked at, if that is wanted.
func (r *kustomization) check(o *kustomizev1.Kustomization, pass *kube.Pass, cluster *ssa.Client, applied []ssa.ObjectID, artifact *meta.Artifact) kube.Result {
	ids := checks(o, applied)
	if len(ids) == 0 {
		status.Delete(o, meta.HealthyCondition)
		return r.done(o, pass, artifact)
	}
	return r.wait(o, pass, cluster, ids, artifact.Revision)
}

// waitsFor tells one wait from another.
func waitsFor(o *kustomizev1.Kustomization, revision string) string {
	return fmt.Sprintf("%s %d", revision, o.Generation)
}

// wait watches the health of objects without holding a worker.
func (r *kustomization) wait(o *kustomizev1.Kustomization, pass *kube.Pass, cluster *ssa.Client, ids []ssa.ObjectID, revision string) kube.Result {
	message := fmt.Sprintf("running health checks for revision %s with a timeout of %v", revision, o.GetTimeout())
	again := status.IsReady(o) && o.Status.LastAppliedRevision == revision // only a look whether it still is
	if !again {
		status.Set(o, metav1.Condition{Type: meta.HealthyCondition, Status: metav1.ConditionUnknown, Reason: "Progressing", Message: message})
	}
	const before = 500 * time.Millisecond // the pass itself times out
	opts := &ssa.WaitOptions{AnyOwner: !o.Spec.Wait, Timeout: max(time.Until(pass.Deadline)-before, before)}
	result := kube.Wait("Progressing", message, r.waits.Begin(pass, waitsFor(o, revision), func(ctx context.Context) error {
		_, err := cluster.Wait(ctx, ids, opts)
		return err
	}))
	if again {
		return result.Quiet()
	}
	return result
}

// healthy ends a wait.
func (r *kustomization) healthy(o *kustomizev1.Kustomization, pass *kube.Pass, artifact *meta.Artifact, err error) kube.Result {
	if err != nil {
		status.Set(o, metav1.Condition{Type: meta.HealthyCondition, Status: metav1.ConditionFalse, Reason: "HealthCheckFailed", Message: err.Error()})
		return kube.Fail("HealthCheckFailed", in("health check failed", err))
	}
	status.Set(o, metav1.Condition{Type: meta.HealthyCondition, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "all objects are ready"})
	return r.done(o, pass, artifact)
}

// done ends a pass that has applied a revision.
func (r *kustomization) done(o *kustomizev1.Kustomization, pass *kube.Pass, artifact *meta.Artifact) kube.Result {
	revision := artifact.Revision
	message := "Applied revision: " + revision
	if o.Status.LastAppliedRevision != revision {
		metadata := revisions(artifact)
		if strings.Contains(revision, "@sha1:") {
			metadata["commit"] = revision // for the status of the commit
		}
		pass.Event(kube.Event{Reason: "ReconciliationSucceeded", Message: message, Metadata: metadata})
	}
	o.Status.LastAppliedRevision, o.Status.LastAppliedOriginRevision = revision, originRevision(artifact)
	return kube.Ready(message).Because("ReconciliationSucceeded").At(revision)
}

// Finalize deletes what was applied, as the deletion policy says.
func (r *kustomization) Finalize(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass) kube.Result {
	_, _ = r.waits.End(pass, "") // nothing waits for it any more
	r.tries.forget(pass.Key)
	r.known.forget(pass.Key)
	policy := o.GetDeletionPolicy()
	remove := policy == kustomizev1.DeletionPolicyDelete || policy == kustomizev1.DeletionPolicyWaitForTermination || policy == kustomizev1.DeletionPolicyMirrorPrune && o.Spec.Prune
	if !remove || pass.Suspended || o.Status.Inventory == nil || len(o.Status.Inventory.Entries) == 0 {
		return kube.Ready("deleted")
	}
	o.Spec.Ignore, o.Spec.HealthCheckExprs = nil, nil // of no use any more, so they need not be right
	cluster, err := r.client(ctx, o, pass)
	if err != nil {
		return kube.Fail("PruneFailed", err)
	}
	if lost := r.env.identityLost(ctx, o.Namespace, o.Spec.ServiceAccountName, o.Spec.KubeConfig); lost != nil {
		left, err := cluster.Inventory.Load(ctx)
		pass.Event(kube.Event{Warning: true, Reason: "PruneFailed", Message: fmt.Sprintf("%v: left behind: %v", errors.Join(lost, err), left)})
		return kube.Ready("deleted")
	}
	set, err := cluster.Prune(ctx, nil, nil)
	if err = outcome(set, err); err == nil && policy == kustomizev1.DeletionPolicyWaitForTermination {
		_, err = cluster.WaitDeleted(ctx, set.Deleted(), &ssa.WaitOptions{Timeout: o.GetTimeout()})
	}
	if err != nil {
		return kube.Fail("PruneFailed", err)
	}
	pass.Event(kube.Event{Reason: "ReconciliationSucceeded", Message: set.Summary()})
	return kube.Ready("deleted")
}

// checks are the objects whose health matters.
func checks(o *kustomizev1.Kustomization, applied []ssa.ObjectID) []ssa.ObjectID {
	if o.Spec.Wait {
		return applied
	}
	var ids []ssa.ObjectID
	for _, h := range o.Spec.HealthChecks {
		gv, _ := schema.ParseGroupVersion(h.APIVersion)
		ids = append(ids, ssa.ObjectID{Group: gv.Group, Kind: h.Kind, Namespace: h.Namespace, Name: h.Name})
	}
	return ids
}

// sourceRef names the source of a Kustomization.
func sourceRef(o *kustomizev1.Kustomization) kube.Reference {
	ref := o.Spec.SourceRef
	return kube.Reference{
		GroupKind: schema.GroupKind{Group: sourcev1.GroupVersion.Group, Kind: ref.Kind},
		ObjectKey: client.ObjectKey{Namespace: or(ref.Namespace, o.Namespace), Name: strings.TrimSpace(ref.Name)},
	}
}
