package controllers_test

import (
	"context"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

// base builds a directory of config, with components.
func base(t *testing.T, dir, namespace string, components ...string) []*unstructured.Unstructured {
	t.Helper()
	for i, c := range components {
		components[i] = "../" + c
	}
	objects, err := kustomize.Build(t.Context(), os.DirFS("../.."), "examples/controllers/config/"+dir, &kustomize.Options{Namespace: namespace, Components: components})
	if err != nil {
		t.Fatalf("%s with %v: %v", dir, components, err)
	}
	return objects
}

// schemas are those of Kubernetes and of the kinds of Flux.
func schemas(t *testing.T) *schema.Set {
	t.Helper()
	definitions, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	set, err := schema.Builtin("1.36")
	if err == nil {
		set, err = set.With(definitions...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// validate checks objects as an API server does with strict field validation.
func validate(t *testing.T, set *schema.Set, what string, objects []*unstructured.Unstructured) {
	t.Helper()
	for _, v := range set.Validate(t.Context(), objects, nil) {
		t.Errorf("%s: %v", what, v)
	}
}

// TestBases: every base builds, alone and with components, and its objects fit their schemas; each Deployment has a command
// line that its program takes, and a pod that may run where only restricted ones may.
func TestBases(t *testing.T) {
	t.Setenv("RUNTIME_NAMESPACE", "flux-system")
	set := schemas(t)
	for dir, components := range map[string][]string{
		"crd": nil, "rbac": nil, "namespace": nil,
		"default": {"lockdown"}, "separate": {"lockdown"}, "dashboards": nil,
		"source": {"events", "lockdown", "unsharded"}, "kustomize": {"kustomize/cluster-admin", "events", "unsharded"}, "helm": {"helm/cluster-admin", "events"},
		"notification": nil, "image-reflector": nil, "image-automation": nil, "all": {"all/cluster-admin", "lockdown"},
		"source/program": {"../shard"}, "kustomize/program": {"../shard"}, "all/program": {"../shard"},
	} {
		validate(t, set, dir, base(t, dir, ""))
		objects := base(t, dir, "elsewhere", components...)
		validate(t, set, dir+" with components", objects)
		for _, o := range objects {
			if n := o.GetNamespace(); n != "" && n != "elsewhere" || o.GetKind() == "Namespace" && o.GetName() != "elsewhere" {
				t.Errorf("%s: %s %s/%s is not in the namespace", dir, o.GetKind(), n, o.GetName())
			}
			if subjects, _, _ := unstructured.NestedSlice(o.Object, "subjects"); len(subjects) > 0 {
				for _, s := range subjects {
					if s.(map[string]any)["namespace"] != "elsewhere" {
						t.Errorf("%s: %s is for %v", dir, o.GetName(), s)
					}
				}
			}
			if o.GetKind() == "Deployment" {
				d := deployment(t, o)
				optionsOf(t, d)
				restricted(t, d)
			}
		}
	}
}

func deployment(t *testing.T, o *unstructured.Unstructured) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, d, true); err != nil {
		t.Fatal(err)
	}
	return d
}

// optionsOf is what a program makes of the command line of its Deployment.
func optionsOf(t *testing.T, d *appsv1.Deployment) *app.Options {
	t.Helper()
	o := &app.Options{}
	set := flag.NewFlagSet(d.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	o.Bind(set)
	pod := d.Spec.Template
	vars := []string{}
	for _, v := range pod.Spec.Containers[0].Env {
		if v.ValueFrom.FieldRef == nil {
			continue
		}
		value := map[string]string{
			"metadata.namespace": d.Namespace, "metadata.labels['sharding.fluxcd.io/key']": pod.Labels["sharding.fluxcd.io/key"],
		}[v.ValueFrom.FieldRef.FieldPath]
		vars = append(vars, "$("+v.Name+")", value)
	}
	var args []string
	for _, a := range pod.Spec.Containers[0].Args {
		args = append(args, strings.NewReplacer(vars...).Replace(a))
	}
	if err := set.Parse(args); err != nil {
		t.Errorf("%s: %v", d.Name, err)
	}
	if err := o.Validate(); err != nil || set.NArg() > 0 || strings.Contains(strings.Join(args, " "), "$(") {
		t.Errorf("%s: %v: %v", d.Name, args, err)
	}
	return o
}

// restricted checks what the API server does not, and that ports and volumes fit together.
func restricted(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	pod, main := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]
	if !*main.SecurityContext.ReadOnlyRootFilesystem || *pod.TerminationGracePeriodSeconds != 45 || pod.ServiceAccountName == "" || len(main.Resources.Requests) != 2 {
		t.Errorf("%s: %+v", d.Name, pod)
	}
	ports := func(c corev1.ContainerPort) bool {
		return c.Name == main.LivenessProbe.HTTPGet.Port.StrVal && c.ContainerPort == 9440
	}
	if !slices.ContainsFunc(main.Ports, ports) || main.ReadinessProbe.HTTPGet.Path != "/readyz" || main.LivenessProbe.HTTPGet.Path != "/healthz" {
		t.Errorf("%s: probes", d.Name)
	}
	for _, m := range main.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.EmptyDir != nil }) {
			t.Errorf("%s: no volume %s", d.Name, m.Name)
		}
	}
}

