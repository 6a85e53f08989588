package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// memFS is a file system in memory that no longer changes once it is sorted.
type memFS map[string]*memNode

// memNode is a file or directory; it is its own fs.FileInfo and fs.DirEntry.
type memNode struct {
	name string
	mode fs.FileMode
	data []byte
	list []fs.DirEntry
}

func newMemFS() memFS { return memFS{".": {name: ".", mode: fs.ModeDir | 0o755}} }

// vacant says why nothing can be added under a name, if so.
func (m memFS) vacant(name string) error {
	if _, ok := m[name]; ok {
		return fmt.Errorf("%w: %s is there twice", ErrUnsafePath, name)
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if n, ok := m[parent]; ok && !n.IsDir() {
			return fmt.Errorf("%w: %s is below %s, which is a file", ErrUnsafePath, name, parent)
		}
	}
	return nil
}

// add adds a file and the directories above it. The mode keeps only whether
// the owner may execute the file.
func (m memFS) add(name string, mode fs.FileMode, data []byte) {
	n := &memNode{name: path.Base(name), mode: 0o644, data: data}
	if mode&0o100 != 0 {
		n.mode = 0o755
	}
	m.put(name, n)
}

// addDir adds a directory, which is not there yet, and those above it.
func (m memFS) addDir(name string) {
	m.put(name, &memNode{name: path.Base(name), mode: fs.ModeDir | 0o755})
}

func (m memFS) put(name string, n *memNode) {
	for m[name] = n; name != "."; {
		parent := path.Dir(name)
		dir, ok := m[parent]
		if !ok {
			dir = &memNode{name: path.Base(parent), mode: fs.ModeDir | 0o755}
			m[parent] = dir
		}
		dir.list = append(dir.list, n)
		if ok {
			return
		}
		n, name = dir, parent
	}
}

func (m memFS) sort() {
	for _, n := range m {
		slices.SortFunc(n.list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
}

func (m memFS) find(op, name string) (*memNode, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Open implements fs.FS.
func (m memFS) Open(name string) (fs.File, error) {
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &memDir{memNode: n, path: name}, nil
	}
	return &memFile{n, bytes.NewReader(n.data)}, nil
}

// Stat implements fs.StatFS.
func (m memFS) Stat(name string) (fs.FileInfo, error) { return m.find("stat", name) }

func (n *memNode) Name() string               { return n.name }
func (n *memNode) Size() int64                { return int64(len(n.data)) }
func (n *memNode) Mode() fs.FileMode          { return n.mode }
func (n *memNode) Type() fs.FileMode          { return n.mode.Type() }
func (n *memNode) ModTime() time.Time         { return time.Time{} }
func (n *memNode) IsDir() bool                { return n.mode.IsDir() }
func (n *memNode) Sys() any                   { return nil }
func (n *memNode) Info() (fs.FileInfo, error) { return n, nil }
func (n *memNode) Stat() (fs.FileInfo, error) { return n, nil }
func (n *memNode) Close() error               { return nil }
func (n *memNode) String() string             { return fs.FormatDirEntry(n) }

type memFile struct {
	*memNode
	*bytes.Reader
}

func (f *memFile) Size() int64 { return f.memNode.Size() }

type memDir struct {
	*memNode
	path string
	next int
}

func (d *memDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a directory")}
}

func (d *memDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.list[d.next:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.next += len(rest)
	return append([]fs.DirEntry{}, rest...), nil
}
