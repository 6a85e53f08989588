package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func silent(string, ...any) {}

// Of many callers, in this or in other processes, one builds and the others get what it built.
func TestBuildOnce(t *testing.T) {
	dir := t.TempDir()
	var builds atomic.Int32
	release := make(chan struct{})
	waiting := make(chan struct{}, 100)
	build := func(_ context.Context, target string, say func(string, ...any)) error {
		builds.Add(1)
		say("half done")
		<-release
		return os.WriteFile(target, []byte("program"), 0o755)
	}
	say := func(format string, args ...any) {
		if strings.Contains(format, "waiting for another process") && len(args) == 1 && args[0] == "half done" {
			waiting <- struct{}{}
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			b := &builder{dir: dir, key: "k", say: say, build: build}
			path, err := b.binary(t.Context())
			if err != nil || !pathExists(path) {
				t.Errorf("binary() = %q, %v", path, err)
			}
		})
	}
	<-waiting // somebody has been told about the progress of somebody else
	close(release)
	all.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if got := listNames(t, filepath.Join(dir, "k")); !cmp.Equal(got, []string{"controlplane"}) {
		t.Errorf("cache holds %v", got)
	}
}

// What fails or is given up is not left as if it were done.
func TestBuildFails(t *testing.T) {
	dir := t.TempDir()
	failure := errors.New("does not compile")
	b := &builder{dir: dir, key: "k", say: silent, build: func(_ context.Context, target string, _ func(string, ...any)) error {
		return errors.Join(os.WriteFile(target, []byte("half"), 0o755), failure)
	}}
	if _, err := b.binary(t.Context()); !errors.Is(err, failure) || !errors.Is(err, ErrNoBinary) {
		t.Errorf("got %v", err)
	}
	if got := listNames(t, filepath.Join(dir, "k")); len(got) != 0 {
		t.Errorf("cache holds %v", got)
	}
	lock, err := tryLock(filepath.Join(dir, "k.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errDeadline)
	defer cancel()
	if _, err := b.binary(ctx); !errors.Is(err, errDeadline) || !strings.Contains(err.Error(), "testenv/prepare") {
		t.Errorf("while another builds: %v", err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-keepUnused - time.Hour)
	for name, when := range map[string]time.Time{"old": old, "new": time.Now(), "k": old} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o755), os.Chtimes(filepath.Join(dir, name), when, when)); err != nil {
			t.Fatal(err)
		}
	}
	(&builder{dir: dir, key: "k"}).prune()
	if got := listNames(t, dir); !cmp.Equal(got, []string{"k", "new"}) {
		t.Errorf("left %v", got)
	}
}

// tinyModule writes a module with the layout of the control plane's.
func tinyModule(t *testing.T, source string) *module {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := filepath.Join(dir, "cmd", "controlplane")
	if err := errors.Join(
		os.MkdirAll(cmd, 0o755),
		os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.invalid/tiny\n\ngo 1.26\n"), 0o644),
		os.WriteFile(filepath.Join(cmd, "main.go"), []byte(source), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	return &module{goTool: goTool, dir: dir}
}

// The build is not influenced by the flags and the workspace of whoever runs the tests.
func TestBuild(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=vendor")
	t.Setenv("GOWORK", "/nonexistent/go.work")
	m := tinyModule(t, "package main\n\nfunc main() { println(\"built\") }\n")
	target := filepath.Join(t.TempDir(), "program")
	var said []string
	say := func(format string, args ...any) { said = append(said, format) }
	if err := m.build(t.Context(), target, say); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(target).CombinedOutput()
	if err != nil || string(out) != "built\n" {
		t.Errorf("program says %q, %v", out, err)
	}
	if len(said) < 2 {
		t.Errorf("progress: %q", said)
	}
}

func TestBuildError(t *testing.T) {
	m := tinyModule(t, "package main\n\nfunc main() { undefined() }\n")
	err := m.build(t.Context(), filepath.Join(t.TempDir(), "program"), silent)
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("got %v, want what the compiler says", err)
	}
	m.dir = t.TempDir()
	if err := m.build(t.Context(), filepath.Join(t.TempDir(), "program"), silent); err == nil || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("without a module: %v", err)
	}
}