// TestShards: a shard has pods, an address of its storage, a Service and a leader of its own, beside those without a shard.
func TestShards(t *testing.T) {
	t.Setenv("RUNTIME_NAMESPACE", "flux-system")
	leaders := map[string]bool{}
	for _, dir := range []string{"testdata/shards/main", "testdata/shards/shard1", "testdata/shards/shard2"} {
		objects, err := kustomize.Build(context.Background(), os.DirFS("../.."), "examples/controllers/"+dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		validate(t, schemas(t), dir, objects)
		shard := strings.TrimPrefix(dir, "testdata/shards/")
		for _, o := range objects {
			key := o.GetLabels()["sharding.fluxcd.io/key"]
			switch o.GetKind() {
			case "Deployment":
				d := deployment(t, o)
				flags := optionsOf(t, d)
				id := flags.LeaderID(strings.TrimSuffix(d.Name, "-"+shard))
				if leaders[id] {
					t.Errorf("%s: the leader %s is another's", d.Name, id)
				}
				leaders[id] = true
				want := "sharding.fluxcd.io/key=" + shard
				if shard == "main" {
					want = "!sharding.fluxcd.io/key"
				}
				if flags.WatchLabelSelector != want || d.Spec.Selector.MatchLabels["sharding.fluxcd.io/key"] != key {
					t.Errorf("%s: %s, %v", d.Name, flags.WatchLabelSelector, d.Spec.Selector)
				}
				if addr := flags.StorageAdvAddr; strings.HasPrefix(d.Name, "source") && addr != d.Name+".flux-system.svc.cluster.local." {
					t.Errorf("%s: its storage is at %s", d.Name, addr)
				}
				if strings.HasSuffix(d.Spec.Template.Spec.ServiceAccountName, shard) {
					t.Errorf("%s: its service account is %s", d.Name, d.Spec.Template.Spec.ServiceAccountName)
				}
			case "Service":
				if selector, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector"); selector["sharding.fluxcd.io/key"] != key || (key == "") != (shard == "main") || (key == "") != (selector["app"] != "") {
					t.Errorf("%s: selects %v", o.GetName(), selector)
				}
			}
		}
	}
	if len(leaders) != 6 {
		t.Errorf("leaders: %v", leaders)
	}
}

// TestChart: the Helm chart makes of its values what the bases are.
func TestChart(t *testing.T) {
	t.Parallel()
	chart, err := helm.Load(t.Context(), os.DirFS("charts"), "gitopskit-controllers", nil)
	if err != nil {
		t.Fatal(err)
	}
	render := func(values map[string]any) ([]*unstructured.Unstructured, error) {
		result, err := helm.Render(t.Context(), chart, helm.Release{Name: "gitopskit", Namespace: "elsewhere"}, values, nil)
		if err != nil {
			return nil, err
		}
		return result.Objects, nil
	}
	if _, err := render(nil); err == nil || !strings.Contains(err.Error(), "set image.repository: no image is published") {
		t.Errorf("without an image: %v", err)
	}
	image := map[string]any{"repository": "registry.invalid/gitopskit", "tag": "v1"}
	for name, c := range map[string]struct {
		values     map[string]any
		components []string
	}{
		"default":  {map[string]any{"image": image}, []string{"all/cluster-admin"}},
		"lockdown": {map[string]any{"image": image, "lockdown": true}, []string{"lockdown"}},
	} {
		got, err := render(c.values)
		if err != nil {
			t.Fatal(err)
		}
		want := append(base(t, "rbac", ""), base(t, "all", "elsewhere", c.components...)...)
		for _, o := range want {
			if o.GetKind() == "Deployment" {
				containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				containers[0].(map[string]any)["image"] = "registry.invalid/gitopskit:v1"
				if err := unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"); err != nil {
					t.Fatal(err)
				}
			}
		}
		byName := func(a, b *unstructured.Unstructured) int {
			return strings.Compare(a.GetKind()+" "+a.GetName(), b.GetKind()+" "+b.GetName())
		}
		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-base +chart):\n%s", name, d)
		}
		validate(t, schemas(t), name, got)
	}
	many, err := render(map[string]any{"image": image, "extraArgs": []any{"--watch-label-selector=sharding.fluxcd.io/key=a"}, "logLevel": "debug"})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range many {
		if o.GetKind() == "Deployment" {
			if flags := optionsOf(t, deployment(t, o)); flags.WatchLabelSelector != "sharding.fluxcd.io/key=a" || flags.LogLevel != "debug" {
				t.Errorf("flags %+v", flags)
			}
		}
	}
}
