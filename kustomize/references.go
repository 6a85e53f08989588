package kustomize

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// inspect decodes a kustomization file with kustomize's own decoder, so that
// both see the same fields: it ignores the case of their names.
func inspect(data []byte) (*types.Kustomization, error) {
	k := &types.Kustomization{}
	if err := k.Unmarshal(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return k, nil
}

// refuse returns an error for the first reference of the kustomization in dir
// that would need the network or a program.
func (t *tree) refuse(dir string, k *types.Kustomization) error {
	if len(k.HelmCharts)+len(k.HelmChartInflationGenerator) > 0 || k.HelmGlobals != nil {
		return fmt.Errorf("%w: helmCharts: render the chart on its own and refer to the result", ErrUnsupported)
	}
	refs, err := references(k)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if remote(ref) {
			return refusal(ref)
		}
	}
	for _, entry := range slices.Concat(k.Generators, k.Transformers, k.Validators) {
		if err := t.refusePlugin(dir, entry); err != nil {
			return err
		}
	}
	return nil
}

func refusal(ref string) error {
	return fmt.Errorf("%w %q: copy it into the tree, builds do not use the network", ErrRemote, redact(ref))
}

// formerReferences are fields of references that kustomize still reads, though
// it would rather not.
type formerReferences struct {
	Bases                 []string
	PatchesStrategicMerge []string
	PatchesJSON6902       []struct{ Path string }
}

// references lists every reference except those of plug-ins.
func references(k *types.Kustomization) ([]string, error) {
	var former formerReferences
	data, err := json.Marshal(k)
	if err == nil {
		err = json.Unmarshal(data, &former)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	out := slices.Concat(k.Resources, former.Bases, k.Components, k.Crds, k.Configurations, former.PatchesStrategicMerge)
	for _, p := range former.PatchesJSON6902 {
		out = append(out, p.Path)
	}
	for _, p := range k.Patches {
		out = append(out, p.Path)
	}
	for _, r := range k.Replacements {
		out = append(out, r.Path)
	}
	var args []types.GeneratorArgs
	for _, g := range k.ConfigMapGenerator {
		args = append(args, g.GeneratorArgs)
	}
	for _, g := range k.SecretGenerator {
		args = append(args, g.GeneratorArgs)
	}
	for _, g := range args {
		out = append(append(out, g.EnvSource), g.EnvSources...)
		for _, f := range g.FileSources {
			_, file, _ := strings.Cut(f, "=")
			out = append(out, f, file)
		}
	}
	return append(out, k.OpenAPI["path"]), nil
}

// refusePlugin checks one entry of generators, transformers or validators,
// which is the configuration itself or a file of it. A builtin plug-in may
// load further files, by URL too, so no value of its configuration may be one.
// A directory is refused: what it builds can only be known by building it.
func (t *tree) refusePlugin(dir, entry string) error {
	if remote(entry) {
		return refusal(entry)
	}
	if err := refuseURLs([]byte(entry)); err != nil {
		return err
	}
	name := path.Join(dir, entry)
	switch isDir, exists := t.stat("/" + name); {
	case isDir:
		return fmt.Errorf("%w: plug-in configuration in a directory, %q: list its files", ErrUnsupported, name)
	case !exists:
		return nil // it is the configuration itself, or kustomize says that it is missing
	}
	data, err := t.read(name)
	if err != nil {
		return err
	}
	return refuseURLs(data)
}

// refuseURLs returns an error if a scalar of a YAML stream begins as a URL
// that kustomize would load. What does not parse is left to kustomize.
func refuseURLs(data []byte) error {
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) || err != nil {
			return nil //nolint:nilerr // kustomize cannot read it either and says so
		}
		if err := refuseNode(&doc); err != nil {
			return err
		}
	}
}

// refuseNode looks at the values as kustomize will: unescaped and decoded. An
// alias stands for a node that is looked at where it is defined.
func refuseNode(n *yaml.Node) error {
	value := n.Value
	if n.ShortTag() == "!!binary" {
		if decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), "")); err == nil {
			value = string(decoded)
		}
	}
	_, file, _ := strings.Cut(value, "=")
	for _, v := range []string{value, file} {
		if loadable.MatchString(v) {
			return refusal(v)
		}
	}
	for _, child := range n.Content {
		if err := refuseNode(child); err != nil {
			return err
		}
	}
	return nil
}

var (
	// loadable is what kustomize downloads as a file.
	loadable = regexp.MustCompile(`(?i)^\s*https?:`)
	// remoteRef is what it clones or downloads where a directory may stand: a
	// URL of a scheme it knows, an scp-like address, a GitHub short form.
	remoteRef = regexp.MustCompile(`(?i)^\s*(git::|https?:|ssh://|file://|github\.com[/:]|[a-z][a-z0-9-]*@)`)
	userinfo  = regexp.MustCompile(`//[^/@\s]*@`)
)

func remote(ref string) bool { return remoteRef.MatchString(ref) }

// redact removes the user part of a URL, which may hold a password or token.
func redact(ref string) string { return userinfo.ReplaceAllString(ref, "//***@") }
