//go:build !unix

package testenv

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// staleAfter is when a lock file counts as left behind by a process that was killed.
const staleAfter = 30 * time.Minute

// fileLock is a file that exists while it is held, for systems without advisory locks in the standard library.
type fileLock struct{ path string }

func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := os.Stat(path); statErr == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(path)
		}
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	return &fileLock{path: path}, f.Close()
}

func (l *fileLock) close() { _ = os.Remove(l.path) }
