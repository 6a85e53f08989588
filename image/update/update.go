package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/image"
)

// Setters plans the changes of all marked values in a tree. Policies are keyed
// by "namespace:name"; their references have a name and a tag, and are written
// as they are spelled. Nil opts are the defaults. A tree in which nothing has to
// change is a plan without changes.
func Setters(ctx context.Context, tree fs.FS, policies map[string]image.Ref, opts *Options) (*Plan, error) {
	if opts == nil {
		opts = &Options{}
	}
	dir, err := opts.check(policies)
	if err != nil {
		return nil, err
	}
	w := &walker{tree: tree, policies: policies, limits: opts.Limits.orDefaults(), plan: &Plan{files: map[string][]byte{}}}
	err = fs.WalkDir(tree, dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = w.visit(name, d)
		}
		return err
	})
	if err != nil {
		return nil, wrap(dir, err)
	}
	if skipped := w.plan.Skipped; opts.Strict && len(skipped) > 0 {
		errs := make([]error, len(skipped))
		for i, s := range skipped {
			errs[i] = &Error{File: s.File, Line: s.Line, Err: fmt.Errorf("%w: %s: %s", ErrUnresolved, s.Reason, s.Detail)}
		}
		return nil, errors.Join(errs...)
	}
	return w.plan, nil
}

// Options say where to look and what to make of markers that change nothing.
// The zero value looks everywhere and reports them.
type Options struct {
	// Path is the directory to look in, below the root of the tree, such as
	// "clusters/prod" or "./clusters/prod". Empty means the root. It must exist.
	Path string
	// Strict makes an ErrUnresolved of every Skip.
	Strict bool
	// Limits bound what a tree can cost. The zero value is the defaults.
	Limits Limits
}

// Unlimited turns a field of Limits off.
const Unlimited = -1

// Limits bound what a tree can cost. The zero value stands for the defaults
// named at each field; Unlimited turns one off.
type Limits struct {
	// Files is the number of files and directories looked at: 100,000. More
	// are an ErrLimit.
	Files int
	// File is the size of a file in bytes: 16 MiB, far above any manifest. A
	// larger one is skipped.
	File int64
}

func (l Limits) orDefaults() Limits {
	const maxInt64, maxInt = 1<<63 - 1, int(^uint(0) >> 1)
	switch {
	case l.Files == 0:
		l.Files = 100_000
	case l.Files < 0:
		l.Files = maxInt
	}
	switch {
	case l.File == 0:
		l.File = 16 << 20
	case l.File < 0:
		l.File = maxInt64 - 1
	}
	return l
}

// check returns the directory to look in.
func (o *Options) check(policies map[string]image.Ref) (string, error) {
	dir := path.Clean(o.Path)
	var errs []error
	if !fs.ValidPath(dir) || strings.ContainsRune(o.Path, '\\') {
		errs = append(errs, fmt.Errorf("Options.Path %q leads out of the tree", o.Path))
	}
	if o.Limits.Files < Unlimited || o.Limits.File < Unlimited {
		errs = append(errs, errors.New("a field of Limits is negative: use Unlimited for no limit"))
	}
	for _, key := range slices.Sorted(maps.Keys(policies)) {
		if namespace, name, ok := strings.Cut(key, ":"); !ok || namespace == "" || name == "" || strings.ContainsRune(name, ':') {
			errs = append(errs, fmt.Errorf("policy %q: want namespace:name", key))
		}
		ref := policies[key]
		if err := ref.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("policy %q: %w", key, err))
		} else if ref.Tag == "" {
			errs = append(errs, fmt.Errorf("policy %q: the image %s has no tag", key, ref))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", &Error{File: o.Path, Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
	}
	return dir, nil
}

// walker looks at one file after another.
type walker struct {
	tree     fs.FS
	policies map[string]image.Ref
	limits   Limits
	seen     int
	plan     *Plan
}

func (w *walker) visit(name string, d fs.DirEntry) error {
	if w.seen++; w.seen > w.limits.Files {
		return fmt.Errorf("%w: more than %d files and directories (Limits.Files)", ErrLimit, w.limits.Files)
	}
	if ext := path.Ext(name); d.IsDir() || ext != ".yaml" && ext != ".yml" && path.Base(name) != "Kustomization" {
		return nil
	}
	if !d.Type().IsRegular() {
		w.plan.Skipped = append(w.plan.Skipped, Skip{File: name, Reason: NotRegular, Detail: "links are not followed"})
		return nil
	}
	data, err := w.read(name)
	if err != nil {
		return err
	}
	if int64(len(data)) > w.limits.File {
		w.plan.Skipped = append(w.plan.Skipped, Skip{File: name, Reason: TooLarge, Detail: fmt.Sprintf("more than %d bytes (Limits.File)", w.limits.File)})
		return nil
	}
	edited, changes, skipped := edit(name, data, w.policies)
	w.plan.Changes = append(w.plan.Changes, changes...)
	w.plan.Skipped = append(w.plan.Skipped, skipped...)
	if len(changes) > 0 {
		w.plan.files[name] = edited
	}
	return nil
}

func (w *walker) read(name string) ([]byte, error) {
	f, err := w.tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, w.limits.File+1))
}
