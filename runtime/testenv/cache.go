package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// builder gives out the program for one key and builds it when it is not there, once for all processes that ask.
type builder struct {
	dir   string
	key   string
	say   func(format string, args ...any)
	build func(ctx context.Context, target string, say func(string, ...any)) error
}

// binary returns the path of the program.
func (b *builder) binary(ctx context.Context) (string, error) {
	path := filepath.Join(b.dir, b.key, "controlplane")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if pathExists(path) {
		b.touch()
		return path, nil
	}
	lock, err := b.lock(ctx)
	if err != nil {
		return "", err
	}
	defer lock.close()
	if pathExists(path) {
		return path, nil
	}
	return path, b.create(ctx, path)
}

// create builds into a temporary name and then renames, so that a program under its name is always whole.
func (b *builder) create(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return &Error{Op: "build", Err: err}
	}
	b.prune()
	target := path + ".new"
	if err := b.build(ctx, target, b.report); err != nil {
		_ = os.Remove(target)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return &Error{Op: "build", Subject: "the control plane", Err: errors.Join(ErrNoBinary, err)}
	}
	if err := os.Rename(target, path); err != nil {
		return &Error{Op: "build", Err: err}
	}
	_ = os.Remove(b.progressFile())
	return nil
}

// lock takes the lock of the key. While another process has it, its progress is passed on.
func (b *builder) lock(ctx context.Context) (*fileLock, error) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var shown string
	var next time.Time
	for {
		lock, err := tryLock(filepath.Join(b.dir, b.key+".lock"))
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, &Error{Op: "build", Err: err}
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(time.Second)
			if text := b.othersProgress(); text != shown {
				shown = text
				b.say("testenv: waiting for another process: %s", text)
			}
		}
		select {
		case <-ctx.Done():
			return nil, &Error{Op: "build", Subject: "the control plane", Err: fmt.Errorf("wait for another process that builds it: %w", context.Cause(ctx))}
		case <-ticker.C:
		}
	}
}

// report shows progress and leaves it for the processes that wait.
func (b *builder) report(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.say("testenv: %s", text)
	_ = os.WriteFile(b.progressFile(), []byte(text), 0o644) // nobody depends on it
}

func (b *builder) progressFile() string { return filepath.Join(b.dir, b.key+".progress") }

func (b *builder) othersProgress() string {
	text, err := os.ReadFile(b.progressFile())
	if err != nil || len(text) == 0 {
		return "it builds the control plane"
	}
	return strings.TrimSpace(string(text))
}

// touch notes that the program is in use.
func (b *builder) touch() {
	now := time.Now()
	_ = os.Chtimes(filepath.Join(b.dir, b.key), now, now)
}

// prune removes programs nobody has used for a while; they are large.
func (b *builder) prune() {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name() == b.key || strings.HasPrefix(e.Name(), b.key+".") || time.Since(info.ModTime()) < keepUnused {
			continue
		}
		_ = os.RemoveAll(filepath.Join(b.dir, e.Name()))
	}
}
