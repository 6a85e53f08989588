// Command schemas writes the schemas of Kubernetes that package ssa/schema
// carries, from what each release says about itself: the OpenAPI documents and
// the discovery document in the module k8s.io/kubernetes, and the lifecycle of
// old versions in k8s.io/api.
//
//	go -C tools run ./schemas            write them
//	go -C tools run ./schemas -check     fail if what is there differs
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const target = "../ssa/schema/builtin.txt.gz"

// releases are the Kubernetes releases to carry, oldest first, with the sums
// of their modules. A new one goes at the end, an old one leaves at the front.
var releases = []module{
	{"k8s.io/kubernetes", "v1.33.13", "h1:bmH31xUdSzeA5vk0wZAK9MZp11mdLuzUSeKk0qN3hPQ="},
	{"k8s.io/kubernetes", "v1.34.4", "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk="},
	{"k8s.io/kubernetes", "v1.35.4", "h1:o/8dBC/pHVpYoGV4OAIytAlNPZbdYVTXJHoYvXC4qzM="},
	{"k8s.io/kubernetes", "v1.36.3", "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o="},
	{"k8s.io/kubernetes", "v1.37.2", "h1:A2VDEiObzkYqFTKhSsn0ZEb0RlLEXpHWj93gi2HqEwE="},
}

// api is where the lifecycle of old versions is read.
var api = module{"k8s.io/api", "v0.37.2", ""}

type module struct{ path, version, sum string }

func main() {
	check := flag.Bool("check", false, "write nothing, fail if the file differs")
	flag.Parse()
	if err := run(context.Background(), *check); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	text, err := generate(ctx)
	if err != nil {
		return err
	}
	old, err := read(target)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	switch {
	case bytes.Equal(old, text):
		return nil
	case check:
		return fmt.Errorf("%s is not what the releases say: run go -C tools run ./schemas", strings.TrimPrefix(target, "../"))
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes of text, %d packed\n", target, len(text), packed.Len())
	return os.WriteFile(target, packed.Bytes(), 0o644)
}

// read unpacks what is there; the packed form may differ with the version of Go.
func read(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// generate returns the text form: a line with the releases, then one line a
// fact, "what releases name JSON", where releases is a hexadecimal mask.
func generate(ctx context.Context) ([]byte, error) {
	facts := map[fact]uint{}
	var versions []string
	for i, release := range releases {
		dir, err := release.download(ctx)
		if err != nil {
			return nil, err
		}
		versions = append(versions, strings.TrimPrefix(release.version, "v"))
		found, err := definitions(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", release.version, err)
		}
		resources, err := resources(filepath.Join(dir, "api/discovery/aggregated_v2.json"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", release.version, err)
		}
		for _, f := range append(found, resources...) {
			facts[f] |= 1 << i
		}
	}
	dir, err := api.download(ctx)
	if err != nil {
		return nil, err
	}
	gone, err := removals(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range gone {
		facts[f] = 1<<len(releases) - 1
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "releases %s\n", strings.Join(versions, " "))
	lines := make([]fact, 0, len(facts))
	for f := range facts {
		lines = append(lines, f)
	}
	slices.SortFunc(lines, func(a, b fact) int {
		return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.name, b.name), cmp.Compare(facts[a], facts[b]), cmp.Compare(a.body, b.body))
	})
	for _, f := range lines {
		fmt.Fprintf(&out, "%s %x %s %s\n", f.what, facts[f], f.name, f.body)
	}
	return out.Bytes(), nil
}

// fact is one line: a definition, a resource or a removed version.
type fact struct{ what, name, body string }

// download returns the directory of the module.
func (m module) download(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.path+"@"+m.version)
	cmd.Dir = os.TempDir() // outside of any module
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	var answer struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &answer); jsonErr != nil {
		return "", fmt.Errorf("go mod download %s@%s: %w", m.path, m.version, errors.Join(err, jsonErr))
	}
	if answer.Error != "" {
		return "", errors.New(answer.Error)
	}
	if m.sum != "" && answer.Sum != m.sum {
		return "", fmt.Errorf("%s@%s has the sum %s, not %s", m.path, m.version, answer.Sum, m.sum)
	}
	return answer.Dir, err
}

// meta begins the names of the definitions that all group versions share.
const meta = "io.k8s.apimachinery.pkg.apis.meta.v1."

// definitions reads the schemas of all OpenAPI documents, without descriptions.
func definitions(dir string) ([]fact, error) {
	names, err := filepath.Glob(filepath.Join(dir, "api/openapi-spec/v3/api*_openapi.json"))
	if err != nil {
		return nil, err
	}
	allowed, err := enums(dir)
	if err != nil {
		return nil, err
	}
	bodies := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var doc struct {
			Components struct{ Schemas map[string]any }
		}
		if err := decode(data, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for def, schema := range doc.Components.Schemas {
			if m, ok := schema.(map[string]any); ok && strings.HasPrefix(def, meta) {
				delete(m, "x-kubernetes-group-version-kind") // as many as the document has group versions
			}
			merge(schema, allowed[def])
			body, err := json.Marshal(stripped(schema))
			if err != nil {
				return nil, err
			}
			if old, ok := bodies[def]; ok && old != string(body) {
				return nil, fmt.Errorf("%s: %s differs from another document:\n%s\n%s", name, def, old, body)
			}
			bodies[def] = string(body)
		}
	}
	var out []fact
	for name, body := range bodies {
		out = append(out, fact{"definition", name, body})
	}
	return out, nil
}

func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}

// stripped removes the descriptions, which are texts; a property of that name
// is a mapping.
func stripped(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["description"].(string); ok {
			delete(v, "description")
		}
		for k := range v {
			v[k] = stripped(v[k])
		}
	case []any:
		for i := range v {
			v[i] = stripped(v[i])
		}
	}
	return v
}
