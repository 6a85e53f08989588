package controlplane

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
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"k8s.io/klog/v2"
)

// Names of the child processes; a child finds its role in its argv[0], so that ps shows it too.
const (
	roleServer      = "gitopskit-controlplane-server"
	roleControllers = "gitopskit-controlplane-controllers"
)

// Reexec must be the first call of main, or of TestMain, in a program that calls Start without Options.Executable.
// In the program as the user started it, Reexec returns at once and has done nothing. In a child process that Start has
// launched from the same file, it runs the child's part of the control plane and ends the process.
func Reexec() {
	switch strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") {
	case roleServer:
		os.Exit(runChild(runServer))
	case roleControllers:
		os.Exit(runChild(runControllers))
	}
}

// childConfig is what a child process reads from its standard input: one line of JSON. The input stays open for as long
// as the parent lives; its end tells the child to stop.
type childConfig struct {
	// Dir is the working directory of the control plane.
	Dir string `json:"dir"`
	// Temporary says that Dir goes away with the child.
	Temporary bool `json:"temporary,omitempty"`
	// Unsynced says that writes need not reach the disk.
	Unsynced bool `json:"unsynced,omitempty"`
	// Port is the port to listen on; PortFixed says that no other will do.
	Port      int  `json:"port,omitempty"`
	PortFixed bool `json:"portFixed,omitempty"`
	// Controllers and Nodes say what the controllers process runs.
	Controllers []string `json:"controllers,omitempty"`
	Nodes       int      `json:"nodes,omitempty"`
	// ServiceAccounts says that a controller provides the default service accounts pods need.
	ServiceAccounts bool `json:"serviceAccounts,omitempty"`
	// AuditLog is the file of the audit log.
	AuditLog string `json:"auditLog,omitempty"`
	// Verbosity is the klog level.
	Verbosity int `json:"verbosity,omitempty"`
}

// event is one line of JSON a child process writes to its standard output.
type event struct {
	// Kind is one of the constants below.
	Kind string `json:"kind"`
	// Port goes with eventListening.
	Port int `json:"port,omitempty"`
	// Message goes with eventFailed and eventPortInUse.
	Message string `json:"message,omitempty"`
}

const (
	eventListening = "listening"
	eventReady     = "ready"
	eventFailed    = "failed"
	eventPortInUse = "port-in-use"
)

// reporter writes events to the parent.
type reporter struct {
	mu sync.Mutex
	w  io.Writer
}

// send writes one event. A parent that is gone cannot read it; the child learns of that from its input.
func (r *reporter) send(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := json.NewEncoder(r.w).Encode(e); err != nil {
		klog.V(2).InfoS("parent does not read", "err", err)
	}
}

// runChild runs one role until it fails or the parent wants it to stop, and returns the exit code.
func runChild(run func(context.Context, *childConfig, *reporter) error) int {
	// Ctrl-C reaches the whole process group; the parent decides when its children stop. A write to a parent that is
	// gone must not kill the child before it has cleaned up.
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()

	in := json.NewDecoder(os.Stdin)
	var cfg childConfig
	if err := in.Decode(&cfg); err != nil {
		if errors.Is(err, io.EOF) {
			return 0 // stopped before it began
		}
		fmt.Fprintln(os.Stderr, "controlplane: read configuration of child process:", err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // any end of the input means the same
		cancel()
	}()

	configureRuntime(cfg.Verbosity)
	out := &reporter{w: os.Stdout}
	err := run(ctx, &cfg, out)
	klog.Flush()
	if err != nil {
		kind := eventFailed
		if errors.Is(err, ErrPortInUse) {
			kind = eventPortInUse
		}
		out.send(event{Kind: kind, Message: err.Error()})
		return 1
	}
	return 0
}

// configureRuntime sets process-wide knobs; a child process is ours alone.
func configureRuntime(verbosity int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(75)
	}
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	for name, value := range map[string]string{"v": strconv.Itoa(verbosity), "logtostderr": "true"} {
		if err := fs.Set(name, value); err != nil {
			klog.ErrorS(err, "set klog flag", "name", name)
		}
	}
}
