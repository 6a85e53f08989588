//go:build unix

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPatience is how long a start waits for the processes of a parent that was killed: they notice at once and stop
// within seconds.
const lockPatience = 15 * time.Second

// dirLock is an advisory lock on a file that also names the process that took it. The server process inherits the open
// file, so that the lock lasts until both are gone; the kernel releases it however they end, so it is never stale.
type dirLock struct{ file *os.File }

// lockDir locks the directory. When it is held, but no longer by the process that took it, lockDir waits a while.
func lockDir(ctx context.Context, dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockFile)
	deadline := time.Now().Add(lockPatience)
	for {
		lock, err := tryLock(path)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return lock, err
		}
		pid := lockHolder(path)
		if pid != 0 && alive(pid) || time.Now().After(deadline) {
			return nil, inUse(pid)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lockNewDir locks a directory that has just been created. The lock file gets its name when it is locked: a sweep by
// another process never sees it free.
func lockNewDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockFile)
	lock, err := tryLock(path + ".new")
	if err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, errors.Join(err, lock.close())
	}
	return lock, nil
}

// tryLock takes the lock or fails with EWOULDBLOCK.
func tryLock(path string) (*dirLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &dirLock{file: f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// lockHolder returns the process that wrote the lock file, or zero.
func lockHolder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// alive says whether a process with this pid exists.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// files returns what the server process inherits to share the lock.
func (l *dirLock) files() []*os.File { return []*os.File{l.file} }

func (l *dirLock) close() error { return l.file.Close() }
