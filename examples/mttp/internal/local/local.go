// Package local starts what a benchmark needs on one machine: a control plane
// with simulated nodes, and the controllers of examples/controllers/all in a
// process of their own.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

// source is what is built when no program is given.
const source = "github.com/gitopskit/gitopskit/examples/controllers/all"

// Options are the choices of Start and Run.
type Options struct {
	// Program is the controllers' program; empty builds it with the go command.
	Program string
	// Concurrent is how many objects of a kind it reconciles at a time.
	Concurrent int
	// Progress receives what takes long.
	Progress io.Writer
}

// World is a control plane with controllers. It ends with Stop.
type World struct {
	*Controllers
	// Config is that of the cluster's administrator.
	Config *rest.Config

	server *testenv.Server
}

// Start starts a world.
func Start(ctx context.Context, o *Options) (*World, error) {
	if o.Program != "" {
		if _, err := exec.LookPath(o.Program); err != nil {
			return nil, fmt.Errorf("controllers: %w", err)
		}
	}
	server, err := testenv.Launch(ctx, &testenv.Options{SimulatedNodes: 1, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	w := &World{Config: server.Config(), server: server}
	err = Install(ctx, w.Config)
	if err == nil {
		w.Controllers, err = Run(ctx, server.Kubeconfig(), o)
	}
	if err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return w, nil
}

// Stop ends the controllers and the control plane, and removes their files.
func (w *World) Stop() error { return errors.Join(w.Controllers.Stop(), w.server.Stop()) }

// Controllers are a running process. It ends with Stop, or, on Linux, when
// this process ends in whatever way.
type Controllers struct {
	// Metrics is the URL of the endpoint, PID the process.
	Metrics string
	PID     int

	dir     string
	log     tail
	kill    context.CancelFunc
	exited  chan struct{}
	exitErr error
}

// Run starts controllers for the cluster of a kubeconfig and waits until they
// answer. The context bounds the start, not their life.
func Run(ctx context.Context, kubeconfig string, o *Options) (*Controllers, error) {
	c := &Controllers{kill: func() {}, exited: make(chan struct{})}
	if err := c.run(ctx, kubeconfig, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Controllers) run(ctx context.Context, kubeconfig string, o *Options) (err error) {
	if c.dir, err = os.MkdirTemp("", "gitopskit-mttp-"); err != nil {
		return err
	}
	program := o.Program
	if program == "" {
		fmt.Fprintln(o.Progress, "building the controllers; the first time takes minutes")
		if program, err = Build(ctx, c.dir); err != nil {
			return err
		}
	}
	if err := c.start(ctx, program, kubeconfig, o.Concurrent); err != nil {
		return err
	}
	return c.answers(ctx)
}

// Build compiles examples/controllers/all, statically, into a directory and returns the
// path of the program.
func Build(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "all")
	if runtime.GOOS == "windows" {
		out += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as in images; cgo brings in package plugin, for which the linker keeps every symbol
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: run it in a checkout of this module, or name the program by -controllers\n%s", source, err, text)
	}
	return out, nil
}

// Install installs the definitions of Flux's kinds.
func Install(ctx context.Context, config *rest.Config) error {
	objects, err := crds.All()
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	c := &ssa.Client{
		Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		Owner: ssa.Owner{Name: "crds", Namespace: "default"},
	}
	set, err := c.Apply(ctx, objects, nil)
	if err == nil {
		err = set.Err()
	}
	if err == nil {
		_, err = c.Wait(ctx, set.Objects(), nil)
	}
	if err != nil {
		return fmt.Errorf("definitions of Flux's kinds: %w", err)
	}
	return nil
}

// start starts the process.
func (c *Controllers) start(ctx context.Context, program, kubeconfig string, concurrent int) error {
	metrics, err := free()
	if err != nil {
		return err
	}
	c.Metrics = "http://" + metrics + "/metrics"
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	c.kill = kill
	cmd := exec.CommandContext(running, program,
		"-metrics-addr", metrics, "-health-addr", "0", "-storage-addr", "127.0.0.1:0", "-storage-path", filepath.Join(c.dir, "storage"),
		"-concurrent", strconv.Itoa(concurrent), "-log-level", "warn")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "RUNTIME_NAMESPACE=default")
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 15*time.Second
	cmd.SysProcAttr = detached()
	started := make(chan error)
	go func() {
		// Linux ends the process when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.exitErr = cmd.Wait()
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	c.PID = cmd.Process.Pid
	return nil
}

// answers waits until the controllers serve their metrics.
func (c *Controllers) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.Metrics, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-c.exited:
			return c.Err()
		case <-ctx.Done():
			return fmt.Errorf("controllers: no answer: %w: %w\n%s", context.Cause(ctx), err, c.log.String())
		case <-retry.C:
		}
	}
}

// free finds a port that nobody listens on.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Exited is closed when the process has ended.
func (c *Controllers) Exited() <-chan struct{} { return c.exited }

// Err says how the process ended, with the end of its log.
func (c *Controllers) Err() error {
	return fmt.Errorf("the controllers ended by themselves: %v\n%s", c.exitErr, c.log.String())
}

// Stop ends the process and removes its files.
func (c *Controllers) Stop() error {
	c.kill()
	if c.PID != 0 {
		<-c.exited
	}
	return os.RemoveAll(c.dir)
}

// tail keeps the end of a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	return len(p), nil
}

// String is the end of the log.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
