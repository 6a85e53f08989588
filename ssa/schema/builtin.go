package schema

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the schemas
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// packed holds one line a fact: "what releases name JSON", where releases is a
// mask over those of the first line. See tools/schemas.
//
//go:embed builtin.txt.gz
var packed []byte

// releases are the Kubernetes releases of the embedded schemas, oldest first.
// A test compares it with what is embedded.
func releases() []string { return []string{"1.33.13", "1.34.4", "1.35.4", "1.36.3", "1.37.2"} }

// Versions returns the Kubernetes minors that [Builtin] knows, newest first.
func Versions() []string {
	var out []string
	for _, r := range releases() {
		out = append(out, minor(r))
	}
	slices.Reverse(out)
	return out
}

// Builtin returns the kinds of a Kubernetes version, with the schemas that its
// API server publishes: "1.36", "v1.36", "1.36.3"; all patches of a minor have
// the same. "" is the newest. The error matches [ErrUnknownVersion].
//
// A call unpacks the schemas, which takes some milliseconds and some hundred
// kilobytes; keep the set.
func Builtin(version string) (*Set, error) {
	known := releases()
	if version == "" {
		version = known[len(known)-1]
	}
	n := slices.IndexFunc(known, func(r string) bool { return minor(r) == minor(strings.TrimPrefix(version, "v")) })
	if n < 0 {
		return nil, &Error{Op: "builtin", Subject: strconv.Quote(version), Err: fmt.Errorf("%w: known are %s", ErrUnknownVersion, strings.Join(Versions(), ", "))}
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, &Error{Op: "builtin", Subject: version, Err: err}
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, &Error{Op: "builtin", Subject: version, Err: err}
	}
	set := &Set{version: known[n], kinds: map[schema.GroupVersionKind]*entry{}, removals: map[schema.GroupVersionKind]removal{}}
	types := newLibrary()
	for line := range bytes.Lines(text) {
		if err := set.fact(types, n, line); err != nil {
			return nil, &Error{Op: "builtin", Subject: version, Err: err}
		}
	}
	return set, nil
}

// minor returns "1.36" of "1.36.3".
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}

// fact adds one line of the embedded schemas if it is about release n.
func (s *Set) fact(types *library, n int, line []byte) error {
	what, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	mask, rest, _ := bytes.Cut(rest, []byte(" "))
	name, body, ok := bytes.Cut(rest, []byte(" "))
	in, err := strconv.ParseUint(string(mask), 16, 64)
	if !ok || err != nil || in&(1<<n) == 0 {
		return nil //nolint:nilerr // the first line, which is no fact, or one about other releases
	}
	switch string(what) {
	case "definition":
		types.add(string(name), bytes.Clone(body)) // not to keep the text of other releases
		return nil
	case "resource":
		return s.resource(types, string(name), body)
	case "removal":
		return s.removal(string(name), body)
	}
	return fmt.Errorf("%w: a line begins with %q", ErrInvalid, what)
}

func (s *Set) resource(types *library, apiVersion string, body []byte) error {
	var r struct {
		Kind, Resource, Singular      string
		ShortNames, Categories, Verbs []string
		Namespaced                    bool
		Order                         int
		Subresources                  []struct {
			Name, APIVersion, Kind string
			Verbs                  []string
		}
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return err
	}
	kind := Kind{
		GroupVersionKind: gv.WithKind(r.Kind), Resource: r.Resource, Singular: r.Singular,
		ShortNames: r.ShortNames, Categories: r.Categories, Namespaced: r.Namespaced, Verbs: r.Verbs, Priority: r.Order,
		Optional: strings.Contains(gv.Version, "alpha") || strings.Contains(gv.Version, "beta"),
	}
	for _, sub := range r.Subresources {
		of := gv
		if sub.APIVersion != "" {
			if of, err = schema.ParseGroupVersion(sub.APIVersion); err != nil {
				return err
			}
		}
		name := sub.Kind
		if name == "" {
			name = r.Kind
		}
		kind.Subresources = append(kind.Subresources, Subresource{Name: sub.Name, Kind: of.WithKind(name), Verbs: sub.Verbs})
	}
	s.kinds[kind.GroupVersionKind] = &entry{Kind: kind, types: types}
	return nil
}

func (s *Set) removal(apiVersion string, body []byte) error {
	var r struct{ Kind, Removed, Instead string }
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return err
	}
	s.removals[gv.WithKind(r.Kind)] = removal{Removed: r.Removed, Instead: r.Instead}
	return nil
}
