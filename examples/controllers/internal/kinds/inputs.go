package kinds

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"strconv"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gitopskit/gitopskit/kustomize/sops"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// inputs are what objects are built with, beside an artifact and a spec.
type inputs struct {
	keys *sops.Keys
	vars map[string]string
	sum  [sha256.Size]byte // of all that a build depends on
}

// inputs reads what objects are built with.
func (e *Env) inputs(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass, artifact *meta.Artifact) (*inputs, error) {
	from := &inputs{}
	of := map[string][]byte{"artifact": []byte(artifact.Digest), "object": []byte(o.UID), "generation": []byte(strconv.FormatInt(o.Generation, 10))}
	if d := o.Spec.Decryption; d != nil {
		data, err := e.secret(ctx, o.Namespace, d.SecretRef)
		if err != nil {
			return nil, in("decryption", err)
		}
		if from.keys, err = sops.ParseKeys(data); err != nil {
			return nil, in("decryption: Secret "+o.Namespace+"/"+secretName(d.SecretRef), err)
		}
		keys := fingerprint(data)
		of["keys"] = keys[:]
	}
	if post := o.Spec.PostBuild; post != nil {
		vars, err := e.variables(ctx, o.Namespace, post, pass)
		if err != nil {
			return nil, err
		}
		from.vars = vars
		for name, value := range vars {
			of["variable "+name] = []byte(value)
		}
	}
	from.sum = fingerprint(of)
	return from, nil
}

// variables are those of the spec and of what it refers to; later ones win.
func (e *Env) variables(ctx context.Context, namespace string, post *kustomizev1.PostBuild, pass *kube.Pass) (map[string]string, error) {
	vars := map[string]string{}
	for _, ref := range post.SubstituteFrom {
		data, err := e.data(ctx, ref.Kind, namespace, ref.Name)
		if apierrors.IsNotFound(err) && ref.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("substitute from '%s/%s' error: %w", ref.Kind, ref.Name, err)
		}
		if ref.Kind == "Secret" {
			conceal(pass, data)
		}
		for k, v := range data {
			vars[k] = string(v)
		}
	}
	maps.Copy(vars, post.Substitute)
	return vars, nil
}
