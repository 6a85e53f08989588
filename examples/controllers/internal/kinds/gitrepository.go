package kinds

import (
	"context"
	"fmt"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/verify"
)

// GitRepository reconciles source.toolkit.fluxcd.io GitRepository.
func GitRepository(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.GitRepository], error) {
	return add(ctx, env, &gitRepository{sourceKind{env, sourcev1.GitRepositoryKind}}, kube.Options[*sourcev1.GitRepository]{
		Schedule: func(o *sourcev1.GitRepository) kube.Schedule {
			return env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
		},
	})
}

type gitRepository struct{ sourceKind }

// gitUnsupported are the fields that cannot be honoured yet.
func gitUnsupported() []string {
	return []string{
		"spec.provider!=generic", "spec.serviceAccountName", "spec.proxySecretRef", "spec.recurseSubmodules", "spec.include", "spec.sparseCheckout",
	}
}

// Reconcile publishes the newest revision of the repository.
func (r *gitRepository) Reconcile(ctx context.Context, o *sourcev1.GitRepository, pass *kube.Pass) kube.Result {
	if err := kube.Unsupported(o, gitUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	src, err := r.source(ctx, o)
	if err != nil {
		return r.fail(o, reasonOf(err), err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		return r.fail(o, reasonOf(err), err)
	}
	if o.Status.Artifact.HasRevision(rev.String()) && sameText(o.Spec.Ignore, o.Status.ObservedIgnore) && r.sameVerification(o) && r.stored(ctx, o.Status.Artifact) {
		return r.succeed(ctx, o, o.Status.Artifact)
	}
	content, err := src.Fetch(ctx, rev)
	if err != nil {
		return r.fail(o, reasonOf(err), err)
	}
	defer content.Close()
	tree, err := source.Ignore(ctx, content, text(o.Spec.Ignore))
	if err != nil {
		return r.fail(o, "FetchFailed", err)
	}
	artifact, err := r.publish(ctx, o, tree, rev.String(), nil)
	if err != nil {
		return kube.Fail("StorageOperationFailed", err)
	}
	if old := o.Status.Artifact; old == nil || old.Digest != artifact.Digest || old.Revision != artifact.Revision {
		tellNew(pass, artifact, fmt.Sprintf("stored artifact for commit '%s'", content.Metadata[git.MetaSubject]))
	}
	r.verified(o, o.Spec.Verification != nil, content.Verified, rev.String())
	o.Status.Artifact, o.Status.ObservedIgnore, o.Status.SourceVerificationMode = artifact, o.Spec.Ignore, nil
	if v := o.Spec.Verification; v != nil {
		mode := v.GetMode()
		o.Status.SourceVerificationMode = &mode
	}
	return r.succeed(ctx, o, artifact)
}

// Finalize removes what was published.
func (r *gitRepository) Finalize(_ context.Context, o *sourcev1.GitRepository, _ *kube.Pass) kube.Result {
	return r.finalize(o)
}

// sameVerification reports that the artifact was verified as the spec wants.
func (r *gitRepository) sameVerification(o *sourcev1.GitRepository) bool {
	seen := o.Status.SourceVerificationMode
	if o.Spec.Verification == nil || seen == nil {
		return o.Spec.Verification == nil && seen == nil
	}
	return *seen == o.Spec.Verification.GetMode() && o.Status.ObservedGeneration == o.Generation
}

// source is the repository of a spec, with its credentials.
func (r *gitRepository) source(ctx context.Context, o *sourcev1.GitRepository) (*git.Source, error) {
	opts := &git.Options{Ref: git.Ref{Branch: "master"}}
	if ref := o.Spec.Reference; ref != nil {
		opts.Ref = git.Ref{Branch: ref.Branch, Tag: ref.Tag, SemVer: ref.SemVer, Name: ref.Name, Commit: ref.Commit}
		switch { // the order of precedence of the API
		case ref.Commit != "":
			opts.Ref = git.Ref{Branch: ref.Branch, Commit: ref.Commit}
		case ref.Name != "":
			opts.Ref = git.Ref{Name: ref.Name}
		case ref.SemVer != "":
			opts.Ref = git.Ref{SemVer: ref.SemVer}
		case ref.Tag != "":
			opts.Ref = git.Ref{Tag: ref.Tag}
		case ref.Branch == "":
			opts.Ref = git.Ref{Branch: "master"}
		}
	}
	if err := r.env.plain(o.Spec.URL, false); err != nil {
		return nil, err
	}
	data, err := r.env.secret(ctx, o.Namespace, o.Spec.SecretRef)
	if err != nil {
		return nil, err
	}
	if err := gitAuth(opts, o.Spec.URL, data); err != nil {
		return nil, in("Secret "+o.Namespace+"/"+o.Spec.SecretRef.Name, err)
	}
	if err := r.env.gitVerify(ctx, opts, o); err != nil {
		return nil, err
	}
	return git.New(o.Spec.URL, opts)
}

// gitVerify has what is fetched verified, if the spec says so.
func (e *Env) gitVerify(ctx context.Context, opts *git.Options, o *sourcev1.GitRepository) error {
	v := o.Spec.Verification
	if v == nil {
		return nil
	}
	keys, err := e.secret(ctx, o.Namespace, &v.SecretRef)
	if err != nil {
		return err
	}
	ring, err := verify.ParseKeys(keys)
	if err != nil {
		return in("Secret "+o.Namespace+"/"+v.SecretRef.Name, err)
	}
	opts.Verifier, opts.VerifyMode = ring, git.VerifyMode(v.GetMode())
	return nil
}

// gitAuth reads credentials in the form of Flux. Nil data is nobody.
func gitAuth(opts *git.Options, url string, data map[string][]byte) error {
	if data == nil {
		return nil
	}
	if strings.HasPrefix(url, "ssh://") {
		key, err := secrets.SSH(data)
		if err != nil {
			return err
		}
		opts.Auth = git.SSH{PrivateKey: key.Identity, Passphrase: []byte(key.Passphrase), KnownHosts: key.KnownHosts}
		return nil
	}
	var err error
	if opts.TLS, err = secrets.TLS(data); err != nil {
		return err
	}
	switch {
	case secrets.Has(data, "bearerToken"):
		opts.Auth = git.Token(data["bearerToken"])
	case secrets.Has(data, "username"), secrets.Has(data, "password"):
		user, password, err := secrets.BasicAuth(data)
		if err != nil {
			return err
		}
		opts.Auth = git.Basic{Username: user, Password: password}
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sameText(a, b *string) bool { return text(a) == text(b) && (a == nil) == (b == nil) }