// The key follows what decides about the program, and nothing else.
func TestKey(t *testing.T) {
	m := tinyModule(t, "package main\n")
	key := func() string {
		t.Helper()
		k, err := m.key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first := key()
	write("a_test.go", "package tiny\n")
	write("README.md", "text")
	if key() != first {
		t.Error("a test or a text changes the key")
	}
	for _, name := range []string{"a.go", "go.sum"} {
		before := key()
		if write(name, "package tiny\n"); key() == before {
			t.Errorf("%s does not change the key", name)
		}
	}
}

func TestChoose(t *testing.T) {
	checkout := t.TempDir()
	nested := filepath.Join(checkout, "runtime", "controlplane")
	if err := errors.Join(os.MkdirAll(nested, 0o755), os.WriteFile(filepath.Join(nested, "go.mod"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		list string
		want module
	}{
		{"in a checkout", `{"Path":"` + mainModule + `","Dir":"` + checkout + `"}`, module{dir: nested}},
		{"required module", `{"Path":"` + mainModule + `","Version":"v1.2.0","Dir":"/cache/x"}`, module{version: "v1.2.0"}},
		{"nested required too", `{"Path":"` + mainModule + `","Version":"v1.2.0","Dir":"/cache/x"}{"Path":"` + nestedModule + `","Version":"v1.3.0","Dir":"/cache/y"}`, module{version: "v1.3.0"}},
		{"nested replaced by a directory", `{"Path":"` + nestedModule + `","Dir":"/elsewhere"}`, module{dir: "/elsewhere"}},
		{"unknown", `{"Path":"` + mainModule + `","Error":{"Err":"not a known dependency"}}`, module{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := parseModules([]byte(tt.list))
			if err != nil {
				t.Fatal(err)
			}
			if got := found.choose(""); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	if _, err := parseModules([]byte("{")); err == nil {
		t.Error("half an answer was understood")
	}
}

func TestState(t *testing.T) {
	begun := time.Now()
	newWork := func() *work {
		w := &work{weight: map[string]int64{}, begun: begun}
		for _, p := range []string{"a", "b", "c", "d"} {
			w.add(p, 100)
		}
		return w
	}
	tests := []struct {
		name  string
		lines []string
		after time.Duration
		want  string
	}{
		{"begun", []string{"a"}, time.Second, "building the control plane: compiled 1 of 4 packages, 1s so far"},
		{"half", []string{"a", "b", "# noise", "c"}, 4 * time.Minute, "building the control plane: compiled 3 of 4 packages, about 4 min left"},
		{"link", []string{"a", "b", "c", "d"}, time.Minute, "building the control plane: linking, after 1m0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWork()
			for _, line := range tt.lines {
				w.done(line)
			}
			if got := w.state(begun.Add(tt.after)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for d, want := range map[time.Duration]string{3 * time.Minute: "3 min", 45 * time.Second: "40 s", 2 * time.Second: "10 s"} {
		if got := roughly(d); got != want {
			t.Errorf("roughly(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestNamespaceName(t *testing.T) {
	for _, test := range []string{"TestX", "TestX/a_b-ü/" + strings.Repeat("long", 30), "Test/---"} {
		name := namespaceName(test)
		if len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.HasPrefix(name, "-") {
			t.Errorf("namespaceName(%q) = %q", test, name)
		}
	}
}

func TestCacheDir(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "file"))
		if err := os.WriteFile(os.Getenv("XDG_CACHE_HOME"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := (&Options{}).withDefaults()
	t.Setenv(EnvBinary, "")
	if _, err := find(t.Context(), &o); runtime.GOOS == "linux" && (!errors.Is(err, ErrNoBinary) || !strings.Contains(err.Error(), EnvBinary)) {
		t.Errorf("without a cache directory: %v", err)
	}
}

// The programs of KUBEBUILDER_ASSETS are used for what they can do, and a named program goes before them.
func TestAssetsDir(t *testing.T) {
	tests := []struct {
		name, assets, binary string
		opts                 Options
		want                 string
	}{
		{"named", "/assets", "", Options{}, "/assets"},
		{"not named", "", "", Options{}, ""},
		{"program named", "/assets", "/program", Options{}, ""},
		{"program in options", "/assets", "", Options{Binary: "/program"}, ""},
		{"nodes", "/assets", "", Options{SimulatedNodes: 1}, ""},
		{"controllers", "/assets", "", Options{Controllers: []string{"job"}}, ""},
		{"no controllers", "/assets", "", Options{Controllers: []string{}}, "/assets"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(EnvAssets, tt.assets)
			t.Setenv(EnvBinary, tt.binary)
			o := tt.opts.withDefaults()
			if got := assetsDir(&o); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func listNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
