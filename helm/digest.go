package helm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	goyaml "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// DigestValues returns the digest that Flux has for composed values in
// status.lastAttemptedConfigDigest and in the configDigest of its history: that
// of YAML with sorted keys, or of nothing if there are no values. The
// algorithm is that of Flux, which is digest.SHA256 unless its users say so.
func DigestValues(algorithm digest.Algorithm, values map[string]any) (digest.Digest, error) {
	if !algorithm.Available() {
		return "", fmt.Errorf("helm: digest of values: %w: the algorithm %q is not linked", ErrValues, algorithm)
	}
	digester := algorithm.Digester()
	if len(values) == 0 {
		return digester.Digest(), nil
	}
	sorted := yaml.JSONObjectToYAMLObject(values)
	sortKeys(sorted)
	if err := goyaml.NewEncoder(digester.Hash()).Encode(sorted); err != nil {
		return "", fmt.Errorf("helm: digest of values: %w: they are not JSON", ErrValues)
	}
	return digester.Digest(), nil
}

func sortKeys(v any) {
	switch v := v.(type) {
	case goyaml.MapSlice:
		slices.SortFunc(v, func(a, b goyaml.MapItem) int { return strings.Compare(keyText(a), keyText(b)) })
		for _, item := range v {
			sortKeys(item.Value)
		}
	case []any:
		for _, item := range v {
			sortKeys(item)
		}
	}
}

// keyText returns the key, which is a string in all that came from JSON.
func keyText(item goyaml.MapItem) string {
	text, _ := item.Key.(string) // the type says any, the content comes from map[string]any
	return text
}
