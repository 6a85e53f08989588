package kinds

import (
	"context"
	"errors"
	"fmt"
	"time"

	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
)

// ImagePolicy reconciles image.toolkit.fluxcd.io ImagePolicy.
func ImagePolicy(ctx context.Context, env *Env) (*kube.Controller[*reflectorv1.ImagePolicy], error) {
	return add(ctx, env, &imagePolicy{env}, kube.Options[*reflectorv1.ImagePolicy]{
		Schedule: func(o *reflectorv1.ImagePolicy) kube.Schedule {
			s := kube.Schedule{Timeout: time.Minute, Retry: env.backoff(), Suspend: o.Spec.Suspend}
			if o.Spec.Interval != nil {
				s.Interval = o.Spec.Interval.Duration
			}
			return s
		},
		References: func(o *reflectorv1.ImagePolicy) []kube.Reference {
			return []kube.Reference{{GroupKind: schema.GroupKind{Group: reflectorv1.GroupVersion.Group, Kind: "ImageRepository"}, ObjectKey: repositoryOf(o)}}
		},
		Watches: []kube.Watch{{Object: &reflectorv1.ImageRepository{}, Changed: scanned}},
	})
}

// scanned reports that a repository has another result.
func scanned(old, new client.Object) bool {
	before, ok1 := old.(*reflectorv1.ImageRepository)
	after, ok2 := new.(*reflectorv1.ImageRepository)
	if !ok1 || !ok2 || after.Status.LastScanResult == nil {
		return false
	}
	was := before.Status.LastScanResult
	return was == nil || was.Revision != after.Status.LastScanResult.Revision || !was.ScanTime.Equal(&after.Status.LastScanResult.ScanTime)
}

func repositoryOf(o *reflectorv1.ImagePolicy) client.ObjectKey {
	return client.ObjectKey{Namespace: or(o.Spec.ImageRepositoryRef.Namespace, o.Namespace), Name: o.Spec.ImageRepositoryRef.Name}
}

type imagePolicy struct{ env *Env }

// Reconcile selects a tag of the newest scan.
func (r *imagePolicy) Reconcile(ctx context.Context, o *reflectorv1.ImagePolicy, pass *kube.Pass) kube.Result {
	key := repositoryOf(o)
	if key.Namespace != o.Namespace { // spec.accessFrom of the repository is not supported, so nobody can have allowed it
		err := &tenancy.DeniedError{Namespace: o.Namespace, Kind: "ImageRepository", RefNamespace: key.Namespace, Name: key.Name}
		return kube.Fail("AccessDenied", err)
	}
	repo := &reflectorv1.ImageRepository{}
	err := r.env.Manager.GetClient().Get(ctx, key, repo)
	if apierrors.IsNotFound(err) {
		return kube.NotYet("DependencyNotReady", fmt.Sprintf("ImageRepository '%s' does not exist", key), r.env.Flags.RequeueDependency)
	}
	if err != nil {
		return kube.Fail("DependencyNotReady", err)
	}
	tags := r.env.Tags.get(key)
	if tags == nil {
		return kube.NotYet("DependencyNotReady", fmt.Sprintf("ImageRepository '%s' was not scanned yet", key), r.env.Flags.RequeueDependency)
	}
	selected, err := policyOf(o).Select(tags.All())
	if err != nil {
		reason := "Failure"
		if errors.Is(err, image.ErrInvalidPolicy) {
			reason = "InvalidPolicy"
		}
		return kube.Fail(reason, err)
	}
	was := reference(o.Status.LatestRef)
	next, err := r.reflect(ctx, o, repo, was, image.Ref{Name: repo.Spec.Image, Tag: selected.Tag})
	if err != nil {
		return kube.Fail("Failure", err)
	}
	message := fmt.Sprintf("Latest image tag for %s resolved to %s", repo.Spec.Image, next.Tag)
	if next != was {
		if o.Status.LatestRef != nil {
			o.Status.ObservedPreviousRef = o.Status.LatestRef
			message += fmt.Sprintf(" (previously %s)", was)
		}
		o.Status.LatestRef = &reflectorv1.ImageRef{Name: next.Name, Tag: next.Tag, Digest: next.Digest}
		pass.Event(kube.Event{Reason: "Succeeded", Message: message})
	} else if c := conditionMessage(o); c != "" {
		message = c
	}
	return kube.Ready(message).At(next.String())
}

// Finalize has nothing to clean up.
func (r *imagePolicy) Finalize(context.Context, *reflectorv1.ImagePolicy, *kube.Pass) kube.Result {
	return kube.Ready("removed")
}

// reflect adds the digest that the policy wants.
func (r *imagePolicy) reflect(ctx context.Context, o *reflectorv1.ImagePolicy, repo *reflectorv1.ImageRepository, was, next image.Ref) (image.Ref, error) {
	policy := image.DigestPolicy(o.Spec.DigestReflectionPolicy)
	if policy == "" || policy == image.Never {
		return next, nil
	}
	scanner, err := r.env.scanner(ctx, repo)
	if err != nil {
		return next, err
	}
	return scanner.Reflect(ctx, policy, was, next)
}

// policyOf is the policy of a spec.
func policyOf(o *reflectorv1.ImagePolicy) image.Policy {
	var p image.Policy
	switch c := o.Spec.Policy; {
	case c.SemVer != nil:
		p = image.SemVer{Range: c.SemVer.Range}
	case c.Alphabetical != nil:
		p = image.Alphabetical{Order: image.Order(c.Alphabetical.Order)}
	case c.Numerical != nil:
		p = image.Numerical{Order: image.Order(c.Numerical.Order)}
	}
	if f := o.Spec.FilterTags; f != nil {
		return image.Filter{Pattern: f.Pattern, Extract: f.Extract, Policy: p}
	}
	if p == nil {
		return image.SemVer{} // which says that it is invalid
	}
	return p
}

func reference(r *reflectorv1.ImageRef) image.Ref {
	if r == nil {
		return image.Ref{}
	}
	return image.Ref{Name: r.Name, Tag: r.Tag, Digest: r.Digest}
}
