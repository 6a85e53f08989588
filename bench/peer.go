package main

import (
	"bytes"
	"context"
	"path/filepath"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/clusterreader"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	"github.com/fluxcd/cli-utils/pkg/object"
	peerkustomize "github.com/fluxcd/pkg/kustomize"
	peerssa "github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	peerutils "github.com/fluxcd/pkg/ssa/utils"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Settings of kustomize-controller.
const (
	peerManager      = "kustomize-controller"
	peerGroup        = "kustomize.toolkit.fluxcd.io"
	peerConcurrency  = 4
	peerPollInterval = 5 * time.Second
	peerTimeout      = 5 * time.Minute
)

// peer is what kustomize-controller is made of.
type peer struct {
	manager *peerssa.ResourceManager
	applied *peerssa.ChangeSet
	stored  []*unstructured.Unstructured // what the controller would read from its inventory
}

func newPeer(config *rest.Config) (side, error) {
	log.SetLogger(logr.Discard()) // controller-runtime complains when nobody chooses
	c, err := client.New(config, client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		return nil, err
	}
	poller := polling.NewStatusPoller(c, c.RESTMapper(), polling.Options{
		ClusterReaderFactory: engine.ClusterReaderFactoryFunc(clusterreader.NewDirectClusterReader),
	})
	manager := peerssa.NewResourceManager(c, poller, peerssa.Owner{Field: peerManager, Group: peerGroup})
	manager.SetConcurrency(peerConcurrency)
	return &peer{manager: manager}, nil
}

func (s *peer) reconcile(ctx context.Context, objects []*unstructured.Unstructured) error {
	if err := s.prepare(objects); err != nil {
		return err
	}
	set, err := s.manager.ApplyAllStaged(ctx, objects, applyOptions())
	if err != nil {
		return err
	}
	if stale := s.stale(set); len(stale) > 0 {
		_, err = s.manager.DeleteAll(ctx, stale, peerssa.DeleteOptions{
			PropagationPolicy: metav1.DeletePropagationBackground,
			Inclusions:        s.manager.GetOwnerLabels(ownerName, ownerNamespace),
			Exclusions:        map[string]string{peerGroup + "/prune": "disabled"},
		})
	}
	s.applied, s.stored = set, objects
	return err
}

// prepare gives objects the owner's labels and the form that the server would give them.
func (s *peer) prepare(objects []*unstructured.Unstructured) error {
	s.manager.SetOwnerLabels(objects, ownerName, ownerNamespace)
	return normalize.UnstructuredList(objects)
}

// stale returns the objects of the last reconcile that set does not have.
func (s *peer) stale(set *peerssa.ChangeSet) []*unstructured.Unstructured {
	keep := set.ToObjMetadataSet()
	var out []*unstructured.Unstructured
	for _, o := range s.stored {
		if !keep.Contains(object.UnstructuredToObjMetadata(o)) {
			out = append(out, o)
		}
	}
	return out
}

func (s *peer) diff(ctx context.Context, objects []*unstructured.Unstructured) (int, error) {
	if err := s.prepare(objects); err != nil {
		return 0, err
	}
	n := 0
	for _, o := range objects {
		entry, _, _, err := s.manager.Diff(ctx, o, peerssa.DefaultDiffOptions())
		if err != nil {
			return n, err
		}
		if entry.Action != peerssa.UnchangedAction {
			n++
		}
	}
	return n, nil
}

func (s *peer) wait(ctx context.Context) error {
	return s.manager.WaitForSetWithContext(ctx, s.applied.ToObjMetadataSet(), peerssa.WaitOptions{
		Interval: peerPollInterval,
		Timeout:  peerTimeout,
		FailFast: true,
	})
}

// applyOptions are those of the controller for a Kustomization with nothing special in it.
func applyOptions() peerssa.ApplyOptions {
	opts := peerssa.DefaultApplyOptions()
	opts.ExclusionSelector = map[string]string{peerGroup + "/reconcile": "disabled", peerGroup + "/ssa": "Ignore"}
	opts.IfNotPresentSelector = map[string]string{peerGroup + "/ssa": "IfNotPresent"}
	opts.ForceSelector = map[string]string{peerGroup + "/force": "enabled"}
	opts.Cleanup = peerssa.ApplyCleanupOptions{
		Annotations: []string{"kubectl.kubernetes.io/last-applied-configuration"},
		FieldManagers: []peerssa.FieldManager{
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: peerManager, OperationType: metav1.ManagedFieldsOperationUpdate},
		},
		Exclusions: map[string]string{peerGroup + "/ssa": "Merge"},
	}
	return opts
}

// buildPeer generates a kustomization beside the manifests, builds it, and reads the result, as the controller does.
func buildPeer(_ context.Context, in *input) ([]*unstructured.Unstructured, error) {
	dir := filepath.Join(in.root, filepath.FromSlash(in.dir))
	action, err := peerkustomize.NewGenerator(in.root, unstructured.Unstructured{Object: map[string]any{}}).WriteFile(dir)
	if err != nil {
		return nil, err
	}
	built, err := peerkustomize.SecureBuild(in.root, dir, false)
	if err != nil {
		return nil, err
	}
	objects, err := readBuilt(built)
	if err != nil {
		return nil, err
	}
	return objects, peerkustomize.CleanDirectory(dir, action)
}

// buildPlain does as buildPeer without the confinement and the reset of schemas that keeps its builds apart: it is
// what kustomize itself needs.
func buildPlain(_ context.Context, in *input) ([]*unstructured.Unstructured, error) {
	dir := filepath.Join(in.root, filepath.FromSlash(in.dir))
	action, err := peerkustomize.NewGenerator(in.root, unstructured.Unstructured{Object: map[string]any{}}).WriteFile(dir)
	if err != nil {
		return nil, err
	}
	built, err := krusty.MakeKustomizer(&krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone,
		PluginConfig:     types.DisabledPluginConfig(),
	}).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	objects, err := readBuilt(built)
	if err != nil {
		return nil, err
	}
	return objects, peerkustomize.CleanDirectory(dir, action)
}

// readBuilt turns what kustomize built into objects, through YAML as the peer does.
func readBuilt(built resmap.ResMap) ([]*unstructured.Unstructured, error) {
	yaml, err := built.AsYaml()
	if err != nil {
		return nil, err
	}
	return peerutils.ReadObjects(bytes.NewReader(yaml))
}
