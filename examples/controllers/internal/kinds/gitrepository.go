package kinds

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/auth"
	"github.com/gitopskit/gitopskit/runtime/auth/github"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/share"
	"github.com/gitopskit/gitopskit/source/verify"
)

// GitRepository reconciles source.toolkit.fluxcd.io GitRepository.
func GitRepository(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.GitRepository], error) {
	logic := &gitRepository{sourceKind: sourceKind{env, sourcev1.GitRepositoryKind, sourcev1.GitOperationFailedReason}}
	env.closers = append(env.closers, func() { logic.shared.Close() }) //nolint:errcheck // only memory is released
	return add(ctx, env, logic, kube.Options[*sourcev1.GitRepository]{
		Schedule: func(o *sourcev1.GitRepository) kube.Schedule {
			return env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
		},
		References: func(o *sourcev1.GitRepository) (out []kube.Reference) {
			for _, i := range o.Spec.Include {
				out = append(out, kube.Reference{
					GroupKind: sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind).GroupKind(),
					ObjectKey: client.ObjectKey{Namespace: o.Namespace, Name: i.GitRepositoryRef.Name},
				})
			}
			return out
		},
		Watches: sourceWatches(sourcev1.GitRepositoryKind),
	})
}

type gitRepository struct {
	sourceKind
	// shared has what many objects want: the same revision of a repository.
	shared share.Cache
	// tokens are those of GitHub Apps.
	tokens auth.Cache
}

// gitUnsupported are the fields that cannot be honoured yet.
func gitUnsupported() []string {
	return []string{"spec.provider!=generic|github", "spec.serviceAccountName", "spec.recurseSubmodules"}
}

