package kustomize

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// maxNodes is how many YAML nodes a file may hold once its aliases are written
// out. The largest custom resource definitions have some tens of thousands.
const maxNodes = 2_000_000

var (
	anchor = regexp.MustCompile(`(?m)(^|[\s\[{,:-])&[^\s,\[\]{}]`)
	alias  = regexp.MustCompile(`(?m)(^|[\s\[{,:-])\*[^\s,\[\]{}*]`)
)

// expandable returns an error if writing out the aliases of a file would
// exhaust memory: kustomize does so without a bound. A file that is not YAML
// is left to whoever uses it.
func expandable(data []byte) error {
	if !anchor.Match(data) || !alias.Match(data) {
		return nil
	}
	sizes := map[*yaml.Node]int{}
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) || err != nil {
			return nil //nolint:nilerr // reported with its line when the file is used
		}
		if expanded(&doc, sizes) > maxNodes {
			return fmt.Errorf("%w: YAML aliases expand to more than %d nodes", ErrLimit, maxNodes)
		}
	}
}

// expanded counts the nodes below n, aliases written out, up to just above
// maxNodes. A node that contains itself counts as that many.
func expanded(n *yaml.Node, sizes map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, known := sizes[n]; known {
		return size
	}
	sizes[n] = maxNodes + 1 // while it is being counted
	size := 1
	for _, child := range n.Content {
		if size += expanded(child, sizes); size > maxNodes {
			return maxNodes + 1
		}
	}
	sizes[n] = size
	return size
}
