package kinds

import (
	"context"
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
)

// WatchLabel marks the ConfigMaps and Secrets whose changes begin a pass of
// the objects that refer to them.
const WatchLabel = "reconcile.fluxcd.io/watch"

// publisher is a source that announces an artifact.
type publisher interface {
	client.Object
	GetArtifact() *meta.Artifact
}

// sources are the kinds that announce artifacts.
func sources() map[string]func() publisher {
	return map[string]func() publisher{
		sourcev1.GitRepositoryKind:    func() publisher { return &sourcev1.GitRepository{} },
		sourcev1.OCIRepositoryKind:    func() publisher { return &sourcev1.OCIRepository{} },
		sourcev1.BucketKind:           func() publisher { return &sourcev1.Bucket{} },
		sourcev1.HelmRepositoryKind:   func() publisher { return &sourcev1.HelmRepository{} },
		sourcev1.ExternalArtifactKind: func() publisher { return &sourcev1.ExternalArtifact{} },
		sourcev1.HelmChartKind:        func() publisher { return &sourcev1.HelmChart{} },
	}
}

// source returns what a source announces, or how to end a pass without it.
func (e *Env) source(ctx context.Context, kind string, key client.ObjectKey) (*meta.Artifact, *kube.Result) {
	notYet := func(format string, args ...any) *kube.Result {
		result := kube.NotYet("ArtifactFailed", fmt.Sprintf(format, args...), e.DependencyRetry)
		return &result
	}
	src := sources()[kind]()
	err := e.Manager.GetClient().Get(ctx, key, src)
	switch {
	case apierrors.IsNotFound(err):
		return nil, notYet("%s '%s' does not exist", kind, key)
	case err != nil:
		result := kube.Fail("ArtifactFailed", err)
		return nil, &result
	case src.GetArtifact() == nil:
		return nil, notYet("%s '%s' has no artifact yet", kind, key)
	}
	return src.GetArtifact(), nil
}

// sourceWatches begin passes when a source of the kinds has a new artifact.
func sourceWatches(kinds ...string) []kube.Watch {
	changed := func(old, new client.Object) bool {
		before, ok1 := old.(publisher)
		after, ok2 := new.(publisher)
		if !ok1 || !ok2 || after.GetArtifact() == nil {
			return false
		}
		a := before.GetArtifact()
		return a == nil || !after.GetArtifact().HasRevision(a.Revision) || !after.GetArtifact().HasDigest(a.Digest)
	}
	var out []kube.Watch
	for _, kind := range kinds {
		out = append(out, kube.Watch{Object: sources()[kind](), Changed: changed})
	}
	return out
}

// configWatches begin passes when a ConfigMap or Secret changes that carries
// the label, which the manager's cache is restricted to.
func configWatches() []kube.Watch {
	var out []kube.Watch
	for _, kind := range []string{"ConfigMap", "Secret"} {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
		out = append(out, kube.Watch{Object: o})
	}
	return out
}

// configRefs are the ConfigMaps and Secrets that a Kustomization reads.
func configRefs(o *kustomizev1.Kustomization) []kube.Reference {
	var out []kube.Reference
	add := func(kind, name string) {
		out = append(out, kube.Reference{GroupKind: schema.GroupKind{Kind: kind}, ObjectKey: client.ObjectKey{Namespace: o.Namespace, Name: name}})
	}
	if p := o.Spec.PostBuild; p != nil {
		for _, ref := range p.SubstituteFrom {
			add(ref.Kind, ref.Name)
		}
	}
	if d := o.Spec.Decryption; d != nil && d.SecretRef != nil {
		add("Secret", d.SecretRef.Name)
	}
	if k := o.Spec.KubeConfig; k != nil && k.SecretRef != nil {
		add("Secret", k.SecretRef.Name)
	}
	return out
}
