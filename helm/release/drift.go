package release

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
)

// Difference is an object that is not as the manifest of its release says.
type Difference struct {
	// Object is the one of the manifest.
	Object *unstructured.Unstructured
	// Changes is a line for each field, with values of Secrets masked.
	Changes []string
}

// Drift compares the objects of a release with its newest record. Objects with
// the annotation or label helm.toolkit.fluxcd.io/driftDetection: disabled, in
// the manifest or in the cluster, are left out. It changes nothing.
func (c *Client) Drift(ctx context.Context, d Desired) ([]Difference, error) {
	var out []Difference
	_, err := c.do("drift", &d, nil, func(r *run) (_ *Record, err error) {
		newest, _, err := r.current(ctx)
		if err == nil {
			out, err = r.drift(ctx, newest)
		}
		return newest, err
	})
	return out, err
}

// driftDetection is how Flux lets objects out.
const driftDetection = "helm.toolkit.fluxcd.io/driftDetection"

func (r *run) drift(ctx context.Context, newest *Record) ([]Difference, error) {
	objects, err := helm.ReadManifest(newest.Release.Manifest)
	if err != nil {
		return nil, err
	}
	objects = slices.DeleteFunc(objects, mayDrift)
	if len(objects) == 0 {
		return nil, nil
	}
	objects = r.owned(objects)
	lines, err := r.Applier.Diff(ctx, objects)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for i, changes := range lines {
		if len(changes) > 0 {
			out = append(out, Difference{Object: objects[i], Changes: changes})
		}
	}
	return r.notLetOut(ctx, out)
}

// notLetOut returns the differences of objects that are not let out by a mark
// on the live object.
func (r *run) notLetOut(ctx context.Context, differences []Difference) ([]Difference, error) {
	objects := make([]*unstructured.Unstructured, len(differences))
	for i, d := range differences {
		objects[i] = d.Object
	}
	live, err := r.Applier.Get(ctx, objects)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for i, o := range live {
		if o == nil || !mayDrift(o) {
			out = append(out, differences[i])
		}
	}
	return out, nil
}

// mayDrift reports an object that asks not to be corrected.
func mayDrift(o *unstructured.Unstructured) bool {
	return o.GetAnnotations()[driftDetection] == "disabled" || o.GetLabels()[driftDetection] == "disabled"
}

// Correct makes the objects of a release what its newest record says. It makes
// no new revision. It returns what differed.
func (c *Client) Correct(ctx context.Context, d Desired) ([]Difference, error) {
	var out []Difference
	_, err := c.do(string(CorrectDrift), &d, nil, func(r *run) (*Record, error) {
		newest, _, err := r.current(ctx)
		if err == nil {
			out, err = r.correct(ctx, newest)
		}
		return newest, err
	})
	return out, err
}

func (r *run) correct(ctx context.Context, newest *Record) ([]Difference, error) {
	differences, err := r.drift(ctx, newest)
	if err != nil || len(differences) == 0 {
		return nil, err
	}
	objects := make([]*unstructured.Unstructured, len(differences))
	for i, d := range differences {
		objects[i] = d.Object
	}
	return differences, r.Applier.Apply(ctx, objects)
}
