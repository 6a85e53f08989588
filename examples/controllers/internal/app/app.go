// Package app is what the example controllers have in common besides their
// kinds: flags, connections, storage, events, metrics, and their end.
package app

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	imageautomationv1 "github.com/fluxcd/image-automation-controller/api/v1"
	imagereflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1"
	notificationv1beta3 "github.com/fluxcd/notification-controller/api/v1beta3"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	watcherv1 "github.com/fluxcd/source-watcher/api/v2/v1beta1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/receiver"
	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/kube/flags"
	"github.com/gitopskit/gitopskit/runtime/observe"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/source/archive"
	"github.com/gitopskit/gitopskit/source/store"
)

// Kind adds the controller of one kind.
type Kind func(ctx context.Context, env *kinds.Env) error

// Of makes a Kind of a function of package kinds.
func Of[C any](add func(ctx context.Context, env *kinds.Env) (C, error)) Kind {
	return func(ctx context.Context, env *kinds.Env) error {
		_, err := add(ctx, env)
		return err
	}
}

// Program is one of the example controllers.
type Program struct {
	// Name is the name of the Flux controller that it can stand in for; it is
	// the field manager and the reporting controller.
	Name string
	// Kinds are what it reconciles.
	Kinds []Kind
	// Stores says that it publishes artifacts.
	Stores bool
	// Applies says that it applies objects to the cluster, and follows them.
	Applies bool
	// Notifies says that it leads events to alerts, and opens webhooks.
	Notifies bool
}

// Context ends with the first signal that tells the process to end. The second
// one ends the process at once, as if it were not handled.
func Context() (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan os.Signal, 2)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-told:
			cancel()
		case <-ctx.Done():
			return
		}
		if second, ok := (<-told).(syscall.Signal); ok { // main ends first, otherwise
			const killed = 128 // what shells add for a process that a signal has ended
			os.Exit(killed + int(second))
		}
	}()
	return ctx, func() { signal.Stop(told); cancel() }
}

// Main runs a program with the flags of the command line until it is told to end.
func Main(p Program) {
	ctx, stop := Context()
	defer stop()
	profileMutexes()
	opts := &Options{}
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	opts.Bind(flags)
	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		var cluster *rest.Config
		if cluster, err = config.GetConfig(); err == nil {
			err = Keep(ctx, cluster, p, opts)
		} else {
			err = fmt.Errorf("there is no cluster: name its kubeconfig in KUBECONFIG, or run in a pod: %w", err)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, p.Name+":", err)
		os.Exit(1)
	}
}

// Options are the flags, under the names that Flux gives them.
type Options struct {
	flags.Flags
	StoragePath, StorageAddr, StorageAdvAddr string
	EventsListenAddr, ReceiverAddr           string
	RetentionTTL                             time.Duration
	RetentionRecords                         int
	// Out takes the log; nil is standard error.
	Out io.Writer `json:"-"`
	// Registry takes the metrics of passes; nil is that of the metrics server,
	// which can be given to one program of a process at a time.
	Registry metrics.RegistererGatherer `json:"-"`
}

// Bind defines the flags.
func (o *Options) Bind(f *flag.FlagSet) {
	o.Flags.Bind(f, &flags.Defaults{GracefulShutdownTimeout: grace, Namespace: os.Getenv("RUNTIME_NAMESPACE"), Gates: gateDefaults()})
	f.StringVar(&o.StoragePath, "storage-path", "/data", "where artifacts are kept")
	f.StringVar(&o.StorageAddr, "storage-addr", ":9090", "the address where artifacts are served")
	f.StringVar(&o.StorageAdvAddr, "storage-adv-addr", os.Getenv("STORAGE_ADV_ADDR"), "the host that others reach the storage at; by default the address it listens on")
	f.StringVar(&o.EventsListenAddr, "events-listen-addr", "", "where events of other controllers are taken, for alerts")
	f.BoolFunc("no-remote-bases", "true, whatever it is not set to: bases of other places are always refused", func(text string) error {
		if on, err := strconv.ParseBool(text); err != nil || !on {
			return errors.New("it can only be true: bases of other places are always refused")
		}
		return nil
	})
	f.StringVar(&o.ReceiverAddr, "receiver-addr", ":9292", "where webhooks are taken")
	f.DurationVar(&o.RetentionTTL, "artifact-retention-ttl", time.Minute, "how long an artifact is kept after it was published")
	f.IntVar(&o.RetentionRecords, "artifact-retention-records", 2, "how many artifacts of an object are kept")
}

// grace is how long a pass may go on when the program ends, before it is told
// to; give pods a terminationGracePeriodSeconds of 45.
const grace = 10 * time.Second

// patience is how long a program goes on after its passes have ended, for what
// is still to be delivered; moment is how long it does so even if the grace is
// over.
const patience, moment = 5 * time.Second, 500 * time.Millisecond

