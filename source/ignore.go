package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// IgnoreFile is the name of the files whose patterns Ignore honours.
const IgnoreFile = ".sourceignore"

// DefaultIgnoreVCS and DefaultIgnore are what Flux leaves out of an artifact:
// the first always, the second when neither a .sourceignore file nor any other
// pattern says what to leave out.
const (
	DefaultIgnoreVCS = ".git/\n.gitignore\n.gitmodules\n.gitattributes\n"
	DefaultIgnore    = "*.jpg\n*.jpeg\n*.gif\n*.png\n*.wmv\n*.flv\n*.tar.gz\n*.zip\n" +
		".github/\n.circleci/\n.travis.yml\n.gitlab-ci.yml\nappveyor.yml\n.drone.yml\ncloudbuild.yaml\ncodeship-services.yml\ncodeship-steps.yml\n" +
		"**/.goreleaser.yml\n**/.sops.yaml\n**/.flux.yaml\n"
)

// maxIgnore bounds the text of all ignore files of a tree together: every line
// is compared with every path.
const maxIgnore = 256 << 10

// Ignore returns the view of a tree that Flux makes an artifact of. The rules
// are DefaultIgnoreVCS, then the .sourceignore file of each directory for what
// is below it, then patterns; if the last two have no pattern at all,
// DefaultIgnore takes their place. Directories that .sourceignore files
// exclude are not searched for further ones.
//
// The view lists the files there are now, and reads them from tree.
func Ignore(ctx context.Context, tree fs.FS, patterns string) (fs.FS, error) {
	rules, err := LoadIgnore(ctx, tree, patterns)
	if err != nil {
		return nil, err
	}
	return rules.FS(ctx, tree)
}

// LoadIgnore reads the rules of Ignore.
func LoadIgnore(ctx context.Context, tree fs.FS, patterns string) (IgnoreRules, error) {
	var own IgnoreRules
	size := 0
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || !d.IsDir() {
			return err
		}
		if name != "." && (d.Name() == ".git" || own.Match(name, true)) {
			return fs.SkipDir
		}
		text, err := readIgnore(tree, path.Join(name, IgnoreFile))
		if size += len(text); size > maxIgnore {
			return fmt.Errorf("%w: the %s files have more than %d bytes", ErrLimit, IgnoreFile, maxIgnore)
		}
		own = own.And(ParseIgnore(name, text))
		return err
	})
	if err != nil {
		return IgnoreRules{}, fmt.Errorf("ignore rules: %w", err)
	}
	own = own.And(ParseIgnore(".", patterns))
	if len(own.patterns) == 0 {
		own = ParseIgnore(".", DefaultIgnore)
	}
	return ParseIgnore(".", DefaultIgnoreVCS).And(own), nil
}

func readIgnore(tree fs.FS, name string) (string, error) {
	info, err := fs.Stat(tree, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIgnore+1))
	return string(text), err
}

// IgnoreRules say which paths are left out. The patterns are those of
// gitignore files; the last one that matches a path, or a directory above it,
// decides. One thing differs from Git, and is as in Flux: a file below an
// excluded directory can be included again:
//
//	/*
//	!/deploy/app.yaml
//
// The zero value leaves out nothing. Rules do not change and are safe for
// concurrent use.
type IgnoreRules struct {
	patterns []ignorePattern
	includes bool
}

// ParseIgnore reads patterns in the format of a gitignore file that lies in
// the directory dir; "." is the root. Lines that are malformed match nothing,
// as in Git.
func ParseIgnore(dir, text string) IgnoreRules {
	var r IgnoreRules
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		if p, ok := parseIgnorePattern(dir, strings.TrimRight(line, "\r\n")); ok {
			r.patterns = append(r.patterns, p)
			r.includes = r.includes || p.include
		}
	}
	return r
}

// And returns rules that apply more after r, so that they win.
func (r IgnoreRules) And(more IgnoreRules) IgnoreRules {
	if len(more.patterns) == 0 {
		return r
	}
	return IgnoreRules{slices.Concat(r.patterns, more.patterns), r.includes || more.includes}
}

// Match says whether the path, as io/fs writes paths, is left out.
func (r IgnoreRules) Match(name string, isDir bool) bool {
	if name == "." {
		return false
	}
	for _, p := range slices.Backward(r.patterns) {
		if p.match(name, isDir) {
			return !p.include
		}
	}
	return false
}

// FS returns the view of a tree without what the rules leave out. A directory
// that is left out stays as far as something below it does not.
func (r IgnoreRules) FS(ctx context.Context, tree fs.FS) (fs.FS, error) {
	view := &ignoreFS{tree: tree, dirs: map[string][]fs.DirEntry{}}
	if _, err := view.scan(ctx, r, "."); err != nil {
		return nil, fmt.Errorf("ignore: %w", err)
	}
	return view, nil
}

// ignorePattern is one line.
type ignorePattern struct {
	dir      string   // where the line is from; empty for the root
	parts    []string // "**" stands for any number of directories
	include  bool
	dirOnly  bool
	anywhere bool // without a slash: at any depth
}

