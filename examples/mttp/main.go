// Command mttp measures how long GitOps controllers need until many apps run,
// and what it costs: the mean time to production.
//
//	go run ./examples/mttp -local -n 50
//	go run ./examples/mttp -n 100 -kind helm -registry 0.0.0.0:5000 -registry-host 10.0.0.7 \
//		-metrics http://127.0.0.1:8081/metrics -metrics http://127.0.0.1:8082/metrics
//
// It deploys N apps of a ServiceAccount, a Service, a Deployment scaled to
// zero and an Ingress, each from an OCI artifact of its own, by objects of
// Flux: an OCIRepository and a Kustomization that waits for readiness, or an
// OCIRepository and a HelmRelease. Whichever controllers run in the cluster do
// the work: Flux's own, or those of examples/controllers, which -local starts
// together with a control plane.
//
// # What is measured
//
// install: from the first object created until every app is ready. upgrade:
// new artifacts under the same tags, and a request for a pass of each source,
// until every app is ready with its new artifact. nothing changed: a request
// for a pass of each source and each consumer, until all have answered. idle:
// a minute in which nothing happens.
//
// The time of a phase ends when the last object is as it should be, seen by
// watch. Requests, CPU and memory are read when the API server has been quiet
// for a moment after that, so that what follows, such as events, is counted
// where it belongs.
//
// API requests are those about objects that the API server counts in its
// metrics, by verb. What this program sends is left out, and so are watches,
// which have a line of their own, and what components of Kubernetes do, as the
// function kubernetes has it. Discovery is in none of them: the API server does
// not count it. With -metrics there is also what the controllers themselves
// count, watches and discovery included. Of several API servers the figures
// are those of the one that answers, so there should be one.
//
// CPU and memory are of the processes named by -pid, or else of the endpoints
// named by -metrics. The peak of several is the peak of their sum.
//
// Afterwards everything is deleted again, also after a failure and on Ctrl-C.
// -keep leaves it; the cluster of -local ends as it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/cluster"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/local"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/meter"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/workload"
)

// maxApps is how many apps the names have room for, with some left.
const maxApps = 5000

type flags struct {
	kubeconfig, namespace, registry, registryHost, controllers string
	kind                                                       workload.Kind
	apps, concurrent                                           int
	metrics                                                    []string
	pids                                                       []int
	timeout, idle, quiet                                       time.Duration
	local, json, keep                                          bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the clean-up, too
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	console.New(os.Stderr).Fail(err)
	os.Exit(1)
}

func parse(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("mttp", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.IntVar(&f.apps, "n", 50, "how many apps, up to "+strconv.Itoa(maxApps))
	set.StringVar((*string)(&f.kind), "kind", string(workload.Kustomize), "kustomize (OCIRepository and Kustomization) or helm (OCIRepository and HelmRelease)")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "the file that names the cluster; by default, as for kubectl, $KUBECONFIG or ~/.kube/config")
	set.StringVar(&f.namespace, "namespace", "mttp", "the namespace for everything; it is created and deleted")
	set.BoolVar(&f.local, "local", false, "start a control plane and examples/controllers/all on this machine, and measure these")
	set.StringVar(&f.controllers, "controllers", "", "with -local: the program to run in place of examples/controllers/all")
	set.IntVar(&f.concurrent, "concurrent", 20, "with -local: how many objects of a kind are reconciled at a time")
	set.StringVar(&f.registry, "registry", "127.0.0.1:0", "where the registry of the apps listens")
	set.StringVar(&f.registryHost, "registry-host", "", "the name or address, with or without port, under which the controllers reach the registry; by default the one it listens on")
	set.Func("metrics", "a metrics endpoint of controllers, such as http://127.0.0.1:8080/metrics; repeat it for each", func(s string) error {
		f.metrics = append(f.metrics, s)
		return nil
	})
	set.Func("pid", "a process of controllers on this machine (Linux), measured in place of the endpoints; repeat it for each", func(s string) error {
		pid, err := strconv.Atoi(s)
		f.pids = append(f.pids, pid)
		return err
	})
	set.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long each phase, and the clean-up, may take")
	set.DurationVar(&f.idle, "idle", time.Minute, "how long the idle phase is")
	set.DurationVar(&f.quiet, "quiet", time.Second, "how long no API request may come before figures are read; it is waited for as long as fifteen such times")
	set.BoolVar(&f.json, "json", false, "print the report as JSON, with each kind of request")
	set.BoolVar(&f.keep, "keep", false, "leave everything in the cluster")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	return f, errors.Join(f.check(set.Args())...)
}

