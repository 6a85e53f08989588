package ssa

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxDocument bounds one document of a stream; etcd refuses objects above
// 1.5 MiB, so this is generous.
const maxDocument = 16 << 20

// ReadObjects reads a stream of YAML or JSON documents into objects, in their
// order. Empty documents are left out; lists stay lists, [Client.Apply]
// expands them. The error matches [ErrInvalid] and names the document,
// counted from one; with it come the objects before. One document may have at
// most 16 MiB.
func ReadObjects(r io.Reader) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	docs := utilyaml.NewYAMLReader(bufio.NewReader(r))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("ssa: document %d: %w", n, err)
		}
		if len(doc) > maxDocument {
			return out, fmt.Errorf("ssa: document %d: %w: %d bytes, allowed are %d", n, ErrInvalid, len(doc), maxDocument)
		}
		obj, err := readObject(doc)
		if err != nil {
			return out, fmt.Errorf("ssa: document %d: %w: %w", n, ErrInvalid, err)
		}
		if obj != nil {
			out = append(out, obj)
		}
	}
}

// readObject reads one document, nil if it is empty.
func readObject(doc []byte) (*unstructured.Unstructured, error) {
	data, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(data, []byte("null")) {
		return nil, nil //nolint:nilnil // an empty document is neither an object nor an error
	}
	content := map[string]any{}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, errors.New("not a mapping with apiVersion and kind") // err may repeat the document, which may be a Secret
	}
	obj := &unstructured.Unstructured{Object: content}
	if obj.GetKind() == "" {
		return nil, errors.New("no kind")
	}
	return obj, nil
}