// end returns when what is left to do after the passes must be done: the grace
// after ctx has ended is for all of it.
func (o *Options) end(ctx context.Context) func() (context.Context, context.CancelFunc) {
	var over atomic.Int64
	context.AfterFunc(ctx, func() { over.Store(time.Now().Add(o.GracefulShutdownTimeout).UnixNano()) })
	return func() (context.Context, context.CancelFunc) {
		left := patience
		if at := over.Load(); at != 0 {
			left = min(left, time.Until(time.Unix(0, at)))
		}
		return context.WithTimeout(context.WithoutCancel(ctx), max(left, moment))
	}
}

// Scheme has the kinds of Flux and those of Kubernetes.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(scheme.AddToScheme(s), sourcev1.AddToScheme(s), watcherv1.AddToScheme(s), kustomizev1.AddToScheme(s), helmv2.AddToScheme(s),
		notificationv1.AddToScheme(s), notificationv1beta3.AddToScheme(s), imagereflectorv1.AddToScheme(s), imageautomationv1.AddToScheme(s))
}

// Keep runs a program until ctx ends, and begins anew when it has lost the
// leadership, as often as it takes: then another replica works, until this one
// is elected again. Probes are answered all the time. A program whose passes do
// not end is not begun anew beside them.
func Keep(ctx context.Context, cluster *rest.Config, p Program, o *Options) error {
	logger, err := o.logger()
	if err != nil {
		return err
	}
	probes := &kube.Probes{}
	stop, err := o.probe(ctx, probes)
	if err != nil {
		return err
	}
	defer stop()
	lost, failed := false, 0
	for {
		err := run(ctx, cluster, p, o, probes)
		stuck := (*rt.StuckError)(nil)
		switch {
		case err == nil, ctx.Err() != nil, errors.As(err, &stuck):
			return err
		case errors.Is(err, kube.ErrLeadershipLost):
			lost, failed = true, 0
		case !lost:
			return err
		default: // the API server cannot be reached, perhaps: that is how leaderships are lost
			failed++
		}
		logger.Info("begin anew", "cause", err.Error())
		select {
		case <-time.After(rt.Backoff{Max: time.Minute}.Delay(failed)):
		case <-ctx.Done():
			return nil
		}
	}
}

// probe answers probes until it is stopped.
func (o *Options) probe(ctx context.Context, probes *kube.Probes) (stop func(), err error) {
	if o.HealthAddr == "" || o.HealthAddr == "0" {
		return func() {}, nil
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", o.HealthAddr)
	if err != nil {
		return nil, fmt.Errorf("-health-addr: %w", err)
	}
	server := &http.Server{Handler: probes, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l) //nolint:errcheck // it is closed
	}()
	return func() { server.Close(); <-done }, nil //nolint:errcheck // it ends either way
}