func parseIgnorePattern(dir, line string) (p ignorePattern, ok bool) {
	if dir != "." {
		p.dir = dir + "/"
	}
	line = trimSpaces(line)
	if line == "" || line[0] == '#' {
		return p, false
	}
	if line[0] == '!' {
		p.include, line = true, line[1:]
	}
	if strings.HasSuffix(line, "/") {
		p.dirOnly, line = true, strings.TrimSuffix(line, "/")
	}
	p.anywhere = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	for part := range strings.SplitSeq(line, "/") {
		part = wildcard(part)
		if _, err := path.Match(part, ""); err != nil || part == "" {
			return p, false
		}
		p.parts = append(p.parts, part)
	}
	return p, true
}

// trimSpaces removes spaces at the end, but for one after a backslash.
func trimSpaces(line string) string {
	for strings.HasSuffix(line, " ") {
		rest := line[:len(line)-1]
		slashes := len(rest) - len(strings.TrimRight(rest, `\`))
		if slashes%2 == 1 {
			break
		}
		line = rest
	}
	return line
}

// wildcard writes a part of a pattern as package path has it.
func wildcard(part string) string {
	part = strings.ReplaceAll(part, "[!", "[^")
	for name, set := range map[string]string{
		"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "xdigit": "0-9a-fA-F", "space": " \t",
	} {
		part = strings.ReplaceAll(part, "[:"+name+":]", set)
	}
	return part
}

// match says whether the pattern is about the path or a directory above it.
func (p *ignorePattern) match(name string, isDir bool) bool {
	rest, ok := strings.CutPrefix(name, p.dir)
	if !ok || rest == "" {
		return false
	}
	parts := strings.Split(rest, "/")
	for n := 1; n <= len(parts); n++ {
		if p.dirOnly && n == len(parts) && !isDir {
			return false
		}
		if p.anywhere && matchPart(p.parts[0], parts[n-1]) || !p.anywhere && matchParts(p.parts, parts[:n]) {
			return true
		}
	}
	return false
}

// matchParts matches whole paths, going back to the last "**" only, which is
// enough and never slow.
func matchParts(pattern, parts []string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(parts) {
		switch {
		case i < len(pattern) && pattern[i] == "**":
			star, mark = i, j
			if i++; i == len(pattern) {
				return true // at the end it wants something, and there is
			}
		case i < len(pattern) && matchPart(pattern[i], parts[j]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return i == len(pattern)
}

func matchPart(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// ignoreFS shows some of the files of a tree.
type ignoreFS struct {
	tree fs.FS
	dirs map[string][]fs.DirEntry // what each directory shows
}

var (
	_ fs.ReadDirFS  = (*ignoreFS)(nil)
	_ fs.ReadLinkFS = (*ignoreFS)(nil)
)

// scan reads a directory and says whether anything of it is shown.
func (v *ignoreFS) scan(ctx context.Context, rules IgnoreRules, dir string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	entries, err := fs.ReadDir(v.tree, dir)
	if err != nil {
		return false, err
	}
	list := []fs.DirEntry{}
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		name := path.Join(dir, d.Name())
		hidden := rules.Match(name, d.IsDir())
		if d.IsDir() && (!hidden || rules.includes) {
			some, err := v.scan(ctx, rules, name)
			if err != nil {
				return false, err
			}
			if hidden = hidden && !some; hidden {
				delete(v.dirs, name)
			}
		}
		if !hidden {
			list = append(list, d)
		}
	}
	v.dirs[dir] = list
	return len(list) > 0, nil
}

// find checks that a path is shown.
func (v *ignoreFS) find(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return nil
	}
	list := v.dirs[path.Dir(name)]
	_, ok := slices.BinarySearchFunc(list, path.Base(name), func(d fs.DirEntry, name string) int { return strings.Compare(d.Name(), name) })
	if !ok {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// Open implements fs.FS.
func (v *ignoreFS) Open(name string) (fs.File, error) {
	if err := v.find("open", name); err != nil {
		return nil, err
	}
	f, err := v.tree.Open(name)
	if list, ok := v.dirs[name]; ok && err == nil {
		return &ignoreDir{File: f, list: list}, nil
	}
	return f, err
}

// ReadDir implements fs.ReadDirFS.
func (v *ignoreFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := v.find("readdir", name); err != nil {
		return nil, err
	}
	list, ok := v.dirs[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return slices.Clone(list), nil
}

// Lstat and ReadLink implement fs.ReadLinkFS.
func (v *ignoreFS) Lstat(name string) (fs.FileInfo, error) {
	if err := v.find("lstat", name); err != nil {
		return nil, err
	}
	return fs.Lstat(v.tree, name)
}

func (v *ignoreFS) ReadLink(name string) (string, error) {
	if err := v.find("readlink", name); err != nil {
		return "", err
	}
	return fs.ReadLink(v.tree, name)
}

// ignoreDir is an open directory that lists what is shown of it.
type ignoreDir struct {
	fs.File
	list []fs.DirEntry
	next int
}

func (d *ignoreDir) ReadDir(n int) ([]fs.DirEntry, error) {
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
