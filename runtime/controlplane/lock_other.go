//go:build !unix

package controlplane

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dirLock is a file that exists while the process named in it runs. Systems without advisory locks that a child can
// inherit have only this: a lock whose process is gone is taken over.
type dirLock struct{ path string }

func lockDir(_ context.Context, dir string) (*dirLock, error) { return lockNewDir(dir) }

func lockNewDir(dir string) (*dirLock, error) { return tryLock(filepath.Join(dir, lockFile)) }

func tryLock(path string) (*dirLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
			return &dirLock{path: path}, errors.Join(err, f.Close())
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if pid != 0 && alive(pid) {
			return nil, inUse(pid)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
}

// alive says whether a process with this pid exists; finding it fails otherwise on these systems.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	return p.Release() == nil
}

func (l *dirLock) files() []*os.File { return nil }

func (l *dirLock) close() error {
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
