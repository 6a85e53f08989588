package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	automationv1 "github.com/fluxcd/image-automation-controller/api/v1"
	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
	"github.com/gitopskit/gitopskit/image/writeback"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/verify"
)

// ImageUpdateAutomation reconciles image.toolkit.fluxcd.io ImageUpdateAutomation.
func ImageUpdateAutomation(ctx context.Context, env *Env) (*kube.Controller[*automationv1.ImageUpdateAutomation], error) {
	return add(ctx, env, &imageUpdate{env}, kube.Options[*automationv1.ImageUpdateAutomation]{
		Schedule: func(o *automationv1.ImageUpdateAutomation) kube.Schedule {
			return kube.Schedule{Interval: o.Spec.Interval.Duration, Timeout: 2 * time.Minute, Retry: env.backoff(), Suspend: o.Spec.Suspend}
		},
		References: func(o *automationv1.ImageUpdateAutomation) []kube.Reference {
			return []kube.Reference{
				{GroupKind: schema.GroupKind{Group: sourcev1.GroupVersion.Group, Kind: sourcev1.GitRepositoryKind}, ObjectKey: repositoryKey(o)},
				{GroupKind: schema.GroupKind{Group: reflectorv1.GroupVersion.Group, Kind: "ImagePolicy"}, ObjectKey: client.ObjectKey{Namespace: o.Namespace}},
			}
		},
		Watches: append(sourceWatches("GitRepository"), kube.Watch{Object: &reflectorv1.ImagePolicy{}, Changed: func(old, new client.Object) bool {
			before, ok1 := old.(*reflectorv1.ImagePolicy)
			after, ok2 := new.(*reflectorv1.ImagePolicy)
			return ok1 && ok2 && reference(before.Status.LatestRef) != reference(after.Status.LatestRef)
		}}),
	})
}

type imageUpdate struct{ env *Env }

func repositoryKey(o *automationv1.ImageUpdateAutomation) client.ObjectKey {
	return client.ObjectKey{Namespace: or(o.Spec.SourceRef.Namespace, o.Namespace), Name: o.Spec.SourceRef.Name}
}

// imageUpdateUnsupported are the fields that cannot be honoured yet.
func imageUpdateUnsupported() []string {
	return []string{"spec.sourceRef.kind!=GitRepository", "spec.update.strategy!=Setters", "spec.git.checkout.ref.semver"}
}

// Reconcile writes the selected tags to the repository.
func (r *imageUpdate) Reconcile(ctx context.Context, o *automationv1.ImageUpdateAutomation, pass *kube.Pass) kube.Result {
	if err := kube.Unsupported(o, imageUpdateUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	if o.Spec.GitSpec == nil {
		return kube.Stall("InvalidSourceConfiguration", errors.New("spec.git is missing"))
	}
	key := repositoryKey(o)
	if err := r.env.Policy.Ref(o.Namespace, o.Spec.SourceRef.Kind, key.Namespace, key.Name); err != nil {
		return kube.Fail("AccessDenied", err)
	}
	repo := &sourcev1.GitRepository{}
	err := r.env.Manager.GetClient().Get(ctx, key, repo)
	if apierrors.IsNotFound(err) {
		return kube.NotYet("SourceManagerFailed", fmt.Sprintf("GitRepository '%s' does not exist", key), r.env.Flags.RequeueDependency)
	}
	if err != nil {
		return kube.Fail("SourceManagerFailed", err)
	}
	policies, observed, err := r.policies(ctx, o)
	if err != nil {
		return kube.Fail("InvalidPolicySelector", err)
	}
	writer, err := r.writer(ctx, o, repo)
	if err != nil {
		return kube.Fail("InvalidSourceConfiguration", err)
	}
	path := ""
	if o.Spec.Update != nil {
		path = o.Spec.Update.Path
	}
	done, err := writer.Write(ctx, func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		return update.Setters(ctx, tree, policies, &update.Options{Path: path})
	})
	if err != nil {
		return kube.Fail(updateReason(err), err)
	}
	result := r.done(o, pass, done, observed)
	if wrong := malformed(done.Plan); wrong != nil {
		return kube.Fail("UpdateFailed", wrong)
	}
	return result
}

