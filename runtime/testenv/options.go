package testenv

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Options are the choices for a server of its own. The zero value is an API server alone: no controllers, no nodes.
type Options struct {
	// SimulatedNodes is the number of nodes on which pods become Running and Ready though nothing runs. With one or more,
	// and Controllers nil, all controllers run. Zero means none.
	SimulatedNodes int

	// Controllers names the controllers to run: of "daemonset", "deployment", "garbagecollector", "job", "namespace",
	// "replicaset", "serviceaccount" and "statefulset", or "all" alone. Nil means none, or all with SimulatedNodes.
	Controllers []string

	// Dir keeps the cluster, durably, for the next start. Empty means a temporary directory that is removed at the end.
	Dir string

	// Port is the loopback port of the API server. Zero means a free one; with Dir, the one it had before if that is free.
	Port int

	// KubeconfigFile is an additional place to write the administrator's kubeconfig to. Empty means none.
	KubeconfigFile string

	// AuditLog is a file that the API server appends a line to for every request that may write, before it answers: an
	// Event of audit.k8s.io/v1 in JSON, at level Metadata, with user, impersonated user, user agent, verb and object.
	// Empty means none.
	AuditLog string

	// ReadyTimeout bounds the start, not counting a build of the binary. Zero means two minutes.
	ReadyTimeout time.Duration

	// Binary is the control plane program. Empty means: find or build it, as the package documentation says.
	Binary string

	// Progress receives a line of text now and then while something takes long. Nil means silence in Launch and Prepare,
	// and standard error in Start and StartServer.
	Progress io.Writer

	// Log receives what Kubernetes logs. Nil means nobody.
	Log io.Writer
}

// defaultReadyTimeout is what the control plane itself takes as its default.
const defaultReadyTimeout = 2 * time.Minute

// withDefaults returns a copy of o, which may be nil, with the documented defaults.
func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	if out.ReadyTimeout == 0 {
		out.ReadyTimeout = defaultReadyTimeout
	}
	if out.Progress == nil {
		out.Progress = io.Discard
	}
	return out
}

// needsManager says whether anything but the API server was asked for.
func (o *Options) needsManager() bool { return o.SimulatedNodes > 0 || len(o.Controllers) > 0 }

// hasController says whether the named controller will run.
func (o *Options) hasController(name string) bool {
	if o.Controllers == nil {
		return o.SimulatedNodes > 0
	}
	for _, c := range o.Controllers {
		if c == name || c == "all" {
			return true
		}
	}
	return false
}

// arguments returns the command line of the control plane program.
func (o *Options) arguments() []string {
	args := []string{
		"-stdin-stop",
		"-simulated-nodes=" + strconv.Itoa(o.SimulatedNodes),
		"-port=" + strconv.Itoa(o.Port),
		"-ready-timeout=" + o.ReadyTimeout.String(),
	}
	if o.Controllers != nil {
		list := strings.Join(o.Controllers, ",")
		if list == "" {
			list = "none"
		}
		args = append(args, "-controllers="+list)
	}
	if o.Dir != "" {
		args = append(args, "-dir="+o.Dir)
	}
	if o.KubeconfigFile != "" {
		args = append(args, "-kubeconfig="+o.KubeconfigFile)
	}
	if o.AuditLog != "" {
		args = append(args, "-audit-log="+o.AuditLog)
	}
	if o.Log != nil {
		args = append(args, "-log")
	}
	return args
}

// say writes one line of progress.
func (o *Options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.Progress, format+"\n", args...) // progress that cannot be shown is no reason to fail
}
