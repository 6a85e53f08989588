package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// resource is what discovery says about one resource, in the form that package
// ssa/schema reads.
type resource struct {
	Kind         string        `json:"kind"`
	Resource     string        `json:"resource"`
	Singular     string        `json:"singular,omitempty"`
	ShortNames   []string      `json:"shortNames,omitempty"`
	Categories   []string      `json:"categories,omitempty"`
	Namespaced   bool          `json:"namespaced,omitempty"`
	Verbs        []string      `json:"verbs,omitempty"`
	Subresources []subresource `json:"subresources,omitempty"`
	// Order is the preference of the version in its group, 0 the most preferred.
	Order int `json:"order,omitempty"`
}

type subresource struct {
	Name       string   `json:"name"`
	APIVersion string   `json:"apiVersion,omitempty"` // of Kind, where it is another group version
	Kind       string   `json:"kind,omitempty"`
	Verbs      []string `json:"verbs,omitempty"`
}

type kind struct{ Group, Version, Kind string }

// resources reads the aggregated discovery document, and the core group beside it.
func resources(name string) ([]fact, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Versions []struct {
				Version   string
				Resources []discovered
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	var out []fact
	for _, group := range list.Items {
		for order, version := range group.Versions {
			for _, d := range version.Resources {
				f, err := d.fact(group.Metadata.Name, version.Version, order)
				if err != nil {
					return nil, err
				}
				out = append(out, f)
			}
		}
	}
	core, err := coreResources(filepath.Join(filepath.Dir(name), "api__v1.json"))
	return append(out, core...), err
}

type discovered struct {
	Resource, SingularResource, Scope string
	ResponseKind                      kind
	ShortNames, Categories, Verbs     []string
	Subresources                      []struct {
		Subresource  string
		ResponseKind kind
		Verbs        []string
	}
}

func (d discovered) fact(group, version string, order int) (fact, error) {
	r := resource{
		Kind: d.ResponseKind.Kind, Resource: d.Resource, Singular: d.SingularResource,
		ShortNames: d.ShortNames, Categories: d.Categories,
		Namespaced: d.Scope == "Namespaced", Verbs: d.Verbs, Order: order,
	}
	for _, s := range d.Subresources {
		sub := subresource{Name: s.Subresource, Kind: s.ResponseKind.Kind, Verbs: s.Verbs}
		if s.ResponseKind.Version != "" && (s.ResponseKind.Group != group || s.ResponseKind.Version != version) {
			sub.APIVersion = strings.TrimPrefix(s.ResponseKind.Group+"/"+s.ResponseKind.Version, "/")
		}
		r.Subresources = append(r.Subresources, sub)
	}
	body, err := json.Marshal(r)
	return fact{"resource", strings.TrimPrefix(group+"/"+version, "/"), string(body)}, err
}

// coreResources reads the resources of v1, which come in the older form.
func coreResources(name string) ([]fact, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list struct {
		Resources []struct {
			Name, SingularName, Group, Version, Kind string
			Namespaced                               bool
			ShortNames, Categories, Verbs            []string
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	found := map[string]*discovered{}
	var order []string
	for _, r := range list.Resources {
		name, sub, isSub := strings.Cut(r.Name, "/")
		d := found[name]
		if d == nil {
			d = &discovered{Resource: name, Scope: "Cluster"}
			found[name] = d
			order = append(order, name)
		}
		if r.Namespaced {
			d.Scope = "Namespaced"
		}
		as := kind{Group: r.Group, Version: r.Version, Kind: r.Kind}
		if !isSub {
			d.SingularResource, d.ResponseKind, d.ShortNames, d.Categories, d.Verbs = r.SingularName, as, r.ShortNames, r.Categories, r.Verbs
			continue
		}
		d.Subresources = append(d.Subresources, struct {
			Subresource  string
			ResponseKind kind
			Verbs        []string
		}{sub, as, r.Verbs})
	}
	var out []fact
	for _, name := range order {
		f, err := found[name].fact("", "v1", 0)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

var (
	removed     = regexp.MustCompile(`func \(in \*(\w+)\) APILifecycleRemoved\(\) \(major, minor int\) \{\s*return (\d+), (\d+)`)
	replacement = regexp.MustCompile(`func \(in \*(\w+)\) APILifecycleReplacement\(\) schema.GroupVersionKind \{\s*return schema.GroupVersionKind\{Group: "([^"]*)", Version: "([^"]*)", Kind: "([^"]*)"`)
	groupName   = regexp.MustCompile(`GroupName\s*=\s*"([^"]*)"`)
)

// removals reads from the published Go types when old versions were removed,
// and what to use instead.
func removals(dir string) ([]fact, error) {
	var out []fact
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != "zz_generated.prerelease-lifecycle.go" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		register, err := os.ReadFile(filepath.Join(filepath.Dir(name), "register.go"))
		if err != nil {
			return err
		}
		group := groupName.FindSubmatch(register)
		if group == nil {
			return fmt.Errorf("%s: no group name", name)
		}
		apiVersion := strings.TrimPrefix(string(group[1])+"/"+filepath.Base(filepath.Dir(name)), "/")
		instead := map[string]string{}
		for _, m := range replacement.FindAllSubmatch(data, -1) {
			instead[string(m[1])] = strings.TrimPrefix(fmt.Sprintf("%s/%s %s", m[2], m[3], m[4]), "/")
		}
		for _, m := range removed.FindAllSubmatch(data, -1) {
			kind := string(m[1])
			if strings.HasSuffix(kind, "List") {
				continue
			}
			body, err := json.Marshal(map[string]string{"kind": kind, "removed": fmt.Sprintf("%s.%s", m[2], m[3]), "instead": instead[kind]})
			if err != nil {
				return err
			}
			out = append(out, fact{"removal", apiVersion, string(body)})
		}
		return nil
	})
	return out, err
}
