package flags

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// Log returns a log to w, as the flags say.
func (f *Flags) Log(w io.Writer) (*slog.Logger, error) {
	level, err := f.level()
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey && a.Value.Any() == LevelTrace {
			a.Value = slog.StringValue("TRACE")
		}
		return a
	}}
	if f.LogEncoding == "console" {
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), nil
}

// Manager returns a manager for the controllers of one program, see
// kube.NewManager: with the cache, the leader election, the metrics and the
// probes that the flags say, wherever opts does not say otherwise. It asks the
// API server once, whether that limits requests itself. The program's name is
// that of the Flux controller whose place it takes.
func (f *Flags) Manager(ctx context.Context, config *rest.Config, name string, opts manager.Options) (manager.Manager, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.UserAgent = name
	fair, err := limits(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", config.Host, err)
	}
	config.QPS, config.Burst = float32(f.KubeAPIQPS), f.KubeAPIBurst
	if fair {
		config.QPS, config.Burst = -1, -1
	}
	f.complete(name, &opts)
	mgr, err := kube.NewManager(config, opts)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", config.Host, err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}

// complete fills in what opts leaves open.
func (f *Flags) complete(name string, opts *manager.Options) {
	if opts.Metrics.BindAddress == "" {
		opts.Metrics.BindAddress = f.MetricsAddr
	}
	if opts.HealthProbeBindAddress == "" {
		opts.HealthProbeBindAddress = f.HealthAddr
	}
	if opts.GracefulShutdownTimeout == nil {
		stop := 3 * f.GracefulShutdownTimeout // twice for the passes, and once for what follows
		opts.GracefulShutdownTimeout = &stop
	}
	if !opts.LeaderElection {
		opts.LeaderElection, opts.LeaderElectionReleaseOnCancel = f.EnableLeaderElection, f.LeaderElectionReleaseOnCancel
		opts.LeaderElectionID, opts.LeaderElectionNamespace = cmp.Or(opts.LeaderElectionID, f.LeaderID(name)), cmp.Or(opts.LeaderElectionNamespace, f.Namespace)
		opts.LeaseDuration, opts.RenewDeadline, opts.RetryPeriod = &f.LeaderElectionLeaseDuration, &f.LeaderElectionRenewDeadline, &f.LeaderElectionRetryPeriod
	}
	if !f.WatchAllNamespaces && opts.Cache.DefaultNamespaces == nil {
		opts.Cache.DefaultNamespaces = map[string]cache.Config{f.Namespace: {}}
	}
}

// limits reports whether the API server limits requests by priority and
// fairness: then it says in every answer by what rule it has treated it.
func limits(ctx context.Context, config *rest.Config) (bool, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return false, err
	}
	defer client.CloseIdleConnections()
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, base.JoinPath("livez", "ping").String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Kubernetes-Pf-") {
			return true, nil
		}
	}
	return false, nil
}

// Apply sets the fields of opts that flags are for: how many workers there are,
// how intervals are spread, which objects are reconciled, and how long passes
// may go on in the end.
func Apply[T kube.Object](f *Flags, opts *kube.Options[T]) error {
	if err := f.Validate(); err != nil {
		return err
	}
	opts.Workers, opts.Grace, opts.RetryDependency = f.Concurrent, f.GracefulShutdownTimeout, f.RequeueDependency
	const percent = 100
	opts.Jitter = float64(f.IntervalJitterPercentage) / percent
	if f.IntervalJitterPercentage == 0 {
		opts.Jitter = -1 // none
	}
	if f.WatchLabelSelector != "" {
		selector, err := labels.Parse(f.WatchLabelSelector)
		if err != nil {
			return fmt.Errorf("-watch-label-selector: %w", err)
		}
		opts.Select = func(obj T) bool { return selector.Matches(labels.Set(obj.GetLabels())) }
	}
	return nil
}

// Backoff is the pause after failures of kinds that have no interval of their
// own for it.
func (f *Flags) Backoff() rt.Backoff { return rt.Backoff{Min: f.MinRetryDelay, Max: f.MaxRetryDelay} }
