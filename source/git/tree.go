package git

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// node is one file or directory of a commit. Equal subtrees share a node.
type node struct {
	name  string
	mode  fs.FileMode
	at    int32 // entry of the blob
	size  int64
	nodes []*node // by name

	// What the whole subtree holds.
	files, depth int
	bytes        int64
}

// Symlinks says what becomes of the symbolic links of a repository.
type Symlinks int

const (
	// SkipSymlinks leaves links out and names them in the metadata.
	SkipSymlinks Symlinks = iota
	// RejectSymlinks makes any link an ErrUnsafePath.
	RejectSymlinks
)

// treeBuilder turns tree objects into nodes and checks every name.
type treeBuilder struct {
	pack     *pack
	limits   source.Limits
	symlinks Symlinks

	done    map[oid]*node
	skipped []string
	modules []string
}

// build returns the root directory of a tree.
func (b *treeBuilder) build(tree oid) (*node, error) {
	b.done = map[oid]*node{}
	root, err := b.dir(tree, ".", 0)
	if err != nil {
		return nil, err
	}
	root.name = "."
	return root, nil
}

func (b *treeBuilder) dir(id oid, at string, depth int) (*node, error) {
	if n, ok := b.done[id]; ok {
		if err := b.check(n, at, depth); err != nil {
			return nil, err
		}
		return n, nil
	}
	if depth > b.limits.Depth {
		return nil, fmt.Errorf("%w: %s is nested deeper than %d directories", source.ErrLimit, shorten(at), b.limits.Depth)
	}
	entries, err := b.read(id, at)
	if err != nil {
		return nil, err
	}
	dir := &node{mode: fs.ModeDir | 0o755}
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		name := path.Join(at, e.name)
		if why := unsafeName(e.name); why != "" {
			return nil, fmt.Errorf("%w: %q in directory %s is %s", source.ErrUnsafePath, e.name, at, why)
		}
		if seen[e.name] {
			return nil, fmt.Errorf("%w: %s is there twice", source.ErrUnsafePath, name)
		}
		seen[e.name] = true
		n, err := b.node(e, name, depth)
		if err != nil {
			return nil, err
		}
		if n == nil {
			continue
		}
		dir.nodes = append(dir.nodes, n)
		dir.files = satAdd(dir.files, n.files+1)
		dir.bytes = satAdd(dir.bytes, n.bytes)
		dir.depth = max(dir.depth, n.depth)
		if err := b.check(dir, at, depth); err != nil {
			return nil, err
		}
	}
	if depth > 0 {
		dir.depth++
	}
	slices.SortFunc(dir.nodes, func(x, y *node) int { return strings.Compare(x.name, y.name) })
	b.done[id] = dir
	return dir, nil
}

func (b *treeBuilder) read(id oid, at string) ([]treeEntry, error) {
	i, ok := b.pack.byID[id]
	if !ok {
		return nil, corrupt("the tree %s of directory %s is missing", id, at)
	}
	if k := b.pack.entries[i].kind; k != kindTree {
		return nil, corrupt("%s of directory %s is a %v", id, at, k)
	}
	data, err := b.pack.object(i)
	if err != nil {
		return nil, err
	}
	return parseTree(data)
}

// node makes the node of one entry, or none for a link that is left out.
func (b *treeBuilder) node(e treeEntry, name string, depth int) (*node, error) {
	switch {
	case e.mode == modeDir:
		shared, err := b.dir(e.id, name, depth+1)
		if err != nil {
			return nil, err
		}
		n := *shared
		n.name = e.name
		return &n, nil
	case e.mode == modeModule:
		b.modules = append(b.modules, name)
		return &node{name: e.name, mode: fs.ModeDir | 0o755}, nil
	case e.mode == modeLink:
		if b.symlinks == RejectSymlinks {
			return nil, fmt.Errorf("%w: %s is a symbolic link", source.ErrUnsafePath, name)
		}
		b.skipped = append(b.skipped, name)
		return nil, nil //nolint:nilnil // it is left out
	case e.mode&^0o777 == modeRegular:
		return b.file(e, name)
	}
	return nil, corrupt("%s has the mode %o", name, e.mode)
}

func (b *treeBuilder) file(e treeEntry, name string) (*node, error) {
	i, ok := b.pack.byID[e.id]
	if !ok {
		return nil, corrupt("the content %s of %s is missing", e.id, name)
	}
	entry := &b.pack.entries[i]
	if entry.kind != kindBlob {
		return nil, corrupt("%s of file %s is a %v", e.id, name, entry.kind)
	}
	mode := fs.FileMode(0o644)
	if e.mode&0o100 != 0 {
		mode = 0o755
	}
	return &node{name: e.name, mode: mode, at: i, size: entry.size, bytes: entry.size}, nil
}

// check compares a directory with the limits.
func (b *treeBuilder) check(n *node, at string, depth int) error {
	switch {
	case n.files > b.limits.Files:
		return fmt.Errorf("%w: %s has more than %d files", source.ErrLimit, where(at), b.limits.Files)
	case n.bytes > b.limits.Unpacked:
		return fmt.Errorf("%w: the files of %s have more than %d bytes", source.ErrLimit, where(at), b.limits.Unpacked)
	case depth+n.depth-1 > b.limits.Depth:
		return fmt.Errorf("%w: %s is nested deeper than %d directories", source.ErrLimit, shorten(at), b.limits.Depth)
	}
	return nil
}

func where(at string) string {
	if at == "." {
		return "the tree"
	}
	return shorten(at)
}

// shorten keeps a path of thousands of directories out of an error.
func shorten(name string) string {
	if len(name) <= 120 {
		return name
	}
	return name[:60] + "..." + name[len(name)-50:]
}

// satAdd adds sizes of trees, which may share subtrees often enough to overflow.
func satAdd[T int | int64](a, b T) T {
	if sum := a + b; sum >= a {
		return sum
	}
	return a
}
