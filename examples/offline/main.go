// Command offline checks the manifests of a repository with no cluster: it
// builds directories, validates every object, applies them to a cluster in
// memory, twice, and, given another state of the repository, prints what a
// change from that to this would do.
//
//	offline -crds crds -tree . apps/staging clusters/staging
//	offline -crds crds -tree . -from ../main apps/staging clusters/staging
//
// Kinds that come with charts are known if -crds has their definitions; objects
// of others are named and left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/offline"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("offline", flag.ContinueOnError)
	tree := flags.String("tree", ".", "the directory of the repository")
	from := flags.String("from", "", "the directory of another state of it, to compare with")
	crds := flags.String("crds", "", "a directory of definitions that are not in the repository")
	version := flags.String("kubernetes", "", "the version of the cluster, such as 1.36; empty means the newest known")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("nothing to check: name the directories to build, such as apps/staging")
	}
	set, err := schema.Builtin(*version)
	if err != nil {
		return err
	}
	var definitions []*unstructured.Unstructured
	if *crds != "" {
		manifests, err := schema.Load(os.DirFS(*crds), nil, nil)
		if err != nil {
			return fmt.Errorf("definitions in %s: %w", *crds, err)
		}
		definitions = manifests.Objects
	}
	if set, err = set.With(definitions...); err != nil {
		return err
	}
	repository := Repository{Overlays: flags.Args(), Kinds: set, Definitions: definitions}
	state, err := repository.Check(ctx, os.DirFS(*tree))
	if err != nil {
		return err
	}
	state.print(stdout)
	if *from == "" {
		return nil
	}
	plan, err := repository.Plan(ctx, os.DirFS(*from), os.DirFS(*tree))
	if err != nil {
		return err
	}
	printPlan(stdout, plan)
	return nil
}

// Repository is what is built of a tree, and for what kind of cluster.
type Repository struct {
	// Overlays are the directories to build.
	Overlays []string
	// Kinds are those of the cluster, with the definitions.
	Kinds *schema.Set
	// Definitions are installed in the cluster by others.
	Definitions []*unstructured.Unstructured
}

// State is a tree, built and checked.
type State struct {
	// Objects are those of all overlays.
	Objects []*unstructured.Unstructured
	// Unknown are those that no definition is there for.
	Unknown []ssa.ObjectID
	// First and Second are what two applies in a row did.
	First, Second *ssa.ChangeSet

	cluster *offline.Cluster
}

// Check builds and validates a tree and applies it to a new cluster. The error
// joins everything that is wrong, with file and line.
func (r Repository) Check(ctx context.Context, tree fs.FS) (*State, error) {
	state, err := r.build(ctx, tree)
	if err != nil {
		return nil, err
	}
	if state.cluster, err = r.cluster(state.Objects); err != nil {
		return nil, err
	}
	client := clientOf(state.cluster)
	if state.First, err = client.Apply(ctx, state.Objects, nil); err != nil {
		return nil, err
	}
	state.Second, err = client.Apply(ctx, state.Objects, nil)
	return state, err
}

// Plan returns what becomes of a cluster that has what is in one tree when it
// gets what is in another, deletions included.
func (r Repository) Plan(ctx context.Context, from, to fs.FS) (*ssa.ChangeSet, error) {
	before, err := r.Check(ctx, from)
	if err != nil {
		return nil, err
	}
	after, err := r.build(ctx, to)
	if err != nil {
		return nil, err
	}
	return clientOf(before.cluster).Diff(ctx, after.Objects, nil)
}

// build builds and validates a tree.
func (r Repository) build(ctx context.Context, tree fs.FS) (*State, error) {
	state := &State{}
	var objects []*unstructured.Unstructured
	for _, dir := range r.Overlays {
		built, err := kustomize.Build(ctx, tree, dir, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, built...)
	}
	set, err := r.Kinds.With(objects...)
	if err != nil {
		return nil, err
	}
	for _, obj := range objects {
		if _, ok := set.Kind(obj.GroupVersionKind()); ok {
			state.Objects = append(state.Objects, obj)
		} else {
			state.Unknown = append(state.Unknown, ssa.IDOf(obj))
		}
	}
	manifests, err := schema.Load(tree, r.Overlays, nil)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, violation := range set.Validate(ctx, state.Objects, &schema.ValidateOptions{Manifests: manifests}) {
		errs = append(errs, violation)
	}
	return state, errors.Join(errs...)
}

// cluster is a new cluster with the definitions, and with the namespaces that
// the objects need and do not bring.
func (r Repository) cluster(objects []*unstructured.Unstructured) (*offline.Cluster, error) {
	there := map[string]bool{"": true, "default": true, "kube-system": true}
	for _, obj := range objects {
		if obj.GetKind() == "Namespace" {
			there[obj.GetName()] = true
		}
	}
	seed := append([]*unstructured.Unstructured{}, r.Definitions...)
	for _, obj := range objects {
		if name := obj.GetNamespace(); !there[name] {
			there[name] = true
			seed = append(seed, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
			}})
		}
	}
	return offline.New(r.Kinds, seed...)
}

func clientOf(cluster *offline.Cluster) *ssa.Client {
	return &ssa.Client{
		Dynamic: cluster.Dynamic(), Mapper: cluster.Mapper(),
		Owner: ssa.Owner{Name: "repository", Namespace: "default"}, DefaultNamespace: "default",
	}
}

// printPlan prints what changes, with the fields.
func printPlan(w io.Writer, plan *ssa.ChangeSet) {
	for _, change := range plan.Changes {
		if change.Action == ssa.Unchanged {
			continue
		}
		fmt.Fprintf(w, "%s %s\n", change.Object, change.Action)
		for _, field := range change.Fields {
			fmt.Fprintf(w, "  %s\n", field)
		}
	}
	fmt.Fprintln(w, plan.Summary())
}

func (s *State) print(w io.Writer) {
	for _, id := range s.Unknown {
		fmt.Fprintf(w, "%s: not checked, there is no definition of its kind\n", id)
	}
	fmt.Fprintf(w, "valid, %d objects; applied: %s; again: %s\n", len(s.Objects), s.First.Summary(), s.Second.Summary())
}
