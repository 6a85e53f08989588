package sops

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"sync"
)

// FS shows fsys with every encrypted file in plain text, decrypted when it is
// opened and kept in memory as long as the tree. Files that are not encrypted,
// and manifests with the annotation [DecryptAnnotation]: disabled, are shown
// as they are. A file that cannot be decrypted cannot be opened.
func (k *Keys) FS(fsys fs.FS) fs.FS {
	return &tree{FS: fsys, keys: k, plain: map[string][]byte{}}
}

type tree struct {
	fs.FS
	keys *Keys

	mu    sync.Mutex
	plain map[string][]byte // decrypted files, by name
}

// Open opens a file or directory.
func (t *tree) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if dir, ok := f.(fs.ReadDirFile); ok && err == nil && info.IsDir() {
		return &directory{dir, t, name}, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return f, nil
	}
	defer f.Close()
	data, err := t.read(name, f)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &file{Reader: bytes.NewReader(data), info: sized{info, int64(len(data))}}, nil
}

// Stat describes a file, with the size of its plain text if it can be decrypted.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(t.FS, name)
	if err != nil || !info.Mode().IsRegular() {
		return info, err
	}
	f, err := t.Open(name)
	if err != nil {
		return info, nil
	}
	defer f.Close()
	return f.Stat()
}

// ReadDir lists a directory.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(t.FS, name)
	return t.entries(name, list), err
}

func (t *tree) entries(dir string, list []fs.DirEntry) []fs.DirEntry {
	for i, e := range list {
		list[i] = &entry{e, t, path.Join(dir, e.Name())}
	}
	return list
}

// read returns the content of a file, decrypted where it is encrypted.
func (t *tree) read(name string, f io.Reader) ([]byte, error) {
	t.mu.Lock()
	plain, ok := t.plain[name]
	t.mu.Unlock()
	if ok {
		return plain, nil
	}
	data, err := io.ReadAll(f)
	if err != nil || !Encrypted(data) || optOut.Match(data) {
		return data, err
	}
	if plain, err = t.keys.Decrypt(name, data); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plain[name] = plain
	return plain, nil
}

// A directory lists files with the size of their plain text.
type directory struct {
	fs.ReadDirFile
	tree *tree
	name string
}

func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	list, err := d.ReadDirFile.ReadDir(n)
	return d.tree.entries(d.name, list), err
}

type entry struct {
	fs.DirEntry
	tree *tree
	name string
}

func (e *entry) Info() (fs.FileInfo, error) {
	if !e.Type().IsRegular() {
		return e.DirEntry.Info()
	}
	return e.tree.Stat(e.name)
}

// A file is one that was read whole.
type file struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (*file) Close() error                 { return nil }

// sized is a FileInfo with the size of the plain text.
type sized struct {
	fs.FileInfo
	size int64
}

func (s sized) Size() int64 { return s.size }
