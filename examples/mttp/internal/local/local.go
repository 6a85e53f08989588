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

// program is what is built when no controllers are given.
const program = "github.com/gitopskit/gitopskit/examples/controllers/all"

// Options are the choices of Start.
type Options struct {
	// Controllers is the program; empty builds it with the go command.
	Controllers string
	// Concurrent is how many objects of a kind it reconciles at a time.
	Concurrent int
	// Progress receives what takes long.
	Progress io.Writer
}

// World is a control plane with controllers. It ends with Stop.
type World struct {
	// Config is that of the cluster's administrator.
	Config *rest.Config
	// Version is that of Kubernetes.
	Version string
	// Metrics is the endpoint of the controllers, PID their process.
	Metrics string
	PID     int

	dir     string
	server  *testenv.Server
	log     tail
	kill    context.CancelFunc
	exited  chan struct{}
	exitErr error
}

// Start starts a world.
func Start(ctx context.Context, o *Options) (w *World, err error) {
	w = &World{kill: func() {}, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Stop())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "gitopskit-mttp-"); err != nil {
		return nil, err
	}
	controllers := o.Controllers
	if controllers == "" {
		if controllers, err = build(ctx, w.dir, o.Progress); err != nil {
			return nil, err
		}
	}
	if w.server, err = testenv.Launch(ctx, &testenv.Options{SimulatedNodes: 1, Progress: o.Progress}); err != nil {
		return nil, err
	}
	w.Config, w.Version = w.server.Config(), w.server.Version()
	if err := Install(ctx, w.Config); err != nil {
		return nil, err
	}
	return w, w.start(ctx, controllers, o.Concurrent)
}

// build compiles the controllers.
func build(ctx context.Context, dir string, progress io.Writer) (string, error) {
	out := filepath.Join(dir, "all")
	if runtime.GOOS == "windows" {
		out += ".exe"
	}
	fmt.Fprintln(progress, "building the controllers; the first time takes minutes")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, program)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: run it in a checkout of this module, or name the program by -controllers\n%s", program, err, text)
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

// start starts the controllers and waits until they answer.
func (w *World) start(ctx context.Context, controllers string, concurrent int) error {
	metrics, err := free()
	if err != nil {
		return err
	}
	w.Metrics = "http://" + metrics + "/metrics"
	running, kill := context.WithCancel(context.WithoutCancel(ctx)) // an interrupted run still needs them, to clean up
	w.kill = kill
	cmd := exec.CommandContext(running, controllers,
		"-metrics-addr", metrics, "-health-addr", "0", "-storage-addr", "127.0.0.1:0", "-storage-path", filepath.Join(w.dir, "storage"),
		"-concurrent", strconv.Itoa(concurrent), "-log-level", "warn")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.server.Kubeconfig(), "RUNTIME_NAMESPACE=default")
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 15*time.Second
	cmd.SysProcAttr = detached()
	started := make(chan error)
	go func() {
		// The system ends the process when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			w.exitErr = cmd.Wait()
			close(w.exited)
		}
	}()
	if err := <-started; err != nil {
		close(w.exited)
		return fmt.Errorf("controllers: %w", err)
	}
	w.PID = cmd.Process.Pid
	return w.answers(ctx)
}

// answers waits until the controllers serve their metrics.
func (w *World) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, w.Metrics, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-w.exited:
			return w.Err()
		case <-ctx.Done():
			return fmt.Errorf("controllers: no answer: %w: %w\n%s", context.Cause(ctx), err, w.log.String())
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

// Exited is closed when the controllers have ended.
func (w *World) Exited() <-chan struct{} { return w.exited }

// Err says how the controllers ended, with the end of their log.
func (w *World) Err() error {
	return fmt.Errorf("the controllers ended by themselves: %v\n%s", w.exitErr, w.log.String()) //nolint:errorlint // the text is all there is
}

// Stop ends the controllers and the control plane, and removes their files.
func (w *World) Stop() error {
	w.kill()
	if w.PID != 0 {
		<-w.exited
	}
	var err error
	if w.server != nil {
		err = w.server.Stop()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
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
