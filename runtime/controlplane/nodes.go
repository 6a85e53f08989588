package controlplane

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/profile"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/kustomize/stage/node/fast"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	kwok "sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/utils/client"
	"sigs.k8s.io/yaml"
)

// SimulatedNodeLabel is the label, with the value "true", on every node that is simulated.
const SimulatedNodeLabel = "gitopskit.github.io/simulated"

// simulatedNodeIP is the address nodes report. It is of a range kept for documentation: nobody answers there.
const simulatedNodeIP = "192.0.2.1"

// startScheduler runs kube-scheduler with its default profile.
func startScheduler(ctx context.Context, config *rest.Config, cs kubernetes.Interface) error {
	factory := scheduler.NewInformerFactory(cs, 0)
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: cs.EventsV1()})
	broadcaster.StartRecordingToSink(ctx.Done())
	s, err := scheduler.New(ctx, cs, factory, nil, profile.NewRecorderFactory(broadcaster), scheduler.WithKubeConfig(config))
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if err := s.WaitForHandlersSync(ctx); err != nil {
		return err
	}
	go s.Run(ctx)
	return nil
}

// startNodes creates the nodes, runs the simulation of their kubelets and waits until all are ready.
func startNodes(ctx context.Context, kubeconfig string, cs kubernetes.Interface, count int) error {
	clients, err := client.NewClientset("", kubeconfig)
	if err != nil {
		return err
	}
	kubelets, err := newKubelets(clients)
	if err != nil {
		return err
	}
	if err := kubelets.Start(ctx); err != nil {
		return err
	}
	for i := range count {
		_, err := cs.CoreV1().Nodes().Create(ctx, simulatedNode(i), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		nodes, err := cs.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: SimulatedNodeLabel + "=true"})
		if err != nil {
			return false, err
		}
		return readyNodes(nodes.Items) >= count, nil
	})
}

func newKubelets(clients client.Clientset) (*kwok.Controller, error) {
	stages, err := parseStages(fast.DefaultNodeInit, podfast.DefaultPodReady, podfast.DefaultPodComplete, podfast.DefaultPodDelete)
	if err != nil {
		return nil, err
	}
	config, err := clients.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	restClient, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	dynamic, err := clients.ToDynamicClient()
	if err != nil {
		return nil, err
	}
	mapper, err := clients.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	return kwok.NewController(kwok.Config{
		Clock:                            clock.RealClock{},
		DynamicClient:                    dynamic,
		RESTClient:                       restClient,
		RESTMapper:                       mapper,
		ImpersonatingDynamicClient:       clients.ToImpersonatingDynamicClient(),
		ImpersonatingTypedClient:         clients.ToImpersonatingTypedClient(),
		TypedClient:                      typed,
		ManageNodesWithLabelSelector:     SimulatedNodeLabel + "=true",
		CIDR:                             "10.64.0.0/10",
		NodeIP:                           simulatedNodeIP,
		LocalStages:                      stages,
		PodPlayStageParallelism:          8,
		NodePlayStageParallelism:         4,
		PodsOnNodeSyncParallelism:        4,
		DisregardStatusWithLabelSelector: "",
		ID:                               "gitopskit",
	})
}

// parseStages reads stages from YAML and groups them by the kind they are about.
func parseStages(sources ...string) (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	out := map[internalversion.StageResourceRef][]*internalversion.Stage{}
	for _, source := range sources {
		var stage v1alpha1.Stage
		if err := yaml.Unmarshal([]byte(source), &stage); err != nil {
			return nil, fmt.Errorf("parse stage: %w", err)
		}
		v1alpha1.SetObjectDefaults_Stage(&stage)
		internal, err := internalversion.ConvertToInternalStage(&stage)
		if err != nil {
			return nil, fmt.Errorf("convert stage %s: %w", stage.Name, err)
		}
		out[internal.Spec.ResourceRef] = append(out[internal.Spec.ResourceRef], internal)
	}
	return out, nil
}

func simulatedNode(i int) *corev1.Node {
	name := fmt.Sprintf("simulated-%d", i)
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name,
		Labels: map[string]string{
			SimulatedNodeLabel:       "true",
			corev1.LabelHostname:     name,
			corev1.LabelOSStable:     "linux",
			corev1.LabelArchStable:   "amd64",
			"kubernetes.io/role":     "agent",
			corev1.LabelTopologyZone: "simulated",
		},
		Annotations: map[string]string{"gitopskit.github.io/simulated": "nothing runs on this node"},
	}}
}

func readyNodes(nodes []corev1.Node) int {
	n := 0
	for _, node := range nodes {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				n++
			}
		}
	}
	return n
}
