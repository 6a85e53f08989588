package update

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gitopskit/gitopskit/image"
)

// marker is the key of a marker, as it stands in a file.
const marker = `"$imagepolicy"`

// edit returns a file with its marked values changed. Without changes what it
// returns is the file.
func edit(name string, data []byte, policies map[string]image.Ref) ([]byte, []Change, []Skip) {
	if !bytes.Contains(data, []byte(marker)) {
		return data, nil, nil
	}
	e := &editor{name: name, text: newText(data), policies: policies, targets: map[*yaml.Node]string{}}
	docs, err := parse(data)
	if err != nil {
		return data, nil, []Skip{{File: name, Reason: ParseError, Detail: err.Error()}}
	}
	for _, doc := range docs {
		e.walk(doc, identify(doc))
	}
	slices.SortStableFunc(e.edits, func(a, b splice) int { return cmp.Compare(a.start, b.start) })
	slices.SortStableFunc(e.skipped, func(a, b Skip) int { return cmp.Compare(a.Line, b.Line) })
	if !e.found {
		e.skip(0, NoValue, "the marker is not in a comment that belongs to a value")
	}
	if len(e.edits) == 0 {
		return data, nil, e.skipped
	}
	edited, changes := e.apply()
	if err := e.verify(docs, edited); err != nil {
		return data, nil, append(e.skipped, Skip{File: name, Line: changes[0].Line, Reason: Unsafe, Detail: err.Error()})
	}
	return edited, changes, e.skipped
}

// parse reads all documents of a file.
func parse(data []byte) (docs []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, err
		}
		docs = append(docs, &doc)
	}
}

// identify names the object of a document, or of an item of a list.
func identify(n *yaml.Node) Object {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	meta := field(n, "metadata")
	return Object{
		APIVersion: scalar(field(n, "apiVersion")), Kind: scalar(field(n, "kind")),
		Name: scalar(field(meta, "name")), Namespace: scalar(field(meta, "namespace")),
	}
}

func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// splice replaces the bytes of one value.
type splice struct {
	start, end int
	text       string
	change     Change
}

// editor collects the edits of one file.
type editor struct {
	name     string
	text     text
	policies map[string]image.Ref

	found   bool                  // a marker in any comment
	targets map[*yaml.Node]string // new values
	edits   []splice
	skipped []Skip
}

func (e *editor) skip(line int, reason Reason, detail string) {
	e.skipped = append(e.skipped, Skip{File: e.name, Line: line, Reason: reason, Detail: detail})
}

// walk goes through the values of a document. Keys have no values to change,
// only comments.
func (e *editor) walk(n *yaml.Node, of Object) {
	switch n.Kind {
	case yaml.ScalarNode:
		e.value(n, of)
		return
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			e.orphan(key)
			if value.Kind == yaml.SequenceNode && key.Value == "items" && of.Kind == "List" {
				e.orphan(value)
				for _, item := range value.Content {
					e.walk(item, identify(item))
				}
				continue
			}
			e.walk(value, of)
		}
	default:
		for _, child := range n.Content {
			e.walk(child, of)
		}
	}
	e.orphan(n)
}

// orphan reports the markers at a node that is no value to change.
func (e *editor) orphan(n *yaml.Node) {
	for _, comment := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		if strings.Contains(comment, marker) {
			e.found = true
			e.skip(n.Line, NoValue, "a marker stands behind the value, or above a value that has the line to itself")
		}
	}
}

// value changes a value that has a marker.
func (e *editor) value(n *yaml.Node, of Object) {
	comment := cmp.Or(n.LineComment, n.HeadComment)
	if !strings.Contains(comment, marker) {
		e.orphan(n)
		return
	}
	e.found = true
	setter, value, reason, detail := e.resolve(comment)
	if reason == "" && value == n.Value {
		return
	}
	start, end := 0, 0
	switch {
	case reason != "":
	case n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str":
		reason, detail = Unsafe, "the value has the tag "+n.Tag+", which text may not have"
	default:
		start, end, reason, detail = e.text.extent(n)
	}
	if reason != "" {
		e.skip(n.Line, reason, detail)
		return
	}
	written := value
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		written = "'" + value + "'"
	case n.Style&yaml.DoubleQuotedStyle != 0 || !staysString(value):
		written = `"` + value + `"`
	}
	e.targets[n] = value
	e.edits = append(e.edits, splice{start, end, written, Change{File: e.name, Line: n.Line, Object: of, Setter: setter, Old: n.Value, New: value}})
}

// resolve reads a marker and returns the value that it stands for.
func (e *editor) resolve(comment string) (setter, value string, reason Reason, detail string) {
	var fields map[string]string
	if err := json.Unmarshal([]byte(strings.TrimLeft(comment, "#")), &fields); err != nil || fields["$imagepolicy"] == "" {
		return "", "", Malformed, `want nothing in the comment but {"$imagepolicy": "namespace:name"}`
	}
	setter = fields["$imagepolicy"]
	parts := strings.Split(setter, ":")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return "", "", Malformed, fmt.Sprintf("%q: want namespace:name, with :tag, :name or :digest behind it or not", setter)
	}
	ref, ok := e.policies[parts[0]+":"+parts[1]]
	part := ""
	if len(parts) == 3 {
		part = parts[2]
	}
	switch part {
	case "":
		value = ref.String()
	case "tag":
		value = ref.Tag
	case "name":
		value = ref.Name
	case "digest":
		value = ref.Digest
	default:
		return "", "", Malformed, fmt.Sprintf("%q: there is no part %q of an image: want tag, name or digest", setter, part)
	}
	switch {
	case !ok:
		return "", "", UnknownPolicy, fmt.Sprintf("there is no policy %s:%s", parts[0], parts[1])
	case value == "":
		return "", "", NoDigest, fmt.Sprintf("the digest of policy %s:%s is not known: let it reflect digests", parts[0], parts[1])
	}
	return setter, value, "", ""
}

// apply makes the new content.
func (e *editor) apply() ([]byte, []Change) {
	var out bytes.Buffer
	changes := make([]Change, len(e.edits))
	at := 0
	for i, s := range e.edits {
		out.Write(e.text.data[at:s.start])
		out.WriteString(s.text)
		at, changes[i] = s.end, s.change
	}
	out.Write(e.text.data[at:])
	return out.Bytes(), changes
}

// verify parses the edited file: nothing but the values may differ.
func (e *editor) verify(docs []*yaml.Node, edited []byte) error {
	again, err := parse(edited)
	if err != nil {
		return err
	}
	if len(docs) != len(again) {
		return errors.New("the number of documents would change")
	}
	for i := range docs {
		if err := same(docs[i], again[i], e.targets); err != nil {
			return err
		}
	}
	return nil
}

// same compares a node before and after.
func same(old, now *yaml.Node, values map[*yaml.Node]string) error {
	value, style, tag := old.Value, old.Style, old.Tag
	if v, ok := values[old]; ok {
		value, style, tag = v, now.Style, "!!str"
	}
	if old.Kind != now.Kind || value != now.Value || tag != now.Tag || style != now.Style || old.Anchor != now.Anchor ||
		old.HeadComment != now.HeadComment || old.LineComment != now.LineComment || old.FootComment != now.FootComment || len(old.Content) != len(now.Content) {
		return fmt.Errorf("line %d would change too", old.Line)
	}
	for i := range old.Content {
		if err := same(old.Content[i], now.Content[i], values); err != nil {
			return err
		}
	}
	return nil
}
