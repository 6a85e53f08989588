package git

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how much of a pack is held in memory before it moves to a
// temporary file: more than most repositories of manifests ever send.
const spoolMemory = 32 << 20

// spool holds bytes in memory, or in an unnamed temporary file when there are
// many. It is written once and then read by several goroutines.
type spool struct {
	dir    string // of the temporary file; empty means os.TempDir
	memory int    // bytes held in memory
	mem    []byte
	file   *os.File
	remove string // the file's name where it could not be unlinked while open
}

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && len(s.mem)+len(p) <= s.memory {
		s.mem = append(s.mem, p...)
		return len(p), nil
	}
	if s.file == nil {
		if err := s.toFile(); err != nil {
			return 0, err
		}
	}
	return s.file.Write(p)
}

func (s *spool) toFile() error {
	f, err := os.CreateTemp(s.dir, "gitopskit-pack-*")
	if err != nil {
		return fmt.Errorf("spool the pack: %w", err)
	}
	s.file = f
	if os.Remove(f.Name()) != nil {
		s.remove = f.Name()
	}
	_, err = f.Write(s.mem)
	s.mem = nil
	return err
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	if off >= int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(p, s.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) Close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.remove != "" {
		err = errors.Join(err, os.Remove(s.remove))
	}
	return err
}
