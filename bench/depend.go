package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

var deploymentsResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// measureDependants applies n sets of two objects, of which one needs the other, makes the other ready, and returns
// how long after that the one was sent.
func measureDependants(ctx context.Context, config *rest.Config, n int) (took []time.Duration, err error) {
	for i := range n {
		one, err := dependant(ctx, config, fmt.Sprintf("needed-%d", i))
		if err != nil {
			return nil, err
		}
		took = append(took, one)
	}
	slices.Sort(took)
	return took, nil
}

// dependant returns the time from before the status of a Deployment is sent, by which it becomes ready, until the
// ConfigMap that depends on it is sent. There are no controllers.
func dependant(ctx context.Context, config *rest.Config, name string) (time.Duration, error) {
	sent, applied := make(chan time.Time, 1), make(chan struct{}, 1)
	watched := rest.CopyConfig(config)
	watched.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			real := r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == ""
			if real && strings.HasSuffix(r.URL.Path, "/configmaps/"+name) {
				sent <- time.Now()
			}
			resp, err := next.RoundTrip(r)
			if real && strings.HasSuffix(r.URL.Path, "/deployments/"+name) {
				applied <- struct{}{}
			}
			return resp, err
		})
	})
	types, err := newTypes(config)
	if err != nil {
		return 0, err
	}
	f, err := follow(watched, types)
	if err != nil {
		return 0, err
	}
	f.client.Owner.Name = name
	needed, needs := deployment(name, 1), manifest("v1", "ConfigMap", name, nil)
	needs.SetAnnotations(map[string]string{"config.kubernetes.io/depends-on": "apps/namespaces/" + ownerNamespace + "/Deployment/" + name})
	ended := make(chan error, 1)
	go func() { ended <- f.reconcile(ctx, []*unstructured.Unstructured{needed, needs}) }()
	var ready time.Time
	var late time.Duration
	for ready.IsZero() || late == 0 {
		select {
		case <-applied:
			ready, err = makeReady(ctx, config, name)
			if err != nil {
				return 0, errors.Join(err, f.close())
			}
		case at := <-sent:
			late = at.Sub(ready)
		case <-time.After(time.Minute):
			return 0, errors.Join(fmt.Errorf("%s never became ready", name), f.close())
		case err := <-ended:
			return 0, errors.Join(fmt.Errorf("%s was not waited for", name), err, f.close())
		}
	}
	return late, errors.Join(<-ended, f.close())
}

// makeReady writes the status of a Deployment that has what it wants, and returns when it began.
func makeReady(ctx context.Context, config *rest.Config, name string) (time.Time, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return time.Time{}, err
	}
	const status = `{"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
		"conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}}`
	start := time.Now()
	_, err = client.Resource(deploymentsResource).Namespace(ownerNamespace).Patch(ctx, name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	return start, err
}
