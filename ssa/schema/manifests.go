package schema

import (
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/ssa"
)

// Manifests are objects, and where in which file each field of them is.
type Manifests struct {
	// Objects are in the order of the files and documents.
	Objects []*unstructured.Unstructured

	sources map[*unstructured.Unstructured]source
	byName  map[identity]source
}

// source is where an object was read.
type source struct {
	doc  *document // nil if two objects have the same identity
	path string    // of a member of a list
}

type identity struct {
	apiVersion string
	id         ssa.ObjectID
}

func identityOf(obj *unstructured.Unstructured) identity {
	return identity{obj.GetAPIVersion(), ssa.IDOf(obj)}
}

func (m *Manifests) add(obj *unstructured.Unstructured, d *document) {
	if m.sources == nil {
		m.sources, m.byName = map[*unstructured.Unstructured]source{}, map[identity]source{}
	}
	m.Objects = append(m.Objects, obj)
	m.sources[obj] = source{doc: d}
	for _, member := range members(obj) {
		id, from := identityOf(member.obj), source{doc: d, path: member.path}
		if _, ok := m.byName[id]; ok {
			from.doc = nil
		}
		m.byName[id] = from
	}
}

// Position returns the file and line of a field of one of the objects, or of a
// copy of one that still has its name: of the field, or of what should hold it.
// Path is that of [Violation]; "" is the object. Line is 0, and file may be "",
// if they are not known. A nil m knows nothing but the annotation
// config.kubernetes.io/origin.
func (m *Manifests) Position(obj *unstructured.Unstructured, path string) (file string, line int) {
	from := source{}
	if m != nil && obj != nil {
		var ok bool
		if from, ok = m.sources[obj]; !ok {
			from = m.byName[identityOf(obj)]
		}
	}
	if from.doc == nil {
		return origin(obj), 0
	}
	return from.doc.file, from.doc.find(strings.TrimPrefix(from.path+"."+path, "."))
}

// locate fills in file and line of a violation of top, or of a member of it.
func (m *Manifests) locate(v *Violation, top *unstructured.Unstructured, path string) {
	v.File, v.Line = m.Position(top, strings.Trim(path+"."+v.Path, "."))
}

// origin returns the file that the annotation of kustomize names.
func origin(obj *unstructured.Unstructured) string {
	if obj == nil {
		return ""
	}
	text := obj.GetAnnotations()["config.kubernetes.io/origin"]
	if text == "" || len(text) > 4096 {
		return ""
	}
	var o struct{ Path string }
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		return ""
	}
	return o.Path
}

// line returns where in the file a node is.
func (d *document) line(n *yamlv3.Node) int { return d.first + n.Line - 1 }

// find returns the line of a field, or of the deepest part of the path that is
// there.
func (d *document) find(path string) int {
	n, line := d.root, d.line(d.root)
	for path != "" {
		if n.Kind == yamlv3.AliasNode {
			n = n.Alias
		}
		var next, at *yamlv3.Node
		switch n.Kind {
		case yamlv3.MappingNode:
			at, next, path = step(n, path)
		case yamlv3.SequenceNode:
			index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
			i, err := strconv.Atoi(index)
			if !ok || err != nil || i < 0 || i >= len(n.Content) {
				return line
			}
			next, at, path = n.Content[i], n.Content[i], strings.TrimPrefix(rest, ".")
		case yamlv3.DocumentNode, yamlv3.ScalarNode, yamlv3.AliasNode:
		}
		if next == nil {
			return line
		}
		n, line = next, d.line(at)
	}
	return line
}

// step goes to the entry of a mapping that a path begins with: the longest key
// that fits, since keys may have dots.
func step(n *yamlv3.Node, path string) (key, value *yamlv3.Node, rest string) {
	path = strings.TrimPrefix(path, ".")
	var merged []*yamlv3.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Value == "<<" {
			merged = append(merged, n.Content[i+1])
		}
		if key != nil && len(k.Value) <= len(key.Value) {
			continue
		}
		after, ok := strings.CutPrefix(path, "["+k.Value+"]")
		if !ok {
			if after, ok = strings.CutPrefix(path, k.Value); !ok || after != "" && after[0] != '.' && after[0] != '[' {
				continue
			}
		}
		key, value, rest = k, n.Content[i+1], strings.TrimPrefix(after, ".")
	}
	if key != nil {
		return key, value, rest
	}
	for len(merged) > 0 {
		from := merged[0]
		merged = merged[1:]
		if from.Kind == yamlv3.AliasNode {
			from = from.Alias
		}
		if from.Kind == yamlv3.SequenceNode {
			merged = append(slices.Clone(from.Content), merged...)
			continue
		}
		if k, v, rest := step(from, path); k != nil {
			return k, v, rest
		}
	}
	return nil, nil, path
}
