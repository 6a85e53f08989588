package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// NewManager returns a manager of controller-runtime with what controllers of
// this package are better off with, wherever opts does not say otherwise:
//
//   - the cache keeps no managed fields and no last-applied-configuration, see [Trim];
//   - requests are not limited by the client: the API server limits by priority
//     and fairness. A config with a QPS keeps it;
//   - an object that its type cannot hold, such as one with an interval of
//     9999999h, which the schema allows and no time.Duration can express, does
//     not keep the others from being read: it stalls alone, with the name of
//     the field;
//   - with leader election, writes of the manager's client, and of every other
//     one that is made of its config, are made by the leader only: when the last
//     renewal of the lease is RenewDeadline ago, those under way are given up
//     and passes end, so that none meets one of the next leader. Start then
//     returns ErrLeadershipLost. Neither a pause of the process nor a jump of
//     the clock changes that; a machine whose monotonic clock stands still, as
//     when it sleeps, notices with its next request for the lease;
//   - metrics are served where opts says, and nowhere if it does not;
//   - when it is told to end it waits for its controllers, which takes twice
//     Options.Grace at the most.
//
// Kinds are made known by functions such as v1.AddToScheme, in opts.Scheme or,
// if that is nil, in a new scheme that has those of Kubernetes.
//
// The error names what of opts or config cannot be used.
func NewManager(config *rest.Config, opts manager.Options, kinds ...func(*runtime.Scheme) error) (manager.Manager, error) {
	if config == nil {
		return nil, errors.New("kube: there is no connection to a cluster: the rest.Config is nil")
	}
	config = rest.CopyConfig(config)
	if config.QPS == 0 {
		config.QPS = -1
	}
	if opts.Scheme == nil {
		opts.Scheme = runtime.NewScheme()
		kinds = append(kinds, scheme.AddToScheme)
	}
	for _, add := range kinds {
		if err := add(opts.Scheme); err != nil {
			return nil, fmt.Errorf("kube: scheme: %w", err)
		}
	}
	if opts.GracefulShutdownTimeout == nil {
		patience := 5 * time.Minute // controllers end by themselves, twice their Grace later at the latest
		opts.GracefulShutdownTimeout = &patience
	}
	if opts.Metrics.BindAddress == "" {
		opts.Metrics.BindAddress = "0"
	}
	if opts.Cache.DefaultTransform == nil {
		opts.Cache.DefaultTransform = Trim
	}
	active := &atomic.Bool{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &lenient{next: next, scheme: opts.Scheme, active: active}
	})
	opts.Cache.DefaultWatchErrorHandler = watchError(opts.Cache.DefaultWatchErrorHandler, active)
	mgr, err := newManager(config, opts)
	if err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	return mgr, nil
}

// newManager puts a fence around the manager if there is a leader election.
func newManager(config *rest.Config, opts manager.Options) (manager.Manager, error) {
	if !opts.LeaderElection {
		return manager.New(config, opts)
	}
	f, events := &fence{limit: limitOf(opts)}, &lateRecorder{}
	lock, err := newLease(config, opts, f, events)
	if err != nil {
		return nil, err
	}
	opts.LeaderElectionResourceLockInterface = lock
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &gate{next: next, fence: f} })
	mgr, err := manager.New(config, opts)
	if err != nil {
		return nil, err
	}
	events.mgr = mgr
	return &elected{mgr, f}, nil
}

// watchError begins to read leniently when a list could not be decoded.
func watchError(next toolscache.WatchErrorHandlerWithContext, active *atomic.Bool) toolscache.WatchErrorHandlerWithContext {
	if next == nil {
		next = toolscache.DefaultWatchErrorHandler
	}
	return func(ctx context.Context, r *toolscache.Reflector, err error) {
		if undecodable(err) {
			active.Store(true)
		}
		next(ctx, r, err)
	}
}

// lastApplied is what kubectl keeps for itself.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Trim takes from an object of a cache what no controller reads and what makes
// up a third of it: managed fields, and the annotation in which kubectl keeps a
// copy of the object. It is for cache.Options.DefaultTransform.
func Trim(o any) (any, error) {
	obj, err := meta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // a tombstone: there is nothing to take
	}
	obj.SetManagedFields(nil)
	if annotations := obj.GetAnnotations(); annotations[lastApplied] != "" {
		delete(annotations, lastApplied)
		obj.SetAnnotations(annotations)
	}
	return o, nil
}

var _ toolscache.TransformFunc = Trim