// malformed returns an error that names the markers that are none. What else
// is to be changed was changed before.
func malformed(plan *update.Plan) error {
	if plan == nil {
		return nil
	}
	var errs []error
	for _, s := range plan.Skipped {
		switch s.Reason {
		case update.Malformed, update.NoValue, update.MultiLine, update.Unsafe:
			errs = append(errs, fmt.Errorf("%s:%d: marker not used: %s: %s", s.File, s.Line, s.Reason, s.Detail))
		}
	}
	return errors.Join(errs...)
}

// done tells what was pushed, if anything was.
func (r *imageUpdate) done(o *automationv1.ImageUpdateAutomation, pass *kube.Pass, done *writeback.Result, observed automationv1.ObservedPolicies) kube.Result {
	o.Status.ObservedPolicies, o.Status.ObservedSourceRevision = observed, done.Base
	if !done.Changed() {
		message := "repository up-to-date"
		if o.Status.LastPushCommit != "" && conditionMessage(o) != "" {
			message = conditionMessage(o)
		}
		return kube.Ready(message).At(done.Base)
	}
	now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	hash := done.Revision
	if rev, err := source.ParseRevision(hash); err == nil {
		hash = rev.Digest.Encoded()
	}
	o.Status.LastAutomationRunTime, o.Status.LastPushTime, o.Status.LastPushCommit = &now, &now, hash
	message := fmt.Sprintf("pushed commit '%s' to branch '%s'", hash, done.Branch)
	pass.Event(kube.Event{Reason: "Succeeded", Message: message + "\n" + done.Message, Metadata: map[string]string{"revision": done.Revision}})
	return kube.Ready(message).At(done.Revision)
}

// Finalize has nothing to clean up.
func (r *imageUpdate) Finalize(context.Context, *automationv1.ImageUpdateAutomation, *kube.Pass) kube.Result {
	return kube.Ready("removed")
}

// policies are those of the namespace that have selected an image.
func (r *imageUpdate) policies(ctx context.Context, o *automationv1.ImageUpdateAutomation) (map[string]image.Ref, automationv1.ObservedPolicies, error) {
	selector := labels.Everything()
	if o.Spec.PolicySelector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(o.Spec.PolicySelector); err != nil {
			return nil, nil, in("spec.policySelector", err)
		}
	}
	all := &reflectorv1.ImagePolicyList{}
	if err := r.env.Manager.GetClient().List(ctx, all, client.InNamespace(o.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, nil, err
	}
	refs, observed := map[string]image.Ref{}, automationv1.ObservedPolicies{}
	for _, p := range all.Items {
		if l := p.Status.LatestRef; l != nil {
			refs[p.Namespace+":"+p.Name] = reference(l)
			observed[p.Name] = automationv1.ImageRef{Name: l.Name, Tag: l.Tag, Digest: l.Digest}
		}
	}
	return refs, observed, nil
}

