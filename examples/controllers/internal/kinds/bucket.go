package kinds

import (
	"context"
	"fmt"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/source/bucket"
)

// Bucket reconciles source.toolkit.fluxcd.io Bucket.
func Bucket(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.Bucket], error) {
	return add(ctx, env, &bucketKind{sourceKind{env, sourcev1.BucketKind, sourcev1.BucketOperationFailedReason}}, kube.Options[*sourcev1.Bucket]{
		Schedule: func(o *sourcev1.Bucket) kube.Schedule {
			return env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
		},
	})
}

type bucketKind struct{ sourceKind }

// bucketUnsupported are the fields that cannot be honoured yet.
func bucketUnsupported() []string {
	return []string{"spec.provider!=generic", "spec.sts", "spec.serviceAccountName"}
}

// Reconcile publishes the objects of the bucket.
func (r *bucketKind) Reconcile(ctx context.Context, o *sourcev1.Bucket, pass *kube.Pass) kube.Result {
	if result, ok := r.lost(ctx, o, &o.Status.Artifact); ok {
		return result
	}
	if err := kube.Unsupported(o, bucketUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	lister, err := r.lister(ctx, o)
	if err != nil {
		return r.fail(o, err)
	}
	defer lister.CloseIdleConnections()
	src, err := bucket.New(o.Spec.Endpoint+"/"+o.Spec.BucketName, lister, &bucket.Options{Prefix: o.Spec.Prefix, Ignore: text(o.Spec.Ignore)})
	if err != nil {
		return r.fail(o, err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		return r.fail(o, err)
	}
	if o.Status.Artifact.HasRevision(rev.String()) && sameText(o.Spec.Ignore, o.Status.ObservedIgnore) {
		return r.unchanged(ctx, o, pass, o.Status.Artifact)
	}
	r.outdated(o, o.Status.Artifact, rev.String())
	content, err := src.Fetch(ctx, rev)
	if err != nil {
		return r.fail(o, err)
	}
	defer content.Close()
	artifact, err := r.publish(ctx, o, content, rev.String(), nil)
	if err != nil {
		return r.unstored(o, err)
	}
	tellNew(pass, o.Status.Artifact, artifact, fmt.Sprintf("stored artifact of bucket '%s'", o.Spec.BucketName))
	o.Status.Artifact, o.Status.ObservedIgnore = artifact, o.Spec.Ignore
	return r.succeed(ctx, o, artifact)
}

// Finalize removes what was published.
func (r *bucketKind) Finalize(_ context.Context, o *sourcev1.Bucket, _ *kube.Pass) kube.Result {
	return r.finalize(o)
}

// lister is the server of a spec, with its credentials.
func (r *bucketKind) lister(ctx context.Context, o *sourcev1.Bucket) (*bucket.S3, error) {
	opts := &bucket.S3Options{Region: o.Spec.Region, PlainHTTP: o.Spec.Insecure}
	if err := r.env.plain("", o.Spec.Insecure); err != nil {
		return nil, err
	}
	if _, err := r.env.proxy(ctx, o.Namespace, o.Spec.ProxySecretRef, &opts.Proxy); err != nil {
		return nil, err
	}
	data, err := r.env.secret(ctx, o.Namespace, o.Spec.SecretRef)
	if err != nil {
		return nil, err
	}
	if data != nil {
		if opts.AccessKey, opts.SecretKey, opts.SessionToken, err = secrets.AccessKey(data); err != nil {
			return nil, in("Secret "+o.Namespace+"/"+o.Spec.SecretRef.Name, err)
		}
	}
	certs, err := r.env.secret(ctx, o.Namespace, o.Spec.CertSecretRef)
	if err != nil {
		return nil, err
	}
	if opts.TLS, err = secrets.TLS(certs); err != nil {
		return nil, in("Secret "+o.Namespace+"/"+o.Spec.CertSecretRef.Name, err)
	}
	return bucket.NewS3(o.Spec.Endpoint, o.Spec.BucketName, opts)
}
