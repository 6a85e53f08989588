package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/disk"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubectl/pkg/cmd/apply"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// kubectl is the command kubectl apply --server-side, with its cache of discovery in a directory of its own. Every
// pass is a new command, as it is for those who call it from a script.
type kubectl struct {
	config *rest.Config
	dir    string
}

func newKubectl(config *rest.Config) (contender, error) {
	dir, err := os.MkdirTemp("", "gitopskit-bench-")
	return &kubectl{config, dir}, err
}

func (k *kubectl) close() error { return os.RemoveAll(k.dir) }

// reconcile applies a file. It prunes nothing.
func (k *kubectl) reconcile(_ context.Context, objects []*unstructured.Unstructured) error {
	list := unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, o := range objects {
		list.Items = append(list.Items, *o)
	}
	data, err := json.Marshal(list.UnstructuredContent())
	if err != nil {
		return err
	}
	file := filepath.Join(k.dir, "objects.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	var stderr bytes.Buffer
	flags := apply.NewApplyFlags(genericiooptions.IOStreams{Out: io.Discard, ErrOut: &stderr})
	cmd := &cobra.Command{Use: "apply"}
	flags.AddFlags(cmd)
	if err := cmd.ParseFlags([]string{"--server-side", "--filename", file}); err != nil {
		return err
	}
	o, err := flags.ToOptions(cmdutil.NewFactory(k), cmd, "kubectl", nil)
	if err != nil {
		return err
	}
	if err := errors.Join(o.Validate(), o.Run()); err != nil {
		return fmt.Errorf("%w: %s", err, &stderr)
	}
	return nil
}

// The methods of genericclioptions.RESTClientGetter, with the settings of kubectl but no limit to its requests.

func (k *kubectl) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(k.config), nil }

func (k *kubectl) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return disk.NewCachedDiscoveryClientForConfig(k.config, filepath.Join(k.dir, "discovery"), filepath.Join(k.dir, "http"), 6*time.Hour)
}

func (k *kubectl) ToRESTMapper() (meta.RESTMapper, error) {
	disco, err := k.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(disco), disco, nil), nil
}

func (k *kubectl) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), &clientcmd.ConfigOverrides{
		ClusterInfo: clientcmdapi.Cluster{Server: k.config.Host},
		Context:     clientcmdapi.Context{Namespace: ownerNamespace},
	})
}