// Reconcile publishes the newest revision of the repository.
func (r *gitRepository) Reconcile(ctx context.Context, o *sourcev1.GitRepository, pass *kube.Pass) kube.Result {
	if result, ok := r.lost(ctx, o, &o.Status.Artifact); ok {
		return result
	}
	if err := kube.Unsupported(o, gitUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	src, key, err := r.source(ctx, o)
	if err != nil {
		return r.fail(o, err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		return r.fail(o, err)
	}
	included, missing := r.included(ctx, o)
	if missing != nil {
		return *missing
	}
	if o.Status.Artifact.HasRevision(rev.String()) && r.same(o, included) {
		return r.unchanged(ctx, o, pass, o.Status.Artifact)
	}
	r.outdated(o, o.Status.Artifact, rev.String())
	content, err := r.shared.Fetch(ctx, key, rev, src)
	if err != nil {
		return r.fail(o, err)
	}
	defer content.Close()
	r.verified(o, content.Verified, rev.String())
	tree, err := r.tree(ctx, o, content, included)
	if err != nil {
		return r.fail(o, err)
	}
	artifact, err := r.publish(ctx, o, tree, rev.String(), nil)
	if err != nil {
		return r.unstored(o, err)
	}
	tellNew(pass, o.Status.Artifact, artifact, fmt.Sprintf("stored artifact for commit '%s'", content.Metadata[git.MetaSubject]))
	o.Status.Artifact, o.Status.IncludedArtifacts, o.Status.SourceVerificationMode = artifact, included, nil
	o.Status.ObservedIgnore, o.Status.ObservedInclude, o.Status.ObservedSparseCheckout = o.Spec.Ignore, o.Spec.Include, o.Spec.SparseCheckout
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

// same reports that the artifact was made of its revision as the spec wants.
func (r *gitRepository) same(o *sourcev1.GitRepository, included []*meta.Artifact) bool {
	return sameText(o.Spec.Ignore, o.Status.ObservedIgnore) && slices.Equal(o.Spec.Include, o.Status.ObservedInclude) &&
		slices.Equal(o.Spec.SparseCheckout, o.Status.ObservedSparseCheckout) && r.sameVerification(o) &&
		slices.EqualFunc(included, o.Status.IncludedArtifacts, func(a, b *meta.Artifact) bool { return a.HasRevision(b.Revision) && a.HasDigest(b.Digest) })
}

// sameVerification reports that the artifact was verified as the spec wants.
func (r *gitRepository) sameVerification(o *sourcev1.GitRepository) bool {
	seen := o.Status.SourceVerificationMode
	if o.Spec.Verification == nil || seen == nil {
		return o.Spec.Verification == nil && seen == nil
	}
	return status.Is(o, sourcev1.SourceVerifiedCondition, metav1.ConditionTrue) && *seen == o.Spec.Verification.GetMode() && o.Status.ObservedGeneration == o.Generation
}

// source is the repository of a spec, with its credentials. The key changes with
// everything that decides what may be fetched.
func (r *gitRepository) source(ctx context.Context, o *sourcev1.GitRepository) (src *git.Source, key string, err error) {
	opts := &git.Options{Ref: gitRef(o.Spec.Reference), Timeout: -1} // passes have a timeout
	if err := r.env.plain(o.Spec.URL, false); err != nil {
		return nil, "", err
	}
	proxied, err := r.env.proxy(ctx, o.Namespace, o.Spec.ProxySecretRef, &opts.Proxy)
	if err != nil {
		return nil, "", err
	}
	if o.Spec.ProxySecretRef != nil && strings.HasPrefix(o.Spec.URL, "ssh:") {
		return nil, "", &kube.UnsupportedError{Fields: []string{"spec.proxySecretRef with an ssh URL"}}
	}
	data, err := r.env.secret(ctx, o.Namespace, o.Spec.SecretRef)
	if err != nil {
		return nil, "", err
	}
	app := o.Spec.Provider == sourcev1.GitProviderGitHub
	if app != secrets.Has(data, "githubAppID") {
		return nil, "", providerError{app}
	}
	if app {
		err = r.gitHubApp(opts, data)
	} else {
		err = gitAuth(opts, o.Spec.URL, data)
	}
	if err != nil {
		return nil, "", in("Secret "+o.Namespace+"/"+o.Spec.SecretRef.Name, err)
	}
	keys, err := r.env.gitVerify(ctx, opts, o)
	if err != nil {
		return nil, "", err
	}
	src, err = git.New(o.Spec.URL, opts)
	all := fmt.Sprintf("%q %q %q %q %x %x %x", o.Spec.URL, opts.Ref.String(), o.Spec.Provider, opts.VerifyMode, proxied, fingerprint(data), fingerprint(keys))
	return src, fmt.Sprintf("%x", sha256.Sum256([]byte(all))), err
}

// gitRef is what to read, by the order of precedence of the API.
func gitRef(ref *sourcev1.GitRepositoryRef) git.Ref {
	switch {
	case ref == nil:
	case ref.Commit != "":
		return git.Ref{Branch: ref.Branch, Commit: ref.Commit}
	case ref.Name != "":
		return git.Ref{Name: ref.Name}
	case ref.SemVer != "":
		return git.Ref{SemVer: ref.SemVer}
	case ref.Tag != "":
		return git.Ref{Tag: ref.Tag}
	case ref.Branch != "":
		return git.Ref{Branch: ref.Branch}
	}
	return git.Ref{Branch: "master"}
}

// gitHubApp has an App log in, to the host of its API.
func (r *gitRepository) gitHubApp(opts *git.Options, data map[string][]byte) error {
	app, err := secrets.GitHubApp(data)
	if err != nil {
		return err
	}
	config, err := secrets.TLS(data)
	if err != nil {
		return err
	}
	transport := &http.Transport{Proxy: opts.Proxy, TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	installation, err := github.New(app, &github.Options{Transport: transport, Cache: &r.tokens})
	if err != nil {
		return err
	}
	opts.Proxy, opts.Transport = nil, installation.Transport(transport)
	return nil
}

// gitVerify has what is fetched verified, if the spec says so.
// It returns the keys.
func (e *Env) gitVerify(ctx context.Context, opts *git.Options, o *sourcev1.GitRepository) (map[string][]byte, error) {
	v := o.Spec.Verification
	if v == nil {
		return nil, nil //nolint:nilnil // documented: there are no keys
	}
	keys, err := e.secret(ctx, o.Namespace, &v.SecretRef)
	if err != nil {
		return nil, unverified{err}
	}
	ring, err := verify.ParseKeys(keys)
	if err != nil {
		return nil, unverified{in("Secret "+o.Namespace+"/"+v.SecretRef.Name, err)}
	}
	opts.Verifier, opts.VerifyMode = ring, git.VerifyMode(v.GetMode())
	return keys, nil
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
		login := git.SSH{PrivateKey: key.Identity, Passphrase: []byte(key.Passphrase), KnownHosts: key.KnownHosts}
		if err := login.Validate(); err != nil {
			return &secrets.Error{Entry: "identity or known_hosts", Err: err}
		}
		opts.Auth = login
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
