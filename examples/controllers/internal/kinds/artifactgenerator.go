package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	watcherv1 "github.com/fluxcd/source-watcher/api/v2/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/store"
)

// ArtifactGenerator reconciles source.extensions.fluxcd.io ArtifactGenerator.
func ArtifactGenerator(ctx context.Context, env *Env) (*kube.Controller[*watcherv1.ArtifactGenerator], error) {
	logic := &artifactGenerator{sourceKind{env, sourcev1.ExternalArtifactKind, watcherv1.SourceFetchFailedReason}}
	return add(ctx, env, logic, kube.Options[*watcherv1.ArtifactGenerator]{
		Finalizer: watcherv1.Finalizer,
		Schedule: func(o *watcherv1.ArtifactGenerator) kube.Schedule {
			return kube.Schedule{Interval: o.GetRequeueAfter(), Timeout: 5 * time.Minute, Retry: env.backoff(), Suspend: o.IsDisabled()}
		},
		References: func(o *watcherv1.ArtifactGenerator) (out []kube.Reference) {
			for _, s := range o.Spec.Sources {
				out = append(out, kube.Reference{
					GroupKind: schema.GroupKind{Group: sourcev1.GroupVersion.Group, Kind: s.Kind},
					ObjectKey: client.ObjectKey{Namespace: or(s.Namespace, o.Namespace), Name: s.Name},
				})
			}
			return out
		},
		Watches: sourceWatches("GitRepository", "OCIRepository", "Bucket", "HelmChart", "ExternalArtifact"),
	})
}

type artifactGenerator struct{ sourceKind }

// generatorUnsupported are the fields that cannot be honoured yet.
func generatorUnsupported() []string {
	return []string{"spec.pathPattern", "spec.artifacts.copy.strategy!=Overwrite"}
}

// input is one source of a generator.
type input struct {
	tree     fs.FS
	artifact *meta.Artifact
}

// Reconcile makes the artifacts from the sources as they are now.
func (r *artifactGenerator) Reconcile(ctx context.Context, o *watcherv1.ArtifactGenerator, pass *kube.Pass) kube.Result {
	if err := kube.Unsupported(o, generatorUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	reader, err := r.retract(ctx, o)
	if err != nil {
		return kube.Fail(meta.BuildFailedReason, err)
	}
	inputs := map[string]input{}
	for _, s := range o.Spec.Sources {
		namespace := or(s.Namespace, o.Namespace)
		if err := r.env.Policy.Ref(o.Namespace, s.Kind, namespace, s.Name); err != nil {
			return kube.Fail(watcherv1.AccessDeniedReason, err)
		}
		a, missing := r.env.source(ctx, s.Kind, client.ObjectKey{Namespace: namespace, Name: s.Name})
		if missing != nil {
			return missing.Because(watcherv1.SourceFetchFailedReason)
		}
		content, err := r.env.artifact(ctx, a)
		if err != nil {
			return kube.Fail(watcherv1.SourceFetchFailedReason, err)
		}
		defer content.Close()
		inputs[s.Alias] = input{content, a}
	}
	before := slices.Clone(o.Status.Inventory)
	if err := r.claim(ctx, o, pass); err != nil {
		return kube.Fail(meta.BuildFailedReason, err)
	}
	var made []watcherv1.ExternalArtifactReference
	for i := range o.Spec.OutputArtifacts {
		ref, err := r.make(ctx, reader, o, &o.Spec.OutputArtifacts[i], inputs)
		if err != nil {
			return kube.Fail(meta.BuildFailedReason, in("artifact "+o.Spec.OutputArtifacts[i].Name, err))
		}
		if !slices.ContainsFunc(before, func(e watcherv1.ExternalArtifactReference) bool { return e.Name == ref.Name && e.Digest == ref.Digest }) {
			pass.Event(kube.Event{Reason: "NewArtifact", Message: "made artifact " + ref.Name + " with digest " + ref.Digest})
		}
		made = append(made, *ref)
	}
	if err := r.prune(ctx, o, o.Status.Inventory, made); err != nil {
		return kube.Fail("GarbageCollectionFailed", err)
	}
	o.Status.Inventory = made
	return kube.Ready(fmt.Sprintf("reconciliation succeeded, generated %d artifact(s)", len(made)))
}

// Finalize removes what was made.
func (r *artifactGenerator) Finalize(ctx context.Context, o *watcherv1.ArtifactGenerator, _ *kube.Pass) kube.Result {
	if err := r.prune(ctx, o, o.Status.Inventory, nil); err != nil {
		return kube.Fail("GarbageCollectionFailed", err)
	}
	return kube.Ready("removed")
}

// retract takes back artifacts that are not in the store any more, so that
// nobody looks for them until they are made again. It returns what to read
// ExternalArtifacts with: not with the cache if it may be behind.
func (r *artifactGenerator) retract(ctx context.Context, o *watcherv1.ArtifactGenerator) (client.Reader, error) {
	c := r.env.Manager.GetClient()
	var reader client.Reader = c
	for _, e := range o.Status.Inventory {
		have := &sourcev1.ExternalArtifact{}
		err := c.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: e.Name}, have)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		base := have.DeepCopy()
		_, lost := r.lost(ctx, have, &have.Status.Artifact)
		if err != nil || !lost || have.Labels[watcherv1.ArtifactGeneratorLabel] != string(o.UID) {
			continue
		}
		status.Finish(have, status.Outcome{Message: disappeared})
		if err := c.Status().Patch(ctx, have, client.MergeFrom(base), client.FieldOwner("source-watcher")); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		reader = r.env.Manager.GetAPIReader()
	}
	return reader, nil
}

