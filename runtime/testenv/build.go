package testenv

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// progressEvery is the time between two lines of progress.
const progressEvery = 5 * time.Second

// build compiles the control plane into target.
func (m *module) build(ctx context.Context, target string, say func(string, ...any)) error {
	if m.dir == "" {
		return m.install(ctx, target, say)
	}
	say("building the control plane: looking at what there is to compile (modules are downloaded if needed)")
	work, err := m.plan(ctx)
	if err != nil {
		return err
	}
	say("%s", work.start())
	return m.compile(ctx, m.dir, work, say, "build", "-v", "-ldflags=-s -w", "-o", target, "./cmd/controlplane")
}

// install compiles a released version. What there is to compile is not known before; the number of packages is.
func (m *module) install(ctx context.Context, target string, say func(string, ...any)) error {
	bin := target + ".d"
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(bin) //nolint:errcheck // a temporary directory
	say("building the control plane %s from its module (some minutes the first time)", m.version)
	err := m.compile(ctx, bin, &work{}, say, "install", "-v", "-ldflags=-s -w", nestedCommand+"@"+m.version)
	if err != nil {
		return err
	}
	name := "controlplane"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return os.Rename(filepath.Join(bin, name), target)
}

// command returns a go command in dir that is not influenced by the workspace or the flags of whoever runs the tests.
func (m *module) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.goTool, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // the compilers' results so far are kept
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOBIN="+dir)
	if args[0] == "install" {
		cmd.Env = append(cmd.Env, "GOFLAGS=")
	}
	return cmd
}

// staleFormat lists what is not compiled yet: import path, directory and source files, separated by tabs. It is a template
// because the JSON output, asked for these fields alone, calls many packages stale that are not.
const staleFormat = `{{if .Stale}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{"\t"}}{{join .GoFiles "\t"}}{{"\t"}}{{join .CgoFiles "\t"}}{{end}}`

// plan asks which packages are not compiled yet and weighs them by the size of their source.
func (m *module) plan(ctx context.Context) (*work, error) {
	cmd := m.command(ctx, m.dir, "list", "-deps", "-f", staleFormat, "./cmd/controlplane")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w\n%s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	w := &work{weight: map[string]int64{}}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) > 1 {
			w.add(fields[0], sourceSize(fields[1], fields[2:]))
		}
	}
	return w, nil
}

// sourceSize returns the bytes of the files, which is what the time to compile them goes with.
func sourceSize(dir string, files []string) int64 {
	size := int64(2000) // starting a compiler costs something too
	for _, f := range files {
		if info, err := os.Stat(filepath.Join(dir, f)); err == nil {
			size += info.Size()
		}
	}
	return size
}

// compile runs the go command and reports the packages it names as it goes.
func (m *module) compile(ctx context.Context, dir string, w *work, say func(string, ...any), args ...string) error {
	cmd := m.command(ctx, dir, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.begun = time.Now()
	stop := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { w.reportUntil(stop, say) })
	var messages bytes.Buffer
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !w.done(lines.Text()) {
			fmt.Fprintln(&messages, lines.Text())
		}
	}
	err = cmd.Wait()
	close(stop)
	reporting.Wait()
	if err != nil {
		text := messages.String()
		if len(text) > tailBytes {
			text = text[len(text)-tailBytes:]
		}
		return fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, strings.TrimSpace(text))
	}
	say("built the control plane in %v", time.Since(w.begun).Round(time.Second))
	return nil
}

// work is what there is to compile and how far it is. Its methods are safe for concurrent use once compilation begins.
type work struct {
	mu          sync.Mutex
	weight      map[string]int64 // by import path; nil when it is not known
	total       int64
	doneWeight  int64
	doneCount   int
	begun       time.Time
	lastPackage int64 // weight of the package begun last; it is not done
}

func (w *work) add(path string, weight int64) {
	w.weight[path] = weight
	w.total += weight
}

// start describes the work before it begins.
func (w *work) start() string {
	if len(w.weight) <= 3 {
		return "building the control plane: everything is compiled, linking (about 10 seconds)"
	}
	return fmt.Sprintf("building the control plane: %d packages to compile; this is done once, an estimate follows", len(w.weight))
}

// done notes a line of output if it is the name of a package, which the go command prints when it begins to compile it.
func (w *work) done(line string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	weight, ok := w.weight[line]
	if w.weight == nil {
		ok = line != "" && !strings.ContainsAny(line, " \t:#")
	}
	if ok {
		w.doneWeight += w.lastPackage
		w.lastPackage = weight
		w.doneCount++
	}
	return ok
}

// state describes how far the work is at the given time.
func (w *work) state(now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	spent := now.Sub(w.begun).Round(time.Second)
	if w.weight == nil {
		return fmt.Sprintf("building the control plane: compiled %d packages in %v", w.doneCount, spent)
	}
	if w.doneCount >= len(w.weight) {
		return fmt.Sprintf("building the control plane: linking, after %v", spent)
	}
	text := fmt.Sprintf("building the control plane: compiled %d of %d packages", w.doneCount, len(w.weight))
	if w.doneWeight*50 < w.total || spent < 5*time.Second {
		return text + ", " + spent.String() + " so far" // too early to tell
	}
	left := time.Duration(float64(now.Sub(w.begun)) * float64(w.total-w.doneWeight) / float64(w.doneWeight))
	return text + ", about " + roughly(left) + " left"
}

// roughly rounds a duration to what an estimate is good for.
func roughly(d time.Duration) string {
	switch {
	case d > 100*time.Second:
		return fmt.Sprintf("%d min", int((d+30*time.Second)/time.Minute))
	case d > 15*time.Second:
		return fmt.Sprintf("%d s", int(d/(10*time.Second))*10)
	}
	return "10 s"
}

// reportUntil reports the state now and then until stop is closed.
func (w *work) reportUntil(stop <-chan struct{}, say func(string, ...any)) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			say("%s", w.state(now))
		}
	}
}
