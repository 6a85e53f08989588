package controlplane

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// killAfter is how long a child process may take to stop in order before it is killed.
const killAfter = 10 * time.Second

// process is a child process seen from its parent.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event    // closed when the child has closed its output
	exited chan struct{} // closed when the child is gone and err is set
	err    error
	log    *tail

	stopOnce sync.Once
}

// spawn starts a child process that waits for its configuration. extra files are inherited and so kept open by the child.
func spawn(o *Options, name, dir string, extra ...*os.File) (*process, error) {
	executable := o.Executable
	if executable == "" {
		var err error
		if executable, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	p := &process{name: name, events: make(chan event, 4), exited: make(chan struct{}), log: &tail{next: o.Log}}
	p.cmd = exec.Command(executable) //nolint:noctx // it outlives the call; Stop ends it
	p.cmd.Args = []string{name}
	p.cmd.Dir = dir
	p.cmd.ExtraFiles = extra
	p.cmd.Stderr = p.log
	p.cmd.WaitDelay = time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.follow(stdout)
	return p, nil
}

// follow reads the child's events until it ends, then reaps it.
func (p *process) follow(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			_, _ = p.log.Write(append(lines.Bytes(), '\n'))
			continue
		}
		select {
		case p.events <- e:
		default: // nobody waits for more than the first few
		}
	}
	close(p.events)
	p.err = p.cmd.Wait()
	close(p.exited)
}

// configure tells the child to begin.
func (p *process) configure(cfg *childConfig) error {
	line, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	_, err = p.stdin.Write(append(line, '\n'))
	if errors.Is(err, syscall.EPIPE) {
		return nil // it has ended already, which whoever waits for its events will say, with the reason
	}
	return err
}

// stop ends the child: in order if it can, by force if it takes too long. It returns when the child is gone.
func (p *process) stop() {
	p.stopOnce.Do(func() { _ = p.stdin.Close() })
	timer := time.NewTimer(killAfter)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// failure describes why the child ended or what it reported before.
func (p *process) failure(op string, cause error) *Error {
	return &Error{Op: op, Subject: p.name, Err: cause, Log: p.log.String()}
}

// exitError describes a child that ended by itself.
func (p *process) exitError(op string) *Error {
	reason := "ended without error"
	if p.err != nil {
		reason = p.err.Error()
	}
	return p.failure(op, fmt.Errorf("%w: %s", ErrExited, reason))
}

// tail keeps the last lines of a child's log and passes all of it on.
type tail struct {
	mu    sync.Mutex
	next  io.Writer
	lines []string
	rest  string
}

// Bounds of what an error shows of a log.
const (
	tailLines     = 20
	tailLineBytes = 600
)

// Write implements io.Writer; it never fails, because a full log is no reason to stop a server.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.next.Write(b)
	parts := strings.Split(t.rest+string(b), "\n")
	t.rest = parts[len(parts)-1]
	if len(t.rest) > 64<<10 {
		t.rest = t.rest[:64<<10]
	}
	for _, line := range parts[:len(parts)-1] {
		if len(line) > tailLineBytes {
			line = line[:tailLineBytes] + "…"
		}
		t.lines = append(t.lines, line)
	}
	if n := len(t.lines); n > tailLines {
		t.lines = append([]string(nil), t.lines[n-tailLines:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