// claim puts what is to be made on record before it is made, and refuses what
// belongs to somebody else.
func (r *artifactGenerator) claim(ctx context.Context, o *watcherv1.ArtifactGenerator, pass *kube.Pass) error {
	for _, out := range o.Spec.OutputArtifacts {
		have := &sourcev1.ExternalArtifact{}
		err := r.env.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: out.Name}, have)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err == nil && have.Labels[watcherv1.ArtifactGeneratorLabel] != string(o.UID) {
			return fmt.Errorf("artifact %s: the ExternalArtifact of that name is not of this generator: choose another name", out.Name)
		}
		if !slices.ContainsFunc(o.Status.Inventory, func(e watcherv1.ExternalArtifactReference) bool { return e.Name == out.Name }) {
			o.Status.Inventory = append(o.Status.Inventory, watcherv1.ExternalArtifactReference{Name: out.Name, Namespace: o.Namespace})
		}
	}
	return pass.Record(ctx)
}

// make makes one artifact and announces it.
func (r *artifactGenerator) make(ctx context.Context, reader client.Reader, o *watcherv1.ArtifactGenerator, out *watcherv1.OutputArtifact, inputs map[string]input) (*watcherv1.ExternalArtifactReference, error) {
	var steps []source.Copy
	for _, c := range out.Copy {
		alias, pattern, ok := strings.Cut(strings.TrimPrefix(c.From, "@"), "/")
		from, known := inputs[alias]
		to, into := strings.CutPrefix(c.To, "@artifact/")
		if !ok || !known || !into {
			return nil, fmt.Errorf("copy from %q to %q: use @alias/path with an alias of spec.sources, and @artifact/path", c.From, c.To)
		}
		steps = append(steps, source.Copy{From: from.tree, Pattern: pattern, To: to, Exclude: c.Exclude})
	}
	tree, err := source.Compose(ctx, source.Limits{}, steps...)
	if err != nil {
		return nil, err
	}
	info, err := r.env.Store.Put(ctx, store.Key{Kind: r.kind, Namespace: o.Namespace, Name: out.Name}, tree)
	if err != nil {
		return nil, err
	}
	revision, metadata := "latest@"+info.Digest.String(), map[string]string{}
	if from, ok := inputs[strings.TrimPrefix(out.Revision, "@")]; ok {
		revision = from.artifact.Revision
	}
	if from, ok := inputs[strings.TrimPrefix(out.OriginRevision, "@")]; ok {
		metadata[watcherv1.ArtifactOriginRevisionAnnotation] = or(from.artifact.Metadata[watcherv1.ArtifactOriginRevisionAnnotation], from.artifact.Revision)
	}
	if err := r.external(ctx, reader, o, out.Name, r.announce(info, revision, metadata)); err != nil {
		return nil, err
	}
	return &watcherv1.ExternalArtifactReference{Name: out.Name, Namespace: o.Namespace, Digest: info.Digest.String(), Filename: info.Path[strings.LastIndexByte(info.Path, '/')+1:]}, nil
}

