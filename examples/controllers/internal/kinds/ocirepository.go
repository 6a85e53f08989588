package kinds

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
	"github.com/gitopskit/gitopskit/source/verify/cosign"
)

// OCIRepository reconciles source.toolkit.fluxcd.io OCIRepository.
func OCIRepository(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.OCIRepository], error) {
	return add(ctx, env, &ociRepository{sourceKind{env, sourcev1.OCIRepositoryKind, sourcev1.OCIPullFailedReason}}, kube.Options[*sourcev1.OCIRepository]{
		Schedule: func(o *sourcev1.OCIRepository) kube.Schedule {
			return env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
		},
	})
}

type ociRepository struct{ sourceKind }

// ociUnsupported are the fields that cannot be honoured yet.
func ociUnsupported() []string {
	return []string{
		"spec.provider!=generic",
		"spec.verify.provider!=cosign", "spec.verify.matchOIDCIdentity", "spec.verify.trustedRootSecretRef",
	}
}

// Reconcile publishes the content of the image that the reference is now.
func (r *ociRepository) Reconcile(ctx context.Context, o *sourcev1.OCIRepository, pass *kube.Pass) kube.Result {
	if result, ok := r.lost(ctx, o, &o.Status.Artifact); ok {
		return result
	}
	if err := kube.Unsupported(o, ociUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	src, err := r.source(ctx, o)
	if err != nil {
		return r.fail(o, err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		return r.fail(o, err)
	}
	if o.Status.Artifact.HasRevision(rev.String()) && r.same(o) {
		evidence, err := src.Verify(ctx, rev)
		if err != nil {
			return r.fail(o, err)
		}
		r.verified(o, evidence, rev.String())
		return r.unchanged(ctx, o, pass, o.Status.Artifact)
	}
	r.outdated(o, o.Status.Artifact, rev.String())
	content, err := src.Fetch(ctx, rev)
	if err != nil {
		return r.fail(o, err)
	}
	defer content.Close()
	artifact, err := r.store(ctx, o, content, rev)
	if err != nil {
		return r.unstored(o, err)
	}
	tellNew(pass, o.Status.Artifact, artifact, fmt.Sprintf("stored artifact with revision '%s' from '%s'", rev, o.Spec.URL))
	r.verified(o, content.Verified, rev.String())
	o.Status.Artifact, o.Status.ObservedIgnore, o.Status.ObservedLayerSelector = artifact, o.Spec.Ignore, o.Spec.LayerSelector
	return r.succeed(ctx, o, artifact)
}

// Finalize removes what was published.
func (r *ociRepository) Finalize(_ context.Context, o *sourcev1.OCIRepository, _ *kube.Pass) kube.Result {
	return r.finalize(o)
}

// same reports that the artifact was made from the revision as the spec wants.
func (r *ociRepository) same(o *sourcev1.OCIRepository) bool {
	was := &sourcev1.OCIRepository{}
	was.Spec.LayerSelector = o.Status.ObservedLayerSelector
	return sameText(o.Spec.Ignore, o.Status.ObservedIgnore) && was.GetLayerMediaType() == o.GetLayerMediaType() && was.GetLayerOperation() == o.GetLayerOperation()
}

// store publishes the files of a layer, or the layer as it is.
func (r *ociRepository) store(ctx context.Context, o *sourcev1.OCIRepository, content *source.Artifact, rev source.Revision) (*meta.Artifact, error) {
	metadata := maps.Clone(content.Metadata)
	delete(metadata, oci.MetaFile)
	if o.GetLayerOperation() == sourcev1.OCILayerCopy {
		data, err := content.ReadFile(content.Metadata[oci.MetaFile])
		if err != nil {
			return nil, err
		}
		info, err := r.env.Store.PutBlob(ctx, r.key(o), content.Metadata[oci.MetaFile], bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return r.announce(info, rev.String(), metadata), nil
	}
	tree, err := source.Ignore(ctx, content, text(o.Spec.Ignore))
	if err != nil {
		return nil, err
	}
	return r.publish(ctx, o, tree, rev.String(), metadata)
}

// source is the repository of a spec, with its credentials.
func (r *ociRepository) source(ctx context.Context, o *sourcev1.OCIRepository) (*oci.Repository, error) {
	if err := r.env.plain("", o.Spec.Insecure); err != nil {
		return nil, err
	}
	client, err := r.env.registry(ctx, o.Namespace, o.Spec.SecretRef, o.Spec.CertSecretRef)
	if err != nil {
		return nil, err
	}
	if _, err := r.env.proxy(ctx, o.Namespace, o.Spec.ProxySecretRef, &client.Proxy); err != nil {
		return nil, err
	}
	if o.Spec.ServiceAccountName != "" && o.Spec.SecretRef == nil {
		if client.Keychain, err = r.env.pullSecrets(ctx, o.Namespace, o.Spec.ServiceAccountName); err != nil {
			return nil, err
		}
	}
	client.Insecure = o.Spec.Insecure
	opts := &oci.Options{Client: client, Layer: oci.Layer{MediaType: o.GetLayerMediaType()}}
	if o.GetLayerOperation() == sourcev1.OCILayerCopy {
		opts.Layer.Operation = oci.CopyLayer
	}
	if ref := o.Spec.Reference; ref != nil {
		switch { // the order of precedence of the API
		case ref.Digest != "":
			opts.Ref = oci.Ref{Digest: ref.Digest}
		case ref.SemVer != "":
			opts.Ref = oci.Ref{SemVer: ref.SemVer, Filter: ref.SemverFilter}
		default:
			opts.Ref = oci.Ref{Tag: ref.Tag}
		}
	}
	if v := o.Spec.Verify; v != nil {
		if opts.Verifier, err = r.env.cosign(ctx, o.Namespace, v.SecretRef); err != nil {
			return nil, err
		}
	}
	return oci.New(o.Spec.URL, opts)
}

// registry reads how to reach a registry.
func (e *Env) registry(ctx context.Context, namespace string, login, cert *meta.LocalObjectReference) (oci.Client, error) {
	client := oci.Client{Proxy: e.Proxy, Timeout: -1} // passes have a timeout
	data, err := e.secret(ctx, namespace, login)
	if err != nil {
		return client, err
	}
	if data != nil {
		if client.Keychain, err = secrets.Keychain(data); err != nil {
			return client, in("Secret "+namespace+"/"+login.Name, err)
		}
	}
	certs, err := e.secret(ctx, namespace, cert)
	if err != nil {
		return client, err
	}
	if client.TLS, err = secrets.TLS(certs); err != nil {
		return client, in("Secret "+namespace+"/"+cert.Name, err)
	}
	return client, nil
}

// pullSecrets are the credentials of the imagePullSecrets of a service account.
func (e *Env) pullSecrets(ctx context.Context, namespace, name string) (authn.Keychain, error) {
	account := &corev1.ServiceAccount{}
	if err := e.get(ctx, namespace, name, account); err != nil {
		return nil, err
	}
	var all []authn.Keychain
	for _, ref := range account.ImagePullSecrets {
		data, err := e.secret(ctx, namespace, &meta.LocalObjectReference{Name: ref.Name})
		if err != nil {
			return nil, in("ServiceAccount "+namespace+"/"+name, err)
		}
		keychain, err := secrets.Keychain(data)
		if err != nil {
			return nil, in("ServiceAccount "+namespace+"/"+name+": Secret "+namespace+"/"+ref.Name, err)
		}
		all = append(all, keychain)
	}
	return authn.NewMultiKeychain(all...), nil
}

// cosign reads the public keys of a Secret: its entries that end in .pub.
func (e *Env) cosign(ctx context.Context, namespace string, ref *meta.LocalObjectReference) (oci.Verifier, error) {
	if ref == nil {
		return nil, &kube.UnsupportedError{Fields: []string{"spec.verify without secretRef (keyless verification)"}}
	}
	data, err := e.secret(ctx, namespace, ref)
	if err != nil {
		return nil, unverified{err}
	}
	var keys [][]byte
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if strings.HasSuffix(name, ".pub") {
			keys = append(keys, data[name])
		}
	}
	verifier, err := cosign.NewKeys(keys...)
	if err != nil {
		return nil, unverified{in("Secret "+namespace+"/"+ref.Name, err)}
	}
	return verifier, nil
}
