package kustomize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// explain turns the error of a build into an *Error that names the file and
// line at fault. kustomize wraps errors in text, often without either, so the
// files it read are looked at again; this costs nothing when builds succeed.
func (t *tree) explain(dir string, err error) error {
	e := &Error{Dir: dir, Err: err}
	if t.stop != nil {
		e.Err, e.Path = t.stop, t.stopAt
		if data, err := t.content(t.stopAt); err == nil && errors.Is(e.Err, ErrInvalid) {
			e.Line = fieldLine(data, e.Err)
		}
		return e
	}
	if errors.Is(err, fs.ErrNotExist) || !classified(err) {
		t.locate(e)
	}
	return e
}

// locate looks for the file and line behind an error of kustomize.
func (t *tree) locate(e *Error) {
	text, missing := e.Err.Error(), errors.Is(e.Err, fs.ErrNotExist)
	for _, name := range t.seen {
		if n, found := t.fault(name, text); found != nil && !missing {
			e.Path, e.Line, e.Err = name, n, fmt.Errorf("%w: %w", ErrInvalid, found)
			return
		}
	}
	entry, cause := shorten(text)
	if entry == "" && missing {
		return // it says which directory
	}
	cause = withhold(cause)
	for _, name := range slices.Backward(t.seen) {
		if data, err := t.content(name); err == nil && entry != "" && isKustomization(path.Base(name)) && bytes.Contains(data, []byte(entry)) {
			e.Path = name
			if _, err := fs.Stat(t.fsys, name); err != nil { // a generated list: name the file itself
				e.Path = path.Join(path.Dir(name), entry)
			}
			break
		}
	}
	class := ErrInvalid
	if missing {
		class = fs.ErrNotExist
	}
	if entry != "" {
		e.Err = fmt.Errorf("%w: %s: %s", class, entry, cause)
	} else {
		e.Err = fmt.Errorf("%w: %s", class, cause)
	}
}

// The places where kustomize repeats its input, which may be a Secret: plug-in
// configuration, patches, literals, whole objects.
var (
	quotedConfig  = regexp.MustCompile("(?s)with config: `.*?`")
	quotedPatch   = regexp.MustCompile(`(?s)(SM or JSON6902|SM or JSON) patch from \[.*\]`)
	quotedLiteral = regexp.MustCompile(`(?s)literal sources? .*`)
	quotedObject  = regexp.MustCompile(`(?s)object \{.*\}`)
	quotedLines   = regexp.MustCompile(`(?s)\n.*`)
)

// withhold leaves out of an error what repeats the input.
func withhold(text string) string {
	for _, q := range []*regexp.Regexp{quotedConfig, quotedPatch, quotedLiteral, quotedObject, quotedLines} {
		text = q.ReplaceAllStringFunc(text, func(found string) string {
			word, _, _ := strings.Cut(found, " ")
			return word + " … (input withheld)"
		})
	}
	return text
}

// shorten takes the innermost cause, and the entry it is about, out of the
// text of a kustomize error, which repeats itself at every level.
func shorten(text string) (entry, cause string) {
	const from = " resources from '" // "accumulating" or "merging"
	i := strings.LastIndex(text, from)
	if i < 0 {
		return "", text
	}
	entry, cause, _ = strings.Cut(text[i+len(from):], "': ")
	if j := strings.Index(cause, "cycle detected"); j >= 0 {
		return entry, cause[j:]
	}
	cause, _, _ = strings.Cut(cause, "': must build at directory")
	return entry, cause
}

func classified(err error) bool {
	for _, class := range []error{ErrInvalid, ErrRemote, ErrUnsupported, ErrLimit, fs.ErrNotExist, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// content returns a file without charging it to the limits.
func (t *tree) content(name string) ([]byte, error) {
	if data, ok := t.over[name]; ok {
		return data, nil
	}
	return fs.ReadFile(t.fsys, name)
}

// fault looks for what makes a file unusable as YAML, as a kustomization or as
// a manifest, given what kustomize said of the build.
func (t *tree) fault(name, said string) (int, error) {
	data, err := t.content(name)
	if err != nil {
		return 0, nil //nolint:nilerr // this file was readable, so it is not the one at fault
	}
	ext := path.Ext(name)
	if isKustomization(path.Base(name)) {
		if err := new(types.Kustomization).Unmarshal(data); err != nil {
			return fieldLine(data, err), err
		}
	} else if ext != ".yaml" && ext != ".yml" && ext != ".json" {
		return 0, nil
	}
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return 0, nil
		case err != nil:
			return line(err), err
		}
		if isKustomization(path.Base(name)) || len(doc.Content) == 0 || isNull(doc.Content[0]) {
			continue
		}
		if err := manifest(doc.Content[0], strings.Contains(said, "missing metadata.name")); err != nil {
			return doc.Content[0].Line, err
		}
	}
}

func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// manifest says what a document lacks to be a Kubernetes object. Patches may
// be lists, and may lack a name, which is at fault only if kustomize said so.
func manifest(n *yaml.Node, named bool) error {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	fields := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		fields[n.Content[i].Value] = true
	}
	for _, field := range []string{"apiVersion", "kind"} {
		if !fields[field] {
			return fmt.Errorf("not a Kubernetes manifest: no %s; list the wanted files in a kustomization.yaml to leave this one out", field)
		}
	}
	var meta struct {
		Metadata struct {
			Name string `yaml:"name"`
		} `yaml:"metadata"`
		Items yaml.Node `yaml:"items"`
	}
	if err := n.Decode(&meta); err == nil && named && meta.Metadata.Name == "" && meta.Items.Kind == 0 {
		return errors.New("the object has no metadata.name")
	}
	return nil
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// fieldLine returns the line of the field an error calls unknown.
func fieldLine(data []byte, err error) int {
	m := unknownField.FindStringSubmatch(err.Error())
	if m == nil {
		return line(err)
	}
	for i, text := range bytes.Split(data, []byte("\n")) {
		if bytes.HasPrefix(bytes.TrimLeft(text, " -"), []byte(m[1]+":")) {
			return i + 1
		}
	}
	return 0
}

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// line returns the line a YAML error names, 0 if none.
func line(err error) int {
	m := lineNumber.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // the pattern has digits only
	return n
}
