package git

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// edit is what happens to one path: a file is written or deleted, or a
// directory has edits below it.
type edit struct {
	write, remove bool
	data          []byte
	exec          bool
	below         map[string]*edit
}

// edits makes a tree of the changed paths.
func (c *Change) edits() (*edit, error) {
	root := &edit{below: map[string]*edit{}}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		if err := root.put(name, &edit{write: true, data: c.Files[name], exec: slices.Contains(c.Executable, name)}); err != nil {
			return nil, err
		}
	}
	for _, name := range c.Delete {
		if err := root.put(name, &edit{remove: true}); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (e *edit) put(name string, leaf *edit) error {
	if !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%w: %q is no path of a file", source.ErrUnsafePath, name)
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if why := unsafeName(part); why != "" {
			return fmt.Errorf("%w: %q contains %s", source.ErrUnsafePath, name, why)
		}
		next, ok := e.below[part]
		last := i == len(parts)-1
		if ok && (last || next.below == nil) {
			return fmt.Errorf("%w: %s is changed twice, or is a file and a directory", source.ErrInvalidSpec, name)
		}
		if !ok {
			next = leaf
			if !last {
				next = &edit{below: map[string]*edit{}}
			}
			e.below[part] = next
		}
		e = next
	}
	return nil
}

// editor applies edits to the trees of a pack and collects the new objects.
type editor struct {
	pack   *pack // nil when there is nothing yet
	commit *Commit
}

// dir applies the edits below a directory, and returns the name of the new
// tree, or none for a directory in which nothing is left.
func (e *editor) dir(id oid, edits *edit, at string) (oid, error) {
	var entries []treeEntry
	if id != (oid{}) {
		var err error
		if entries, err = (&treeBuilder{pack: e.pack}).read(id, at); err != nil {
			return oid{}, err
		}
	}
	changed := false
	for _, name := range slices.Sorted(maps.Keys(edits.below)) {
		i := slices.IndexFunc(entries, func(t treeEntry) bool { return t.name == name })
		old := treeEntry{name: name}
		if i >= 0 {
			old = entries[i]
		}
		now, err := e.entry(old, edits.below[name], joinPath(at, name))
		if err != nil {
			return oid{}, err
		}
		switch {
		case now == old:
			continue
		case i < 0:
			entries = append(entries, now)
		case now.id == oid{}:
			entries = slices.Delete(entries, i, i+1)
		default:
			entries[i] = now
		}
		changed = true
	}
	if !changed {
		return id, nil
	}
	if len(entries) == 0 {
		return oid{}, nil
	}
	return e.commit.add(kindTree, encodeTree(entries)), nil
}

func joinPath(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// entry applies one edit to one entry; an entry that is not there has no mode
// and no name of an object.
func (e *editor) entry(old treeEntry, ed *edit, at string) (treeEntry, error) {
	isFile, there := old.mode&^0o777 == modeRegular, old.id != oid{}
	if ed.below != nil {
		if there && old.mode != modeDir {
			return old, fmt.Errorf("%w: %s is no directory", source.ErrUnsafePath, at)
		}
		id, err := e.dir(old.id, ed, at)
		if err != nil || id == old.id {
			return old, err
		}
		return treeEntry{old.name, modeDir, id}, nil
	}
	if there && !isFile {
		return old, fmt.Errorf("%w: %s is a directory, a symbolic link or a submodule, not a file", source.ErrUnsafePath, at)
	}
	if ed.remove {
		if !there {
			return old, nil
		}
		return treeEntry{name: old.name}, nil
	}
	now := treeEntry{old.name, old.mode, nameOf(kindBlob, ed.data)}
	switch {
	case ed.exec:
		now.mode = 0o100755
	case !there:
		now.mode = 0o100644
	}
	if now.id != old.id {
		e.commit.add(kindBlob, ed.data)
	}
	return now, nil
}

// encodeTree writes a tree in the order that Git wants, in which a directory
// counts as if its name ended with a slash.
func encodeTree(entries []treeEntry) []byte {
	key := func(t treeEntry) string {
		if t.mode == modeDir {
			return t.name + "/"
		}
		return t.name
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return cmp.Compare(key(a), key(b)) })
	var b bytes.Buffer
	for _, t := range entries {
		fmt.Fprintf(&b, "%o %s\x00", t.mode, t.name)
		b.Write(t.id[:])
	}
	return b.Bytes()
}
