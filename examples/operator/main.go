// Command operator applies a directory of a Git repository for each object of
// its kind Site, and keeps it so: a custom operator made of this module.
package main

import (
	"context"
	"errors"
	"log"
	"path"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	"github.com/gitopskit/gitopskit/examples/operator/api"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/ssa"
)

func main() { log.Fatal(run(signals.SetupSignalHandler(), config.GetConfigOrDie())) }

func run(ctx context.Context, cluster *rest.Config) error {
	mgr, err := kube.NewManager(cluster, manager.Options{}, api.AddToScheme)
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	if _, err := kube.Add(ctx, mgr, &operator{Dynamic: dyn, Mapper: mgr.GetRESTMapper()}, kube.Options[*api.Site]{
		Finalizer: "sites.example.gitopskit.github.io/finalizer",
		Schedule: func(s *api.Site) kube.Schedule {
			return kube.Schedule{Interval: s.Spec.Interval.Duration, Suspend: s.Spec.Suspend}
		},
	}); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

type operator ssa.Client

// Reconcile applies what the repository has, and deletes what it has no longer.
func (o *operator) Reconcile(ctx context.Context, s *api.Site, _ *kube.Pass) kube.Result {
	repo, err := git.New(s.Spec.URL, nil)
	if err != nil {
		return kube.Fail("InvalidURL", err)
	}
	rev, err := repo.Resolve(ctx)
	if err != nil {
		return kube.Fail("FetchFailed", err)
	}
	tree, err := repo.Fetch(ctx, rev)
	if err != nil {
		return kube.Fail("FetchFailed", err)
	}
	defer tree.Close()
	objects, err := kustomize.Build(ctx, tree, path.Join(".", s.Spec.Path), nil)
	if err != nil {
		return kube.Fail("BuildFailed", err)
	}
	s.Status.Revision = rev.String()
	return o.sync(ctx, s, objects).At(rev.String())
}

// Finalize deletes what was applied.
func (o *operator) Finalize(ctx context.Context, s *api.Site, _ *kube.Pass) kube.Result {
	return o.sync(ctx, s, nil)
}

func (o *operator) sync(ctx context.Context, s *api.Site, objects []*unstructured.Unstructured) kube.Result {
	c := ssa.Client(*o)
	c.Owner, c.DefaultNamespace = ssa.Owner{Name: s.Name, Namespace: s.Namespace}, s.Namespace
	set, err := c.Apply(ctx, objects, nil)
	if err == nil {
		pruned, pruneErr := c.Prune(ctx, objects, nil)
		set.Update(pruned)
		err = errors.Join(pruneErr, set.Err())
	}
	if err != nil {
		return kube.Fail("ApplyFailed", err)
	}
	return kube.Ready(set.Summary())
}
