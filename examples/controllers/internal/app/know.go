package app

import (
	"context"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

// know follows what Kustomizations apply to the own cluster, as long as the
// manager runs, so that what nobody has touched costs no request.
func know(mgr manager.Manager, cluster *rest.Config, env *kinds.Env) error {
	objects, err := dynamic.NewForConfigAndClient(cluster, mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	server, err := discovery.NewDiscoveryClientForConfigAndClient(cluster, mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	env.Proof = &proof.Prover{Types: &proof.Server{Client: server.OpenAPIV3()}}
	env.Applied = &ssa.Store{Dynamic: objects, Group: kustomizev1.GroupVersion.Group, Logger: env.Log, Version: func(context.Context) (string, error) {
		version, err := server.ServerVersion()
		if err != nil {
			return "", err
		}
		return version.GitVersion, nil
	}}
	return mgr.Add(manager.RunnableFunc(env.Applied.Run))
}
