package source

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Copy is one step of [Compose]: files of a tree, and where they go.
type Copy struct {
	// From is the tree.
	From fs.FS
	// Pattern selects what is copied: a file, a directory, "dir/**" for what is
	// in a directory, "**" for everything, or a pattern of path.Match, whose
	// matches are copied one by one.
	Pattern string
	// To is the path to copy to, in the result. Ending in a slash, or empty, it
	// is a directory to copy into, else the new name of what is copied.
	To string
	// Exclude leaves out files: patterns with "**" for any number of
	// directories, compared with the path in the tree and with the path below
	// what is selected. One without a slash is compared with the last element, too.
	Exclude []string
}

// Compose puts files of several trees together, step by step: what is copied
// later replaces what is there. The result is read into memory, within limits,
// and shares nothing with the trees but the bytes.
//
// A step that selects nothing is an ErrNotFound, one that excludes all it
// selects an ErrInvalidSpec, a file where a directory is, or the other way
// round, an ErrUnsafePath. Links and other special files are not copied.
func Compose(ctx context.Context, limits Limits, steps ...Copy) (fs.FS, error) {
	if err := limits.Validate(); err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	c := &composer{limits: limits.OrDefaults(), tree: newMemFS()}
	for i, step := range steps {
		if err := c.copy(ctx, step); err != nil {
			return nil, fmt.Errorf("compose: step %d, %q to %q: %w", i+1, step.Pattern, step.To, err)
		}
	}
	c.tree.sort()
	return c.tree, nil
}

type composer struct {
	limits Limits
	tree   memFS
	bytes  int64
}

func (c *composer) copy(ctx context.Context, step Copy) error {
	to, into := strings.Trim(path.Clean("/"+step.To), "/"), step.To == "" || strings.HasSuffix(step.To, "/")
	selected, content, err := selection(step.From, step.Pattern)
	if err != nil {
		return err
	}
	copied := 0
	for _, root := range selected {
		n, err := c.walk(ctx, step, root, func(rel string) string {
			switch {
			case content:
				return path.Join(to, rel)
			case into || len(selected) > 1:
				return path.Join(to, path.Base(root), rel)
			}
			return path.Join(to, rel)
		})
		if err != nil {
			return err
		}
		copied += n
	}
	if copied == 0 {
		return fmt.Errorf("%w: everything that is selected is excluded, or it is empty", ErrInvalidSpec)
	}
	return nil
}

// selection returns the files and directories that a pattern names, and
// whether their content is meant.
func selection(tree fs.FS, pattern string) (roots []string, content bool, err error) {
	clean := strings.TrimPrefix(pattern, "./")
	if clean == "**" {
		return []string{"."}, true, nil
	}
	if dir, ok := strings.CutSuffix(clean, "/**"); ok {
		clean, content = dir, true
	}
	clean = strings.TrimSuffix(clean, "/")
	if !fs.ValidPath(clean) {
		return nil, false, fmt.Errorf("%w: it is no path inside the source", ErrInvalidSpec)
	}
	if roots, err = fs.Glob(tree, clean); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrInvalidSpec, err)
	}
	if len(roots) == 0 {
		return nil, false, fmt.Errorf("%w: the source has nothing of that name", ErrNotFound)
	}
	return roots, content, nil
}

// walk copies what is at root, and returns how many files that were.
func (c *composer) walk(ctx context.Context, step Copy, root string, target func(rel string) string) (copied int, err error) {
	err = fs.WalkDir(step.From, root, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || d.IsDir() || !d.Type().IsRegular() {
			return err
		}
		rel := ""
		switch {
		case root == ".":
			rel = name
		case name != root:
			rel = strings.TrimPrefix(name, root+"/")
		}
		if excluded(step.Exclude, name, rel) {
			return nil
		}
		copied++
		return c.file(step.From, name, d, target(rel))
	})
	return copied, err
}

func (c *composer) file(tree fs.FS, name string, d fs.DirEntry, to string) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case info.Size() > c.limits.File:
		return fmt.Errorf("%w: %s is larger than Limits.File", ErrLimit, name)
	case strings.Count(to, "/") > c.limits.Depth:
		return fmt.Errorf("%w: %s is nested deeper than %d directories", ErrLimit, to, c.limits.Depth)
	}
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	if to == "" {
		return fmt.Errorf("%w: the file %s would have no name", ErrUnsafePath, name)
	}
	old, replaces := c.tree[to]
	if replaces = replaces && !old.IsDir(); replaces {
		c.bytes -= int64(len(old.data))
	} else if err := c.tree.vacant(to); err != nil {
		return err
	}
	switch c.bytes += int64(len(data)); {
	case int64(len(data)) > c.limits.File:
		return fmt.Errorf("%w: %s is larger than Limits.File", ErrLimit, name)
	case c.bytes > c.limits.Unpacked:
		return fmt.Errorf("%w: the files together are larger than Limits.Unpacked, at %s", ErrLimit, name)
	case len(c.tree) > c.limits.Files:
		return fmt.Errorf("%w: more than %d files", ErrLimit, c.limits.Files)
	}
	if replaces {
		old.data, old.mode = data, info.Mode().Perm()
	} else {
		c.tree.add(to, info.Mode().Perm(), data)
	}
	return nil
}

// excluded reports whether a pattern names the file.
func excluded(patterns []string, name, rel string) bool {
	for _, p := range patterns {
		parts := strings.Split(strings.Trim(p, "/"), "/")
		if matchParts(parts, strings.Split(name, "/")) || rel != "" && matchParts(parts, strings.Split(rel, "/")) ||
			len(parts) == 1 && matchPart(p, path.Base(name)) {
			return true
		}
	}
	return false
}
