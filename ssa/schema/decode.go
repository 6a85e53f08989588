package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// Limits bound what is read. Zero means the default.
type Limits struct {
	// FileBytes is the size of one file, by default 16 MiB: ten times the
	// largest object that etcd takes.
	FileBytes int64
	// Files is the number of files, by default 10000.
	Files int
	// TotalBytes is the size of all files, by default 256 MiB.
	TotalBytes int64
	// Documents is the number of documents in a file, by default 10000.
	Documents int
	// Depth is how deep values lie in each other, by default 500.
	Depth int
	// Nodes is the number of values in a document when its aliases are
	// expanded, by default a million.
	Nodes int
}

func (l *Limits) withDefaults() Limits {
	var out Limits
	if l != nil {
		out = *l
	}
	fill := func(v *int, preset int) {
		if *v <= 0 {
			*v = preset
		}
	}
	fill(&out.Files, 10000)
	fill(&out.Documents, 10000)
	fill(&out.Depth, 500)
	fill(&out.Nodes, 1000000)
	if out.FileBytes <= 0 {
		out.FileBytes = 16 << 20
	}
	if out.TotalBytes <= 0 {
		out.TotalBytes = 256 << 20
	}
	return out
}

// Load reads the objects of files: those that patterns name, where a pattern is
// a file, a directory with all manifests below it, or a pattern of [fs.Glob].
// Nil means all of fsys. Manifests are files that end in .yaml, .yml or .json;
// a kustomization file is none, and neither is what begins with a dot. Files
// come in the order of their names. Limits may be nil.
//
// The error is one as of [Decode]; what could be read comes with it. A pattern
// without a file matches [fs.ErrNotExist].
func Load(fsys fs.FS, patterns []string, limits *Limits) (*Manifests, error) {
	l := limits.withDefaults()
	names, err := find(fsys, patterns, l.Files)
	if err != nil {
		return nil, err
	}
	out := &Manifests{}
	var errs []error
	var total int64
	for _, name := range names {
		data, err := readFile(fsys, name, l.FileBytes)
		if total += int64(len(data)); err == nil && total > l.TotalBytes {
			err = fmt.Errorf("%w: more than %d bytes in all files", ErrLimit, l.TotalBytes)
		}
		if err != nil {
			return out, &Error{Op: "load", Subject: name, Err: err}
		}
		if err := out.decode(name, data, l); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// Decode reads a stream of YAML or JSON documents into objects, in their order,
// and remembers the line of each field. Name is the file, for messages. Values
// are read as kubectl and the API server read them (YAML 1.1). Empty documents
// are left out; lists stay lists. Limits may be nil.
//
// The error is an *[Error] that joins a [Violation] for each key that occurs
// twice in a mapping, and for each document that is no object; see
// [Violations]. It matches [ErrInvalid] or [ErrLimit]. What could be read comes
// with it.
func Decode(name string, data []byte, limits *Limits) (*Manifests, error) {
	out := &Manifests{}
	return out, out.decode(name, data, limits.withDefaults())
}

// Violations returns those that are in an error of [Decode] or [Load].
func Violations(err error) []Violation {
	if v, ok := err.(Violation); ok { //nolint:errorlint // the tree is walked here
		return []Violation{v}
	}
	var out []Violation
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		return Violations(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			out = append(out, Violations(err)...)
		}
	}
	return out
}

func (m *Manifests) decode(name string, data []byte, l Limits) error {
	if int64(len(data)) > l.FileBytes {
		return &Error{Op: "decode", Subject: name, Err: fmt.Errorf("%w: more than %d bytes", ErrLimit, l.FileBytes)}
	}
	var found []Violation
	line, count := 1, 0
	for doc := range documents(data) {
		if count++; count > l.Documents {
			return &Error{Op: "decode", Subject: name, Err: fmt.Errorf("%w: more than %d documents", ErrLimit, l.Documents)}
		}
		d := &document{file: name, first: line, limits: l}
		obj, v, err := d.decode(doc)
		if err != nil {
			return &Error{Op: "decode", Subject: fmt.Sprintf("%s:%d", name, line), Err: err}
		}
		found = append(found, v...)
		if obj != nil {
			m.add(obj, d)
		}
		line += bytes.Count(doc, []byte("\n"))
	}
	if len(found) == 0 {
		return nil
	}
	errs := make([]error, len(found))
	for i, v := range found {
		errs[i] = v
	}
	return &Error{Op: "decode", Err: errors.Join(errs...)}
}

// documents yields the documents of a stream, each with its separator line.
func documents(data []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start, at := 0, 0
		for line := range bytes.Lines(data) {
			if at > start && isSeparator(line) {
				if !yield(data[start:at]) {
					return
				}
				start = at
			}
			at += len(line)
		}
		if start < len(data) {
			yield(data[start:])
		}
	}
}

// isSeparator reports a line "---", with a comment at most.
func isSeparator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	rest = bytes.TrimSpace(rest)
	return ok && (len(rest) == 0 || rest[0] == '#')
}

// document is a document while it is read, and then where its fields are.
type document struct {
	file   string
	first  int // line
	root   *yamlv3.Node
	limits Limits
}

