package controlplane

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Controllers that Options.Controllers can name. They are the controllers of kube-controller-manager by the same names.
const (
	DaemonSet        = "daemonset"
	Deployment       = "deployment"
	GarbageCollector = "garbagecollector"
	Job              = "job"
	Namespace        = "namespace"
	ReplicaSet       = "replicaset"
	ServiceAccount   = "serviceaccount"
	StatefulSet      = "statefulset"
)

// AllControllers returns the names of every controller this package can run, sorted.
func AllControllers() []string {
	return []string{DaemonSet, Deployment, GarbageCollector, Job, Namespace, ReplicaSet, ServiceAccount, StatefulSet}
}

// DefaultReadyTimeout bounds the start of a control plane when Options.ReadyTimeout is zero. An idle machine needs about
// four seconds; the rest is room for a machine that compiles and tests at the same time.
const DefaultReadyTimeout = 2 * time.Minute

// maxSimulatedNodes bounds Options.SimulatedNodes: beyond it a single process is the wrong tool.
const maxSimulatedNodes = 5000

// Options are the choices a caller of Start has. The zero value is a server alone, on a free port, in a temporary directory.
type Options struct {
	// Dir holds data, keys and the kubeconfig. Empty means a temporary directory that is removed at the end, with writes
	// not forced to disk. A directory named here is created when missing, kept at the end, written durably, and can be
	// started again later with the same data, the same certificate authority and, if it is free, the same port.
	Dir string

	// Unsynced gives up durability for speed in Dir: writes are not forced to disk, so a power failure may lose or damage
	// the data. A killed process loses nothing. Without Dir it is always so.
	Unsynced bool

	// Port is the loopback port of the API server. Zero means a free one.
	Port int

	// Controllers names the controllers to run; see AllControllers. Nil means none, or all when SimulatedNodes is set.
	// Without the service account controller, pods can be created in namespaces that have no service account.
	Controllers []string

	// SimulatedNodes is the number of nodes to simulate. Zero means none. Pods are scheduled to them by kube-scheduler and
	// reported Running and Ready (those of a Job: Succeeded), though nothing runs. Claims for volumes are bound to
	// volumes that do not exist either.
	SimulatedNodes int

	// AuditLog is a file that the API server appends a line to for every request that may write, before it answers: an
	// Event of audit.k8s.io/v1 in JSON, at level Metadata, with user, impersonated user, user agent, verb and object. It
	// is created when missing and stays. Empty means none.
	AuditLog string

	// ReadyTimeout bounds Start in addition to its context. Zero means DefaultReadyTimeout.
	ReadyTimeout time.Duration

	// Executable is the program that is run for the child processes; its main function (or TestMain) must call Reexec
	// first. Empty means the running program.
	Executable string

	// Log receives what the child processes log. Nil means nobody; the last lines are kept for errors either way.
	Log io.Writer

	// Verbosity is the klog level of the child processes. Zero logs little.
	Verbosity int
}

// validate reports every problem that is visible without touching the system.
func (o *Options) validate() error {
	var errs []error
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("Port %d is not between 0 and 65535", o.Port))
	}
	if o.SimulatedNodes < 0 || o.SimulatedNodes > maxSimulatedNodes {
		errs = append(errs, fmt.Errorf("SimulatedNodes %d is not between 0 and %d", o.SimulatedNodes, maxSimulatedNodes))
	}
	if o.ReadyTimeout < 0 {
		errs = append(errs, fmt.Errorf("ReadyTimeout %v is negative", o.ReadyTimeout))
	}
	for _, name := range o.Controllers {
		if !slices.Contains(AllControllers(), name) {
			errs = append(errs, fmt.Errorf("controller %q is not one of %v", name, AllControllers()))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &Error{Op: "start", Err: fmt.Errorf("%w: %w", ErrInvalidOptions, errors.Join(errs...))}
}

// withDefaults returns a copy of o, which may be nil, with the documented defaults filled in.
func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	if out.ReadyTimeout == 0 {
		out.ReadyTimeout = DefaultReadyTimeout
	}
	if out.Log == nil {
		out.Log = io.Discard
	}
	if out.SimulatedNodes > 0 && out.Controllers == nil {
		out.Controllers = AllControllers()
	}
	if out.Dir == "" {
		out.Unsynced = true
	}
	return out
}
