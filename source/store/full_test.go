package store

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/gitopskit/gitopskit/source"
)

// TestFullDisk fails the disk at every byte: nothing is published, nothing is left, and what was there stays.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	key := Key{"HelmChart", "apps", "web"}
	old, err := s.PutBlob(t.Context(), key, "a.tgz", strings.NewReader("old"))
	if err != nil {
		t.Fatal(err)
	}
	const text = "the new content"
	for room := range len(text) {
		s.write = func(w io.Writer) io.Writer { return &fullDisk{w, room} }
		if _, err := s.PutBlob(t.Context(), key, "a.tgz", strings.NewReader(text)); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, source.ErrUnavailable) {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
		if err := s.Verify(t.Context(), old.Path, old.Digest); err != nil {
			t.Error(err)
		}
		if left, err := fs.ReadDir(s.root.FS(), staging); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	s.write = nil
	if _, err := s.PutBlob(t.Context(), key, "a.tgz", strings.NewReader(text)); err != nil {
		t.Error(err)
	}
}

type fullDisk struct {
	w    io.Writer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n, err := d.w.Write(p[:min(len(p), d.room)])
	d.room -= n
	if err == nil && n < len(p) {
		err = syscall.ENOSPC
	}
	return n, err
}