// decode returns the object and what is wrong; the error is about limits.
func (d *document) decode(doc []byte) (obj *unstructured.Unstructured, found []Violation, err error) {
	bad := func(line int, format string, args ...any) []Violation {
		return []Violation{{File: d.file, Line: line, Reason: BadSyntax, Message: fmt.Sprintf(format, args...)}}
	}
	defer func() {
		if r := recover(); r != nil { // the parsers have had such faults
			obj, found, err = nil, bad(d.first, "not YAML: the parser gave up"), nil
		}
	}()
	root := &yamlv3.Node{}
	parser := yamlv3.NewDecoder(bytes.NewReader(doc))
	switch err := parser.Decode(root); {
	case errors.Is(err, io.EOF):
		return nil, nil, nil
	case err != nil:
		line, message := d.syntax(err)
		return nil, bad(line, "%s", message), nil
	}
	var more yamlv3.Node
	if err := parser.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, bad(d.first, "two documents without a line --- between them"), nil
	}
	if len(root.Content) == 0 {
		return nil, nil, nil
	}
	d.root = root.Content[0]
	if err := d.measure(); err != nil {
		return nil, nil, err
	}
	if d.root.Kind == yamlv3.ScalarNode && d.root.Tag == "!!null" {
		return nil, nil, nil
	}
	if d.root.Kind != yamlv3.MappingNode {
		return nil, bad(d.line(d.root), "not an object: it has no apiVersion and kind"), nil
	}
	data, err := yaml.YAMLToJSON(doc)
	if err != nil {
		line, message := d.syntax(err)
		return nil, bad(line, "%s", message), nil
	}
	content := map[string]any{}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, bad(d.line(d.root), "not an object"), nil
	}
	obj = &unstructured.Unstructured{Object: content}
	found = d.duplicates(d.root, "", nil, map[*yamlv3.Node]bool{})
	var lacks []string
	for _, field := range []string{"apiVersion", "kind"} {
		if s, ok := content[field].(string); !ok || s == "" {
			lacks = append(lacks, field)
		}
	}
	if lacks != nil {
		return nil, append(found, bad(d.line(d.root), "not an object: it has no %s", strings.Join(lacks, " and "))...), nil
	}
	return obj, found, nil
}

var atLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax returns line and text of an error of the parser, which counts the
// lines of the document.
func (d *document) syntax(err error) (int, string) {
	text := err.Error()
	match := atLine.FindStringSubmatch(text)
	if match == nil {
		return d.first, "not YAML: " + strings.TrimPrefix(text, "yaml: ")
	}
	n, convErr := strconv.Atoi(match[1])
	if convErr != nil {
		return d.first, "not YAML"
	}
	return d.first + n - 1, "not YAML: " + strings.TrimPrefix(text, match[0])
}

// measure holds a document to the limits, aliases expanded.
func (d *document) measure() error {
	sizes := map[*yamlv3.Node]int{}
	open := map[*yamlv3.Node]bool{}
	var size func(n *yamlv3.Node, depth int) (int, error)
	size = func(n *yamlv3.Node, depth int) (int, error) {
		if depth > d.limits.Depth {
			return 0, fmt.Errorf("%w: deeper than %d levels", ErrLimit, d.limits.Depth)
		}
		if n.Kind == yamlv3.AliasNode {
			if n.Alias == nil || open[n.Alias] {
				return 0, fmt.Errorf("%w: line %d: an alias that contains itself", ErrInvalid, d.line(n))
			}
			n = n.Alias
		}
		if s, ok := sizes[n]; ok {
			return s, nil
		}
		open[n] = true
		total := 1
		for _, c := range n.Content {
			s, err := size(c, depth+1)
			if err != nil {
				return 0, err
			}
			if total += s; total > d.limits.Nodes {
				return 0, fmt.Errorf("%w: more than %d values", ErrLimit, d.limits.Nodes)
			}
		}
		delete(open, n)
		sizes[n] = total
		return total, nil
	}
	_, err := size(d.root, 1)
	return err
}

// duplicates reports keys that a mapping has twice.
func (d *document) duplicates(n *yamlv3.Node, at string, to []Violation, seen map[*yamlv3.Node]bool) []Violation {
	if seen[n] {
		return to
	}
	seen[n] = true
	switch n.Kind {
	case yamlv3.MappingNode:
		keys := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			p := join(at, key.Value)
			if first, ok := keys[key.Value]; ok {
				to = append(to, Violation{File: d.file, Line: d.line(key), Path: p, Reason: DuplicateKey, Message: fmt.Sprintf("the key is there twice, first in line %d", first)})
			} else {
				keys[key.Value] = d.line(key)
			}
			to = d.duplicates(n.Content[i+1], p, to, seen)
		}
	case yamlv3.SequenceNode:
		for i, c := range n.Content {
			to = d.duplicates(c, at+"["+strconv.Itoa(i)+"]", to, seen)
		}
	case yamlv3.DocumentNode, yamlv3.ScalarNode, yamlv3.AliasNode:
	}
	return to
}

// find returns the files that patterns name, sorted.
func find(fsys fs.FS, patterns []string, limit int) ([]string, error) {
	if patterns == nil {
		patterns = []string{"."}
	}
	var names []string
	for _, pattern := range patterns {
		matches, err := fs.Glob(fsys, pattern)
		if err == nil && len(matches) == 0 {
			err = fs.ErrNotExist
		}
		if err != nil {
			return nil, &Error{Op: "load", Subject: pattern, Err: err}
		}
		for _, match := range matches {
			err := fs.WalkDir(fsys, match, func(name string, entry fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return err
				case name != match && strings.HasPrefix(entry.Name(), "."):
					if entry.IsDir() {
						return fs.SkipDir
					}
				case !entry.IsDir() && (name == match || isManifest(name)):
					if names = append(names, name); len(names) > limit {
						return fmt.Errorf("%w: more than %d files", ErrLimit, limit)
					}
				}
				return nil
			})
			if err != nil {
				return nil, &Error{Op: "load", Subject: match, Err: err}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func isManifest(name string) bool {
	switch path.Base(name) {
	case "kustomization.yaml", "kustomization.yml":
		return false
	}
	return slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name))
}

func readFile(fsys fs.FS, name string, limit int64) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrLimit, limit)
	}
	return data, err
}
