package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Environment variables this package reads.
const (
	// EnvBinary names the variable with the path of a control plane program; it is then neither searched nor built.
	EnvBinary = "GITOPSKIT_CONTROLPLANE"
	// EnvAssets names the variable with the path of a directory that holds the programs kube-apiserver and etcd, as
	// other test tools use it. It is looked at when EnvBinary is not set.
	EnvAssets = "KUBEBUILDER_ASSETS"
)

// Modules and packages the control plane is built from.
const (
	mainModule    = "github.com/gitopskit/gitopskit"
	nestedModule  = mainModule + "/runtime/controlplane"
	nestedCommand = nestedModule + "/cmd/controlplane"
)

// errDeadline is the cause of a start that gives up because "go test" would end the process soon.
var errDeadline = errors.New("the time limit of go test is nearly reached; " +
	"build the control plane before the tests with \"go run " + mainModule + "/runtime/testenv/prepare\", or raise -timeout " +
	"(what has been compiled is kept, so the next run goes on from here)")

// Prepare finds the control plane program or builds it, and returns its path. A first build takes minutes; progress, which
// may be nil, receives a line every few seconds with an estimate of the time left. Any number of processes may prepare at
// once: one builds, the others wait.
func Prepare(ctx context.Context, progress io.Writer) (string, error) {
	o := (&Options{Progress: progress}).withDefaults()
	return find(ctx, &o)
}

// find returns the path of the control plane program.
func find(ctx context.Context, o *Options) (string, error) {
	if o.Binary != "" {
		return o.Binary, checkExecutable("Options.Binary", o.Binary)
	}
	if path := os.Getenv(EnvBinary); path != "" {
		return path, checkExecutable(EnvBinary, path)
	}
	src, err := locate(ctx)
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", &Error{Op: "find", Err: errors.Join(ErrNoBinary, err), Hint: hintSet}
	}
	key, err := src.key()
	if err != nil {
		return "", &Error{Op: "find", Subject: src.dir, Err: errors.Join(ErrNoBinary, err), Hint: hintSet}
	}
	b := &builder{dir: cache, key: key, say: o.say, build: src.build}
	return b.binary(ctx)
}

// hintSet is what to do when there is no way to build.
const hintSet = "set " + EnvBinary + " to a program built with \"go install " + nestedCommand + "@latest\""

// checkExecutable reports a path that cannot be run, and says where it comes from.
func checkExecutable(origin, path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.IsDir():
		err = errors.New("is a directory")
	case runtime.GOOS != "windows" && info.Mode()&0o111 == 0:
		err = errors.New("is not executable")
	default:
		return nil
	}
	return &Error{Op: "find", Subject: origin + "=" + path, Err: fmt.Errorf("%w: %w", ErrNoBinary, err), Hint: hintBinary}
}

// module is where the control plane is built from: a directory, or a version to download.
type module struct {
	goTool  string
	dir     string // of the nested module's source; empty when there is only a version
	version string
}

// locate finds the nested module: beside this file in a checkout, else as the go command of the current directory sees it.
func locate(ctx context.Context) (*module, error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return nil, &Error{Op: "find", Err: errors.Join(ErrNoBinary, err), Hint: "install Go, or " + hintSet}
	}
	m := &module{goTool: goTool}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		dir := filepath.Join(filepath.Dir(filepath.Dir(file)), "controlplane")
		if pathExists(filepath.Join(dir, "go.mod")) {
			m.dir = dir
			return m, nil
		}
	}
	return m, m.ask(ctx)
}

// ask asks the go command, in the current directory, for the modules it would use.
func (m *module) ask(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, m.goTool, "list", "-m", "-e", "-json=Path,Version,Dir,Error", mainModule, nestedModule)
	out, err := cmd.Output()
	if err != nil {
		return &Error{Op: "find", Err: errors.Join(ErrNoBinary, err), Hint: hintSet}
	}
	found, err := parseModules(out)
	if err != nil {
		return &Error{Op: "find", Err: errors.Join(ErrNoBinary, err), Hint: hintSet}
	}
	*m = found.choose(m.goTool)
	if m.dir == "" && m.version == "" {
		return &Error{Op: "find", Err: fmt.Errorf("%w: neither %s nor its source is known here", ErrNoBinary, nestedModule), Hint: hintSet}
	}
	return nil
}

// modules is what the go command says about the two modules.
type modules map[string]listedModule

type listedModule struct {
	Path, Version, Dir string
	Error              *struct{ Err string }
}

func parseModules(out []byte) (modules, error) {
	found := modules{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var m listedModule
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, fmt.Errorf("understand go list: %w", err)
		}
		if m.Error == nil {
			found[m.Path] = m
		}
	}
}

// choose prefers source on disk, then the version of the nested module that was required, then the version of the main
// module, because the two are released together.
func (f modules) choose(goTool string) module {
	nested, root := f[nestedModule], f[mainModule]
	if nested.Dir != "" && nested.Version == "" {
		return module{goTool: goTool, dir: nested.Dir}
	}
	if dir := filepath.Join(root.Dir, "runtime", "controlplane"); root.Dir != "" && pathExists(filepath.Join(dir, "go.mod")) {
		return module{goTool: goTool, dir: dir}
	}
	if nested.Version != "" {
		return module{goTool: goTool, version: nested.Version}
	}
	return module{goTool: goTool, version: root.Version}
}

// key names the program that would be built: it changes with the toolchain, the platform and the source.
func (m *module) key() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, "1", runtime.Version(), runtime.GOOS, runtime.GOARCH, m.version)
	if m.dir == "" {
		return hex.EncodeToString(h.Sum(nil))[:20], nil
	}
	root := os.DirFS(m.dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && d.Name() == "testdata" {
				return fs.SkipDir
			}
			return err
		}
		name := d.Name()
		if strings.HasSuffix(name, "_test.go") || !strings.HasSuffix(name, ".go") && name != "go.mod" && name != "go.sum" {
			return nil
		}
		data, err := fs.ReadFile(root, path)
		fmt.Fprintln(h, path, len(data))
		h.Write(data)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:20], err
}

// cacheDir returns the directory of built programs.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "gitopskit", "controlplane")
	return dir, os.MkdirAll(dir, 0o755)
}

// keepUnused is how long a program that nobody uses any more stays in the cache.
const keepUnused = 7 * 24 * time.Hour
