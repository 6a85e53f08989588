package flags

import (
	"crypto/sha256"
	"errors"
	"flag" //nolint:depguard // flags are what this package is about
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Flags are the values of the flags. The fields are named after them.
type Flags struct {
	// MetricsAddr and HealthAddr are where metrics and probes are served; "0"
	// means nowhere.
	MetricsAddr, HealthAddr string
	// EventsAddr is where events are posted to; empty means nowhere.
	EventsAddr string
	// Concurrent is how many objects of a kind are reconciled at a time.
	Concurrent int
	// MinRetryDelay and MaxRetryDelay are the pause after failures.
	MinRetryDelay, MaxRetryDelay time.Duration
	// RequeueDependency is the pause of an object that waits for another one.
	RequeueDependency time.Duration
	// IntervalJitterPercentage is by how much intervals are spread, ±.
	IntervalJitterPercentage int
	// GracefulShutdownTimeout is how long passes may go on when the program is
	// told to end.
	GracefulShutdownTimeout time.Duration
	// WatchAllNamespaces is false for the own namespace only.
	WatchAllNamespaces bool
	// WatchLabelSelector selects the objects that are reconciled.
	WatchLabelSelector string
	// WatchConfigsLabelSelector has no effect: what objects refer to is watched
	// by name, whatever its labels.
	WatchConfigsLabelSelector string
	// EnableLeaderElection and what follows elect one of several replicas.
	EnableLeaderElection, LeaderElectionReleaseOnCancel                                 bool
	LeaderElectionLeaseDuration, LeaderElectionRenewDeadline, LeaderElectionRetryPeriod time.Duration
	// KubeAPIQPS and KubeAPIBurst limit requests, unless the API server does so
	// itself by priority and fairness.
	KubeAPIQPS   float64
	KubeAPIBurst int
	// LogLevel is trace, debug, info or error; LogEncoding json or console.
	LogLevel, LogEncoding string
	// NoCrossNamespaceRefs, the default service accounts, and whether kubeconfigs
	// may run programs and leave certificates unverified are for package
	// runtime/tenancy.
	NoCrossNamespaceRefs                                                                    bool
	DefaultServiceAccount, DefaultDecryptionServiceAccount, DefaultKubeconfigServiceAccount string
	InsecureKubeconfigExec, InsecureKubeconfigTLS                                           bool
	// InsecureAllowHTTP is false to refuse plain HTTP to other services, which is up to the program: package flags only
	// reads it.
	InsecureAllowHTTP bool
	// FeatureGates are those of Defaults.Gates, as the command line has them.
	FeatureGates map[string]bool
	// Namespace is the own one, of Defaults.Namespace.
	Namespace string
}

// Defaults are what differs between controllers. The zero value is what
// most of them have.
type Defaults struct {
	// Namespace is the own one: Flux's Deployments have it in the environment
	// variable RUNTIME_NAMESPACE.
	Namespace string
	// Concurrent is the default of -concurrent; 0 means 4.
	Concurrent int
	// GracefulShutdownTimeout is the default of the flag; 0 means 30 seconds.
	GracefulShutdownTimeout time.Duration
	// Gates are the names of the feature gates that there are, and whether they
	// are on unless told otherwise.
	Gates map[string]bool
}

// Bind defines the flags. A nil d is the zero one.
func (f *Flags) Bind(set *flag.FlagSet, d *Defaults) {
	if d == nil {
		d = &Defaults{}
	}
	concurrent, graceful := d.Concurrent, d.GracefulShutdownTimeout
	if concurrent == 0 {
		concurrent = 4
	}
	if graceful == 0 {
		graceful = 30 * time.Second
	}
	set.StringVar(&f.MetricsAddr, "metrics-addr", ":8080", "the address of the metrics endpoint, 0 for none")
	set.StringVar(&f.HealthAddr, "health-addr", ":9440", "the address of the health endpoint, 0 for none")
	set.StringVar(&f.EventsAddr, "events-addr", "", "where events are posted to")
	set.IntVar(&f.Concurrent, "concurrent", concurrent, "how many objects of a kind are reconciled at a time")
	set.DurationVar(&f.MinRetryDelay, "min-retry-delay", 750*time.Millisecond, "the shortest pause after a failure")
	set.DurationVar(&f.MaxRetryDelay, "max-retry-delay", 15*time.Minute, "the longest pause after a failure")
	set.DurationVar(&f.RequeueDependency, "requeue-dependency", 30*time.Second, "the pause of an object that waits for another one")
	set.IntVar(&f.IntervalJitterPercentage, "interval-jitter-percentage", 5, "by how much intervals are spread")
	set.DurationVar(&f.GracefulShutdownTimeout, "graceful-shutdown-timeout", graceful, "how long passes may go on when the program is told to end")
	f.bindWatches(set)
	f.bindTenancy(set)
	set.Float64Var(&f.KubeAPIQPS, "kube-api-qps", 50, "requests to the API server a second, if it does not limit them itself")
	set.IntVar(&f.KubeAPIBurst, "kube-api-burst", 300, "the same for a short time")
	set.StringVar(&f.LogLevel, "log-level", "info", "trace, debug, info or error")
	set.StringVar(&f.LogEncoding, "log-encoding", "json", "json or console")
	f.FeatureGates = maps.Clone(d.Gates)
	set.Func("feature-gates", "name=true or name=false, with commas between", f.gates)
	f.Namespace = d.Namespace
}

func (f *Flags) bindWatches(set *flag.FlagSet) {
	set.BoolVar(&f.WatchAllNamespaces, "watch-all-namespaces", true, "reconcile all namespaces, not only the own one")
	set.StringVar(&f.WatchLabelSelector, "watch-label-selector", "", "reconcile the objects with these labels only")
	set.StringVar(&f.WatchConfigsLabelSelector, "watch-configs-label-selector", "reconcile.fluxcd.io/watch=Enabled", "without effect: what objects refer to is watched whatever its labels")
	set.BoolVar(&f.EnableLeaderElection, "enable-leader-election", false, "have one of several replicas reconcile")
	set.BoolVar(&f.LeaderElectionReleaseOnCancel, "leader-election-release-on-cancel", true, "step down when told to end")
	set.DurationVar(&f.LeaderElectionLeaseDuration, "leader-election-lease-duration", 35*time.Second, "after what time of silence another replica takes over")
	set.DurationVar(&f.LeaderElectionRenewDeadline, "leader-election-renew-deadline", 30*time.Second, "after what time without success the leader gives up")
	set.DurationVar(&f.LeaderElectionRetryPeriod, "leader-election-retry-period", 5*time.Second, "the pause between two tries")
}

func (f *Flags) bindTenancy(set *flag.FlagSet) {
	set.BoolVar(&f.NoCrossNamespaceRefs, "no-cross-namespace-refs", false, "refuse references to other namespaces")
	set.StringVar(&f.DefaultServiceAccount, "default-service-account", "", "as whom to act for objects that name no service account")
	set.StringVar(&f.DefaultDecryptionServiceAccount, "default-decryption-service-account", "", "the same for decryption")
	set.StringVar(&f.DefaultKubeconfigServiceAccount, "default-kubeconfig-service-account", "", "the same for other clusters")
	set.BoolVar(&f.InsecureKubeconfigExec, "insecure-kubeconfig-exec", false, "let kubeconfigs run programs")
	set.BoolVar(&f.InsecureKubeconfigTLS, "insecure-kubeconfig-tls", false, "let kubeconfigs leave certificates unverified")
	set.BoolVar(&f.InsecureAllowHTTP, "insecure-allow-http", true, "allow plain HTTP to other services")
}

// gates reads the flag -feature-gates.
func (f *Flags) gates(text string) error {
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		on, err := strconv.ParseBool(value)
		if _, known := f.FeatureGates[name]; !known {
			return fmt.Errorf("there is no feature gate %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(f.FeatureGates)), ", "))
		}
		if err != nil {
			return fmt.Errorf("feature gate %s is %q: it must be true or false", name, value)
		}
		f.FeatureGates[name] = on
	}
	return nil
}

// Validate returns everything that is wrong, each with the name of the flag.
func (f *Flags) Validate() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(f.Concurrent < 1, "-concurrent is %d: it must be 1 or more", f.Concurrent)
	wrong(f.MinRetryDelay <= 0, "-min-retry-delay is %v: it must be more than 0", f.MinRetryDelay)
	wrong(f.MaxRetryDelay < f.MinRetryDelay, "-max-retry-delay, %v, is shorter than -min-retry-delay, %v", f.MaxRetryDelay, f.MinRetryDelay)
	wrong(f.RequeueDependency <= 0, "-requeue-dependency is %v: it must be more than 0", f.RequeueDependency)
	wrong(f.IntervalJitterPercentage < 0 || f.IntervalJitterPercentage > 99, "-interval-jitter-percentage is %d: it must be from 0 to 99", f.IntervalJitterPercentage)
	wrong(f.GracefulShutdownTimeout <= 0, "-graceful-shutdown-timeout is %v: it must be more than 0", f.GracefulShutdownTimeout)
	_, err := labels.Parse(f.WatchLabelSelector)
	wrong(err != nil, "-watch-label-selector: %w", err)
	wrong(!f.WatchAllNamespaces && f.Namespace == "", "-watch-all-namespaces=false needs the own namespace: set the environment variable RUNTIME_NAMESPACE")
	wrong(f.LeaderElectionRenewDeadline >= f.LeaderElectionLeaseDuration, "-leader-election-renew-deadline, %v, must be shorter than -leader-election-lease-duration, %v", f.LeaderElectionRenewDeadline, f.LeaderElectionLeaseDuration)
	wrong(f.LeaderElectionRetryPeriod*6/5 >= f.LeaderElectionRenewDeadline, "-leader-election-retry-period, %v, must be well below -leader-election-renew-deadline, %v", f.LeaderElectionRetryPeriod, f.LeaderElectionRenewDeadline)
	_, err = f.level()
	wrong(err != nil, "%w", err)
	wrong(f.LogEncoding != "json" && f.LogEncoding != "console", "-log-encoding is %q: it must be json or console", f.LogEncoding)
	return errors.Join(errs...)
}

// LevelTrace is the level of -log-level=trace.
const LevelTrace = slog.LevelDebug - 4

func (f *Flags) level() (slog.Level, error) {
	switch f.LogLevel {
	case "trace":
		return LevelTrace, nil
	case "debug", "info", "warn", "error":
		var level slog.Level
		err := level.UnmarshalText([]byte(f.LogLevel))
		return level, err
	}
	return 0, fmt.Errorf("-log-level is %q: it must be trace, debug, info or error", f.LogLevel)
}

// LeaderID is the name of the Lease that the replicas of a controller elect
// their leader with, as in Flux: "name-leader-election", followed by a hash of
// the label selector where there is one, so that each shard has a leader.
func (f *Flags) LeaderID(name string) string {
	id := name + "-leader-election"
	if f.WatchLabelSelector != "" {
		const short = 8
		id += "-" + fmt.Sprintf("%x", sha256.Sum256([]byte(f.WatchLabelSelector)))[:short]
	}
	return id
}