// external writes the ExternalArtifact, if it is not as it should be.
func (r *artifactGenerator) external(ctx context.Context, reader client.Reader, o *watcherv1.ArtifactGenerator, name string, a *meta.Artifact) error {
	c := r.env.Manager.GetClient()
	want := &sourcev1.ExternalArtifact{
		TypeMeta:   metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: sourcev1.ExternalArtifactKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: name, Labels: map[string]string{watcherv1.ArtifactGeneratorLabel: string(o.UID)}},
		Spec:       sourcev1.ExternalArtifactSpec{SourceRef: &meta.NamespacedObjectKindReference{APIVersion: watcherv1.GroupVersion.String(), Kind: watcherv1.ArtifactGeneratorKind, Name: o.Name, Namespace: o.Namespace}},
	}
	if m := o.Spec.CommonMetadata; m != nil {
		for k, v := range m.Labels {
			want.Labels[k] = v
		}
		want.Annotations = m.Annotations
	}
	have := &sourcev1.ExternalArtifact{}
	err := reader.Get(ctx, client.ObjectKeyFromObject(want), have)
	if err == nil && have.Status.Artifact.HasRevision(a.Revision) && have.Status.Artifact.HasDigest(a.Digest) && have.Status.Artifact.URL == a.URL {
		return r.collect(ctx, have)
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	//nolint:staticcheck // the API modules have no apply configurations
	if err := c.Patch(ctx, want, client.Apply, client.ForceOwnership, client.FieldOwner("source-watcher")); err != nil {
		return err
	}
	base := want.DeepCopy()
	want.Status.Artifact = a
	status.Finish(want, status.Outcome{Kind: status.Succeeded, Message: "Artifact is ready"})
	if err := c.Status().Patch(ctx, want, client.MergeFrom(base), client.FieldOwner("source-watcher")); err != nil {
		return err
	}
	return r.collect(ctx, want)
}

// collect removes older files of an artifact.
func (r *artifactGenerator) collect(ctx context.Context, e *sourcev1.ExternalArtifact) error {
	_, err := r.env.Store.Collect(ctx, r.key(e), e.Status.Artifact.Path)
	return err
}

// prune removes the artifacts that are not made any more, if they are still of
// the generator.
func (r *artifactGenerator) prune(ctx context.Context, o *watcherv1.ArtifactGenerator, old, now []watcherv1.ExternalArtifactReference) error {
	var errs []error
	for _, e := range old {
		if slices.ContainsFunc(now, func(n watcherv1.ExternalArtifactReference) bool {
			return n.Name == e.Name && n.Namespace == e.Namespace
		}) {
			continue
		}
		gone := &sourcev1.ExternalArtifact{}
		err := r.env.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: e.Name}, gone)
		switch {
		case apierrors.IsNotFound(err):
			gone.Namespace, gone.Name = e.Namespace, e.Name
		case err != nil:
			errs = append(errs, err)
			continue
		case gone.Labels[watcherv1.ArtifactGeneratorLabel] != string(o.UID):
			continue // another generator has it now
		default:
			err = client.IgnoreNotFound(r.env.Manager.GetClient().Delete(ctx, gone, client.Preconditions{UID: &gone.UID}))
		}
		errs = append(errs, client.IgnoreNotFound(err), r.env.Store.Remove(r.key(gone)))
	}
	return errors.Join(errs...)
}
