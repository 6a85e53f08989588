package git

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// treeFS shows a tree of a pack as a file system. Blobs are inflated when they
// are opened; nothing is ever written.
type treeFS struct {
	pack *pack
	root *node
	time time.Time // of every file: when the commit was made
}

var (
	_ fs.ReadDirFS  = (*treeFS)(nil)
	_ fs.ReadFileFS = (*treeFS)(nil)
	_ fs.StatFS     = (*treeFS)(nil)
)

func (t *treeFS) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := t.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		i, ok := slices.BinarySearchFunc(n.nodes, part, func(n *node, name string) int { return strings.Compare(n.name, name) })
		if !ok {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = n.nodes[i]
	}
	return n, nil
}

// Open implements fs.FS.
func (t *treeFS) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return &dirFile{fs: t, node: n, path: name}, nil
	}
	f := &blobFile{fs: t, node: n, path: name}
	if t.pack.entries[n.at].base < 0 {
		f.body, err = t.pack.open(n.at)
	} else {
		var data []byte
		data, err = t.pack.object(n.at)
		f.body = io.NopCloser(bytes.NewReader(data))
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f.left = n.size
	return f, nil
}

// ReadFile implements fs.ReadFileFS. The caller owns the result.
func (t *treeFS) ReadFile(name string) ([]byte, error) {
	n, err := t.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	data, err := t.pack.object(n.at)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return bytes.Clone(data), nil // the pack may keep what it returned as a base
}

// ReadDir implements fs.ReadDirFS.
func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return t.list(n.nodes), nil
}

// Stat implements fs.StatFS.
func (t *treeFS) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{n, t.time}, nil
}

func (t *treeFS) list(nodes []*node) []fs.DirEntry {
	list := make([]fs.DirEntry, len(nodes))
	for i, n := range nodes {
		list[i] = info{n, t.time}
	}
	return list
}

// info is both fs.FileInfo and fs.DirEntry.
type info struct {
	*node
	time time.Time
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.mode }
func (i info) ModTime() time.Time         { return i.time }
func (i info) IsDir() bool                { return i.mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Type() fs.FileMode          { return i.mode.Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatDirEntry(i) }

// blobFile is an open file.
type blobFile struct {
	fs   *treeFS
	node *node
	path string
	body io.ReadCloser
	left int64
}

func (f *blobFile) Stat() (fs.FileInfo, error) { return info{f.node, f.fs.time}, nil }

func (f *blobFile) Read(p []byte) (int, error) {
	if f.body == nil {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: fs.ErrClosed}
	}
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.body.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	switch {
	case err == io.EOF && f.left == 0:
		err = nil // the next read says so
	case err != nil:
		err = &fs.PathError{Op: "read", Path: f.path, Err: eofIsUnexpected(err)}
	}
	return n, err
}

func (f *blobFile) Close() error {
	if f.body == nil {
		return &fs.PathError{Op: "close", Path: f.path, Err: fs.ErrClosed}
	}
	err := f.body.Close()
	f.body = nil
	return err
}

// dirFile is an open directory.
type dirFile struct {
	fs     *treeFS
	node   *node
	path   string
	next   int
	closed bool
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return info{d.node, d.fs.time}, nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: errors.New("is a directory")}
}

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.path, Err: fs.ErrClosed}
	}
	rest := d.node.nodes[d.next:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.next += len(rest)
	return d.fs.list(rest), nil
}

func (d *dirFile) Close() error {
	if d.closed {
		return &fs.PathError{Op: "close", Path: d.path, Err: fs.ErrClosed}
	}
	d.closed = true
	return nil
}
