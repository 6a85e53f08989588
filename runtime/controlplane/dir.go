package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tempPrefix begins the name of every temporary directory of a control plane.
const tempPrefix = "gitopskit-controlplane-"

// workDir is the directory of a control plane, locked.
type workDir struct {
	path      string
	temporary bool
	lock      *dirLock
}

// openDir creates and locks the directory named in the options or a temporary one.
func openDir(ctx context.Context, dir string) (*workDir, error) {
	if dir == "" {
		return openTemporary()
	}
	path, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return nil, storageError(dir, err)
	}
	lock, err := lockDir(ctx, path)
	switch {
	case errors.Is(err, ErrDirInUse):
		return nil, &Error{Op: "start", Subject: "in directory " + path, Err: err, Hint: "stop that process first, or choose another directory"}
	case err != nil:
		return nil, storageError(path, err)
	}
	return &workDir{path: path, lock: lock}, nil
}

func openTemporary() (*workDir, error) {
	sweep(os.TempDir())
	path, err := os.MkdirTemp("", tempPrefix)
	if err != nil {
		return nil, storageError(os.TempDir(), err)
	}
	lock, err := lockNewDir(path)
	if err != nil {
		return nil, storageError(path, errors.Join(err, os.RemoveAll(path)))
	}
	return &workDir{path: path, temporary: true, lock: lock}, nil
}

// close unlocks the directory and removes it when it is temporary.
func (w *workDir) close() error {
	var err error
	if w.temporary {
		err = os.RemoveAll(w.path)
	}
	return errors.Join(err, w.lock.close())
}

// hasData says whether a server has run here before.
func (w *workDir) hasData() bool {
	_, err := os.Stat(filepath.Join(w.path, etcdDir, "member"))
	return err == nil
}

// lastPort returns the port the control plane had when it last ran in this directory, or zero.
func (w *workDir) lastPort() int {
	text, err := os.ReadFile(filepath.Join(w.path, portFile))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

// rememberPort records the port for the next start.
func (w *workDir) rememberPort(port int) error {
	return writeSecret(filepath.Join(w.path, portFile), []byte(strconv.Itoa(port)+"\n"))
}

// sweep removes temporary directories whose processes were all killed before they could remove them. What it cannot
// remove belongs to somebody else.
func sweep(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if _, err := os.Lstat(filepath.Join(dir, lockFile)); errors.Is(err, fs.ErrNotExist) {
			continue // being created, or not ours
		}
		lock, err := tryLock(filepath.Join(dir, lockFile))
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		_ = lock.close()
	}
}

// inUse is the error for a directory that the process with the given pid holds; zero means unknown.
func inUse(pid int) error {
	if pid == 0 {
		return fmt.Errorf("%w by another control plane", ErrDirInUse)
	}
	return fmt.Errorf("%w by the control plane of process %d", ErrDirInUse, pid)
}
