// Package controlplane runs a real Kubernetes control plane: kube-apiserver and etcd, on request with controllers of
// kube-controller-manager, kube-scheduler and simulated nodes. All of it is compiled from Go modules; nothing is downloaded
// but by the go command. A server is ready after about four seconds on two cores.
//
//	func main() {
//		controlplane.Reexec() // must come first
//		cp, err := controlplane.Start(ctx, &controlplane.Options{SimulatedNodes: 2})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer cp.Stop()
//		clientset, err := kubernetes.NewForConfig(cp.Config())
//		// ... or: kubectl --kubeconfig with the path cp.Kubeconfig()
//	}
//
// The command cmd/controlplane is the same for programs that do not want to link Kubernetes:
//
//	go install github.com/gitopskit/gitopskit/runtime/controlplane/cmd/controlplane@latest
//
// # Processes
//
// Kubernetes keeps state per process: there can be one kube-apiserver in a process, and no controllers beside it. So Start
// runs the program again, under another name, once for etcd with kube-apiserver and once for controllers, scheduler and
// nodes; Reexec is where such a child begins. Any number of control planes can run at once. The children end with Stop,
// and also when their parent is killed, because they watch for the end of their standard input; they remove a temporary
// directory then. What is left when everything is killed at once is removed by the next Start.
//
// # Security
//
// The API server listens on 127.0.0.1 only, with a certificate of an authority of its own; nothing skips the verification.
// Authorization is RBAC; the kubeconfig, a client certificate in the group system:masters, is readable by the user alone,
// as are all keys. etcd listens on a socket in a directory that only the user can enter, and on no port.
//
// # What is simulated
//
// With Options.SimulatedNodes, kube-scheduler assigns pods to nodes that do not exist, and the stages of kwok report them
// Running and Ready, or Succeeded when a Job owns them. No container runs, no probe is made, no image is pulled. Claims of
// the default storage class are bound to volumes that do not exist. Nodes carry the label SimulatedNodeLabel.
//
// Namespaces are emptied by the code of the namespace controller without its pauses, which serve clusters of several
// servers: a namespace is gone in well under a second rather than in five or more. The garbage collector looks for new
// kinds every two seconds rather than every thirty.
//
// # Errors
//
// Every error is an *Error that says what to do and, when a process ended, holds the end of its log. It matches one of
// ErrPortInUse, ErrDirInUse, ErrExited, ErrNotReady and ErrInvalidOptions, an error of the operating system, or the error
// of the context.
//
// # What it does not do
//
// There are no controllers for endpoints, cron jobs, quotas, disruption budgets, load balancers, or aggregated cluster
// roles, and no kubelet API: logs, exec and port-forward fail. A ResourceQuota keeps its namespace from accepting what it
// limits, because nobody counts. It is not a cluster for production: one member, loopback, no rotation of keys.
package controlplane
