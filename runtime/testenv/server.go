package testenv

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// killAfter is how long a server may take to stop in order before it is killed.
const killAfter = 20 * time.Second

// Server is a running control plane. It ends with Stop, or when this process ends in whatever way. Its methods are safe
// for concurrent use.
type Server struct {
	info     serverInfo
	config   *rest.Config
	cmd      *exec.Cmd
	stdin    io.Closer
	log      *tail
	cleanup  func() error // what is left to do when the process is gone; may be nil
	stopOnce sync.Once
	stopping chan struct{}
	exited   chan struct{} // closed when the process is gone; waitErr is set before
	waitErr  error
}

// serverInfo is the line the control plane program prints when it is ready.
type serverInfo struct {
	URL        string `json:"url"`
	Kubeconfig string `json:"kubeconfig"`
	Version    string `json:"version"`
	Dir        string `json:"dir"`
	PID        int    `json:"pid"`
	Processes  []int  `json:"processes"`
}

// Launch starts a server for a program that is not a test, such as a tutorial or a benchmark; a nil opts means the
// defaults. The first launch on a machine builds the control plane, which takes minutes: give Options.Progress. The
// context bounds the start, not the life of the server.
func Launch(ctx context.Context, opts *Options) (*Server, error) {
	o := opts.withDefaults()
	if dir := assetsDir(&o); dir != "" {
		return launchAssets(ctx, dir, &o)
	}
	binary, err := find(ctx, &o)
	if err != nil {
		return nil, err
	}
	return launchBinary(ctx, binary, &o)
}

// launchBinary starts the control plane program and waits for the line that says it is ready.
func launchBinary(ctx context.Context, binary string, o *Options) (*Server, error) {
	//nolint:noctx // the server outlives the call; Stop ends it
	s, ready, err := startProcess(exec.Command(binary, o.arguments()...), o.Log)
	if err != nil {
		return nil, &Error{Op: "start", Subject: binary, Err: err, Hint: hintBinary}
	}
	select {
	case line, ok := <-ready:
		if !ok {
			<-s.exited
			return nil, s.exitError(binary)
		}
		err = json.Unmarshal([]byte(line), &s.info)
		if err == nil {
			s.config, err = loadConfig(s.info.Kubeconfig)
		}
		if err != nil {
			return nil, &Error{Op: "start", Subject: binary, Err: errors.Join(fmt.Errorf("understand what it printed: %w", err), s.Stop()), Hint: hintBinary}
		}
		return s, nil
	case <-ctx.Done():
		return nil, &Error{Op: "start", Subject: binary, Err: errors.Join(context.Cause(ctx), s.Stop())}
	}
}

// startProcess starts cmd with its input held open. The channel yields its first line of output and is then closed.
func startProcess(cmd *exec.Cmd, log io.Writer) (*Server, <-chan string, error) {
	s := &Server{cmd: cmd, log: &tail{next: log}, stopping: make(chan struct{}), exited: make(chan struct{})}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	s.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	var logged sync.WaitGroup
	logged.Add(1)
	go s.keep(func() {
		defer logged.Done()
		_, _ = io.Copy(s.log, stderr)
	})
	ready := make(chan string, 1)
	go s.keep(func() {
		lines := bufio.NewScanner(stdout)
		if lines.Scan() {
			ready <- lines.Text()
		}
		close(ready)
		_, _ = io.Copy(io.Discard, stdout)
		logged.Wait()
		s.waitErr = cmd.Wait()
		close(s.exited)
	})
	return s, ready, nil
}

// keep runs f. Every goroutine a server needs while it runs passes through here, so that one name is enough to tell a
// leak detector about them.
func (s *Server) keep(f func()) { f() }

// Goroutine is the function that is on the stack of every goroutine a running server needs in this process. The server
// that Start shares runs until the process ends; a leak detector is told so with
//
//	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testenv.Goroutine))
const Goroutine = "github.com/gitopskit/gitopskit/runtime/testenv.(*Server).keep"

// Stop ends the server in order and waits until none of its processes is left; what was temporary is removed. Further
// calls do nothing. The error is about an end that was not in order.
func (s *Server) Stop() error {
	var err error
	s.stopOnce.Do(func() {
		select {
		case <-s.exited: // by itself; Err tells why
		default:
			close(s.stopping)
			err = s.terminate()
		}
		if s.cleanup != nil {
			err = errors.Join(err, s.cleanup())
		}
	})
	<-s.exited
	return err
}

// terminate closes the input of the process, waits, and kills it when that takes too long.
func (s *Server) terminate() error {
	_ = s.stdin.Close()
	timer := time.NewTimer(killAfter)
	defer timer.Stop()
	select {
	case <-s.exited:
	case <-timer.C:
		_ = s.cmd.Process.Kill()
		<-s.exited
		return &Error{Op: "stop", Subject: s.cmd.Path, Err: fmt.Errorf("killed after %v", killAfter), Log: s.log.String()}
	}
	if s.waitErr != nil {
		return s.exitError(s.cmd.Path)
	}
	return nil
}

// Done returns a channel that is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.exited }

// Err returns nil while the server runs and after Stop, and otherwise why it ended by itself, with the end of its log.
func (s *Server) Err() error {
	select {
	case <-s.stopping:
		return nil
	default:
	}
	select {
	case <-s.exited:
		return s.exitError(s.cmd.Path)
	default:
		return nil
	}
}

// exitError describes a process that ended by itself.
func (s *Server) exitError(subject string) error {
	err := ErrExited
	if s.waitErr != nil {
		err = fmt.Errorf("%w: %w", ErrExited, s.waitErr)
	}
	return &Error{Op: "run", Subject: subject, Err: err, Log: s.log.String()}
}

// URL returns the address of the API server, such as "https://127.0.0.1:41234".
func (s *Server) URL() string { return s.info.URL }

// Kubeconfig returns the path of the administrator's kubeconfig; it goes away with a temporary server.
func (s *Server) Kubeconfig() string { return s.info.Kubeconfig }

// Version returns the version of Kubernetes the server runs, such as "v1.36.3".
func (s *Server) Version() string { return s.info.Version }

// Processes returns the process ids of the server: first the program that was started, then its children if it has any.
func (s *Server) Processes() []int { return append([]int{s.info.PID}, s.info.Processes...) }

// Config returns a new client configuration of the administrator, without a client-side rate limit.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.config) }

// loadConfig reads a kubeconfig and lifts the rate limit: a loopback server of one's own needs no protection.
func loadConfig(path string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// tail keeps the end of a log and passes all of it on.
type tail struct {
	mu   sync.Mutex
	next io.Writer
	end  []byte
}

// tailBytes is how much of a log an error shows at most.
const tailBytes = 8 << 10

// Write implements io.Writer; it never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next != nil {
		_, _ = t.next.Write(b)
	}
	t.end = append(t.end, b...)
	if n := len(t.end); n > tailBytes {
		t.end = append([]byte(nil), t.end[n-tailBytes:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.end))
}

// pathExists says whether there is something at path.
func pathExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
