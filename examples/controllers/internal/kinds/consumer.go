package kinds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	fluxkustomize "github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/ssa"
)

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
	a, reason, err := e.published(ctx, kind, key)
	if err == nil {
		return a, nil
	}
	result := kube.NotYet("ArtifactFailed", err.Error(), e.Flags.RequeueDependency)
	if reason == "" {
		result = kube.Fail("ArtifactFailed", err)
	}
	return nil, &result
}

// published returns what a source announces, or why it announces nothing, with
// a reason if it is to be waited for.
func (e *Env) published(ctx context.Context, kind string, key client.ObjectKey) (a *meta.Artifact, reason string, err error) {
	src := sources()[kind]()
	err = e.Manager.GetClient().Get(ctx, key, src)
	switch {
	case apierrors.IsNotFound(err):
		return nil, "NotFound", fmt.Errorf("%s '%s' does not exist", kind, key)
	case err != nil:
		return nil, "", err
	case src.GetArtifact() == nil:
		return nil, "NoArtifact", fmt.Errorf("%s '%s' has no artifact yet", kind, key)
	}
	return src.GetArtifact(), "", nil
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

// configWatches begin passes when a ConfigMap or Secret changes that an object
// refers to; no label is needed, and all others are not even known.
func configWatches() []kube.Watch {
	var out []kube.Watch
	for _, kind := range []string{"ConfigMap", "Secret"} {
		o := &metav1.PartialObjectMetadata{}
		o.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
		out = append(out, kube.Watch{Object: o, ByName: true})
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

// refusal is the reason of a condition for a spec that is refused.
func refusal(err error) string {
	switch {
	case errors.Is(err, tenancy.ErrDenied):
		return "AccessDenied"
	case errors.As(err, new(specError)):
		return "InvalidSpec"
	}
	return "UnsupportedField"
}

// depends decides whether a dependency is ready: by its expression if it has
// one, else by its conditions, and what more says of those.
func depends[T kube.Object](e *Env, refs func(T) []meta.DependencyReference, more func(ctx context.Context, o, dep T) error) func(ctx context.Context, o, dep T) error {
	return func(ctx context.Context, o, dep T) error {
		key, about := client.ObjectKeyFromObject(dep), "dependency "+client.ObjectKeyFromObject(dep).String()
		for _, ref := range refs(o) {
			if or(ref.Namespace, o.GetNamespace()) == key.Namespace && ref.Name == key.Name && ref.ReadyExpr != "" {
				if err := in(about, e.Expressions.Ready(ctx, ref.ReadyExpr, o, dep)); err != nil || !e.Flags.FeatureGates["AdditiveCELDependencyCheck"] {
					return err
				}
			}
		}
		if !status.IsReady(dep) {
			return errors.New(about + " is not ready")
		}
		if more == nil {
			return nil
		}
		return more(ctx, o, dep)
	}
}

// keys are the objects that another depends on.
func keys(namespace string, refs []meta.DependencyReference) []client.ObjectKey {
	out := make([]client.ObjectKey, len(refs))
	for i, d := range refs {
		out[i] = client.ObjectKey{Namespace: or(d.Namespace, namespace), Name: d.Name}
	}
	return out
}

// data returns the content of a ConfigMap or Secret, as the API server has it.
func (e *Env) data(ctx context.Context, kind, namespace, name string) (map[string][]byte, error) {
	cm, secret := &corev1.ConfigMap{}, &corev1.Secret{}
	var obj client.Object = secret
	if kind == "ConfigMap" {
		obj = cm
	}
	err := e.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
	out := map[string][]byte{}
	maps.Copy(out, secret.Data)
	for k, v := range cm.Data {
		out[k] = []byte(v)
	}
	return out, err
}

// form returns a value as another type that has the same JSON form.
func form[T any](from any) (T, error) {
	var to T
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, &to)
	}
	return to, err
}

// edits are the patches and images of a spec as options of a build.
func edits(patches []fluxkustomize.Patch, images []fluxkustomize.Image) (*kustomize.Options, error) {
	opts := &kustomize.Options{}
	var err1, err2 error
	opts.Patches, err1 = form[[]kustomize.Patch](patches)
	opts.Images, err2 = form[[]kustomize.Image](images)
	return opts, errors.Join(err1, err2)
}

// artifact opens the artifact of a source: from the store if it is in this
// program, else over HTTP.
func (e *Env) artifact(ctx context.Context, a *meta.Artifact) (*source.Artifact, error) {
	f, err := e.stored(ctx, a)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return e.Fetch.Fetch(ctx, a.URL, digest.Digest(a.Digest))
	}
	defer f.Close()
	return source.ReadArchive(ctx, source.Revision{Digest: digest.Digest(a.Digest)}, f, nil)
}

// blob reads an artifact as it is.
func (e *Env) blob(ctx context.Context, a *meta.Artifact) ([]byte, error) {
	f, err := e.stored(ctx, a)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return e.Fetch.FetchBytes(ctx, a.URL, digest.Digest(a.Digest))
	}
	defer f.Close()
	return io.ReadAll(f)
}

// stored opens an artifact that is in the store of this program, nil if it is
// in that of another.
func (e *Env) stored(ctx context.Context, a *meta.Artifact) (io.ReadCloser, error) {
	if e.Store == nil || a.URL != e.StoreURL+"/"+a.Path {
		return nil, nil
	}
	if err := e.Store.Verify(ctx, a.Path, digest.Digest(a.Digest)); err != nil {
		return nil, err
	}
	return e.Store.Open(a.Path)
}

// outcome is the error of a change, or what it was not made of.
func outcome(set *ssa.ChangeSet, err error) error {
	if err != nil {
		return err
	}
	return set.Err()
}

func secretName(ref *meta.LocalObjectReference) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}

func isDir(tree fs.FS, name string) bool {
	info, err := fs.Stat(tree, name)
	return err == nil && info.IsDir()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// conceal has the data of a Secret told nowhere, neither as a whole nor by the
// values that it holds as YAML.
func conceal(pass *kube.Pass, data map[string][]byte) {
	for _, text := range data {
		pass.Conceal(string(text))
		var content any
		if yaml.Unmarshal(text, &content) == nil {
			concealIn(pass, content)
		}
	}
}

func concealIn(pass *kube.Pass, content any) {
	switch v := content.(type) {
	case map[string]any:
		for _, value := range v {
			concealIn(pass, value)
		}
	case []any:
		for _, value := range v {
			concealIn(pass, value)
		}
	default:
		pass.Conceal(fmt.Sprint(v))
	}
}
