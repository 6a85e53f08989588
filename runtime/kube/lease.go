package kube

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/leaderelection"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// lease is the lock of a leader election; it tells a fence about the lease. Its
// own requests do not go through the fence.
type lease struct {
	resourcelock.Interface
	fence *fence
}

// newLease makes the lock that opts say, as controller-runtime does.
func newLease(config *rest.Config, opts manager.Options, f *fence, events *lateRecorder) (*lease, error) {
	if opts.LeaderElectionResourceLockInterface != nil {
		return &lease{opts.LeaderElectionResourceLockInterface, f}, nil
	}
	if opts.LeaderElectionConfig != nil {
		config = opts.LeaderElectionConfig
	}
	const renew = 10 * time.Second // what controller-runtime has
	o := leaderelection.Options{
		LeaderElection: true, LeaderElectionResourceLock: opts.LeaderElectionResourceLock, LeaderElectionID: opts.LeaderElectionID,
		LeaderElectionNamespace: opts.LeaderElectionNamespace, RenewDeadline: renew, LeaderLabels: opts.LeaderElectionLabels,
	}
	if opts.RenewDeadline != nil {
		o.RenewDeadline = *opts.RenewDeadline
	}
	lock, err := leaderelection.NewResourceLock(config, events, o)
	if err != nil {
		return nil, err
	}
	return &lease{lock, f}, nil
}

// Get reads who holds the lease.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := l.Interface.Get(ctx)
	if err == nil && r.HolderIdentity != "" && r.HolderIdentity != l.Identity() {
		l.fence.seized()
	}
	return r, raw, err
}

// Create takes a lease that does not exist yet.
func (l *lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(r, func() error { return l.Interface.Create(ctx, r) })
}

// Update takes, renews, or releases the lease.
func (l *lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(r, func() error { return l.Interface.Update(ctx, r) })
}

func (l *lease) write(r resourcelock.LeaderElectionRecord, do func() error) error {
	if r.HolderIdentity != l.Identity() {
		l.fence.stepDown() // before another one may begin
		return do()
	}
	sent := time.Now()
	err := do()
	if err == nil {
		l.fence.renewed(sent)
	}
	return err
}

// lateRecorder tells the events of a leader election through a manager that is
// made after its lock.
type lateRecorder struct {
	recorder.Provider
	record.EventRecorder
	name string
	mgr  manager.Manager
	once sync.Once
}

// GetEventRecorderFor returns the recorder itself.
func (l *lateRecorder) GetEventRecorderFor(name string) record.EventRecorder {
	l.name = name
	return l
}

// Eventf tells an event.
func (l *lateRecorder) Eventf(obj runtime.Object, eventType, reason, format string, args ...any) {
	l.once.Do(func() { l.EventRecorder = l.mgr.GetEventRecorderFor(l.name) }) //nolint:staticcheck // locks have the old interface
	l.EventRecorder.Eventf(obj, eventType, reason, format, args...)
}