func (f *flags) check(rest []string) (errs []error) {
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(len(rest) > 0, "unexpected arguments %q", rest)
	wrong(f.apps < 1 || f.apps > maxApps, "-n %d: use 1 to %d", f.apps, maxApps)
	wrong(f.kind != workload.Kustomize && f.kind != workload.Helm, "-kind %q: use %s or %s", f.kind, workload.Kustomize, workload.Helm)
	wrong(f.timeout <= 0 || f.idle <= 0 || f.quiet <= 0, "-timeout, -idle and -quiet must be positive")
	wrong(f.namespace == "", "-namespace is empty")
	wrong(f.concurrent < 1, "-concurrent %d: use 1 or more", f.concurrent)
	wrong(f.local && (f.kubeconfig != "" || len(f.metrics)+len(f.pids) > 0), "-local has a cluster and controllers of its own: leave out -kubeconfig, -metrics and -pid")
	wrong(f.local && f.keep, "-keep: nothing is left of -local when the program ends")
	wrong(!f.local && f.controllers != "", "-controllers needs -local")
	return errs
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f, err := parse(args, stderr)
	if err != nil {
		return err
	}
	// client-go writes failures to standard error that it also returns.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	controllers := &meter.Controllers{Metrics: f.metrics, PIDs: f.pids}
	var config *rest.Config
	if f.local {
		world, err := local.Start(ctx, &local.Options{Program: f.controllers, Concurrent: f.concurrent, Progress: stderr})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, world.Stop()) }()
		go func() {
			select {
			case <-world.Exited():
				cancel(world.Err())
			case <-ctx.Done():
			}
		}()
		config = world.Config
		controllers.Metrics, controllers.PIDs = []string{world.Metrics}, []int{world.PID}
	} else if config, err = f.cluster(); err != nil {
		return err
	}
	report, err := f.measure(ctx, config, controllers, console.New(stderr))
	if err != nil {
		return err
	}
	if f.json {
		return report.JSON(stdout)
	}
	return report.Table(stdout)
}

// cluster is the cluster that kubectl would use.
func (f *flags) cluster() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster: %w: name one by -kubeconfig, or use -local", err)
	}
	return config, nil
}

// measure runs the benchmark and cleans up.
func (f *flags) measure(ctx context.Context, config *rest.Config, controllers *meter.Controllers, out *console.Printer) (report *Report, err error) {
	own := &meter.Own{}
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server has its own fairness
	config.Wrap(own.Wrap)
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	server, err := meter.NewAPIServer(config, own)
	if err != nil {
		return nil, err
	}
	version, err := f.version(config)
	if err != nil {
		return nil, err
	}
	out.Step("cluster", "Kubernetes %s at %s", version, config.Host)
	repository, err := workload.Serve(f.registry, f.registryHost)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, repository.Close()) }()
	b := &benchmark{
		kind: f.kind, apps: f.apps, timeout: f.timeout, quiet: f.quiet, out: out, repository: repository,
		cluster: &cluster.Cluster{Dynamic: dyn, Namespace: f.namespace}, server: server, controllers: controllers,
	}
	report = &Report{Kind: f.kind, Apps: f.apps, Kubernetes: version}
	if err := b.run(ctx, f.idle, f.keep || f.local, report); err != nil {
		return nil, err
	}
	return report, nil
}

func (f *flags) version(config *rest.Config) (string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", err
	}
	info, err := client.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("cluster: %w", err)
	}
	return info.GitVersion, nil
}
