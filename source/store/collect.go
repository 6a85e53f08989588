package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"
)

// Collect removes files of an object that nobody needs any more and returns
// their paths. It keeps the paths in current, the newest ones up to
// Options.Keep in all, and those that were published less than Options.TTL
// ago: a consumer that was told of one has that long to fetch it. If removing
// fails, the paths that are gone come with the error.
func (s *Store) Collect(ctx context.Context, key Key, current ...string) ([]string, error) {
	dir, err := key.dir()
	if err != nil {
		return nil, fail("collect", key.String(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.list(dir)
	if err != nil {
		return nil, fail("collect", dir, err)
	}
	var removed []string
	for _, f := range garbage(files, current, s.opts.Keep, time.Now().Add(-s.opts.TTL)) {
		err := ctx.Err()
		if err == nil {
			err = s.root.Remove(f)
		}
		if err != nil {
			return removed, fail("collect", dir, err)
		}
		removed = append(removed, f)
	}
	return removed, nil
}

// file is what garbage decides about.
type file struct {
	path string
	time time.Time
}

// garbage are the files to remove, oldest last.
func garbage(files []file, current []string, keep int, before time.Time) []string {
	if keep < 0 {
		return nil
	}
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(b.time.Compare(a.time), cmp.Compare(a.path, b.path))
	})
	isCurrent := func(f file) bool { return slices.Contains(current, f.path) }
	for _, f := range files {
		if isCurrent(f) {
			keep--
		}
	}
	var remove []string
	for _, f := range files {
		if isCurrent(f) {
			continue
		}
		if keep--; keep < 0 && f.time.Before(before) {
			remove = append(remove, f.path)
		}
	}
	return remove
}

func (s *Store) list(dir string) ([]file, error) {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			files = append(files, file{path.Join(dir, e.Name()), info.ModTime()})
		}
	}
	return files, nil
}

// Remove removes all files of an object, which is what its deletion needs.
func (s *Store) Remove(key Key) error {
	dir, err := key.dir()
	if err != nil {
		return fail("remove", key.String(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.root.RemoveAll(dir); err != nil {
		return fail("remove", dir, err)
	}
	return nil
}

// unique is a file name nobody else uses.
func unique() string { return rand.Text() }