// run runs a program until ctx ends, or it loses the leadership.
func run(ctx context.Context, cluster *rest.Config, p Program, o *Options, probes *kube.Probes) error {
	logger, err := o.logger()
	if err != nil {
		return err
	}
	if err := errors.Join(o.proxies(os.Getenv), o.checkGates()); err != nil {
		return err
	}
	log.SetLogger(logr.FromSlogHandler(logger.Handler()))
	defer context.AfterFunc(ctx, func() {
		logger.Info("told to end: passes may go on for a while; being told again ends the process at once", "grace", o.GracefulShutdownTimeout.String())
	})()
	end := o.end(ctx)
	cluster = rest.CopyConfig(cluster)
	cluster.Wrap(observe.Counting)
	mgr, err := o.manager(ctx, cluster, p)
	if err != nil {
		return err
	}
	probes.Follow(mgr)
	cluster = mgr.GetConfig()
	registry := cmp.Or(o.Registry, metrics.Registry)
	recorded, err := observe.New(registry, &observe.Options{Flux: true})
	if err != nil {
		return err
	}
	defer recorded.Unregister(registry)
	events, err := o.events(mgr, p.Name, logger, recorded)
	if err != nil {
		return err
	}
	policy := tenancy.Policy{
		NoCrossNamespaceRefs: o.NoCrossNamespaceRefs, DefaultServiceAccount: o.DefaultServiceAccount,
		DefaultDecryptionServiceAccount: o.DefaultDecryptionServiceAccount, DefaultKubeconfigServiceAccount: o.DefaultKubeconfigServiceAccount,
	}
	if err := policy.Validate(); err != nil {
		return err
	}
	env := &kinds.Env{
		Manager: mgr, Fetch: &archive.Client{}, Tags: &kinds.TagDB{}, Hooks: &receiver.Mux{}, Policy: policy,
		Clients: &tenancy.Clients{
			Base: cluster, Proxy: http.ProxyFromEnvironment,
			Kubeconfig: tenancy.KubeconfigPolicy{Exec: o.InsecureKubeconfigExec, InsecureTLS: o.InsecureKubeconfigTLS},
		},
		Event: kube.EventRecorder(mgr.GetEventRecorder(p.Name), events.send),
		Flags: &o.Flags, FieldOwner: p.Name, Log: logger,
		Metrics: recorded, Proxy: http.ProxyFromEnvironment,
	}
	defer env.Close()
	if p.Applies {
		if err := know(mgr, cluster, env); err != nil {
			return err
		}
	}
	if p.Stores {
		closeStore, err := o.store(mgr, env)
		if err != nil {
			return err
		}
		defer closeStore()
	}
	if p.Notifies {
		done, err := o.notify(ctx, mgr, env, events, end)
		if err != nil {
			return err
		}
		defer done()
	}
	defer events.close(end)
	for _, kind := range p.Kinds {
		if err := kind(ctx, env); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// proxies refuses proxies that are reached without TLS, if the flags forbid such connections.
func (o *Options) proxies(getenv func(string) string) error {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		if !o.InsecureAllowHTTP && strings.HasPrefix(strings.ToLower(getenv(name)), "http:") {
			return fmt.Errorf("the proxy in the environment variable %s is reached without TLS, which -insecure-allow-http=false forbids", name)
		}
	}
	return nil
}

func (o *Options) logger() (*slog.Logger, error) {
	out := o.Out
	if out == nil {
		out = os.Stderr
	}
	return o.Log(out)
}

// manager makes a manager whose cache holds the kinds that are reconciled,
// and no ConfigMaps and Secrets.
func (o *Options) manager(ctx context.Context, cluster *rest.Config, p Program) (manager.Manager, error) {
	s, err := Scheme()
	if err != nil {
		return nil, err
	}
	return o.Manager(ctx, cluster, p.Name, manager.Options{
		HealthProbeBindAddress: "0", // Keep answers them
		Metrics:                server.Options{ExtraHandlers: profiles()},
		Scheme:                 s, Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.ConfigMap{}, &corev1.Secret{}}}},
	})
}

// store opens the storage and serves it as long as the manager runs.
func (o *Options) store(mgr manager.Manager, env *kinds.Env) (func(), error) {
	s, err := store.Open(o.StoragePath, &store.Options{Keep: o.RetentionRecords, TTL: o.RetentionTTL})
	if err != nil {
		return nil, err
	}
	addr, err := o.serve(mgr, o.StorageAddr, s.Handler())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("storage: %w", err), s.Close())
	}
	host := o.StorageAdvAddr
	if host == "" {
		host = addr
	}
	if strings.HasPrefix(host, ":") {
		name, err := os.Hostname()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("storage: give -storage-adv-addr: %w", err), s.Close())
		}
		host = name + host
	}
	env.Store, env.StoreURL = s, "http://"+host
	return func() { s.Close() }, nil //nolint:errcheck // only released
}

// notify leads events to alerts, takes those of other controllers, and opens
// webhooks.
func (o *Options) notify(ctx context.Context, mgr manager.Manager, env *kinds.Env, events *events, end func() (context.Context, context.CancelFunc)) (func(), error) {
	alerts, err := kinds.NewAlerts(ctx, env)
	if err != nil {
		return nil, err
	}
	events.lead(alerts.Emit)
	for addr, handler := range map[string]http.Handler{o.EventsListenAddr: &notify.EventServer{Emit: alerts.Emit}, o.ReceiverAddr: env.Hooks} {
		if addr == "" || addr == "0" {
			continue
		}
		if _, err := o.serve(mgr, addr, handler); err != nil {
			return nil, err
		}
	}
	return func() {
		ctx, cancel := end()
		defer cancel()
		alerts.Close(ctx)
	}, nil
}

// serve has a manager serve an address while it is the leader, and returns the
// address. One with port 0 is opened at once, to know it; others only then, so
// that nobody reaches a replica that does not answer.
func (o *Options) serve(mgr manager.Manager, addr string, handler http.Handler) (string, error) {
	var listen net.ListenConfig
	var open net.Listener
	if strings.HasSuffix(addr, ":0") {
		var err error
		if open, err = listen.Listen(context.Background(), "tcp", addr); err != nil {
			return "", err
		}
		addr = open.Addr().String()
	}
	return addr, mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		l := open
		if l == nil {
			var err error
			if l, err = listen.Listen(ctx, "tcp", addr); err != nil {
				return err
			}
		}
		return serveOn(ctx, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}, l, o.GracefulShutdownTimeout)
	}))
}

// serveOn serves until ctx ends; requests that are under way then may go on for
// the grace.
func serveOn(ctx context.Context, server *http.Server, l net.Listener, grace time.Duration) error {
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close() //nolint:errcheck // it ends either way
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
