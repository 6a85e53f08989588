package kinds

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/source"
)

// tree is what an artifact is made of: the directories of the repository that
// are wanted, what is included, and nothing that is ignored.
func (r *gitRepository) tree(ctx context.Context, o *sourcev1.GitRepository, content fs.FS, included []*meta.Artifact) (fs.FS, error) {
	var steps []source.Copy
	for _, dir := range o.Spec.SparseCheckout {
		dir = path.Clean(strings.TrimPrefix(dir, "/"))
		if !isDir(content, dir) {
			return nil, fmt.Errorf("%w: the repository has no directory %q, which spec.sparseCheckout names", source.ErrNotFound, dir)
		}
		steps = append(steps, source.Copy{From: content, Pattern: inside(dir), To: dir})
	}
	if len(steps)+len(included) == 0 {
		return source.Ignore(ctx, content, text(o.Spec.Ignore))
	}
	if len(steps) == 0 {
		steps = append(steps, source.Copy{From: content, Pattern: "**"})
	}
	for i, include := range o.Spec.Include {
		from, err := r.env.artifact(ctx, included[i])
		if err != nil {
			return nil, in("include "+include.GitRepositoryRef.Name, err)
		}
		defer from.Close()
		steps = append(steps, source.Copy{From: from, Pattern: inside(path.Clean("./" + include.GetFromPath())), To: include.GetToPath()})
	}
	tree, err := source.Compose(ctx, source.Limits{}, steps...)
	if err != nil {
		return nil, err
	}
	return source.Ignore(ctx, tree, text(o.Spec.Ignore))
}

// inside selects what is in a directory.
func inside(dir string) string { return path.Join(dir, "**") }

// included returns the artifacts that a spec includes, or how to end a pass that
// has to wait for one.
func (r *gitRepository) included(ctx context.Context, o *sourcev1.GitRepository) ([]*meta.Artifact, *kube.Result) {
	var out []*meta.Artifact
	for _, include := range o.Spec.Include {
		name := include.GitRepositoryRef.Name
		if err := r.circle(ctx, o, name); err != nil {
			result := r.broken(o, includeUnavailable, "InvalidInclude", err)
			return nil, &result
		}
		a, reason, err := r.env.published(ctx, sourcev1.GitRepositoryKind, client.ObjectKey{Namespace: o.Namespace, Name: name})
		if err != nil {
			result := r.unavailable(o, includeUnavailable, reason, fmt.Sprintf("could not get include '%s': %v", name, err))
			return nil, &result
		}
		out = append(out, a)
	}
	return out, nil
}

// circle returns an error if an include leads back to the object, which would
// grow for ever.
func (r *gitRepository) circle(ctx context.Context, o *sourcev1.GitRepository, name string) error {
	path := []string{o.Name}
	var follow func(name string) error
	follow = func(name string) error {
		if name == o.Name {
			return fmt.Errorf("%w: spec.include leads back to itself, by %s: remove one of them", source.ErrInvalidSpec, strings.Join(append(path, name), " -> "))
		}
		if slices.Contains(path, name) {
			return nil // a circle of others
		}
		next := &sourcev1.GitRepository{}
		if err := r.env.Manager.GetClient().Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: name}, next); client.IgnoreNotFound(err) != nil {
			return err
		}
		path = append(path, name)
		for _, include := range next.Spec.Include {
			if err := follow(include.GitRepositoryRef.Name); err != nil {
				return err
			}
		}
		return nil
	}
	return follow(name)
}
