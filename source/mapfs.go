package source

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

// MapFS returns a read-only file system in memory with the given content for
// each path, which it does not copy. Paths that ReadArchive would refuse, and a
// path that is a file and a directory, are an ErrUnsafePath.
func MapFS(files map[string][]byte) (fs.FS, error) {
	tree := newMemFS()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if clean, err := archiveName(name); err != nil || clean != name || name == "." {
			return nil, fmt.Errorf("%w: %s is no path of a file", ErrUnsafePath, quoteShort(name))
		}
		if err := tree.vacant(name); err != nil {
			return nil, err
		}
		tree.add(name, 0o644, files[name])
	}
	tree.sort()
	return tree, nil
}
