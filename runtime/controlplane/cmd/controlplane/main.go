// Command controlplane runs a real Kubernetes control plane until it is told to stop.
//
//	controlplane [-dir DIR] [-port N] [-controllers all|LIST] [-simulated-nodes N] [-kubeconfig FILE] [-audit-log FILE] [-stdin-stop]
//
// When the API answers it prints one line of JSON on standard output: url, kubeconfig, version, dir, pid and the process
// ids of its children. It stops on interrupt, on SIGTERM and, with -stdin-stop, when its standard input ends. Errors and,
// with -log, the log of Kubernetes go to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
)

func main() {
	controlplane.Reexec()
	controlplane.Multicall()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// flags are the command line.
type flags struct {
	options    controlplane.Options
	kubeconfig string
	stdinStop  bool
	version    bool
}

// ready is the line printed when the control plane is ready.
type ready struct {
	URL        string `json:"url"`
	Kubeconfig string `json:"kubeconfig"`
	Version    string `json:"version"`
	Dir        string `json:"dir"`
	PID        int    `json:"pid"`
	Processes  []int  `json:"processes"`
}

// run is the program; it returns the exit code: 0 after a stop that was asked for, 1 after a failure, 2 for bad usage.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case f.version:
		fmt.Fprintf(stdout, "controlplane %s (Kubernetes %s)\n", controlplane.ModuleVersion(), controlplane.KubernetesVersion())
		return 0
	}
	if f.stdinStop {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // any end of the input means the same
			cancel()
		}()
	}
	if err := serve(ctx, f, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	fs := flag.NewFlagSet("controlplane", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&f.options.Dir, "dir", "", "keep data, keys and kubeconfig in `DIR`, durably (default: a temporary directory)")
	fs.BoolVar(&f.options.Unsynced, "unsynced", false, "with -dir: do not force writes to disk")
	fs.IntVar(&f.options.Port, "port", 0, "loopback `port` of the API server (default: a free one)")
	fs.IntVar(&f.options.SimulatedNodes, "simulated-nodes", 0, "`number` of simulated nodes; pods on them become ready though nothing runs")
	fs.StringVar(&f.options.AuditLog, "audit-log", "", "append a line of JSON to `FILE` for every request that may write")
	fs.DurationVar(&f.options.ReadyTimeout, "ready-timeout", controlplane.DefaultReadyTimeout, "how long the start may take")
	fs.IntVar(&f.options.Verbosity, "v", 0, "log `level` of Kubernetes, with -log")
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "also write the administrator's kubeconfig to `FILE`")
	fs.BoolVar(&f.stdinStop, "stdin-stop", false, "stop when standard input ends")
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	logs := fs.Bool("log", false, "log what Kubernetes logs to standard error")
	names := fs.String("controllers", "", "`list` of controllers to run, \"all\" or \"none\" (default: all with simulated nodes, else none)")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "controlplane: unexpected argument %q\n", fs.Arg(0))
		return nil, errors.New("usage")
	}
	switch *names {
	case "":
	case "all":
		f.options.Controllers = controlplane.AllControllers()
	case "none":
		f.options.Controllers = []string{}
	default:
		f.options.Controllers = strings.Split(*names, ",")
	}
	if *logs {
		f.options.Log = stderr
	}
	return f, nil
}

// serve runs a control plane until ctx is done or it ends by itself.
func serve(ctx context.Context, f *flags, stdout io.Writer) error {
	c, err := controlplane.Start(ctx, &f.options)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop before it was ready
		}
		return err
	}
	if err := announce(c, f, stdout); err != nil {
		return errors.Join(err, c.Stop())
	}
	select {
	case <-ctx.Done():
		return c.Stop()
	case <-c.Done():
		return errors.Join(c.Err(), c.Stop())
	}
}

// announce writes the kubeconfig where it was asked for and the line that says that the control plane is ready.
func announce(c *controlplane.ControlPlane, f *flags, stdout io.Writer) error {
	kubeconfig := c.Kubeconfig()
	if f.kubeconfig != "" {
		var err error
		if kubeconfig, err = filepath.Abs(f.kubeconfig); err != nil {
			return err
		}
		if err := c.WriteKubeconfig(kubeconfig); err != nil {
			return err
		}
	}
	return json.NewEncoder(stdout).Encode(ready{
		URL: c.URL(), Kubeconfig: kubeconfig, Version: controlplane.KubernetesVersion(),
		Dir: c.Dir(), PID: os.Getpid(), Processes: c.Processes(),
	})
}
