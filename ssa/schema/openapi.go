package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utilversion "k8s.io/apimachinery/pkg/version"
)

// FromOpenAPI returns the kinds of the OpenAPI v3 documents of an API server,
// by group version: what it answers to /openapi/v3/apis/apps/v1 and the like,
// as JSON. Documents are self-contained, so a few are enough. Such documents
// have no short names and categories of kinds, and of custom resources they
// have the types but not the rules. Watch is among the verbs where list is. The
// error matches [ErrInvalid] and names the document.
func FromOpenAPI(docs map[schema.GroupVersion][]byte) (*Set, error) {
	out := &Set{kinds: map[schema.GroupVersionKind]*entry{}}
	types := newLibrary()
	versions := map[string][]string{}
	for _, gv := range slices.SortedFunc(maps.Keys(docs), compareGV) {
		var doc struct {
			Components struct{ Schemas map[string]json.RawMessage }
			Paths      map[string]map[string]json.RawMessage
		}
		if err := json.Unmarshal(docs[gv], &doc); err != nil {
			return nil, &Error{Op: "openapi", Subject: gv.String(), Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
		}
		for name, body := range doc.Components.Schemas {
			types.add(name, body)
		}
		found, err := resources(gv, doc.Paths)
		if err != nil {
			return nil, &Error{Op: "openapi", Subject: gv.String(), Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
		}
		for _, kind := range found {
			out.kinds[kind.GroupVersionKind] = &entry{Kind: kind, types: types}
		}
		versions[gv.Group] = append(versions[gv.Group], gv.Version)
	}
	for _, e := range out.kinds {
		if _, ok := types.kinds[e.GroupVersionKind]; !ok {
			return nil, &Error{Op: "openapi", Subject: gvkString(e.GroupVersionKind), Err: fmt.Errorf("%w: no definition of the kind", ErrInvalid)}
		}
		order := versions[e.Group]
		slices.SortFunc(order, func(a, b string) int { return -utilversion.CompareKubeAwareVersionStrings(a, b) })
		e.Priority = slices.Index(order, e.Version)
	}
	return out, nil
}

func compareGV(a, b schema.GroupVersion) int {
	return compareGVK(a.WithKind(""), b.WithKind(""))
}

// request is what a document says about one request.
type request struct {
	Action string                  `json:"x-kubernetes-action"`
	Kind   schema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
}

// resources reads the kinds of a group version from the paths of its requests.
func resources(gv schema.GroupVersion, paths map[string]map[string]json.RawMessage) ([]Kind, error) {
	prefix := "/apis/" + gv.String() + "/"
	if gv.Group == "" {
		prefix = "/api/" + gv.Version + "/"
	}
	found := map[string]*Kind{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		rest, ok := strings.CutPrefix(path, prefix)
		if !ok || strings.HasPrefix(rest, "watch/") {
			continue
		}
		inner := strings.TrimPrefix(rest, "namespaces/{namespace}/")
		parts := strings.Split(inner, "/")
		k := found[parts[0]]
		if k == nil {
			k = &Kind{Resource: parts[0]}
			found[parts[0]] = k
		}
		k.Namespaced = k.Namespaced || inner != rest
		kind, verbs, err := requests(paths[path])
		if err != nil {
			return nil, err
		}
		switch {
		case len(verbs) == 0 || len(parts) > 3: // a proxy
		case len(parts) == 3:
			k.Subresources = append(k.Subresources, Subresource{Name: parts[2], Kind: kind, Verbs: verbs})
		default:
			k.GroupVersionKind, k.Singular = kind, strings.ToLower(kind.Kind)
			if slices.Contains(verbs, "list") {
				verbs = append(verbs, "watch")
			}
			k.Verbs = append(k.Verbs, verbs...)
		}
	}
	var out []Kind
	for _, name := range slices.Sorted(maps.Keys(found)) {
		k := *found[name]
		if k.Kind == "" { // a sub-resource alone, or no resource at all
			continue
		}
		slices.Sort(k.Verbs)
		k.Verbs = slices.Compact(k.Verbs)
		k.Optional = strings.Contains(k.Version, "alpha") || strings.Contains(k.Version, "beta")
		out = append(out, k)
	}
	return out, nil
}

// requests returns the kind that is sent to a path, and the verbs, sorted.
func requests(methods map[string]json.RawMessage) (kind schema.GroupVersionKind, verbs []string, err error) {
	names := map[string]string{"get": "get", "post": "create", "put": "update", "patch": "patch", "delete": "delete"}
	for method, verb := range names {
		body, ok := methods[method]
		if !ok {
			continue
		}
		var op request
		if err := json.Unmarshal(body, &op); err != nil {
			return kind, nil, err
		}
		switch op.Action {
		case "list", "deletecollection":
			verb = op.Action
		}
		if op.Kind.Kind != "" {
			kind = op.Kind
		}
		verbs = append(verbs, verb)
	}
	slices.Sort(verbs)
	return kind, verbs, nil
}
