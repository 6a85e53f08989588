package source

import (
	"fmt"
	"io/fs"
	"path"
)

// Memory is a file system of these files, by path, for what is put together
// rather than read: a single blob, a tree that was changed on the way. No file
// is executable. The contents are not copied and must not change. Paths that
// io/fs does not know, and files below files, are an ErrUnsafePath.
func Memory(files map[string][]byte) (fs.FS, error) {
	tree := newMemFS()
	for name, data := range files {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("%w: %q is not a path", ErrUnsafePath, name)
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; ok {
				return nil, fmt.Errorf("%w: %s is below %s, which is a file", ErrUnsafePath, name, dir)
			}
		}
		tree.add(name, 0o644, data)
	}
	tree.sort()
	return tree, nil
}
