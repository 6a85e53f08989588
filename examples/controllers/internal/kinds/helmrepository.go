package kinds

import (
	"context"
	"fmt"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/source/helmrepo"
	"github.com/gitopskit/gitopskit/source/oci"
)

// HelmRepository reconciles source.toolkit.fluxcd.io HelmRepository.
func HelmRepository(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.HelmRepository], error) {
	logic := &helmRepository{sourceKind: sourceKind{env, sourcev1.HelmRepositoryKind, meta.FailedReason}, open: map[client.ObjectKey]*opened{}}
	return add(ctx, env, logic, kube.Options[*sourcev1.HelmRepository]{
		Schedule: func(o *sourcev1.HelmRepository) kube.Schedule {
			s := env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
			s.Interval = o.GetRequeueAfter()
			return s
		},
	})
}

// helmRepository keeps repositories open between passes, for the conditional
// requests of an index.
type helmRepository struct {
	sourceKind

	mu   sync.Mutex
	open map[client.ObjectKey]*opened
}

type opened struct {
	generation int64
	secret     string
	index      *helmrepo.Index
}

// helmRepositoryUnsupported are the fields that cannot be honoured yet.
func helmRepositoryUnsupported() []string {
	return []string{"spec.provider!=generic"}
}

// Reconcile publishes the index of the repository.
func (r *helmRepository) Reconcile(ctx context.Context, o *sourcev1.HelmRepository, pass *kube.Pass) kube.Result {
	if result, ok := r.lost(ctx, o, &o.Status.Artifact); ok {
		return result
	}
	if err := kube.Unsupported(o, helmRepositoryUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	opts, secret, err := r.env.helmOptions(ctx, o)
	if err != nil {
		return r.fail(o, err)
	}
	if o.Spec.Type == sourcev1.HelmRepositoryTypeOCI {
		return kube.Ready("Helm repository is ready")
	}
	index, err := r.index(o, opts, secret)
	if err != nil {
		return r.fail(o, err)
	}
	rev, err := index.Resolve(ctx)
	if err != nil {
		return r.fail(o, err)
	}
	if o.Status.Artifact.HasRevision(rev.String()) {
		return r.unchanged(ctx, o, pass, o.Status.Artifact)
	}
	r.outdated(o, o.Status.Artifact, rev.String())
	content, err := index.Fetch(ctx, rev)
	if err != nil {
		return r.fail(o, err)
	}
	defer content.Close()
	f, err := content.Open(helmrepo.IndexFile)
	if err != nil {
		return r.fail(o, err)
	}
	defer f.Close()
	info, err := r.env.Store.PutBlob(ctx, r.key(o), "index-"+rev.Digest.Encoded()+".yaml", f)
	if err != nil {
		return r.unstored(o, err)
	}
	artifact := r.announce(info, rev.String(), nil)
	tellNew(pass, o.Status.Artifact, artifact, fmt.Sprintf("stored fetched index of size %d from '%s'", info.Size, o.Spec.URL))
	o.Status.Artifact = artifact
	return r.succeed(ctx, o, artifact)
}

// Finalize removes what was published.
func (r *helmRepository) Finalize(_ context.Context, o *sourcev1.HelmRepository, pass *kube.Pass) kube.Result {
	r.mu.Lock()
	delete(r.open, pass.Key)
	r.mu.Unlock()
	return r.finalize(o)
}

// index opens the repository of a spec, or returns the one of the last pass.
func (r *helmRepository) index(o *sourcev1.HelmRepository, opts *helmrepo.Options, secret string) (*helmrepo.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(o)
	if known := r.open[key]; known != nil && known.generation == o.Generation && known.secret == secret {
		return known.index, nil
	}
	repo, err := helmrepo.New(o.Spec.URL, opts)
	if err != nil {
		return nil, err
	}
	index, err := repo.Index()
	if err == nil {
		r.open[key] = &opened{o.Generation, secret, index}
	}
	return index, err
}

// helmOptions reads how to reach a Helm repository. The text tells whether the
// Secrets have changed.
func (e *Env) helmOptions(ctx context.Context, o *sourcev1.HelmRepository) (*helmrepo.Options, string, error) {
	opts := &helmrepo.Options{PassCredentials: o.Spec.PassCredentials, Client: oci.Client{Insecure: o.Spec.Insecure, Proxy: e.Proxy, Timeout: -1}} // passes have a timeout
	if err := e.plain(o.Spec.URL, o.Spec.Insecure); err != nil {
		return nil, "", err
	}
	data, err := e.secret(ctx, o.Namespace, o.Spec.SecretRef)
	if err != nil {
		return nil, "", err
	}
	certs, err := e.secret(ctx, o.Namespace, o.Spec.CertSecretRef)
	if err != nil {
		return nil, "", err
	}
	switch {
	case secrets.Has(data, "username"), secrets.Has(data, "password"):
		opts.Username, opts.Password, err = secrets.BasicAuth(data)
	case secrets.Has(data, ".dockerconfigjson"):
		opts.Keychain, err = secrets.Keychain(data)
	}
	if err != nil {
		return nil, "", in("Secret "+o.Namespace+"/"+o.Spec.SecretRef.Name, err)
	}
	tlsData, tlsRef := certs, o.Spec.CertSecretRef
	if certs == nil {
		tlsData, tlsRef = data, o.Spec.SecretRef
	}
	if opts.TLS, err = secrets.TLS(tlsData); err != nil {
		return nil, "", in("Secret "+o.Namespace+"/"+tlsRef.Name, err)
	}
	return opts, fmt.Sprintf("%x %x", fingerprint(data), fingerprint(certs)), nil
}