// writer commits as the spec says.
func (r *imageUpdate) writer(ctx context.Context, o *automationv1.ImageUpdateAutomation, repo *sourcev1.GitRepository) (*writeback.Writer, error) {
	g := o.Spec.GitSpec
	ref := repo.Spec.Reference
	if g.Checkout != nil {
		ref = &g.Checkout.Reference
	}
	if err := r.env.plain(repo.Spec.URL, false); err != nil {
		return nil, err
	}
	remote := &gitRemote{url: repo.Spec.URL, options: git.Options{Ref: git.Ref{Branch: "master"}}}
	if ref != nil {
		remote.options.Ref = git.Ref{Branch: or(ref.Branch, "master"), Commit: ref.Commit}
		if ref.Tag != "" || ref.Name != "" || ref.SemVer != "" {
			remote.options.Ref = git.Ref{Tag: ref.Tag, Name: ref.Name, SemVer: ref.SemVer}
		}
	}
	data, err := r.env.secret(ctx, repo.Namespace, repo.Spec.SecretRef)
	if err != nil {
		return nil, err
	}
	if err := gitAuth(&remote.options, repo.Spec.URL, data); err != nil {
		return nil, in("Secret "+repo.Namespace+"/"+repo.Spec.SecretRef.Name, err)
	}
	opts := &writeback.Options{
		Branch: remote.options.Ref.Branch,
		Message: writeback.Message{
			Template: g.Commit.MessageTemplate, Values: g.Commit.MessageTemplateValues, Automation: writeback.Name{Namespace: o.Namespace, Name: o.Name},
		},
	}
	if p := g.Push; p != nil {
		opts.PushBranch, opts.Refspec, opts.PushOptions = p.Branch, p.Refspec, p.Options
	}
	if k := g.Commit.SigningKey; k != nil {
		if opts.Signer, err = r.signer(ctx, o.Namespace, k); err != nil {
			return nil, err
		}
	}
	return writeback.New(remote, writeback.Person{Name: g.Commit.Author.Name, Email: g.Commit.Author.Email}, opts)
}

// signer reads a private key: git.asc for PGP, identity for SSH.
func (r *imageUpdate) signer(ctx context.Context, namespace string, k *automationv1.SigningKey) (*verify.Signer, error) {
	data, err := r.env.secret(ctx, namespace, &k.SecretRef)
	if err != nil {
		return nil, err
	}
	private, pass := data["git.asc"], data["passphrase"]
	if k.Type == automationv1.SigningKeyTypeSSH {
		private, pass = data["identity"], data["password"]
	}
	signer, err := verify.NewSigner(private, pass)
	return signer, in("Secret "+namespace+"/"+k.SecretRef.Name, err)
}

// updateReason is the reason of a condition for a failure.
func updateReason(err error) string {
	var of *writeback.Error
	if errors.As(err, &of) {
		switch of.Op {
		case "update":
			return "UpdateFailed"
		case "fetch", "push":
			return "GitOperationFailed"
		}
	}
	return "Failed"
}

// gitRemote lets package writeback work on a Git repository.
type gitRemote struct {
	url     string
	options git.Options
}

func (g *gitRemote) source(branch string) (*git.Source, error) {
	opts := g.options
	if branch != "" && branch != opts.Ref.Branch {
		opts.Ref = git.Ref{Branch: branch}
	}
	return git.New(g.url, &opts)
}

// Fetch returns the tree of a branch.
func (g *gitRemote) Fetch(ctx context.Context, branch string) (*writeback.Snapshot, error) {
	src, err := g.source(branch)
	if err != nil {
		return nil, err
	}
	rev, err := src.Resolve(ctx)
	if errors.Is(err, source.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	content, err := src.Fetch(ctx, rev)
	if err != nil {
		return nil, err
	}
	return &writeback.Snapshot{Revision: rev.String(), Tree: content, Close: content.Close}, nil
}

// Push commits and pushes.
func (g *gitRemote) Push(ctx context.Context, base *writeback.Snapshot, c *writeback.Commit) (string, error) {
	parent, err := source.ParseRevision(base.Revision)
	if err != nil {
		return "", err
	}
	src, err := g.source(strings.TrimPrefix(parent.Ref, "refs/heads/"))
	if err != nil {
		return "", err
	}
	made, err := src.Commit(ctx, parent, git.Change{Author: git.Person(c.Author), Message: c.Message, Files: c.Files, Signer: c.Signer})
	if err != nil {
		return "", err
	}
	pushed, err := src.Push(ctx, made, &git.PushOptions{Branch: c.Branch, Refs: c.Refs, Options: c.Options})
	if errors.Is(err, git.ErrMoved) {
		return "", fmt.Errorf("%w: %w", writeback.ErrMoved, err)
	}
	return pushed.String(), err
}
