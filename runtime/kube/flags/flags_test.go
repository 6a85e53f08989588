package flags_test

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/kube/flags"
)

func parse(t *testing.T, d *flags.Defaults, args ...string) (*flags.Flags, error) {
	t.Helper()
	var f flags.Flags
	set := flag.NewFlagSet("controller", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	f.Bind(set, d)
	return &f, set.Parse(args)
}

// The command line of a Deployment of Flux is understood.
func TestFluxCommandLine(t *testing.T) {
	f, err := parse(t, &flags.Defaults{Namespace: "flux-system", Gates: map[string]bool{"DirectSourceFetch": false, "StrictPostBuildSubstitutions": true}},
		"--events-addr=http://notification-controller.flux-system.svc.cluster.local./", "--watch-all-namespaces=false", "--log-level=debug", "--log-encoding=console",
		"--enable-leader-election", "--concurrent=20", "--requeue-dependency=5s", "--kube-api-qps=500", "--kube-api-burst=1000", "--no-cross-namespace-refs=true",
		"--default-service-account=default", "--watch-label-selector=sharding.fluxcd.io/key=shard1", "--interval-jitter-percentage=10",
		"--feature-gates=DirectSourceFetch=true,StrictPostBuildSubstitutions=false", "--insecure-kubeconfig-exec=false", "--watch-configs-label-selector=owner!=helm",
		"--leader-election-lease-duration=60s", "--leader-election-renew-deadline=40s", "--min-retry-delay=1s", "--max-retry-delay=1m", "--graceful-shutdown-timeout=2m")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	if !f.FeatureGates["DirectSourceFetch"] || f.FeatureGates["StrictPostBuildSubstitutions"] || f.Namespace != "flux-system" || f.Backoff().Max != time.Minute {
		t.Errorf("%+v", f)
	}
	if id := f.LeaderID("kustomize-controller"); id != "kustomize-controller-leader-election-73fdc1be" {
		t.Error(id)
	}
	var opts kube.Options[*kustomizev1.Kustomization]
	if err := flags.Apply(f, &opts); err != nil {
		t.Fatal(err)
	}
	k := &kustomizev1.Kustomization{}
	if opts.Workers != 20 || opts.Jitter != 0.1 || opts.RetryDependency != 5*time.Second || opts.Grace != 2*time.Minute || opts.Select(k) {
		t.Errorf("%+v", opts)
	}
	k.Labels = map[string]string{"sharding.fluxcd.io/key": "shard1"}
	if !opts.Select(k) {
		t.Error("an object of the shard is not selected")
	}
}

// Two sets of flags in one process share nothing.
func TestGatesAreNotGlobal(t *testing.T) {
	gates := &flags.Defaults{Gates: map[string]bool{"A": false}, Concurrent: 10}
	one, err1 := parse(t, gates, "-feature-gates=A=true")
	two, err2 := parse(t, gates)
	if err1 != nil || err2 != nil || !one.FeatureGates["A"] || two.FeatureGates["A"] || gates.Gates["A"] || two.Concurrent != 10 {
		t.Error(one.FeatureGates, two.FeatureGates, gates, err1, err2)
	}
	if id := two.LeaderID("source-controller"); id != "source-controller-leader-election" {
		t.Error(id)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-feature-gates=B=true", `there is no feature gate "B": there are A`},
		{"-feature-gates=A=maybe", `feature gate A is "maybe"`},
		{"-concurrent=0", "-concurrent is 0"},
		{"-min-retry-delay=0s", "-min-retry-delay is 0s"},
		{"-min-retry-delay=2h", "-max-retry-delay, 15m0s, is shorter"},
		{"-requeue-dependency=-1s", "-requeue-dependency is -1s"},
		{"-interval-jitter-percentage=100", "-interval-jitter-percentage is 100"},
		{"-graceful-shutdown-timeout=0s", "-graceful-shutdown-timeout is 0s"},
		{"-watch-label-selector=a==b==c", "-watch-label-selector: "},
		{"-watch-all-namespaces=false", "RUNTIME_NAMESPACE"},
		{"-leader-election-renew-deadline=1h", "-leader-election-renew-deadline, 1h0m0s, must be shorter"},
		{"-leader-election-retry-period=30s", "-leader-election-retry-period, 30s, must be well below"},
		{"-log-level=loud", `-log-level is "loud"`},
		{"-log-encoding=xml", `-log-encoding is "xml"`},
		{"-no-such-flag", "no-such-flag"},
	} {
		f, err := parse(t, &flags.Defaults{Gates: map[string]bool{"A": false}}, c.args)
		if err == nil {
			err = f.Validate()
			_, managed := f.Manager(t.Context(), &rest.Config{Host: "http://127.0.0.1:1"}, "x", manager.Options{})
			if applied := flags.Apply(f, &kube.Options[*kustomizev1.Kustomization]{}); managed == nil || applied == nil {
				t.Errorf("%s is taken", c.args)
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	f, err := parse(t, nil, "-concurrent=0", "-log-level=loud")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("both at once: %v", err)
	}
}

// Requests are limited here only where the API server does not do it.
func TestManagerLimits(t *testing.T) {
	for _, fair := range []bool{true, false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fair {
				w.Header().Set("X-Kubernetes-Pf-Flowschema-Uid", "1")
			}
			http.NotFound(w, r)
		}))
		f, err := parse(t, nil, "-kube-api-qps=7", "-kube-api-burst=9", "-metrics-addr=0", "-health-addr=0", "-interval-jitter-percentage=0")
		if err != nil {
			t.Fatal(err)
		}
		mgr, err := f.Manager(t.Context(), &rest.Config{Host: server.URL}, "my-controller", manager.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := float32(7)
		if fair {
			want = -1
		}
		if got := mgr.GetConfig(); got.QPS != want || got.UserAgent != "my-controller" {
			t.Errorf("%v: %v %v", fair, got.QPS, got.UserAgent)
		}
		var opts kube.Options[*kustomizev1.Kustomization]
		if err := flags.Apply(f, &opts); err != nil || opts.Jitter >= 0 || opts.Select != nil {
			t.Errorf("%+v %v", opts, err)
		}
		mgr.GetHTTPClient().CloseIdleConnections()
		server.Close()
	}
	f, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Manager(t.Context(), &rest.Config{Host: "http://127.0.0.1:1"}, "x", manager.Options{}); err == nil || !strings.Contains(err.Error(), "cluster http://127.0.0.1:1: ") {
		t.Errorf("no cluster: %v", err)
	}
}

func TestLog(t *testing.T) {
	for encoding, want := range map[string]string{"json": `"level":"TRACE","msg":"hello"`, "console": "level=TRACE msg=hello"} {
		f, err := parse(t, nil, "-log-level=trace", "-log-encoding="+encoding)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log, err := f.Log(&out)
		if err != nil {
			t.Fatal(err)
		}
		if log.Log(t.Context(), flags.LevelTrace, "hello"); !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", encoding, out.String())
		}
	}
	f, _ := parse(t, nil, "-log-level=loud")
	if _, err := f.Log(io.Discard); err == nil {
		t.Error("a level that is none is taken")
	}
}
