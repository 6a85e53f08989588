package kustomize

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// references are the parts of a kustomization file that name other files, and
// the parts that an offline build refuses. Unknown fields are left to
// kustomize, which reports them.
type references struct {
	Resources             []string          `yaml:"resources"`
	Bases                 []string          `yaml:"bases"`
	Components            []string          `yaml:"components"`
	CRDs                  []string          `yaml:"crds"`
	Configurations        []string          `yaml:"configurations"`
	PatchesStrategicMerge []string          `yaml:"patchesStrategicMerge"`
	Patches               []pathField       `yaml:"patches"`
	PatchesJSON6902       []pathField       `yaml:"patchesJson6902"`
	Replacements          []pathField       `yaml:"replacements"`
	ConfigMapGenerator    []generatorFields `yaml:"configMapGenerator"`
	SecretGenerator       []generatorFields `yaml:"secretGenerator"`
	OpenAPI               map[string]string `yaml:"openapi"`
	Generators            []string          `yaml:"generators"`
	Transformers          []string          `yaml:"transformers"`
	Validators            []string          `yaml:"validators"`
	HelmCharts            []map[string]any  `yaml:"helmCharts"`
	HelmInflation         []map[string]any  `yaml:"helmChartInflationGenerator"`
}

type pathField struct {
	Path string `yaml:"path"`
}

type generatorFields struct {
	Files []string `yaml:"files"`
	Envs  []string `yaml:"envs"`
	Env   string   `yaml:"env"`
}

// inspect reads the references of a kustomization file.
func inspect(data []byte) (*references, error) {
	var refs references
	if err := yaml.Unmarshal(data, &refs); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &refs, nil
}

// refuse returns an error for the first reference of the kustomization in dir
// that would need the network or a program.
func (t *tree) refuse(dir string, refs *references) error {
	if len(refs.HelmCharts)+len(refs.HelmInflation) > 0 {
		return fmt.Errorf("%w: helmCharts: render the chart on its own and refer to the result", ErrUnsupported)
	}
	for _, ref := range refs.paths() {
		if remote(ref) {
			return fmt.Errorf("%w %q: copy it into the tree, builds do not use the network", ErrRemote, redact(ref))
		}
	}
	for _, plugins := range [][]string{refs.Generators, refs.Transformers, refs.Validators} {
		for _, p := range plugins {
			if err := t.refusePlugin(dir, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// paths lists every reference except those of plug-ins.
func (r *references) paths() []string {
	var out []string
	for _, list := range [][]string{r.Resources, r.Bases, r.Components, r.CRDs, r.Configurations} {
		out = append(out, list...)
	}
	for _, p := range r.PatchesStrategicMerge {
		if !strings.Contains(p, "\n") { // else the patch itself
			out = append(out, p)
		}
	}
	for _, list := range [][]pathField{r.Patches, r.PatchesJSON6902, r.Replacements} {
		for _, p := range list {
			out = append(out, p.Path)
		}
	}
	for _, g := range append(r.ConfigMapGenerator, r.SecretGenerator...) {
		out = append(append(out, g.Env), g.Envs...)
		for _, f := range g.Files {
			_, file, renamed := strings.Cut(f, "=")
			if !renamed {
				file = f
			}
			out = append(out, file)
		}
	}
	return append(out, r.OpenAPI["path"])
}

// refusePlugin checks one entry of generators, transformers or validators,
// which is the configuration itself or a file of it. A builtin plug-in may
// load further files, by URL too, so its configuration is checked as text. A
// directory is refused: what it builds can only be known by building it.
func (t *tree) refusePlugin(dir, entry string) error {
	config := entry
	if !strings.Contains(entry, "\n") {
		name := path.Join(dir, entry)
		if remote(entry) {
			return fmt.Errorf("%w %q: copy it into the tree, builds do not use the network", ErrRemote, redact(entry))
		}
		if t.IsDir("/" + name) {
			return fmt.Errorf("%w: plug-in configuration in a directory, %q: list its files", ErrUnsupported, name)
		}
		data, err := t.read(name)
		if err != nil {
			return err
		}
		config = string(data)
	}
	if url := pluginURL.FindString(config); url != "" {
		return fmt.Errorf("%w in plug-in configuration %q: builds do not use the network", ErrRemote, redact(strings.Trim(url, " \t'\":-=[{,")))
	}
	return nil
}

// pluginURL finds a value that begins as a URL.
var pluginURL = regexp.MustCompile(`(?i)(^|[\s'":=\[{,-])https?:[^\s'"]*`)

// remoteRef matches what kustomize would clone or download: a URL of a scheme
// it knows, an scp-like address, a GitHub short form.
var remoteRef = regexp.MustCompile(`(?i)^(git::|https?:|ssh://|file://|github\.com[/:]|[a-z][a-z0-9-]*@)`)

func remote(ref string) bool { return remoteRef.MatchString(strings.TrimSpace(ref)) }

// redact removes the user part of a URL, which may hold a password or token.
func redact(ref string) string {
	return userinfo.ReplaceAllString(ref, "//***@")
}

var userinfo = regexp.MustCompile(`//[^/@\s]*@`)
